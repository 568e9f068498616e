"""CLAP: equal to transformers' own with random weights, at several sizes. Needs the extra `oracle`."""

import numpy as np
import pytest

from tests.pretrained.clap_originals import (
    EXTRACTOR,
    clap,
    clap_outputs,
    extractor,
    roberta_tokenizer,
    save_clap,
    sounds_of,
    spectrograms,
    tokenized,
    tokens_of,
)
from tests.pretrained.picture_text_originals import TEXTS
from unloc_jax.features.encoder import unit
from unloc_jax.features.families import open_encoder
from unloc_jax.pretrained.clap_mel import of_hugging_face
from unloc_jax.pretrained.clip_files import Files

pytest.importorskip("torch")
pytest.importorskip("transformers")

SMALL = {"positions": 20, "words": 99, "text_layers": 1}
# Name → what it is made of, and settings of the extractor.
MODELS = {
    "tiny": ({}, EXTRACTOR),
    "fused": ({"fused": True}, EXTRACTOR),
    "no shift in the last stage, three stages": (
        {"depths": (2, 2, 2), "heads": (1, 2, 4), "window": 4, **SMALL},
        EXTRACTOR,
    ),
    "windows that do not divide the grid": (
        {"window": 5, "depths": (2, 1), "heads": (2, 2), **SMALL},
        EXTRACTOR,
    ),
    "no bias, no norm, gelu": (
        {"qkv_bias": False, "patch_norm": False, "projection": "gelu", "epsilon": 1e-3, **SMALL},
        EXTRACTOR,
    ),
    "HTSAT-tiny, RoBERTa of 2 layers": (
        {
            "width": 96, "depths": (2, 2, 6, 2), "heads": (4, 8, 16, 32), "window": 8, "picture": 256, "bins": 64,
            "mlp_ratio": 4.0, "text_width": 768, "text_heads": 12, "text_mlp": 3072, "positions": 514, "words": 1000,
            "embedding": 512,
        },
        {},
    ),
    "HTSAT-base": (
        {
            "width": 128, "depths": (2, 2, 12, 2), "heads": (4, 8, 16, 32), "window": 8, "picture": 256, "bins": 64,
            "mlp_ratio": 4.0, "embedding": 512, **SMALL,
        },
        {"frequency_min": 50},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_the_originals(name, tmp_path):
    sizes, settings = MODELS[name]
    model, of = clap(**sizes, seed=3), extractor(sizes.get("fused", False), **settings)
    save_clap(model, of, tmp_path)
    longest = of.nb_max_samples / of.sampling_rate
    sounds = sounds_of(of.sampling_rate, (longest, 0.7 * longest, 0.11 * longest))
    mel = spectrograms(of, [sound / 32768 for sound in sounds])
    tokens = tokens_of(sizes.get("words", 320), min(sizes.get("positions", 16) - 2, 40))
    wanted = clap_outputs(model, mel, tokens)
    encoder = open_encoder(f"clap:{tmp_path}")
    assert np.abs(np.stack([encoder.preprocess(sound) for sound in sounds]) - mel).max() < 1e-4
    found = {"sounds": unit(encoder.encode_sounds(sounds)), "texts": unit(encoder.encode_tokens(tokens))}
    found["logits"] = encoder.logits(found["sounds"], found["texts"])
    apart = {key: float(np.abs(found[key] - wanted[key]).max()) for key in wanted}
    print(name, apart)
    assert max(apart.values()) < 1e-5


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_spectrograms_are_the_originals(fused, padding, tmp_path):
    """Of sounds of any length, quiet ones and silence."""
    of = extractor(fused, padding=padding)
    of.save_pretrained(tmp_path)
    mel = of_hugging_face(Files(str(tmp_path), "clap"), fused)
    sounds = [*sounds_of(48000, (10.0, 4.9, 0.51, 0.003)), np.zeros(5000, np.int16), np.ones(1, np.int16)]
    for sound in sounds:
        (wanted,) = spectrograms(of, [sound / 32768])
        np.testing.assert_allclose(mel(sound), wanted, atol=1e-4, rtol=0)


def test_tokens_are_the_originals(tmp_path):
    model = clap(seed=4)
    save_clap(model, extractor(**EXTRACTOR), tmp_path)
    tokenizer = roberta_tokenizer(tmp_path)
    found = open_encoder(f"clap:{tmp_path}")._reader.tokenize(TEXTS)
    np.testing.assert_array_equal(found, tokenized(tokenizer, TEXTS, found.shape[1]))
