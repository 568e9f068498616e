"""VideoPrism's features: of windows that overlap, the same by every way, and a model that is trained on them."""

import dataclasses
import json
import shutil
import subprocess
import weakref

import numpy as np
import pytest

import unloc_jax
from tests.features.test_feature_inputs import annotations_of
from tests.features.test_stream_inputs import Sums
from tests.pretrained.videoprism_tools import GOLDENS, SIZES, tensors, write
from tests.timed_video import regular_times_ms, write_video
from tests.tiny_runs import child_environment, command_of
from unloc_jax.errors import UserError
from unloc_jax.features.embed_videos import embed_frames, embed_video, embed_videos
from unloc_jax.features.families import FAMILIES, absolute, family_of, open_encoder
from unloc_jax.features.videoprism_encoder import VideoPrismEncoder
from unloc_jax.model.videoprism import VideoPrism
from unloc_jax.pretrained.clip_source import read_any_clip
from unloc_jax.pretrained.videoprism import read_videoprism
from unloc_jax.video import FrameStream, decode_frames

VIDEO_TEXT = GOLDENS / "video_text_2.weights.npz"  # windows of 4 frames of 18 pixels


@pytest.fixture(scope="module", params=["video", "video and text"])
def encoder(request, tmp_path_factory) -> VideoPrismEncoder:
    """With windows of 5 and 4 frames, two windows at a time."""
    file = VIDEO_TEXT
    if request.param == "video":
        file = write(tmp_path_factory.mktemp("weights") / "w.npz", tensors(SIZES))
    weights = read_videoprism(str(file))
    return VideoPrismEncoder(weights, batch_size=2 * weights.config.num_frames)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed")
    for name, seconds in {"a": 3.2, "b": 0.3, "c": 1.0, "d": 6.0}.items():
        write_video(folder / f"{name}.mp4", regular_times_ms(seconds), size=(96, 72))
    (folder / "text.mkv").write_text("no video")
    return folder


def test_a_row_is_of_the_window_in_which_it_is_farthest_from_the_border(encoder, videos):
    fps, length = 4.0, encoder.frames_per_input
    found = embed_video(encoder, videos / "a.mp4", fps)
    frames = encoder.preprocess(
        np.stack(list(FrameStream(videos / "a.mp4", fps=fps, short_side=72, offset=0.5)))
    )
    count, hop = len(frames), length - length // 2
    assert count == 13
    starts = sorted({*range(0, count - length + 1, hop), count - length})
    weights = encoder.weights
    of_windows = VideoPrism(weights.config).apply(
        {"params": weights.params}, np.stack([frames[s : s + length] for s in starts]), method="encode_videos"
    )
    for i in range(count):
        # Beyond the first and the last frame of the video there is nothing to be far from.
        distance = [
            min(i - s if s else count, s + length - 1 - i if s + length < count else count)
            if s <= i < s + length else -1
            for s in starts
        ]  # fmt: skip
        k = int(np.argmax(distance))
        np.testing.assert_allclose(found.features[i], of_windows.frames[k, i - starts[k]], atol=1e-5)
    np.testing.assert_allclose(found.times_s, (np.arange(count) + 0.5) / fps)
    if not weights.config.text:
        np.testing.assert_allclose(of_windows.frames, of_windows.tokens.mean(2), atol=1e-6)


def test_every_way_gives_the_same(encoder, videos):
    files, seen = sorted(videos.iterdir()), []
    together = dict(embed_videos(encoder, files, 5.0, decoders=3, on_frame=lambda: seen.append(1)))
    assert together.pop(videos / "text.mkv").kind == "not a video"
    for file, made in together.items():
        alone = embed_video(encoder, file, 5.0)
        np.testing.assert_allclose(made.features, alone.features, atol=1e-6)
        decoded = decode_frames(file, fps=25, short_side=72)
        from_array = embed_frames(encoder, decoded.frames, 25.0, 5.0)
        np.testing.assert_allclose(from_array.features, alone.features, atol=1e-6)
    assert len(together) == 4 and len(seen) == sum(len(made.features) for made in together.values())
    assert all(np.isfinite(made.features).all() for made in together.values())


def test_a_long_stream_is_never_in_memory():
    class Frame(np.ndarray):
        """An array that can be referred to weakly."""

    alive: set[int] = set()

    def stream():
        for i in range(2000):
            frame = np.array([i]).view(Frame)
            alive.add(i)
            weakref.finalize(frame, alive.discard, i)
            yield frame
            assert len(alive) < 20

    assert len(Sums().encode_stream(stream())) == 2000


