"""Random access into TFRecord shards, and reading examples without TensorFlow."""

import json
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.record_index import RecordIndex, iterate_records, parse_record, read_record
from data_pipelines.tf_example import parse_example
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


def _record(data: bytes) -> bytes:
    def masked(part: bytes) -> bytes:
        crc = google_crc32c.value(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


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
    _dataset(tmp_path, [_TF_SHARD, _record(b"xyz")], [3, 1])
    index = RecordIndex.from_dir(tmp_path, "train")
    assert len(index) == 4
    assert [index.read(i) for i in range(4)] == [b"abc", b"", _EXAMPLE, b"xyz"]
    assert index.shards.tolist() == [0, 0, 0, 1]
    for outside in (-1, 4):
        with pytest.raises(IndexError):
            index.read(outside)


def test_many_shards_are_in_order(tmp_path):
    _dataset(tmp_path, [_record(b"%d" % i) for i in range(12)], [1] * 12)
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
    with pytest.raises(UserError, match="record 2 is corrupted") as caught:
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
    (file,) = _dataset(tmp_path, [_record(_EXAMPLE)], [1])
    for read in (
        lambda: read_record(tmp_path, "train", 0),
        lambda: list(iterate_records(tmp_path, "train", False)),
    ):
        with pytest.raises(UserError, match="record 0") as caught:
            read()
        assert str(file) in str(caught.value)
