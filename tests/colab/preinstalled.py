"""Installs what a runtime such as Colab's has installed, as far as it could touch this project.

`python tests/colab/preinstalled.py LIST` installs into the environment of this Python, at exactly the versions of LIST
(lines NAME==VERSION, as `pip freeze` prints them): the packages that pyproject.toml names, those that a notebook shows
things with, and whatever of LIST these and the packages that pip would add need in turn. Everything else of such a
runtime (some hundred packages, torch, CUDA) stays as it is, because nothing that is installed asks for it.

pip resolves nothing here (--no-deps): a runtime's list may contradict itself, and is what it is.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = ("data", "tensorflow", "features", "test")
PIP = (sys.executable, "-m", "pip", "install", "--quiet")
OTHERS = (
    *("pip", "setuptools", "wheel"),
    *("jaxlib", "tensorflow", "grain"),
    *("matplotlib", "pandas", "scipy", "ipython", "ipykernel", "ipywidgets"),
)


def main() -> None:
    versions = _read(Path(sys.argv[1]))
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    named = project["dependencies"] + [
        each for extra in EXTRAS for each in project["optional-dependencies"].get(extra, [])
    ]
    installed: set[str] = set()
    todo = [*named, *OTHERS]
    while todo:
        _install([Requirement(each) for each in todo], versions, installed)
        # What pip would add now and the runtime has: needed by packages that the runtime does not have.
        todo = [name for name in _added() if name in versions and name not in installed]
    print(f"{len(installed)} packages of {sys.argv[1]} installed")


def _install(todo: list[Requirement], versions: dict[str, str], installed: set[str]) -> None:
    """Installs what the runtime has of `todo`, and of what these need, and adds it to `installed`."""
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        # A package met again, with other extras, may need more than before.
        todo = [each for each in todo if canonicalize_name(each.name) in versions and _key(each) not in seen]
        seen |= {_key(each) for each in todo}
        new = sorted({canonicalize_name(each.name) for each in todo} - installed)
        installed.update(new)
        if new:
            pins = [f"{name}=={versions[name]}" for name in new]
            subprocess.run([*PIP, "--no-deps", *pins], check=True)
        todo = [needed for each in todo for needed in _needs(each)]


def _added() -> list[str]:
    """Returns the packages that installing the project would add or replace."""
    command = [*PIP, "--dry-run", "--report", "-", f"{PYPROJECT.parent}[data]"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [canonicalize_name(each["metadata"]["name"]) for each in report["install"]]


def _key(requirement: Requirement) -> tuple[str, frozenset[str]]:
    return canonicalize_name(requirement.name), frozenset(requirement.extras)


def _needs(requirement: Requirement) -> Iterable[Requirement]:
    for text in distribution(requirement.name).requires or ():
        needed = Requirement(text)
        if needed.marker is None or any(
            needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        ):
            yield needed


def _read(file: Path) -> dict[str, str]:
    lines = file.read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line.count("==") == 1)
    return {canonicalize_name(name): version.strip() for name, version in pairs}


if __name__ == "__main__":
    main()
