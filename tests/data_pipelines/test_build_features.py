"""Precomputed features: every layout that people have, everything that can be wrong, and datasets with them."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.builders.feature_files import (
    FeatureError,
    FeatureSource,
    feature_sources,
    find_widths,
    read_all_features,
    read_features,
    read_stored,
)
from data_pipelines.builders.frames import UnusableVideo
from data_pipelines.check import check, to_text
from data_pipelines.quiet_tensorflow import import_tfds
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.example import ExampleSpec, make_example
from data_pipelines.reading.record_index import iterate_records, parse_record, read_record
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.config import DataConfig
from unloc_jax.errors import UserError

_RNG = np.random.default_rng(0)
_ARRAY = _RNG.normal(size=(7, 4)).astype(np.float32)
_OTHER = np.zeros((3, 2), np.float32)


def _write(path: Path, array) -> None:
    """One array, or a dictionary of arrays, in the format of the suffix."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, **(array if isinstance(array, dict) else {"anything": array}))
    elif path.suffix in (".h5", ".hdf5"):
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, values in array.items() if isinstance(array, dict) else [("anything", array)]:
                file[name] = values
    else:
        torch = pytest.importorskip("torch")
        content = (
            {name: torch.tensor(values) for name, values in array.items()}
            if isinstance(array, dict)
            else None
        )
        torch.save(content if content is not None else torch.tensor(array), path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hdf5", ".pt", ".pth"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_format_and_type(tmp_path, suffix, dtype):
    _write(tmp_path / f"v_a{suffix}", _ARRAY.astype(dtype))
    for video_id in ("v_a", "a"):
        array = read_features(FeatureSource("clip", tmp_path), video_id)
        assert array.dtype == np.float32 and array.shape == (7, 4)
        np.testing.assert_array_equal(array, _ARRAY.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".pt"])
@pytest.mark.parametrize(
    ("names", "key", "chosen"),
    [
        (["x"], None, "x"),
        (["features", "other"], None, "features"),
        (["feats", "other"], "feats", "feats"),
        (["features", "slow"], "slow", "slow"),
        (["a", "b"], None, None),
        (["a", "b"], "c", None),
        (["a"], "features", None),
    ],
)
def test_files_with_several_arrays(tmp_path, suffix, names, key, chosen):
    _write(tmp_path / f"a{suffix}", {name: _ARRAY if name == chosen else _OTHER for name in names})
    source = FeatureSource("clip", tmp_path, key)
    if chosen is not None:
        np.testing.assert_array_equal(read_features(source, "a"), _ARRAY)
        return
    with pytest.raises(FeatureError, match=r"no array '\w+' \(there are: a.*say NAME=DIR:KEY") as caught:
        read_features(source, "a")
    assert caught.value.kind == "no such array" and str(tmp_path) in str(caught.value)


