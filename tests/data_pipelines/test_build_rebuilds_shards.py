"""A damaged shard is rebuilt alone, to the last bit."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.builders.feature_files import FeatureSource
from data_pipelines.builders.shard_list import read_shard_list
from data_pipelines.quiet_tensorflow import import_tfds
from data_pipelines.reading.record_index import RecordIndex, iterate_records
from data_pipelines.reading.tfrecord import FOOTER_BYTES, HEADER_BYTES, masked_crc
from data_pipelines.rebuild_shard import rebuild_shard
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.errors import UserError

pytestmark = pytest.mark.slow
_IDS = [f"v{i}" for i in range(7)]  # the last one is unusable


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A folder with everything a build needs, and the build in "out": train has two shards, validation one."""
    folder = tmp_path_factory.mktemp("pristine")
    for name in ("videos", "clip"):
        (folder / name).mkdir()
    for i, video_id in enumerate(_IDS[:-1]):
        write_video(folder / "videos" / f"{video_id}.mp4", regular_times_ms(1.0 + i / 5))
        np.save(folder / "clip" / f"{video_id}.npy", np.full((3 + i, 4), i, np.float32))
    captions = {
        i: {"duration": 1.0, "timestamps": [[0.25, 0.75]], "sentences": [f"what {i} shows"]} for i in _IDS
    }
    for split, ids in (("train", [*_IDS[:5], _IDS[6]]), ("val", _IDS[5:6])):
        (folder / f"{split}.json").write_text(json.dumps({i: captions[i] for i in ids}))
    import_tfds()
    from tensorflow_datasets.core.utils import shard_utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            shard_utils.ShardConfig,
            "get_number_shards",
            lambda self, total_size, num_examples, uses_precise_sharding=True: min(2, num_examples),
        )
        _build(folder)
    return folder


def _build(folder: Path, with_frames: bool = True, out: str = "out") -> Path:
    files = [folder / "train.json", folder / "val.json"]
    features = [FeatureSource("clip", folder / "clip")]
    videos = folder / "videos" if with_frames else None
    options = {"fps": 5.0, "short_side": 48, "features": features, "workers": 1}
    return build("activitynet_captions", files, videos, folder / out, **options)


@pytest.fixture
def folder(pristine):
    """The same folder; what a test changes in it is put back afterwards (its paths are in the build)."""
    kept = pristine.with_name("kept")
    shutil.copytree(pristine, kept)
    yield pristine
    shutil.rmtree(pristine)
    kept.rename(pristine)


def _shards(folder: Path, out: str = "out") -> list[Path]:
    return sorted((folder / out).glob("unloc_data/*/*/*.tfrecord*"))


def test_the_list_of_shards_is_what_the_shards_hold(pristine):
    files = _shards(pristine)
    assert [len(read_shard_list(pristine / "out")), len(files)] == [3, 3]
    for split in ("train", "validation"):
        index = RecordIndex.from_dir(files[0].parent, split)
        ids = [record.video_id for record in iterate_records(files[0].parent, split, with_frames=False)]
        listed = [shard for shard in read_shard_list(pristine / "out") if shard.split == split]
        assert [shard.file for shard in listed] == [file.name for file in index.files]
        assert [record.video_id for shard in listed for record in shard.records] == ids
        assert [record.length for shard in listed for record in shard.records] == index.lengths.tolist()


def _flip(file: Path) -> None:
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)


