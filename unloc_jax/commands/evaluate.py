"""`unloc evaluate`."""

import argparse
import dataclasses
from pathlib import Path

from unloc_jax import sigterm
from unloc_jax.commands.common import Commands, add_command, quiet
from unloc_jax.commands.process_flags import add_process_flags, joined_processes
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of

_OF_ZEROSHOT = ("fps", "smoothing", "prompt", "tokenizer")


def add(commands: Commands) -> None:
    text = "metrics of a checkpoint, next to controls; change settings with --config.evaluation.KEY=VALUE"
    parser = add_command(commands, "evaluate", _run, text)
    parser.set_defaults(config=None)
    measured = parser.add_mutually_exclusive_group(required=True)
    measured.add_argument("--checkpoint", type=Path, metavar="DIR", help="a workdir or one of its steps")
    measured.add_argument(
        "--zeroshot-clip",
        type=path_of,
        metavar="DIR",
        help="an encoder without any training, the baseline (docs/clip.md): a CLIP in a folder of `unloc import`, or "
        "KIND:SRC such as siglip2:google/siglip2-base-patch16-224, or clap:SRC for a dataset with sound",
    )
    parser.add_argument("--task", metavar="NAME", help="task of a checkpoint with several (default: all)")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument(
        "--data-dir",
        "--dataset",
        type=Path,
        metavar="DIR",
        help="if the dataset has moved since training, or is another one",
    )
    parser.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help="other classes than the model's, one per line"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="(default: WORKDIR/evaluation/SPLIT, or zeroshot/DATASET/SPLIT)",
    )
    parser.add_argument(
        "--classifier-scores",
        type=Path,
        metavar="FILE",
        help="JSON of another program's video classifier, multiplied with the scores of action localisation",
    )
    parser.add_argument(
        "--tiou",
        metavar="LIST",
        help="thresholds of action localisation's mAP, 0.1:0.1:0.5 or 0.3,0.5 (config.evaluation.tiou)",
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="report the numbers of this protocol of `unloc metrics` besides (default: the dataset's, if it has one)",
    )
    zeroshot = parser.add_argument_group("--zeroshot-clip")
    zeroshot.add_argument("--fps", type=float, help="frames embedded per second (default 2)")
    zeroshot.add_argument(
        "--smoothing",
        type=float,
        metavar="SECONDS",
        help="standard deviation of the curve's smoothing (default 1)",
    )
    zeroshot.add_argument(
        "--tokenizer",
        "--sentencepiece",
        type=path_of,
        metavar="FILE",
        help="vocabulary of SigLIP 2, CLAP or VideoPrism, or an id of the hub (default: tokenizer.json or "
        "sentencepiece.model beside the weights)",
    )
    zeroshot.add_argument(
        "--prompt",
        action="append",
        metavar="TEMPLATE",
        help='around every text; repeatable (default "a video of {}." for classes, nothing for sentences)',
    )
    add_process_flags(parser)


@sigterm.remembered()
def _run(arguments: argparse.Namespace) -> None:
    vocabulary = []
    if arguments.vocabulary:
        from unloc_jax.inference.texts import read_texts

        vocabulary = read_texts(arguments.vocabulary)
    quiet()
    if arguments.zeroshot_clip:
        _evaluate_clip(arguments, vocabulary)
        return
    for name in _OF_ZEROSHOT:
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} belongs to --zeroshot-clip.")
    with joined_processes(arguments):
        _evaluate_checkpoint(arguments, vocabulary)


def _evaluate_checkpoint(arguments: argparse.Namespace, vocabulary: list[str]) -> None:
    from unloc_jax.evaluation.evaluate import output_folders
    from unloc_jax.programs import checked_evaluation
    from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint
    from unloc_jax.training.preemption import Preemption

    settings = [f"evaluation.tiou={arguments.tiou!r}"] if arguments.tiou else []
    whole, _ = load_checkpoint(find_checkpoint(arguments.checkpoint))
    with Preemption() as preemption:
        work = {}
        for name in (
            [arguments.task] if arguments.task else whole.task_configs
        ):  # all are checked before any works
            out, run = checked_evaluation(
                arguments.checkpoint,
                arguments.split,
                task=name,
                data_dir=arguments.data_dir,
                vocabulary=vocabulary,
                vocabulary_name=arguments.vocabulary.stem if vocabulary else "",
                out=arguments.out,
                classifier_scores=arguments.classifier_scores,
                protocol=arguments.protocol,
                settings=[*arguments.overrides, *settings],
                preemption=preemption,
            )
            work[out] = run
        with output_folders(list(work)):
            for run in work.values():
                show(run())


def _evaluate_clip(arguments: argparse.Namespace, vocabulary: list[str]) -> None:
    if arguments.overrides:
        raise UserError(f"--config.{arguments.overrides[0]} belongs to --checkpoint.")
    if arguments.coordinator or arguments.num_processes:
        raise UserError("--zeroshot-clip runs in one process.")
    if arguments.data_dir is None:
        raise UserError("--dataset is needed: a folder that `unloc data build` wrote.")
    from data_pipelines.reading.built import find_dataset
    from data_pipelines.reading.record_index import iterate_records
    from data_pipelines.reading.shards import UnlocShards
    from unloc_jax.evaluation.evaluate import evaluate
    from unloc_jax.evaluation.zeroshot_predictor import ClipPredictor
    from unloc_jax.features.families import open_encoder
    from unloc_jax.tasks import TASKS
    from unloc_jax.training.preemption import Preemption

    if arguments.task not in (None, *TASKS):
        raise UserError(f"--task={arguments.task}: the tasks are {', '.join(TASKS)}.")
    directory = arguments.data_dir
    preemption = Preemption()
    dataset = UnlocShards(str(directory))
    predictor = ClipPredictor(
        open_encoder(arguments.zeroshot_clip, vocabulary=arguments.tokenizer),
        dataset,
        str(directory),
        lambda split: preemption.watched(
            iterate_records(find_dataset(str(directory)), split, with_frames=True)
        ),
        task=arguments.task,
        vocabulary=vocabulary,
        prompts=arguments.prompt or (),
        fps=2.0 if arguments.fps is None else arguments.fps,
        smoothing_s=1.0 if arguments.smoothing is None else arguments.smoothing,
    )
    if arguments.tiou:
        config = predictor.task.config
        evaluation = dataclasses.replace(config.evaluation, tiou=arguments.tiou)
        config = dataclasses.replace(config, evaluation=evaluation)
        predictor.task.check_config(config, "config")
        predictor.task = dataclasses.replace(predictor.task, config=config)
    out = arguments.out or Path("zeroshot") / directory.resolve().name / arguments.split
    show(evaluate(predictor, arguments.split, out, arguments.classifier_scores, arguments.protocol))
