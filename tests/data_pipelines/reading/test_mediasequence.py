"""Shards in the MediaSequence layout, written here with TensorFlow's own classes, as Scenic's and DMVR's tools do."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.quiet_tensorflow import import_tensorflow
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.dataset import ShardedDataset
from data_pipelines.reading.mediasequence import MediaSequenceShards, parse_sequence_example
from data_pipelines.reading.record_index import iterate_records
from data_pipelines.reading.tf_example import SequenceExample
from tests.tiny_runs import FPS, SIZE
from unloc_jax.config import MediaSequenceConfig, from_mapping
from unloc_jax.errors import UserError
from unloc_jax.sampling import seconds_to_grid, span_of

pytest.importorskip("tensorflow")
tf = import_tensorflow()

_OPTION = "config.data.mediasequence"


def _jpeg(number: int, size: tuple[int, int] = (40, 32), kind: str = "JPEG") -> bytes:
    """A frame whose colour tells its number."""
    opened = io.BytesIO()
    Image.new("RGB", size, (10 * number % 256, 0, 0)).save(opened, kind)
    return opened.getvalue()


def _feature(values: list) -> tf.train.Feature:
    values = list(values)
    if values and isinstance(values[0], (str, bytes)):
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _example(context: dict[str, list], lists: dict[str, list[list]]) -> bytes:
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={key: _feature(values) for key, values in context.items()}),
        feature_lists=tf.train.FeatureLists(
            feature_list={
                key: tf.train.FeatureList(feature=[_feature(step) for step in steps])
                for key, steps in lists.items()
            }
        ),
    ).SerializeToString()


def _video(video_id: str = "v_a", num_frames: int = 21, **context: list) -> bytes:
    """Two segments with names and class numbers; `segment__label__string=…` replaces, None leaves out."""
    whole = {
        "clip/media_id": [video_id],
        "clip/frames": [num_frames],
        "segment/start/index": [2, 10],
        "segment/end/index": [5, 20],
        "segment/start/timestamp": [150_000, 1_000_000],
        "segment/end/timestamp": [540_000, 2_070_000],
        "segment/label/index": [1, 0],
        "segment/label/string": ["jump", "run"],
    }
    whole |= {key.replace("__", "/"): values for key, values in context.items()}
    whole = {key: values for key, values in whole.items() if values is not None}
    return _example(whole, {"image/encoded": [[_jpeg(i)] for i in range(num_frames)]})


def _write(path: Path, examples: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    return path


_AT_10 = MediaSequenceConfig(fps=10.0)


def _parse(data: bytes, split: str = "train", config: MediaSequenceConfig = _AT_10, **kwargs):
    return parse_sequence_example(data, split, config, with_frames=kwargs.pop("with_frames", False), **kwargs)


def test_a_video_with_segments():
    record = _parse(_video(), with_frames=True)
    assert (record.video_id, record.split, record.fps, record.duration_s) == ("v_a", "train", 10.0, 2.1)
    assert record.texts == ["jump", "run"] and record.attributes == [{}, {}]
    assert record.frames == [_jpeg(i) for i in range(21)]
    np.testing.assert_array_equal(record.segments_s, np.array([[0.2, 0.5], [1.0, 2.0]], np.float32))
    without = _parse(_video())
    assert without.frames == [] and without.features == {}
    np.testing.assert_array_equal(without.segments_s, record.segments_s)


def test_sound():
    samples = np.sin(np.arange(1000) / 7).astype(np.float32)
    context = {"clip/media_id": ["v_a"], "clip/frames": [21], "segment/label/string": ["run"]}
    context |= {"segment/start/index": [2], "segment/end/index": [5]}
    lists = {"WAVEFORM/feature/floats": [samples[:400].tolist(), [2.0, float("nan")], samples[400:].tolist()]}
    data = _example(context | {"WAVEFORM/feature/sample_rate": [8000.0]}, lists)
    sound = _parse(data, with_sound=True).sound
    expected = np.rint(32767 * np.insert(samples, 400, [1.0, 0.0]))
    np.testing.assert_array_equal(sound.samples, expected)
    assert sound.rate == 8000 and sound.heard.tolist() == [[0.0, 1002 / 8000]]
    assert _parse(data).sound is None and _parse(_video(), with_sound=True).sound is None
    without_rate = _example(context, lists)
    given = MediaSequenceConfig(fps=10.0, sound_rate=4000)
    assert _parse(without_rate, config=given, with_sound=True).sound.rate == 4000
    with pytest.raises(ValueError, match=r"no rate .* set config\.data\.mediasequence\.sound_rate"):
        _parse(without_rate, with_sound=True)
    stereo = _example(context | {"WAVEFORM/feature/num_channels": [2]}, lists)
    with pytest.raises(ValueError, match="not mono"):
        _parse(stereo, config=given, with_sound=True)


@pytest.mark.parametrize("reader", ["tf.data", "grain"])
def test_batches_of_sound(tmp_path, reader):
    """Sound alone; a record is read again and again, but what is wrong with it counts once."""
    context = {"clip/frames": [21], "segment/label/string": ["run", "jump"], "segment/label/index": [0, -1]}
    context |= {"segment/start/index": [2, 3], "segment/end/index": [5, 6]}
    context |= {"WAVEFORM/feature/sample_rate": [8000.0]}
    lists = {"WAVEFORM/feature/floats": [[number / 20_000 for number in range(16_800)]]}
    examples = [_example(context | {"clip/media_id": ["v_a"]}, lists)]
    examples.append(_example(context | {"clip/media_id": ["v_b"]}, {}))
    _write(tmp_path / "test.tfrecord", examples)
    audio = {"sample_rate": 8000, "window_s": 0.2, "patch_frames": 4}
    config = from_mapping(
        {
            "task": "moment_retrieval",
            "model": {"modalities": {"audio": {"encoder": "audio"}}, "audio": audio},
            "data": {
                "dir": str(tmp_path), "format": "mediasequence", "num_frames": 5, "reader": reader,
                "mediasequence": {"fps": 10.0, "frames": ""},
            },
            "evaluation": {"batch_size": 2},
        }
    )  # fmt: skip
    dataset = ShardedDataset(config)
    for _ in range(2):
        (batch,) = dataset.evaluation_batches("test")
        assert batch.input_masks["audio"].tolist() == [[True] * 5, [False] * 5]
        middles = batch.features["audio"][0, 1:4, 800] / 32767 * 20_000
        np.testing.assert_allclose(middles, 8000 * np.linspace(0.0, 2.0, 5)[1:4], atol=1)
    counts = dataset._shards.index("test").findings.problems.counts
    assert sum(counts.values()) == 2


def test_training_labels_are_those_of_scenic():
    """Scenic: grid = frame number · (T - 1) / (total - 1), both ends positive (add_frame_labels_and_displacements)."""
    record = _parse(_video(num_frames=21, segment__end__index=[5, 20]))
    grid = seconds_to_grid(record.segments_s, span_of(21, record.fps), 16)
    np.testing.assert_allclose(grid, np.array([[2, 5], [10, 20]]) * 15 / 20, atol=1e-5)


def test_evaluation_is_against_timestamps():
    for split in ("validation", "test"):
        np.testing.assert_allclose(_parse(_video(), split).segments_s, [[0.15, 0.54], [1.0, 2.07]], rtol=1e-6)
        by_frame = MediaSequenceConfig(fps=10.0, start_timestamp="", end_timestamp="")
        np.testing.assert_allclose(_parse(_video(), split, by_frame).segments_s, [[0.2, 0.5], [1, 2]])
    only_times = _video(segment__start__index=None, segment__end__index=None)
    np.testing.assert_allclose(_parse(only_times).segments_s, [[0.15, 0.54], [1.0, 2.07]], rtol=1e-6)
    only_frames = _video(segment__start__timestamp=None, segment__end__timestamp=None)
    np.testing.assert_allclose(_parse(only_frames, "test").segments_s, [[0.2, 0.5], [1, 2]])


def test_short_and_unusable_segments():
    """Between two frames, the first frame after the start is behind the last frame before the end."""
    between = _video(segment__start__index=[4, 9], segment__end__index=[3, 9])
    record = _parse(between)
    np.testing.assert_allclose(record.segments_s, [[0.3, 0.4], [0.9, 0.9]])
    assert record.texts == ["jump", "run"]
    for starts, ends in (([9, 4], [3, 9]), ([-8, 4], [-3, 9])):
        record = _parse(_video(segment__start__index=starts, segment__end__index=ends))
        np.testing.assert_allclose(record.segments_s, [[0.4, 0.9]])
        assert record.texts == ["run"] and len(record.attributes) == 1


def test_time_runs_from_the_first_frame():
    """A clip cut out of a longer video: MediaSequence's timestamps count from the start of that video."""
    data = _example(
        {
            "example/id": ["clip"],
            "segment/start/timestamp": [10_400_000],
            "segment/end/timestamp": [10_900_000],
            "segment/label/string": ["jump"],
        },
        {
            "image/encoded": [[_jpeg(i)] for i in range(5)],
            "image/timestamp": [[10_000_000 + 250_000 * i] for i in range(5)],
        },
    )
    record = _parse(data, config=MediaSequenceConfig())
    assert (record.video_id, record.fps, record.duration_s) == ("clip", 4.0, 1.25)
    np.testing.assert_allclose(record.segments_s, [[0.4, 0.9]], rtol=1e-6)
    rate = _parse(_video(image__frame_rate=[12.5]), config=MediaSequenceConfig())
    assert rate.fps == 12.5
    np.testing.assert_allclose(rate.segments_s, np.array([[2, 5], [10, 20]]) / 12.5, rtol=1e-6)


