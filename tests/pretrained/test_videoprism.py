"""VideoPrism: equal to the original's numbers; sizes from the weights; what is no VideoPrism is refused with lists."""

import dataclasses
import json
import shutil
import sys

import jax
import numpy as np
import pytest
from huggingface_hub import constants

from tests.check_goldens import main
from tests.pretrained.videoprism_tools import GOLDENS, SIZES, TEXT_SIZES, tensors, vocabulary, write
from unloc_jax.errors import UserError
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.model.videoprism import VideoPrism
from unloc_jax.piece_text import WordPieces, canonical
from unloc_jax.pretrained.videoprism import Unseen, read_videoprism

ENCODER = GOLDENS / "encoder_2.weights.npz"
VIDEO_TEXT = GOLDENS / "video_text_2.weights.npz"
SHARED = GOLDENS.parents[3] / "shared" / "goldens" / "videoprism"


def test_numbers_are_the_originals(capsys):
    assert main([str(GOLDENS)]) == 0
    told = capsys.readouterr().out
    assert told.count("PASS") == 2 and "2 of 2 goldens pass" in told


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/goldens/videoprism beside the repository")
def test_and_those_of_the_shared_folder(capsys):
    assert main([str(SHARED)]) == 0


@pytest.mark.parametrize(
    "changed",
    [
        "temporal_ln/bias",
        "spatial_encoder/transformers_stack/x_layers/self_attention/key/w",
        "temporal_pos_emb/emb_var",
    ],
)
def test_another_weight_fails(tmp_path, capsys, changed):
    for file in GOLDENS.glob("encoder_2*"):
        shutil.copy(file, tmp_path)
    arrays = dict(np.load(ENCODER))
    one = arrays[f"params/{changed}"]  # LayerNorms would take away a constant
    arrays[f"params/{changed}"] = one + np.linspace(0, 1e-2, one.size, dtype=np.float32).reshape(one.shape)
    np.savez(tmp_path / ENCODER.name, **arrays)
    assert main([str(tmp_path)]) == 1 and "FAIL" in capsys.readouterr().out


