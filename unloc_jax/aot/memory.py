"""The memory of a compiled step; of a TPU's also without waiting for its machine code.

Arrays get their places before machine code is made, which takes five sixths of a compilation. `assigned` reads what the
TPU compiler writes down at that point and stops it.
"""

import dataclasses
import multiprocessing
import re
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from unloc_jax.aot.step import compile_step
from unloc_jax.aot.topology import devices_of
from unloc_jax.config import Config
from unloc_jax.errors import UserError

_POLL_S = 0.5
_READ = ("-memory-usage-report.txt", "-buffer-assignment.txt")
_NEXT = "_after_buffer_assignment.txt"  # of the files that the compiler writes: once it is there those are complete


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

    @classmethod
    def of(cls, program: Any) -> "Memory":
        """Of what JAX's `compile()` returns."""
        found = program.memory_analysis()
        return cls(
            found.argument_size_in_bytes,
            found.output_size_in_bytes,
            found.alias_size_in_bytes,
            found.temp_size_in_bytes,
            found.generated_code_size_in_bytes,
            getattr(found, "peak_memory_in_bytes", 0),
        )

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.donated + self.temporaries + self.code


def assigned(
    config: Config, group: tuple[str, ...], topology: str, classes: Mapping[str, int | None]
) -> Memory | str:
    """What a step needs; of one that the TPU compiler refuses, what it says. See `compile_step`.

    It is compiled in a process of its own, which is ended early. A calling script needs `if __name__ == "__main__":`.

    Raises:
      UserError: a config that does not fit the devices; a compiler that dies.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = context.Process(target=_compile, args=(there, config, group, topology, classes, folder))
        child.start()
        there.close()
        try:
            while not here.poll(_POLL_S):
                memory = _written(folder)
                if memory is not None:
                    return memory
            said = here.recv()
        except EOFError:
            child.join()
            raise UserError(
                f"the compiler's process died (status {child.exitcode}; -9: this machine has not enough memory)."
            ) from None
        finally:
            child.kill()
            child.join()
        if isinstance(said, UserError):
            raise said
        memory = _written(folder)
        return said if memory is None else memory


def _compile(there: Connection, config: Config, group: tuple[str, ...], topology: str, *rest: Any) -> None:
    """In the process that is ended: if it gets so far, sends why there is no program, or ""."""
    try:
        there.send(compile_step(config, group, devices_of(topology), *rest).too_large)
    except UserError as error:
        there.send(error)


def _written(folder: Path) -> Memory | None:
    """None if it is not yet."""
    for file in folder.glob(f"*.jit_step*{_NEXT}"):
        return as_memory(*(Path(str(file).replace(_NEXT, name)).read_text() for name in _READ))
    return None


def as_memory(report: str, buffers: str) -> Memory:
    """From the compiler's sums, of which color 0 is the main memory, and its list of what is where."""
    total = int(re.findall(r"\(color=0\)\nTotal bytes: (\d+)", report)[0])
    arguments = outputs = donated = 0
    for size, of_what in re.findall(r"^allocation \d+: size (\d+), (.*)$", buffers, re.M):
        is_argument, is_output = "parameter " in of_what, "live-out" in of_what
        arguments += is_argument * int(size)
        outputs += is_output * int(size)
        donated += is_argument * is_output * int(size)
    return Memory(arguments, outputs, donated, total - (arguments + outputs - donated))
