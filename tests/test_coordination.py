"""The one private name of another library that the project uses: is it there, and what if not?"""

import ast
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.test_processes import free_port
from unloc_jax import coordination

_REPOSITORY = Path(__file__).parents[1]
_OURS = ("unloc_jax", "data_pipelines", "configs", "launch")

_PROGRAM = """
import sys
import jax
from unloc_jax import coordination
port, number = sys.argv[1], int(sys.argv[2])
jax.config.update("jax_platforms", "cpu")
assert coordination.client() is None
jax.distributed.initialize(f"localhost:{port}", 2, number, initialization_timeout=60)
assert coordination.client() is not None, f"JAX {jax.__version__}: see unloc_jax/coordination.py"
coordination.wait_for_all("all", 60)
if number == 0:
    try:
        coordination.wait_for_all("alone", 1)
    except jax.errors.JaxRuntimeError as error:
        print("alone:", "DEADLINE_EXCEEDED" in str(error), flush=True)
coordination.wait_for_all("end", 60)
"""


@pytest.mark.slow
def test_processes_wait_for_each_other():
    port = free_port()
    start = lambda number: subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _PROGRAM, str(port), str(number)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = [start(number) for number in range(2)]
    outputs = [child.communicate(timeout=180) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert outputs[0][0] == "alone: True\n"


def test_a_jax_that_keeps_its_client_elsewhere_gives_a_warning_and_no_wait(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax._src.distributed", None)
    monkeypatch.setattr("jax._src.distributed", None, raising=False)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    coordination._warn.cache_clear()
    with pytest.warns(UserWarning, match="keeps its coordination client elsewhere"):
        coordination.wait_for_all("nobody", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coordination.wait_for_all("nobody", 1)  # once is enough


def _private_names(file: Path) -> set[str]:
    """Returns the private modules and names of other libraries that a file imports or reads of a module."""
    found, modules = set(), set()
    nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            modules |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {
            name
            for name in names
            if not name.startswith(_OURS)
            and any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
        }
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            name = f"{node.value.id}.{node.attr}"
            found |= {name} if node.attr.startswith("_") and not node.attr.startswith("__") else set()
    return found - {"os._exit"}  # documented


def test_no_other_private_name():
    files = [file for folder in _OURS for file in (_REPOSITORY / folder).rglob("*.py")]
    private = {str(file.relative_to(_REPOSITORY)): names for file in files if (names := _private_names(file))}
    assert private == {"unloc_jax/coordination.py": {"jax._src.distributed"}}
