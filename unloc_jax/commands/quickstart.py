"""`unloc quickstart`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "quickstart", _run, "synthesize, build, train, evaluate and predict in one go"
    )
    parser.add_argument("--workdir", type=Path, default=Path("quickstart"), metavar="DIR")
    parser.add_argument(
        "--task", default="moment_retrieval", choices=("moment_retrieval", "temporal_action_localization")
    )


def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax.quickstart import run_quickstart

    run_quickstart(arguments.workdir, arguments.task, arguments.main)
