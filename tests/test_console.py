"""What is printed steers no terminal, and what cannot be printed stops no work."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unloc_jax.console import printable, show

_REPOSITORY = Path(__file__).parents[1]
# Their texts hold no words of files, or they pass on what a child process printed.
_MAY_PRINT = {
    "unloc_jax/console.py",
    "unloc_jax/notebooks/magic.py",
    "launch/local.py",
}


def test_everything_is_printed_by_it():
    printing = {
        str(file.relative_to(_REPOSITORY))
        for top in ("unloc_jax", "data_pipelines", "launch")
        for file in (_REPOSITORY / top).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= _MAY_PRINT


def test_printable():
    assert printable("two\nlines\tof “Bücher” – 本 שלום 👩‍🚀") == "two\nlines\tof “Bücher” – 本 שלום 👩‍🚀"
    assert printable("\x1b[2J\r\x07\x00\x7f\x9b31m") == r"\x1b[2J\r\x07\x00\x7f\x9b31m"
    assert printable("a\u202egpj.exe\u2066\u2028") == r"a\u202egpj.exe\u2066\u2028"
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\udce9"


def test_show_escapes_what_a_stream_cannot_encode():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    show("Größe – \x1b[31m", file=stream)
    assert stream.buffer.getvalue() == rb"Gr\xf6\xdfe \u2013 \x1b[31m" + b"\n"


_PROGRAM = """
import sys
from pathlib import Path
from unloc_jax.console import patient_streams, show
with patient_streams() as reasons:
    for i in range(20_000):
        show(f"line {i} –")
    print("written by others –", file=sys.stderr)
    Path(sys.argv[1]).write_text("done")
sys.exit(2 if reasons else 0)
"""


def _run(file: Path, shell: str, **environment: str) -> subprocess.CompletedProcess:
    (file.parent / "program.py").write_text(_PROGRAM)
    program = f"{sys.executable} $FLAGS {file.parent / 'program.py'} {file}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell.format(program)],
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(_REPOSITORY), "FLAGS": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("flags", ["", "-u"])
def test_a_pipe_that_is_closed_ends_nothing(tmp_path, flags):
    file = tmp_path / "result"
    ran = _run(file, "{} | head -1", FLAGS=flags)
    assert (ran.returncode, ran.stdout) == (0, "line 0 –\n")
    assert ran.stderr == "written by others –\n"
    assert file.read_text() == "done"
    file.unlink()
    assert _run(file, "{} 2>&1 | head -1", FLAGS=flags).returncode == 0
    assert file.read_text() == "done"


def test_a_full_disk_behind_standard_output_is_reported(tmp_path):
    ran = _run(tmp_path / "result", "{} > /dev/full")
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr and "Exception" not in ran.stderr
    assert (tmp_path / "result").read_text() == "done"


def test_streams_that_are_closed(tmp_path):
    ran = _run(tmp_path / "result", "{} >&- 2>&-")
    assert ran.returncode == 0
    assert (tmp_path / "result").read_text() == "done"


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C"},
    ],
)
def test_an_ascii_terminal(tmp_path, environment):
    ran = _run(tmp_path / "result", "{}", **environment)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[-1] in (r"line 19999 \u2013", "line 19999 –")
    assert (tmp_path / "result").read_text() == "done"
