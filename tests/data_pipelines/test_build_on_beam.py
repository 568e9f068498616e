"""The same build on Apache Beam (DirectRunner): the same bytes and the same report."""

import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

import data_pipelines.build
from data_pipelines.build import build
from data_pipelines.builders.feature_files import FeatureSource
from data_pipelines.reading.built import find_dataset
from data_pipelines.reading.record_index import RecordIndex
from data_pipelines.rebuild_shard import rebuild_shard
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.errors import UserError

pytestmark = pytest.mark.slow
pytest.importorskip("apache_beam")

_IDS = [f"v{i}" for i in range(8)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[list[Path], Path, list[FeatureSource]]:
    """Good videos, a cut one, a missing one, one without features, one of which no segment is left."""
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("videos", "clip"):
        (folder / name).mkdir()
    for i, video_id in enumerate(_IDS):
        write_video(folder / "videos" / f"{video_id}.mp4", regular_times_ms(1.0 + i / 4))
        np.save(folder / "clip" / f"{video_id}.npy", np.full((3 + i, 4), i, np.float32))
    cut = folder / "videos" / "v1.mp4"
    cut.write_bytes(cut.read_bytes()[:-2000])
    (folder / "videos" / "v2.mp4").unlink()
    (folder / "clip" / "v3.npy").unlink()
    starts_s = dict.fromkeys(_IDS, 0.25) | {"v4": 3.0}
    captions = {
        i: {"duration": 4.0, "timestamps": [[start_s, start_s + 0.5]], "sentences": [f"what {i} shows — ☃"]}
        for i, start_s in starts_s.items()
    }
    for split, ids in (("train", _IDS[:-1]), ("val", _IDS[-1:])):
        (folder / f"{split}.json").write_text(json.dumps({i: captions[i] for i in ids}))
    files = [folder / "train.json", folder / "val.json"]
    return files, folder / "videos", [FeatureSource("clip", folder / "clip")]


@pytest.mark.parametrize("with_frames", [True, False])
def test_the_same_build(inputs, tmp_path, capsys, with_frames):
    files, videos, features = inputs
    options = {"fps": 5.0, "short_side": 48, "features": features}
    directories, printed = [], []
    for name, how in (("local", {"workers": 1}), ("beam", {"beam_options": ["--runner=DirectRunner"]})):
        out = tmp_path / name
        where = videos if with_frames else None
        directories.append(build("activitynet_captions", files, where, out, **options, **how))
        text = capsys.readouterr().out.replace(str(out), "OUT")
        printed.append([line for line in text.splitlines() if not line.startswith("built in")])
    for split in ("train", "validation"):
        local, beam = (RecordIndex.from_dir(directory, split) for directory in directories)
        assert [file.name for file in local.files] == [file.name for file in beam.files]
        assert [file.read_bytes() for file in local.files] == [file.read_bytes() for file in beam.files]
    for file in ("build.json", "shards.jsonl", "unusable_videos.jsonl"):
        assert (tmp_path / "local" / file).read_text() == (tmp_path / "beam" / file).read_text()
    assert printed[0] == printed[1]
    assert sorted(path.name for path in (tmp_path / "local").iterdir()) == sorted(
        path.name for path in (tmp_path / "beam").iterdir()
    )
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "beam" / "unusable_videos.jsonl").open()]
    with_videos = ["truncated", "missing", "clip features: missing", "no segment inside the video"]
    assert kinds == (with_videos if with_frames else ["clip features: missing"])
    if with_frames:
        shard = beam.files[0]
        contents = shard.read_bytes()
        shard.unlink()
        assert rebuild_shard(shard) == 1
        assert shard.read_bytes() == contents


class InTheCloud(PurePosixPath):
    """Like etils.epath's "gs://…": it can be opened, but no other program can open it by its name."""

    def __fspath__(self):
        raise AssertionError(f"{self} is not on this machine")

    def resolve(self):
        return self

    def is_dir(self):
        return Path(str(self)).is_dir()

    def is_file(self):
        return Path(str(self)).is_file()

    def iterdir(self):
        return (self / entry.name for entry in Path(str(self)).iterdir())

    def open(self, mode):
        return Path(str(self)).open(mode)


def test_videos_in_a_cloud(inputs, tmp_path, monkeypatch):
    files, videos, _ = inputs
    options = {"fps": 5.0, "short_side": 48}
    local = build("activitynet_captions", files, videos, tmp_path / "local", **options, workers=1)
    monkeypatch.setattr(
        data_pipelines.build,
        "storage_path",
        lambda path: InTheCloud(path.removeprefix("gs:/")) if "gs:" in str(path) else Path(path),
    )
    options |= {"beam_options": ["--runner=DirectRunner"]}
    cloud = build("activitynet_captions", files, f"gs:/{videos}", tmp_path / "beam", **options)
    for split in ("train", "validation"):
        a, b = (RecordIndex.from_dir(directory, split) for directory in (local, cloud))
        assert [file.read_bytes() for file in a.files] == [file.read_bytes() for file in b.files]


def test_no_usable_video(inputs, tmp_path):
    files, _, _ = inputs
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    with pytest.raises(UserError, match="A split has no usable video at all"):
        build("activitynet_captions", files, tmp_path / "empty", out, beam_options=["--runner=DirectRunner"])
    with pytest.raises(UserError, match="no finished dataset here"):
        find_dataset(out)
