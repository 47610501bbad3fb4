"""Attributes samples to phases by their addresses, callers and lines of Python. The rules are tried in this order.

1. the implementation's own table, for the function that was sampled;
2. the phase that the source names for the sampled line, if the code was compiled with line information;
3. rules for common libraries (:mod:`attnbench.profiling.libraries`);
4. if these give nothing, or only that it is a matrix product: the callers, innermost first, by their lines and by the
   table; then the line of Python that was running;
5. the instructions around the sample. An unnamed function that calls code with pause instructions is spinning, and so
   is the code that it calls, unless that computes something.

Callers of code that was compiled in this process are found by unwinding. Elsewhere they are the words on the stack that
point behind a call instruction, some of which may be stale.
"""

from __future__ import annotations

import collections
import dataclasses
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from attnbench.profiling.code.addresses import COMPILED, KERNEL, PYTHON, Place
from attnbench.profiling.code.frames import FRAME_POINTER
from attnbench.profiling.code.instructions import Instructions
from attnbench.profiling.libraries import calling_phase, library_phase
from attnbench.profiling.phases import Phase, PhaseError, phase_named, phases_of_file
from attnbench.untrusted.pattern import found_in, pattern_mistake
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from attnbench.profiling.code.addresses import AddressSpace
    from attnbench.profiling.perf_events import Sample
    from attnbench.profiling.python_lines import LineClock

_MOST_CALLERS = 128
_GENERATED = "<string>"
_SAYS_NOTHING_OF_CALLEES = (None, Phase.DISPATCH)
"""Phases of a calling function that its callees do not inherit: dispatching code calls kernels of any phase."""
_LEAST_PAUSES, _MANY_PAUSES, _SPIN_CALLERS = 5, 0.2, 2
_TOLD_PRODUCTS = (Phase.QK, Phase.PV, Phase.GRADIENTS)


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule for functions of an implementation's libraries."""

    pattern: str
    """An untrusted regular expression, searched in ``module!function``."""
    phase: Phase | None
    """The function's phase; ``None`` if its instructions decide."""
    calls: tuple[Phase, ...]
    """Phases of the matrix products that it calls, in the order of the call sites' addresses."""


def rules_from(table: Mapping[str, str | Sequence[str]], where: str) -> tuple[Rule, ...]:
    """Return the rules of an implementation (:meth:`attnbench.registry.implementation.Implementation.phases`).

    Raises:
        PhaseError: if a pattern is not a regular expression, or a phase is unknown.
    """
    rules = []
    for pattern, said in table.items():
        own, *calls = (said,) if isinstance(said, str) else said
        if mistake := pattern_mistake(pattern):
            raise PhaseError(f"{where}: {shown(pattern)} is no regular expression: {mistake}")
        rules.append(
            Rule(pattern, phase_named(own, where) if own else None, tuple(phase_named(call, where) for call in calls))
        )
    return tuple(rules)


@dataclasses.dataclass(frozen=True)
class Attributed:
    """A sample with its phase and the rule that decided."""

    phase: Phase
    why: str
    frames: tuple[Place, ...]
    """The sampled place, then its callers, innermost first, then the lines of Python."""


