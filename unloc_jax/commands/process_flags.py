"""Flags of commands that several processes can run together."""

import argparse

from unloc_jax.commands.common import count


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    processes = parser.add_argument_group("several processes", "start the command once in each")
    processes.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    processes.add_argument("--num-processes", type=count, metavar="N")
    processes.add_argument("--process-id", type=int, metavar="I", help="from 0")


def join_processes(arguments: argparse.Namespace) -> None:
    """See `unloc_jax.processes.join`."""
    from unloc_jax import processes

    processes.join(arguments.coordinator, arguments.num_processes, arguments.process_id)
