"""The memory of a compiled step."""

import dataclasses
import re
from pathlib import Path
from typing import Any

_READ = ("-memory-usage-report.txt", "-buffer-assignment.txt")
_NEXT = "_after_buffer_assignment.txt"  # the TPU compiler writes it next: the files above are then complete


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of one device, in bytes.

    Attributes:
      arguments: State and batch.
      outputs: New state and metrics.
      donated: Outputs that reuse the memory of arguments.
      temporaries: Reserved for everything in between.
      code: The program; 0 if it was not waited for.
      peak: The most that arguments, outputs and temporaries use at a time; 0 if the compiler does not report it.
    """

    arguments: int
    outputs: int
    donated: int
    temporaries: int
    code: int = 0
    peak: int = 0

    @property
    def total(self) -> int:
        """Sum of all parts, with donated memory counted once."""
        return self.arguments + self.outputs - self.donated + self.temporaries + self.code


def memory_of_program(program: Any) -> Memory:
    """Returns the memory of a program that JAX's `compile()` has returned."""
    found = program.memory_analysis()
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes,
        found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
        getattr(found, "peak_memory_in_bytes", 0),
    )


def memory_of_dump(folder: Path) -> Memory | None:
    """Reads the memory from the TPU compiler's dump; None before all buffers are assigned.

    JAX's `memory_analysis()` overstates a TPU's temporaries, by half in a training step, whose arguments are donated.
    The dump holds what the compiler itself compares with the chip's memory.
    """
    for file in folder.glob(f"*.jit_step*{_NEXT}"):
        return _as_memory(*(Path(str(file).replace(_NEXT, name)).read_text() for name in _READ))
    return None


def _as_memory(report: str, buffers: str) -> Memory:
    """Parses the compiler's sums, in which color 0 is the main memory, and its list of allocations."""
    total = int(re.findall(r"\(color=0\)\nTotal bytes: (\d+)", report)[0])
    arguments = outputs = donated = 0
    for size, of_what in re.findall(r"^allocation \d+: size (\d+), (.*)$", buffers, re.M):
        is_argument, is_output = "parameter " in of_what, "live-out" in of_what
        arguments += is_argument * int(size)
        outputs += is_output * int(size)
        donated += is_argument * is_output * int(size)
    return Memory(arguments, outputs, donated, total - (arguments + outputs - donated))
