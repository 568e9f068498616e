"""Installs what a runtime such as Colab's has installed, as far as it could touch this project.

`python tests/colab/preinstalled.py LIST` installs into the environment of this Python, at exactly the versions of LIST
(lines NAME==VERSION, as `pip freeze` prints them): the packages that pyproject.toml names, those that a notebook shows
things with, and whatever of LIST these need in turn. Everything else of such a runtime (some hundred packages, torch,
CUDA) has no path to this project; its versions are still kept by `pip install`, because nothing asks for it.

pip resolves nothing here (--no-deps): a runtime's list may contradict itself, and is what it is.
"""

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = ("", "data", "tensorflow", "features", "test")
OTHERS = (
    *("pip", "setuptools", "wheel"),
    *("jaxlib", "tensorflow", "grain"),
    *("matplotlib", "pandas", "scipy", "ipython", "ipykernel", "ipywidgets"),
)


def main() -> None:
    versions = _read(Path(sys.argv[1]))
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    named = project["dependencies"] + [
        each for extra in EXTRAS if extra for each in project["optional-dependencies"].get(extra, [])
    ]
    todo = [Requirement(each) for each in (*named, *OTHERS)]
    seen: set[tuple[str, frozenset[str]]] = set()
    installed: set[str] = set()
    while todo:
        # A package met again, with other extras, may need more than before.
        todo = [each for each in todo if canonicalize_name(each.name) in versions and _key(each) not in seen]
        seen |= {_key(each) for each in todo}
        new = sorted({canonicalize_name(each.name) for each in todo} - installed)
        installed.update(new)
        if new:
            pins = [f"{name}=={versions[name]}" for name in new]
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *pins], check=True
            )
        todo = [needed for each in todo for needed in _needs(each)]
    print(f"{len(installed)} packages of {sys.argv[1]} installed")


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
