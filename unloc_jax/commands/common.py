"""Helpers that several commands share."""

import argparse
from collections.abc import Callable
from typing import Any

Commands = Any  # the result of argparse's add_subparsers; its type has no public name


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """Returns a parser for `unloc NAME`, described by `text`; run(arguments) is called once it has parsed."""
    made = commands.add_parser(name, help=text, description=text)
    made.set_defaults(run=run)
    return made


def count(text: str) -> int:
    """Parses an argument that must be a whole number, at least 1."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def quiet() -> None:
    """Silences libraries' start-up notices; TensorFlow's are handled where it is imported."""
    import logging
    import warnings

    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
