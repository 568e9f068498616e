"""Parses a compiled program: its instructions, and how often each of them runs.

XLA's own `cost_analysis()` counts the body of a loop once, whatever the number of iterations; this does not.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator

# A computation begins in the first column with its name and its parameters, and ends with a brace on its own line.
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
# `%name = type opcode(operands), attributes`; the type may be a tuple.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TRIP_COUNT = re.compile(r'known_trip_count[":{]+n":"?(\d+)')
_CONSTANT = re.compile(r"s(?:32|64)\[\](?:\{[^}]*\})? constant\((\d+)\)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NOT_KNOWN = 2**63 - 1  # cycles that the compiler cannot estimate, such as those of scatters
_ARRAY = re.compile(r"\b(pred|bf16|f8\w+|[a-z]+\d+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
      name, opcode: Such as "all-reduce.3" and "all-reduce".
      type: Of the result, such as "f32[8,128]{1,0}".
      rest: Operands and attributes, as text.
    """

    name: str
    opcode: str
    type: str
    rest: str

    @property
    def cycles(self) -> int:
        """The TPU compiler's estimate of its cycles; 0 where there is none."""
        found = _CYCLES.search(self.rest)
        cycles = int(found[1]) if found else 0
        return cycles if cycles < _NOT_KNOWN else 0


class Program:
    """A compiled module, parsed from its HLO text."""

    def __init__(self, text: str):
        self._computations: dict[str, list[Instruction]] = {}
        self._conditions: dict[str, int] = {}
        entry, name = "", ""
        for line in text.splitlines():
            header = _COMPUTATION.match(line)
            if header:
                name = header[2]
                entry = name if header[1] else entry
                self._computations[name] = []
                continue
            constant = _CONSTANT.search(line)
            if constant:
                self._conditions[name] = max(int(constant[1]), self._conditions.get(name, 0))
            found = _INSTRUCTION.match(line)
            if found:
                self._computations[name].append(Instruction(found[1], found[3], found[2], found[4]))
        self._runs = self._count_runs(entry)

    def instructions(self) -> Iterator[tuple[Instruction, int]]:
        """Yields every instruction with the number of times that one device runs it in one call of the program.

        A fusion and the instructions within it are yielded separately.
        """
        for name, runs in self._runs.items():
            for instruction in self._computations[name]:
                yield instruction, runs

    def cycles(self) -> int:
        """Returns the TPU compiler's estimate for all instructions in sequence, in cycles."""
        return sum(instruction.cycles * runs for instruction, runs in self.instructions())

    def _count_runs(self, entry: str) -> dict[str, int]:
        """Returns how often each computation runs in one call of the program."""
        runs: dict[str, int] = collections.defaultdict(int)
        waiting = [(entry, 1)]
        while waiting:
            name, times = waiting.pop()
            runs[name] += times
            for instruction in self._computations.get(name, ()):
                trips = self._trip_count(instruction) if instruction.opcode == "while" else 1
                called = _CALLED.findall(instruction.rest)
                branches = _BRANCHES.search(instruction.rest)
                if branches:
                    called += [branch.strip().lstrip("%") for branch in branches[1].split(",")]
                waiting += [(callee, times * trips) for callee in called]
        return runs

    def _trip_count(self, loop: Instruction) -> int:
        """Returns the compiler's trip count or, without one, the bound of the loop's counter (JAX counts from 0)."""
        known = _TRIP_COUNT.search(loop.rest)
        if known:
            return int(known[1])
        condition = _CONDITION.search(loop.rest)
        return self._conditions.get(condition[1], 1) if condition else 1


def num_bytes(type_text: str) -> int:
    """Returns the bytes of an array or a tuple, such as "(f32[8]{0}, bf16[2,4]{1,0})", without layout padding."""
    total = 0
    for kind, shape in _ARRAY.findall(type_text):
        size = 1
        for length in filter(None, shape.split(",")):
            size *= int(length)
        bits = 8 if kind == "pred" or kind.startswith("f8") else int(re.sub(r"\D", "", kind))
        total += size * bits // 8
    return total
