"""The batches of Grain's reader are those of tf.data's, so that a run may be continued with either."""

import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines.reading.example import ExampleSpec
from data_pipelines.reading.rows import Source
from tests.data_pipelines.reading.test_input_pipeline_sources import Records
from unloc_jax.batch import Batch
from unloc_jax.config import AugmentationConfig, DataConfig
from unloc_jax.records import VideoRecord

pytest.importorskip("tensorflow")
pytest.importorskip("grain")
from data_pipelines.reading import grain_pipeline, input_pipeline

SHAPE = (40, 56)
FIELDS = [name for name in Batch.__dataclass_fields__ if name not in ("frames", "features", "vocabulary")]


def _videos(count: int = 7) -> list[VideoRecord]:
    """Coloured noise, smooth enough that scaling by other arithmetic hardly changes it; also JPEGs of greys."""
    rng = np.random.default_rng(0)
    videos = []
    for video in range(count):
        frames = []
        for _ in range(6):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
            picture = coarse.resize(SHAPE[::-1], Image.Resampling.BICUBIC)
            buffer = io.BytesIO()
            (picture.convert("L") if video == 3 else picture).save(buffer, "JPEG", quality=90)
            frames.append(buffer.getvalue())
        segments = np.array([[0.2, 0.9], [0.5, 1.0]], np.float32)
        texts = [f"left of {video}", f"right of {video}"]
        videos.append(VideoRecord(f"v{video}", 1.5, "train", segments, texts, [{}, {}], 4.0, frames))
    return videos


def _source(windows=None, short_side=0, **settings) -> Source:
    config = DataConfig(**{"num_frames": 4, "crop_size": 32, "max_queries": 2, "max_segments": 2} | settings)
    return Source(Records(_videos()), ExampleSpec(config, 8, None, short_side=short_side), None, windows)


def _assert_same(one, other, levels=0, border=1):
    """All is equal, except for `border` pixels: tf.data decodes the crop alone, which changes how colours continue."""
    one, other = list(one), list(other)
    assert len(one) == len(other) > 0
    inside = slice(border, -border)
    for a, b in zip(one, other):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)
        difference = np.abs(a.frames.astype(int) - b.frames)
        assert difference[:, :, inside, inside].max() <= levels
        assert difference.mean() < 1


@pytest.mark.parametrize("seed", [0, 11])
def test_training_also_when_it_is_continued_by_the_other(seed):
    source = _source(mirror=True, prompts=("{}", "now {}"), sampling="window", num_workers=3)
    common = {"source": source, "seed": seed, "batch_size": 4, "num_steps": 9, "host": 1, "num_hosts": 2}
    from_start = list(input_pipeline.training_batches(**common, start_step=0))
    _assert_same(from_start, grain_pipeline.training_batches(**common, start_step=0))
    _assert_same(from_start[5:], grain_pipeline.training_batches(**common, start_step=5))


def test_evaluation():
    source = _source([np.array([0, 2])] * 7, sampling="window")
    both = (
        reader.evaluation_batches(source, batch_size=3, crops=3)
        for reader in (input_pipeline, grain_pipeline)
    )
    _assert_same(*both)


@pytest.mark.parametrize(
    "settings", [{"short_side": 34}, {"augmentation": AugmentationConfig(scale_jitter=(0.8, 1.3))}]
)
def test_scaled_pictures_differ_by_a_level_at_most(settings):
    common = {"source": _source(**settings), "seed": 3, "batch_size": 2, "num_steps": 6, "start_step": 0}
    both = (reader.training_batches(**common) for reader in (input_pipeline, grain_pipeline))
    _assert_same(*both, levels=1, border=3)
