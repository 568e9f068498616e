"""Several processes that run as one: the one place where they find each other."""

import os
import sys

import jax

from unloc_jax.errors import UserError


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connects this process with the others of a run; does nothing for a run of one process.

    Call it before anything else asks JAX for devices. Afterwards `jax.devices()` are those of all processes.

    Args:
      coordinator: "HOST:PORT" of process 0.
      num_processes: how many there are.
      process_id: which one this is, from 0.

    Raises:
      UserError: one of the three without the others, or the processes do not find each other.
    """
    given = [coordinator, num_processes, process_id]
    if given == [None] * 3:
        return
    if None in given:
        raise UserError(
            "--coordinator, --num-processes and --process-id belong together: give all three or none."
        )
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the processes of this run do not find each other at {coordinator}: {reason}"
        ) from error
    if not is_main():
        # What is said once is said by process 0; errors still come from whoever has them.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends


def is_main() -> bool:
    """Whether this process is the one that reports and writes files."""
    return jax.process_index() == 0
