"""A model that was trained on features of any program predicts from those of a new video."""

import dataclasses
import json

import numpy as np
import pytest

import unloc_jax
from data_pipelines.reading.dataset import ShardedDataset
from tests.features.test_feature_inputs import WINDOWS, annotations_of, train
from tests.shard_predictions import shard_predictions
from tests.tiny import random_params, tiny_config
from tests.tiny_runs import FPS, SIZE
from unloc_jax.errors import UserError
from unloc_jax.features.stored_features import StoredFeatures
from unloc_jax.inference.loaded_model import load_model
from unloc_jax.inference.localizer import Localizer

I3D, POSE = 6, 4  # numbers per row
MODALITIES = (
    "model.modalities={'i3d': {'encoder': 'features', 'feature_dim': 6}, "
    "'pose': {'encoder': 'features', 'feature_dim': 4}}"
)


@pytest.fixture(scope="module")
def places(tiny_videos, tmp_path_factory):
    """Features of two programs: .npy without times, transposed .npz with times."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "i3d").mkdir()
    (folder / "pose").mkdir()
    random = np.random.default_rng(0)
    for video in sorted((tiny_videos / "videos").iterdir()):
        count = int(random.integers(20, 40))
        np.save(folder / "i3d" / f"{video.stem}.npy", random.normal(size=(count, I3D)).astype(np.float32))
        rows = random.normal(size=(POSE, 13)).astype(np.float32)
        np.savez(folder / "pose" / f"{video.stem}.npz", features=rows, times_s=0.2 + 0.7 * np.arange(13))
    return folder


@pytest.fixture
def shards(unloc, tiny_videos, places):
    words = ("data", "build", "--dataset=activitynet_captions", "--no-frames", f"--out={places / 'shards'}")
    words += (
        f"--features=i3d={places / 'i3d'}",
        f"--features=pose={places / 'pose'}",
        "--features-axis=pose=1",
    )
    unloc(*words, "--annotations", *annotations_of(tiny_videos)).ok()
    return places / "shards"


@pytest.mark.slow
@pytest.mark.parametrize("windows", [(), WINDOWS])
def test_a_file_gives_what_the_shards_give(
    windows, unloc, config_file, places, shards, monkeypatch, tmp_path
):
    train(unloc, config_file, tmp_path / "run", shards, MODALITIES, *windows)
    texts = ["a red circle", "a square"]
    model, records, counts, _, found = shard_predictions(tmp_path / "run", monkeypatch, texts)
    assert (max(counts) > 1) == bool(windows)
    localizer = Localizer(model)
    for row, record in enumerate(records):
        files = {
            "i3d": places / "i3d" / f"{record.video_id}.npy",
            "pose": places / "pose" / f"{record.video_id}.npz",
        }
        video = localizer.embed_features(files, duration_s=record.duration_s)
        prediction = localizer(video, texts)
        assert (prediction.video, prediction.duration_s) == (str(files["i3d"]), record.duration_s)
        curve = np.stack([text.relevance for text in prediction.texts])
        np.testing.assert_allclose(curve, found.curves[row], atol=1e-5)
        for number, text in enumerate(prediction.texts):
            ours = [[s.start_s, s.end_s, s.score] for s in text.segments[:3]]
            theirs = np.column_stack([found.segments_s[row][number], found.scores[row][number]])[: len(ours)]
            np.testing.assert_allclose(np.reshape(ours, (-1, 3)), theirs, atol=1e-3)
    assert prediction.model["sees"] == "8 rows of i3d features and pose features"
    for look in (lambda: localizer("video.mp4", "a square"), localizer.check_videos):
        with pytest.raises(UserError, match="--features NAME=FILE"):
            look()


@pytest.fixture
def run(unloc, config_file, shards, places):
    """A model of both, trained once."""
    if not (places / "run").exists():
        train(unloc, config_file, places / "run", shards, MODALITIES)
    return places / "run"


@pytest.mark.slow
def test_the_command(unloc, run, places, tiny_videos, tmp_path):
    video = next((tiny_videos / "videos").glob("test_*.mp4"))
    words = (
        "predict",
        f"--checkpoint={run}",
        "--text=a square",
        f"--features=i3d={places / 'i3d' / video.stem}.npy",
    )
    both = (*words, f"--features=pose={places / 'pose' / video.stem}.npz:features")
    unloc(*both, "--duration=12", f"--out={tmp_path / 'a.json'}").ok()
    made = json.loads((tmp_path / "a.json").read_text())
    assert made["duration_s"] == 12 and made["video"].endswith(".npy")
    assert made["notes"] == ["features pose of another length (until 8.95 s of 12.00 s)"]
    # The video is measured, and the page plays it.
    unloc(*both, f"--video={video}", f"--out={tmp_path / 'b.html'}", f"--out={tmp_path / 'b.json'}").ok()
    made = json.loads((tmp_path / "b.json").read_text())
    assert made["duration_s"] == pytest.approx(unloc_jax.video.video_length_s(video))
    assert "<video" in (tmp_path / "b.html").read_text()
    # Without a length, it comes from the times.
    unloc(*both, f"--out={tmp_path / 'c.json'}").ok()
    assert json.loads((tmp_path / "c.json").read_text())["duration_s"] == pytest.approx(8.95)

    for more, told in (
        ((), "reads i3d and pose: give pose too (pose=FILE)"),
        (("--features=i3d=x",), "there are already features named i3d"),
        (("--features=clip=x",), "features 'clip': this model reads i3d and pose"),
        (("--features=pose",), "write NAME=FILE"),
        (("--features=pose=nowhere.npy",), "features pose: nowhere.npy: there is no such file"),
        ((f"--features=pose={tmp_path}",), "is a folder: name the file of one video"),
        ((f"--features=pose={video}",), "no file of features; these end in .npy"),
        (
            (f"--features=pose={places / 'i3d' / video.stem}.npy",),
            "this model reads rows of 4 numbers ([F, 4])",
        ),
        (("--features=pose=x.npz", "--clip=x"), "with --features leave it out"),
    ):
        assert told in unloc(*words, *more).error()
    assert "nothing to look at" in unloc("predict", f"--checkpoint={run}", "--text=a square").error()
    assert "--duration is for --features" in unloc(
        "predict", f"--checkpoint={run}", "--text=a square", f"--video={video}", "--duration=3"
    ).error()  # fmt: skip


@pytest.mark.slow
def test_arrays_in_python(run):
    localizer = unloc_jax.load(run)
    random = np.random.default_rng(1)
    i3d, pose = random.normal(size=(30, I3D)), random.normal(size=(10, POSE))
    with pytest.raises(UserError, match="say neither times nor length"):
        localizer.embed_features({"i3d": i3d, "pose": pose})
    of_equal_parts = localizer.embed_features({"i3d": i3d, "pose": pose}, duration_s=15.0)
    with_times = localizer.embed_features(
        {"i3d": StoredFeatures(i3d, (np.arange(30) + 0.5) / 2), "pose": StoredFeatures(pose.T)},
        duration_s=15.0,
    )
    assert of_equal_parts.windows[0].span_s.tolist() == [0.25, 14.75]
    np.testing.assert_allclose(of_equal_parts.windows[0].tokens, with_times.windows[0].tokens, atol=1e-5)
    with pytest.raises(UserError, match="must be above 0 seconds"):
        localizer.embed_features({"i3d": i3d, "pose": pose}, duration_s=-1.0)
    i3d[3, 1] = np.nan
    with pytest.raises(UserError, match="features i3d: an array: 1 of 180 values"):
        localizer.embed_features({"i3d": i3d, "pose": pose}, duration_s=15.0)


FRAMES_TOO = "model.modalities={'rgb': {}, 'i3d': {'encoder': 'features', 'feature_dim': 6, 'norm': True}}"


@pytest.mark.slow
@pytest.mark.parametrize("windows", [(), WINDOWS])
def test_a_model_of_frames_and_features(
    windows, unloc, config_file, places, tiny_videos, monkeypatch, tmp_path
):
    """The frames come from the file, the features from theirs, both at the times that the shards say."""
    if not (shards := places / "shards_with_frames").exists():
        words = ("data", "build", "--dataset=activitynet_captions", f"--videos={tiny_videos / 'videos'}")
        words += (
            f"--features=i3d={places / 'i3d'}",
            f"--out={shards}",
            f"--fps={FPS}",
            f"--short-side={SIZE}",
        )
        unloc(*words, "--annotations", *annotations_of(tiny_videos)).ok()
    train(unloc, config_file, tmp_path / "run", shards, FRAMES_TOO, *windows)
    model = load_model(tmp_path / "run")
    model = dataclasses.replace(model, params=random_params(model.task))
    dataset, localizer, seen = ShardedDataset(model.task.config), Localizer(model), []
    monkeypatch.setattr(localizer, "_embed_windows", lambda windows: tuple(seen.extend(windows) or seen))
    records = dataset.records("test")
    for record in records:
        video = tiny_videos / "videos" / f"{record.video_id}.mp4"
        localizer.embed_features({"i3d": places / "i3d" / f"{record.video_id}.npy"}, video=video)
    stored = [
        (batch, row)
        for batch in dataset.evaluation_batches("test")
        for row in np.flatnonzero(batch.example_mask)
    ]
    assert len(stored) == len(seen) and (len(seen) > len(records)) == bool(windows)
    for (batch, row), one in zip(stored, seen):
        real = one.mask
        np.testing.assert_array_equal(batch.frame_mask[row], real)
        np.testing.assert_allclose(batch.span_s[row], one.span_s)
        np.testing.assert_allclose(batch.features["i3d"][row][real], one.features["i3d"][real], atol=1e-5)
        jpeg = np.abs(batch.frames[row][real].astype(float) - one.frames[real]).mean()
        assert jpeg < 6
    monkeypatch.undo()

    words = ("predict", f"--checkpoint={tmp_path / 'run'}", "--text=a square")
    features = f"--features=i3d={places / 'i3d' / record.video_id}.npy"
    unloc(*words, features, f"--video={video}", f"--out={tmp_path / 'a.json'}").ok()
    made = json.loads((tmp_path / "a.json").read_text())
    assert made["video"] == str(video)
    assert made["model"]["sees"] == f"8 frames of {SIZE}×{SIZE} and 8 rows of i3d features"
    for more, told in (
        ((features, "--duration=3"), "reads i3d and frames: give the video too (--video FILE"),
        ((f"--video={video}",), "Give it the features of the video: --features NAME=FILE"),
        ((f"--video={video}", "--features=rgb=x.npy"), "features 'rgb': this model reads i3d and frames"),
        ((features, f"--video={places / 'i3d' / record.video_id}.npy"), "npy"),
    ):
        assert told in unloc(*words, *more).error()


@pytest.mark.slow
def test_a_model_of_frames_refuses_features(unloc, trained, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    words = ("predict", f"--checkpoint={trained}", "--text=a square", f"--features=clip={tmp_path / 'a.npy'}")
    assert "this model reads frames alone: give it a video" in unloc(*words, "--duration=3").error()


def test_training_segments_are_measured_in_rows(shards, places):
    """The finest features are read to find how long a row is; lengths are seconds over that."""
    modality = {"i3d": {"encoder": "features", "feature_dim": I3D}}
    data = {"dir": str(shards), "num_frames": 5}
    spread = ShardedDataset(tiny_config(data=data, model={"modalities": modality}))
    windows = data | {"sampling": "window", "window_stride": 2}
    windowed = ShardedDataset(tiny_config(data=windows, model={"modalities": modality}))
    expected_of_all, expected_in_rows = [], []
    for record in spread.records("train"):
        seconds = np.diff(record.segments_s)[:, 0]
        rows = len(np.load(places / "i3d" / f"{record.video_id}.npy"))
        expected_of_all.extend(seconds / record.duration_s * 4)
        expected_in_rows.extend(seconds / record.duration_s * rows / 2)
    np.testing.assert_allclose(spread.training_lengths(), expected_of_all, rtol=1e-5)
    np.testing.assert_allclose(windowed.training_lengths(), expected_in_rows, rtol=1e-5)
    assert len(expected_in_rows) > 3
