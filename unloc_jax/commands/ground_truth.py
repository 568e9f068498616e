"""`--ground-truth`, `--dataset` and `--subset`, which `unloc metrics` and `unloc diagnose` share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unloc_jax.metrics.protocols.annotated import Annotated


def add_ground_truth(parser: argparse.ArgumentParser) -> None:
    """Adds the three flags to a command."""
    parser.add_argument(
        "--ground-truth",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="files of the protocol; or your own CSV or JSON Lines, or a folder of `unloc data build`",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="format of the ground truth, as for `unloc data build` (docs/annotations.md); default: the protocol's",
    )
    parser.add_argument(
        "--subset",
        "--split",
        metavar="NAME",
        help="subset of an ActivityNet-style ground truth, of your own data or of shards",
    )


def read_ground_truth(arguments: argparse.Namespace, protocol: str) -> tuple["Path | Annotated", str | None]:
    """Returns the ground truth that the protocol uses, and which subset of it (`data_pipelines.ground_truth`)."""
    from data_pipelines.ground_truth import read_ground_truth as read

    return read(protocol, arguments.ground_truth, arguments.subset, arguments.dataset)
