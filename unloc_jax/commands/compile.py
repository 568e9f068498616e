"""`unloc compile`."""

import argparse

from unloc_jax.commands.common import Commands, add_command, count, quiet
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "compile",
        _run,
        "what a training step costs on devices that are not here: memory, time (docs/scaling.md); change settings with "
        "--config.KEY=VALUE",
    )
    parser.add_argument("--config", type=path_of, required=True, metavar="FILE.py[:ARG]")
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
        help="number of classes of the dataset (default: the known number, or that of config.data.dir)",
    )
    parser.add_argument(
        "--fit", action="store_true", help="find the largest batch that fits; compiles several times"
    )
    parser.add_argument(
        "--memory-only",
        action="store_true",
        help="only the memory of a TPU, in a fraction of the time: generates no machine code",
    )


def _run(arguments: argparse.Namespace) -> None:
    from unloc_jax import config as config_lib
    from unloc_jax.aot.topology import devices_of

    quiet()
    config = config_lib.load(arguments.config, arguments.overrides)
    devices = devices_of(arguments.topology)

    from unloc_jax.aot.largest_batch import largest_batch
    from unloc_jax.aot.memory_assignment import assigned
    from unloc_jax.aot.num_classes import known_classes, num_classes
    from unloc_jax.aot.report import as_text, cost, heading, memory_as_text
    from unloc_jax.aot.step import compile_step, mesh_of, task_groups, with_batch_size
    from unloc_jax.training.flops import chip, train_step_flops
    from unloc_jax.training.sharding import make_mesh

    kind, known = devices[0].device_kind, known_classes(arguments.config)
    found_chip = chip(kind)
    if found_chip is None and (arguments.fit or arguments.memory_only):
        flag = "--fit" if arguments.fit else "--memory-only"
        raise UserError(f"{flag}: the memory of {kind} is not known; use a TPU's topology.")
    if arguments.batch is not None:
        config = with_batch_size(config, arguments.batch)
    classes = {}
    for name, view in config.task_configs.items():
        classes[name] = num_classes(view, arguments.classes, known)
    if arguments.fit and found_chip:
        groups = make_mesh(config.mesh, 0, devices=devices).shape["data"]
        most = largest_batch(config, arguments.topology, classes, found_chip, groups)
        config = with_batch_size(config, most)
    views = config.task_configs
    for group in task_groups(config):
        if arguments.memory_only:
            show(heading(group, mesh_of(config, group, devices).shape, kind, found_chip))
            memory = assigned(config, group, arguments.topology, classes)
            show(memory_as_text(memory, found_chip))
        else:
            compiled = compile_step(config, group, devices, classes)
            flops = sum(train_step_flops(views[name], classes[name]) for name in group)
            show(as_text(compiled, cost(compiled, flops, found_chip), kind, found_chip))