def test_without_the_cap_and_the_causal_mask_the_numbers_differ(tmp_path, capsys):
    """So the goldens look at both."""
    for name, changes in {
        "encoder_2": {"atten_logit_cap": 0.5},
        "video_text_2": {"enable_causal_atten": False},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        for file in GOLDENS.glob(f"{name}*"):
            shutil.copy(file, folder)
        meta = json.loads((folder / f"{name}.json").read_text()) | changes
        (folder / f"{name}.json").write_text(json.dumps(meta))
        assert main([str(folder)]) == 1 and "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("config", [SIZES, TEXT_SIZES, dataclasses.replace(TEXT_SIZES, auxiliary_layers=0)])
def test_sizes_are_those_of_the_weights(config, tmp_path):
    write(tmp_path / "w.npz", tensors(config))
    found = read_videoprism(str(tmp_path / "w.npz"), Unseen(config.logit_cap))
    assert found.config == config
    model = VideoPrism(config)
    inputs = [np.zeros((1, 2, 12, 12, 3), np.uint8)]
    if config.text:
        inputs += [np.zeros((1, 3), np.int32), np.ones((1, 3), bool)]
    wanted = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    ours = jax.tree.map(np.shape, found.params, is_leaf=lambda x: isinstance(x, np.ndarray))
    assert ours == jax.tree.map(lambda x: x.shape, wanted)


def test_in_bfloat16_the_numbers_are_close():
    weights = read_videoprism(str(VIDEO_TEXT))
    frames = np.load(GOLDENS / "video_text_2.npz")["frames"]
    run = lambda compute: VideoPrism(weights.config, compute).apply(
        {"params": weights.params}, frames, method="encode_videos"
    )
    exact, rounded = run(ComputeOptions()), run(ComputeOptions(dtype=jax.numpy.bfloat16))
    assert rounded.frames.dtype == jax.numpy.bfloat16
    np.testing.assert_allclose(np.float32(rounded.frames), exact.frames, atol=0.1)


def test_tensors_that_do_not_fit_are_listed(tmp_path):
    file = tmp_path / "w.npz"

    def told(**changes) -> str:
        arrays = dict(np.load(VIDEO_TEXT))
        for name, array in changes.items():
            name = f"params/{name}"
            if array is None:
                del arrays[name]
            else:
                arrays[name] = array
        np.savez(file, **arrays)
        with pytest.raises(UserError) as error:
            read_videoprism(str(file))
        assert str(file) in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    pooler, text = "contrastive_vision_pooler/pooling_attention/query", "text_encoder/unimodal_ln"
    message = told(
        **{f"{text}/bias": None, "more": np.zeros(2, np.float32), f"{text}/scale": np.zeros(7, np.float32)}
    )
    assert (
        "missing: text_encoder/unimodal_ln/bias; unexpected: more; of another shape: text_encoder/unimodal_ln"
        in message
    )
    assert "scale (7,) instead of (32,)" in message
    assert f"missing: {pooler}/w" in told(**{f"{pooler}/w": None})
    kernel = "vision_encoder/patch_projection/linear/kernel"
    assert "instead of 2 axes" in told(**{kernel: np.zeros(3, np.float32)})
    assert "100 numbers per patch" in told(**{kernel: np.zeros((100, 32), np.float32)})
    assert "8 positions of patches" in told(
        **{"vision_encoder/spatial_pos_emb/emb_var": np.zeros((8, 32), np.float32)}
    )
    assert f"not finite: {text}/bias" in told(**{f"{text}/bias": np.full(32, np.nan, np.float32)})
    assert f"not numbers: params/{text}/bias" in told(**{f"{text}/bias": np.array(["a"])})
    layers = "auxiliary_encoder/transformers_stack/x_layers/self_attention/post/b"
    assert f"{layers} (3, 32) instead of (1, 32)" in told(**{layers: np.zeros((3, 32), np.float32)})


def test_what_is_no_such_file_is_refused_in_one_line(tmp_path):
    def told(source) -> str:
        with pytest.raises(UserError) as error:
            read_videoprism(str(source))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "there is no such file or folder" in told(tmp_path / "gone.npz")
    assert "has none" in told(tmp_path)
    for name, content in (("a.npz", b"no archive"), ("b.npz", b""), ("c.npz", ENCODER.read_bytes()[:5000])):
        (tmp_path / name).write_bytes(content)
        assert "damaged" in told(tmp_path / name)
    assert "has several: a.npz, b.npz, c.npz. Name one" in told(tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert "damaged or no .npz" in told(tmp_path / "one.npy")
    np.savez(tmp_path / "d.npz", x=np.zeros(3))
    assert "missing: patch_projection/linear/kernel" in told(tmp_path / "d.npz")
    shutil.copy(ENCODER, tmp_path / "flax_tiny_repeated.npz")
    assert read_videoprism(str(tmp_path)).config.width == 32


def test_the_hubs_files_are_found_by_their_names(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source = "google/videoprism-lvt-tiny-f4r18"
    with pytest.raises(
        UserError, match=r"its cache lacks flax_lvt_tiny_f4r18_repeated\.npz of google/videoprism-lvt-t"
    ):
        read_videoprism(source)
    cached = tmp_path / "models--google--videoprism-lvt-tiny-f4r18"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    snapshot = cached / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    shutil.copy(VIDEO_TEXT, snapshot / "flax_lvt_tiny_f4r18_repeated.npz")
    assert read_videoprism(source).vocabulary is None
    (snapshot / "sentencepiece.model").write_bytes(b"x")
    assert read_videoprism(f"{source}@main").vocabulary.read_bytes() == b"x"
    assert read_videoprism(str(ENCODER), vocabulary=source).vocabulary.read_bytes() == b"x"
    with pytest.raises(UserError, match=r"--sentencepiece=.*gone: there is no such file"):
        read_videoprism(str(ENCODER), vocabulary=str(tmp_path / "gone"))


# --- texts --------------------------------------------------------------------------------------------------------


def test_texts_are_read_in_one_form():
    assert canonical("  Hello,World..  it's\tFINE ") == "hello world it s fine."


def test_without_the_library_a_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"pip install 'unloc_jax\[sentencepiece\]'"):
        WordPieces(tmp_path / "x.model", 10)


def test_word_pieces(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not here")
    file = vocabulary(tmp_path)
    pieces = WordPieces(file, 101)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    wanted = [processor.bos_id(), *processor.encode("a red circle moves.")]
    ids, mask = pieces.tokenize(["A red   circle moves!", "a red circle " * 50], 40)
    assert ids[0, : len(wanted)].tolist() == wanted and mask[0].sum() == len(wanted)
    assert not ids[0, len(wanted) :].any() and mask[1].all() and ids.shape == (2, 40)
    with pytest.raises(UserError, match=f"has {processor.get_piece_size()} word pieces, the model's table 9"):
        WordPieces(file, 9)
    (tmp_path / "bad.model").write_bytes(b"no vocabulary")
    with pytest.raises(UserError, match="damaged or no vocabulary"):
        WordPieces(tmp_path / "bad.model", 101)
    with pytest.raises(UserError, match="cannot be read"):
        WordPieces(tmp_path / "gone.model", 101)
