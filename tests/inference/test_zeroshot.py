"""CLIP alone: curves and stretches of known answers, embeddings of a stream, and the command."""

import json

import numpy as np
import pytest

from tests.pretrained.clip_originals import GOLDENS
from tests.pretrained.clip_tools import clip_with_all_words
from unloc_jax.features.clip_encoder import ClipEncoder
from unloc_jax.pretrained.clip_model import save_clip
from unloc_jax.pretrained.clip_source import read_clip
from unloc_jax.tasks.zeroshot_scores import candidates, relevance, smooth


def test_a_stretch_that_stands_out_is_found():
    curve = np.zeros(40)
    curve[10:20], curve[30:34] = 1.0, 0.6
    assert candidates(curve) == [(10, 20, 1.0), (30, 34, pytest.approx(0.6))]
    ramp = relevance(np.concatenate([np.full(20, 0.2), np.full(10, 0.3), np.full(10, 0.21)]))
    assert candidates(ramp)[0][:2] == (20, 30) and ramp[25] == 1 and ramp[0] == 0
    assert candidates(relevance(np.full(9, 0.25))) == []


def test_smoothing_keeps_constants_and_the_place_of_a_peak():
    np.testing.assert_allclose(smooth(np.full(7, 0.3), 2.0), 0.3)
    peak = np.zeros(21)
    peak[10] = 1
    smoothed = smooth(peak, 2.0)
    assert smoothed.argmax() == 10 and smoothed[8] == pytest.approx(smoothed[10] * np.exp(-0.5))
    np.testing.assert_array_equal(smooth(peak, 0.0), peak)
    assert smooth(np.array([0.4]), 3.0) == pytest.approx([0.4])


def test_a_stream_is_embedded_as_its_frames_are():
    encoder = ClipEncoder(read_clip("hf-clip", str(GOLDENS / "hf_gelu_sharded")), batch_size=2)
    frames = list(np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8))
    frames.insert(1, frames[0])  # the same array again
    embedded = encoder.encode_stream(iter(frames))
    np.testing.assert_allclose(embedded, encoder.encode_images(np.stack(frames)), atol=1e-6)
    assert encoder.encode_stream([]).shape == (0, 20)


@pytest.fixture(scope="module")
def with_all_words(tmp_path_factory):
    """A tiny CLIP that knows CLIP's words, of random numbers."""
    folder = tmp_path_factory.mktemp("clip") / "clip"
    save_clip(clip_with_all_words(), folder)
    return folder


def test_the_command(unloc, with_all_words, tiny_videos, tmp_path):
    video = next((tiny_videos / "videos").glob("test_*.mp4"))
    words = ("zeroshot", f"--clip={with_all_words}", f"--video={video}")
    outs = [f"--out={tmp_path / name}" for name in ("r.json", "r.html")]
    told = unloc(*words, "--text=a red circle", "--text=something else", *outs)
    assert "a red circle" in told.ok().out
    result = json.loads((tmp_path / "r.json").read_text())
    for text in result["texts"]:
        assert len(text["relevance"]) == np.ceil(result["duration_s"] * 2)
        assert max(text["relevance"]) == 1 and min(text["relevance"]) == 0
        assert all(0 <= s["start_s"] < s["end_s"] <= result["duration_s"] for s in text["segments"])
    assert "not trained to localise" in result["model"]["model"]

    assert "nothing to look for" in unloc(*words).error()
    assert "--smoothing must be at least 0" in unloc(*words, "--text=a", "--smoothing=-1").error()
    assert "fps must be above 0" in unloc(*words, "--text=a", "--fps=0").error()
    assert (
        "is not a CLIP: give a folder"
        in unloc("zeroshot", "--clip=nowhere", f"--video={video}", "--text=a").error()
    )
