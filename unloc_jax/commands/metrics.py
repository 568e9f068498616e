"""`unloc metrics`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command
from unloc_jax.commands.ground_truth import add_ground_truth, read_ground_truth
from unloc_jax.metrics.protocols import PROTOCOLS
from unloc_jax.metrics.protocols.presets import PRESETS, chosen

_OPTIONS = (
    *("variant", "blocked_videos", "proposals", "strict", "nms", "tiou", "top", "threshold", "answers"),
    "background",
)


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "metrics", _run, "official numbers of a file of predictions (docs/metrics.md)"
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help=f"{', '.join(PROTOCOLS)}; or of a dataset: {', '.join(PRESETS)} (default: that of --dataset)",
    )
    add_ground_truth(parser)
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="FILE", help="metrics.json to write")
    parser.add_argument("--variant", metavar="NAME", help="definition to use, if the protocol has several")
    parser.add_argument("--blocked-videos", type=Path, metavar="FILE", help="JSON list of ids to leave out")
    parser.add_argument("--proposals", action="store_true", help="activitynet: AR@AN and AUC, without labels")
    parser.add_argument(
        "--strict", action="store_true", help="moment-retrieval: IoU > threshold instead of ≥"
    )
    parser.add_argument("--nms", type=float, metavar="IOU", help="moment-retrieval: suppress overlaps first")
    parser.add_argument(
        "--tiou",
        metavar="LIST",
        help="activitynet, thumos14, moment-retrieval: thresholds, 0.1:0.1:0.5 or 0.3,0.5,0.7",
    )
    parser.add_argument("--top", metavar="LIST", help="moment-retrieval: k of R@k, 1,5,10")
    parser.add_argument("--threshold", type=float, help="gmr: score above which a query is taken as present")
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="nextgqa: JSON of answers to the questions"
    )
    parser.add_argument("--background", metavar="LABEL", help='segmentation: no action; or "none"')


def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax.metrics.protocols.run import run_protocol

    protocol = chosen(arguments.protocol, arguments.dataset)
    ground_truth, subset = read_ground_truth(arguments, protocol)
    run_protocol(
        protocol,
        ground_truth,
        arguments.predictions,
        arguments.out,
        subset=subset,
        **{name: getattr(arguments, name) for name in _OPTIONS},
    )
