"""`unloc predict`."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command, quiet
from unloc_jax.commands.prediction import add_prediction_flags, check_places, show, texts_of
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
        help="for a model trained on features: the CLIP of `unloc features` (default: its former location)",
    )
    add_prediction_flags(parser)


def _run(arguments: argparse.Namespace) -> None:
    check_places(arguments)
    texts = texts_of(arguments)
    quiet()
    from unloc_jax.inference.loaded_model import load_model
    from unloc_jax.inference.localizer import Localizer

    localizer = Localizer(load_model(arguments.checkpoint, arguments.task), clip=arguments.clip)
    show(localizer(arguments.video, texts), arguments)
