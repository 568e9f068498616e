"""`unloc merge`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "merge", _run, "one file of the predictions of several checkpoints (docs/metrics.md)"
    )
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="file to write, of the same format"
    )
    parser.add_argument("--weights", metavar="LIST", help="of the files, such as 2,1 (default: equal)")
    parser.add_argument(
        "--iou", type=float, default=0.7, help="tIoU from which segments of two files are one (default 0.7)"
    )
    parser.add_argument(
        "--thresholds", type=Path, metavar="FILE", help="JSON of classes and their least scores, for actions"
    )


def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax.metrics.protocols.merge import merge

    merge(
        arguments.predictions,
        arguments.out,
        weights=arguments.weights,
        iou=arguments.iou,
        thresholds=arguments.thresholds,
    )
