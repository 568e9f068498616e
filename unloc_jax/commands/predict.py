"""`unloc predict`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command, quiet
from unloc_jax.commands.prediction import add_prediction_flags, check_places, present, texts_of
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of


def add(commands: Commands) -> None:
    parser = add_command(commands, "predict", _run, "where do these sentences happen in this video?")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="a workdir or one of its steps"
    )
    parser.add_argument(
        "--task", metavar="NAME", help="task of a checkpoint with several (default: the first)"
    )
    parser.add_argument(
        "--clip",
        type=path_of,
        metavar="SRC",
        help="for a model trained on features: the encoder of `unloc features` (default: its former location)",
    )
    parser.add_argument(
        "--features",
        type=path_of,
        action="append",
        default=[],
        metavar="NAME=FILE[:KEY]",
        help="for a model trained on features: those of the video (.npy, .npz, .h5, .pt); repeatable",
    )
    parser.add_argument(
        "--duration",
        type=float,
        metavar="SECONDS",
        help="length of the video of --features, if neither they nor --video have it",
    )
    add_prediction_flags(parser, video_required=False)


def _run(arguments: argparse.Namespace) -> None:
    features = _features(arguments)
    check_places(arguments)
    texts = texts_of(arguments)
    quiet()
    from unloc_jax.inference.loaded_model import load_model
    from unloc_jax.inference.localizer import Localizer

    localizer = Localizer(load_model(arguments.checkpoint, arguments.task), clip=arguments.clip)
    if not features:
        present(localizer(arguments.video, texts, audio_track=arguments.audio_track), arguments)
        return
    embedded = localizer.embed_features(
        features, video=arguments.video, duration_s=arguments.duration, audio_track=arguments.audio_track
    )
    present(localizer(embedded, texts), arguments)


def _features(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the files of --features by name.

    Raises:
      UserError: one has another form or occurs twice, or there is no input.
    """
    features: dict[str, str] = {}
    for text in arguments.features:
        name, separator, file = text.partition("=")
        if not (name and separator and file):
            raise UserError(f"--features {text}: write NAME=FILE, such as clip=features/video.npy.")
        if name in features:
            raise UserError(f"--features {text}: there are already features named {name}.")
        features[name] = file
    if not features and arguments.video is None:
        raise UserError("nothing to look at: give --video FILE, or --features NAME=FILE.")
    if not features and arguments.duration is not None:
        raise UserError("--duration is for --features; a video has its own.")
    if features and arguments.clip is not None:
        raise UserError("--clip computes features of --video; with --features leave it out.")
    return features
