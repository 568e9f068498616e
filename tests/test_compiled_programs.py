"""What one command has compiled, the next one reads."""

import os
import subprocess
import sys

import pytest

from tests.tiny_runs import child_environment

PROGRAM = """
import sys
if sys.argv[1] == "after":
    import jax
from unloc_jax.compiled_programs import keep_compiled_programs
keep_compiled_programs()
assert sys.argv[1] == "after" or "jax" not in sys.modules
import jax, jax.monitoring
seen = []
jax.monitoring.register_event_listener(lambda event, **_: seen.append(event))
print(jax.jit(lambda x: x @ x)(jax.numpy.eye(3)).sum())
print("hits", seen.count("/jax/compilation_cache/cache_hits"), jax.config.jax_compilation_cache_dir)
"""


@pytest.fixture(params=["before", "after"])
def run(request):
    """Before or after JAX is imported."""
    return lambda **variables: outcome(request.param, variables)


def outcome(when: str, variables: dict[str, str]) -> tuple[int, str]:
    """Number of programs that were read, and the folder."""
    environment = child_environment() | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, when],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Warning" not in done.stderr
    result, last = done.stdout.splitlines()
    assert result == "3.0"
    _, hits, folder = last.split(" ", 2)
    return int(hits), folder


@pytest.mark.slow
def test_the_second_process_reads_what_the_first_compiled(run, tmp_path):
    first, folder = run(XDG_CACHE_HOME=str(tmp_path))
    again, _ = run(XDG_CACHE_HOME=str(tmp_path))
    assert first == 0 < again
    assert folder.startswith(str(tmp_path / "unloc_jax" / "compiled"))
    assert list((tmp_path / "unloc_jax" / "compiled").rglob("*-cache"))


@pytest.mark.slow
def test_a_folder_of_the_user_s_choice_and_none(run, tmp_path):
    own, other = str(tmp_path / "own"), str(tmp_path / "other")
    assert run(XDG_CACHE_HOME=other, JAX_COMPILATION_CACHE_DIR=own) == (0, own)
    assert run(XDG_CACHE_HOME=other, JAX_ENABLE_COMPILATION_CACHE="false") == (0, "None")
    assert not os.path.exists(other)


@pytest.mark.slow
def test_a_home_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert run(XDG_CACHE_HOME=str(tmp_path / "file")) == (0, "None")
