"""``attnbench inspect``: write a page about attention in one case, and the errors of implementations in it."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations

from attnbench import api
from attnbench.cli.options import Force, Selection
from attnbench.untrusted.printable import printable


def inspect(
    tensors: Path | None = None,
    /,
    *,
    selection: Selection = Selection(),
    device: str = "cpu",
    batch_index: int = 0,
    out: Path | None = None,
    force: Force = False,
) -> int:
    """Look into one case: mask, attention weights and entropy per head, and where implementations are off.

    Prints the page's path. The axes make one case; it has 64 tokens and two heads where they name neither, and is
    causal where there are none. Without -i no implementation is compared with the reference. Exit code 1 when an
    implementation disagrees with the oracle.

    ```
    attnbench inspect
    attnbench inspect -a mask=causal --plugin my_kernel.py -i mine
    ```

    Args:
        tensors: .npz, .safetensors or .pt with q, k and v, which settle sizes and dtype; default: values that the case
            describes.
        device: cpu or cuda.
        batch_index: which batch element is shown.
        out: folder of the page; default reports/runs/inspect-CASE.
    """
    inspection = api.inspect(
        tensors, **vars(selection), device=device, batch_index=batch_index, out=out, force=force
    )  # fmt: skip
    for one in inspection.view.facts["implementations"]:
        if one["status"] != "ok":
            cause = f"    a guess at the cause: {one['cause']}\n" if one.get("cause") else ""
            said = f"{one['status']}: {one['implementation']}:\n{cause}    {one['reason']}\n    {one['repro']}\n"
            sys.stderr.write(printable(said))
    sys.stdout.write(f"{inspection.path}\n")
    return 0 if inspection.ok else 1
