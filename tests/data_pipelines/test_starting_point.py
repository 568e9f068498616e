"""What `unloc data check` lets a user begin with: commands that work as they are, fitted to the data."""

import csv
import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.annotations import parse
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems
from data_pipelines.check import check, to_text
from data_pipelines.starting_point import commands, starting_point
from unloc_jax.cli import main
from unloc_jax.config import load
from unloc_jax.records import VideoRecord


def parsed(durations_s, lengths_s, classes=("a", "b"), split="train") -> ParsedAnnotations:
    """Videos whose segments of these lengths (shares of nothing: seconds) begin one after the other."""
    records = []
    for number, duration_s in enumerate(durations_s):
        starts = np.linspace(0, duration_s - max(lengths_s), len(lengths_s))
        segments = np.stack([starts, starts + lengths_s], 1).astype(np.float32)
        texts = [f"{(classes or 'ab')[i % 2]}" for i in range(len(lengths_s))]
        records.append(VideoRecord(f"v{number}", duration_s, split, segments, texts, [{}] * len(texts)))
    return ParsedAnnotations(records, Problems(), list(classes) if classes else None)


def settings_of(point) -> list[str]:
    return [f"{name}={value}" for name, value in point.settings.items()]


@given(
    shortest=st.floats(0.2, 60),
    spread=st.floats(1, 8),
    duration=st.floats(1.5, 40),
    queries=st.booleans(),
    hears=st.booleans(),
)
def test_every_dataset_gets_a_valid_config(shortest, spread, duration, queries, hears):
    """A short segment has several samples, a long one fits into the window, which is not much longer than a video."""
    lengths_s = np.linspace(shortest, spread * shortest, 7)
    duration_s = duration * lengths_s.max()
    point = starting_point(parsed([duration_s] * 5, lengths_s, None if queries else ("a", "b")), hears=hears)
    config = load(f"configs/{'sound' if hears else 'small'}.py:{point.task}", settings_of(point))
    assert config.task == ("moment_retrieval" if queries else point.task)
    assert config.model.reads_sound == hears and config.model.reads_frames != hears
    rate = point.fps / config.data.window_stride
    assert shortest * rate > (1.5 if hears else 3) or point.fps in (0.2, 30.0)
    assert not hears or config.model.audio.window_s >= 1 / rate  # no sound falls between places
    assert config.data.num_frames >= min(
        1.2 * lengths_s.max(), duration_s
    ) * rate or config.data.num_frames == (512 if hears else 256)
    assert config.data.num_frames <= max(16, duration_s * rate + 16)


def test_long_sentences_are_read_to_their_end():
    data = parsed([40.0], [4.0, 3.0], None)
    data.records[0].texts[0] = " ".join(["word"] * 30)
    assert starting_point(data).settings["model.text.max_tokens"] == 32
    assert "model.text.max_tokens" not in starting_point(parsed([40.0], [4.0, 3.0], None)).settings


def test_nothing_to_localise():
    assert starting_point(parsed([], [1.0])) is None
    assert starting_point(parsed([4.0, 4.0], [4.0])) is None  # trimmed clips
    assert starting_point(parsed([40.0], [4.0], split="test")) is None


def test_the_task_follows_the_annotations():
    assert starting_point(parsed([40.0], [4.0, 3.0])).task == "temporal_action_localization"
    assert starting_point(parsed([40.0], [4.0, 3.0], None)).task == "moment_retrieval"
    record = VideoRecord("v", 40.0, "train", np.array([[0, 15], [15, 40]], np.float32), ["a", "b"], [{}, {}])
    assert starting_point(ParsedAnnotations([record], Problems(), ["a", "b"])).task == "action_segmentation"


@pytest.mark.parametrize(
    ("classes", "mirrored"),
    [(("wave", "nod"), True), (("turn left", "nod"), False), (("go left", "go right"), True)],
)
def test_videos_are_mirrored_where_the_classes_allow_it(classes, mirrored):
    assert starting_point(parsed([40.0], [4.0, 3.0], classes)).settings["data.mirror"] is mirrored


def _table(folder: Path, split: str, videos: int) -> Path:
    path = folder / f"{split}.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "start", "end", "label", "duration"])
        for number in range(videos):
            rows.writerows([[f"{split}{number}", 3 + k, 5 + 2 * k, "ab"[k], 20] for k in range(2)])
    return path


@pytest.mark.slow
def test_the_printed_commands_work(tmp_path, monkeypatch):
    """Build, train and evaluate on features, as printed; only the number of steps is less."""
    monkeypatch.chdir(tmp_path)
    files = [_table(tmp_path, split, 4) for split in ("train", "val")]
    folder = tmp_path / "my features"
    folder.mkdir()
    for split in ("train", "val"):
        for number in range(4):
            np.save(
                folder / f"{split}{number}.npy",
                np.random.default_rng(number).normal(size=(200, 5)).astype("f4"),
            )
    result = check("csv", files, features=[f"pose={folder}"])
    text = to_text(result)
    lines = [line.strip() for line in text.splitlines() if line.startswith("  unloc ")]
    assert lines == result["start"] and len(lines) == 3
    for line in lines:
        words = shlex.split(line)[1:]
        main(
            [*words, "--config.train.steps=2", "--config.train.warmup_steps=1"]
            if words[0] == "train"
            else words
        )
    metrics = json.loads((tmp_path / "run" / "evaluation" / "validation" / "metrics.json").read_text())
    assert metrics["videos"] == 4


REAL = Path("../shared/real")


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
@pytest.mark.parametrize(
    ("name", "config", "features"),
    [
        ("signs", "signs", []),
        ("actions", "actions", [f"pose={REAL / 'actions' / 'features'}"]),
        ("sounds", "sounds", []),
    ],
)
def test_the_real_configs_are_what_is_printed(name, config, features):
    """What configs/real reaches is what a user of other recordings can expect."""
    annotations = [REAL / name / "activitynet.json"]
    if name == "sounds":  # `check` would read the sound of all videos
        point = starting_point(parse("activitynet", annotations), hears=True)
        (_, train, _) = commands(point, "activitynet", annotations, None)
    else:
        (_, train, _) = check("activitynet", annotations, features=features)["start"]
    path, *settings = [
        word.removeprefix("--config.") for word in shlex.split(train)[2:] if "--config" in word
    ]
    given = [word for word in settings if not word.startswith("data.dir=")]
    printed = load(path.removeprefix("--config="), given)
    stored = load(f"configs/real/{config}.py:{printed.task}")
    same = dataclasses.replace(stored.data, dir="", max_queries=printed.data.max_queries)
    assert dataclasses.replace(stored, data=same) == printed