def test_one_hdf5_file_for_all(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "all.hdf5"
    with h5py.File(path, "w") as file:
        file["v_dataset"] = _ARRAY.T
        file["v_group/c3d_features"] = _ARRAY.T
        file["v_two/c3d"] = _OTHER
        file["v_two/i3d"] = _ARRAY.T
    source = FeatureSource("c3d", path, time_axis=1)
    for video_id in ("v_dataset", "dataset", "v_group", "group"):
        np.testing.assert_array_equal(read_features(source, video_id), _ARRAY)
    np.testing.assert_array_equal(read_features(FeatureSource("c3d", path, "i3d", 1), "two"), _ARRAY)
    for video_id, kind in (("two", "no such array"), ("absent", "missing")):
        with pytest.raises(FeatureError) as caught:
            read_features(source, video_id)
        assert caught.value.kind == kind


def test_names_with_the_ending_of_the_video(tmp_path):
    """As TACoS' official HDF5 file and many extractors write them."""
    np.save(tmp_path / "s13-d21.avi.npy", _ARRAY)
    np.savez(tmp_path / "clip.MP4.npz", features=_ARRAY)
    np.save(tmp_path / "x.y.npy", _ARRAY)
    source = FeatureSource("c3d", tmp_path)
    for video_id in ("s13-d21", "clip", "x.y"):
        np.testing.assert_array_equal(read_features(source, video_id), _ARRAY)
    np.save(tmp_path / "clip.npy", _OTHER)
    with pytest.raises(UserError, match=r"clip\.MP4\.npz and .*clip\.npy have one name"):
        read_features(FeatureSource("c3d", tmp_path), "clip")
    with pytest.raises(FeatureError, match="there is no such file"):
        read_features(source, "x")


def test_names_in_one_hdf5_file_with_the_ending_of_the_video(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "all.h5"
    with h5py.File(path, "w") as file:
        file["s13-d21.avi"] = file["v_caf\u0065\u0301.MP4"] = file["kitchen/a"] = _ARRAY
        file["b.mov"], file["b.mp4"] = _ARRAY, _OTHER
    source = FeatureSource("c3d", path)
    for video_id in ("s13-d21", "v_caf\u00e9", "caf\u00e9", "kitchen/a"):
        np.testing.assert_array_equal(read_features(source, video_id), _ARRAY)
    with pytest.raises(FeatureError, match=r"'b\.mov' and 'b\.mp4' have one name"):
        read_features(source, "b")


@pytest.mark.parametrize("time_axis", [0, 1])
def test_time_axis(tmp_path, time_axis):
    np.save(tmp_path / "a.npy", _ARRAY if time_axis == 0 else _ARRAY.T)
    np.testing.assert_array_equal(read_features(FeatureSource("x", tmp_path, None, time_axis), "a"), _ARRAY)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.full((2, 3), np.nan), "NaN or infinite"),
        (np.array([[1.0, np.inf]]), "NaN or infinite"),
        (np.array([[1e300]]), "NaN or infinite"),  # in float32
        (np.zeros((0, 4)), "empty"),
        (np.zeros((4, 0)), "empty"),
        (np.zeros(4), "wrong rank"),
        (np.zeros(()), "wrong rank"),
        (np.zeros((1, 4, 4)), "wrong rank"),
        (np.array([["a"]]), "not numbers"),
        (np.zeros((2, 2), complex), "not numbers"),
    ],
)
def test_unusable_arrays(tmp_path, array, kind):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FeatureError) as caught:
        read_features(FeatureSource("x", tmp_path), "a")
    assert caught.value.kind == kind and str(tmp_path / "a.npy") in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize("contents", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_damaged_files(tmp_path, suffix, contents):
    if suffix == ".h5":
        pytest.importorskip("h5py")
    (tmp_path / f"a{suffix}").write_bytes(contents)
    with pytest.raises(FeatureError) as caught:
        read_features(FeatureSource("x", tmp_path), "a")
    assert caught.value.kind == "cannot be read"


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".pt"])
def test_small_files_of_large_arrays_are_refused(tmp_path, suffix):
    """Before memory is taken: nothing of 8 GB fits here."""
    file = tmp_path / f"a{suffix}"
    shape = (2**21, 1024)
    match suffix:
        case ".npz":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<f4", "fortran_order": False, "shape": shape}
            )
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("features.npy", header.getvalue() + bytes(2**20))
        case ".h5":
            h5py = pytest.importorskip("h5py")
            with h5py.File(file, "w") as opened:
                opened.create_dataset("features", shape, "f4", chunks=(1024, 1024))
        case ".pt":
            torch = pytest.importorskip("torch")
            torch.save(torch.zeros(1).expand(shape), file)
    with pytest.raises(FeatureError, match="the array would have 8,589,934,592") as raised:
        read_features(FeatureSource("clip", tmp_path), "a")
    assert raised.value.kind == "too large"


def test_compressed_features_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", np.zeros((3000, 1024), np.float32))
    assert read_features(FeatureSource("clip", tmp_path), "a").shape == (3000, 1024)


def test_pickles_are_not_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FeatureError) as caught:
        read_features(FeatureSource("x", tmp_path), "a")
    assert caught.value.kind == "cannot be read"