def test_classes_by_number(tmp_path):
    """As in Scenic's action localisation: numbers in the shards, names in a CSV."""
    file = tmp_path / "labels.csv"
    file.write_text('run,0\n"jump, high",1\n')
    config = MediaSequenceConfig(fps=10.0, classes_file=str(file))
    assert _parse(_video(segment__label__string=None), config=config).texts == ["jump, high", "run"]
    one_based = MediaSequenceConfig(fps=10.0, classes_file=str(file), first_class=1)
    assert _parse(_video(segment__label__index=[1, 2]), config=one_based).texts == ["run", "jump, high"]
    padded = _parse(_video(segment__label__index=[1, -1]), config=config)
    assert padded.texts == ["jump, high"] and padded.segments_s.shape == (1, 2)
    with pytest.raises(ValueError, match=r"index is 2, but .*labels.csv names the classes 0 to 1"):
        _parse(_video(segment__label__index=[1, 2]), config=config)
    with pytest.raises(ValueError, match="'jump' is not a class of"):
        _parse(_video(segment__label__index=None), config=config)
    with pytest.raises(ValueError, match=rf"class numbers .* set {_OPTION}.classes_file"):
        _parse(_video(segment__label__string=None))
    file.write_text("run\nrun\n")
    with pytest.raises(UserError, match="names the class 'run' twice"):
        MediaSequenceShards(
            str(_write(tmp_path / "train.tfrecord", [_video()])), _with(str(tmp_path / "b.csv"), file)
        )


