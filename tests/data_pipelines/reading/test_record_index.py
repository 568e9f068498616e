"""Random access into TFRecord shards, and reading examples without TensorFlow."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_pipelines.reading.record_index import RecordIndex, iterate_records, parse_record, read_record
from data_pipelines.reading.tf_example import parse_example
from data_pipelines.reading.tfrecord import tfrecord
from unloc_jax.errors import UserError

# Written by tf.io.TFRecordWriter (TensorFlow 2.21): b"abc", b"", and a tf.train.Example.
_EXAMPLE = bytes.fromhex(
    "0a530a160a0a6475726174696f6e5f73120812060a04000048410a080a046e6f6e6512000a1a0a016e12151a130a1103ffff"
    "ffffffffffffff018080808080200a130a08766964656f5f696412070a050a03765f61"
)
_TF_SHARD = (
    bytes.fromhex(
        "0300000000000000b099490e6162636e57f121000000000000000029039807d8ea82a25500000000000000d7df0fc1"
    )
    + _EXAMPLE
    + bytes.fromhex("5d2323a4")
)


def _dataset(folder: Path, shards: list[bytes], lengths: list[int], split: str = "train") -> list[Path]:
    info = {
        "splits": [
            {"name": split, "shardLengths": [str(n) for n in lengths]},
            {"name": "test", "shardLengths": []},
        ]
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    files = []
    for i, shard in enumerate(shards):
        files.append(folder / f"unloc_data-{split}.tfrecord-{i:05d}-of-{len(lengths):05d}")
        files[-1].write_bytes(shard)
    return files


def test_reads_what_tensorflow_wrote(tmp_path):
    _dataset(tmp_path, [_TF_SHARD, tfrecord(b"xyz")], [3, 1])
    index = RecordIndex.from_dir(tmp_path, "train")
    assert len(index) == 4
    assert [index.read(i) for i in range(4)] == [b"abc", b"", _EXAMPLE, b"xyz"]
    assert index.shards.tolist() == [0, 0, 0, 1]
    for outside in (-1, 4):
        with pytest.raises(IndexError):
            index.read(outside)


def test_many_shards_are_in_order(tmp_path):
    _dataset(tmp_path, [tfrecord(b"%d" % i) for i in range(12)], [1] * 12)
    index = RecordIndex.from_dir(tmp_path, "train")
    assert [index.read(i) for i in range(12)] == [b"%d" % i for i in range(12)]


@pytest.mark.parametrize("cut", range(1, len(_TF_SHARD)))
def test_every_truncation_is_found(tmp_path, cut):
    (file,) = _dataset(tmp_path, [_TF_SHARD[:-cut]], [3])
    with pytest.raises(
        UserError, match=r"truncated (inside|after) record \d.*unloc data rebuild-shard"
    ) as caught:
        RecordIndex.from_dir(tmp_path, "train")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("position", range(0, len(_TF_SHARD), 3))
def test_every_flipped_byte_is_found(tmp_path, position):
    damaged = bytearray(_TF_SHARD)
    damaged[position] ^= 0x10
    (file,) = _dataset(tmp_path, [bytes(damaged)], [3])
    with pytest.raises(UserError, match=r"record \d.*unloc data rebuild-shard") as caught:
        index = RecordIndex.from_dir(tmp_path, "train")
        for i in range(3):
            index.read(i)
    assert str(file) in str(caught.value)


def test_record_number_counts_within_the_shard(tmp_path):
    damaged = bytearray(_TF_SHARD)
    damaged[-10] ^= 1
    files = _dataset(tmp_path, [_TF_SHARD, bytes(damaged)], [3, 3])
    index = RecordIndex.from_dir(tmp_path, "train")
    with pytest.raises(UserError, match=r"record 2 is corrupted \(checksum\)") as caught:
        index.read(5)
    assert str(files[1]) in str(caught.value)


def test_missing_things(tmp_path):
    with pytest.raises(UserError, match="no dataset here"):
        RecordIndex.from_dir(tmp_path, "train")
    files = _dataset(tmp_path, [_TF_SHARD, _TF_SHARD], [3, 3], split="validation")
    for split in ("train", "test"):
        with pytest.raises(UserError, match=f"no split '{split}' with videos in it; splits: validation"):
            RecordIndex.from_dir(tmp_path, split)
    files[1].unlink()
    with pytest.raises(UserError, match=r"00001-of-00002: the shard is missing"):
        RecordIndex.from_dir(tmp_path, "validation")
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset_info\.json: damaged"):
        RecordIndex.from_dir(tmp_path, "validation")


def test_parse_example():
    parsed = parse_example(_EXAMPLE, {"video_id", "duration_s", "n", "none", "unknown"})
    assert parsed["video_id"] == [b"v_a"]
    np.testing.assert_array_equal(parsed["duration_s"], np.array([12.5], np.float32))
    np.testing.assert_array_equal(parsed["n"], [3, -1, 2**40])
    assert len(parsed["none"]) == 0
    assert set(parsed) == {"video_id", "duration_s", "n", "none"}
    assert set(parse_example(_EXAMPLE, {"n"})) == {"n"}


@given(st.binary(max_size=60) | st.tuples(st.integers(0, len(_EXAMPLE) - 1), st.integers(1, 255)))
def test_no_bytes_crash_the_parser(data):
    if isinstance(data, tuple):
        position, mask = data
        damaged = bytearray(_EXAMPLE)
        damaged[position] ^= mask
        data = bytes(damaged)
    try:
        parse_record(data, "train", with_frames=True)
    except ValueError as error:
        assert str(error)
    try:
        parse_example(data, {"video_id", "duration_s", "n"})
    except ValueError as error:
        assert str(error)


def test_an_example_of_another_kind(tmp_path):
    (file,) = _dataset(tmp_path, [tfrecord(_EXAMPLE)], [1])
    for read in (
        lambda: read_record(tmp_path, "train", 0),
        lambda: list(iterate_records(tmp_path, "train", False)),
    ):
        with pytest.raises(UserError, match="record 0") as caught:
            read()
        assert str(file) in str(caught.value)


def test_a_shard_that_goes_away(tmp_path):
    (file,) = _dataset(tmp_path, [_TF_SHARD], [3])
    index = RecordIndex.from_dir(tmp_path, "train")
    file.unlink()
    for read in (lambda: index.read(1), lambda: list(index.annotations())):
        with pytest.raises(UserError, match=r"cannot be read: .*No such file.*rebuild-shard") as caught:
            read()
        assert str(file) in str(caught.value)


def _message(number: int, *parts: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes (all of them shorter than 16 KB)."""
    data = b"".join(parts)
    return bytes([number << 3 | 2, len(data) & 0x7F | 0x80, len(data) >> 7]) + data


