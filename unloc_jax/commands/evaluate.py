"""`unloc evaluate`."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from unloc_jax.commands.common import Commands, add_command, quiet
from unloc_jax.commands.process_flags import add_process_flags, join_processes
from unloc_jax.errors import UserError

if TYPE_CHECKING:
    from unloc_jax.inference.loaded_model import LoadedModel


def add(commands: Commands) -> None:
    text = "metrics of a checkpoint, next to controls; change settings with --config.evaluation.KEY=VALUE"
    parser = add_command(commands, "evaluate", _run, text)
    parser.set_defaults(config=None)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="a workdir or one of its steps"
    )
    parser.add_argument("--task", metavar="NAME", help="of a checkpoint with several (default: all)")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="if the dataset has moved since training"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: WORKDIR/evaluation/SPLIT)")
    parser.add_argument(
        "--classifier-scores",
        type=Path,
        metavar="FILE",
        help="JSON of another program's video classifier, multiplied with the scores of action localisation",
    )
    add_process_flags(parser)


def _run(arguments: argparse.Namespace) -> None:
    quiet()
    join_processes(arguments)
    from unloc_jax.inference.loaded_model import load_model
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