def _with(copy: str, file: Path) -> MediaSequenceConfig:
    Path(copy).write_text(file.read_text())
    return MediaSequenceConfig(fps=10.0, classes_file=copy)


def test_highlight_detection_has_one_query_for_all_segments():
    data = _video(segment__label__string=["a dog"], segment__label__index=[0, 0])
    assert _parse(data).texts == ["a dog", "a dog"]
    nothing = {f"segment__{end}__{key}": None for end in ("start", "end") for key in ("index", "timestamp")}
    secret = _parse(_video(segment__label__string=["a dog"], **nothing), "test")
    assert secret.texts == ["a dog"] and secret.segments_s.shape == (0, 2) and secret.attributes == [{}]


def test_kinetics_as_dmvr_writes_it():
    config = MediaSequenceConfig(fps=10.0, labels="clip")
    context = {
        "clip/label/index": [7],
        "clip/label/text": ["archery"],
        "video/filename": ["a/b.mp4"],
        "clip/start/timestamp": [3_000_000],
    }
    data = _example(context, {"image/encoded": [[_jpeg(0)]] * 25})
    record = _parse(data, config=config)
    assert (record.video_id, record.duration_s, record.texts) == ("a/b.mp4", 2.5, ["archery"])
    np.testing.assert_array_equal(record.segments_s, [[0.0, 2.5]])
    captions = MediaSequenceConfig(fps=10.0, labels="clip", texts="caption/string")
    captioned = _example({"caption/string": ["a", "b"]}, {"image/encoded": [[_jpeg(0)]] * 25})
    record = _parse(captioned, config=captions, name="train/3")
    assert (record.video_id, record.texts) == ("train/3", ["a", "b"])
    with pytest.raises(ValueError, match=rf"no labels \(clip/label/string, .*set {_OPTION}.texts"):
        _parse(captioned, config=config, name="train/3")
    with pytest.raises(ValueError, match=rf"labels and no segments .* {_OPTION}.labels = 'clip'"):
        _parse(_example(context | {"segment/label/string": ["x"], "clip/frames": [25]}, {}))