def test_families(tmp_path, monkeypatch):
    assert len({kind for family in FAMILIES for kind in family.kinds}) == sum(len(f.kinds) for f in FAMILIES)
    assert family_of("videoprism:x").title == "VideoPrism" and family_of("a/b").title == "CLIP"
    assert family_of("hf-clip:x").modality == family_of("C:x").modality == "clip"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.npz").touch()
    assert absolute("videoprism:w.npz") == f"videoprism:{tmp_path / 'w.npz'}"
    assert absolute("videoprism:google/x") == "videoprism:google/x" and absolute("w.npz") == str(
        tmp_path / "w.npz"
    )
    with pytest.raises(UserError, match="is a CLIP, which brings its own vocabulary"):
        open_encoder("hf-clip:x", vocabulary="y")
    with pytest.raises(
        UserError,
        match=r"video-prism is no kind of encoder: .* hf-clip, .*, videoprism, siglip2, pe, clap\.$",
    ):
        open_encoder("video-prism:x")
    with pytest.raises(UserError, match="is not a CLIP"):
        read_any_clip(str(tmp_path / "w.npz"))


def test_a_fingerprint_is_of_numbers_and_sizes(encoder):
    weights = encoder.weights
    again = VideoPrismEncoder(weights).fingerprint()
    assert again == encoder.fingerprint()
    other = dataclasses.replace(weights, config=dataclasses.replace(weights.config, logit_cap=1.0))
    assert VideoPrismEncoder(other).fingerprint() != again


@pytest.mark.slow
def test_features_build_train_predict(unloc, config_file, tiny_videos, tmp_path):
    """The whole way of a newcomer, by commands alone."""
    weights = tmp_path / "weights"
    weights.mkdir()
    shutil.copy(VIDEO_TEXT, weights / "flax_lvt_tiny_f4r18_repeated.npz")
    features, shards, run = (tmp_path / name for name in ("features", "shards", "run"))
    words = (
        "features",
        f"--encoder=videoprism:{weights}",
        f"--videos={tiny_videos / 'videos'}",
        f"--out={features}",
    )
    words += ("--fps=4",)
    first = unloc(*words).ok().out
    assert "features of VideoPrism LvT of 2+2 layers × 32, 32 wide, 4 per second" in first
    again = unloc(*words).ok().out
    assert "made now           0 videos" in again
    one = next(features.glob("*.npz"))
    kept = np.load(one)["features"]
    one.write_bytes(one.read_bytes()[:300])
    assert "made now           1 videos" in unloc(*words).ok().out
    np.testing.assert_array_equal(np.load(one)["features"], kept)
    on_three = [*(word for word in words if not word.startswith("--out")), f"--out={tmp_path / 'on_three'}"]
    subprocess.run(command_of(*on_three), env=child_environment(devices=3), capture_output=True, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "on_three" / one.name)["features"], kept, atol=1e-5)
    settings = json.loads((features / "clip_features.json").read_text())
    assert (settings["window"], settings["overlap"]) == (4, 2)
    assert settings["clip_source"] == f"videoprism:{weights}"

    unloc(
        "data", "build", "--dataset=activitynet_captions", "--annotations", *annotations_of(tiny_videos),
        "--no-frames", f"--features=videoprism={features}", f"--out={shards}",
    ).ok()  # fmt: skip
    unloc(
        "train", f"--config={config_file}", f"--workdir={run}", f"--config.data.dir={shards}",
        "--config.data.mirror=False",
        "--config.model.modalities={'videoprism': {'encoder': 'features', 'feature_dim': 32}}",
        "--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0", "--config.train.steps=3",
    ).ok()  # fmt: skip
    video = next((tiny_videos / "videos").glob("test_*.mp4"))
    words = ("predict", f"--checkpoint={run}", f"--video={video}", "--text=a square")
    out = tmp_path / "r.json"
    shown = unloc(*words, f"--out={out}").ok().out
    assert "a square" in shown
    sees = json.loads(out.read_text())["model"]["sees"]
    assert sees.endswith("rows of VideoPrism LvT of 2+2 layers × 32 features, 4 per second")
    # The features of training, given as a file, find the same.
    localizer = unloc_jax.load(run)
    given = localizer.embed_features({"videoprism": features / f"{video.stem}.npz"})
    np.testing.assert_allclose(
        localizer(given, "a square")[0].relevance, localizer(video, "a square")[0].relevance, atol=1e-4
    )
    weights.rename(tmp_path / "moved")
    told = unloc(*words).error()
    assert "this model reads features of the VideoPrism LvT of 2+2 layers × 32 (videoprism:" in told
    assert "which is not there any more. Give its place: --clip SRC" in told
    assert unloc(*words, f"--clip=videoprism:{tmp_path / 'moved'}").ok().out in shown
    other = write(tmp_path / "other.npz", tensors(read_videoprism(str(VIDEO_TEXT)).config, seed=1))
    assert "has other weights or settings" in unloc(*words, f"--clip=videoprism:{other}").error()
