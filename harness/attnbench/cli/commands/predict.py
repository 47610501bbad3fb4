"""``attnbench predict``: predict calls on more ranks than were measured, or over other links."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from attnbench import api
from attnbench.cli.options import Format, Json, Plugins, RunPath  # noqa: TC001 - cyclopts reads them
from attnbench.cli.output import latest_run, print_view

Sizes = Annotated[list[str] | None, Parameter(negative="")]


def predict(
    run: RunPath | None = None,
    /,
    *,
    ranks: Sizes = None,
    bandwidth: str | None = None,
    latency: str | None = None,
    seqlen: Sizes = None,
    link: Literal["own", "shared"] = "own",
    plugin: Plugins = None,
    form: Format = "terminal",
    as_json: Json = False,
) -> int:
    """Predict the time of calls on many ranks from a run's cells of few (run --ranks 1 --ranks 2).

    A law of compute and an alpha-beta model of the links are fitted to the run. What is printed is no measurement.

    ```
    attnbench predict ranks.jsonl --ranks 8..1024 --bandwidth 50GB/s
    attnbench predict long-context --seqlen 64k,128k    # its latest run
    ```

    Args:
        run: a run file with cells of ranks, or a bundled scenario, of which the latest run is taken; default the latest
            run of results/runs.
        ranks: how many ranks: a number, several, or a range of doublings; default 8..1024.
        bandwidth: of a link, such as 50GB/s or 1Gbit/s; default what the cells tell.
        latency: of a round of messages, such as 5us; default what the cells tell.
        seqlen: sequence lengths, as ranks; default the longest that was measured.
        link: own where each rank has a link, shared where all send through one, as over a loopback interface; of the
            run and of the prediction.
    """
    predicted = api.predict(
        latest_run(timed=True) if run is None else run, ranks=ranks, bandwidth=bandwidth, latency=latency,
        seqlen=seqlen, link=link, plugin=plugin,
    )  # fmt: skip
    print_view(predicted.view, "json" if as_json else form)
    return 0
