"""Features of video files: of the right frames, the same by every way, and a folder of them that survives anything."""

import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest

from data_pipelines.reading.built import find_dataset
from data_pipelines.reading.record_index import iterate_records
from tests.pretrained.clip_originals import GOLDENS
from tests.timed_video import read_time_s, regular_times_ms, write_video
from tests.tiny_runs import child_environment, command_of
from unloc_jax.features.clip_encoder import ClipEncoder, fingerprint
from unloc_jax.features.embed_videos import embed_video, embed_videos
from unloc_jax.pretrained.clip_model import load_clip, save_clip
from unloc_jax.pretrained.clip_source import read_clip
from unloc_jax.video import FrameStream, VideoError

CLIP = GOLDENS / "hf_gelu_sharded"  # 32 pixels, D = 20
SECONDS = {"a": 2.0, "b": 0.08, "c": 3.3, "d": 1.2, "e": 2.6}


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return ClipEncoder(read_clip("hf-clip", str(CLIP)), batch_size=3)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five videos of other lengths and sizes that show their own time, one that ends too early, one that is none."""
    folder = tmp_path_factory.mktemp("timed")
    for name, seconds in SECONDS.items():
        size = (96, 72) if name < "c" else (72, 128)
        write_video(folder / f"{name}.mp4", regular_times_ms(seconds), size=size)
    write_video(folder / "cut.mp4", regular_times_ms(3.0), container_options={"movflags": "faststart"})
    whole = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "text.mkv").write_text("no video")
    return folder


@pytest.mark.parametrize("fps", [2.0, 7.5, 60.0])
def test_frames_are_those_in_the_middle_of_equal_parts(videos, encoder, fps):
    for name, seconds in SECONDS.items():
        video = videos / f"{name}.mp4"
        frames = list(FrameStream(video, fps=fps, short_side=72, offset=0.5))
        found = embed_video(encoder, video, fps)
        rows = len(found.features)
        assert len(frames) == rows and (rows == 1 or abs(rows - found.duration_s * fps) <= 0.501)
        np.testing.assert_allclose(found.times_s, (np.arange(rows) + 0.5) / fps)
        shown_s = np.array([read_time_s(frame) for frame in frames])
        begun = np.floor((found.times_s + 1e-3) / 0.04)  # one every 40 ms
        np.testing.assert_allclose(shown_s, np.minimum(0.04 * begun, seconds - 0.04), atol=1e-6)
        np.testing.assert_allclose(found.features, encoder.encode_images(np.stack(frames)), atol=1e-5)
        assert found.duration_s == pytest.approx(seconds, abs=0.041)


def test_many_videos_at_once_are_what_each_is_alone(videos, encoder):
    """Batches of 3 hold frames of several videos; broken ones do no harm to their neighbours."""
    files = sorted(videos.iterdir())
    count = 0

    def on_frame():
        nonlocal count
        count += 1

    found = dict(embed_videos(encoder, files, 4.0, decoders=3, on_frame=on_frame))
    assert set(found) == set(files)
    for file in files:
        if file.stem in SECONDS:
            alone = embed_video(encoder, file, 4.0)
            np.testing.assert_array_equal(found[file].features, alone.features)
    assert count >= sum(len(found[videos / f"{name}.mp4"].features) for name in SECONDS)
    assert found[videos / "text.mkv"].kind == "not a video" and found[videos / "cut.mp4"].kind == "truncated"
    with pytest.raises(VideoError, match="cut short"):
        embed_video(encoder, videos / "cut.mp4", 4.0)


def test_a_fingerprint_is_of_the_numbers_not_of_the_file(encoder, tmp_path):
    save_clip(encoder.clip, tmp_path)
    again = load_clip(tmp_path)
    assert fingerprint(again) == fingerprint(encoder.clip)
    again.params["text_projection"][0, 0] += 1e-3
    assert fingerprint(again) != fingerprint(encoder.clip)


def _counts(told) -> tuple[int, int, int]:
    """(made now, made before, unusable), of the summary."""
    rows = {line[:12].strip(): line[12:].split() for line in told.ok().out.splitlines()}
    return tuple(int(rows[name][0]) for name in ("made now", "made before", "unusable"))


def test_the_command_goes_on_and_refuses(unloc, videos, encoder, tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "features"
    shutil.copytree(videos, folder)
    (folder / "notes.txt").touch()
    words = ("features", f"--clip=hf-clip:{CLIP}", f"--videos={folder}", f"--out={out}", "--batch-size=3")
    shutil.copy(folder / "e.mp4", folder / "a.AVI")
    refused = unloc(*words).error()
    assert (
        "1 videos have several files" in refused
        and "a.AVI and " in refused
        and "a.mp4 have one name" in refused
    )
    (folder / "a.AVI").unlink()
    told = unloc(*words)
    assert _counts(told) == (5, 0, 2) and "not a video" in told.out and "cut short" in told.out
    assert "ignored            1 others in the folder: notes.txt" in told.out
    listed = [json.loads(line) for line in (out / "unusable_videos.jsonl").read_text().splitlines()]
    assert {row["video_id"]: row["kind"] for row in listed} == {"cut": "truncated", "text": "not a video"}
    for name in SECONDS:
        with np.load(out / f"{name}.npz") as stored:
            wanted = embed_video(encoder, folder / f"{name}.mp4", 2.0)
            np.testing.assert_array_equal(stored["features"], wanted.features)
            np.testing.assert_array_equal(stored["times_s"], wanted.times_s)
            assert stored["fps"] == 2.0 and stored["duration_s"] == wanted.duration_s
            assert json.loads(str(stored["settings"]))["clip_fingerprint"] == fingerprint(encoder.clip)

    shutil.copy(folder / "c.mp4", folder / "a.mp4")  # another video by the same name
    (out / "d.npz").write_bytes((out / "d.npz").read_bytes()[:500])  # a damaged disk
    assert _counts(unloc(*words)) == (2, 3, 2)
    np.testing.assert_array_equal(np.load(out / "a.npz")["features"], np.load(out / "c.npz")["features"])
    (folder / "a.mp4").write_text("no video any more")
    assert _counts(unloc(*words)) == (0, 4, 3) and not (out / "a.npz").exists()

    refused = unloc(*words, "--fps=3", "--stored-as=float16").error()
    assert "fps was 2.0, now 3.0" in refused and "stored_as was 'float32', now 'float16'" in refused
    other = unloc(*words, f"--clip=hf-clip:{GOLDENS / 'hf_quick_gelu_bfloat16'}").error()
    assert "clip_fingerprint was" in other and "Choose another --out" in other
    (out / "clip_features.json").unlink()
    assert "no clip_features.json that says what they are" in unloc(*words).error()
    for wrong, message in (
        ("--process-id=2", "1 processes are numbered from 0 to 0"),
        ("--shards=x", "give all three or none"),
        (f"--videos={out}", "no videos in it"),
        (f"--videos={folder}/gone", "no such video folder"),
        ("--fps=0", "fps must be above 0"),
    ):
        assert message in unloc(*words, f"--out={tmp_path / 'other'}", wrong).error()
    assert not (tmp_path / "other").exists()


def test_several_processes_share_a_folder(unloc, videos, encoder, tmp_path):
    words = ("features", f"--clip=hf-clip:{CLIP}", f"--videos={videos}", f"--out={tmp_path}", "--fps=1")
    words += ("--stored-as=float16", "--num-processes=2")
    counts = np.array([_counts(unloc(*words, f"--process-id={i}")) for i in (0, 1)])
    np.testing.assert_array_equal(counts.sum(0), (5, 0, 2))
    assert {file.stem for file in tmp_path.glob("*.npz")} == set(SECONDS)
    wanted = embed_video(encoder, videos / "c.mp4", 1.0).features
    np.testing.assert_array_equal(np.load(tmp_path / "c.npz")["features"], wanted.astype(np.float16))


@pytest.mark.slow
def test_killed_at_any_time_it_goes_on(unloc, videos, encoder, tmp_path):
    """kill -9 after the first file; what is there is whole, and three devices finish what one has begun."""
    folder, out = tmp_path / "videos", tmp_path / "features"
    folder.mkdir()
    for i in range(40):
        os.link(videos / f"{'ace'[i % 3]}.mp4", folder / f"v{i}.mp4")
    words = ("features", f"--clip=hf-clip:{CLIP}", f"--videos={folder}", f"--out={out}", "--fps=25")
    words += ("--batch-size=4", "--decoders=1")
    with subprocess.Popen(
        command_of(*words), env=child_environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as child:
        deadline = time.monotonic() + 300
        while not list(out.glob("*.npz")) and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.002)
        child.kill()
    kept = {file: file.read_bytes() for file in out.glob("*.npz")}
    assert 0 < len(kept) < 40
    done = subprocess.run(
        command_of(*words), env=child_environment(devices=3), capture_output=True, text=True, check=True
    )
    assert f"made before {len(kept):>8} videos" in done.stdout
    assert all(file.read_bytes() == content for file, content in kept.items())
    wanted = [embed_video(encoder, folder / f"v{i}.mp4", 25.0).features for i in range(3)]
    for i in range(40):
        np.testing.assert_allclose(np.load(out / f"v{i}.npz")["features"], wanted[i % 3], atol=1e-5)


@pytest.mark.slow
def test_shards_of_features_train_a_model_and_hold_what_a_file_gives(
    unloc, config_file, tiny_videos, encoder, tmp_path
):
    files = [tiny_videos / "annotations" / f"captions_{split}.json" for split in ("train", "val", "test")]
    shards, videos = tmp_path / "shards", tiny_videos / "videos"
    words = ("features", f"--clip=hf-clip:{CLIP}", f"--videos={videos}", "--fps=4", "--batch-size=3")
    words += (f"--out={tmp_path / 'features'}", f"--shards={shards}", "--dataset=activitynet_captions")
    told = unloc(*words, "--annotations", *files).ok()
    assert "features clip: 20 wide" in told.out
    others = (*words[:-3], f"--out={tmp_path / 'others'}", *words[-2:])
    refused = unloc(*others, "--annotations", *files[:2]).error()
    assert (
        "dataset built from other arguments" in refused and not (tmp_path / "others").exists()
    )  # before any work
    for split in ("train", "test"):
        for record in iterate_records(find_dataset(shards), split, with_frames=True):
            wanted = embed_video(encoder, videos / f"{record.video_id}.mp4", 4.0)
            np.testing.assert_array_equal(record.features["clip"], wanted.features)
            # The rows are where training takes them to be.
            rows = len(wanted.features)
            taken_s = (np.arange(rows) + 0.5) * record.duration_s / rows
            assert np.abs(taken_s - wanted.times_s).max() <= 0.5 / 4
    unloc(
        "train",
        f"--config={config_file}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.dir={shards}",
        "--config.data.mirror=False",
        "--config.model.modalities={'clip': {'encoder': 'features', 'feature_dim': 20}}",
        "--config.contrastive.steps=0",
        "--config.contrastive.warmup_steps=0",
        "--config.train.steps=3",
    ).ok()
