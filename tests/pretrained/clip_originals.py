"""CLIPs of the original libraries with random weights, saved as those libraries save them, and what they compute.

Needs the extra `oracle`; nothing here is a test. `python -m tests.pretrained.clip_originals` writes the goldens anew.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GOLDENS = Path(__file__).parents[1] / "goldens" / "clip"
# (image width, layers, heads, patch, pixels, text width, layers, heads, tokens, words, embedding)
SIZES = {
    "tiny": (16, 2, 2, 8, 32, 24, 2, 3, 12, 99, 20),
    "heads of 64": (64, 1, 1, 8, 24, 64, 1, 1, 12, 99, 20),
    "B/32": (768, 12, 12, 32, 224, 512, 12, 8, 77, 49408, 512),
}


class Sizes(NamedTuple):
    """See SIZES."""

    width: int
    layers: int
    heads: int
    patch: int
    pixels: int
    text_width: int
    text_layers: int
    text_heads: int
    tokens: int
    words: int
    embedding: int


def sizes_of(name: str) -> Sizes:
    return Sizes(*SIZES[name])


def inputs(sizes: Sizes, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [2, H, W, 3] and tokens int32 [5, L]: short, full, with no words, ended by the largest id."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (2, sizes.pixels, sizes.pixels, 3), np.uint8)
    start, end = sizes.words - 2, sizes.words - 1
    tokens = np.zeros((5, sizes.tokens), np.int32)
    for row, length in enumerate((5, sizes.tokens, 2, 7, 3)):
        tokens[row, :length] = [start, *rng.integers(1, start, length - 2), end]
    tokens[3, 7:] = end  # Hugging Face pads with the end token
    return frames, tokens


def randomize(model: Any, seed: int) -> None:
    """Numbers of which none is trivial; the logit scale stays."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                continue
            fan = parameter.shape[-1] if parameter.ndim > 1 else 25
            noise = torch.randn(parameter.shape, generator=generator)
            one = (
                1.0 if parameter.ndim == 1 and ("norm" in name or "ln_" in name) and "weight" in name else 0.0
            )
            parameter.copy_(one + noise * fan**-0.5 * (1.0 if parameter.ndim > 1 else 0.5))


def pixels(frames: np.ndarray) -> Any:
    """uint8 [M, H, W, 3] → what torchvision's ToTensor and Normalize give the original models."""
    import torch
    from torchvision.transforms.functional import normalize

    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return normalize(torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float() / 255, mean, std)


def hugging_face(sizes: Sizes, activation: str, seed: int = 0, end: int | None = None) -> Any:
    """`end`: its id of the end token, if not the last word."""
    from transformers import CLIPConfig, CLIPModel

    shared = {"hidden_act": activation, "projection_dim": sizes.embedding}
    vision = {
        "hidden_size": sizes.width,
        "intermediate_size": 4 * sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "patch_size": sizes.patch,
        "image_size": sizes.pixels,
    }
    text = {
        "hidden_size": sizes.text_width,
        "intermediate_size": 4 * sizes.text_width,
        "num_hidden_layers": sizes.text_layers,
        "num_attention_heads": sizes.text_heads,
        "max_position_embeddings": sizes.tokens,
        "vocab_size": sizes.words,
        "bos_token_id": sizes.words - 2,
        "eos_token_id": sizes.words - 1 if end is None else end,
        "pad_token_id": sizes.words - 1,
    }
    config = CLIPConfig(
        text_config=text | shared, vision_config=vision | shared, projection_dim=sizes.embedding
    )
    model = CLIPModel(config).eval()
    randomize(model, seed)
    return model


def hugging_face_outputs(model: Any, frames: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """layers [n + 1, M, 1 + patches, W], pooled [M, W], image and text embeddings of length 1, logits [M, N]."""
    import torch

    with torch.no_grad():
        images, ids = pixels(frames), torch.from_numpy(tokens).long()
        vision = model.vision_model(pixel_values=images, output_hidden_states=True)
        out = model(input_ids=ids, pixel_values=images)
    return {
        "layers": torch.stack(vision.hidden_states).numpy(),
        "pooled": vision.pooler_output.numpy(),
        "images": out.image_embeds.numpy(),
        "texts": out.text_embeds.numpy(),
        "logits": out.logits_per_image.numpy(),
    }


def openai_package() -> Any:
    """OpenAI's package; it asks setuptools for `packaging`, which newer ones no longer have."""
    if "pkg_resources" not in sys.modules and importlib.util.find_spec("pkg_resources") is None:
        import packaging.version

        sys.modules["pkg_resources"] = types.ModuleType("pkg_resources")
        sys.modules["pkg_resources"].packaging = packaging  # type: ignore[attr-defined]
    import clip.clip
    import clip.model

    return clip


def openai(sizes: Sizes, seed: int = 0) -> Any:
    """OpenAI's own module; its heads are of 64, its activation is quick_gelu."""
    model = openai_package().model.CLIP(
        sizes.embedding, sizes.pixels, sizes.layers, sizes.width, sizes.patch,
        sizes.tokens, sizes.words, sizes.text_width, sizes.text_heads, sizes.text_layers,
    ).eval()  # fmt: skip
    randomize(model, seed)
    return model


def open_clip_config(sizes: Sizes, quick_gelu: bool) -> dict[str, Any]:
    return {
        "embed_dim": sizes.embedding,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": sizes.pixels,
            "layers": sizes.layers,
            "width": sizes.width,
            "patch_size": sizes.patch,
            "head_width": sizes.width // sizes.heads,
        },
        "text_cfg": {
            "context_length": sizes.tokens,
            "vocab_size": sizes.words,
            "width": sizes.text_width,
            "heads": sizes.text_heads,
            "layers": sizes.text_layers,
        },
    }


