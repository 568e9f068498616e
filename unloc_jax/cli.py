"""The `unloc` command."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unloc_jax.errors import UserError
from unloc_jax.metrics import diagnosis
from unloc_jax.metrics.protocols import PROTOCOLS

if TYPE_CHECKING:
    from unloc_jax.inference.localizer import LoadedModel
    from unloc_jax.inference.predictions import VideoPrediction

# What the extra `data` brings; training and evaluation read shards with it, prediction needs none of it.
_DATA_MODULES = ("tensorflow", "tensorflow_datasets", "google_crc32c", "importlib_resources", "PIL")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 2 for a mistake the user can mend, 130 when interrupted."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    arguments.overrides = [item.removeprefix("--config.") for item in rest if item.startswith("--config.")]
    unknown = [item for item in rest if not item.startswith("--config.")]
    if unknown or (arguments.overrides and "config" not in arguments):
        parser.error(f"unknown argument {(unknown or rest)[0]!r}; see `unloc {arguments.command} --help`")
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"unloc: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(f"unloc: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _DATA_MODULES:
            raise
        print(f"unloc: error: {error.name} is missing: pip install 'unloc_jax[data]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nunloc: interrupted; the same command goes on where it can", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unloc", description="Find moments in video with words.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str, of=commands):
        made = of.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    data = commands.add_parser("data", help="make datasets").add_subparsers(
        dest="data_command", required=True, metavar="COMMAND"
    )
    synthesize = command("synthesize", _synthesize, "write synthetic videos with annotations", data)
    synthesize.add_argument("--out", type=Path, required=True, metavar="DIR")
    for split, count in (("train", 1200), ("val", 60), ("test", 150)):
        synthesize.add_argument(
            f"--num-{split}", type=_count, default=count, metavar="N", help=f"(default {count})"
        )
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--workers", type=_count, default=None, help="processes (default: one per CPU)")

    build = command("build", _build, "video files + annotations → TFRecord shards", data)
    build.add_argument("--dataset", required=True, metavar="NAME", help="format of the annotation files")
    build.add_argument("--annotations", type=Path, nargs="+", required=True, metavar="FILE")
    frames = build.add_mutually_exclusive_group(required=True)
    frames.add_argument("--videos", metavar="DIR", help="video files, named by their ids")
    frames.add_argument("--no-frames", action="store_true", help="store annotations and --features only")
    build.add_argument("--out", required=True, metavar="DIR")
    build.add_argument("--fps", type=float, default=10.0, help="frames kept per second (default 10)")
    build.add_argument(
        "--short-side", type=_count, default=256, metavar="PX", help="of kept frames (default 256)"
    )
    build.add_argument("--jpeg-quality", type=_count, default=95, help="(default 95)")
    build.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="NAME=DIR[:KEY]",
        help="store precomputed features too: DIR/ID.npy (.npz, .h5, .pt) or one HDF5 file; repeatable",
    )
    build.add_argument(
        "--features-axis",
        action="append",
        default=[],
        metavar="[NAME=]AXIS",
        help="which axis of the features is time: 0 for [F, D] (default), 1 for [D, F]; repeatable",
    )
    build.add_argument("--workers", type=_count, default=None, help="processes (default: one per CPU)")
    build.add_argument(
        "--beam-pipeline-options",
        metavar="OPTIONS",
        help="run on Apache Beam with these, such as runner=FlinkRunner,flink_master=HOST:8081",
    )

    rebuild = command("rebuild-shard", _rebuild_shard, "make a damaged or lost shard again", data)
    rebuild.add_argument("file", type=Path, metavar="FILE", help="as the error message named it")
    rebuild.add_argument("--workers", type=_count, default=None, help="processes (default: one per CPU)")

    check = command("check", _check, "what annotation files hold and what is wrong with them", data)
    check.add_argument("--dataset", required=True, metavar="NAME", help="format of the annotation files")
    check.add_argument("--annotations", type=Path, nargs="+", required=True, metavar="FILE")
    check.add_argument("--videos", type=Path, metavar="DIR", help="open the video files as well")
    check.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    import_ = command("import", _import, "a checkpoint of another program → one of ours")
    import_.add_argument(
        "--from",
        dest="format",
        required=True,
        choices=("scenic-unloc", "hf-clip", "openai-clip", "open-clip", "scenic-clip"),
        help="who wrote it",
    )
    import_.add_argument(
        "source",
        metavar="SRC",
        help="file or folder; for hf-clip and open-clip also an id of the Hugging Face hub",
    )
    import_.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="scenic-unloc: its config: JSON, or a .py with get_config()",
    )
    import_.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="scenic-unloc: class names, one per line, for action localisation and the like",
    )
    import_.add_argument(
        "--activation", choices=("quick_gelu", "gelu"), help="of a CLIP, if no config beside it says so"
    )
    for tower in ("image", "text"):
        import_.add_argument(
            f"--{tower}-heads", type=_count, metavar="N", help="of a CLIP's attention (default: width / 64)"
        )
    import_.add_argument("--out", type=Path, required=True, metavar="DIR", help="workdir to write")

    train = command("train", _train, "train, or go on training; change settings with --config.KEY=VALUE")
    train.add_argument("--config", required=True, metavar="FILE.py[:ARG]")
    train.add_argument("--workdir", type=Path, required=True, metavar="DIR")

    text = "metrics of a checkpoint, next to controls; change settings with --config.evaluation.KEY=VALUE"
    evaluate = command("evaluate", _evaluate, text)
    evaluate.set_defaults(config=None)
    evaluate.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="a workdir or one of its steps"
    )
    evaluate.add_argument("--task", metavar="NAME", help="of a checkpoint with several (default: all)")
    evaluate.add_argument("--split", default="test", choices=("train", "validation", "test"))
    evaluate.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="if the dataset has moved since training"
    )
    evaluate.add_argument("--out", type=Path, metavar="DIR", help="(default: WORKDIR/evaluation/SPLIT)")
    evaluate.add_argument(
        "--classifier-scores",
        type=Path,
        metavar="FILE",
        help="JSON of another program's video classifier, multiplied with the scores of action localisation",
    )
    for run in (train, evaluate):
        processes = run.add_argument_group("several processes", "start the command once in each")
        processes.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
        processes.add_argument("--num-processes", type=_count, metavar="N")
        processes.add_argument("--process-id", type=int, metavar="I", help="from 0")

    metrics = command("metrics", _metrics, "official numbers of a file of predictions (docs/metrics.md)")
    metrics.add_argument(
        "--protocol", required=True, choices=PROTOCOLS, metavar="NAME", help=", ".join(PROTOCOLS)
    )
    metrics.add_argument("--ground-truth", type=Path, required=True, metavar="FILE")
    metrics.add_argument("--predictions", type=Path, required=True, metavar="FILE")
    metrics.add_argument("--out", type=Path, metavar="FILE", help="metrics.json to write")
    metrics.add_argument("--variant", metavar="NAME", help="whose definition, where there are several")
    metrics.add_argument("--subset", metavar="NAME", help="of an ActivityNet-style ground truth")
    metrics.add_argument("--blocked-videos", type=Path, metavar="FILE", help="JSON list of ids to leave out")
    metrics.add_argument(
        "--proposals", action="store_true", help="activitynet: AR@AN and AUC, without labels"
    )
    metrics.add_argument(
        "--strict", action="store_true", help="moment-retrieval: IoU > threshold instead of ≥"
    )
    metrics.add_argument("--nms", type=float, metavar="IOU", help="moment-retrieval: suppress overlaps first")
    metrics.add_argument("--background", metavar="LABEL", help='segmentation: no action; or "none"')

    diagnose = command(
        "diagnose", _diagnose, "why a file of predictions scores what it scores (docs/diagnosis.md)"
    )
    names = diagnosis.PROTOCOLS
    diagnose.add_argument("--protocol", required=True, choices=names, metavar="NAME", help=", ".join(names))
    diagnose.add_argument("--ground-truth", type=Path, required=True, metavar="FILE")
    diagnose.add_argument("--predictions", type=Path, required=True, metavar="FILE")
    diagnose.add_argument("--out", type=Path, metavar="FILE", help="report.html to write")
    diagnose.add_argument("--json", type=Path, metavar="FILE", help="numbers to write")
    diagnose.add_argument("--tiou", type=float, default=0.5, help="threshold of a hit (default 0.5)")
    diagnose.add_argument("--subset", metavar="NAME", help="of an ActivityNet-style ground truth")
    diagnose.add_argument("--blocked-videos", type=Path, metavar="FILE", help="JSON list of ids to leave out")
    diagnose.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="show which pyramid level is responsible for what"
    )
    diagnose.add_argument("--task", metavar="NAME", help="of a checkpoint with several (default: the first)")

    predict = command("predict", _predict, "where do these sentences happen in this video?")
    predict.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="a workdir or one of its steps"
    )
    predict.add_argument("--task", metavar="NAME", help="of a checkpoint with several (default: the first)")
    zeroshot = command("zeroshot", _zeroshot, "the same by CLIP alone, without any training (docs/clip.md)")
    zeroshot.add_argument(
        "--clip",
        required=True,
        metavar="DIR",
        help="as `unloc import` wrote it, or KIND:SRC as hf-clip:FOLDER",
    )
    zeroshot.add_argument("--fps", type=float, default=2.0, help="frames looked at per second (default 2)")
    zeroshot.add_argument(
        "--smoothing", type=float, default=1.0, metavar="SECONDS", help="of the relevance curve (default 1)"
    )
    for one in (predict, zeroshot):
        one.add_argument("--video", type=Path, required=True, metavar="FILE")
        one.add_argument(
            "--text", action="append", default=[], metavar="SENTENCE", help="may be given several times"
        )
        one.add_argument(
            "--out",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="report.html or result.json; repeatable",
        )
        one.add_argument(
            "--top-k",
            type=_count,
            default=5,
            metavar="K",
            help="segments per sentence on the page (default 5); the table shows up to 3, JSON all",
        )

    quickstart = command(
        "quickstart", _quickstart, "synthesize, build, train, evaluate and predict in one go"
    )
    quickstart.add_argument("--workdir", type=Path, default=Path("quickstart"), metavar="DIR")
    quickstart.add_argument(
        "--task", default="moment_retrieval", choices=("moment_retrieval", "temporal_action_localization")
    )
    return parser


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _synthesize(arguments: argparse.Namespace) -> None:
    from data_pipelines.synthesize import synthesize

    synthesize(
        arguments.out,
        num_train=arguments.num_train,
        num_val=arguments.num_val,
        num_test=arguments.num_test,
        seed=arguments.seed,
        workers=arguments.workers,
    )


def _build(arguments: argparse.Namespace) -> None:
    from data_pipelines.build import build
    from data_pipelines.builders.features import feature_sources

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
        workers=arguments.workers,
        beam_options=None if options is None else [f"--{option}" for option in options.split(",")],
    )


def _rebuild_shard(arguments: argparse.Namespace) -> None:
    from data_pipelines.rebuild_shard import rebuild_shard

    rebuild_shard(arguments.file, arguments.workers)


def _check(arguments: argparse.Namespace) -> None:
    import json

    from data_pipelines.check import check, to_text

    result = check(arguments.dataset, arguments.annotations, arguments.videos)
    print(json.dumps(result, allow_nan=False) if arguments.json else to_text(result))


def _import(arguments: argparse.Namespace) -> None:
    of_clip = {name: getattr(arguments, name) for name in ("activation", "image_heads", "text_heads")}
    of_unloc = {name: getattr(arguments, name) for name in ("config", "classes", "overrides")}
    is_clip = arguments.format != "scenic-unloc"
    for name, value in (of_unloc if is_clip else of_clip).items():
        if value:
            raise UserError(f"--{name.replace('_', '-')} does not go with --from={arguments.format}.")
    if not is_clip and not arguments.config:
        raise UserError("--config is needed: the config that the Scenic checkpoint was trained with.")
    _quiet()
    if is_clip:
        from unloc_jax.pretrained.clip_import import import_clip
        from unloc_jax.pretrained.clip_source import Options

        import_clip(arguments.format, arguments.source, arguments.out, Options(**of_clip))
        return
    from unloc_jax.pretrained.import_checkpoint import import_scenic_unloc

    import_scenic_unloc(
        Path(arguments.source),
        arguments.config,
        arguments.out,
        overrides=arguments.overrides,
        classes=arguments.classes,
    )


def _train(arguments: argparse.Namespace) -> None:
    from unloc_jax import config as config_lib

    config = config_lib.load(arguments.config, arguments.overrides)
    _quiet()
    _join_processes(arguments)
    from data_pipelines.dataset import ShardedDataset
    from unloc_jax.training.loop import train

    config = config_lib.with_absolute_paths(config)  # the checkpoint remembers them
    datasets = {name: ShardedDataset(view) for name, view in config.task_configs.items()}
    train(config, arguments.workdir, datasets)


def _join_processes(arguments: argparse.Namespace) -> None:
    from unloc_jax import processes

    processes.join(arguments.coordinator, arguments.num_processes, arguments.process_id)


def _evaluate(arguments: argparse.Namespace) -> None:
    _quiet()
    _join_processes(arguments)
    from unloc_jax.inference.localizer import load_model
    from unloc_jax.training.checkpoints import find_checkpoint, load_checkpoint

    whole, _ = load_checkpoint(find_checkpoint(arguments.checkpoint))
    for name in [arguments.task] if arguments.task else whole.task_configs:
        model = load_model(arguments.checkpoint, name, arguments.overrides)
        _evaluate_task(arguments, model, of_several=bool(whole.tasks))


def _evaluate_task(arguments: argparse.Namespace, model: "LoadedModel", of_several: bool) -> None:
    from data_pipelines.dataset import ShardedDataset
    from unloc_jax.inference.evaluation import evaluate
    from unloc_jax.training.checkpoints import workdir_of

    config = model.task.config
    if arguments.data_dir:
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, dir=str(arguments.data_dir))
        )
        model = dataclasses.replace(model, task=dataclasses.replace(model.task, config=config))
    if config.data.format == "unloc" and not (config.data.dir and Path(config.data.dir).is_dir()):
        raise UserError(f"the dataset {config.data.dir} is not there. Say where it is with --data-dir=DIR.")
    dataset = ShardedDataset(config)
    trained_on_it = dataset.facts.fingerprint == model.facts.fingerprint
    name = arguments.split if trained_on_it else f"{arguments.split}_{Path(config.data.dir).resolve().name}"
    out = arguments.out or workdir_of(model.step_dir) / "evaluation" / name
    out = out / model.task_name if of_several else out
    evaluate(model, dataset, arguments.split, out, arguments.classifier_scores)


def _metrics(arguments: argparse.Namespace) -> None:
    from unloc_jax.metrics.protocols.run import run_protocol

    options = ("variant", "subset", "blocked_videos", "proposals", "strict", "nms", "background")
    run_protocol(
        arguments.protocol,
        arguments.ground_truth,
        arguments.predictions,
        arguments.out,
        **{name: getattr(arguments, name) for name in options},
    )


def _diagnose(arguments: argparse.Namespace) -> None:
    if arguments.checkpoint:
        _quiet()
    from unloc_jax.metrics.diagnosis.run import run_diagnosis

    run_diagnosis(
        arguments.protocol,
        arguments.ground_truth,
        arguments.predictions,
        arguments.out,
        arguments.json,
        tiou=arguments.tiou,
        subset=arguments.subset,
        blocked_videos=arguments.blocked_videos,
        checkpoint=arguments.checkpoint,
        task=arguments.task,
    )


def _predict(arguments: argparse.Namespace) -> None:
    _check_places(arguments)
    _quiet()
    from unloc_jax.inference.localizer import Localizer, load_model

    localizer = Localizer(load_model(arguments.checkpoint, arguments.task))
    _show(localizer(arguments.video, arguments.text), arguments)


def _zeroshot(arguments: argparse.Namespace) -> None:
    _check_places(arguments)
    if arguments.smoothing < 0:
        raise UserError(f"--smoothing must be at least 0 seconds, got {arguments.smoothing:g}.")
    _quiet()
    from unloc_jax.inference.clip import ClipEncoder
    from unloc_jax.inference.zeroshot import zeroshot
    from unloc_jax.pretrained.clip_source import read_any_clip

    encoder = ClipEncoder(read_any_clip(arguments.clip))
    prediction = zeroshot(
        encoder, arguments.video, arguments.text, fps=arguments.fps, smoothing_s=arguments.smoothing
    )
    _show(prediction, arguments)


def _check_places(arguments: argparse.Namespace) -> None:
    """That every --out can be written, before anything is computed."""
    for out in arguments.out:
        if out.suffix not in (".html", ".json"):
            raise UserError(f"--out={out}: write a report.html or a result.json.")
        if out.is_dir():
            raise UserError(f"--out={out} is a folder: name a file in it.")
        if not os.access(out.parent, os.W_OK):
            raise UserError(f"--out={out}: the folder {out.parent} is missing or cannot be written.")


def _show(prediction: "VideoPrediction", arguments: argparse.Namespace) -> None:
    import json

    from unloc_jax.inference.predictions import terminal_table, to_json
    from unloc_jax.inference.report import write_report

    print(terminal_table(prediction, min(arguments.top_k, 3)))
    for out in arguments.out:
        if out.suffix == ".json":
            out.write_text(json.dumps(to_json(prediction), indent=1, allow_nan=False) + "\n")
        else:
            write_report(prediction, arguments.video, out, arguments.top_k)
        print(f"wrote {out}")


def _quickstart(arguments: argparse.Namespace) -> None:
    from unloc_jax.quickstart import run_quickstart

    run_quickstart(arguments.workdir, arguments.task, main)


def _quiet() -> None:
    """Libraries' notices at start-up are not for the user; TensorFlow's are handled where it is imported."""
    import logging
    import warnings

    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


if __name__ == "__main__":
    sys.exit(main())
