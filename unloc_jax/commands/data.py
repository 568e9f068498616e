"""`unloc data`: creates, repairs and checks datasets."""

import argparse
import json
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command, count
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of


def add(commands: Commands) -> None:
    data = commands.add_parser("data", help="create, repair and check datasets").add_subparsers(
        dest="data_command", required=True, metavar="COMMAND"
    )
    synthesize = add_command(data, "synthesize", _synthesize, "write synthetic videos with annotations")
    synthesize.add_argument("--out", type=Path, required=True, metavar="DIR")
    for split, videos in (("train", 1200), ("val", 60), ("test", 150)):
        synthesize.add_argument(
            f"--num-{split}", type=count, default=videos, metavar="N", help=f"(default {videos})"
        )
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument(
        "--trimmed", action="store_true", help="one event per clip, for pretraining (docs/pretraining.md)"
    )
    synthesize.add_argument("--workers", type=count, default=None, help="processes (default: one per CPU)")

    build = add_command(data, "build", _build, "video files + annotations → TFRecord shards")
    build.add_argument("--dataset", required=True, metavar="NAME", help="format of the annotation files")
    build.add_argument("--annotations", type=Path, nargs="+", required=True, metavar="FILE")
    build.add_argument("--videos", type=path_of, metavar="DIR", help="video files, named by their ids")
    build.add_argument(
        "--no-frames", action="store_true", help="store no frames: only --features, and --audio of the videos"
    )
    build.add_argument("--out", type=path_of, required=True, metavar="DIR")
    build.add_argument("--fps", type=float, default=10.0, help="frames kept per second (default 10)")
    build.add_argument(
        "--short-side",
        type=count,
        default=256,
        metavar="PX",
        help="short side of stored frames, in pixels (default 256)",
    )
    build.add_argument("--jpeg-quality", type=count, default=95, help="(default 95)")
    build.add_argument(
        "--audio",
        type=count,
        nargs="?",
        const=16000,
        default=0,
        metavar="RATE",
        help="store the sound too, RATE samples per second (16000 if left out: 115 MB per hour)",
    )
    _add_track(build)
    _add_features(build, "store precomputed features too")
    build.add_argument("--workers", type=count, default=None, help="processes (default: one per CPU)")
    build.add_argument(
        "--beam-pipeline-options",
        metavar="OPTIONS",
        help="run on Apache Beam with these options, such as runner=FlinkRunner,flink_master=HOST:8081",
    )

    rebuild = add_command(data, "rebuild-shard", _rebuild_shard, "make a damaged or lost shard again")
    rebuild.add_argument("file", type=Path, metavar="FILE", help="the shard that the error message named")
    rebuild.add_argument("--workers", type=count, default=None, help="processes (default: one per CPU)")

    check = add_command(data, "check", _check, "what annotation files hold and what is wrong with them")
    check.add_argument("--dataset", required=True, metavar="NAME", help="format of the annotation files")
    check.add_argument("--annotations", type=Path, nargs="+", required=True, metavar="FILE")
    check.add_argument("--videos", type=Path, metavar="DIR", help="open the video files as well")
    check.add_argument(
        "--audio",
        action="store_true",
        help="read the sound too; begin with a model of sound instead of frames",
    )
    _add_track(check)
    _add_features(check, "begin with a model of precomputed features instead of frames")
    check.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    listed = add_command(data, "list", _list, "the datasets that can be read, and what is known of each")
    listed.add_argument(
        "names", nargs="*", metavar="NAME", help="datasets or formats to tell everything about"
    )
    listed.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _add_track(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--audio-track",
        type=int,
        metavar="N",
        help="the sound track of files with several, from 0 (default: the one that a player plays)",
    )


def _add_features(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--features",
        type=path_of,
        action="append",
        default=[],
        metavar="NAME=DIR[:KEY]",
        help=f"{what}: DIR/ID.npy (.npz, .h5, .pt) or one HDF5 file; repeatable",
    )
    command.add_argument(
        "--features-axis",
        action="append",
        default=[],
        metavar="[NAME=]AXIS",
        help="time axis of the features: 0 for [F, D] (default), 1 for [D, F]; repeatable",
    )


def _synthesize(arguments: argparse.Namespace) -> None:
    from data_pipelines.synthetic.synthesize import synthesize

    synthesize(
        arguments.out,
        num_train=arguments.num_train,
        num_val=arguments.num_val,
        num_test=arguments.num_test,
        seed=arguments.seed,
        trimmed=arguments.trimmed,
        workers=arguments.workers,
    )


def _build(arguments: argparse.Namespace) -> None:
    from data_pipelines.build import build
    from data_pipelines.builders.feature_files import feature_sources

    if arguments.videos is None and not arguments.no_frames:
        raise UserError("Give --videos DIR, or --no-frames for a dataset of features alone.")
    options = arguments.beam_pipeline_options
    build(
        arguments.dataset,
        arguments.annotations,
        arguments.videos,
        arguments.out,
        fps=arguments.fps,
        short_side=arguments.short_side,
        jpeg_quality=arguments.jpeg_quality,
        features=feature_sources(arguments.features, arguments.features_axis),
        sound_rate=arguments.audio,
        sound_track=arguments.audio_track,
        with_frames=not arguments.no_frames,
        workers=arguments.workers,
        beam_options=None if options is None else [f"--{option}" for option in options.split(",")],
    )


def _rebuild_shard(arguments: argparse.Namespace) -> None:
    from data_pipelines.rebuild_shard import rebuild_shard

    rebuild_shard(arguments.file, arguments.workers)


def _check(arguments: argparse.Namespace) -> None:
    from data_pipelines.check import check, to_text

    result = check(
        arguments.dataset,
        arguments.annotations,
        arguments.videos,
        features=arguments.features,
        features_axis=arguments.features_axis,
        sound=arguments.audio,
        sound_track=arguments.audio_track,
    )
    show(json.dumps(result, allow_nan=False) if arguments.json else to_text(result))


def _list(arguments: argparse.Namespace) -> None:
    from data_pipelines.annotations.catalogue import named
    from data_pipelines.annotations.catalogue_text import details, facts, table

    found = named(arguments.names)
    if arguments.json:
        show(
            json.dumps({of.name: {**facts(of), "commands": of.commands} for of in found}, ensure_ascii=False)
        )
    else:
        show("\n\n".join(map(details, found)) if arguments.names else table())