def test_other_key_names():
    """The options of Scenic's configs: segment_start_index_key, vid_input_feature_name, input_feature_name, …"""
    data = _example(
        {
            "example_id": [123],
            "n": [3],
            "from": [0],
            "to": [2],
            "t0": [10],
            "t1": [200_000],
            "query": ["x"],
        },
        {"rgb": [[_jpeg(i)] for i in range(3)], "flow": [[0.5, 1.0]] * 6, "WAVE/feature/floats": [[2.0]] * 4},
    )
    config = MediaSequenceConfig(
        fps=10.0,
        frames="rgb",
        num_frames="n",
        start_index="from",
        end_index="to",
        start_timestamp="t0",
        end_timestamp="t1",
        texts="query",
        features={"flow": "flow", "audio": "WAVE/feature/floats"},
    )
    record = _parse(data, config=config, with_frames=True)
    assert (record.video_id, record.texts, len(record.frames)) == ("123", ["x"], 3)
    np.testing.assert_allclose(record.segments_s, [[0.0, 0.2]])
    np.testing.assert_array_equal(record.features["flow"], np.full((6, 2), [0.5, 1.0], np.float32))
    np.testing.assert_array_equal(record.features["audio"], np.full((4, 1), 2.0, np.float32))
    assert record.features["flow"].dtype == np.float32
    np.testing.assert_allclose(_parse(data, "test", config).segments_s, [[1e-5, 0.2]])
    assert set(_parse(data, config=config, with_features=True).features) == {"audio", "flow"}


_NO_INDEX = {"segment__start__index": None, "segment__end__index": None}


