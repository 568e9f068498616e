"""`unloc diagnose`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command, quiet
from unloc_jax.commands.ground_truth import add_ground_truth, read_ground_truth
from unloc_jax.metrics import diagnosis
from unloc_jax.metrics.protocols.presets import chosen


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "diagnose", _run, "why a file of predictions scores what it scores (docs/diagnosis.md)"
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help=f"{', '.join(diagnosis.PROTOCOLS)}, or of a dataset, as for `unloc metrics` (default: that of --dataset)",
    )
    add_ground_truth(parser)
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="FILE", help="report.html to write")
    parser.add_argument("--json", type=Path, metavar="FILE", help="numbers to write")
    parser.add_argument("--tiou", type=float, default=0.5, help="threshold of a hit (default 0.5)")
    parser.add_argument("--blocked-videos", type=Path, metavar="FILE", help="JSON list of ids to leave out")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="show which pyramid level is responsible for which segments",
    )
    parser.add_argument(
        "--task", metavar="NAME", help="task of a checkpoint with several (default: the first)"
    )


def _run(arguments: argparse.Namespace) -> None:
    if arguments.checkpoint:
        quiet()
    from unloc_jax.metrics.diagnosis.run import run_diagnosis

    protocol = chosen(arguments.protocol, arguments.dataset)
    ground_truth, subset = read_ground_truth(arguments, protocol)
    run_diagnosis(
        protocol,
        ground_truth,
        arguments.predictions,
        arguments.out,
        arguments.json,
        tiou=arguments.tiou,
        subset=subset,
        blocked_videos=arguments.blocked_videos,
        checkpoint=arguments.checkpoint,
        task=arguments.task,
    )
