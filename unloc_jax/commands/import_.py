"""`unloc import`: converts checkpoints of other programs."""

import argparse
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command, count, quiet
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of


def add(commands: Commands) -> None:
    parser = add_command(commands, "import", _run, "a checkpoint of another program → one of ours")
    parser.add_argument(
        "--from",
        dest="format",
        required=True,
        choices=("scenic-unloc", "hf-clip", "openai-clip", "open-clip", "scenic-clip", "videoprism"),
        help="the program that wrote it",
    )
    parser.add_argument(
        "source",
        type=path_of,
        metavar="SRC",
        help="file or folder; for hf-clip, open-clip and videoprism also an id of the Hugging Face hub",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="scenic-unloc: its config: JSON, or a .py with get_config()",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="scenic-unloc: class names, one per line, for action localisation and the like",
    )
    parser.add_argument(
        "--activation",
        choices=("quick_gelu", "gelu", "gelu_pytorch_tanh"),
        help="activation of a CLIP, if it has no config that names it",
    )
    for tower in ("image", "text"):
        parser.add_argument(
            f"--{tower}-heads",
            type=count,
            metavar="N",
            help="attention heads of a CLIP (default: width / 64)",
        )
    parser.add_argument(
        "--sentencepiece",
        type=path_of,
        metavar="FILE",
        help="videoprism: vocabulary of its texts (default: sentencepiece.model beside the weights)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="workdir to write")


def _run(arguments: argparse.Namespace) -> None:
    of_clip = {name: getattr(arguments, name) for name in ("activation", "image_heads", "text_heads")}
    of_unloc = {name: getattr(arguments, name) for name in ("config", "classes", "overrides")}
    of_videoprism = {"sentencepiece": arguments.sentencepiece}
    mine = {"scenic-unloc": of_unloc, "videoprism": of_videoprism}.get(arguments.format, of_clip)
    for name, value in (of_unloc | of_clip | of_videoprism).items():
        if value and name not in mine:
            raise UserError(f"--{name.replace('_', '-')} does not go with --from={arguments.format}.")
    if mine is of_unloc and not arguments.config:
        raise UserError("--config is needed: the config that the Scenic checkpoint was trained with.")
    quiet()
    if mine is of_videoprism:
        from unloc_jax.pretrained.videoprism_towers import import_videoprism

        import_videoprism(arguments.source, arguments.out, arguments.sentencepiece)
        return
    if mine is of_clip:
        from unloc_jax.pretrained.clip_import import import_clip
        from unloc_jax.pretrained.clip_source import Options

        import_clip(arguments.format, arguments.source, arguments.out, Options(**of_clip))
        return
    from unloc_jax.training.import_checkpoint import import_scenic_unloc

    import_scenic_unloc(
        Path(arguments.source),
        arguments.config,
        arguments.out,
        overrides=arguments.overrides,
        classes=arguments.classes,
    )
