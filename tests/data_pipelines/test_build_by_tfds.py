"""The dataset as TFDS knows it: what is built is read by TFDS, and TFDS can build it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.reading.built import find_dataset
from data_pipelines.reading.record_index import RecordIndex, iterate_records
from tests.timed_video import read_time_s, regular_times_ms, write_video
from unloc_jax.errors import UserError

pytestmark = pytest.mark.slow
_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """As TFDS wants what it cannot download: "annotations" and "videos"; also features."""
    folder = tmp_path_factory.mktemp("manual")
    for name in ("annotations", "videos", "clip"):
        (folder / name).mkdir()
    ids = ["a", "b", "c"]
    for i, video_id in enumerate(ids):
        write_video(folder / "videos" / f"{video_id}.mp4", regular_times_ms(1.0 + i))
        np.save(folder / "clip" / f"{video_id}.npy", np.full((4, 5 + i), i, np.float32))
    scores = [[1, 2, 3]]
    for split, of_split in (("train", ids[:2]), ("val", ids[2:])):
        lines = [
            {
                "qid": i,
                "query": f"what {video_id} shows",
                "duration": 2,
                "vid": video_id,
                "relevant_windows": [[0, 2]],
                "relevant_clip_ids": [0],
                "saliency_scores": scores,
            }
            for i, video_id in enumerate(of_split)
        ]
        file = folder / "annotations" / f"highlight_{split}_release.jsonl"
        file.write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory) -> Path:
    """The `out` of `unloc data build` with the default options."""
    from data_pipelines.builders.feature_files import feature_sources

    out = tmp_path_factory.mktemp("built")
    files = sorted((folder / "annotations").iterdir())
    features = feature_sources([f"clip={folder}/clip"], ["1"])
    build("qvhighlights", files, folder / "videos", out, features=features, workers=1)
    return out


def test_tfds_reads_what_the_record_index_reads(built):
    import tensorflow_datasets as tfds

    import data_pipelines.unloc_data  # noqa: F401  registers the class

    for split in ("train", "validation"):
        records = list(iterate_records(find_dataset(built), split, with_frames=True))
        by_name = tfds.load("unloc_data/qvhighlights", split=split, data_dir=built, shuffle_files=False)
        by_directory = tfds.builder_from_directory(find_dataset(built)).as_dataset(split=split)
        for dataset in (by_name, by_directory):
            for record, example in zip(records, tfds.as_numpy(dataset), strict=True):
                assert example["video_id"].decode() == record.video_id
                assert (example["duration_s"], example["fps"]) == (record.duration_s, record.fps)
                np.testing.assert_array_equal(example["segments_s"], record.segments_s)
                assert [text.decode() for text in example["texts"]] == record.texts
                assert [json.loads(text) for text in example["attributes"]] == record.attributes
                saliency = json.loads(example["saliency"])
                assert saliency == {text: scores.tolist() for text, scores in record.saliency.items()} != {}
                assert len(example["frames"]) == len(record.frames) > 0
                for k, frame in enumerate(example["frames"]):
                    assert read_time_s(frame) == pytest.approx(k / 10, abs=0.03)
                np.testing.assert_array_equal(example["features"]["clip"], record.features["clip"])
                assert example["feature_rows"]["clip"] == len(record.features["clip"])


def test_reading_needs_nothing_but_tfds(built, tmp_path):
    """Without this package, as somebody else would read the dataset."""
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        f"dataset = tfds.load('unloc_data/qvhighlights', split='train', data_dir={str(built)!r})\n"
        "print(sorted(example['video_id'].decode() for example in tfds.as_numpy(dataset)))\n"
        "assert not any(name.startswith(('data_pipelines', 'unloc_jax')) for name in sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "['a', 'b']\n", done.stderr


def test_the_command_tfds_build(folder, built, tmp_path):
    for module in ("apache_beam", "mlcroissant"):
        pytest.importorskip(
            module, reason=f"without {module} the command `tfds` does not start (TFDS 4.9.10)"
        )
    command = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build", "unloc_data"]
    command += ["--imports=data_pipelines.unloc_data", f"--data_dir={tmp_path}"]
    config = {
        "name": "mine",
        "dataset": "qvhighlights",
        "annotations": sorted(map(str, (folder / "annotations").iterdir())),
        "videos": str(folder / "videos"),
        "features": [f"clip={folder}/clip"],
        "features_axis": ["1"],
        "workers": 1,
    }
    done = subprocess.run(
        [*command, f"--config={json.dumps(config)}"],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "'train': <SplitInfo num_examples=2" in done.stdout  # TFDS knows what was built
    assert find_dataset(tmp_path) == tmp_path / "unloc_data" / "mine" / "1.0.0"
    for split in ("train", "validation"):
        old, new = (RecordIndex.from_dir(find_dataset(out), split) for out in (built, tmp_path))
        assert [file.read_bytes() for file in old.files] == [file.read_bytes() for file in new.files]


def test_tfds_load_builds_from_a_manual_dir(folder, built, tmp_path):
    import tensorflow_datasets as tfds

    import data_pipelines.unloc_data  # noqa: F401  registers the class

    download = {"download_config": tfds.download.DownloadConfig(manual_dir=folder)}
    name = "unloc_data/qvhighlights"
    dataset = tfds.load(name, split="train", data_dir=tmp_path, download_and_prepare_kwargs=download)
    assert sorted(e["video_id"].decode() for e in tfds.as_numpy(dataset)) == ["a", "b"]
    old, new = (list(iterate_records(find_dataset(out), "train", True)) for out in (built, tmp_path))
    assert [record.frames for record in new] == [record.frames for record in old]


def test_tfds_load_builds_a_config(folder, tmp_path, capsys):
    import tensorflow_datasets as tfds

    from data_pipelines.unloc_data import UnlocConfig

    config = UnlocConfig(
        name="features_only",
        dataset="qvhighlights",
        annotations=sorted(map(str, (folder / "annotations").iterdir())),
        videos="",
        features=[f"clip={folder}/clip"],
        features_axis=["1"],
    )
    kwargs = {"split": "train", "data_dir": tmp_path, "builder_kwargs": {"config": config}}
    dataset = tfds.load("unloc_data", **kwargs)
    rows = {e["video_id"].decode(): e["features"]["clip"] for e in tfds.as_numpy(dataset)}
    assert {video_id: array.shape for video_id, array in rows.items()} == {"a": (5, 4), "b": (6, 4)}
    assert "features clip: 4 wide" in capsys.readouterr().out
    tfds.load("unloc_data", **kwargs)
    tfds.load("unloc_data/features_only", split="train", data_dir=tmp_path)
    assert capsys.readouterr().out == ""  # it was there
    with pytest.raises(UserError, match=r"MANUAL_DIR/annotations"):
        tfds.load("unloc_data/tacos", data_dir=tmp_path)
