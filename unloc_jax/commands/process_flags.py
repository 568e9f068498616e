"""Flags of commands that several processes can run together."""

import argparse
import contextlib
from collections.abc import Iterator

from unloc_jax.commands.common import count


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    processes = parser.add_argument_group(
        "several processes", "found by themselves on Cloud TPUs and under SLURM, JobSet and SkyPilot"
    )
    processes.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    processes.add_argument("--num-processes", type=count, metavar="N")
    processes.add_argument("--process-id", type=int, metavar="I", help="from 0")
    processes.add_argument(
        "--single-process", action="store_true", help="run alone, whatever SLURM, Kubernetes or SkyPilot set"
    )


@contextlib.contextmanager
def joined_processes(arguments: argparse.Namespace) -> Iterator[None]:
    """Joins the run's processes for the duration of the context; they end together.

    See `unloc_jax.processes.join` and `unloc_jax.training.process_failures.ending_together`.
    """
    from unloc_jax import processes
    from unloc_jax.training.process_failures import ending_together

    processes.join(
        arguments.coordinator,
        arguments.num_processes,
        arguments.process_id,
        single_process=arguments.single_process,
    )
    with ending_together():
        yield
