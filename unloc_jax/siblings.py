"""The packages beside this one, `configs` and `data_pipelines`, whatever else has their names.

Python looks for a package by its name on sys.path, where a folder of the user's may come first: with `python -m` and in
notebooks the working directory does. Ours are found by their place.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_PARENT = Path(__file__).resolve().parents[1]

# Our modules that have made room for others of their names, by package: nothing is executed twice.
_kept: dict[str, dict[str, ModuleType]] = {}


def folder(name: str) -> Path:
    """Returns the place of our package."""
    return _PARENT / name


def always_ours(name: str) -> None:
    """Makes `name` our package for the rest of this process; for processes that are ours, such as workers."""
    if not _is_ours(name):
        _take_out(name)
        sys.meta_path.insert(0, _Finder(name))


@contextlib.contextmanager
def ours(name: str, first: Path | None = None) -> Iterator[None]:
    """Makes `name` our package inside of the block; before and after it another one of that name is undisturbed.

    Inside, a module that our package does not have is still found in the other one.

    Args:
      name: "configs" or "data_pipelines".
      first: a folder of that name whose modules come before ours.
    """
    if first is None and _is_ours(name):
        yield
        return
    others, finder = _take_out(name), _Finder(name, first)
    if first is None:
        sys.modules.update(_kept.get(name, {}))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        loaded = _take_out(name)
        if first is None:
            _kept[name] = loaded
        sys.modules.update(others)


def _is_ours(name: str) -> bool:
    """Returns whether an import finds our package, or has found it."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that somebody made by hand
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == folder(name)


def _take_out(name: str) -> dict[str, ModuleType]:
    taken = [module for module in sys.modules if module == name or module.startswith(f"{name}.")]
    return {module: sys.modules.pop(module) for module in taken}


class _Finder(MetaPathFinder):
    """Finds our package; its modules are looked for in `first`, in our folder, and where others have the name."""

    def __init__(self, name: str, first: Path | None = None):
        self._name = name
        self._folders = [place for place in (first, folder(name)) if place]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        files = [place / "__init__.py" for place in self._folders if (place / "__init__.py").is_file()]
        if fullname != self._name or not files:
            return None
        other = PathFinder.find_spec(fullname)
        others = list(other.submodule_search_locations or ()) if other else []
        places = [*map(str, self._folders), *others]
        return importlib.util.spec_from_file_location(fullname, files[0], submodule_search_locations=places)
