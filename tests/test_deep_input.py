"""Input that is nested too deeply ends in one line, whichever file holds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_runs import REPOSITORY

_DEPTHS = (150, 900, 990, 100_000)
_LIST, _OBJECT = "[", '{"a":'


def _nested(opening: str, depth: int) -> str:
    return opening * depth + "1" + {"[": "]", '{"a":': "}"}[opening] * depth


def _ended(module: str, *words: object) -> tuple[int, str]:
    """Runs a command; returns its status and what it printed to stderr."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ran.returncode, ran.stderr


def _is_one_line(ended: tuple[int, str], *names: str) -> None:
    status, error = ended
    assert status == 2, error[-2000:]
    lines = [line for line in error.splitlines() if "warning" not in line]
    assert len(lines) == 1, error[-2000:]
    assert len(lines[0]) < 2000
    assert all(name in lines[0] for name in names), lines[0]


def _in_process(words: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str]:
    from unloc_jax.cli import main

    try:
        status = main(words)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    return status, capsys.readouterr().err


_ANNOTATIONS = {
    "activitynet_captions": (
        "{}",
        '{{"v1": {}}}',
        '{{"v1": {{"duration": 9, "timestamps": {}, "sentences": ["a"]}}}}',
    ),
    "qvhighlights": ("{}", '{{"vid": "v1", "query": {}, "duration": 9, "relevant_windows": [[0, 2]]}}'),
    "jsonl": ("{}", '{{"video": "v1", "segments": {}, "duration": 9}}'),
    "activitynet": ("{}", '{{"database": {}}}', '{{"database": {{"v1": {{"annotations": {}}}}}}}'),
}


@pytest.mark.parametrize("opening", [_LIST, _OBJECT])
@pytest.mark.parametrize("dataset", _ANNOTATIONS)
def test_annotations(tmp_path, capsys, dataset, opening):
    file = tmp_path / ("train.jsonl" if dataset in ("qvhighlights", "jsonl") else "train.json")
    for layout in _ANNOTATIONS[dataset]:
        for depth in _DEPTHS:
            file.write_text(layout.format(_nested(opening, depth)))
            words = ["data", "check", "--dataset", dataset, "--annotations", str(file)]
            status, error = _in_process(words, capsys)
            if status:  # a value of another kind within a file of the right form is a problem of one row
                _is_one_line((status, error))
            elif depth == 100_000:
                pytest.fail("accepted")


@pytest.mark.parametrize("opening", [_LIST, _OBJECT])
@pytest.mark.parametrize("depth", _DEPTHS)
def test_predictions_and_other_files_of_metrics(tmp_path, capsys, opening, depth):
    deep = _nested(opening, depth)
    truth, predictions, blocked = (
        tmp_path / name for name in ("truth.json", "predictions.json", "blocked.json")
    )
    truth.write_text(
        '{"database": {"v1": {"subset": "validation", "annotations": [{"segment": [0, 1], "label": "a"}]}}}'
    )
    good = '{"results": {"v1": [{"segment": [0, 1], "label": "a", "score": 1}]}}'
    metrics = ["metrics", "--protocol=activitynet", f"--ground-truth={truth}", f"--predictions={predictions}"]
    for content in (deep, f'{{"results": {deep}}}', f'{{"results": {{"v1": {deep}}}}}'):
        predictions.write_text(content)
        _is_one_line(_in_process(metrics, capsys), str(predictions))
    predictions.write_text(good)
    blocked.write_text(deep)
    _is_one_line(_in_process([*metrics, f"--blocked-videos={blocked}"], capsys), str(blocked))
    truth.write_text(deep)
    _is_one_line(_in_process(metrics, capsys), str(truth))
    of_moments = tmp_path / "moments.jsonl"
    of_moments.write_text(deep)
    words = [
        "metrics",
        "--protocol=moment-retrieval",
        f"--ground-truth={of_moments}",
        f"--predictions={of_moments}",
    ]
    _is_one_line(_in_process(words, capsys), str(of_moments))


_CONFIGS = {
    "minus signs": "  return {'seed': " + "-" * 100_000 + "1}",
    "parentheses": "  return {'seed': " + "(" * 100_000 + "1" + ")" * 100_000 + "}",
    "a sum": "  return {'seed': 1" + "+1" * 100_000 + "}",
    "dictionaries": "  x = {}\n  for _ in range(100000): x = {'a': x}\n  return x",
    "tuples": "  x = ()\n  for _ in range(100000): x = (x,)\n  return {'profile': x}",
    "itself": "  return get_config()",
}


@pytest.mark.slow
@pytest.mark.parametrize("content", _CONFIGS.values(), ids=_CONFIGS)
def test_configs(tmp_path, content):
    file = tmp_path / "deep.py"
    file.write_text(f"def get_config():\n{content}\n")
    _is_one_line(_ended("unloc_jax.cli", "train", f"--config={file}", f"--workdir={tmp_path}/run"), str(file))


@pytest.mark.parametrize(
    "override",
    [
        "seed=" + "-" * 100_000 + "1",
        "loss.boundaries=" + "-" * 100_000 + "iou",
        "loss.boundaries=" + "(" * 100_000 + "iou",
        "profile=" + "[" * 60_000 + "]" * 60_000,
        "profile=" + "(" * 90 + "1," + ")" * 90,
        "model." * 15_000 + "x=1",
    ],
    ids=lambda override: override[:30],
)
def test_overrides(tmp_path, capsys, override):
    words = ["train", "--config=configs/quickstart.py", f"--workdir={tmp_path}/run", f"--config.{override}"]
    _is_one_line(_in_process(words, capsys), "config.")


@pytest.mark.parametrize(
    "content",
    [
        "a = " + "[" * 100_000,
        "a = " + "{a=" * 100_000,
        "a" + ".a" * 100_000 + " = 1",
        "[" + "a." * 100_000 + "a]",
        b"\xff",
    ],
    ids=["arrays", "tables", "a key", "a table's name", "not UTF-8"],
)
def test_job_files(tmp_path, content):
    file = tmp_path / "job.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    _is_one_line(_ended("launch.gke", "submit", file, "--dry-run"), str(file))


@pytest.mark.parametrize("opening", [_LIST, _OBJECT])
@pytest.mark.parametrize("depth", _DEPTHS)
def test_files_of_models(tmp_path, capsys, opening, depth):
    deep = _nested(opening, depth)
    for name in ("config.json", "model.safetensors.index.json", "open_clip_config.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(deep)
        words = ["import", "--from=hf-clip", str(folder), f"--out={tmp_path}/clip"]
        _is_one_line(_in_process(words, capsys))
    (tmp_path / "clip.json").write_text(deep)
    video = Path(__file__)  # it is not reached
    words = ["zeroshot", f"--clip={tmp_path}", f"--video={video}", "--text=a"]
    _is_one_line(_in_process(words, capsys), "clip.json")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(len(deep).to_bytes(8, "little") + deep.encode())
    words = ["import", "--from=hf-clip", str(weights), f"--out={tmp_path}/clip"]
    _is_one_line(_in_process(words, capsys))
