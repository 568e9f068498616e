"""`unloc compile`."""

import argparse

from unloc_jax.commands.common import Commands, add_command, count, quiet


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "compile",
        _run,
        "what a training step costs on devices that are not here: memory, time (docs/scaling.md); change settings with "
        "--config.KEY=VALUE",
    )
    parser.add_argument("--config", required=True, metavar="FILE.py[:ARG]")
    parser.add_argument(
        "--topology", required=True, metavar="KIND:SHAPE", help="such as v5e:4x4, v5p:2x4x4 or cpu:8"
    )
    parser.add_argument(
        "--batch", type=count, metavar="N", help="videos per step over all devices (default: the config's)"
    )
    parser.add_argument(
        "--classes",
        type=count,
        metavar="N",
        help="of the dataset (default: the known number, or config.data.dir)",
    )
    parser.add_argument(
        "--fit", action="store_true", help="find the largest batch that fits; compiles several times"
    )


def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax import config as config_lib
    from unloc_jax.aot.topology import devices_of

    quiet()
    config = config_lib.load(arguments.config, arguments.overrides)
    devices = devices_of(arguments.topology)

    from unloc_jax.aot.classes import known_classes, num_classes
    from unloc_jax.aot.fit import largest_batch
    from unloc_jax.aot.report import as_text, cost
    from unloc_jax.aot.step import compile_step, with_batch_size
    from unloc_jax.training.flops import chip, train_step_flops

    kind, known = devices[0].device_kind, known_classes(arguments.config)
    if arguments.batch is not None:
        config = with_batch_size(config, arguments.batch)
    classes = {}
    for name, view in config.task_configs.items():
        classes[name] = num_classes(view, arguments.classes, known)
    if arguments.fit:
        config = with_batch_size(config, largest_batch(config, devices, classes, chip(kind)))
    views = config.task_configs
    for compiled in compile_step(config, devices, classes):
        flops = sum(train_step_flops(views[name], classes[name]) for name in compiled.tasks)
        found = cost(compiled, flops, len(devices), chip(kind))
        print(as_text(compiled, found, kind, len(devices), chip(kind)), flush=True)