@pytest.mark.parametrize(
    ("context", "options", "message"),
    [
        ({}, {"fps": 0.0}, "no frame rate .*image/frame_rate.*mediasequence.fps"),
        ({"image__frame_rate": [0.0]}, {"fps": 0.0}, "mediasequence.fps"),
        ({"clip__frames": [0]}, {}, r"clip/frames is \[0\]"),
        ({"clip__frames": [2.0]}, {}, "clip/frames: not a list of integers"),
        (
            {"clip__frames": None},
            {"frames": "jpeg"},
            "neither 'clip/frames' nor frames in 'jpeg'.*image/encoded",
        ),
        ({}, {"frames": "jpeg"}, "no frames in 'jpeg'; set .*mediasequence.frames .*image/encoded"),
        ({}, {"video_id": ("id",)}, r"no id \(id\); set .*video_id"),
        ({"clip__media_id": [1.5]}, {}, "clip/media_id: not one text"),
        ({"segment__end__index": None}, {}, "no 'segment/end/index'; set .*mediasequence.end_index"),
        ({"segment__end__index": [1]}, {}, "2 values of segment/start/index, 1 of"),
        ({"segment__end__index": ["a", "b"]}, {}, "segment/end/index: not a list of integers"),
        ({"segment__label__string": ["a", "b", "c"]}, {}, "2 segments, but 3 labels"),
        ({"segment__label__string": [1, 2]}, {}, "segment/label/string: numbers"),
        (
            {"segment__label__string": None, "segment__label__index": None},
            {},
            "no labels .*mediasequence.texts",
        ),
        ({"segment__label__string": [b"\xff", b"b"]}, {}, "utf-8"),
        ({}, {"features": {"audio": "audio/feature/floats"}}, "'audio/feature/floats'; set .*features.audio"),
        ({}, {"features": {"audio": "image/encoded"}}, "image/encoded: not a list of floats"),
    ],
)
def test_what_is_missing_or_wrong_is_named(context, options, message):
    with pytest.raises(ValueError, match=message):
        _parse(_video(**context), config=MediaSequenceConfig(**{"fps": 10.0} | options), with_frames=True)


def test_features_beside_frames(tmp_path):
    context = {"clip/frames": [2], "clip/label/string": ["x"]}
    lists = {
        "image/encoded": [[_jpeg(0)], [_jpeg(1)]],
        "audio/feature/floats": [[1.0, 2.0, 3.0]] * 5,
        "f": [[4.0]],
    }
    _write(tmp_path / "test.tfrecord", [_example(context, lists)])
    config = MediaSequenceConfig(fps=1.0, labels="clip", features={"flow": "f"})
    shards = MediaSequenceShards(str(tmp_path), config, ["audio", "flow"])
    assert shards.metadata.features == {"audio": 3, "flow": 1}
    record = shards.index("test").record(0, with_frames=False, with_features=True)
    assert record.frames == [] and record.features["audio"].shape == (5, 3)
    assert shards.index("test").record(0).features.keys() == {"audio", "flow"}
    assert MediaSequenceShards(str(tmp_path), config).index("test").record(0).features == {}
    with pytest.raises(
        UserError, match=r"test.tfrecord: record 0: .*'depth/feature/floats'; set .*features.depth"
    ):
        MediaSequenceShards(str(tmp_path), config, ["depth"])


def test_features_of_different_widths():
    config = MediaSequenceConfig(fps=1.0, labels="clip", frames="", features={"a": "a"})
    context = {"clip/frames": [2], "clip/label/string": ["x"], "example_id": ["v"]}
    with pytest.raises(ValueError, match="a: empty, or steps of different lengths"):
        _parse(_example(context, {"a": [[1.0], [1.0, 2.0]]}), config=config, with_frames=True)
    record = _parse(_example(context, {"a": [[1.0, 3.0], [1.0, 2.0]]}), config=config, with_frames=True)
    assert record.frames == [] and record.duration_s == 2.0
    np.testing.assert_array_equal(record.features["a"], [[1, 3], [1, 2]])


_VALUES = (
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)
    | st.lists(st.floats(width=32, allow_nan=False), min_size=1)
    | st.lists(st.binary(max_size=9), min_size=1)
)
_KEYS = st.text(max_size=4)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=4), st.dictionaries(_KEYS, _VALUES, max_size=3))
def test_values_are_those_that_tensorflow_reads(context, lists):
    data = _example(context, {key: [values] * 3 for key, values in lists.items()})
    types = {int: tf.int64, float: tf.float32, bytes: tf.string}
    expected_context, expected_lists = tf.io.parse_single_sequence_example(
        data,
        {key: tf.io.FixedLenFeature([len(v)], types[type(v[0])]) for key, v in context.items()} or None,
        {key: tf.io.FixedLenSequenceFeature([len(v)], types[type(v[0])]) for key, v in lists.items()} or None,
    )
    example = SequenceExample(data)
    assert set(example.context) == set(context) and set(example.lists) == set(lists)
    for key in context:
        np.testing.assert_array_equal(np.array(example.values(key), object), expected_context[key].numpy())
    for key in lists:
        assert example.num_steps(key) == 3
        steps = [np.array(step, object) for step in example.steps(key)]
        np.testing.assert_array_equal(np.stack(steps), expected_lists[key].numpy())


