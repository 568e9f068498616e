"""`unloc average`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "average", _run, "mean of the metrics of several splits or runs (docs/metrics.md)"
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="what --out of `unloc metrics` writes, or metrics.json",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON to write")


def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax.metrics.protocols.average import average

    average(arguments.files, arguments.out)
