"""`unloc zeroshot`."""

import argparse

from unloc_jax.commands.common import Commands, add_command, quiet
from unloc_jax.commands.prediction import add_prediction_flags, check_places, present, texts_of
from unloc_jax.paths import path_of


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "zeroshot",
        _run,
        "the same by an encoder alone, such as CLIP, without any training (docs/clip.md)",
    )
    parser.add_argument(
        "--clip",
        type=path_of,
        required=True,
        metavar="SRC",
        help="a CLIP in a folder of `unloc import`, or KIND:SRC: hf-clip:FOLDER, siglip2:SRC, pe:SRC, videoprism:SRC, "
        "clap:SRC (by sound)",
    )
    parser.add_argument(
        "--tokenizer",
        "--sentencepiece",
        type=path_of,
        metavar="FILE",
        help="vocabulary of SigLIP 2, CLAP or VideoPrism, or an id of the hub (default: tokenizer.json or "
        "sentencepiece.model beside the weights)",
    )
    parser.add_argument("--fps", type=float, default=2.0, help="frames embedded per second (default 2)")
    parser.add_argument(
        "--smoothing",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="standard deviation of the curve's smoothing (default 1)",
    )
    add_prediction_flags(parser)


def _run(arguments: argparse.Namespace) -> None:
    check_places(arguments)
    texts = texts_of(arguments)
    quiet()
    from unloc_jax.features.families import open_encoder
    from unloc_jax.inference.zeroshot import ZeroShotLocalizer, check_settings

    check_settings(arguments.fps, arguments.smoothing)  # before anything is read
    encoder = open_encoder(arguments.clip, vocabulary=arguments.tokenizer)
    localizer = ZeroShotLocalizer(encoder, fps=arguments.fps, smoothing_s=arguments.smoothing)
    present(localizer(arguments.video, texts, audio_track=arguments.audio_track), arguments)