def _feature(name: str, kind: int, *values: bytes) -> bytes:
    return _message(1, _message(1, name.encode()), _message(2, _message(kind, *values)))


def _unloc_example(video_id: str) -> bytes:
    """A whole example of ours: texts, numbers, frames, features, saliency."""
    floats = lambda *values: _message(1, np.array(values, "<f4").tobytes())
    features = (
        _feature("video_id", 1, _message(1, video_id.encode())),
        _feature("duration_s", 2, floats(2.5)),
        _feature("fps", 2, floats(2)),
        _feature("frames", 1, _message(1, b"one jpeg"), _message(1, b"two jpeg")),
        _feature("segments_s", 2, floats(0, 1, 1, 2)),
        _feature("texts", 1, _message(1, "Hünde".encode()), _message(1, b"cats")),
        _feature("attributes", 1, _message(1, b"{}"), _message(1, b'{"object": "cat"}')),
        _feature("saliency", 1, _message(1, b'{"cats": [[1, 2], [3, 4]]}')),
        _feature("features/clip", 2, floats(*range(6))),
        _feature("feature_rows/clip", 3, _message(1, b"\x03")),
    )
    return _message(1, *features)


_EXAMPLES = [_unloc_example(f"v{i}") for i in range(3)]


def test_the_examples_of_the_fuzzing_are_whole():
    records = [parse_record(data, "train", with_frames=True) for data in _EXAMPLES]
    assert [record.video_id for record in records] == ["v0", "v1", "v2"]
    assert (records[0].frames, records[0].features["clip"].shape) == ([b"one jpeg", b"two jpeg"], (3, 2))
    np.testing.assert_array_equal(records[0].saliency["cats"], [[1, 2], [3, 4]])


