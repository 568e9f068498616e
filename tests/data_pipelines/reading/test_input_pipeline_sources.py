"""The pipeline over records of all kinds: windows, features, pictures of other sizes, and records that are damaged."""

import importlib
import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines.reading.example import ExampleSpec
from data_pipelines.reading.rows import Source
from unloc_jax.config import AugmentationConfig, DataConfig
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord

FPS, T, SIZE, L = 4.0, 4, 16, 8


@pytest.fixture(autouse=True, params=["input_pipeline", "grain_pipeline"])
def reader(request):
    """Runs every test with both readers."""
    global training_batches, evaluation_batches
    pytest.importorskip({"input_pipeline": "tensorflow", "grain_pipeline": "grain"}[request.param])
    module = importlib.import_module(f"data_pipelines.reading.{request.param}")
    training_batches, evaluation_batches = module.training_batches, module.evaluation_batches
    return module


def _jpeg(value: int, height: int = SIZE, width: int = SIZE) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), value).convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _record(number: int, count: int = 8, **size) -> VideoRecord:
    """Every frame is grey: 10 · video + frame / 2."""
    frames = [_jpeg(10 * number + i // 2, **size) for i in range(count)]
    segments, features = np.array([[0.0, 1.0]], np.float32), {"clip": np.full((5, 3), number, np.float32)}
    return VideoRecord(f"v{number}", count / FPS, "train", segments, ["runs"], [{}], FPS, frames, features)


class Records:
    """In memory, as `RecordIndex` has them in files."""

    def __init__(self, records):
        self._records = records

    def __len__(self):
        return len(self._records)

    def borrow(self, i, with_frames, with_features, with_sound):
        record = self._records[i]
        if isinstance(record, Exception):
            raise record
        return record

    def describe(self, i, reason):
        return f"shard: record {i}: {reason}. Rebuild it."


def _source(records, windows=None, with_frames=True, features=None, **settings):
    config = DataConfig(
        **{"num_frames": T, "crop_size": SIZE, "max_segments": 2, "max_queries": 2} | settings
    )
    return Source(Records(records), ExampleSpec(config, L, None, with_frames, features or {}), None, windows)


def _train(source, steps, batch_size=2, start=0):
    return list(training_batches(source, seed=0, batch_size=batch_size, start_step=start, num_steps=steps))


def _videos(batch) -> list[int]:
    """The video that each row shows; -1 for an empty one."""
    numbers = batch.frames[:, 0].mean((1, 2, 3)).round().astype(int) // 10
    return [int(n) if real else -1 for n, real in zip(numbers, batch.example_mask)]


def test_every_window_of_every_video_in_order():
    source = _source(
        [_record(1), _record(2), _record(3)],
        [np.array([0, 2, 4]), np.array([1]), np.array([0, 4])],
        sampling="window",
    )
    batches = list(evaluation_batches(source, batch_size=4))
    frames = np.concatenate([batch.frames for batch in batches]).mean((2, 3, 4)).round()
    real = np.concatenate([batch.example_mask for batch in batches])
    np.testing.assert_array_equal(real, [True] * 6 + [False] * 2)
    rows = [(1, 0), (1, 2), (1, 4), (2, 1), (3, 0), (3, 4)]
    expected = [[10 * video + (start + i) // 2 for i in range(T)] for video, start in rows]
    np.testing.assert_allclose(frames[real], expected, atol=1)
    spans_s = np.concatenate([batch.span_s for batch in batches])[real]
    np.testing.assert_allclose(spans_s, [[start / FPS, (start + T - 1) / FPS] for _, start in rows])


@pytest.mark.parametrize("with_frames", [True, False])
def test_features_come_beside_frames_or_alone(with_frames):
    source = _source([_record(i) for i in range(3)], with_frames=with_frames, features={"clip": 3})
    (batch,) = evaluation_batches(source, batch_size=3)
    assert (batch.frames is not None) == with_frames
    np.testing.assert_array_equal(batch.features["clip"], np.tile(np.arange(3)[:, None, None], (1, T, 3)))
    again = np.concatenate([batch.features["clip"][:, 0, 0] for batch in _train(source, 6, 1)])
    assert sorted(again[:3]) == sorted(again[3:]) == [0, 1, 2]


def test_scaled_crops_show_the_right_part():
    """A picture that is bright on the right, twice as large as wanted."""
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, 32:] = 200
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=98)
    record = VideoRecord("v", 1.0, "train", np.zeros((0, 2)), [], [], FPS, [buffer.getvalue()] * 4)
    spec = ExampleSpec(DataConfig(num_frames=T, crop_size=SIZE), L, None, short_side=16)
    (batch,) = evaluation_batches(Source(Records([record]), spec), batch_size=1)
    columns = batch.frames[0, 0].mean((0, 2))
    np.testing.assert_allclose(columns[:7], 0, atol=4)
    np.testing.assert_allclose(columns[9:], 200, atol=4)


def test_scale_jitter_is_the_same_for_all_frames_and_drawn_anew():
    gradient = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 64, 3))
    buffer = io.BytesIO()
    Image.fromarray(gradient).save(buffer, "JPEG", quality=98)
    record = VideoRecord("v", 1.0, "train", np.zeros((0, 2)), [], [], FPS, [buffer.getvalue()] * 4)
    jitter = AugmentationConfig(scale_jitter=(0.5, 1.5))
    slopes = []
    for batch in _train(_source([record], augmentation=jitter), 12, 1):
        rows = batch.frames[0].mean((2, 3))  # [T, H]
        np.testing.assert_array_equal(rows, rows[:1].repeat(T, 0))
        slopes.append((rows[0, -1] - rows[0, 0]) / (SIZE - 1) / 3)  # stored pixels per pixel
    assert 1 / 1.6 < min(slopes) < 0.9 and 1.2 < max(slopes) < 1 / 0.45


