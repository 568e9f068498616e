"""Commands in processes of their own: neither terminal nor disk decides whether a result is whole."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.timed_video import regular_times_ms, write_video
from tests.tiny_runs import REPOSITORY
from unloc_jax.inference.predictions import Segment, TextPrediction, VideoPrediction, terminal_table

_HOSTILE = "she \x1b[2J\x1b[31mruns\x07 \u202eaway\u2066 \r overwritten – Größe"
_STEERING = ("\x1b", "\x07", "\r", "\u202e", "\u2066")
_ASCII = {"PYTHONIOENCODING": "ascii"}


def _unloc(words: str, folder: Path, limit_bytes: int | None = None, **environment: str):
    """Runs "unloc …" in a shell; `{unloc}` stands for the command."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", words.format(unloc=f"{sys.executable} -m unloc_jax.cli")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        preexec_fn=limit if limit_bytes else None,
        check=False,
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with files of metrics whose class has a hostile name, and with old results."""
    rows = [{"segment": [0, 2], "label": _HOSTILE}, {"segment": [3, 4], "label": "b"}]
    (tmp_path / "truth.json").write_text(
        json.dumps({"database": {"v1": {"subset": "validation", "duration": 9, "annotations": rows}}})
    )
    results = {"v1": [{**row, "score": 0.5} for row in rows], f"no such {_HOSTILE}": []}
    (tmp_path / "predictions.json").write_text(json.dumps({"results": results}))
    for name in ("out.json", "out.html"):
        (tmp_path / name).write_text("old")
    return tmp_path


_FILES = "--protocol=activitynet --ground-truth=truth.json --predictions=predictions.json"
_METRICS = f"{{unloc}} metrics {_FILES} --out=out.json"
_DIAGNOSE = f"{{unloc}} diagnose {_FILES} --out=out.html --json=out.json"


def _is_whole(file: Path) -> bool:
    text = file.read_text("utf-8")
    return bool(json.loads(text)) if file.suffix == ".json" else text.rstrip().endswith("</html>")


@pytest.mark.parametrize(
    ("shell", "environment", "status"),
    [
        ("{}", {}, 0),
        ("{}", _ASCII, 0),
        ("{}", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, 0),
        ("{} | head -1", {}, 0),
        ("{} 2>&1 | head -c 1", {}, 0),
        ("{} | true", {"PYTHONUNBUFFERED": "1"}, 0),
        ("{} > /dev/full", {}, 2),
        ("{} 2> /dev/full", {}, 0),
        ("{} >&- 2>&-", {}, 0),
    ],
)
@pytest.mark.parametrize("command", [_METRICS, _DIAGNOSE], ids=["metrics", "diagnose"])
def test_the_result_is_written_whatever_the_terminal_is(folder, command, shell, environment, status):
    ran = _unloc(shell.replace("{}", command), folder, **environment)
    assert ran.returncode == status, ran.stderr
    assert b"Traceback" not in ran.stderr and b"Exception" not in ran.stderr
    assert _is_whole(folder / "out.json")
    assert command == _METRICS or _is_whole(folder / "out.html")
    if status:
        assert ran.stderr.decode().splitlines()[-1] == (
            "unloc: error: standard output cannot be written: No space left on device"
        )


@pytest.mark.parametrize("command", [_METRICS, _DIAGNOSE], ids=["metrics", "diagnose"])
def test_a_disk_without_room_leaves_the_old_result(folder, command):
    before = sorted(folder.iterdir())
    ran = _unloc(command, folder, limit_bytes=100)
    (line,) = [line for line in ran.stderr.decode().splitlines() if "warning" not in line]
    assert ran.returncode == 2
    assert "cannot be written: File too large" in line
    assert (folder / "out.json").read_text() == (folder / "out.html").read_text() == "old"
    assert sorted(folder.iterdir()) == before


def _lines_of(row_text: str) -> str:
    rows = [
        {"video": f"v{i}", "split": split, "start": 0, "end": 1, "label": row_text, "duration": 9}
        for i, split in enumerate(("train", "test"))
    ]
    rows.append({"video": f"../{row_text}", "split": "train", "start": 0, "end": 1, "label": row_text})
    return "\n".join(map(json.dumps, rows)) + "\n"


@pytest.mark.parametrize(
    "command",
    [
        "{unloc} data check --dataset=jsonl --annotations=train.jsonl",
        _METRICS,
        _DIAGNOSE,
        f"{{unloc}} metrics {_FILES.replace('predictions.json', 'unknown.json')}",
    ],
    ids=["data check", "metrics", "diagnose", "an error"],
)
def test_texts_of_files_do_not_steer_the_terminal(folder, command):
    (folder / "train.jsonl").write_text(_lines_of(_HOSTILE))
    (folder / "unknown.json").write_text(json.dumps({"results": {"v1": [{"segment": _HOSTILE}]}}))
    ran = _unloc(command, folder)
    printed = (ran.stdout + ran.stderr).decode()
    assert ran.returncode in (0, 2), printed
    assert printed.strip()
    assert [code for code in _STEERING if code in printed] == []


def test_data_check_ends_quietly_with_its_reader(folder):
    (folder / "train.jsonl").write_text(_lines_of("Größe"))
    command = "{unloc} data check --dataset=jsonl --annotations=train.jsonl"
    ran = _unloc(f"{command} | head -1", folder)
    assert (ran.returncode, ran.stderr, ran.stdout.count(b"\n")) == (0, b"", 1)
    as_json = _unloc(f"{command} --json", folder, **_ASCII)
    assert (as_json.returncode, as_json.stderr) == (0, b"")
    assert json.loads(as_json.stdout)


def test_a_video_whose_name_is_not_utf_8(folder):
    file = write_video(folder / "a.mp4", regular_times_ms(2.0))
    video = folder / os.fsdecode(b"caf\xe9 \x1b[31m.mp4")
    shutil.move(file, video)
    times_s = np.arange(4.0) / 2
    text = TextPrediction(_HOSTILE + "\ud83d", [Segment(0.0, 1.0, 0.5)], times_s, np.full(4, 0.5), [])
    prediction = VideoPrediction(str(video), 2.0, [text], {"checkpoint": str(video)})
    prediction.save(folder / "out.html")
    prediction.save(folder / "out.json")
    assert _is_whole(folder / "out.html")
    read = json.loads((folder / "out.json").read_text("utf-8"))
    assert (read["video"], read["texts"][0]["text"]) == (str(video), text.text)
    assert terminal_table(prediction)


@pytest.mark.slow
def test_a_build_from_a_folder_whose_name_is_not_utf_8(folder):
    videos = folder / os.fsdecode(b"vid\xe9os")
    videos.mkdir()
    for name in ("v0", "v1"):
        write_video(videos / f"{name}.mp4", regular_times_ms(1.0))
    rows = [
        *_lines_of("runs").splitlines(),
        '{"video": "bad", "split": "train", "start": 0, "end": 1, "label": "runs"}',
    ]
    (folder / "train.jsonl").write_text("\n".join(rows))
    (videos / "bad.mp4").write_bytes(b"no video")
    command = (
        "{unloc} data build --dataset=jsonl --annotations=train.jsonl --videos vid* --out=shards --fps=4 "
        "--short-side=32 --workers=1"
    )
    for shell in (f"{command} 2>&1 | head -c 1", command):  # the second says that the first did all of it
        ran = _unloc(shell, folder, **_ASCII)
        assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(b"reusing shards")
    assert json.loads((folder / "shards" / "build.json").read_text("utf-8"))["arguments"]["videos"] == str(
        videos
    )
    (line,) = (folder / "shards" / "unusable_videos.jsonl").read_text("utf-8").splitlines()
    assert str(videos.name) in json.loads(line)["reason"]
