"""transformers' CLAP with random weights, saved as it saves it, and what it computes.

Needs the extra `oracle`; nothing here is a test. `python -m tests.pretrained.clap_originals` writes the goldens anew.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.pretrained.picture_text_originals import TEXTS, randomize, rounded

GOLDENS = Path(__file__).parents[1] / "goldens" / "clap"
# Of the tiny models: 2 seconds of 4000 samples each.
EXTRACTOR = {
    "feature_size": 16, "sampling_rate": 4000, "hop_length": 32, "max_length_s": 2, "fft_window_size": 256,
    "frequency_min": 50, "frequency_max": 1900,
}  # fmt: skip


def clap(
    width: int = 8, depths: tuple[int, ...] = (2, 3), heads: tuple[int, ...] = (2, 4), window: int = 4,
    picture: int = 64, bins: int = 16, mlp_ratio: float = 2.5, fused: bool = False, qkv_bias: bool = True,
    patch_norm: bool = True, text_width: int = 12, text_layers: int = 2, text_heads: int = 3, text_mlp: int = 20,
    positions: int = 16, words: int = 320, embedding: int = 20, projection: str = "relu", epsilon: float = 1e-5,
    seed: int = 0,
) -> Any:  # fmt: skip
    """transformers' CLAP, float32."""
    import torch
    from transformers import ClapConfig, ClapModel

    audio = {
        "patch_embeds_hidden_size": width, "depths": list(depths), "num_attention_heads": list(heads),
        "window_size": window, "spec_size": picture, "num_mel_bins": bins, "mlp_ratio": mlp_ratio,
        "hidden_size": width * 2 ** (len(depths) - 1), "enable_fusion": fused, "qkv_bias": qkv_bias,
        "enable_patch_layer_norm": patch_norm, "fusion_type": "aff_2d" if fused else None, "layer_norm_eps": epsilon,
    }  # fmt: skip
    text = {
        "hidden_size": text_width, "num_hidden_layers": text_layers, "num_attention_heads": text_heads,
        "intermediate_size": text_mlp, "max_position_embeddings": positions, "vocab_size": words,
    }  # fmt: skip
    model = ClapModel(
        ClapConfig(
            text_config=text, audio_config=audio, projection_dim=embedding, projection_hidden_act=projection
        )
    ).eval()
    randomize(model, seed)
    generator = torch.Generator().manual_seed(seed)
    norm = model.audio_model.audio_encoder.batch_norm
    with torch.no_grad():
        # Of numbers that bfloat16 has: the goldens are stored in it.
        norm.running_mean.copy_((-30 + 10 * torch.randn(bins, generator=generator)).bfloat16())
        norm.running_var.copy_((200 + 100 * torch.rand(bins, generator=generator)).bfloat16())
        for name, parameter in model.named_parameters():
            if "relative_position_bias_table" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def extractor(fused: bool = False, **settings: Any) -> Any:
    """transformers' ClapFeatureExtractor with settings other than the published ones."""
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc", **settings)


def spectrograms(of: Any, sounds: list[np.ndarray]) -> np.ndarray:
    """float32 [N, F, bins] of sounds, float [S] each, that are not longer than the longest."""
    made = [of(sound, sampling_rate=of.sampling_rate, return_tensors="np") for sound in sounds]
    return np.stack([one["input_features"][0][0] for one in made]).astype(np.float32)


def sounds_of(rate: int, lengths_s: tuple[float, ...], seed: int = 0) -> list[np.ndarray]:
    """Tones that rise, with noise of different loudness: int16 [S] each."""
    rng, made = np.random.default_rng(seed), []
    for number, length_s in enumerate(lengths_s):
        times_s = np.arange(round(length_s * rate)) / rate
        tone = 0.5 * np.sin(2 * np.pi * rate * (0.03 + 0.05 * number + 0.05 * times_s / length_s) * times_s)
        made.append((32767 * 0.6 * (tone + rng.normal(0, 10.0 ** -(number + 1), len(tone)))).astype(np.int16))
    return made


def tokens_of(words: int, length: int, count: int = 4, seed: int = 1) -> np.ndarray:
    """Random tokens int32 [count, length]: <s>, words, </s>, then padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, words, (count, length)).astype(np.int32)
    tokens[:, 0] = 0
    for row, end in enumerate(np.linspace(1, length - 1, count).astype(int)):
        tokens[row, end:] = [2, *[1] * (length - end - 1)]
    return tokens


def clap_outputs(model: Any, mel: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Embeddings of length 1 and logits of sounds over texts; a fused model takes no sound for longer than it is."""
    import torch

    with torch.no_grad():
        x, words = torch.from_numpy(mel)[:, None], torch.from_numpy(tokens).long()
        if model.config.audio_config.enable_fusion:
            x = x.repeat(1, 4, 1, 1)
        made = model(
            input_ids=words,
            attention_mask=(words != 1).long(),
            input_features=x,
            is_longer=torch.zeros(len(mel), 1, dtype=torch.bool),
        )
    return {
        "sounds": made.audio_embeds.numpy(),
        "texts": made.text_embeds.numpy(),
        "logits": made.logits_per_audio.numpy(),
    }


def roberta_tokenizer(folder: Path, words: int = 320) -> Any:
    """A small vocabulary of RoBERTa's kind as transformers' `RobertaTokenizer`, saved to `folder` and read again."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import AutoTokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(
        ["the sound of a dog barking", "a door slams while two dogs bark"] * 20, trainer
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return AutoTokenizer.from_pretrained(folder)


def tokenized(tokenizer: Any, texts: tuple[str, ...], length: int) -> np.ndarray:
    """int32 [N, length]."""
    made = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length)
    return np.array(made["input_ids"], np.int32)


def save_clap(model: Any, of: Any, folder: Path) -> None:
    """As save_pretrained lays out model and feature extractor."""
    model.save_pretrained(folder)
    of.save_pretrained(folder)


def write_goldens() -> None:
    """The parameters are stored in bfloat16."""
    for name, fused in (("unfused", False), ("fused", True)):
        folder = GOLDENS / name
        model, of = rounded(clap(fused=fused, seed=int(fused))), extractor(fused, **EXTRACTOR)
        tokens = tokenized(roberta_tokenizer(folder), TEXTS, 14)
        sounds = sounds_of(4000, (2.0, 1.3, 0.3))
        mel = spectrograms(of, [sound / 32768 for sound in sounds])
        outputs = clap_outputs(model, mel, tokens)
        arrays = {f"sound_{i}": sound for i, sound in enumerate(sounds)}
        np.savez_compressed(folder.with_suffix(".npz"), mel=mel, tokens=tokens, **arrays, **outputs)
        save_clap(model.bfloat16(), of, folder)


if __name__ == "__main__":
    write_goldens()
