"""`unloc features`."""

import argparse
import os
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command, count, quiet
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of


def add(commands: Commands) -> None:
    parser = add_command(commands, "features", _run, "video files → features, to train on (docs/features.md)")
    parser.add_argument(
        "--encoder",
        "--clip",
        type=path_of,
        required=True,
        metavar="SRC",
        help="siglip2:SRC, pe:SRC, videoprism:SRC, clap:SRC (of sound), or a CLIP: a folder of `unloc import`, or "
        "KIND:SRC such as hf-clip:FOLDER",
    )
    parser.add_argument(
        "--videos", type=Path, required=True, metavar="DIR", help="video files, or sound files"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for an .npz per video")
    parser.add_argument(
        "--fps", type=float, default=2.0, help="frames, or windows of sound, per second (default 2)"
    )
    parser.add_argument(
        "--window", type=float, metavar="SECONDS", help="length of CLAP's windows of sound (default 2)"
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="dtype of the computation (default float32)",
    )
    parser.add_argument(
        "--stored-as", default="float32", choices=("float32", "float16"), help="(default float32)"
    )
    parser.add_argument("--batch-size", type=count, default=32, metavar="N", help="frames (default 32)")
    parser.add_argument(
        "--decoders", type=count, default=None, metavar="N", help="threads (default: one per CPU)"
    )
    shards = parser.add_argument_group("also write shards", "all three, or none")
    shards.add_argument("--dataset", metavar="NAME", help="format of the annotation files")
    shards.add_argument("--annotations", type=Path, nargs="+", metavar="FILE", help="only their videos")
    shards.add_argument(
        "--shards", type=path_of, metavar="DIR", help="folder for a dataset with these features"
    )
    processes = parser.add_argument_group("several processes", "each does its share of the videos")
    processes.add_argument("--num-processes", type=count, default=1, metavar="N")
    processes.add_argument("--process-id", type=int, default=0, metavar="I", help="from 0")


def _run(arguments: argparse.Namespace) -> None:
    _check(arguments)
    quiet()
    import jax.numpy as jnp

    from data_pipelines.annotations import parse
    from data_pipelines.build import build, check_out
    from data_pipelines.builders.feature_files import FeatureSource
    from data_pipelines.extract_features import (
        Extraction,
        Share,
        extract_features,
        other_entries,
        videos_in,
        videos_of,
    )
    from unloc_jax.features.families import absolute, family_of, open_encoder

    family = family_of(arguments.encoder)
    missing: list[str] = []
    if arguments.annotations:
        records = parse(arguments.dataset, arguments.annotations).records
        videos, missing = videos_of(
            arguments.videos, [record.video_id for record in records], with_sounds=family.hears
        )
    else:
        videos = videos_in(arguments.videos, with_sounds=family.hears)
    features = [FeatureSource(family.modality, arguments.out)]
    if arguments.shards:
        check_out(arguments.dataset, arguments.annotations, arguments.shards, features)
    encoder = open_encoder(arguments.encoder, jnp.dtype(arguments.dtype), arguments.batch_size)
    if arguments.window is not None:
        encoder.use_window(arguments.window)
    extract_features(
        Extraction(
            encoder,
            absolute(arguments.encoder),
            arguments.fps,
            arguments.stored_as,
        ),
        videos,
        arguments.out,
        folder=arguments.videos,
        missing=missing,
        others=other_entries(videos, arguments.videos),
        share=Share(arguments.process_id, arguments.num_processes),
        decoders=arguments.decoders,
    )
    if arguments.shards:
        build(arguments.dataset, arguments.annotations, None, arguments.shards, features=features)


def _check(arguments: argparse.Namespace) -> None:
    """Checks the flags before hours of work."""
    from unloc_jax.video import check_fps

    check_fps(arguments.fps)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"--out={arguments.out} is a file: name a folder for the features.")
    if arguments.shards and os.path.exists(arguments.shards) and not os.path.isdir(arguments.shards):
        raise UserError(f"--shards={arguments.shards} is a file: name a folder for the dataset.")
    given = [bool(arguments.dataset), bool(arguments.annotations), bool(arguments.shards)]
    if any(given) and not all(given):
        raise UserError("--dataset, --annotations and --shards belong together: give all three or none.")
    if not 0 <= arguments.process_id < arguments.num_processes:
        raise UserError(
            f"--process-id={arguments.process_id}: {arguments.num_processes} processes are numbered from 0 to "
            f"{arguments.num_processes - 1}."
        )
    if arguments.shards and arguments.num_processes > 1:
        from unloc_jax.features.families import family_of

        modality = family_of(arguments.encoder).modality
        raise UserError(
            "--shards needs the features of all videos: leave it out, and when all processes have finished run "
            f"`unloc data build --no-frames --features {modality}={arguments.out}`."
        )
    if arguments.shards:
        from data_pipelines.quiet_tensorflow import import_tfds

        import_tfds()  # reports a missing installation before hours of embedding
