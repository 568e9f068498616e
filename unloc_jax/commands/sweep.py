"""`unloc sweep`."""

import argparse
import shlex
import sys
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command, count
from unloc_jax.console import show


def add(commands: Commands) -> None:
    text = (
        "train and evaluate a list of config changes with several seeds; a table and a plot (docs/sweeps.md)"
    )
    parser = add_command(commands, "sweep", _run, text)
    parser.add_argument("file", type=Path, metavar="FILE.toml", help="the changes, seeds and metrics")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="runs, results.json, table, plot"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="of every row, instead of those of the file"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--at-once", type=count, default=1, metavar="N", help="runs that share the processors (default 1)"
    )
    where.add_argument("--gpus", metavar="0,1,…", help="one run at once on each of these GPUs")
    where.add_argument(
        "--table", action="store_true", help="run nothing: print the table of what has finished"
    )


def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax.sweep.description import read_sweep
    from unloc_jax.sweep.run import places_of, run_sweep

    sweep = read_sweep(arguments.file, arguments.seeds)
    devices = arguments.gpus.split(",") if arguments.gpus else ()
    places = [] if arguments.table else places_of(arguments.at_once, devices)
    show(run_sweep(sweep, arguments.out, places, shlex.join(["unloc", *sys.argv[1:]])))
