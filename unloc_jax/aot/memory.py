"""The memory of a compiled step."""

import dataclasses
import re
from pathlib import Path
from typing import Any

_READ = ("-memory-usage-report.txt", "-buffer-assignment.txt")
_NEXT = "_after_buffer_assignment.txt"  # of the files that the TPU compiler writes: now those are complete


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device.

    Attributes:
      arguments: state and batch.
      outputs: the new state and metrics.
      donated: outputs that take the arguments' place.
      temporaries: what is set aside for everything in between.
      code: the program; 0 where it was not waited for.
      peak: the most that is in use at a time of arguments, outputs and temporaries; 0 where the compiler says nothing.
    """

    arguments: int
    outputs: int
    donated: int
    temporaries: int
    code: int = 0
    peak: int = 0

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.donated + self.temporaries + self.code


def of_program(program: Any) -> Memory:
    """Of what JAX's `compile()` returns."""
    found = program.memory_analysis()
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes,
        found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
        getattr(found, "peak_memory_in_bytes", 0),
    )


def of_notes(folder: Path) -> Memory | None:
    """From what the TPU compiler has written down so far; None before every array has its place.

    JAX's `memory_analysis()` says more of a TPU's temporaries than there are, half as much again in a training step,
    whose arguments are given up. What the compiler itself compares with the chip's memory is this.
    """
    for file in folder.glob(f"*.jit_step*{_NEXT}"):
        return _as_memory(*(Path(str(file).replace(_NEXT, name)).read_text() for name in _READ))
    return None


def _as_memory(report: str, buffers: str) -> Memory:
    """From the compiler's sums, of which color 0 is the main memory, and its list of what is where."""
    total = int(re.findall(r"\(color=0\)\nTotal bytes: (\d+)", report)[0])
    arguments = outputs = donated = 0
    for size, of_what in re.findall(r"^allocation \d+: size (\d+), (.*)$", buffers, re.M):
        is_argument, is_output = "parameter " in of_what, "live-out" in of_what
        arguments += is_argument * int(size)
        outputs += is_output * int(size)
        donated += is_argument * is_output * int(size)
    return Memory(arguments, outputs, donated, total - (arguments + outputs - donated))
