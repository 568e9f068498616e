"""CLAP: equal to transformers' stored numbers; sizes from the weights; what does not fit is told."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.pretrained.clap_originals import GOLDENS
from tests.pretrained.picture_text_originals import TEXTS
from unloc_jax.errors import UserError
from unloc_jax.features.clap_encoder import ClapEncoder
from unloc_jax.features.encoder import unit
from unloc_jax.features.families import open_encoder
from unloc_jax.model.clap import Clap
from unloc_jax.pretrained.clap import read_clap
from unloc_jax.pretrained.clap_mel import ClapMel
from unloc_jax.text_reader import RobertaFile

NAMES = ("unfused", "fused")
PLAIN = GOLDENS / "unfused"


def changed(
    folder: Path,
    golden: Path = PLAIN,
    arrays: Mapping[str, np.ndarray | None] | None = None,
    **settings: object,
) -> Path:
    """Copies a stored model with other tensors (None = without it) and settings (FILE__GROUP__KEY=value)."""
    shutil.copytree(golden, folder, dirs_exist_ok=True)
    tensors = {**load_file(golden / "model.safetensors"), **(arrays or {})}
    kept = {name: np.asarray(array) for name, array in tensors.items() if array is not None}
    save_file(kept, folder / "model.safetensors")
    for path, value in settings.items():
        name, *groups, key = path.split("__")
        file = folder / f"{name}.json"
        told = group = json.loads(file.read_text())
        for one in groups:
            group = group[one]
        group[key] = value
        file.write_text(json.dumps(told))
    return folder


def outputs(encoder: ClapEncoder, golden: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    sounds = unit(encoder.encode_sounds([golden[f"sound_{i}"] for i in range(len(golden["sounds"]))]))
    texts = unit(encoder.encode_tokens(golden["tokens"]))
    return {"sounds": sounds, "texts": texts, "logits": encoder.logits(sounds, texts)}


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_the_originals(name):
    golden = np.load(GOLDENS / f"{name}.npz")
    encoder = open_encoder(f"clap:{GOLDENS / name}")
    for i, wanted in enumerate(golden["mel"]):
        np.testing.assert_allclose(encoder.preprocess(golden[f"sound_{i}"]), wanted, atol=1e-4, rtol=0)
    for key, found in outputs(encoder, golden).items():
        np.testing.assert_allclose(found, golden[key], atol=1e-5, rtol=0, err_msg=key)
    tokens = encoder._reader.tokenize(TEXTS)
    np.testing.assert_array_equal(tokens, golden["tokens"])


def test_every_tensor_has_its_part_in_the_numbers(tmp_path):
    """So a golden notices if one is read into the wrong place, or not at all."""
    numbers, tensors = np.load(PLAIN.with_suffix(".npz")), load_file(PLAIN / "model.safetensors")
    model = Clap(read_clap(str(PLAIN)).config)
    both = jax.jit(lambda params: model.apply({"params": params}, numbers["mel"], numbers["tokens"]))

    def embeddings(arrays) -> tuple[dict, np.ndarray, np.ndarray]:
        params = read_clap(str(changed(tmp_path / "one", arrays=arrays))).params
        return params, *both(params)

    before, *wanted = embeddings({})
    rng = np.random.default_rng(0)
    for key, array in tensors.items():
        if array.dtype.kind == "i":  # buffers
            continue
        factor, noise = rng.uniform(0.3, 3, array.shape), rng.normal(0, 0.1, array.shape)
        other = np.asarray(array.astype(np.float32) * factor + noise, np.float32)
        params, *found = embeddings({key: other})
        of_sounds, of_texts = (float(np.abs(a - b).max()) for a, b in zip(found, wanted))
        if "logit" in key:
            assert params[key] != before[key] and of_sounds == of_texts == 0
        elif "key.bias" in key:  # the same for all keys: softmax takes it away
            assert max(of_sounds, of_texts) < 5e-6
        elif key.startswith("audio"):
            assert of_sounds > 1e-5 and of_texts == 0, key
        else:
            assert of_texts > 1e-5 and of_sounds == 0, key


def test_half_the_precision_is_near():
    golden = np.load(PLAIN.with_suffix(".npz"))
    found = outputs(open_encoder(f"clap:{PLAIN}", jnp.bfloat16), golden)
    for key in ("sounds", "texts"):
        assert (found[key] * golden[key]).sum(-1).min() > 0.99, key


def test_names_and_sizes(tmp_path):
    encoder = open_encoder(f"clap:{PLAIN}")
    assert encoder.name == "CLAP of 2-3 blocks × 8"
    config = encoder.weights.config
    assert (config.audio.heads, config.audio.window, config.audio.mlp_dims) == ((2, 4), 4, (20, 40))
    assert (config.text.num_heads, config.text.num_layers, config.embed_dim) == (3, 2, 20)
    assert encoder.weights.mel.scale == "slaney"
    assert read_clap(str(GOLDENS / "fused")).mel.scale == "htk"
    (shutil.copytree(PLAIN, tmp_path / "p") / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="makes spectrograms of 1001 × 64, the model reads at most 256 × 16"):
        read_clap(str(tmp_path / "p"))
    prints = {encoder.fingerprint()}
    for name, value in (
        ("config__text_config__num_attention_heads", 2),
        ("config__text_config__layer_norm_eps", 1e-2),
        ("config__projection_hidden_act", "gelu"),
        ("preprocessor_config__frequency_max", 1500),
        ("preprocessor_config__padding", "pad"),
    ):
        other = open_encoder(f"clap:{changed(tmp_path / name, **{name: value})}")
        golden = np.load(PLAIN.with_suffix(".npz"))
        assert max(np.abs(found - golden[key]).max() for key, found in outputs(other, golden).items()) > 1e-4
        prints.add(other.fingerprint())
    assert len(prints) == 6


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("length", [1, 3, 5, 9, 10])
def test_a_short_sound_is_filled_up(padding, length):
    mel = ClapMel(rate=10, seconds=1, padding=padding)
    sound = np.arange(1, length + 1)
    filled = mel.filled(sound)
    assert len(filled) == 10
    whole = {"repeatpad": 10 // length * length, "repeat": 10, "pad": length}[padding]
    np.testing.assert_array_equal(filled[:whole], np.resize(sound, whole))
    assert not filled[whole:].any()
    for wrong in (np.zeros(0), np.zeros(11), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="sound must be"):
            mel.filled(wrong)


BAD = {
    "is missing": {"arrays": {"audio_model.audio_encoder.batch_norm.weight": None}},
    "missing: text_projection.linear2.bias": {"arrays": {"text_projection.linear2.bias": None}},
    "unexpected: another": {"arrays": {"another": np.zeros(2, np.float32)}},
    "not finite: logit_scale_a": {"arrays": {"logit_scale_a": np.array(np.nan, np.float32)}},
    'only "clap" is supported': {"config__model_type": "clip"},
    "a fused CLAP of the type channel_map": {
        "config__audio_config__enable_fusion": True, "config__audio_config__fusion_type": "channel_map",
    },
    "CLAP's do not overlap": {"config__audio_config__patch_stride": [2, 2]},
    "hidden_act is 'relu'; CLAP's is 'gelu'": {"config__text_config__hidden_act": "relu"},
    "does not give 2 stages with windows of 4": {"config__audio_config__spec_size": 24},
    "5 heads do not divide the text tower's width of 12": {"config__text_config__num_attention_heads": 5},
    "padding 'mirror'": {"preprocessor_config__padding": "mirror"},
    "mel bins from 50 to 9000 Hz": {"preprocessor_config__frequency_max": 9000},
    "hop_length is 0 instead of a whole number": {"preprocessor_config__hop_length": 0},
    "projection_hidden_act is 'tanh'": {"config__projection_hidden_act": "tanh"},
}  # fmt: skip


@pytest.mark.parametrize("told", BAD)
def test_what_does_not_fit_is_told(told, tmp_path):
    changes = dict(BAD[told])
    with pytest.raises(UserError) as error:
        read_clap(str(changed(tmp_path / "m", arrays=changes.pop("arrays", None), **changes)))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_texts(tmp_path):
    file = PLAIN / "tokenizer.json"
    reader = RobertaFile(file, 320, 6, 1)
    (tokens, empty, long) = reader.tokenize(["a dog", "", "the sound of " * 9])
    assert tokens[0] == empty[0] == long[0] == 0 and empty[1] == 2 and (empty[2:] == 1).all()
    assert long[-1] == 2 and reader.num_pieces("the sound of " * 9) > reader.most_pieces == 4
    with pytest.raises(UserError, match="word pieces, the model's table 100"):
        RobertaFile(file, 100, 6, 1)
    with pytest.raises(UserError, match="its <pad> is not 3: it is not the RoBERTa tokenizer"):
        RobertaFile(file, 320, 6, 3)
    folder = changed(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    encoder = open_encoder(f"clap:{folder}")
    with pytest.raises(UserError, match="give --tokenizer=FILE, or put tokenizer"):
        encoder.check_texts()
    open_encoder(f"clap:{folder}", vocabulary=str(PLAIN)).check_texts()
    with pytest.raises(UserError, match="not an id of the Hugging Face hub"):
        open_encoder("clap:nowhere")
    laion = tmp_path / "alone" / "630k-audioset-best.pt"
    laion.parent.mkdir()
    laion.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"has no config\.json.* Give one as transformers stores it"):
        open_encoder(f"clap:{laion}")
