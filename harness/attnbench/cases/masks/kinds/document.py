"""``document``: packed sequences that do not see each other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks.kind import Kind, Parameter, one_run
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case


class Document(Kind):
    """Blocks along the diagonal; if causal, their lower triangles."""

    name = "document"
    parameters = (
        Parameter(name="document_lengths", form="integers"),
        Parameter(name="document_causal", form="boolean", default=False),
    )
    divisible = False

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the keys of the query's own document; if causal, up to the query."""
        del batch_index
        lengths = np.array(case.document_lengths, np.int64)
        ends = np.cumsum(lengths)
        rows = np.arange(case.seqlen_q, dtype=np.int64)
        document = np.searchsorted(ends, rows, side="right")
        return one_run(case, (ends - lengths)[document], rows + 1 if case.document_causal else ends[document])

    def pairs(self, case: Case) -> int:
        """Sum the areas of the documents' squares or triangles."""
        lengths = case.document_lengths or ()
        return case.batch * sum(n * (n + 1) // 2 if case.document_causal else n * n for n in lengths)

    def lengths(self, batch: int, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        """Return four documents of unequal lengths, about 1 : 2 : 3 : 4 (fewer for very short sequences)."""
        del batch, seqlen_kv
        edges = sorted({0, seqlen_q // 10, 3 * seqlen_q // 10, 6 * seqlen_q // 10, seqlen_q}) if seqlen_q else [0, 0]
        return {"document_lengths": tuple(b - a for a, b in itertools.pairwise(edges))}

    def problems(self, case: Case) -> list[str]:
        """Check that the documents make up one sequence."""
        lengths = case.document_lengths or ()
        if case.seqlen_q != case.seqlen_kv:
            both = f"seqlen_q = {case.seqlen_q} must equal seqlen_kv = {case.seqlen_kv}"
            return [f"mask = 'document' packs one sequence: {both}"]
        if sum(lengths) != case.seqlen_q or min(lengths, default=0) < 0:
            return [f"document_lengths = {shown(list(lengths))} must be >= 0 and sum to seqlen_q = {case.seqlen_q}"]
        return []

    def looks_ahead(self, case: Case) -> bool:
        """Whether documents are not causal: a query then sees its document to the end."""
        return not case.document_causal

    def query_edges(self, case: Case) -> list[int]:
        """Return the last token of each document and the first of the next."""
        ends = itertools.accumulate(case.document_lengths or ())
        return [token for end in ends for token in (end - 1, end)]

    def key_edges(self, case: Case) -> list[int]:
        """Return the same tokens as :meth:`query_edges`."""
        return self.query_edges(case)

    def label(self, case: Case) -> str:
        """Return the kind, marked if it is causal."""
        return "document (causal)" if case.document_causal else "document"

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield the opposite ``document_causal``, and documents that see each other."""
        yield "with document_causal turned", {"document_causal": not case.document_causal}
        yield "if documents see each other", {"mask": "causal" if case.document_causal else "none"}