@pytest.mark.parametrize("upright", [False, True])
def test_crops_from_one_end_of_the_longer_side_to_the_other(upright):
    """Pictures of 16 × 40 whose brightness is their place along the longer side."""
    ramp = np.tile(np.arange(40, dtype=np.uint8)[None, :, None] * 6, (16, 1, 3))
    buffer = io.BytesIO()
    Image.fromarray(ramp.transpose(1, 0, 2) if upright else ramp).save(buffer, "JPEG", quality=100)
    frames = [buffer.getvalue()] * T
    records = [VideoRecord(str(i), 1.0, "train", np.zeros((0, 2)), [], [], FPS, frames) for i in range(3)]
    batches = list(evaluation_batches(_source(records), batch_size=2, crops=3))
    np.testing.assert_array_equal([batch.example_mask.sum() for batch in batches], [6, 3])
    seen = np.concatenate([batch.frames for batch in batches]).mean((1, 4))  # [rows, H, W]
    first = seen.mean(2)[:, 0] if upright else seen.mean(1)[:, 0]
    np.testing.assert_allclose(first[:9] / 6, [0, 12, 24] * 3, atol=0.5)


DAMAGED = {
    "a record that cannot be read": lambda: UserError("shard: record 3 is corrupted (checksum). Rebuild it."),
    "no frames": lambda: _record(3, count=0),
    "a truncated picture": lambda: _with_frames(_record(3), lambda jpeg: jpeg[:-9]),
    "a picture that only looks whole": lambda: _with_frames(
        _record(3), lambda jpeg: jpeg[:200] + b"\xff\xd9"
    ),
}


def _with_frames(record, change):
    record.frames = list(map(change, record.frames))
    return record


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
def test_training_goes_on_without_what_cannot_be_read(damaged, capfd):
    whole = [_record(i) for i in range(8)]
    source = lambda records: _source(records, max_unreadable=0.2, num_workers=1)
    expected = _train(source(whole), 12)
    found = _train(source([*whole[:3], damaged(), *whole[4:]]), 12)
    assert len(found) == 12
    for a, b in zip(expected, found):
        assert [-1 if video == 3 else video for video in _videos(a)] == _videos(b)
        np.testing.assert_array_equal(a.frames[b.example_mask], b.frames[b.example_mask])
        assert not b.text_mask[~b.example_mask].any() and (b.segment_text[~b.example_mask] == -1).all()
    notes = [line for line in capfd.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and "left out (1 of 8 so far): shard: record 3" in notes[0]


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
def test_evaluation_stops_at_what_cannot_be_read(damaged):
    records = [*(_record(i) for i in range(3)), damaged(), _record(4)]
    with pytest.raises(UserError, match=r"shard: record 3.* Rebuild it\."):
        list(evaluation_batches(_source(records), batch_size=2))


def test_training_stops_when_too_much_cannot_be_read():
    records = [_record(0), _record(1, count=0), _record(2, count=0), _record(3)]
    assert len(_train(_source(records, max_unreadable=0.5), 4)) == 4
    with pytest.raises(
        UserError,
        match=r"2 of 4 records cannot be read, more than config.data.max_unreadable allows: shard: .*",
    ):
        _train(_source(records, max_unreadable=0.25), 4)


def test_a_later_picture_that_is_smaller():
    record = _record(1)
    record.frames = [*record.frames[:4], *(_jpeg(9, 8, 8) for _ in range(4))]
    with pytest.raises(UserError, match="cannot be decoded"):
        list(evaluation_batches(_source([record]), batch_size=1))
