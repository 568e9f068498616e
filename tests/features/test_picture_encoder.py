"""SigLIP 2 and PE-Core by the commands: features and a model that is trained on them, zero-shot, evaluation."""

import json
import shutil

import numpy as np
import pytest

import unloc_jax
from tests.features.test_feature_inputs import annotations_of
from tests.pretrained.picture_text_tools import GOLDENS, PE, SIGLIP, SOURCES, pe_with_all_words
from unloc_jax.errors import UserError
from unloc_jax.features.embed_videos import embed_video
from unloc_jax.features.encoder import unit, video_frames
from unloc_jax.features.families import family_of, open_encoder
from unloc_jax.tasks.zeroshot_scores import relevance, smooth
from unloc_jax.video import decode_frames

TITLES = {"siglip2": "SigLIP 2", "pe": "PE-Core"}


@pytest.fixture(scope="module", params=TITLES)
def source(request, tmp_path_factory) -> str:
    """Models that read any words."""
    if request.param == "siglip2":
        return f"siglip2:{SIGLIP}"
    return f"pe:{pe_with_all_words(tmp_path_factory.mktemp('pe') / 'pe')}"


@pytest.fixture
def video(tiny_videos):
    return max((tiny_videos / "videos").glob("test_*.mp4"), key=lambda file: file.stat().st_size)


def test_a_row_is_of_its_picture(source, video):
    encoder = open_encoder(source, batch_size=3)
    found = embed_video(encoder, video, 4.0)
    decoded = decode_frames(video, fps=4.0, short_side=min(next(iter(video_frames(video, 4.0))).shape[:2]))
    assert len(found.features) > 4 and np.isfinite(found.features).all()
    middle = [encoder.encode_images(frame) for frame in video_frames(video, 4.0, offset=0.5)]
    np.testing.assert_allclose(found.features, middle, atol=1e-5)
    assert len(decoded.frames) >= len(found.features) - 1


def test_curves_are_cosines(source, video):
    texts = ["a red circle", "a blue square moves"]
    found = unloc_jax.load(source)(video, texts)
    encoder = open_encoder(source)
    rows = unit(encoder.encode_stream(video_frames(video, 2.0)))
    for text, of_text in zip(found, unit(encoder.encode_texts(texts))):
        np.testing.assert_allclose(text.relevance, relevance(smooth(rows @ of_text, 2.0)), atol=1e-3)
    title = TITLES[source.partition(":")[0]]
    assert family_of(source).title == title
    assert (
        found.model["model"].startswith(title)
        and f"({title}, not trained to localise)" in found.model["model"]
    )


def test_zero_shot_commands(source, video, unloc, captions_dataset, tmp_path):
    out = tmp_path / "r.json"
    words = ("--text=a red circle", f"--text={'red circle ' * 60}", f"--out={out}")
    told = unloc("zeroshot", f"--clip={source}", f"--video={video}", *words).ok()
    assert "word pieces of a text" in told.err
    result = json.loads(out.read_text())
    assert len(result["texts"][0]["relevance"]) == np.ceil(result["duration_s"] * 2)
    measured = unloc(
        "evaluate", f"--zeroshot-clip={source}", f"--dataset={captions_dataset}", f"--out={tmp_path / 'e'}"
    ).ok()  # fmt: skip
    assert "R1@0.5" in measured.out


def test_what_is_missing_is_told_before_a_video_is_read(unloc, video, tmp_path):
    npz = shutil.copy(GOLDENS / "big_vision.weights.npz", tmp_path)
    words = ("zeroshot", f"--clip=siglip2:{npz}", f"--video={video}", "--text=a")
    assert "give --tokenizer=FILE, or put tokenizer.json beside the weights" in unloc(*words).error()
    assert "has 319 word pieces, the model's table 40" in unloc(*words, f"--tokenizer={SIGLIP}").error()
    assert "PE-Core brings its own vocabulary" in unloc(
        "zeroshot", f"--clip={SOURCES['pe']}", "--tokenizer=x", f"--video={video}", "--text=a"
    ).error()  # fmt: skip
    assert (
        "a vocabulary of 99 instead of CLIP's"
        in unloc("zeroshot", f"--clip=pe:{PE}", f"--video={video}", "--text=a").error()
    )
    # Without its kind a source is a CLIP.
    for folder, told in ((SIGLIP, "SigLIP 2 is read as siglip2:SRC"), (PE, "PE-Core is read as pe:SRC")):
        with pytest.raises(UserError, match=told):
            open_encoder(str(folder))
    with pytest.raises(UserError, match="is a SigLIP 2, which has no tasks"):
        unloc_jax.load(f"siglip2:{SIGLIP}", task="x")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["siglip2", "pe"])
def test_features_build_train_predict(kind, unloc, config_file, tiny_videos, tmp_path):
    """The whole way of a newcomer, by commands alone."""
    weights = shutil.copytree({"siglip2": SIGLIP, "pe": PE}[kind], tmp_path / "weights")
    features, shards, run = (tmp_path / name for name in ("features", "shards", "run"))
    words = (
        "features",
        f"--encoder={kind}:{weights}",
        f"--videos={tiny_videos / 'videos'}",
        f"--out={features}",
    )
    first = unloc(*words, "--fps=4").ok().out
    assert f"features of {TITLES[kind]} of 2 layers × " in first
    assert "made now           0 videos" in unloc(*words, "--fps=4").ok().out
    width = np.load(next(features.glob("*.npz")))["features"].shape[1]
    unloc(
        "data", "build", "--dataset=activitynet_captions", "--annotations", *annotations_of(tiny_videos),
        "--no-frames", f"--features={kind}={features}", f"--out={shards}",
    ).ok()  # fmt: skip
    unloc(
        "train", f"--config={config_file}", f"--workdir={run}", f"--config.data.dir={shards}",
        "--config.data.mirror=False",
        f"--config.model.modalities={{'{kind}': {{'encoder': 'features', 'feature_dim': {width}}}}}",
        "--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0", "--config.train.steps=3",
    ).ok()  # fmt: skip
    video = next((tiny_videos / "videos").glob("test_*.mp4"))
    words = ("predict", f"--checkpoint={run}", f"--video={video}", "--text=a square")
    shown = unloc(*words).ok().out
    assert "a square" in shown
    localizer = unloc_jax.load(run)
    given = localizer.embed_features({kind: features / f"{video.stem}.npz"})
    np.testing.assert_allclose(
        localizer(given, "a square")[0].relevance, localizer(video, "a square")[0].relevance, atol=1e-4
    )
    weights.rename(tmp_path / "moved")
    assert "which is not there any more. Give its place: --clip SRC" in unloc(*words).error()
    assert unloc(*words, f"--clip={kind}:{tmp_path / 'moved'}").ok().out in shown
