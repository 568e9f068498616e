"""`unloc zeroshot`."""

import argparse

from unloc_jax.commands.common import Commands, add_command, quiet
from unloc_jax.commands.prediction import add_prediction_flags, check_places, show
from unloc_jax.errors import UserError


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "zeroshot", _run, "the same by CLIP alone, without any training (docs/clip.md)"
    )
    parser.add_argument(
        "--clip",
        required=True,
        metavar="DIR",
        help="as `unloc import` wrote it, or KIND:SRC as hf-clip:FOLDER",
    )
    parser.add_argument("--fps", type=float, default=2.0, help="frames looked at per second (default 2)")
    parser.add_argument(
        "--smoothing", type=float, default=1.0, metavar="SECONDS", help="of the relevance curve (default 1)"
    )
    add_prediction_flags(parser)


def _run(arguments: argparse.Namespace) -> None:
    check_places(arguments)
    if arguments.smoothing < 0:
        raise UserError(f"--smoothing must be at least 0 seconds, got {arguments.smoothing:g}.")
    quiet()
    from unloc_jax.inference.clip import ClipEncoder
    from unloc_jax.inference.zeroshot import zeroshot
    from unloc_jax.pretrained.clip_source import read_any_clip

    encoder = ClipEncoder(read_any_clip(arguments.clip))
    prediction = zeroshot(
        encoder, arguments.video, arguments.text, fps=arguments.fps, smoothing_s=arguments.smoothing
    )
    show(prediction, arguments)