def told_by_the_caller(
    samples: Sequence[Sample], found: Sequence[Attributed], main_thread: int, near_ns: float
) -> list[Attributed]:
    """Attribute products on helper threads to the product that the calling thread computes at the same time.

    It is known if the calling thread's samples right before and after belong to one product, as in autograd's steps.

    ``near_ns`` is the largest distance in time of those samples.
    """
    main = sorted(
        (sample.time_ns, one.phase) for sample, one in zip(samples, found, strict=True) if sample.thread == main_thread
    )
    times = [time_ns for time_ns, _ in main]

    def phase_at(time_ns: int) -> Phase | None:
        after = bisect_left(times, time_ns)
        around = [phase for at, phase in main[max(0, after - 1) : after + 1] if abs(at - time_ns) <= near_ns]
        alike = len(around) == 2 and around[0] == around[1] and around[0] in _TOLD_PRODUCTS
        return around[0] if alike else None

    return [
        dataclasses.replace(one, phase=phase, why="the caller's thread")
        if one.phase is Phase.PRODUCTS and sample.thread != main_thread and (phase := phase_at(sample.time_ns))
        else one
        for sample, one in zip(samples, found, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A sample with what its own address reveals."""

    sample: Sample
    phase: Phase | None
    why: str
    told: Phase | None
    """Phase by instructions, if no name decides."""
    callers: Sequence[int]

    @property
    def is_product(self) -> bool:
        """Whether the sample is in a matrix product."""
        return Phase.PRODUCTS in (self.phase, self.told)


class Attribution:
    """Attributes samples to phases."""

    def __init__(self, space: AddressSpace, rules: Sequence[Rule], lines: LineClock) -> None:
        self._space, self._rules, self._lines = space, rules, lines
        self._origins: dict[str, str] = {}
        """Source files of generated functions, by function."""

    def attribute(self, samples: Sequence[Sample]) -> list[Attributed]:
        """Attribute each sample.

        Raises:
            attnbench.untrusted.pattern.PatternError: if a pattern of the implementation's table takes too long.
        """
        callers = [self._callers(sample) for sample in samples]
        self._find_origins(samples, callers)
        leaves = [self._leaf(sample.address) for sample in samples]
        unnamed = (one.address for one, (phase, _) in zip(samples, leaves, strict=True) if phase is None)
        told = Instructions(self._space).phases(address for address in unnamed if address < KERNEL)
        seen = [
            _Seen(sample, phase, why, told.get(sample.address), above)
            for sample, (phase, why), above in zip(samples, leaves, callers, strict=True)
        ]
        sites, spinners = self._call_sites(seen), self._spinners(seen)
        return [self._attributed(one, sites, spinners) for one in seen]

    def _attributed(self, seen: _Seen, sites: Mapping[int, Phase], spinners: Set[str]) -> Attributed:
        phase, why = seen.phase, seen.why
        if self._spins(seen, spinners):
            phase, why = Phase.WAITING, "spinning"
        elif phase in (None, Phase.PRODUCTS):
            phase, why = self._by_callers(seen, sites) or (phase or seen.told, why or "instructions")
        known = (place for address in seen.callers for place in self._callers_at(address) if self._is_certain(place))
        frames = (*self._places(seen.sample.address), *known, *self._python(seen.sample))
        return Attributed(phase or Phase.OTHER, why if phase else "", frames)

    def _is_certain(self, place: Place) -> bool:
        """Whether a caller is reliable: it was unwound, or the table has a phase for it."""
        rule = self._rule(place)
        return place.module == COMPILED or (rule is not None and rule.phase is not None)

    def _callers(self, sample: Sample) -> list[int]:
        """List return addresses, innermost first: unwound in compiled code, guessed from words on the stack else."""
        words = np.frombuffer(sample.stack, np.uint64)
        low, high = self._space.span
        guesses = np.flatnonzero((words >= low) & (words < high)).tolist()
        callers: list[int] = []
        address, at, frame_pointer = sample.address, 0, sample.frame_pointer
        while len(callers) < _MOST_CALLERS:
            rule = self._space.frame_rule(address) if sample.stack_pointer else None
            if rule is not None:
                base = frame_pointer - sample.stack_pointer if rule.register == FRAME_POINTER else 8 * at
                beyond, spare = divmod(base + rule.offset, 8)
                if spare or not at < beyond <= len(words):
                    break
                if rule.frame_pointer_at is not None:
                    frame_pointer = int(words[beyond + rule.frame_pointer_at // 8])
            else:
                place = bisect_left(guesses, at)
                while place < len(guesses) and not self._space.is_return_address(int(words[guesses[place]])):
                    place += 1
                if place == len(guesses):
                    break
                beyond = guesses[place] + 1
            address, at = int(words[beyond - 1]), beyond
            callers.append(address)
            address -= 1
        return callers

    def _callers_at(self, address: int) -> tuple[Place, ...]:
        """Return the place of the call that returns to an address, and the lines that it was inlined into."""
        return self._places(address - 1)

    def _places(self, address: int) -> tuple[Place, ...]:
        """Return the places at an address, with the source files of generated functions filled in."""
        found = self._space.places(address)
        if all(not place.file.endswith(_GENERATED) for place in found):
            return found
        return tuple(
            dataclasses.replace(place, file=self._origins[place.function])
            if place.file.endswith(_GENERATED) and place.function in self._origins
            else place
            for place in found
        )

    def _find_origins(self, samples: Sequence[Sample], callers: Sequence[Sequence[int]]) -> None:
        """Find the source files of Numba's parallel loops, which it compiles as functions without a file.

        Their line numbers are those of the function around the loop: its caller on the thread that started the loop.
        """
        for sample, above in zip(samples, callers, strict=True):
            pending: list[str] = []
            for address in (sample.address + 1, *above):
                for place in self._space.places(address - 1):
                    if place.file.endswith(_GENERATED):
                        pending.append(place.function)
                    elif place.file and pending:
                        self._origins.update(dict.fromkeys(pending, place.file))
                        pending = []

    def _rule(self, place: Place) -> Rule | None:
        return next((rule for rule in self._rules if found_in(rule.pattern, place.name)), None)

    def _call_sites(self, seen: Sequence[_Seen]) -> dict[int, Phase]:
        """Return the phases of products' call sites, for functions with as many sampled sites as the table lists."""
        counts: dict[tuple[str, Rule], collections.Counter[int]] = {}
        for one in seen:
            for address in self._live(one.callers) if one.is_product else ():
                place = self._callers_at(address)[0]
                rule = self._rule(place)
                if rule is not None and rule.calls:
                    counts.setdefault((place.name, rule), collections.Counter())[address] += 1
                    break
        found: dict[int, Phase] = {}
        for (_, rule), counted in counts.items():
            often = sorted(address for address, _ in counted.most_common(len(rule.calls)))
            if len(often) == len(rule.calls):
                found.update(zip(often, rule.calls, strict=True))
        return found

    def _live(self, callers: Sequence[int]) -> Iterator[int]:
        """Yield the outermost of consecutive return addresses into one function: the others are stale."""
        for address, outer in zip(callers, (*callers[1:], None), strict=True):
            if outer is None or self._callers_at(address)[0].name != self._callers_at(outer)[0].name:
                yield address

    def _spinners(self, seen: Sequence[_Seen]) -> set[str]:
        """Return unnamed functions that often call code with pause instructions: they poll for work."""
        calling = collections.Counter(
            self._callers_at(one.callers[0])[0].name
            for one in seen
            if one.phase is None and one.told is Phase.WAITING and one.callers
        )
        least = max(_LEAST_PAUSES, _MANY_PAUSES * calling.total())
        return {name for name, count in calling.items() if count >= least and "!+" in name}

    def _spins(self, seen: _Seen, spinners: Set[str]) -> bool:
        """Whether a sample is in a spinning function or its callees, and computes nothing."""
        if not spinners or seen.phase is not None or seen.told not in (None, Phase.COPIES):
            return False
        place = self._places(seen.sample.address)[0]
        near = (place, *(self._callers_at(address)[0] for address in seen.callers[:_SPIN_CALLERS]))
        return any(one.module == place.module and one.name in spinners for one in near)

    def _leaf(self, address: int) -> tuple[Phase | None, str]:
        """Return the phase of the sampled function or line itself, and the rule that decided."""
        place, *around = self._places(address)
        if (rule := self._rule(place)) is not None and rule.phase is not None:
            return rule.phase, "function"
        if (named := _line_phase(place, *around)) is not None:
            return named, "line"
        known = library_phase(place.name)
        return known, "library" if known else ""

    def _by_callers(self, seen: _Seen, sites: Mapping[int, Phase]) -> tuple[Phase, str] | None:
        """Return the phase by callers, and the rule that decided, or ``None``."""
        for address in seen.callers:
            if address in sites and seen.is_product:
                return sites[address], "call site"
            place, *around = self._callers_at(address)
            if (named := _line_phase(place, *around)) is not None:
                return named, "calling line"
            if (known := calling_phase(place.name)) is not None:
                return known, "calling library"
            rule = self._rule(place)
            if not seen.is_product and rule is not None and rule.phase not in _SAYS_NOTHING_OF_CALLEES:
                return (seen.told, "instructions") if seen.told else (rule.phase, "calling function")
        named = _line_phase(*self._python(seen.sample))
        return None if named is None else (named, "line of Python")

    def _python(self, sample: Sample) -> tuple[Place, ...]:
        """Return the lines of Python that ran then, on this thread or on the one that waits for it."""
        return tuple(
            Place(PYTHON, function, file, line)
            for file, function, line in self._lines.at(sample.time_ns, sample.thread)
        )


def _line_phase(*places: Place) -> Phase | None:
    """Return the phase of the first place whose source names one for its line."""
    named = (phases_of_file(place.file).get(place.line) for place in places if place.file)
    return next((phase for phase in named if phase is not None), None)
