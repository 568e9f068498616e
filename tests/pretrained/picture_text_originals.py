"""SigLIP 2 and PE-Core of the original libraries with random weights, saved as those save them, and what they compute.

Needs the extra `oracle`; nothing here is a test. `python -m tests.pretrained.picture_text_originals` writes the goldens
anew; with BIG_VISION=DIR, a checkout of github.com/google-research/big_vision, those of big_vision. It is not on PyPI
and needs TensorFlow and einops instead.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).parents[1] / "goldens" / "picture_text"
TEXTS = (
    "a photo of a cat",
    "",
    "TWO Dogs, running; İstanbul ΟΔΟΣ",
    "word " * 30,
    "ünïcode 42 🙂 it's",
    "  two  spaces\tand\na line ",
)


def randomize(model: Any, seed: int) -> None:
    """Numbers of which none is trivial."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "logit" in name:
                parameter.copy_(noise.abs() + 1.0)
            elif parameter.ndim > 1 and "pos" not in name:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                parameter.copy_(one + 0.2 * noise)


def rounded(model: Any) -> Any:
    """The same model with parameters that bfloat16 has; its buffers, such as rotary positions, keep their precision."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


def frames_of(size: int, count: int = 3, seed: int = 0) -> np.ndarray:
    """Random pictures uint8 [count, size, size, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def pixels(frames: np.ndarray) -> Any:
    """uint8 [N, H, W, 3] → float32 [N, 3, H, W] between -1 and 1, as the originals' transforms make them."""
    import torch

    return torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2) / 255 / 0.5 - 1


def tokens_of(words: int, length: int, count: int = 4, seed: int = 1) -> np.ndarray:
    """Random tokens int32 [count, length] of some words, then padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, words, (count, length)).astype(np.int32)
    for row, end in enumerate(np.linspace(1, length - 1, count).astype(int)):
        tokens[row, end:] = [1, *[0] * (length - end - 1)]
    return tokens


# --- SigLIP 2 ------------------------------------------------------------------------------------------------------


def siglip(
    width: int = 24, layers: int = 2, heads: int = 3, mlp: int = 50, patch: int = 4, size: int = 18,
    text_width: int = 20, text_layers: int = 3, text_heads: int = 2, text_mlp: int = 36, tokens: int = 12,
    words: int = 320, seed: int = 0,
) -> Any:  # fmt: skip
    """transformers' SigLIP of one resolution, float32."""
    from transformers import SiglipConfig, SiglipModel

    vision = {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": mlp,
        "patch_size": patch, "image_size": size,
    }  # fmt: skip
    text = {
        "hidden_size": text_width, "num_hidden_layers": text_layers, "num_attention_heads": text_heads,
        "intermediate_size": text_mlp, "max_position_embeddings": tokens, "vocab_size": words,
        "projection_size": width, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    randomize(model, seed)
    return model


def siglip_outputs(model: Any, frames: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Embeddings, not of length 1, and logits of pictures and texts."""
    import torch

    with torch.no_grad():
        x, words = pixels(frames), torch.from_numpy(tokens).long()
        images = model.get_image_features(pixel_values=x)
        texts = model.get_text_features(input_ids=words)
        logits = model(input_ids=words, pixel_values=x).logits_per_image
    return {
        "images": getattr(images, "pooler_output", images).numpy(),
        "texts": getattr(texts, "pooler_output", texts).numpy(),
        "logits": logits.numpy(),
    }


def gemma_tokenizer(folder: Path, words: int = 320) -> Any:
    """A small vocabulary of Gemma's kind as transformers' `Siglip2Tokenizer`, saved to `folder` and read again."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import Siglip2Tokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    alphabet = [f"<0x{i:02X}>" for i in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=special + alphabet, show_progress=False, limit_alphabet=30
    )
    tokenizer.train_from_iterator(
        ["a photo of two dogs running", "the cat sat word word", "a cat"] * 20, trainer
    )
    # As in the file of google/siglip2-base-patch16-224.
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.enable_padding(length=64, pad_id=0, pad_token="<pad>")
    tokenizer.enable_truncation(64)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True, "padding_side": "right",
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return Siglip2Tokenizer.from_pretrained(folder)


def tokenized(tokenizer: Any, texts: tuple[str, ...], length: int) -> np.ndarray:
    """int32 [N, length], as Siglip2Processor asks for them."""
    made = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length)
    return np.array(made["input_ids"], np.int32)


