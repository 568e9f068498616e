"""PE-Core (Bolya et al. 2025, arXiv 2504.13181): what its models are, and how open_clip and timm store them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.model.tower_form import ImageForm, TextForm
from unloc_jax.pretrained import clip_pixels
from unloc_jax.pretrained.clip_files import Files, read_json
from unloc_jax.pretrained.clip_pixels import Pixels
from unloc_jax.pretrained.foreign_settings import group, positive_int, side
from unloc_jax.pretrained.picture_text import Layout, PictureTextFamily, Unseen
from unloc_jax.pretrained.tensor_map import (
    AFTER_ONE,
    AFTER_TWO,
    FLAT,
    LINEAR,
    LINEAR_OF_HEADS,
    SAME,
    TORCH_PATCHES,
    Of,
    torch_linear,
    torch_norm,
)
from unloc_jax.text_reader import ClipWords, TextReader

_HALF = (0.5, 0.5, 0.5)
_PIXELS = Pixels("squash", _HALF, _HALF, "bilinear")
_OPEN_CLIP_FILE = "open_clip_config.json"
_PATCHES_AND_PIXELS = re.compile(r"(?:\S+/)?vit_pe_core_\w+?_patch(\d{1,3})_(\d{1,4})(\.\w+)?")


def _attention(kernel: str, bias: str, fused: str) -> dict[str, tuple[Of, ...]]:
    return {kernel: (Of(f"{fused}weight", LINEAR),), bias: (Of(f"{fused}bias", FLAT),)}


def _image_tower(top: str) -> dict[str, tuple[Of, ...]]:
    """Returns timm's names of the image tower, which begin with `top`."""
    ours, layer, pool = "image/transformer/layers", f"{top}blocks.{{}}", f"{top}attn_pool"
    qkv = ((f"{pool}.q", 0), (f"{pool}.kv", slice(1, 3)))
    return {
        "image/class_embedding": (Of(f"{top}cls_token", AFTER_TWO),),
        "image/patch_embedding/kernel": (Of(f"{top}patch_embed.proj.weight", TORCH_PATCHES),),
        "image/position_embedding": (Of(f"{top}pos_embed", AFTER_ONE),),
        **torch_norm("image/norm_in", f"{top}norm_pre"),
        **_attention(f"{ours}/attention/qkv/kernel", f"{ours}/attention/qkv/bias", f"{layer}.attn.qkv."),
        **torch_linear(f"{ours}/attention/out", f"{layer}.attn.proj", LINEAR_OF_HEADS),
        **torch_linear(f"{ours}/mlp_in", f"{layer}.mlp.fc1"),
        **torch_linear(f"{ours}/mlp_out", f"{layer}.mlp.fc2"),
        **torch_norm(f"{ours}/attention_norm", f"{layer}.norm1"),
        **torch_norm(f"{ours}/mlp_norm", f"{layer}.norm2"),
        **torch_norm("image/norm_out", f"{top}norm"),
        "image/pooler/query": (Of(f"{pool}.latent", AFTER_TWO),),
        "image/pooler/qkv_kernel": tuple(Of(f"{name}.weight", LINEAR, part) for name, part in qkv),
        "image/pooler/qkv_bias": tuple(Of(f"{name}.bias", FLAT, part) for name, part in qkv),
        **torch_linear("image/pooler/out", f"{pool}.proj", LINEAR_OF_HEADS),
        **torch_norm("image/pooler/norm", f"{pool}.norm"),
        **torch_linear("image/pooler/mlp_in", f"{pool}.mlp.fc1"),
        **torch_linear("image/pooler/mlp_out", f"{pool}.mlp.fc2"),
        **torch_linear("image_projection", f"{top}head"),
    }


_LAYER = "text.transformer.resblocks.{}"
_OURS = "text/transformer/layers"
OPEN_CLIP = Layout(
    {
        **_image_tower("visual.trunk."),
        "text/token_embedding/embedding": (Of("text.token_embedding.weight"),),
        "text/position_embedding": (Of("text.positional_embedding"),),
        **_attention(
            f"{_OURS}/attention/qkv/kernel", f"{_OURS}/attention/qkv/bias", f"{_LAYER}.attn.in_proj_"
        ),
        **torch_linear(f"{_OURS}/attention/out", f"{_LAYER}.attn.out_proj", LINEAR_OF_HEADS),
        **torch_linear(f"{_OURS}/mlp_in", f"{_LAYER}.mlp.c_fc"),
        **torch_linear(f"{_OURS}/mlp_out", f"{_LAYER}.mlp.c_proj"),
        **torch_norm(f"{_OURS}/attention_norm", f"{_LAYER}.ln_1"),
        **torch_norm(f"{_OURS}/mlp_norm", f"{_LAYER}.ln_2"),
        **torch_norm("text/norm_out", "text.ln_final"),
        "text_projection/kernel": (Of("text.text_projection", SAME),),
        "logit_scale": (Of("logit_scale"),),
    }
)
TIMM = Layout(_image_tower(""))  # the image tower alone


