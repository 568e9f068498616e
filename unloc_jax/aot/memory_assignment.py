"""Finds the memory of a TPU's step without compiling it completely.

Buffers are assigned before code generation, which takes most of a compilation.
"""

import multiprocessing
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from unloc_jax.aot.memory import Memory, memory_of_dump
from unloc_jax.aot.step import compile_step, task_groups
from unloc_jax.aot.topology import devices_of
from unloc_jax.config import Config
from unloc_jax.errors import UserError

_POLL_S = 0.5


def assigned(
    config: Config, group: tuple[str, ...], topology: str, classes: Mapping[str, int | None]
) -> Memory | str:
    """Returns the memory that a step needs or, if the TPU compiler refuses it, the compiler's message. See
    `compile_step`.

    It compiles in a child process that is ended early. A calling script needs `if __name__ == "__main__":`.

    Raises:
      UserError: The config does not fit the devices, or the compiler dies or is of a version whose dump cannot be read.
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
                memory = memory_of_dump(folder)
                if memory is not None:
                    return memory
            answer = here.recv()
        except EOFError:
            child.join()
            raise UserError(
                f"the compiler's process died (status {child.exitcode}; -9: this machine has not enough memory)."
            ) from None
        finally:
            child.kill()
            child.join()
        if isinstance(answer, UserError):
            raise answer
        memory = answer or memory_of_dump(folder)
        if memory is None:
            raise UserError(
                "this libtpu does not write down what memory a step needs; leave --memory-only out."
            )
        return memory


def most_assigned(config: Config, topology: str, classes: Mapping[str, int | None]) -> Memory | str:
    """Returns the memory of the step that needs most if tasks alternate, or the message for the first one refused."""
    most: Memory | None = None
    for group in task_groups(config):
        found = assigned(config, group, topology, classes)
        if isinstance(found, str):
            return found
        most = found if most is None or found.total > most.total else most
    assert most is not None
    return most


def _compile(there: Connection, config: Config, group: tuple[str, ...], topology: str, *rest: Any) -> None:
    """Runs in the child process: sends the reason why compiling failed, or ""."""
    try:
        there.send(compile_step(config, group, devices_of(topology), *rest).too_large)
    except UserError as error:
        there.send(error)
