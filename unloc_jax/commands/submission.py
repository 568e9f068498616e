"""`unloc submission`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "submission", _run, "predictions in the format of a challenge's server (docs/metrics.md)"
    )
    parser.add_argument(
        "--challenge",
        required=True,
        metavar="NAME",
        help="activitynet, ego4d-mq, ego4d-nlq, epic-kitchens or qvhighlights",
    )
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--classes",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="epic-kitchens: EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv",
    )
    parser.add_argument(
        "--levels", metavar="LIST", help="epic-kitchens: levels of supervision, such as 2,4,4"
    )


def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax.metrics.protocols.submissions import write_submission

    write_submission(
        arguments.challenge,
        arguments.predictions,
        arguments.out,
        classes=arguments.classes,
        levels=arguments.levels,
    )
