"""The notebooks of colab/: up to date, alike where they should be, and executed from top to bottom at a small size."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.notebooks.convert import PLACEHOLDER, REPOSITORY, notebook_of, sources, text_of
from tests.pages.inputs import write_clip
from tests.tiny_runs import child_environment

pytest.importorskip("jupytext", reason="needs jupytext")
pytest.importorskip("nbclient", reason="needs nbclient")

# Values of forms; CLIP is a folder with a tiny one of random weights, read by the code that reads the hub's.
TINY = {
    "find_moments": {"CLIP": "clip"},
    "quickstart": {"NUM_TRAIN": 12, "NUM_TEST": 4, "STEPS": 12},
    "your_dataset": {"NUM_EXAMPLES": 12, "CLIP": "clip", "NUM_FRAMES": 16, "BATCH_SIZE": 4, "STEPS": 10},
    "evaluate_predictions": {"CHECKPOINT": "quickstart/run"},
    "fine_tune": {
        "CLIP": "clip", "SIZE": "tiny", "NUM_EXAMPLES": 6, "NUM_FRAMES": 8, "BATCH_SIZE": 2, "STEPS": 10,
        "FURTHER": "model.text.max_tokens=12 model.dtype=float32 train.decay_steps=() train.decay_factors=()",
    },
}  # fmt: skip
# The outputs that each must show: pages in frames, charts, tables.
SHOWN = {
    "find_moments": ["report"],
    "quickstart": ["chart", "table", "report"],
    "your_dataset": ["chart", "table", "diagnosis", "report"],
    "evaluate_predictions": ["table", "diagnosis", "table", "diagnosis"],
    "fine_tune": ["chart", "table", "diagnosis"],
}
NAMES = [source.stem for source in sources()]


def test_they_are_five():
    assert set(NAMES) == set(TINY) == set(SHOWN)


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_is_that_of_its_source(name):
    source = REPOSITORY / "colab" / f"{name}.py"
    made = text_of(notebook_of(source))
    assert source.with_suffix(".ipynb").read_text("utf-8") == made, "run `make notebooks`"
    assert f"github/{PLACEHOLDER}/blob/main/colab/{name}.ipynb" in source.read_text("utf-8")


def test_they_begin_alike():
    """A badge, and one quiet install cell, which changes nothing where the package is."""
    installs = {json.dumps(notebook_of(source).cells[1].source) for source in sources()}
    assert len(installs) == 1
    assert "--quiet" in installs.pop()


def test_what_a_command_needs_to_say(tmp_path, monkeypatch):
    """A failed command ends a notebook with one line, and does not look like a crash."""
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "unloc_jax.notebooks")
    shell.run_cell("folder = 'nowhere'").raise_error()
    from unloc_jax.errors import UserError

    failed = shell.run_cell("%unloc data check --dataset csv --annotations {folder}/train.csv")
    assert isinstance(failed.error_in_exec, UserError)
    assert failed.error_in_exec._render_traceback_() == [
        "unloc: error: `unloc data check` failed; the reason is above."
    ]
    assert shell.run_cell("%unloc data --help").success


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    write_clip(folder / "clip")
    return folder


def with_values(notebook: Any, values: dict[str, Any]) -> Any:
    """Changes values of forms; each must be there once."""
    left = dict(values)
    for cell in notebook.cells:
        for key in [key for key in left if re.search(rf"^{key} = .*# @param", cell.source, re.M)]:
            line = f"{key} = {left.pop(key)!r}  # @param"
            cell.source = re.sub(
                rf"^{key} = .*# @param.*$", lambda _, line=line: line, cell.source, flags=re.M
            )
    assert not left, f"no form has {list(left)}"
    return notebook


def kind_of(output: Any) -> str | None:
    """Says what an output of a cell shows."""
    data = output.get("data", {})
    html = "".join(data.get("text/html", ""))
    if "image/png" in data:
        return "chart"
    if "<iframe" in html:
        return "report" if "<video" in html else "diagnosis"
    return "table" if "<table" in html else None


@pytest.fixture(scope="module")
def execute(folder) -> Callable[[str], Any]:
    """Executes a notebook in a new folder, once."""
    executed: dict[str, Any] = {}

    def run(name: str) -> Any:
        if name not in executed:
            executed[name] = _executed(name, folder)
        return executed[name]

    return run


def _executed(name: str, folder: Path) -> Any:
    import nbclient

    place = folder / name
    place.mkdir()
    (place / "clip").symlink_to(folder / "clip")
    if name != "quickstart" and (folder / "quickstart").exists():
        (place / "quickstart").symlink_to(folder / "quickstart")
    notebook = with_values(notebook_of(REPOSITORY / "colab" / f"{name}.py"), TINY[name])
    with pytest.MonkeyPatch.context() as patch:
        environment = child_environment() | {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
        for variable, value in environment.items():
            patch.setenv(variable, value)
        nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(place)}}
        ).execute()
    if kept := os.environ.get("UNLOC_EXECUTED_NOTEBOOKS"):  # to look at them
        Path(kept).mkdir(exist_ok=True)
        (Path(kept) / f"{name}.ipynb").write_text(text_of(notebook), "utf-8")
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name, execute):
    if name == "evaluate_predictions":
        execute("quickstart")  # trains the checkpoint
    outputs = [output for cell in execute(name).cells for output in cell.get("outputs", [])]
    shown = [kind for kind in map(kind_of, outputs) if kind]
    assert shown == SHOWN[name]
    texts = "".join(output.get("text", "") for output in outputs)
    assert "Traceback" not in texts and "unloc: error" not in texts
