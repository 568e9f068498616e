"""The memory of a TPU's step without waiting for its program.

Arrays get their places before machine code is made, which takes most of a compilation.
"""

import multiprocessing
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from unloc_jax.aot.memory import Memory, of_notes
from unloc_jax.aot.step import compile_step, task_groups
from unloc_jax.aot.topology import devices_of
from unloc_jax.config import Config
from unloc_jax.errors import UserError

_POLL_S = 0.5


def assigned(
    config: Config, group: tuple[str, ...], topology: str, classes: Mapping[str, int | None]
) -> Memory | str:
    """What a step needs; of one that the TPU compiler refuses, what it says. See `compile_step`.

    It is compiled in a process of its own, which is ended early. A calling script needs `if __name__ == "__main__":`.

    Raises:
      UserError: a config that does not fit the devices; a compiler that dies, or is of a version that cannot be read.
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
                memory = of_notes(folder)
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
        memory = said or of_notes(folder)
        if memory is None:
            raise UserError(
                "this libtpu does not write down what memory a step needs; leave --memory-only out."
            )
        return memory


def most_assigned(config: Config, topology: str, classes: Mapping[str, int | None]) -> Memory | str:
    """Of the step that needs most, where tasks take turns; as `assigned`, of the first that is refused."""
    most: Memory | None = None
    for group in task_groups(config):
        found = assigned(config, group, topology, classes)
        if isinstance(found, str):
            return found
        most = found if most is None or found.total > most.total else most
    assert most is not None
    return most


def _compile(there: Connection, config: Config, group: tuple[str, ...], topology: str, *rest: Any) -> None:
    """In the process that is ended: if it gets so far, sends why there is no program, or ""."""
    try:
        there.send(compile_step(config, group, devices_of(topology), *rest).too_large)
    except UserError as error:
        there.send(error)