def open_clip(sizes: Sizes, quick_gelu: bool, custom_text: bool = False, seed: int = 0) -> Any:
    from open_clip.model import CLIP, CustomTextCLIP

    model = (CustomTextCLIP if custom_text else CLIP)(**open_clip_config(sizes, quick_gelu)).eval()
    randomize(model, seed)
    return model


def embeddings(model: Any, frames: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Of OpenAI's and open_clip's modules, which share their methods; none is of length 1."""
    import torch

    with torch.no_grad():
        images = model.encode_image(pixels(frames))
        texts = model.encode_text(torch.from_numpy(tokens).long())
        one = lambda x: x / x.norm(dim=-1, keepdim=True)
        logits = model.logit_scale.exp() * one(images) @ one(texts).T
    return {"images": images.numpy(), "texts": texts.numpy(), "logits": logits.numpy()}


def save_hugging_face(model: Any, folder: Path, shard_size: str = "5GB") -> None:
    model.save_pretrained(folder, max_shard_size=shard_size)


def save_openai(model: Any, file: Path, frames: np.ndarray, tokens: np.ndarray) -> None:
    """As OpenAI published theirs: a TorchScript archive."""
    import torch

    traced = torch.jit.trace(model, (pixels(frames[:1]), torch.from_numpy(tokens[:1]).long()))
    traced.save(str(file))


def save_open_clip(model: Any, folder: Path, config: dict[str, Any]) -> None:
    """As open_clip.push_to_hf_hub lays out a model."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    preprocess = {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )


def save_scenic(model: Any, file: Path) -> None:
    """As in the README of Scenic's CLIP."""
    import jax

    np.save(file, jax.tree.map(lambda x: x.cpu().numpy(), model.state_dict()))


def picture() -> np.ndarray:
    """Noise, which shows every difference between two ways to resize; uint8 [53, 70, 3]."""
    return np.random.default_rng(5).integers(0, 256, (53, 70, 3), np.uint8)


def preprocessed(frame: np.ndarray, size: int) -> np.ndarray:
    """By OpenAI's transform, without mean and std: uint8 [size, size, 3]."""
    from PIL import Image

    resize, crop, *_ = openai_package().clip._transform(size).transforms
    return np.asarray(crop(resize(Image.fromarray(frame))))


def write_goldens() -> None:
    """One model of each kind that can be read without torch, and what the original computes with it."""
    import torch

    GOLDENS.mkdir(parents=True, exist_ok=True)
    tiny, wide = sizes_of("tiny"), sizes_of("heads of 64")
    frames, tokens = inputs(tiny)

    half = hugging_face(tiny, "quick_gelu", seed=1).to(torch.bfloat16)
    save_hugging_face(half, GOLDENS / "hf_quick_gelu_bfloat16")
    np.savez_compressed(
        GOLDENS / "hf_quick_gelu_bfloat16.npz", **hugging_face_outputs(half.float(), frames, tokens)
    )
    exact = hugging_face(tiny, "gelu", seed=2)
    save_hugging_face(exact, GOLDENS / "hf_gelu_sharded", shard_size="60KB")
    np.savez_compressed(GOLDENS / "hf_gelu_sharded.npz", **hugging_face_outputs(exact, frames, tokens))

    custom = open_clip(tiny, quick_gelu=False, custom_text=True, seed=3)
    save_open_clip(custom, GOLDENS / "open_clip_gelu", open_clip_config(tiny, quick_gelu=False))
    np.savez_compressed(GOLDENS / "open_clip_gelu.npz", **embeddings(custom, frames, tokens))

    frames, tokens = inputs(wide)
    first = openai(wide, seed=4).half()
    save_scenic(first, GOLDENS / "scenic_float16.npy")
    np.savez_compressed(GOLDENS / "scenic_float16.npz", **embeddings(first.float(), frames, tokens))

    np.savez_compressed(GOLDENS / "preprocessed.npz", pixels=preprocessed(picture(), 32))


if __name__ == "__main__":
    write_goldens()
