"""Datasets with sound: what a build stores of the videos' sound tracks, and what readers make of it."""

import dataclasses
import importlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.quiet_tensorflow import import_tfds
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.dataset import ShardedDataset
from data_pipelines.reading.record_index import RecordIndex
from data_pipelines.rebuild_shard import rebuild_shard
from tests.clicks import CLICKS_S, click_times_s, write_clicks
from tests.tiny_runs import REPOSITORY
from unloc_jax.config import from_mapping
from unloc_jax.errors import UserError
from unloc_jax.sound import read_sound
from unloc_jax.sound_notes import notes_on_sound

pytest.importorskip("tensorflow_datasets")
_RATE = 8000
# By video id: what its file is.
_FILES = {
    "both": lambda folder: write_clicks(folder / "both.mp4", "aac"),
    "alone": lambda folder: write_clicks(folder / "alone.flac", "flac", picture=None),
    "mute": lambda folder: write_clicks(folder / "mute.mp4", []),
    "silent": lambda folder: write_clicks(folder / "silent.mkv", "flac", times_s=()),
    "short": lambda folder: write_clicks(folder / "short.mp4", "aac", picture_s=8.0),
    "tracks": lambda folder: write_clicks(folder / "tracks.mkv", ["flac", "aac"]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "videos").mkdir()
    for write in _FILES.values():
        write(folder / "videos")
    lines = [
        {"video": name, "split": split, "start": 0.9, "end": 1.2, "text": "it clicks"}
        for split, names in (("train", _FILES), ("test", ["both"]))
        for name in names
        if (split == "train" and name != "both") or split == "test"
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _build(files: Path, out: Path, **options) -> Path:
    options = {"fps": 5.0, "short_side": 32, "workers": 1, "sound_rate": _RATE} | options
    return build("jsonl", [files / "rows.jsonl"], files / "videos", out, **options)


@pytest.fixture(scope="module")
def dataset(files, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "shards"
    _build(files, out)
    return out


def _records(out: Path, split: str = "train", **kwargs) -> dict:
    index = RecordIndex.from_dir(find_dataset(out), split)
    return {record.video_id: record for record in (index.record(i, **kwargs) for i in range(len(index)))}


def test_records_hold_the_samples_of_the_files(files, dataset):
    records = _records(dataset) | _records(dataset, "test")
    assert set(records) == set(_FILES)
    for name, record in records.items():
        (path,) = (files / "videos").glob(f"{name}.*")
        expected = read_sound(path, _RATE)
        if name == "mute":
            assert expected is None and record.sound is None
            continue
        np.testing.assert_array_equal(record.sound.samples, expected.samples)
        np.testing.assert_allclose(record.sound.heard, expected.heard, atol=1e-5)
        assert record.sound.rate == _RATE
        assert bool(record.frames) == (name != "alone") and record.fps == 5.0
    assert records["alone"].duration_s == pytest.approx(3.0, abs=0.01)
    np.testing.assert_allclose(click_times_s(records["both"].sound.samples, _RATE), CLICKS_S, atol=0.01)
    assert all(record.sound is None for record in _records(dataset, with_frames=False).values())


def test_the_report_counts_what_is_missing_or_odd(dataset):
    info = read_build_info(dataset)
    assert info["sound_rate"] == _RATE and info["with_sound"] == {"train": 4, "test": 1}
    assert info["problems"]["videos"] == {
        "no sound track": 1,
        "silent sound track": 1,
        "sound ends before the picture": 1,
        "several sound tracks": 1,
    }


def test_check_tells_what_a_build_would_find(files, dataset, unloc):
    words = ["data", "check", "--dataset=jsonl", f"--annotations={files / 'rows.jsonl'}"]
    words += [f"--videos={files / 'videos'}"]
    result = json.loads(unloc(*words, "--audio", "--json").ok().out)
    assert result["sound"] == {"videos": 6, "with_sound": 5}
    assert result["problems"] == read_build_info(dataset)["problems"]["videos"]
    page = unloc(*words, "--audio").ok().out
    assert "sound: in 5 of 6 videos" in page and "silent sound track" in page
    without = json.loads(unloc(*words, "--json").ok().out)
    assert without["sound"] is None and "missing video" in without["problems"]
    assert "--audio-track" in unloc(*words, "--audio-track=1").error()


def test_clipped_sound_is_told(tmp_path):
    sound = read_sound(write_clicks(tmp_path / "a.wav", "pcm_s16le", picture=None))
    assert notes_on_sound(sound, 3.0) == ()
    loud = np.where(np.arange(len(sound.samples)) % 100 == 0, np.int16(32767), sound.samples)
    (note,) = notes_on_sound(dataclasses.replace(sound, samples=loud), 3.0)
    assert note.kind == "clipped sound" and "1.00 %" in note.detail
    (note,) = notes_on_sound(sound, 1.5)
    assert note.kind == "sound ends after the picture"


def test_what_check_prints_trains_and_evaluates(tmp_path, unloc, monkeypatch):
    """A click in each video, with the words that a user would copy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    lines = []
    for number in range(4):
        start_s = 1.0 + number / 2
        write_clicks(
            tmp_path / f"videos/{number}.wav", "pcm_s16le", times_s=(start_s,), seconds=6.0, picture=None
        )
        split = "test" if number == 3 else "train"
        lines.append(
            {
                "video": str(number),
                "split": split,
                "start": start_s,
                "end": start_s + 0.5,
                "text": "it clicks",
            }
        )
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    checked = unloc(
        "data", "check", "--dataset=jsonl", "--annotations=rows.jsonl", "--videos=videos", "--audio", "--json"
    )
    build_words, train_words, evaluate_words = map(shlex.split, json.loads(checked.ok().out)["start"])
    assert "--audio" in build_words and "--no-frames" in build_words
    unloc(*build_words[1:]).ok()
    config = next(word for word in train_words if word.startswith("--config="))
    train_words[train_words.index(config)] = config.replace("configs/", f"{REPOSITORY}/configs/")
    tiny = [
        "--config.train.steps=2",
        "--config.train.warmup_steps=1",
        "--config.model.fusion.num_layers=1",
        "--config.data.num_frames=16",
        "--config.model.pyramid.num_levels=2",
    ]
    unloc(
        *train_words[1:], *tiny, "--config.evaluation.every_steps=2", "--config.checkpoint.every_steps=2"
    ).ok()
    assert "recall (%)" in unloc(*evaluate_words[1:]).ok().out


def test_tfds_reads_it_too(dataset):
    tfds = import_tfds()
    loaded = tfds.builder_from_directory(find_dataset(dataset)).as_dataset(split="test")
    (example,) = tfds.as_numpy(loaded)
    samples = np.frombuffer(example["sound"], "<i2")
    np.testing.assert_allclose(click_times_s(samples, int(example["sound_rate"])), CLICKS_S, atol=0.01)


def test_shards_are_rebuilt_to_the_last_bit(dataset, capsys):
    (shard,) = find_dataset(dataset).glob("*train*tfrecord*")
    whole = shard.read_bytes()
    shard.unlink()
    rebuild_shard(shard, workers=1)
    assert shard.read_bytes() == whole and "to the last bit" in capsys.readouterr().out


def test_sound_alone_without_frames_and_another_track(files, tmp_path):
    _build(files, tmp_path / "a", with_frames=False, sound_track=0)
    records = _records(tmp_path / "a")
    assert not any(record.frames for record in records.values())
    assert records["short"].duration_s == pytest.approx(8.0, abs=0.1)
    assert records["mute"].duration_s == pytest.approx(3.0, abs=0.1)
    assert "several sound tracks" not in read_build_info(tmp_path / "a")["problems"]["videos"]
    with pytest.raises(UserError, match=r"other arguments \(sound was"):
        _build(files, tmp_path / "a", with_frames=False)
    dataset = ShardedDataset(_config(tmp_path / "a", {"audio": {"encoder": "audio"}}))
    (batch,) = dataset.evaluation_batches("test")
    assert batch.frames is None and batch.features["audio"].shape == (4, 6, 2000)
    with pytest.raises(UserError, match="reads frames, but"):
        ShardedDataset(_config(tmp_path / "a", {"rgb": {}, "audio": {"encoder": "audio"}}))


def _config(out: Path, modalities: dict, reader: str = "auto", **data):
    return from_mapping(
        {
            "task": "moment_retrieval",
            "batch_size": 4,
            "model": {
                "modalities": modalities,
                "audio": {"sample_rate": _RATE, "window_s": 0.25, "patch_frames": 4},
            },
            "data": {
                "dir": str(out),
                "num_frames": 6,
                "crop_size": 32,
                "reader": reader,
                "max_unreadable": 0.5,
            }
            | data,
            "evaluation": {"batch_size": 4},
            "train": {"steps": 8},
        }
    )


_BOTH = {"rgb": {}, "audio": {"encoder": "audio"}}


def _assert_same(one, other) -> None:
    one, other = list(one), list(other)
    assert len(one) == len(other) > 0
    for a, b in zip(one, other):
        np.testing.assert_array_equal(a.features["audio"], b.features["audio"])
        np.testing.assert_array_equal(a.input_masks["audio"], b.input_masks["audio"])
        np.testing.assert_array_equal(a.span_s, b.span_s)


@pytest.mark.parametrize("sampling", ["linspace", "window"])
def test_batches_hold_the_sound_around_every_place(files, dataset, sampling):
    readers = {}
    for reader in ("tf.data", "grain"):
        config = _config(dataset, _BOTH, reader, sampling=sampling, window_stride=2, mirror=True)
        readers[reader] = list(ShardedDataset(config).training_batches(0, 8))
        _assert_same(readers[reader][5:], ShardedDataset(config).training_batches(5, 8))
    _assert_same(readers["tf.data"], readers["grain"])
    whole = ShardedDataset(_config(dataset, _BOTH, sampling=sampling, window_stride=2, mirror=True))
    records = {record.video_id: record for record in _records(dataset).values()}
    heard = 0
    for step, batch in enumerate(readers["grain"]):
        assert batch.features["audio"].dtype == np.int16 and batch.features["audio"].shape == (4, 6, 2000)
        for row, video_id in enumerate(whole.training_videos(step)):
            sound, mask = records[video_id].sound, batch.input_masks["audio"][row]
            if not batch.example_mask[row] or sound is None:
                assert not mask.any() and not batch.features["audio"][row].any()
                continue
            times_s = np.linspace(*batch.span_s[row].astype(float), 6)
            ends = sound.heard[-1, 1] + 0.1
            np.testing.assert_array_equal(mask, (times_s <= ends) & batch.frame_mask[row])
            padded = np.pad(sound.samples, (1000, 40_000))
            for place, time_s in enumerate(times_s):
                first = round(time_s * _RATE)
                np.testing.assert_array_equal(
                    batch.features["audio"][row, place], padded[first : first + 2000]
                )
                heard += 1
    assert heard > 50


def test_evaluation_windows_agree(dataset):
    one, other = (
        ShardedDataset(
            _config(
                dataset,
                {"audio": {"encoder": "audio"}},
                reader,
                sampling="window",
                evaluation_windows="sliding",
            )
        )
        for reader in ("tf.data", "grain")
    )
    assert one.num_windows("train") == other.num_windows("train")
    assert max(one.num_windows("train")) > 1
    _assert_same(one.evaluation_batches("train"), other.evaluation_batches("train"))
    assert len(one.training_lengths()) == 5 and one.metadata.sound_rate == _RATE


def test_shards_without_the_sound_that_the_model_hears_are_refused(files, dataset, tmp_path):
    _build(files, tmp_path / "mute", sound_rate=0)
    with pytest.raises(
        UserError, match=r"was built without sound\. Build again with `unloc data build --audio 8000"
    ):
        ShardedDataset(_config(tmp_path / "mute", _BOTH))
    config = _config(dataset, _BOTH)
    audio = dataclasses.replace(config.model.audio, sample_rate=16000)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, audio=audio))
    with pytest.raises(UserError, match=r"holds 8000 samples of sound per second\. Set it to 8000"):
        ShardedDataset(config)
    others = ShardedDataset(_config(tmp_path / "mute", {"rgb": {}})).metadata.fingerprint
    assert others != ShardedDataset(_config(dataset, {"rgb": {}})).metadata.fingerprint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--no-frames", "--audio"], "Sound .* is read from video files: --videos DIR"),
        (["--videos", "videos", "--no-frames"], "without --audio there is nothing to read"),
        (["--videos", "videos", "--audio-track", "1"], "it needs --audio"),
        (["--videos", "videos", "--audio", "10"], "must be 1000 to 192000"),
        ([], "Give --videos DIR, or --no-frames"),
    ],
)
def test_options_that_do_not_go_together(files, tmp_path, monkeypatch, words, message):
    from unloc_jax.cli import _parser

    monkeypatch.chdir(files)
    line = ["data", "build", "--dataset=jsonl", "--annotations=rows.jsonl", f"--out={tmp_path}", *words]
    arguments = _parser().parse_args(line)
    with pytest.raises(UserError, match=message):
        arguments.run(arguments)


def test_beam_builds_the_same(files, dataset, tmp_path):
    pytest.importorskip("apache_beam")
    importlib.import_module("data_pipelines.builders.beam")
    _build(files, tmp_path / "beam", beam_options=["--runner=DirectRunner"])
    for name, record in _records(tmp_path / "beam").items():
        local = _records(dataset)[name]
        assert (record.sound is None) == (local.sound is None)
        if record.sound is not None:
            np.testing.assert_array_equal(record.sound.samples, local.sound.samples)