def save_siglip(model: Any, folder: Path) -> None:
    """As save_pretrained lays out model and image processor, with the settings of the published SigLIP 2."""
    model.save_pretrained(folder)
    side = model.config.vision_config.image_size
    settings = {
        "image_processor_type": "SiglipImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True,
        "do_convert_rgb": None, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2,
        "size": {"height": side, "width": side},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


# --- big_vision ----------------------------------------------------------------------------------------------------


def big_vision(
    folder: Path, scan: bool, patch: int = 4, size: int = 16, tokens: int = 9, words: int = 40, seed: int = 0
) -> tuple[Any, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """big_vision's two towers with random parameters.

    Returns:
      apply(params, frames, tokens), the parameters by their names in an .npz, frames and tokens.
    """
    import jax
    from flax import traverse_util

    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    from big_vision.models.proj.image_text import two_towers

    image = {
        "width": 24, "depth": 3, "mlp_dim": 50, "num_heads": 3, "patch_size": (patch, patch), "pool_type": "map",
        "scan": scan,
    }  # fmt: skip
    text = {"width": 20, "depth": 2, "mlp_dim": 36, "num_heads": 2, "vocab_size": words, "scan": scan}
    model = two_towers.Model(image=image, text=text, out_dim=(None, 24), bias_init=-1.0, temperature_init=3.0)
    frames, ids = frames_of(size, seed=seed), tokens_of(words, tokens)
    x = (frames / 127.5 - 1).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, ids))["params"]
    rng = np.random.default_rng(seed)
    arrays = {
        name: (float(name.endswith("scale")) + rng.normal(0, 0.3, one.shape)).astype(np.float32)
        for name, one in traverse_util.flatten_dict(shapes, sep="/").items()
    }

    def apply() -> dict[str, np.ndarray]:
        params = traverse_util.unflatten_dict(arrays, sep="/")
        with jax.default_matmul_precision("highest"):
            images, texts, extras = model.apply({"params": params}, x, ids)
        return {
            "images": np.asarray(images * extras["img/norm"]),
            "texts": np.asarray(texts * extras["txt/norm"]),
            "logits": np.asarray(images @ texts.T * extras["t"] + arrays["b"]),
        }

    return apply, {f"params/{name}": array for name, array in arrays.items()}, frames, ids


# --- PE-Core -------------------------------------------------------------------------------------------------------


def pe_core(
    width: int = 64, layers: int = 2, heads: int = 1, patch: int = 4, size: int = 16, text_width: int = 48,
    text_layers: int = 2, text_heads: int = 3, tokens: int = 10, words: int = 99, embedding: int = 20,
    architecture: str = "vit_pe_core_base_patch16_224", seed: int = 0,
) -> Any:  # fmt: skip
    """open_clip's PE-Core, whose image tower is timm's of another size, float32."""
    import timm
    import torch
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    create = timm.create_model

    def smaller(name: str, **keywords: Any) -> Any:
        return create(
            name, **keywords, embed_dim=width, depth=layers, num_heads=heads, patch_size=patch, img_size=size
        )

    timm.create_model = smaller
    try:
        vision = CLIPVisionCfg(
            image_size=size,
            timm_model_name=architecture,
            timm_model_pretrained=False,
            timm_pool="map",
            timm_proj=None,
        )
        text = CLIPTextCfg(
            context_length=tokens, vocab_size=words, width=text_width, heads=text_heads, layers=text_layers
        )
        model = CustomTextCLIP(embedding, vision, text)
    finally:
        timm.create_model = create
    randomize(model.eval(), seed)
    return model.to(torch.float32)


def pe_outputs(model: Any, frames: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Embeddings, not of length 1, and logits of pictures and texts."""
    import torch

    with torch.no_grad():
        x, words = pixels(frames), torch.from_numpy(tokens).long()
        images, texts, (logits, _) = (
            model.encode_image(x),
            model.encode_text(words),
            model.get_logits(x, words),
        )
    return {"images": images.numpy(), "texts": texts.numpy(), "logits": logits.numpy()}


def pe_tokens(words: int, length: int) -> np.ndarray:
    """As `tokens_of`, ended by the largest id as CLIP's."""
    tokens = tokens_of(words - 1, length)
    tokens[tokens == 1] = words - 1
    return tokens


def save_pe(
    model: Any, folder: Path, text_heads: int = 3, architecture: str = "vit_pe_core_base_patch16_224"
) -> None:
    """As open_clip.push_to_hf_hub lays out a model, with the settings of the published PE-Core."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {
        "embed_dim": model.text.text_projection.shape[1],
        "vision_cfg": {
            "timm_model_name": architecture,
            "timm_pool": "map",
            "timm_proj": None,
            "image_size": model.visual.trunk.patch_embed.img_size[0],
        },
        "text_cfg": {"heads": text_heads},
        "custom_text": True,
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )


# --- goldens -------------------------------------------------------------------------------------------------------


def write_goldens() -> None:
    """The parameters are stored in bfloat16."""
    folder = GOLDENS / "siglip"
    model = rounded(siglip(seed=1))
    frames = frames_of(18)
    tokens = tokenized(gemma_tokenizer(folder), TEXTS, 12)
    outputs = siglip_outputs(model, frames, tokens)
    np.savez_compressed(folder.with_suffix(".npz"), frames=frames, tokens=tokens, **outputs)
    save_siglip(model.bfloat16(), folder)
    folder = GOLDENS / "pe"
    model = rounded(pe_core(text_width=24, seed=2))
    frames, tokens = frames_of(16), pe_tokens(99, 10)
    outputs = pe_outputs(model, frames, tokens)
    np.savez_compressed(folder.with_suffix(".npz"), frames=frames, tokens=tokens, **outputs)
    save_pe(model.bfloat16(), folder)


def write_big_vision_goldens(checkout: Path) -> None:
    for name, scan in (("big_vision", False), ("big_vision_scanned", True)):
        apply, arrays, frames, tokens = big_vision(checkout, scan, seed=int(scan))
        np.savez_compressed(GOLDENS / f"{name}.weights.npz", **arrays)
        np.savez_compressed(GOLDENS / f"{name}.npz", frames=frames, tokens=tokens, **apply())


if __name__ == "__main__":
    if folder := os.environ.get("BIG_VISION"):
        write_big_vision_goldens(Path(folder))
    else:
        write_goldens()
