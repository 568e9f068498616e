"""Without TensorFlow, or without the packages that replace it for reading data."""

import sys

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.builders.local import LocalBuild
from data_pipelines.reading.dataset import ShardedDataset
from tests.tiny import tiny_config
from tests.tiny_runs import FPS, SIZE
from unloc_jax.errors import EXIT_USER_ERROR, UserError, exit_status


@pytest.fixture
def missing(monkeypatch):
    """Makes packages impossible to import, also by modules of ours that have imported them."""

    def hide(*packages: str) -> None:
        for name in ("input_pipeline", "grain_pipeline"):
            monkeypatch.delitem(sys.modules, f"data_pipelines.reading.{name}", raising=False)
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return hide


def _dataset(folder, **data) -> ShardedDataset:
    sizes = {"dir": str(folder), "crop_size": SIZE, "num_frames": 8, "max_segments": 6, "max_queries": 6}
    return ShardedDataset(tiny_config(data=sizes | data, batch_size=2, evaluation={"batch_size": 2}))


def test_datasets_are_read_without_tensorflow_and_tfds(captions_dataset, missing):
    pytest.importorskip("grain")
    missing("tensorflow", "tensorflow_datasets")
    dataset = _dataset(captions_dataset)
    (batch,) = dataset.training_batches(start_step=3, num_steps=4)
    assert batch.frames.shape == (2, 8, SIZE, SIZE, 3) and batch.example_mask.all()
    videos = dataset.training_videos(3)
    assert len(set(videos) & {record.video_id for record in dataset.records("train")}) == len(set(videos)) > 0
    shown = np.concatenate([each.example_mask for each in dataset.evaluation_batches("test")])
    assert shown.sum() == len(dataset.records("test"))


@pytest.mark.parametrize(
    ("packages", "data", "message"),
    [
        (("tensorflow", "grain"), {}, "grain is missing: pip install 'unloc_jax[data]'"),
        (
            ("tensorflow",),
            {"reader": "tf.data"},
            "tensorflow is missing: pip install 'unloc_jax[tensorflow]'",
        ),
    ],
)
def test_the_message_names_what_to_install(captions_dataset, missing, packages, data, message):
    dataset = _dataset(captions_dataset, **data)
    missing(*packages)
    with pytest.raises(ModuleNotFoundError) as raised:
        next(dataset.training_batches(start_step=0, num_steps=1))
    assert exit_status(raised.value) == (EXIT_USER_ERROR, f"unloc: error: {message}")


@pytest.fixture
def build_captions(tiny_videos, tmp_path, monkeypatch):
    """Starts a build; it is a failure if it begins to decode."""

    def decoded(*args):
        raise AssertionError("it decodes")

    monkeypatch.setattr(LocalBuild, "start", decoded)
    files = [tiny_videos / "annotations" / "captions_train.json"]
    out = tmp_path / "out"
    yield lambda: build("activitynet_captions", files, tiny_videos / "videos", out, fps=FPS, short_side=SIZE)
    assert [file.name for file in out.iterdir()] == [".build.lock"]


def test_a_build_misses_tfds_before_it_decodes(build_captions, missing):
    missing("tensorflow_datasets")
    with pytest.raises(ModuleNotFoundError) as raised:
        build_captions()
    message = "unloc: error: tensorflow_datasets is missing: pip install 'unloc_jax[data]'"
    assert exit_status(raised.value) == (EXIT_USER_ERROR, message)


def test_packages_of_tfds_that_do_not_fit_together(build_captions, missing, tmp_path, monkeypatch):
    """As on Colab in 2026, if a check of theirs fails while they are imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow_datasets"]:
        monkeypatch.delitem(sys.modules, name)
    package = tmp_path / "packages" / "tensorflow_datasets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('gencode 6.31.1 runtime 5.29.6')")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(UserError, match=r"gencode 6\.31\.1.*pip install --upgrade tensorflow-datasets"):
        build_captions()
