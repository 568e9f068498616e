"""A file is the old one or the new one, whatever happens while it is written."""

import ast
import contextlib
import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unloc_jax.errors import UserError
from unloc_jax.whole_writes import UNFINISHED, replacing, write_result

_REPOSITORY = Path(__file__).parents[1]
# Written with care of their own: checkpoints and logs, files that grow, locks, memory, other libraries' files.
_OTHER_WRITERS = {
    "unloc_jax/training/": "checkpoints and the log: see tests/training",
    "unloc_jax/whole_writes.py": "it is this one",
    "unloc_jax/processes.py": "os.devnull",
    "unloc_jax/sweep/job.py": "a log of a run",
    "unloc_jax/inference/preview.py": "a video in a temporary folder",
    "unloc_jax/inference/preview_sound.py": "a sound in a temporary folder",
    "unloc_jax/demo/": "a server's copies of videos, renamed when they are complete",
    "data_pipelines/builders/beam.py": "a copy in a temporary folder",
    "data_pipelines/builders/report.py": "a list that grows while the build runs",
    "data_pipelines/builders/storage.py": "a lock, and objects in a cloud",
    "data_pipelines/builders/shard_builder.py": "shards, which build.json declares complete",
    "data_pipelines/synthetic/synthesize.py": "a video, renamed when it is complete",
    "data_pipelines/extract_features.py": "a list that grows, and a lock",
}


def _writes(tree: ast.AST) -> Iterator[int]:
    """Yields the lines that write a file in one of Python's ways."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("write_text", "write_bytes", "savetxt", "savez_compressed"):
            yield node.lineno
        modes = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
        modes += [word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)]
        if name == "open" and any(isinstance(mode, str) and mode[:1] in ("w", "a", "x") for mode in modes):
            yield node.lineno


def test_every_result_is_written_by_it():
    found = [
        f"{file.relative_to(_REPOSITORY)}:{line}"
        for top in ("unloc_jax", "data_pipelines", "launch")
        for file in sorted((_REPOSITORY / top).rglob("*.py"))
        for line in _writes(ast.parse(file.read_text("utf-8")))
    ]
    assert [where for where in found if not where.startswith(tuple(_OTHER_WRITERS))] == []
    assert [place for place in _OTHER_WRITERS if not any(where.startswith(place) for where in found)] == []


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "result.json"
    path.write_text("old")
    return path


def _as_it_was(file: Path) -> bool:
    return file.read_text() == "old" and [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_error_or_an_interrupt_leaves_the_old_file(file):
    for error in (ValueError("of the work"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)), replacing(file) as new:
            new.write(b"half of the new")
            raise error
        assert _as_it_was(file)


@contextlib.contextmanager
def _largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_system_without_room_leaves_the_old_file(file):
    with (
        _largest_file(4096),
        pytest.raises(UserError, match=r"result\.json cannot be written: File too large"),
    ):
        write_result(file, "x" * 100_000)
    assert _as_it_was(file)


def test_a_full_device_is_one_message():
    with pytest.raises(UserError, match=r"/dev/full cannot be written: No space left on device\. Free some"):
        write_result("/dev/full", "text")


def test_killed_at_any_moment(tmp_path):
    file = tmp_path / "result.json"
    program = (
        "import itertools, sys; from unloc_jax.whole_writes import write_result\n"
        "for i in itertools.count(): write_result(sys.argv[1], f'{i}\\n' * 20_000)"
    )
    for wait_s in (0.0, 0.003, 0.02, 0.05):
        file.unlink(missing_ok=True)
        with subprocess.Popen([sys.executable, "-c", program, str(file)], cwd=_REPOSITORY) as child:
            while not file.exists():
                assert child.poll() is None
                time.sleep(0.001)
            time.sleep(wait_s)
            child.send_signal(signal.SIGKILL)
        lines = file.read_text().splitlines()
        assert len(lines) == 20_000
        assert len(set(lines)) == 1
        assert all(path.name.endswith(UNFINISHED) for path in tmp_path.iterdir() if path != file)


def test_what_utf_8_does_not_have_is_escaped(file):
    name = os.fsdecode(b"caf\xe9.mp4")
    write_result(file, json.dumps({"video": name, "half": "\ud83d", "é": "é"}, ensure_ascii=False))
    assert "\\udce9" in file.read_text("utf-8")
    assert json.loads(file.read_text("utf-8")) == {"video": name, "half": "\ud83d", "é": "é"}


def test_file_names_that_are_not_utf_8_and_the_longest_ones(tmp_path):
    for name in (os.fsdecode(b"caf\xe9.json"), "x" * 250 + ".json"):
        write_result(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"


def test_links_and_permissions_stay(file, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "latest.json"
    link.symlink_to(file)
    file.chmod(0o640)
    write_result(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    (tmp_path / "links" / "broken").symlink_to(tmp_path / "target")
    before = os.umask(0o027)
    try:
        write_result(tmp_path / "links" / "broken", "new")
    finally:
        os.umask(before)
    assert (tmp_path / "target").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o640


def test_a_named_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_result(pipe, "new")
    reader.join()
    assert read == ["new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_standard_output_as_a_file(tmp_path):
    program = (
        "from unloc_jax.whole_writes import write_result\n"
        "print('before'); write_result('/dev/stdout', 'result\\n'); print('after')"
    )
    command = [sys.executable, "-c", program]
    piped = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=True)
    assert piped.stdout == "before\nresult\nafter\n"
    with (tmp_path / "out").open("w") as out:
        subprocess.run(command, cwd=_REPOSITORY, stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\nresult\nafter\n"


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS])
def test_a_file_in_a_folder_that_takes_no_others(file, monkeypatch, error):
    def only_existing_ones(path, flags, *rest):
        if flags & os.O_CREAT:
            raise OSError(error, os.strerror(error), str(path))
        return before(path, flags, *rest)

    before = os.open
    monkeypatch.setattr(os, "open", only_existing_ones)
    write_result(file, "new and longer")
    assert file.read_text() == "new and longer"
    write_result(file, "new")
    assert file.read_text() == "new"
    file.write_text("old")
    with _largest_file(4096), pytest.raises(UserError, match="File too large"):
        write_result(file, "x" * 100_000)
    assert _as_it_was(file)
    with pytest.raises(UserError, match=rf"other\.json cannot be written: {os.strerror(error)}"):
        write_result(file.with_name("other.json"), "new")


def test_a_file_that_is_a_mount_point(file, monkeypatch):
    def busy(self, target):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(self))

    monkeypatch.setattr(Path, "replace", busy)
    write_result(file, "new")
    assert file.read_text() == "new"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none" / "x.json", "No such file or directory"),
        (tmp_path / "loop", "Too many levels of symbolic links"),
    ):
        with pytest.raises(UserError, match=f"{path} cannot be written: {reason}"):
            write_result(path, "new")


def test_an_error_of_the_content_keeps_its_own_name(file):
    def parts():
        yield "half"
        Path("/nowhere/video.mp4").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"/nowhere/video\.mp4"), replacing(file) as new:
        for part in parts():
            new.write(part.encode())
    assert _as_it_was(file)
