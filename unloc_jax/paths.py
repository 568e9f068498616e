"""Paths as users type them: `~` is the home folder everywhere, and an unexpanded `$NAME` is refused.

A shell expands neither in `--out=~/runs` nor between single quotes, and a folder named "~" is dangerous to delete.
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unloc_jax.errors import EXIT_USER_ERROR, UserError

VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{\w+\})")
# Possible prefixes of a path: NAME= of features, KIND: of a CLIP.
_PREFIX = re.compile(r"(?:[\w.-]+[=:])?(?=~)")


def path_of(text: str) -> str:
    """Expands a typed path as `with_home` does.

    Raises:
      UserError: the user does not exist; or the path contains a variable such as $SCRATCH and does not exist.
    """
    expanded = with_home(text)
    variable = VARIABLE.search(expanded)
    places = (expanded, re.split("[=:]", expanded, maxsplit=1)[-1])
    if variable and not any(os.path.exists(p) or os.path.exists(p.rpartition(":")[0]) for p in places):
        raise UserError(
            f"{text}: the shell has not filled in {variable[0]}: write double quotes instead of single ones, or the "
            "path itself."
        )
    return expanded


def with_home(text: str) -> str:
    """Expands `~` or `~USER` at the beginning of a path, or after its prefix "NAME=" or "KIND:".

    A name that only begins with ~ ("~draft.mp4") is unchanged, as in a shell.

    Raises:
      UserError: the user does not exist.
    """
    prefix = _PREFIX.match(text)
    before, place = (prefix[0], text[prefix.end() :]) if prefix else ("", text)
    expanded = os.path.expanduser(place)
    if expanded.startswith("~") and "/" in expanded:
        raise UserError(f"{text}: there is no user {place[1:].partition('/')[0]} with a home folder.")
    return before + expanded


def check_output_file(flag: str, path: Path | None) -> None:
    """Checks before any work that a file can be written.

    Raises:
      UserError: it is a folder, its folder does not exist, or there is no permission.
    """
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{flag}={path}: name a file in a folder that exists")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{flag}={path}: there is no permission to write it")


class ArgumentParser(argparse.ArgumentParser):
    """An argparse parser in which options with `type=Path` apply `path_of`; other path options use `type=path_of`."""

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self.register("type", Path, lambda text: Path(path_of(text)))

    # Typed like argparse's method: returns the namespace and the unknown arguments.
    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        try:
            return super().parse_known_args(args, namespace)
        except UserError as error:
            self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {error}\n")
