"""The `unloc` command."""

import argparse
import sys
from collections.abc import Sequence

from unloc_jax.commands import (
    compile,
    data,
    diagnose,
    evaluate,
    features,
    import_,
    metrics,
    predict,
    quickstart,
    train,
    zeroshot,
)
from unloc_jax.errors import EXIT_INTERRUPTED, EXIT_TRY_AGAIN, EXIT_USER_ERROR, TryAgain, UserError

# In the order of `unloc --help`.
_COMMANDS = (
    data,
    import_,
    features,
    train,
    compile,
    evaluate,
    metrics,
    diagnose,
    predict,
    zeroshot,
    quickstart,
)

# What the extra `data` brings; training and evaluation read shards with it, prediction needs none of it.
_DATA_MODULES = ("tensorflow", "tensorflow_datasets", "google_crc32c", "importlib_resources", "PIL")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, or one of `unloc_jax.errors`."""
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
        return EXIT_USER_ERROR
    except TryAgain as stopped:
        print(f"unloc: {stopped}", file=sys.stderr)
        return EXIT_TRY_AGAIN
    except OSError as error:
        if error.filename is None:
            raise
        print(f"unloc: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _DATA_MODULES:
            raise
        print(f"unloc: error: {error.name} is missing: pip install 'unloc_jax[data]'", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("\nunloc: interrupted; the same command goes on where it can", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unloc", description="Find moments in video with words.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