@pytest.mark.parametrize(
    ("suffix", "module", "install"), [(".h5", "h5py", "features"), (".pt", "torch", "torch")]
)
def test_packages_that_are_missing(tmp_path, monkeypatch, suffix, module, install):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(UserError, match=rf"a\{suffix}: reading this file needs .*pip install .*{install}"):
        read_features(FeatureSource("x", tmp_path), "a")


def test_widths(tmp_path):
    for i, shape in enumerate([(7, 5), (8, 4), (9, 4)]):
        np.save(tmp_path / f"{i}.npy", np.zeros(shape))
    source = FeatureSource("x", tmp_path)
    ids = ["absent", "0", "1", "2"]
    assert find_widths([source], ids) == {"x": 4}
    assert read_all_features([source], {"x": 4}, "1")["x"].rows.shape == (8, 4)
    for video_id, kind in (("0", "other width"), ("absent", "missing")):
        result = read_all_features([source], {"x": 4}, video_id)
        assert isinstance(result, UnusableVideo) and result.kind == f"x features: {kind}"
    with pytest.raises(UserError, match=r"None of the 2 videos has usable features 'x' in .*absent.npy"):
        find_widths([source], ["absent", "gone"])


def test_arrays_that_lie_the_other_way(tmp_path):
    for i in range(5):
        np.save(tmp_path / f"{i}.npy", np.zeros((4, 10 + i)))
    ids = [str(i) for i in range(5)]
    with pytest.raises(
        UserError, match=r"differ in width .*4 × 10.*stored \[D, F\]; try --features-axis x=1"
    ):
        find_widths([FeatureSource("x", tmp_path)], ids)
    assert find_widths([FeatureSource("x", tmp_path, time_axis=1)], ids) == {"x": 4}
    for i in range(5):  # of equal length and equal width: nothing to report
        np.save(tmp_path / f"{i}.npy", np.zeros((4, 10)))
    assert find_widths([FeatureSource("x", tmp_path)], ids) == {"x": 10}


def test_the_command_line(tmp_path):
    (tmp_path / "a:b").mkdir()
    (tmp_path / "all.h5").touch()
    texts = [f"clip={tmp_path}", f"i3d={tmp_path}:feats", f"odd={tmp_path}/a:b", f"c3d={tmp_path}/all.h5:x/y"]
    assert feature_sources(texts, ["1", "i3d=0"]) == [
        FeatureSource("clip", tmp_path, None, 1),
        FeatureSource("i3d", tmp_path, "feats", 0),
        FeatureSource("odd", tmp_path / "a:b", None, 1),
        FeatureSource("c3d", tmp_path / "all.h5", "x/y", 1),
    ]
    for texts, axes, message in (
        (["clip"], [], "write NAME=DIR or NAME=DIR:KEY"),
        (["a/b=x"], [], "write NAME=DIR"),
        (["clip="], [], "write NAME=DIR"),
        ([f"clip={tmp_path}/none"], [], "neither a folder with one file per video nor an HDF5 file"),
        ([f"clip={tmp_path}"] * 2, [], "there are already features named clip"),
        ([f"clip={tmp_path}"], ["2"], "give the axis of time"),
        ([f"clip={tmp_path}"], ["clip"], "give the axis of time"),
        ([f"clip={tmp_path}"], ["i3d=1"], "no --features of this name"),
    ):
        with pytest.raises(UserError, match=message):
            feature_sources(texts, axes)


