"""The package's metadata: the same in every place, and true."""

import fnmatch
import re
import tomllib
from pathlib import Path

import unloc_jax

ROOT = Path(__file__).parent.parent


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere():
    versions = {
        "pyproject.toml": _project()["version"],
        "unloc_jax": unloc_jax.__version__,
        "CITATION.cff": re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)[1],
        "CHANGELOG.md": re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1],
    }
    assert len(set(versions.values())) == 1, versions


def test_extras_that_pages_and_messages_name_exist():
    rooms = ("unloc_jax", "configs", "data_pipelines", "launch", "benchmarks", "tests")
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *(file for room in rooms for file in (ROOT / room).rglob("*.py")),
    ]
    named = {
        name.strip()
        for file in texts
        for extras in re.findall(r"(?:\.|unloc_jax)\[([a-z0-9, ]+)\]", file.read_text())
        for name in extras.split(",")
    }
    assert {"data", "features"} <= named
    assert named <= _project()["optional-dependencies"].keys()


def test_every_data_file_of_the_packages_is_listed():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages, listed = tool["packages"]["find"]["include"], set()
    for package, patterns in tool["package-data"].items():
        assert any(fnmatch.fnmatch(package, pattern) for pattern in packages), package
        listed |= {file for pattern in patterns for file in (ROOT / package.replace(".", "/")).glob(pattern)}
    rooms = ("unloc_jax", "configs", "data_pipelines", "launch")
    files = {file for room in rooms for file in (ROOT / room).rglob("*") if file.is_file()}
    assert {file for file in files - listed if file.suffix not in (".py", ".pyc", ".md")} == set()