@st.composite
def _damaged(draw, data: bytes) -> bytes:
    """Flipped bytes, a piece that is overwritten, cut out, doubled or put in, or the end cut off."""
    contents = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(contents)))
        end = draw(st.integers(start, min(start + draw(st.integers(0, 40)), len(contents))))
        how = draw(st.sampled_from(["flip", "overwrite", "cut", "double", "insert", "truncate"]))
        piece = draw(st.binary(max_size=20))
        match how:
            case "flip":
                contents[start:end] = bytes(byte ^ draw(st.integers(1, 255)) for byte in contents[start:end])
            case "overwrite":
                contents[start : start + len(piece)] = piece
            case "cut":
                del contents[start:end]
            case "double":
                contents[end:end] = contents[start:end]
            case "insert":
                contents[start:start] = piece
            case "truncate":
                del contents[start:]
    return bytes(contents)


_WHOLE_SHARD = b"".join(map(tfrecord, _EXAMPLES))
_FUZZED = settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=60_000)


@_FUZZED
@given(_damaged(_WHOLE_SHARD))
@example(b"")
def test_damaged_shards(tmp_path_factory, data):
    """A read record is the written one, or the error names the file and the record."""
    folder = tmp_path_factory.mktemp("shards")
    (file,) = _dataset(folder, [data], [3])
    try:
        index = RecordIndex.from_dir(folder, "train")
    except UserError as error:
        assert str(file) in str(error) and "rebuild-shard" in str(error)
        assert "record " in str(error)
        return
    for i in range(3):
        try:
            assert index.read(i) in _EXAMPLES
        except UserError as error:
            assert f"{file}: record {i} is corrupted (checksum)" in str(error)
    _read_all(file, index)


@_FUZZED
@given(st.lists(_damaged(_EXAMPLES[0]) | st.binary(max_size=60), min_size=1, max_size=3))
def test_nonsense_with_right_checksums(tmp_path_factory, datas):
    """The data of a program that writes something else."""
    folder = tmp_path_factory.mktemp("shards")
    (file,) = _dataset(folder, [b"".join(map(tfrecord, datas))], [len(datas)])
    _read_all(file, RecordIndex.from_dir(folder, "train"))


def _read_all(file: Path, index: RecordIndex) -> None:
    for read in (
        *(lambda i=i: index.record(i) for i in range(len(index))),
        lambda: list(index.annotations()),
    ):
        try:
            read()
        except UserError as error:
            assert f"{file}: record " in str(error) and "rebuild-shard" in str(error)


@_FUZZED
@given(st.binary(max_size=80) | _damaged(b'{"splits": [{"name": "train", "shardLengths": ["3"]}]}'))
@example(b'{"splits": [{"name": ["train"], "shardLengths": ["3"]}]}')
@example(b'{"splits": [{"name": "train", "shardLengths": ["-3"]}]}')
@example(b'{"splits": [{"name": "train", "shardLengths": ["9999999999999"]}]}')
def test_a_damaged_dataset_info(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("infos")
    _dataset(folder, [_WHOLE_SHARD], [3])
    (folder / "dataset_info.json").write_bytes(data)
    try:
        assert len(RecordIndex.from_dir(folder, "train")) == 3
    except UserError as error:
        assert str(folder) in str(error)