@pytest.fixture
def inputs(tmp_path) -> tuple[list[Path], list[FeatureSource], dict[str, dict[str, np.ndarray]]]:
    """Annotations of videos a … f; "clip" in files and "audio" with the axes swapped; what is usable of them."""
    (tmp_path / "clip").mkdir()
    (tmp_path / "audio").mkdir()
    arrays = {}
    for i, video_id in enumerate("abcdef"):
        clip, audio = _RNG.normal(size=(5 + i, 4)).astype(np.float16), _RNG.normal(size=(20 + i, 3))
        arrays[video_id] = {"clip": clip.astype(np.float32), "audio": audio.astype(np.float32)}
        if video_id == "d":
            clip[2, 1] = np.nan
        if video_id == "e":
            audio = audio[:, :2]
        np.save(tmp_path / "clip" / f"{video_id}.npy", clip)
        np.savez(tmp_path / "audio" / f"{video_id}.npz", features=audio.T)
    (tmp_path / "clip" / "c.npy").unlink()
    captions = {
        video_id: {"duration": 2.0, "timestamps": [[0.5, 1.5]], "sentences": [f"what {video_id} shows"]}
        for video_id in "abcdef"
    }
    del captions["f"]["duration"]
    (tmp_path / "train.json").write_text(json.dumps(captions))
    sources = feature_sources([f"clip={tmp_path}/clip", f"audio={tmp_path}/audio"], ["audio=1"])
    return [tmp_path / "train.json"], sources, arrays


_SKIPPED = {
    "c": "clip features: missing",
    "d": "clip features: NaN or infinite",
    "e": "audio features: other width",
}


def _skipped(out: Path) -> dict[str, str]:
    lines = map(json.loads, (out / "unusable_videos.jsonl").read_text().splitlines())
    return {line["video_id"]: line["kind"] for line in lines}


@pytest.mark.slow
def test_a_dataset_without_frames(inputs, tmp_path, capsys):
    pytest.importorskip("tensorflow")
    tfds = import_tfds()

    files, sources, arrays = inputs
    out = tmp_path / "out"
    directory = build("activitynet_captions", files, None, out, features=sources)
    # A length that the annotations do not tell cannot be measured either.
    assert _skipped(out) == {**_SKIPPED, "f": "unknown duration"}
    info = read_build_info(out)
    assert (info["has_frames"], info["fps"], info["short_side"]) == (False, 0.0, 0)
    assert info["features"] == {"clip": 4, "audio": 3}
    assert info["splits"]["train"] == {"videos": 2, "segments": 2, "texts": 2, "frames": 0, "megabytes": 0.0}
    assert {f"video skipped: {kind}": 1 for kind in _skipped(out).values()} == info["problems"]["videos"]
    assert "features clip: 4 wide\nfeatures audio: 3 wide\n" in capsys.readouterr().out

    records = {record.video_id: record for record in iterate_records(directory, "train", with_frames=True)}
    assert set(records) == {"a", "b"}
    for video_id, record in records.items():
        assert (record.duration_s, record.fps, record.frames) == (2.0, 0.0, [])
        assert record.texts == [f"what {video_id} shows"]
        assert set(record.features) == {"clip", "audio"}
        for name, array in record.features.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, arrays[video_id][name])
    assert all(not record.features for record in iterate_records(directory, "train", with_frames=False))

    dataset = tfds.builder_from_directory(directory).as_dataset(split="train", shuffle_files=False)
    for example in tfds.as_numpy(dataset):
        assert "frames" not in example
        for name, array in example["features"].items():
            np.testing.assert_array_equal(array, arrays[example["video_id"].decode()][name])
            assert example["feature_rows"][name] == len(array)


@pytest.mark.slow
def test_a_dataset_with_frames_and_features(inputs, tmp_path, capsys):
    files, sources, arrays = inputs
    videos = tmp_path / "videos"
    videos.mkdir()
    for video_id in "abdef":
        write_video(videos / f"{video_id}.mp4", regular_times_ms(2.0))
    out = tmp_path / "out"
    options = {"fps": 5.0, "short_side": 48, "features": sources, "workers": 1}
    directory = build("activitynet_captions", files, videos, out, **options)
    assert _skipped(out) == {**_SKIPPED, "c": "missing"}
    info = read_build_info(out)
    assert (info["has_frames"], info["fps"], info["features"]) == (True, 5.0, {"clip": 4, "audio": 3})
    records = {record.video_id: record for record in iterate_records(directory, "train", with_frames=True)}
    assert set(records) == {"a", "b", "f"}
    for video_id, record in records.items():
        assert len(record.frames) == 10 and record.duration_s == pytest.approx(2.0)
        np.testing.assert_array_equal(record.features["clip"], arrays[video_id]["clip"])
    # The same again is there; with other features it is another dataset.
    capsys.readouterr()
    assert build("activitynet_captions", files, videos, out, **options) == directory
    assert "reusing" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"features was .*now .*Delete it or choose another --out"):
        build("activitynet_captions", files, videos, out, **{**options, "features": sources[:1]})


