"""Strategies that draw cases of all kinds."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import strategies as st

from attnbench.cases.case import Case, make_case
from attnbench.cases.choices import CHOICES, INPUT_FAMILIES


@st.composite
def fields_of_a_case(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the fields of a case, small enough to count its pairs one by one."""
    length = st.integers(0, 24)
    kinds = draw(st.lists(st.sampled_from(CHOICES["mask"]), min_size=1, max_size=3, unique=True))
    seqlen_q, seqlen_kv, batch = draw(length), draw(length), draw(st.integers(0, 3))
    if "ragged" in kinds:
        kinds, batch = ["ragged"], 1
        seqlen_q, seqlen_kv = max(1, min(seqlen_q, seqlen_kv)), max(1, seqlen_q, seqlen_kv)
    if "block_sparse" in kinds:
        seqlen_q, seqlen_kv = max(1, seqlen_q), max(1, seqlen_kv)
    if "document" in kinds:
        seqlen_kv = seqlen_q
    alignment = draw(st.sampled_from(CHOICES["alignment"]))
    drafts = draw(st.integers(0, min(seqlen_q, seqlen_kv)))
    if "tree" in kinds:
        alignment = "bottom_right"
    heads_kv, head_dim = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    fields: dict[str, Any] = {
        "batch": batch,
        "heads_q": heads_kv * draw(st.integers(1, 3)),
        "heads_kv": heads_kv,
        "seqlen_q": seqlen_q,
        "seqlen_kv": seqlen_kv,
        "head_dim": head_dim,
        "head_dim_v": draw(st.sampled_from([head_dim, 5])),
        "mask": " & ".join(kinds),
        "alignment": alignment,
        "window_left": draw(st.integers(0, 30)),
        "window_right": draw(st.integers(0, 30)),
        "mode": draw(st.sampled_from(CHOICES["mode"])),
        "dtype": draw(st.sampled_from(["float64", "float32", "float16", "bfloat16"])),
        "operator": draw(st.sampled_from(CHOICES["operator"])),
        "score_mod": " & ".join(draw(st.lists(st.sampled_from(CHOICES["score_mod"]), min_size=1, max_size=2))),
        "inputs": draw(st.sampled_from(INPUT_FAMILIES)),
        "document_causal": draw(st.booleans()),
        "seed": draw(st.integers(0, 3)),
    }
    if fields["mode"] == "forward" and fields["operator"] == "attention" and fields["head_dim_v"] <= head_dim:
        fields["kv_cache"] = draw(st.sampled_from(["dense", "latent"]))
    if "ragged" in kinds:
        fields["score_mod"] = draw(st.sampled_from(["none", "softcap", "sink"]))
        fields["kv_cache"] = "dense"
        fields["requests"] = draw(packs(seqlen_q, seqlen_kv))
    if fields["operator"] != "attention" or not (batch and seqlen_q and seqlen_kv):
        fields["inputs"] = "normal"  # families apply to queries, keys and values
    if "block_sparse" in kinds:
        fields["mask_block_size"] = size = draw(st.integers(1, 10))
        blocks = st.lists(st.integers(0, -(-seqlen_kv // size) - 1), max_size=3)
        lists = ["+".join(map(str, draw(blocks))) for _ in range(0, seqlen_q, size)]
        fields["mask_blocks"] = draw(
            st.sampled_from(["random:1%:0", "random:30%:7", "local:0:0", "local:1:2", f"list:{'/'.join(lists)}"])
        )
    if draw(st.booleans()):
        fields["scale"] = draw(st.floats(0.01, 4))
        fields["prefix_len"] = draw(st.integers(0, seqlen_kv))
        fields["kv_lengths"] = draw(st.lists(st.integers(0, seqlen_kv), min_size=batch, max_size=batch))
        fields["kv_starts"] = draw(st.lists(st.integers(0, seqlen_kv), min_size=batch, max_size=batch))
        cuts = draw(st.lists(st.integers(0, seqlen_q), max_size=5))
        fields["tree_parents"] = [draw(st.integers(-1, draft - 1)) for draft in range(drafts)]
        edges = [0, *sorted(cuts), seqlen_q]
        fields["document_lengths"] = [b - a for a, b in itertools.pairwise(edges)]
    return fields


@st.composite
def packs(draw: st.DrawFn, seqlen_q: int, seqlen_kv: int) -> str:
    """Draw requests with these total numbers of queries and keys; each has at least as many keys as queries."""
    cuts = draw(st.sets(st.integers(1, seqlen_q - 1))) if seqlen_q > 1 else set()
    queries = [b - a for a, b in itertools.pairwise([0, *sorted(cuts), seqlen_q])]
    cached = [0] * len(queries)
    for _ in range(seqlen_kv - seqlen_q):
        cached[draw(st.integers(0, len(queries) - 1))] += 1
    return "_".join(f"q{n}s{n + before}" for n, before in zip(queries, cached, strict=True))


@pytest.fixture(scope="session")
def any_fields() -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the fields of any valid case."""
    return fields_of_a_case()


@pytest.fixture(scope="session")
def any_case(any_fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Case]:
    """Return a strategy for any valid case."""
    return any_fields.map(lambda fields: make_case(**fields))
