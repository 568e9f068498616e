"""`unloc train`."""

import argparse
from pathlib import Path

from unloc_jax import sigterm
from unloc_jax.commands.common import Commands, add_command, quiet
from unloc_jax.commands.process_flags import add_process_flags, joined_processes
from unloc_jax.paths import path_of


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "train", _run, "train, or continue training; change settings with --config.KEY=VALUE"
    )
    parser.add_argument("--config", type=path_of, required=True, metavar="FILE.py[:ARG]")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR")
    add_process_flags(parser)


@sigterm.remembered()
def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax import config as config_lib

    config = config_lib.load(arguments.config, arguments.overrides)
    quiet()
    with joined_processes(arguments):
        from data_pipelines.reading.dataset import ShardedDataset
        from unloc_jax.training.loop import train

        config = config_lib.with_absolute_paths(config)  # the checkpoint stores them
        datasets = {name: ShardedDataset(view) for name, view in config.task_configs.items()}
        train(config, arguments.workdir, datasets)