@pytest.mark.slow
def test_saliency_and_queries_without_segments(tmp_path, capsys):
    np.save(tmp_path / "x_0.0_8.0.npy", _ARRAY)
    np.save(tmp_path / "y_0.0_8.0.npy", _ARRAY)
    scores = [[4, 3, 1], [0, 2, 4]]
    lines = [
        {
            "qid": 1,
            "query": "a dog — jumps",
            "duration": 8,
            "vid": "x_0.0_8.0",
            "relevant_windows": [[2, 6]],
            "relevant_clip_ids": [1, 2],
            "saliency_scores": scores,
        },
    ]
    (tmp_path / "highlight_train_release.jsonl").write_text("\n".join(map(json.dumps, lines)))
    hidden = {"qid": 2, "query": "somebody sings", "duration": 8, "vid": "y_0.0_8.0"}
    (tmp_path / "highlight_test_release.jsonl").write_text(json.dumps(hidden))
    files = [tmp_path / "highlight_train_release.jsonl", tmp_path / "highlight_test_release.jsonl"]
    sources = feature_sources([f"clip={tmp_path}"])
    directory = build("qvhighlights", files, None, tmp_path / "out", features=sources)
    (record,) = iterate_records(directory, "train", with_frames=False)
    assert set(record.saliency) == {"a dog — jumps"}
    array = record.saliency["a dog — jumps"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [[0, 0, 0], *scores, [0, 0, 0]])
    (record,) = iterate_records(directory, "test", with_frames=False)
    assert (record.texts, record.segments_s.shape, record.saliency) == (["somebody sings"], (0, 2), {})
    assert read_record(directory, "test", 0).features["clip"].shape == (7, 4)


def _example(**features) -> bytes:
    import_tfds()
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    for name, values in features.items():
        feature = example.features.feature[name.replace("__", "/")]
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return example.SerializeToString()


_OLD = {
    "video_id": [b"v"],
    "duration_s": [2.5],
    "fps": [5.0],
    "frames": [b"jpeg"],
    "segments_s": [0.5, 1.0],
    "texts": [b"text"],
    "attributes": [b"{}"],
}


@pytest.mark.slow
def test_examples_of_earlier_datasets():
    record = parse_record(_example(**_OLD), "train", with_frames=True)
    assert (record.video_id, record.duration_s, record.fps, record.frames) == ("v", 2.5, 5.0, [b"jpeg"])
    assert (record.features, record.saliency) == ({}, {})


@pytest.mark.slow
def test_which_parts_are_read():
    parts = {
        "features__a.b": [1.0, 2.0, 3.0, 4.0],
        "feature_rows__a.b": [2],
        "saliency": [b'{"text": [[1.5]]}'],
    }
    data = _example(**_OLD, **parts)
    for with_frames in (False, True):
        for with_features in (False, True, None):
            record = parse_record(data, "train", with_frames, with_features)
            assert bool(record.frames) == with_frames
            assert bool(record.features) == (with_frames if with_features is None else with_features)
            np.testing.assert_array_equal(record.saliency["text"], [[1.5]])
    np.testing.assert_array_equal(record.features["a.b"], [[1, 2], [3, 4]])
    for rows in ([3], [0], [-1], [5], [2**62], [b"2"]):
        with pytest.raises(ValueError, match=r"features/a\.b|number"):
            parse_record(_example(**_OLD, **{**parts, "feature_rows__a.b": rows}), "train", True)


