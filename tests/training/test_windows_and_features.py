"""Models that read windows, or precomputed features: trained, evaluated and applied to a file."""

import json

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.builders.feature_files import feature_sources
from tests.shard_predictions import shard_predictions
from tests.tiny_runs import FPS, metric_lines
from unloc_jax.inference.localizer import Localizer

pytestmark = pytest.mark.slow

WINDOWS = ("data.sampling='window'", "data.window_stride=2", "data.window_overlap=0.5")


def _train(unloc, config_file, workdir, dataset, *settings):
    words = ("train", f"--config={config_file}", f"--workdir={workdir}", f"--config.data.dir={dataset}")
    done = unloc(*words, *(f"--config.{setting}" for setting in settings)).ok()
    assert all(np.isfinite(value) for line in metric_lines(workdir) for value in line.values())
    return done


@pytest.mark.parametrize("task", ["highlight_detection", "action_segmentation"])
def test_windows_from_shards_and_from_a_file(
    task, unloc, config_file, tiny_videos, captions_dataset, activities_dataset, monkeypatch, tmp_path
):
    """A video's merged windows are the same from its shard and from its mp4."""
    dataset_dir = captions_dataset if task == "highlight_detection" else activities_dataset
    stages = ("train.steps=2", "contrastive.steps=0", "contrastive.warmup_steps=0", "train.warmup_steps=1")
    colors = "data.augmentation={'color': 0.5, 'rand_augment_layers': 1, 'scale_jitter': (0.9, 1.2)}"
    _train(unloc, config_file, tmp_path / "run", dataset_dir, f"task='{task}'", *WINDOWS, *stages, colors)
    report = unloc("evaluate", f"--checkpoint={tmp_path / 'run'}").ok().out
    assert "frame_accuracy" in report or "HL-mAP" in report

    model, records, windows, texts, found = shard_predictions(tmp_path / "run", monkeypatch)
    frames = [round(record.duration_s * FPS) for record in records]
    length, hop = 7 * 2 + 1, 4 * 2
    assert windows == [1 + max(0, -(-(count - length) // hop)) for count in frames]
    assert max(windows) > 2
    for row, (record, count) in enumerate(zip(records, frames)):
        prediction = Localizer(model)(tiny_videos / "videos" / f"{record.video_id}.mp4", texts)
        curve = np.stack([text.relevance for text in prediction.texts])
        assert curve.shape == found.curves[row].shape
        assert np.abs(curve - found.curves[row]).max() < 0.05  # JPEG, or not
        times_s = prediction.texts[0].relevance_times_s
        assert (times_s[0], times_s[-1]) == pytest.approx((0, (count - 1) / FPS), abs=1.01 / FPS)
        if found.scores:
            ours = np.array([s.score for s in prediction.texts[0].segments[:3]])
            np.testing.assert_allclose(ours, found.scores[row][0][: len(ours)], atol=0.05)


def test_a_model_of_precomputed_features(unloc, config_file, tiny_videos, tmp_path):
    """Without frames; over the whole video, and in windows of rows."""
    features, rng = tmp_path / "features", np.random.default_rng(0)
    features.mkdir()
    for file in (tiny_videos / "videos").glob("*.mp4"):
        np.save(features / f"{file.stem}.npy", rng.normal(size=(rng.integers(20, 60), 5)).astype(np.float32))
    files = [tiny_videos / "annotations" / f"captions_{split}.json" for split in ("train", "val", "test")]
    dataset = tmp_path / "dataset"
    build(
        "activitynet_captions",
        files,
        None,
        dataset,
        features=feature_sources([f"motion={features}"]),
        workers=1,
    )
    modality = "model.modalities={'motion': {'encoder': 'features', 'feature_dim': 5}}"
    for name, settings in (("whole", ()), ("windows", WINDOWS)):
        workdir = tmp_path / name
        _train(unloc, config_file, workdir, dataset, "data.mirror=False", modality, *settings)
        unloc("evaluate", f"--checkpoint={workdir}").ok()
        lines = (workdir / "evaluation" / "test" / "predictions.jsonl").read_text().splitlines()
        assert len({json.loads(line)["vid"] for line in lines}) == 3
    refused = unloc("predict", f"--checkpoint={workdir}", f"--video={file}", "--text=a dog").error()
    assert (
        "this model reads motion; only a model of one kind of features, made by `unloc features`" in refused
    )


def test_features_that_the_dataset_does_not_have(unloc, config_file, captions_dataset, tmp_path):
    words = (
        "train",
        f"--config={config_file}",
        f"--workdir={tmp_path / 'x'}",
        f"--config.data.dir={captions_dataset}",
    )
    alone = "--config.model.modalities={'i3d': {'encoder': 'features', 'feature_dim': 5}}"
    assert "holds none of that name (there: none)" in unloc(*words, alone).error()