_DAMAGES = {
    "flipped": _flip,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "header": lambda file: file.write_bytes(b"\0" + file.read_bytes()[1:]),
    "empty": lambda file: file.write_bytes(b""),
    "other": lambda file: file.write_bytes(b"something else entirely" * 9999),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", _DAMAGES)
def test_every_damage_is_mended_as_the_message_says(folder, unloc, damage):
    before = [file.read_bytes() for file in _shards(folder)]
    shard = _shards(folder)[1]
    in_shard = next(shard_.records for shard_ in read_shard_list(folder / "out") if shard_.file == shard.name)
    _DAMAGES[damage](shard)
    with pytest.raises(UserError) as caught:
        index = RecordIndex.from_dir(shard.parent, "train")
        for i in range(len(index)):
            index.record(i)
    assert str(shard) in str(caught.value)
    # What is still whole is not made again: the videos of it are not needed.
    expected = {"flipped": 1, "cut": 0, "header": 0}.get(damage, len(in_shard))
    for video in (folder / "videos").iterdir():
        if expected < len(in_shard) and video.stem not in _decoded(folder, shard):
            video.unlink()
    command = shlex.split(re.search(r"`unloc (.*)`", str(caught.value))[1])
    printed = unloc(*command).ok().out
    assert f"{expected} of {len(in_shard)} records were made again, and the shard is what it was" in printed
    assert [file.read_bytes() for file in _shards(folder)] == before
    assert {path.name for path in (folder / "out").iterdir()} == {
        ".build.lock",
        "build.json",
        "shards.jsonl",
        "unloc_data",
        "unusable_videos.jsonl",
    }


def _decoded(folder: Path, shard: Path) -> set[str]:
    """The videos whose records in a shard of full length differ from its list."""
    contents, position, damaged = shard.read_bytes(), 0, set()
    (listed,) = (s for s in read_shard_list(folder / "out") if s.file == shard.name)
    for record in listed.records:
        data = contents[position + HEADER_BYTES : position + HEADER_BYTES + record.length]
        if masked_crc(data) != record.masked_crc:
            damaged.add(record.video_id)
        position += HEADER_BYTES + record.length + FOOTER_BYTES
    return damaged


def test_without_frames(pristine, capsys):
    directory = _build(pristine, with_frames=False, out="features_only")
    before = [file.read_bytes() for file in _shards(pristine, "features_only")]
    shard = RecordIndex.from_dir(directory, "train").files[0]
    shard.unlink()
    assert rebuild_shard(shard) == 5
    assert [file.read_bytes() for file in _shards(pristine, "features_only")] == before
    assert rebuild_shard(shard) == 0


def test_what_it_was_built_from_is_not_there_any_more(folder):
    shard = _shards(folder)[0]
    (listed,) = (s for s in read_shard_list(folder / "out") if s.file == shard.name)
    shard.write_bytes(b"")
    video = folder / "videos" / f"{listed.records[0].video_id}.mp4"
    kept = video.read_bytes()
    video.unlink()
    with pytest.raises(UserError, match=rf"{video.name}.*there is no such file.*Nothing was changed"):
        rebuild_shard(shard)
    video.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(UserError, match=rf"{video.name}.*Nothing was changed"):
        rebuild_shard(shard)
    assert shard.read_bytes() == b""
    video.write_bytes(kept)
    annotations = folder / "train.json"
    text = annotations.read_text()
    annotations.write_text(text + " ")
    with pytest.raises(UserError, match=r"train\.json: has changed since"):
        rebuild_shard(shard)
    annotations.unlink()
    with pytest.raises(UserError, match=r"train\.json: is gone since"):
        rebuild_shard(shard)
    annotations.write_text(text)
    (folder / "out" / "shards.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"shards\.jsonl: missing or damaged"):
        rebuild_shard(shard)


def test_another_video_file_is_told(folder, capsys):
    shard = _shards(folder)[0]
    (listed,) = (s for s in read_shard_list(folder / "out") if s.file == shard.name)
    video_id = listed.records[-1].video_id
    shard.unlink()
    write_video(folder / "videos" / f"{video_id}.mp4", regular_times_ms(3.0))
    assert rebuild_shard(shard) == len(listed.records)
    assert "1 of them differ from before" in capsys.readouterr().out
    index = RecordIndex.from_dir(shard.parent, "train")
    assert len(index.record(len(listed.records) - 1).frames) == 15
    assert rebuild_shard(shard) == 0  # the list knows the new record


def test_not_a_shard(pristine, tmp_path):
    with pytest.raises(UserError, match="no finished dataset here"):
        rebuild_shard(tmp_path / "unloc_data-train.tfrecord-00000-of-00001")
    shard = _shards(pristine)[0]
    with pytest.raises(UserError, match=r"no shard of this dataset; its first one is unloc_data-train"):
        rebuild_shard(shard.with_name("unloc_data-train.tfrecord-00009-of-00002"))
