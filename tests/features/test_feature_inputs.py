"""A model that was trained on features of `unloc features` reads video files: the features are those of training."""

import json
import shutil

import numpy as np
import pytest

import unloc_jax
from tests.pretrained.clip_originals import GOLDENS
from tests.shard_predictions import shard_predictions
from unloc_jax.errors import UserError
from unloc_jax.features.clip_encoder import ClipEncoder
from unloc_jax.features.embed_videos import embed_frames, embed_video
from unloc_jax.inference.localizer import Localizer
from unloc_jax.pretrained.clip_source import read_clip
from unloc_jax.video import decode_frames

CLIP = GOLDENS / "hf_gelu_sharded"  # 32 pixels, D = 20
OTHER = GOLDENS / "hf_quick_gelu_bfloat16"  # as wide
FEATURE_FPS = 4.0
WINDOWS = ("data.sampling='window'", "data.window_stride=2", "data.window_overlap=0.5")


def train(unloc, config_file, workdir, shards, *settings):
    unloc(
        "train", f"--config={config_file}", f"--workdir={workdir}", f"--config.data.dir={shards}",
        "--config.data.mirror=False", "--config.model.modalities={'clip': {'encoder': 'features', 'feature_dim': 20}}",
        "--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0", "--config.train.steps=3",
        *(f"--config.{setting}" for setting in settings),
    ).ok()  # fmt: skip


def annotations_of(tiny_videos):
    return [tiny_videos / "annotations" / f"captions_{split}.json" for split in ("train", "val", "test")]


@pytest.fixture(scope="module")
def places(tiny_videos, config_file, tmp_path_factory):
    """A folder for all tests here, with a copy of the CLIP."""
    folder = tmp_path_factory.mktemp("on_features")
    shutil.copytree(CLIP, folder / "clip")
    return folder


@pytest.fixture
def shards(unloc, tiny_videos, places):
    """With features in float16, half as exact as what is computed."""
    words = ("features", f"--clip=hf-clip:{places / 'clip'}", f"--videos={tiny_videos / 'videos'}")
    words += (f"--fps={FEATURE_FPS}", "--stored-as=float16", f"--out={places / 'features'}")
    words += (f"--shards={places / 'shards'}", "--dataset=activitynet_captions")
    unloc(*words, "--annotations", *annotations_of(tiny_videos)).ok()
    return places / "shards"


@pytest.mark.slow
@pytest.mark.parametrize("windows", [(), WINDOWS])
def test_a_file_gives_what_the_shards_give(
    windows, unloc, config_file, tiny_videos, shards, monkeypatch, tmp_path
):
    train(unloc, config_file, tmp_path / "run", shards, "task='highlight_detection'", *windows)
    model, records, counts, texts, found = shard_predictions(tmp_path / "run", monkeypatch)
    assert (max(counts) > 1) == bool(windows)
    localizer = Localizer(model)
    for row, record in enumerate(records):
        prediction = localizer(tiny_videos / "videos" / f"{record.video_id}.mp4", texts)
        assert prediction.duration_s == pytest.approx(record.duration_s, abs=1e-6)
        curve = np.stack([text.relevance for text in prediction.texts])
        np.testing.assert_allclose(curve, found.curves[row], atol=1e-4)
        ours = np.array([s.score for s in prediction.texts[0].segments[:3]])
        np.testing.assert_allclose(ours, found.scores[row][0][: len(ours)], atol=1e-4)
    assert prediction.model["sees"].endswith("features, 4 per second")


@pytest.mark.slow
def test_the_command_finds_the_clip_and_refuses_another(
    unloc, config_file, tiny_videos, shards, places, tmp_path
):
    train(unloc, config_file, tmp_path / "run", shards)
    video = next((tiny_videos / "videos").glob("*.mp4"))
    words = ("predict", f"--checkpoint={tmp_path / 'run'}", f"--video={video}", "--text=a square")
    shown = unloc(*words).ok().out
    assert "a square" in shown
    (places / "clip").rename(places / "moved")
    try:
        gone = unloc(*words).error()
        assert "which is not there any more. Give its place: --clip SRC" in gone
        assert unloc(*words, f"--clip=hf-clip:{places / 'moved'}").ok().out == shown
        other = unloc(*words, f"--clip=hf-clip:{OTHER}").error()
        assert "has other weights or settings" in other
        given = unloc_jax.load(tmp_path / "run", clip=str(places / "moved"))
        assert given(video, "a square")[0].text == "a square"
        assert given(decode_frames(video, fps=5, short_side=64).frames, "a square", fps=5)[0].segments
    finally:
        (places / "moved").rename(places / "clip")
    with pytest.raises(UserError, match="is a CLIP itself"):
        unloc_jax.load(CLIP, clip="x")

    # Features of another CLIP are as wide, and mean something else.
    others = (
        "features",
        f"--clip=hf-clip:{OTHER}",
        f"--videos={tiny_videos / 'videos'}",
        f"--fps={FEATURE_FPS}",
    )
    others += ("--stored-as=float16", f"--out={tmp_path / 'f'}", f"--shards={tmp_path / 'others'}")
    unloc(*others, "--dataset=activitynet_captions", "--annotations", *annotations_of(tiny_videos)).ok()
    told = unloc("evaluate", f"--checkpoint={tmp_path / 'run'}", f"--data-dir={tmp_path / 'others'}").error()
    assert "other features 'clip' than this dataset's (clip_fingerprint was" in told.replace("clip was", "")


@pytest.mark.slow
def test_features_of_elsewhere_and_frames_are_told_apart(unloc, trained, tiny_videos):
    video = next((tiny_videos / "videos").glob("*.mp4"))
    told = unloc(
        "predict", f"--checkpoint={trained}", f"--video={video}", "--text=a square", f"--clip=hf-clip:{CLIP}"
    )
    assert "this model reads frames itself" in told.error()


def test_frames_of_an_array_are_those_of_its_file(tiny_videos):
    """Decoded at the video's own rate, so that both choose among the same frames."""
    encoder = ClipEncoder(read_clip("hf-clip", str(CLIP)), batch_size=3)
    video = next((tiny_videos / "videos").glob("*.mp4"))
    decoded = decode_frames(video, fps=5, short_side=64)
    for fps in (0.01, 2.0, 5.0, 7.5):
        from_file, from_array = (
            embed_video(encoder, video, fps),
            embed_frames(encoder, decoded.frames, 5.0, fps),
        )
        np.testing.assert_array_equal(from_array.times_s, from_file.times_s)
        np.testing.assert_array_equal(from_array.features, from_file.features)
        assert from_array.duration_s == pytest.approx(from_file.duration_s)


def test_a_build_keeps_how_features_were_made(shards, places):
    stored = json.loads((shards / "build.json").read_text())["feature_settings"]["clip"]
    assert stored == json.loads((places / "features" / "clip_features.json").read_text())
    assert stored["fps"] == FEATURE_FPS and stored["stored_as"] == "float16"
