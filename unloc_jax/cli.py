"""The `unloc` command."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from unloc_jax import siblings
from unloc_jax.commands import (
    average,
    compile,
    data,
    demo,
    diagnose,
    evaluate,
    features,
    import_,
    merge,
    metrics,
    predict,
    quickstart,
    submission,
    sweep,
    train,
    zeroshot,
)
from unloc_jax.compiled_programs import keep_compiled_programs
from unloc_jax.console import patient_streams, show
from unloc_jax.errors import EXIT_USER_ERROR, exit_status
from unloc_jax.leaving import leave
from unloc_jax.paths import ArgumentParser

# In the order of `unloc --help`.
_COMMANDS = (
    data,
    import_,
    features,
    train,
    sweep,
    compile,
    evaluate,
    metrics,
    average,
    diagnose,
    merge,
    submission,
    predict,
    zeroshot,
    demo,
    quickstart,
)
# Those that run models in this process.
_COMPILING = frozenset({"train", "evaluate", "features", "predict", "zeroshot", "demo"})


def run() -> NoReturn:
    """Runs the command of this process and ends it."""
    leave(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, or one of `unloc_jax.errors`."""
    with patient_streams() as reasons:
        status = _main(argv)
    if reasons and status == 0:
        show(f"unloc: error: standard output cannot be written: {reasons[0].strerror}", file=sys.stderr)
        return EXIT_USER_ERROR
    return status


def _main(argv: Sequence[str] | None) -> int:
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    arguments.overrides = [item.removeprefix("--config.") for item in rest if item.startswith("--config.")]
    unknown = [item for item in rest if not item.startswith("--config.")]
    if unknown or (arguments.overrides and "config" not in arguments):
        parser.error(f"unknown argument {(unknown or rest)[0]!r}; see `unloc {arguments.command} --help`")
    try:
        if arguments.command in _COMPILING:
            keep_compiled_programs()
        with siblings.ours("data_pipelines"):
            arguments.run(arguments)
    except BaseException as error:
        ended = exit_status(error)
        if ended is None:
            raise
        status, line = ended
        show(line, file=sys.stderr)
        return status
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="unloc", description="Find moments in video with words.")
    parser.set_defaults(main=main)  # for commands that run others
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    run()