_WHOLE = _example(
    {
        "clip/media_id": ["v"],
        "clip/frames": [3],
        "image/frame_rate": [2.0],
        "segment/start/index": [0, 1],
        "segment/end/index": [1, 2],
        "segment/start/timestamp": [0, 500_000],
        "segment/end/timestamp": [500_000, 900_000],
        "segment/label/string": ["a", "b"],
        "segment/label/index": [0, 1],
    },
    {
        "image/encoded": [[b"x"], [b"y"], [b"z"]],
        "image/timestamp": [[0], [500_000], [1_000_000]],
        "audio/feature/floats": [[1.0, 2.0], [3.0, 4.0]],
    },
)


@settings(max_examples=300, deadline=1000)
@given(
    st.binary(max_size=80)
    | st.integers(0, len(_WHOLE)).map(lambda end: _WHOLE[:end])
    | st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(1, 255)).map(
        lambda at: _WHOLE[: at[0]] + bytes([_WHOLE[at[0]] ^ at[1]]) + _WHOLE[at[0] + 1 :]
    ),
    st.sampled_from(["train", "test"]),
)
def test_no_bytes_crash_the_parser(data, split):
    config = MediaSequenceConfig(features={"audio": "audio/feature/floats"})
    try:
        record = parse_sequence_example(data, split, config, with_frames=True)
    except ValueError as error:
        assert str(error)
    else:
        assert record.segments_s.shape == (len(record.texts), 2) or not len(record.segments_s)
        assert np.isfinite(record.segments_s).all() and record.duration_s > 0


def test_shards(tmp_path, capsys):
    _write(tmp_path / "anet_train.tfrecord-00000-of-00002", [_video("a"), _video("b", 11)])
    _write(tmp_path / "anet_train.tfrecord-00001-of-00002", [_video("c", segment__start__index=[9, 10])])
    _write(tmp_path / "anet_val.tfrecord-00000-of-00001", [_video("d")])
    (tmp_path / "labels.csv").write_text("not a shard")
    shards = MediaSequenceShards(str(tmp_path), _AT_10)
    assert [record.video_id for record in shards.records("train")] == ["a", "b", "c"]
    assert all(not record.frames for record in shards.records("train"))
    assert [record.video_id for record in shards.records("validation")] == ["d"]
    told = capsys.readouterr().err
    assert "1  segment ends before it starts" in told and "train: c: segment 0: 0.9 to 0.5 s" in told
    assert shards.records("train")[2].texts == ["run"]
    index = shards.index("train")
    assert len(index) == 3
    assert index.read(1) == _video("b", 11)
    counted = index.findings.num_texts
    assert len(index.record(1).frames) == 11 and index.record(2).texts == ["run"]
    assert index.findings.num_texts == counted == 6  # reading again counts nothing twice
    metadata = shards.metadata
    assert (metadata.name, metadata.fps, metadata.short_side, metadata.classes) == (
        "mediasequence",
        10.0,
        32,
        ["run", "jump"],
    )
    with pytest.raises(
        UserError, match=r"no split 'test' .*splits: train, validation\..*mediasequence\.test="
    ):
        shards.records("test")
    elsewhere = tmp_path / "copy"
    for split in ("train", "val"):
        for file in tmp_path.glob(f"*{split}*"):
            (elsewhere / split).mkdir(parents=True, exist_ok=True)
            (elsewhere / split / file.name).write_bytes(file.read_bytes())
    assert MediaSequenceShards(str(elsewhere), _AT_10).metadata.fingerprint == metadata.fingerprint
    _write(elsewhere / "val" / "anet_val.tfrecord-00000-of-00001", [_video("other")])
    assert MediaSequenceShards(str(elsewhere), _AT_10).metadata.fingerprint != metadata.fingerprint
    assert metadata.features == {}
    resized = MediaSequenceConfig(fps=5.0, short_side=24)
    assert MediaSequenceShards(str(tmp_path), resized).metadata.short_side == 24


