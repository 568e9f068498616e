"""VideoPrism alone: cosines of its frames and texts; what is missing is told before a video is read."""

import json
import shutil
import sys

import numpy as np
import pytest

import unloc_jax
from tests.pretrained.videoprism_tools import GOLDENS, vocabulary
from unloc_jax.errors import UserError
from unloc_jax.features.encoder import unit, video_frames
from unloc_jax.features.families import open_encoder
from unloc_jax.model.videoprism import VideoPrism
from unloc_jax.pretrained.videoprism import read_videoprism
from unloc_jax.tasks.zeroshot_scores import relevance, smooth

VIDEO_TEXT = GOLDENS / "video_text_2.weights.npz"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A video–text model, with its vocabulary beside it."""
    pytest.importorskip("sentencepiece", reason="sentencepiece is not here")
    folder = tmp_path_factory.mktemp("videoprism")
    shutil.copy(VIDEO_TEXT, folder / "w.npz")
    vocabulary(folder)
    return folder


def test_curves_are_of_frame_and_text_embeddings(weights, tiny_videos):
    video = max((tiny_videos / "videos").glob("*.mp4"), key=lambda file: file.stat().st_size)
    texts = ["a red circle moves", "a blue square"]
    found = unloc_jax.load(f"videoprism:{weights}")(video, texts)
    encoder = open_encoder(f"videoprism:{weights}")
    frames = np.stack(list(map(encoder.preprocess, video_frames(video, 2.0))))
    assert len(frames) > 4
    rows = unit(encoder.encode_stream(video_frames(video, 2.0)))
    # Texts, by hand.
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(weights / "sentencepiece.model"))
    read = read_videoprism(str(weights))
    of_texts = []
    for text in texts:
        ids = [pieces.bos_id(), *pieces.encode(f"{text}.")]
        padded, mask = np.zeros((1, 64), np.int32), np.zeros((1, 64), bool)
        padded[0, : len(ids)], mask[0, : len(ids)] = ids, True
        made = VideoPrism(read.config).apply({"params": read.params}, padded, mask, method="encode_texts")
        of_texts.append(unit(np.asarray(made))[0])
    np.testing.assert_allclose(unit(encoder.encode_texts(texts)), of_texts, atol=1e-5)
    for text, of_text in zip(found, of_texts):
        np.testing.assert_allclose(text.relevance, relevance(smooth(rows @ of_text, 2.0)), atol=1e-3)
    assert (
        found.model["model"]
        == "VideoPrism LvT of 2+2 layers × 32 (windows of 4 frames, not trained to localise)"
    )


def test_the_commands(unloc, weights, tiny_videos, captions_dataset, tmp_path):
    video = next((tiny_videos / "videos").glob("test_*.mp4"))
    shutil.copy(VIDEO_TEXT, tmp_path / "w.npz")
    source = f"--clip=videoprism:{tmp_path / 'w.npz'}"
    words = ("zeroshot", source, f"--sentencepiece={weights / 'sentencepiece.model'}", f"--video={video}")
    out = tmp_path / "r.json"
    told = unloc(*words, "--text=a red circle", f"--text={'red circle ' * 60}", f"--out={out}").ok()
    assert "a red circle" in told.out and "the model reads 63 word pieces of a text" in told.err
    result = json.loads(out.read_text())
    assert len(result["texts"][0]["relevance"]) == np.ceil(result["duration_s"] * 2)

    measured = unloc(
        "evaluate", f"--zeroshot-clip=videoprism:{weights}", f"--dataset={captions_dataset}", f"--out={tmp_path / 'e'}"
    ).ok()  # fmt: skip
    assert "R1@0.5" in measured.out
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["clip"] == str(weights)


def test_what_is_missing_is_told_before_a_video_is_read(monkeypatch, tmp_path, unloc, tiny_videos):
    def told(source, **keywords) -> str:
        with pytest.raises(UserError) as error:
            unloc_jax.load(f"videoprism:{source}", **keywords)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "the video encoder alone, which reads no texts" in told(GOLDENS / "encoder_2.weights.npz")
    assert "give --sentencepiece=FILE, or put sentencepiece.model beside the weights" in told(VIDEO_TEXT)
    assert "there is no such file" in told(VIDEO_TEXT, tokenizer=str(tmp_path / "gone"))
    assert "is a VideoPrism, which has no tasks" in told(VIDEO_TEXT, task="x")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (tmp_path / "x.model").touch()
    assert "pip install 'unloc_jax[sentencepiece]'" in told(VIDEO_TEXT, tokenizer=str(tmp_path / "x.model"))
    with pytest.raises(UserError, match="is for a SigLIP 2, a CLAP or a VideoPrism"):
        unloc_jax.load(tmp_path, tokenizer="x")
    video = next((tiny_videos / "videos").glob("*.mp4"))
    error = unloc("zeroshot", f"--clip=videoprism:{VIDEO_TEXT}", f"--video={video}", "--text=a").error()
    assert "SentencePiece vocabulary" in error