@pytest.mark.slow
def test_a_build_of_before_is_reused(tmp_path, inputs, capsys):
    files, _, _ = inputs
    (tmp_path / "videos").mkdir()
    for video_id in "ab":
        write_video(tmp_path / "videos" / f"{video_id}.mp4", regular_times_ms(2.0))
    options = {"fps": 5.0, "short_side": 48, "workers": 1}
    out = tmp_path / "out"
    build("activitynet_captions", files, tmp_path / "videos", out, **options)
    info = json.loads((out / "build.json").read_text())
    for key in ("features", "has_frames"):
        del info[key]
    del info["arguments"]["features"]
    (out / "build.json").write_text(json.dumps(info))
    assert (read_build_info(out)["has_frames"], read_build_info(out)["features"]) == (True, {})
    capsys.readouterr()
    build("activitynet_captions", files, tmp_path / "videos", out, **options)
    assert "reusing" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_command(inputs, tmp_path, unloc):
    files, _, arrays = inputs
    words = ["data", "build", "--dataset=activitynet_captions", "--annotations", *files, "--no-frames"]
    words += [f"--features=clip={tmp_path}/clip", f"--features=audio={tmp_path}/audio:features"]
    printed = unloc(*words, "--features-axis=audio=1", f"--out={tmp_path / 'out'}").ok().out
    assert "features clip: 4 wide\nfeatures audio: 3 wide\n" in printed
    record = read_record(find_dataset(tmp_path / "out"), "train", 0)
    for name, array in record.features.items():
        np.testing.assert_array_equal(array, arrays[record.video_id][name])
    error = unloc(*words, f"--out={tmp_path / 'other'}").error()  # audio lies the other way
    assert "try --features-axis audio=1" in error


def test_beam_is_missing(inputs, tmp_path, monkeypatch):
    files, sources, _ = inputs
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    monkeypatch.delitem(__import__("sys").modules, "data_pipelines.builders.beam", raising=False)
    with pytest.raises(UserError, match=r"Apache Beam is missing: `pip install 'unloc_jax\[beam\]'`"):
        build("activitynet_captions", files, None, tmp_path / "out", features=sources, beam_options=[])
    assert not (tmp_path / "out").exists()


def test_neither_frames_nor_features(tmp_path):
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(UserError, match=r"without frames \(--no-frames\) needs features"):
        build("activitynet_captions", [tmp_path / "train.json"], None, tmp_path / "out")
    with pytest.raises(UserError, match="no finished dataset here"):
        find_dataset(tmp_path / "out")


# How `unloc features` stores times, and somebody else.
_STORED = {
    "all": lambda times_s, duration_s: {"times_s": times_s, "duration_s": duration_s},
    "times": lambda times_s, duration_s: {"times_s": times_s},
    "none": lambda times_s, duration_s: {},
}


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".pt"])
@pytest.mark.parametrize("stored", _STORED)
def test_times_are_read(tmp_path, suffix, stored):
    times_s = np.arange(7) * 0.5 + 0.25
    _write(tmp_path / f"a{suffix}", {"feats": _ARRAY, **_STORED[stored](times_s, 3.4)})
    found = read_stored(FeatureSource("clip", tmp_path), "a")
    np.testing.assert_array_equal(found.rows, _ARRAY)
    if stored == "none":
        assert (found.times_s, found.duration_s, found.end_s) == (None, None, None)
        return
    np.testing.assert_allclose(found.times_s, times_s)
    assert found.end_s == pytest.approx(3.4 if stored == "all" else 3.5)


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"times_s": np.arange(6)}, "bad times_s"),
        ({"times_s": np.zeros(7)}, "bad times_s"),
        ({"times_s": np.arange(7) - 1.0}, "bad times_s"),
        ({"times_s": np.full(7, np.nan)}, "bad times_s"),
        ({"times_s": np.array(["a"] * 7)}, "bad times_s"),
        ({"duration_s": 0.0}, "bad duration_s"),
        ({"duration_s": np.inf}, "bad duration_s"),
        ({"duration_s": np.ones(2)}, "bad duration_s"),
    ],
)
def test_times_that_cannot_be(tmp_path, more, kind):
    np.savez(tmp_path / "a.npz", features=_ARRAY, **more)
    with pytest.raises(FeatureError) as caught:
        read_stored(FeatureSource("x", tmp_path), "a")
    assert caught.value.kind == kind and str(tmp_path / "a.npz") in str(caught.value)


