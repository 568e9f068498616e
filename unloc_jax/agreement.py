"""Compares what the processes of a run were started with, before anything is computed: settings, versions and data.

Processes that disagree would train on without a word, with parameters that none of their settings gives. Compared are
contents, not places: the paths of a dataset, a checkpoint or the workdir may differ from machine to machine.
"""

import functools
import hashlib
import importlib.metadata
import itertools
import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from unloc_jax import coordination, siblings
from unloc_jax.errors import TryAgain, UserError

_TIMEOUT_S = 1800  # one of them may open its dataset much more slowly than the others
_SHOWN = 4  # differences in a message
_LONGEST_VALUE = 60  # characters
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

_numbers = itertools.count()


def check(facts: Callable[[], Mapping[str, Any]]) -> None:
    """Compares facts with those of the other processes; returns at once in a run of one process.

    All processes must call this equally often.

    Args:
      facts: returns JSON values by name. A name that only some processes have is compared among these. Is called only
        in a run of several processes.

    Raises:
      UserError: they differ; in all processes.
    """
    if jax.process_count() == 1 or not coordination.client():
        return
    place = f"unloc_agreement_{next(_numbers)}"
    coordination.put(f"{place}/{jax.process_index()}", json.dumps(facts()))

    def compare() -> str:
        of_all = [coordination.get(f"{place}/{i}", _TIMEOUT_S) for i in range(jax.process_count())]
        if found := differences([json.loads(text) for text in of_all]):
            raise UserError(found)
        return ""

    by_first(compare)


def by_first(work: Callable[[], str]) -> str:
    """Does something in the first process; returns its result, or raises its UserError or TryAgain, in all processes.

    All processes must call this equally often.
    """
    if jax.process_count() == 1 or not coordination.client():
        return work() if jax.process_index() == 0 else ""
    key = f"unloc_by_first_{next(_numbers)}"
    if jax.process_index() != 0:
        kind, text = json.loads(coordination.get(key, _TIMEOUT_S))
        if kind != "result":
            raise {"error": UserError, "again": TryAgain}[kind](text)
        return text
    try:
        result = work()
    except (UserError, TryAgain) as error:
        coordination.put(key, json.dumps(["error" if isinstance(error, UserError) else "again", str(error)]))
        raise
    coordination.put(key, json.dumps(["result", result]))
    return result


def differences(facts: Sequence[Mapping[str, Any]]) -> str:
    """Describes in which facts processes differ, in one line; "" if in none.

    Args:
      facts: by name, of every process in order.
    """
    found = []
    for name in dict.fromkeys(name for of_one in facts for name in of_one):
        processes: dict[str, list[int]] = {}
        for index, of_one in enumerate(facts):
            if name in of_one:
                processes.setdefault(_shown(of_one[name]), []).append(index)
        if len(processes) > 1:
            found.append(
                f"{name} is " + ", ".join(f"{value} in {_named(of)}" for value, of in processes.items())
            )
    if not found:
        return ""
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"the processes of this run do not agree: {'; '.join(found[:_SHOWN])}{more}. Start the same command with the "
        "same versions and data in all of them."
    )


def versions() -> dict[str, str]:
    """Returns the versions of Python, of the packages that compute, and of our code."""
    return (
        {"Python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES}
        | {"the code of unloc_jax": _code()}
    )


def digest(values: Iterable[Any]) -> str:
    """Returns eight digits that differ where JSON values do."""
    found = hashlib.sha256()
    for value in values:
        found.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
    return found.hexdigest()[:8]


def digest_of_file(path: str | Path) -> str:
    """Returns eight digits that differ where contents do.

    Raises:
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


@functools.cache
def _code() -> str:
    """Returns a digest of the packages' modules: two copies of a repository may have the same version."""
    files = [
        (str(file.relative_to(siblings.folder(package))), digest_of_file(file))
        for package in ("unloc_jax", "data_pipelines")
        for file in sorted(siblings.folder(package).rglob("*.py"))
    ]
    return digest(files)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value)
    if len(text) <= _LONGEST_VALUE:
        return text
    return f"{text[:_LONGEST_VALUE]}… ({digest([value])})"


def _named(processes: Sequence[int]) -> str:
    """Returns "process 1" or "processes 0, 2-7"."""
    parts, rest = [], list(processes)
    while rest:
        last = 0
        while last + 1 < len(rest) and rest[last + 1] == rest[0] + last + 1:
            last += 1
        parts.append(str(rest[0]) if last == 0 else f"{rest[0]}-{rest[last]}")
        rest = rest[last + 1 :]
    return f"process{'' if len(processes) == 1 else 'es'} {', '.join(parts)}"
