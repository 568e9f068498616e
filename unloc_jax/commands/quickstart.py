"""`unloc quickstart`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command
from unloc_jax.quickstart import SETUPS, run_quickstart


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "quickstart", _run, "synthesize, build, train, evaluate and predict in one go"
    )
    parser.add_argument("--workdir", type=Path, default=Path("quickstart"), metavar="DIR")
    parser.add_argument("--task", default=next(iter(SETUPS)), choices=tuple(SETUPS))


def _run(arguments: argparse.Namespace) -> None:
    run_quickstart(arguments.workdir, arguments.task, arguments.main)
