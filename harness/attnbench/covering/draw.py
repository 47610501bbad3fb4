"""Draws random cases that have the wanted levels.

The fields that are drawn need not be valid: :func:`make_case` validates them, the declaration decides whether the
implementation takes the case, and the axes decide which levels it has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from attnbench.cases.case import Case, CaseError, make_case
from attnbench.cases.choices import CHOICES, INPUT_FAMILIES
from attnbench.cases.masks.table import intersection
from attnbench.cases.score_mods import in_order
from attnbench.cases.tensors.source import RANDOM
from attnbench.covering.axes import ABSENT, sees_nothing
from attnbench.covering.contradictions import DECLARED, NEEDS, with_needs
from attnbench.covering.tables import (
    AXIS,
    DIM_AXES,
    HEAD_AXES,
    KIND_OF,
    MOST_PAIRS,
    dims_of,
    fewest_sequences,
    heads_of,
    lengths_of,
    mask_options,
    room,
    widest_head,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from attnbench.registry.implementation import Declaration

Levels = dict[str, str]
_Table = Callable[[tuple[str | None, ...], int], tuple[tuple[int, int], ...]]

_MOST_SECONDS = 0.7
"""Limit on the time of checking one case, large enough that every pair of levels has a case."""
_SIZES = ("batch", "heads_q", "heads_kv", "head_dim", "head_dim_v", "seqlen_q", "seqlen_kv")


def draw(
    wanted: Mapping[str, str], said: Declaration, device: str, seed: int, rng: random.Random, like: Case | None = None
) -> Case | None:
    """Draw a small, declared case with the wanted levels, or return ``None`` if this draw failed.

    Args:
        wanted: some levels, by axis.
        said: what the implementation declares.
        device: device of the case.
        seed: of the case's values.
        rng: source of randomness.
        like: a case whose sizes are taken.
    """
    fields = _Draw(wanted, said, rng).fields(like)
    if fields is None:
        return None
    try:
        case = make_case(seed=seed, **fields)
    except CaseError:
        return None
    if said.refuses(case, device) is not None or seconds(case) > _MOST_SECONDS:
        return None
    if any(AXIS[name].level(case) != level for name, level in wanted.items()) or sees_nothing(case):
        return None
    return case


def seconds(case: Case) -> float:
    """Estimate the time of checking a case on a processor of 2020; fitted to wall times of some hundred cells."""
    heads, width = case.batch * case.heads_q, case.head_dim + case.head_dim_v
    pairs = heads * case.seqlen_q * case.seqlen_kv
    elements = (heads * case.seqlen_q + case.batch * case.heads_kv * case.seqlen_kv) * width
    weights = case.embed_dim * (case.heads_q + case.heads_kv) * width if case.operator != "attention" else 0
    return 0.03 + 0.006 * heads + 4e-7 * elements + (7e-7 + 1e-9 * width) * pairs + 1e-7 * weights


class _Draw:
    """One draw: wanted levels first; other levels are the plain ones in half of the draws."""

    def __init__(self, wanted: Mapping[str, str], said: Declaration, rng: random.Random) -> None:
        self._wanted, self._said, self._rng, self._shortest = {**wanted}, said, rng, False

    def fields(self, like: Case | None = None) -> dict[str, object] | None:
        """Return the fields of a case, with the sizes of ``like`` if given, or ``None`` if wanted levels contradict."""
        if (levels := with_needs(self._wanted)) is None:
            return None
        self._wanted = levels
        for axis in ("operator", "mode", "kv_dtype", "kv_cache", "strides"):
            plain, level = NEEDS[axis][0], self._declared(axis)
            levels = None if level == plain or axis in self._wanted else with_needs({axis: level, **self._wanted})
            self._wanted = levels or {axis: plain, **self._wanted}
        kinds, strides = self._kinds(), self._declared("strides")
        if kinds is None:
            return None
        sizes = {name: getattr(like, name) for name in _SIZES} if like else self._sizes(kinds, strides)
        if sizes is None or ("ragged" in kinds and (sizes["batch"] > 1 or sizes["seqlen_q"] > sizes["seqlen_kv"])):
            return None
        fields: dict[str, object] = {
            **sizes,
            "mask": intersection(kinds),
            "alignment": self._alignment(),
            **{name: self._declared(name) for name in ("operator", "mode", "dtype")},
            "strides": strides,
            "inputs": self._level("inputs", INPUT_FAMILIES),
            "kv_dtype": self._wanted["kv_dtype"],
        }
        fields |= self._score_mod() | self._kv_cache()
        fields |= self._parameters(kinds, sizes["batch"], sizes["seqlen_q"], sizes["seqlen_kv"])
        if self._level("scale") == "given":
            fields["scale"] = round(self._rng.choice((0.5, 0.8, 1.25)) * sizes["head_dim"] ** -0.5, 6)
        return fields

    def _sizes(self, kinds: tuple[str, ...], strides: str) -> dict[str, int] | None:
        return self._some_sizes(kinds, strides) or self._some_sizes(kinds, strides, shortest=True)

    def _some_sizes(self, kinds: tuple[str, ...], strides: str, *, shortest: bool = False) -> dict[str, int] | None:
        self._shortest = shortest
        lengths = self._lengths(equal="document" in kinds or strides == "qkv_slice" or self._said.layout == "packed")
        if lengths is None:
            return None
        level = self._wanted.get("batch", "1") if shortest else self._level("batch", ("1", "1", *AXIS["batch"].levels))
        if "ragged" in kinds:
            lengths, level = (min(lengths), max(lengths)), "1"
        batch = fewest_sequences(level) + (level != "1" and self._rng.randrange(2))
        pairs = batch * lengths[0] * lengths[1]
        likely = {} if self._said.gqa and self._rng.random() >= 0.4 else {"group": "1"}
        heads = self._of_table(heads_of, HEAD_AXES, MOST_PAIRS / pairs, likely)
        if heads is None:
            return None
        equal = not self._said.unequal_head_dims or strides == "qkv_slice" or self._rng.random() < 0.6
        tokens = batch * (heads[0] * lengths[0] + heads[1] * lengths[1])
        most = widest_head(pairs * heads[0], tokens)
        dims = self._of_table(dims_of, DIM_AXES, most, {"value dims": "equal"} if equal else {})
        return dims and dict(zip(_SIZES, (batch, *heads, *dims, *lengths), strict=True))

    def _level(self, axis: str, among: tuple[str, ...] | None = None) -> str:
        """Return the wanted level, or a random one: the first, plain one in half of the draws."""
        levels = among or AXIS[axis].levels
        chosen = self._wanted.get(axis)
        return chosen or (levels[0] if self._rng.random() < 0.5 else self._rng.choice(levels))

    def _declared(self, name: str) -> str:
        """Return a level of a field whose values are declared; modes and dtypes have no plain one."""
        if name in self._wanted:
            return self._wanted[name]
        declared = tuple(self._said.kv_caches if name == "kv_cache" else getattr(self._said, DECLARED[name]))
        return self._rng.choice(declared) if name in ("mode", "dtype") else self._level(name, declared)

    def _part(self, *axes: str) -> tuple[str | None, ...]:
        return tuple(self._wanted.get(axis) for axis in axes)

    def _of_table(self, table: _Table, axes: tuple[str, ...], most: float, likely: Levels) -> tuple[int, int] | None:
        """Draw a row of sizes up to ``most``, with the likely levels if possible; first rows are more likely."""
        size = room(most)
        rows = table(tuple({**likely, **self._wanted}.get(axis) for axis in axes), size) or table(
            self._part(*axes), size
        )
        if not rows:
            return None
        return rows[int(len(rows) * self._rng.random() ** 3)]

    def _kinds(self) -> tuple[str, ...] | None:
        wanted = self._part("mask", *KIND_OF)
        options = mask_options(self._said.masks, self._said.mask_intersections, wanted)
        if not options:
            return None
        few = tuple(option for option in options if len(option) <= 1)
        return self._rng.choice(few if few and self._rng.random() < 0.7 else options)

    def _lengths(self, *, equal: bool) -> tuple[int, int] | None:
        relation = self._wanted.get("lengths")
        likely_equal = relation == "equal" or (relation is None and (equal or self._rng.random() < 0.4))
        if likely_equal and (length := self._one_length()):
            return length, length
        sizes = [self._wanted.get(axis) or self._some_range() for axis in ("seqlen_q", "seqlen_kv")]
        ends = self._part("end of queries", "end of keys")
        queries, keys = (lengths_of(size, end) for size, end in zip(sizes, ends, strict=True))
        queries = queries or lengths_of(self._wanted.get("seqlen_q"), ends[0])
        keys = keys or lengths_of(self._wanted.get("seqlen_kv"), ends[1])
        return (self._short(queries), self._short(keys)) if queries and keys else None

    def _one_length(self) -> int | None:
        """Draw a common length of queries and keys, or return ``None`` if their wanted levels differ."""
        sizes = {*self._part("seqlen_q", "seqlen_kv")} - {None}
        ends = {*self._part("end of queries", "end of keys")} - {None}
        if len(sizes) > 1 or len(ends) > 1:
            return None
        size, end = sizes.pop() if sizes else None, ends.pop() if ends else None
        lengths = lengths_of(size or self._some_range(), end) or lengths_of(size, end)
        return self._short(lengths) if lengths else None

    def _short(self, lengths: tuple[int, ...]) -> int:
        """Draw one of the lengths; short ones are more likely."""
        return lengths[0 if self._shortest else int(len(lengths) * self._rng.random() ** 2)]

    def _some_range(self) -> str:
        """Draw a range of lengths; short ones are more likely."""
        ranges = AXIS["seqlen_q"].levels
        if self._shortest:
            return ranges[0]
        return self._rng.choice((*ranges, *ranges[:4], ranges[2], ranges[3]))

    def _alignment(self) -> str:
        wanted = self._wanted.get("alignment", ABSENT)
        return wanted if wanted != ABSENT else self._rng.choice(CHOICES["alignment"])

    def _score_mod(self) -> dict[str, object]:
        single = [mod for mod in self._said.score_mods if mod != "none" and "&" not in mod]
        joined = [mod for mod in self._said.score_mods if "&" in mod]
        if self._said.score_mod_combinations and len(single) > 1:
            joined.append(in_order(self._rng.sample(single, self._rng.randint(2, min(3, len(single))))))
        declared = tuple(mod for mod in self._said.score_mods if "&" not in mod)
        level = self._level("score_mod", (*declared, "combination") if joined else declared)
        if level == "combination" and joined:
            some = self._rng.choice(joined)
            softcap = {"softcap": self._rng.choice((2.0, 20.0))} if "softcap" in some else {}
            return {"score_mod": some, "bias_file": self._some_tensor(), **softcap}
        if not level.startswith("softcap"):
            return {"score_mod": level, **({"bias_file": self._some_tensor()} if level == "bias" else {})}
        bends = level != "softcap" or ("score_mod" not in self._wanted and self._rng.random() < 0.5)
        return {"score_mod": "softcap", "softcap": self._rng.choice((2.0, 5.0) if bends else (20.0, 50.0))}

    def _kv_cache(self) -> dict[str, object]:
        level = self._declared("kv_cache")
        if level in ("dense", "latent"):
            return {"kv_cache": level}
        plain = level == "paged" and ("kv_cache" in self._wanted or self._rng.random() < 0.5)
        return {"kv_cache": "paged", "page_size": 16 if plain else self._rng.choice((1, 3, 8, 32, 64))}

    def _parameters(self, kinds: tuple[str, ...], batch: int, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        """Draw the parameters of the masks."""
        fields: dict[str, object] = {}
        if "sliding_window" in kinds:
            fields |= self._window(seqlen_kv)
        if "prefix_lm" in kinds:
            level = self._level("prefix", AXIS["prefix"].levels[:0:-1])
            some = self._rng.randint(1, max(1, seqlen_kv - 1))
            fields["prefix_len"] = {"none": 0, "all keys": seqlen_kv}.get(level, some)
        if "document" in kinds:
            fields |= self._documents(seqlen_q)
        if "key_padding" in kinds:
            fields["kv_lengths"] = self._padding(batch, seqlen_kv)
        if "left_padding" in kinds:
            fields["kv_starts"] = self._left_padding(batch, seqlen_kv)
        if "tree" in kinds:
            fields["tree_parents"] = self._tree(min(seqlen_q, seqlen_kv))
        if "block_sparse" in kinds:
            fields |= self._blocks(seqlen_q, seqlen_kv)
        if "ragged" in kinds:
            fields["requests"] = self._requests(seqlen_q, seqlen_kv)
        if "tensor" in kinds:
            fields["mask_file"] = self._some_tensor()
        return fields

    def _some_tensor(self) -> str:
        """Return the text of a random mask or bias, which needs no file."""
        return f"{RANDOM}{self._rng.randrange(10_000)}"

    def _window(self, seqlen_kv: int) -> dict[str, object]:
        level = self._level("window", AXIS["window"].levels[1:])
        widest = max(1, min(seqlen_kv - 1, self._rng.choice((8, 40, 200))))
        left, right = self._rng.randint(1, widest), self._rng.randint(1, widest)
        return {
            "window_left": {"right": 0, "diagonal": 0, "beyond the keys": seqlen_kv}.get(level, left),
            "window_right": right if level in ("right", "both sides") else 0,
        }

    def _documents(self, seqlen: int) -> dict[str, object]:
        level = self._level("documents", AXIS["documents"].levels[1:])
        fewest, most = {"o": (1, 1), "2": (2, 4), "5": (5, 9)}[level[0]]
        count = min(seqlen, self._rng.randint(fewest, most))
        lengths = tuple(b - a for a, b in itertools.pairwise(self._cuts(seqlen, count)))
        causal = level.endswith("causal") or (level == "one" and self._rng.random() < 0.5)
        return {"document_lengths": lengths, "document_causal": causal}

    def _padding(self, batch: int, seqlen_kv: int) -> tuple[int, ...]:
        level = self._level("padding", ("some", *AXIS["padding"].levels[1:]))
        if level == "none":
            return (seqlen_kv,) * batch
        lengths = [self._rng.randint(1, seqlen_kv) for _ in range(batch)]
        if level == "some" and min(lengths) == seqlen_kv:
            lengths[self._rng.randrange(batch)] = max(1, seqlen_kv - 1)
        if level in ("another empty", "last empty"):
            lengths[-1 if level == "last empty" else self._rng.randrange(max(1, batch - 1))] = 0
        return tuple(lengths)

    def _requests(self, seqlen_q: int, seqlen_kv: int) -> str:
        """Draw requests: random cuts of the queries (each alone for decodes), and a random split of cached keys."""
        level = self._level("requests", AXIS["requests"].levels[:0:-1])
        fewest, most = {"one": (1, 1), "decodes": (seqlen_q, seqlen_q)}.get(level, (2, 9))
        count = min(seqlen_q, self._rng.randint(fewest, most))
        least = int(level == "decodes" and seqlen_kv >= 2 * seqlen_q)  # least number of cached keys of each
        ends = self._cuts(seqlen_kv - seqlen_q + (1 - least) * count, count)
        sizes = zip(itertools.pairwise(self._cuts(seqlen_q, count)), itertools.pairwise(ends), strict=True)
        return "_".join(f"q{b - a}s{b - a + end - begin - 1 + least}" for (a, b), (begin, end) in sizes)

    def _cuts(self, total: int, parts: int) -> tuple[int, ...]:
        return (0, *sorted(self._rng.sample(range(1, total), parts - 1)), total)

    def _left_padding(self, batch: int, seqlen_kv: int) -> tuple[int, ...]:
        level = self._level("left padding", ("some", *AXIS["left padding"].levels[1:]))
        if level == "none":
            return (0,) * batch
        starts = [self._rng.randrange(seqlen_kv) for _ in range(batch)]
        starts[self._rng.randrange(batch)] = seqlen_kv if level == "a whole sequence" else max(1, starts[-1])
        return tuple(starts)

    def _tree(self, most: int) -> tuple[int, ...]:
        level = self._level("tree", AXIS["tree"].levels[:0:-1])
        drafts = self._rng.randint(min(2, most), min(15, most))
        parents = {"chain": range(-1, drafts - 1), "roots": [-1] * drafts}
        return tuple(parents.get(level) or [self._rng.randint(-1, draft - 1) for draft in range(drafts)])

    def _blocks(self, seqlen_q: int, seqlen_kv: int) -> dict[str, object]:
        whole = self._level("blocks", AXIS["blocks"].levels[1:]) == "whole tiles"
        size = self._rng.choice((64, 128) if whole else (8, 16, 24, 32, 48, 96))
        keys = range(-(-seqlen_kv // size))
        texts = (
            f"random:{self._rng.choice((1, 5, 10, 25, 50))}%:{self._rng.randrange(10_000)}",
            f"local:{self._rng.randrange(3)}:{self._rng.randrange(3)}",
            "list:" + "/".join(self._some_of(keys) for _ in range(0, seqlen_q, size)),
        )
        return {"mask_block_size": size, "mask_blocks": self._rng.choice(texts)}

    def _some_of(self, blocks: range) -> str:
        return "+".join(map(str, sorted(self._rng.sample(blocks, self._rng.randint(0, min(3, len(blocks)))))))
