"""One record → one row: windows, features, crops, and which queries may be trained."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines.reading.example import Draws, ExampleSpec, empty_example, make_example
from unloc_jax.config import AugmentationConfig, DataConfig
from unloc_jax.records import VideoRecord
from unloc_jax.text import tokenize

FPS, STORED, T, L = 4.0, 40, 6, 8
MIDDLE = Draws(*[0.5] * len(Draws._fields))


def _jpeg(height: int = 20, width: int = 30, value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), value).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def _record(segments, texts, *, features=None, count=STORED, **size) -> VideoRecord:
    return VideoRecord(
        "v",
        count / FPS,
        "train",
        np.array(segments, np.float32).reshape(-1, 2),
        list(texts),
        [{}] * len(texts),
        fps=FPS,
        frames=[_jpeg(value=i, **size) for i in range(count)],
        features=features or {},
    )


def _spec(classes=None, with_frames=True, features=None, **settings) -> ExampleSpec:
    sizes = {"num_frames": T, "crop_size": 16, "max_segments": 3, "max_queries": 3}
    return ExampleSpec(DataConfig(**sizes | settings), L, classes, with_frames, features or {})


WINDOW = {"sampling": "window", "window_stride": 3}


def test_a_window_shows_every_stride_th_frame_and_cuts_segments():
    record = _record([[2.0, 4.0], [0.0, 1.0], [9.0, 9.5]], ["runs", "jumps", "waves"])
    example = make_example(record, _spec(**WINDOW), None, start=10)
    # Frames 10, 13, …, 25: 2.5 to 6.25 s, 0.75 s per step.
    assert example.encoded == [record.frames[i] for i in (10, 13, 16, 19, 22, 25)]
    np.testing.assert_allclose(example.fields["span_s"], [2.5, 6.25])
    np.testing.assert_array_equal(example.fields["segment_text"], [0, -1, -1])
    np.testing.assert_allclose(example.fields["segments"][0], [0, 2.0])  # (4 - 2.5) / 0.75
    # The others happen nowhere in this window: they are trained as that.
    np.testing.assert_array_equal(example.fields["text_mask"], [True] * 3)
    np.testing.assert_array_equal(example.fields["text_tokens"], tokenize(["runs", "jumps", "waves"], L))


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.999])
def test_speed_jitter_changes_the_distance_of_the_places(draw):
    """Frames, rows and segments keep their times."""
    features = {"clip": np.arange(STORED, dtype=np.float32)[:, None]}
    record = _record([[0.5, 1.75]], ["runs"], features=features)
    jitter = AugmentationConfig(speed_jitter=(0.5, 1.5))
    spec = _spec(features={"clip": 1}, augmentation=jitter, **WINDOW)
    example = make_example(record, spec, MIDDLE._replace(speed=draw, window=0.0))
    step_s = 3 * (0.5 + draw) / FPS
    times_s = step_s * np.arange(T)
    np.testing.assert_allclose(example.fields["span_s"], times_s[[0, -1]], rtol=1e-6)
    assert example.encoded == [record.frames[i] for i in np.rint(times_s * FPS).astype(int)]
    np.testing.assert_allclose(
        example.features["clip"][:, 0], np.clip(times_s * FPS - 0.5, 0, None), rtol=1e-5
    )
    np.testing.assert_allclose(example.fields["segments"][0], [0.5 / step_s, 1.75 / step_s], rtol=1e-5)
    evaluated = make_example(record, spec, None)
    np.testing.assert_allclose(evaluated.fields["span_s"], [0.0, 3 * (T - 1) / FPS])


def test_a_window_of_a_shorter_video_is_masked_behind_its_end():
    record = _record([[0.0, 2.5]], ["runs"], count=10)
    example = make_example(record, _spec(**WINDOW), None, start=0)
    np.testing.assert_array_equal(example.fields["frame_mask"], [True] * 4 + [False] * 2)
    assert example.encoded == [record.frames[i] for i in (0, 3, 6, 9, 9, 9)]
    np.testing.assert_allclose(example.fields["segments"][0], [0, 3])


def test_random_windows_start_everywhere():
    record = _record([[0.0, 10.0]], ["runs"])
    starts = [
        record.frames.index(make_example(record, _spec(**WINDOW), MIDDLE._replace(window=u)).encoded[0])
        for u in np.linspace(0, 0.999, 200)
    ]
    assert (min(starts), max(starts)) == (0, STORED - 1 - 15)
    assert sorted(set(starts)) == list(range(25))


def test_a_query_whose_segment_had_no_room_is_not_trained():
    record = _record([[0.0, 1.0], [2.0, 3.0]], ["runs", "jumps"])
    example = make_example(record, _spec(max_segments=1), None)
    np.testing.assert_array_equal(example.fields["text_mask"], [True, False, False])
    # And one of which nobody knows where it happens is not, either.
    unknown = make_example(_record([], ["runs"]), _spec(), None)
    assert not unknown.fields["text_mask"].any()


def test_a_window_of_a_long_video_trains_queries_that_it_shows():
    """A film has hundreds; a run of them by chance would hardly meet the window."""
    count, rows = 100, 1000  # a query every 2.5 s of 250 s, windows of 24 s
    starts_s = np.arange(count) * 2.5
    record = VideoRecord(
        "film", rows / FPS, "train", np.stack([starts_s, starts_s + 2], axis=1).astype(np.float32),
        [str(i) for i in range(count)], [{}] * count, features={"clip": np.zeros((rows, 2), np.float32)},
    )  # fmt: skip
    spec = _spec(with_frames=False, features={"clip": 2}, sampling="window", num_frames=96, max_queries=6)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        fields = make_example(record, spec, Draws(*rng.random(len(Draws._fields)))).fields
        inside = set(fields["segment_text"][fields["segment_text"] >= 0].tolist())
        assert fields["text_mask"].sum() == 6 and len(np.unique(fields["text_tokens"], axis=0)) == 6
        assert inside == {0, 1, 2}  # half: the others are in the film, but not in this window
        seen |= {tuple(tokens) for tokens in fields["text_tokens"].tolist()}
    assert len(seen) == count
    seen_of_few = make_example(
        record, dataclasses.replace(spec, config=dataclasses.replace(spec.config, num_frames=16)), MIDDLE
    ).fields["segment_text"]
    assert 1 <= (seen_of_few >= 0).sum() <= 3  # a window that shows fewer has more of the others


def _ramp(rows: int) -> np.ndarray:
    """Features that hold their time: row i is at the middle of the i-th of F parts of 10 s."""
    return ((np.arange(rows) + 0.5) * 10 / rows)[:, None].astype(np.float32) * [1.0, -1.0]


@pytest.mark.parametrize("settings", [{}, WINDOW])
def test_features_are_read_at_the_frames_times(settings):
    record = _record([[2.0, 4.0]], ["runs"], features={"slow": _ramp(7), "fast": _ramp(100)})
    spec = _spec(features={"slow": 2, "fast": 2}, **settings)
    example = make_example(record, spec, None, start=10)
    times_s = np.linspace(*example.fields["span_s"], T)
    for name, rows in (("slow", 7), ("fast", 100)):
        expected = np.clip(
            times_s, 5 / rows, 10 - 5 / rows
        )  # nothing is known beyond the outer rows' middles
        np.testing.assert_allclose(example.features[name], expected[:, None] * [1, -1], rtol=1e-5)


def test_features_without_frames_have_the_finest_rows_as_places():
    record = _record([[2.0, 4.0]], ["runs"], features={"slow": _ramp(7), "fast": _ramp(20)})
    spec = _spec(with_frames=False, features={"slow": 2, "fast": 2}, **WINDOW)
    example = make_example(record, spec, None, start=2)
    assert example.encoded == []
    np.testing.assert_allclose(example.fields["span_s"], [1.25, 8.75])  # rows 2 to 17 of half a second
    np.testing.assert_allclose(example.features["fast"], _ramp(20)[2:20:3], rtol=1e-5)
    np.testing.assert_allclose(example.fields["segments"][0], (np.array([2.0, 4.0]) - 1.25) / 1.5, rtol=1e-5)


def test_features_that_are_not_as_promised():
    record = _record([[2.0, 4.0]], ["runs"], features={"clip": _ramp(7)})
    with pytest.raises(ValueError, match=r"no features 'i3d' \(features in it: clip\)"):
        make_example(record, _spec(features={"i3d": 2}), None)
    with pytest.raises(ValueError, match=r"2 numbers per row; config.model.modalities.clip.feature_dim = 3"):
        make_example(record, _spec(features={"clip": 3}), None)


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.999])
def test_scale_jitter_crops_a_part_that_becomes_the_crop(draw):
    spec = _spec(augmentation=AugmentationConfig(scale_jitter=(0.8, 1.6)))
    draws = MIDDLE._replace(scale_y=draw, scale_x=1 - draw, top=0.999, left=0.0)
    top, left, height, width = make_example(_record([], []), spec, draws).region
    assert height == min(round(16 / (0.8 + 0.8 * draw)), 20)
    assert width == min(round(16 / (1.6 - 0.8 * draw)), 30)
    assert (top + height, left) == (20, 0)


def test_evaluation_does_not_jitter():
    spec = _spec(augmentation=AugmentationConfig(scale_jitter=(0.5, 0.6)))
    np.testing.assert_array_equal(make_example(_record([], []), spec, None).region, [2, 7, 16, 16])


def test_frames_of_another_size_are_scaled_to_the_short_side():
    spec = ExampleSpec(DataConfig(num_frames=T, crop_size=16), L, None, short_side=20)
    record = _record([], [], height=40, width=60)
    np.testing.assert_array_equal(make_example(record, spec, None).region, [4, 14, 32, 32])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda jpeg: jpeg[:-20], "place 2 of 6 is not a whole JPEG"),
        (lambda jpeg: b"\x00" + jpeg[1:], "place 2 of 6 is not a whole JPEG"),
    ],
)
def test_damaged_pictures_are_seen_before_they_are_decoded(damage, told):
    record = _record([], [], count=T)
    record.frames[2] = damage(record.frames[2])
    with pytest.raises(ValueError, match=told):
        make_example(record, _spec(), None)


def test_frames_smaller_than_the_crop():
    with pytest.raises(ValueError, match=r"10×30 pixels are smaller than config.data.crop_size"):
        make_example(_record([], [], height=10, width=30), _spec(), None)


@pytest.mark.parametrize("spec", [_spec(), _spec(["runs"]), _spec(with_frames=False, features={"clip": 2})])
def test_an_empty_example_looks_like_a_full_one(spec):
    full = make_example(_record([[0, 1]], ["runs"], features={"clip": _ramp(7)}), spec, MIDDLE)
    empty = empty_example(spec)
    shapes = lambda arrays: {name: (x.shape, x.dtype) for name, x in arrays.items()}
    assert shapes(empty.fields) == shapes(full.fields)
    assert shapes(empty.features) == shapes(full.features)
    assert len(empty.encoded) == len(full.encoded)
    assert not empty.fields["frame_mask"].any() and not empty.fields["text_mask"].any()