@pytest.mark.slow  # the fixtures build datasets
@pytest.mark.parametrize("task", ["moment_retrieval", "temporal_action_localization"])
def test_batches_are_those_of_our_own_shards(captions_dataset, activities_dataset, tmp_path, task):
    """The same videos, written once more in Scenic's layout, reach the model as from `unloc data build`'s shards."""
    by_class = task == "temporal_action_localization"
    ours = activities_dataset if by_class else captions_dataset
    classes = read_build_info(ours)["classes"] or []
    (tmp_path / "labels.csv").write_text("".join(f'"{name}"\n' for name in classes))
    for split in ("train", "validation", "test"):
        examples = []
        for record in iterate_records(find_dataset(ours), split, with_frames=True):
            starts, ends = np.rint(record.segments_s.astype(np.float64) * 1e6).astype(int).T.tolist()
            labels = {"segment/label/string": record.texts}
            if by_class:
                labels = {"segment/label/index": [classes.index(text) for text in record.texts]}
            context = {"clip/media_id": [record.video_id], "clip/frames": [len(record.frames)], **labels}
            context |= {"segment/start/timestamp": starts, "segment/end/timestamp": ends}
            examples.append(_example(context, {"image/encoded": [[frame] for frame in record.frames]}))
        _write(tmp_path / f"{split}.tfrecord-00000-of-00001", examples)
    keys = {"fps": float(FPS), "classes_file": str(tmp_path / "labels.csv") if by_class else ""}
    sizes = {"num_frames": 8, "crop_size": SIZE, "max_segments": 6, "max_queries": 6}
    settings = {"task": task, "batch_size": 4, "evaluation": {"batch_size": 4}}
    expected, found = (
        ShardedDataset(from_mapping(settings | {"data": sizes | data}))
        for data in (
            {"dir": str(ours)},
            {"dir": str(tmp_path), "format": "mediasequence", "mediasequence": keys},
        )
    )
    assert (
        found.metadata.classes == expected.metadata.classes
        and found.metadata.words == expected.metadata.words
    )
    assert (found.metadata.fps, found.metadata.short_side) == (
        expected.metadata.fps,
        expected.metadata.short_side,
    )
    for batches in (lambda data: data.training_batches(0, 3), lambda data: data.evaluation_batches("test")):
        for a, b in zip(batches(expected), batches(found), strict=True):
            for name in ("frames", "frame_mask", "text_tokens", "text_mask", "segment_text", "span_s"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
            np.testing.assert_allclose(a.segments, b.segments, atol=1e-4)


def test_queries_are_no_classes(tmp_path):
    _write(tmp_path / "train.tfrecord", [_video("a"), _video("b", segment__label__string=["leap", "run"])])
    assert MediaSequenceShards(str(tmp_path), _AT_10).metadata.classes == []
    _write(tmp_path / "train.tfrecord", [_video("a")])  # numbers that only count the queries
    assert MediaSequenceShards(str(tmp_path), _AT_10).metadata.classes == []
    _write(tmp_path / "train.tfrecord", [_video("a", segment__label__index=None), _video("b")])
    assert MediaSequenceShards(str(tmp_path), _AT_10).metadata.classes == ["run", "jump"]


def test_which_files_are_which_split(tmp_path):
    """Scenic's `tables`: names, `name@2`, patterns."""
    for number in range(2):
        _write(tmp_path / f"part-{number:05d}-of-00002", [_video(f"a{number}")])
    _write(tmp_path / "held" / "out", [_video("b")])
    config = MediaSequenceConfig(fps=10.0, train="part@2", validation="part-00001-*", test="held/out")
    shards = MediaSequenceShards(str(tmp_path), config)
    ids = {s: [r.video_id for r in shards.records(s)] for s in ("train", "validation", "test")}
    assert ids == {"train": ["a0", "a1"], "validation": ["a1"], "test": ["b"]}
    for folder, options, message in (
        (tmp_path, {"train": "part@3"}, r"part-00000-of-00003 is missing; '.*part@3' names 3 files"),
        (tmp_path, {"train": "none*"}, r"mediasequence.train: no TFRecord file at .*none\*"),
        (tmp_path, {}, r"part-00000-of-00002: its name does not contain the split.*mediasequence.train"),
        (tmp_path / "held", {}, "config.data.dir: no TFRecord file at"),
        ("", {}, "config.data.dir is empty"),
    ):
        with pytest.raises(UserError, match=message):
            MediaSequenceShards(str(folder), MediaSequenceConfig(fps=10.0, **options))
    (tmp_path / "part-00000-of-00002").unlink()
    with pytest.raises(UserError, match=r"part-00000-of-00002: this shard is missing, 1 of 2"):
        MediaSequenceShards(str(tmp_path), _AT_10)
    (tmp_path / "[x]").mkdir()
    _write(tmp_path / "[x]" / "val-00000-of-00002", [_video("c")])
    some = MediaSequenceShards(str(tmp_path / "[[]x]" / "val*"), _AT_10)
    assert [record.video_id for record in some.records("validation")] == ["c"]
    some = MediaSequenceShards(str(tmp_path / "[x]"), MediaSequenceConfig(fps=10.0, train="val*"))
    assert [record.video_id for record in some.records("train")] == ["c"]


def test_records_that_cannot_be_used(tmp_path):
    for examples, options, message in (
        ([], {}, "no record in its shards"),
        ([_video(segment__label__string=None)], {}, r"val.tfrecord: record 0: .*classes_file"),
        ([_video(), _video()], {}, "2 records have the video id 'v_a'.*video_id"),
        ([_video(clip__frames=[30])], {}, "clip/frames is 30, but 21 frames are in image/encoded"),
        (
            [_example({"clip/frames": [1], "x": [1]}, {"image/encoded": [[_jpeg(0)]]})],
            {},
            "no labelled segment.*: .*x",
        ),
        ([_example({"clip/frames": [1]}, {"image/encoded": [[b"abc"]]})], {}, "holds no encoded images"),
        ([_example({}, {"image/encoded": [[_jpeg(0, kind="PNG")]]})], {}, "PNG images; only JPEG"),
    ):
        _write(tmp_path / "val.tfrecord", examples)
        with pytest.raises(UserError, match=message):
            MediaSequenceShards(str(tmp_path), MediaSequenceConfig(**{"fps": 10.0} | options))
    _write(tmp_path / "val.tfrecord", [_video(), _video()])
    numbered = MediaSequenceShards(str(tmp_path), MediaSequenceConfig(fps=10.0, video_id=()))
    assert [r.video_id for r in numbered.records("validation")] == ["val.tfrecord/0", "val.tfrecord/1"]


def test_damage_names_file_and_record(tmp_path):
    file = _write(tmp_path / "train.tfrecord", [_video("a"), _video("b")])
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"train.tfrecord: .*truncated inside record 1.*copy it again"):
        MediaSequenceShards(str(tmp_path), _AT_10)
    file.write_bytes(whole[:-10] + bytes([whole[-10] ^ 1]) + whole[-9:])
    index = MediaSequenceShards(str(tmp_path), _AT_10).index("train")
    assert index.record(0).video_id == "a"
    with pytest.raises(UserError, match=r"train.tfrecord: record 1 is corrupted \(checksum\).*copy it again"):
        index.record(1)
    _write(file, [_video("a"), b"no example"])
    with pytest.raises(UserError, match=r"train.tfrecord: record 1: not a serialized example"):
        MediaSequenceShards(str(tmp_path), _AT_10)