def _beside(files: Files, source: str, is_npz: bool) -> Unseen:
    """Reads the settings of open_clip or timm, if there are any."""
    if (file := files.find(_OPEN_CLIP_FILE)) is not None:
        return _of_open_clip(read_json(file), file)
    if (file := files.find("config.json")) is not None:
        return _of_timm(read_json(file), file)
    return Unseen()


def _of_open_clip(config: Mapping[str, Any], file: Path) -> Unseen:
    model = group(config, "model_cfg", file) or config
    vision, text = group(model, "vision_cfg", file), group(model, "text_cfg", file)
    # Settings that change the computation without affecting any tensor's shape.
    expected = (
        (model, "", {"quick_gelu": False}),
        (vision, "vision_cfg.", {"timm_pool": "map"}),
        (
            text,
            "text_cfg.",
            {"hf_model_name": "", "pool_type": "argmax", "no_causal_mask": False, "embed_cls": False},
        ),
    )
    for found, name, values in expected:
        for key, value in values.items():
            if (found.get(key) or value) != value:
                raise UserError(f"{file}: {name}{key} is {found[key]!r}; PE-Core's is {value!r}.")
    name = vision.get("timm_model_name") or ""
    pixels = clip_pixels.of_open_clip(
        group(config, "preprocess_cfg", file), file, _PIXELS, ("bilinear", "bicubic")
    )
    heads = positive_int(text.get("heads", 8), f"{file}: text_cfg.heads")
    size = side(vision.get("image_size"), f"{file}: vision_cfg.image_size")
    return Unseen(text_heads=heads, image_size=size, pixels=pixels).over(
        _of_architecture(name, f"{file}: vision_cfg.timm_model_name")
    )


def _of_timm(config: Mapping[str, Any], file: Path) -> Unseen:
    settings = group(config, "model_args", file)

    def number(name: str) -> int | None:
        return side(settings.get(name), f"{file}: model_args.{name}")

    told = Unseen(
        image_heads=number("num_heads"),
        pooler_heads=number("attn_pool_num_heads"),
        image_size=number("img_size"),
        rotary_grid=number("ref_feat_shape"),
    )
    return told.over(_of_architecture(config.get("architecture") or "", f"{file}: architecture"))


def _of_architecture(name: Any, where: str) -> Unseen:
    """Returns what timm's name of a model tells, such as vit_pe_core_base_patch16_224: 14 patches along a side."""
    if not name:
        return Unseen()
    match = _PATCHES_AND_PIXELS.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise UserError(f"{where} is {name!r}, which is no PE-Core of timm's (vit_pe_core_…).")
    patch, pixels = int(match[1]), int(match[2])
    return Unseen(rotary_grid=positive_int(pixels // max(patch, 1), where))


def _text_reader(file: Path | None, vocabulary_size: int, max_tokens: int, source: str) -> TextReader:
    return ClipWords(vocabulary_size, max_tokens, source)


PE_CORE = PictureTextFamily(
    title="PE-Core",
    kind="pe",
    image_form=ImageForm(),
    text_form=TextForm(),
    class_token=True,
    activation="gelu_exact",
    pixels=_PIXELS,
    layouts=(OPEN_CLIP, TIMM),
    safetensors="open_clip_model.safetensors",
    torch="open_clip_pytorch_model.bin",
    beside=_beside,
    text_reader=_text_reader,
    vocabulary="",
    sizes={
        (192, 12, 16): "T/16",
        (384, 12, 16): "S/16",
        (768, 12, 16): "B/16",
        (1024, 24, 14): "L/14",
    },
    advice="Give a model of open_clip's or timm's, such as pe:timm/PE-Core-B-16.",
    pooler_heads=8,
    rotary=True,
    rotary_grids={192: 24, 384: 24, 768: 14, 1024: 24},
)