def _build_rows(tmp_path: Path, rows: dict[str, dict], durations: dict[str, float]):
    """Videos whose row i of features is the number i, everywhere: the records, and the problems of the build."""
    (tmp_path / "clip").mkdir()
    for name, (count, more) in rows.items():
        np.savez(
            tmp_path / "clip" / f"{name}.npz", features=np.full((count, 4), np.arange(count)[:, None]), **more
        )
    lines = ["video,start,end,text,duration"]
    lines += [f"{name},0.5,1.5,a text,{durations.get(name, '')}" for name in rows]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    sources = feature_sources([f"clip={tmp_path}/clip"])
    directory = build("csv", [tmp_path / "train.csv"], None, tmp_path / "out", features=sources)
    records = {r.video_id: r for r in iterate_records(directory, "train", with_frames=True)}
    return records, read_build_info(tmp_path / "out")["problems"]["videos"]


@pytest.mark.slow
def test_rows_are_trained_at_their_own_times(tmp_path):
    """An annotated part of 30 s of a video of 60 s; irregular times; times, and no length in the annotations."""
    times_s = (np.arange(120) + 0.5) / 2
    irregular_s = np.array([0.0, 1.0, 5.0, 30.0])
    records, problems = _build_rows(
        tmp_path,
        {
            "part": (120, {"times_s": times_s, "duration_s": 60.0}),
            "irregular": (4, {"times_s": irregular_s}),
            "unknown": (120, {"times_s": times_s, "duration_s": 60.0}),
            "spread": (60, {}),
        },
        {"part": 30.0, "irregular": 31.0, "spread": 30.0},
    )
    assert records["part"].duration_s == 30 and records["unknown"].duration_s == 60
    assert problems == {"duration differs from the video": 1}
    spec = ExampleSpec(DataConfig(num_frames=31), 8, None, with_frames=False, features={"clip": 4})
    for name, own_s in {"part": times_s, "unknown": times_s, "irregular": irregular_s}.items():
        example = make_example(records[name], spec, None)
        first_s, last_s = example.fields["span_s"]
        assert (first_s, last_s) == (own_s[0], own_s[-1])
        places_s = np.linspace(first_s, last_s, 31)
        expected = np.interp(places_s, own_s, np.arange(len(own_s)))
        np.testing.assert_allclose(example.features["clip"][:, 0], expected, atol=1e-4)
    example = make_example(records["spread"], spec, None)
    np.testing.assert_allclose(example.fields["span_s"], [0.25, 29.75])


@pytest.mark.slow
def test_features_of_another_length_are_told(tmp_path):
    times_s = (np.arange(120) + 0.5) / 2
    _, problems = _build_rows(tmp_path, {"a": (120, {"times_s": times_s})}, {"a": 30.0})
    assert problems == {"clip features: another length than the video": 1}


@pytest.mark.slow
def test_other_numbers_of_rows_per_second_are_told(tmp_path, capsys):
    rows = {"a": (60, {}), "b": (41, {}), "c": (80, {}), "d": (120, {})}
    _, problems = _build_rows(tmp_path, rows, {"a": 30.0, "b": 20.0, "c": 40.0, "d": 30.0})
    assert problems == {"clip features: rows per second differ": 1}
    assert "train: d: 120 rows for 30.00 s; most videos have 2 per second" in capsys.readouterr().out


@pytest.mark.slow
def test_a_fixed_number_of_rows_is_spread_on_purpose(tmp_path):
    _, problems = _build_rows(tmp_path, {"a": (100, {}), "b": (100, {})}, {"a": 30.0, "b": 200.0})
    assert problems == {}


@pytest.mark.slow
def test_videos_without_any_length(tmp_path):
    with pytest.raises(UserError, match=r"None of the 2 videos .*'train' has a known length.*`duration`"):
        _build_rows(tmp_path, {"a": (60, {}), "b": (60, {})}, {})
    page = to_text(check("csv", [tmp_path / "train.csv"]))
    assert "duration missing: of 2 videos" in page and "--no-frames" in page
