"""Importing the library does not import the heavy packages that only some commands need."""

import subprocess
import sys

import pytest

PROGRAM = """
import importlib, pkgutil, sys
import unloc_jax
for module in pkgutil.walk_packages(unloc_jax.__path__, "unloc_jax."):
    importlib.import_module(module.name)
    print(module.name)
heavy = {"tensorflow", "tensorflow_datasets", "torch", "data_pipelines"} & set(sys.modules)
assert not heavy, f"importing unloc_jax imports {heavy}"
"""


def test_no_module_imports_tensorflow_or_torch():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert {"unloc_jax.cli", "unloc_jax.training.loop", "unloc_jax.inference.localizer"} <= set(modules)


@pytest.mark.parametrize("module", ["unloc_jax", "unloc_jax.cli"])
def test_help_is_quick(module):
    """`unloc --help` and a wrong argument answer without waiting for JAX."""
    program = f"import sys, {module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
