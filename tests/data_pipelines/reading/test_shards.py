"""The shards of `unloc data build` behind the interface that training and evaluation ask."""

import json

import numpy as np
import pytest

from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.record_index import iterate_records
from data_pipelines.reading.shards import Shards, UnlocShards
from unloc_jax.errors import UserError


@pytest.mark.slow  # the fixture builds a dataset
def test_unloc_shards(activities_dataset):
    shards: Shards = UnlocShards(str(activities_dataset))
    info = read_build_info(activities_dataset)
    assert shards.metadata.classes == info["classes"] and shards.metadata.name == info["dataset"]
    assert (shards.metadata.fps, shards.metadata.short_side) == (info["fps"], info["short_side"])
    records = shards.records("train")
    index = shards.index("train")
    assert len(index) == len(records) > 1
    for i, whole in enumerate(iterate_records(find_dataset(activities_dataset), "train", with_frames=True)):
        assert index.record(i).frames == whole.frames and not records[i].frames
        assert index.record(i).video_id == records[i].video_id == whole.video_id
        np.testing.assert_array_equal(records[i].segments_s, whole.segments_s)


@pytest.mark.parametrize("given", ["", "nowhere"])
def test_no_dataset(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"config.data.dir = '{given}' holds no dataset .*unloc data build"):
        UnlocShards(given)


@pytest.mark.slow
def test_fingerprint_is_of_the_content(activities_dataset, tmp_path):
    from shutil import copytree

    copy = copytree(activities_dataset, tmp_path / "copy")
    assert (
        UnlocShards(str(copy)).metadata.fingerprint
        == UnlocShards(str(activities_dataset)).metadata.fingerprint
    )
    info = json.loads((copy / "build.json").read_text())
    info["arguments"]["annotations"][0][1] = "another file"
    (copy / "build.json").write_text(json.dumps(info))
    assert (
        UnlocShards(str(copy)).metadata.fingerprint
        != UnlocShards(str(activities_dataset)).metadata.fingerprint
    )
