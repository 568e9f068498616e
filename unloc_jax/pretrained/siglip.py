"""SigLIP 2 of one resolution (Tschannen et al. 2025, arXiv 2502.14786): what it is, and how it is stored."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    FLAX_PATCHES,
    LINEAR,
    LINEAR_OF_HEADS,
    SAME,
    TORCH_PATCHES,
    Of,
    flax_layer,
    flax_norm,
    torch_linear,
    torch_norm,
)
from unloc_jax.text_reader import TextReader, TokenizerFile

_HALF = (0.5, 0.5, 0.5)
_PIXELS = Pixels("squash", _HALF, _HALF, "bilinear")
_TOKENIZER = "tokenizer.json"


def _hugging_face_layers(tower: str) -> dict[str, tuple[Of, ...]]:
    ours = f"{tower}/transformer/layers"
    layer = f"{'vision' if tower == 'image' else 'text'}_model.encoder.layers.{{}}"
    parts = tuple(enumerate(f"{layer}.self_attn.{part}_proj" for part in "qkv"))
    return {
        f"{ours}/attention/qkv/kernel": tuple(Of(f"{name}.weight", LINEAR, i) for i, name in parts),
        f"{ours}/attention/qkv/bias": tuple(Of(f"{name}.bias", FLAT, i) for i, name in parts),
        **torch_linear(f"{ours}/attention/out", f"{layer}.self_attn.out_proj", LINEAR_OF_HEADS),
        **torch_linear(f"{ours}/mlp_in", f"{layer}.mlp.fc1"),
        **torch_linear(f"{ours}/mlp_out", f"{layer}.mlp.fc2"),
        **torch_norm(f"{ours}/attention_norm", f"{layer}.layer_norm1"),
        **torch_norm(f"{ours}/mlp_norm", f"{layer}.layer_norm2"),
    }


HUGGING_FACE = Layout(
    {
        "image/patch_embedding/kernel": (
            Of("vision_model.embeddings.patch_embedding.weight", TORCH_PATCHES),
        ),
        "image/patch_embedding/bias": (Of("vision_model.embeddings.patch_embedding.bias"),),
        "image/position_embedding": (Of("vision_model.embeddings.position_embedding.weight"),),
        **_hugging_face_layers("image"),
        **torch_norm("image/norm_out", "vision_model.post_layernorm"),
        "image/pooler/query": (Of("vision_model.head.probe", AFTER_TWO),),
        "image/pooler/qkv_kernel": (Of("vision_model.head.attention.in_proj_weight", LINEAR),),
        "image/pooler/qkv_bias": (Of("vision_model.head.attention.in_proj_bias", FLAT),),
        **torch_linear("image/pooler/out", "vision_model.head.attention.out_proj", LINEAR_OF_HEADS),
        **torch_norm("image/pooler/norm", "vision_model.head.layernorm"),
        **torch_linear("image/pooler/mlp_in", "vision_model.head.mlp.fc1"),
        **torch_linear("image/pooler/mlp_out", "vision_model.head.mlp.fc2"),
        "text/token_embedding/embedding": (Of("text_model.embeddings.token_embedding.weight"),),
        "text/position_embedding": (Of("text_model.embeddings.position_embedding.weight"),),
        **_hugging_face_layers("text"),
        **torch_norm("text/norm_out", "text_model.final_layer_norm"),
        **torch_linear("text_projection", "text_model.head"),
        "logit_scale": (Of("logit_scale"),),
        "logit_bias": (Of("logit_bias"),),
    },
    ignored=r"(text|vision)_model\.embeddings\.position_ids",
)


def _big_vision_attention(kernel: str, bias: str, out: str, theirs: str) -> dict[str, tuple[Of, ...]]:
    parts = tuple(enumerate(f"{theirs}/{part}" for part in ("query", "key", "value")))
    return {
        kernel: tuple(Of(f"{name}/kernel", SAME, i) for i, name in parts),
        bias: tuple(Of(f"{name}/bias", SAME, i) for i, name in parts),
        **flax_layer(out, f"{theirs}/out"),
    }


def _big_vision_layers(tower: str, stack: str) -> dict[str, tuple[Of, ...]]:
    ours, layer = f"{tower}/transformer/layers", f"{stack}/encoderblock_{{}}"
    attention = f"{ours}/attention"
    return {
        **_big_vision_attention(
            f"{attention}/qkv/kernel",
            f"{attention}/qkv/bias",
            f"{attention}/out",
            f"{layer}/MultiHeadDotProductAttention_0",
        ),
        **flax_layer(f"{ours}/mlp_in", f"{layer}/MlpBlock_0/Dense_0"),
        **flax_layer(f"{ours}/mlp_out", f"{layer}/MlpBlock_0/Dense_1"),
        **flax_norm(f"{ours}/attention_norm", f"{layer}/LayerNorm_0"),
        **flax_norm(f"{ours}/mlp_norm", f"{layer}/LayerNorm_1"),
        **flax_norm(f"{tower}/norm_out", f"{stack}/encoder_norm"),
    }


def _unstacked(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits layers that were scanned, and so are stacked along axis 0, as if they were stored one by one.

    Names lose the leading "params/", if they have it.
    """

    def each() -> Iterator[tuple[str, np.ndarray]]:
        for path, array in tensors.items():
            name = path.removeprefix("params/")
            before, found, after = name.partition("/encoderblock/")
            if found and array.ndim:
                yield from ((f"{before}/encoderblock_{i}/{after}", one) for i, one in enumerate(array))
            else:
                yield name, array

    return dict(each())


BIG_VISION = Layout(
    {
        "image/patch_embedding/kernel": (Of("img/embedding/kernel", FLAX_PATCHES),),
        "image/patch_embedding/bias": (Of("img/embedding/bias"),),
        "image/position_embedding": (Of("img/pos_embedding", AFTER_ONE),),
        **_big_vision_layers("image", "img/Transformer"),
        "image/pooler/query": (Of("img/MAPHead_0/probe", AFTER_TWO),),
        **_big_vision_attention(
            "image/pooler/qkv_kernel",
            "image/pooler/qkv_bias",
            "image/pooler/out",
            "img/MAPHead_0/MultiHeadDotProductAttention_0",
        ),
        **flax_norm("image/pooler/norm", "img/MAPHead_0/LayerNorm_0"),
        **flax_layer("image/pooler/mlp_in", "img/MAPHead_0/MlpBlock_0/Dense_0"),
        **flax_layer("image/pooler/mlp_out", "img/MAPHead_0/MlpBlock_0/Dense_1"),
        "text/token_embedding/embedding": (Of("txt/Embed_0/embedding"),),
        "text/position_embedding": (Of("txt/pos_embedding", AFTER_ONE),),
        **_big_vision_layers("text", "txt/Encoder_0"),
        **flax_layer("text_projection", "txt/head"),
        "logit_scale": (Of("t"),),
        "logit_bias": (Of("b"),),
    },
    _unstacked,
)


def _beside(files: Files, source: str, is_npz: bool) -> Unseen:
    """Reads Hugging Face's settings; big_vision's weights show all that is needed.

    Raises:
      UserError: The settings are missing, or of a model that is computed in another way.
    """
    if is_npz:
        return Unseen()
    file = files.find("config.json", needed=True)
    if file is None:
        raise UserError(f"{source} has no config.json, which has what the weights lack: numbers of heads.")
    config = read_json(file)
    kind = config.get("model_type", "siglip")
    if kind != "siglip":
        why = " (its NaFlex models see pictures of any shape)" if kind == "siglip2" else ""
        raise UserError(
            f'{file}: model_type is {kind!r}{why}; only "siglip", the models of one resolution, is supported.'
        )
    heads = {}
    for name in ("vision_config", "text_config"):
        tower = group(config, name, file)
        expected: Mapping[str, Any] = {
            "layer_norm_eps": 1e-6,
            "hidden_act": "gelu_pytorch_tanh",
            "vision_use_head": True,
        }
        for key, value in expected.items():
            if tower.get(key, value) != value:
                raise UserError(f"{file}: {name}.{key} is {tower[key]!r}; SigLIP 2's is {value!r}.")
        heads[name] = positive_int(
            tower.get("num_attention_heads", 12), f"{file}: {name}.num_attention_heads"
        )
    pixels = clip_pixels.of_hugging_face(files, _PIXELS, ("bilinear", "bicubic"))
    return Unseen(
        heads["vision_config"],
        heads["text_config"],
        image_size=side(
            group(config, "vision_config", file).get("image_size", 224), f"{file}: vision_config.image_size"
        ),
        pixels=pixels,
    )


def _text_reader(file: Path | None, vocabulary_size: int, max_tokens: int, source: str) -> TextReader:
    if file is None:
        raise UserError(
            f"{source}: to read texts SigLIP 2 needs the Gemma tokenizer: give --tokenizer=FILE, or put {_TOKENIZER} "
            "beside the weights (docs/encoders.md)."
        )
    return TokenizerFile(file, vocabulary_size, max_tokens)


SIGLIP_2 = PictureTextFamily(
    title="SigLIP 2",
    kind="siglip2",
    image_form=ImageForm(epsilon=1e-6, patch_bias=True, norm_in=False),
    text_form=TextForm(epsilon=1e-6, causal=False, pools_last=True),
    class_token=False,
    activation="gelu",
    pixels=_PIXELS,
    layouts=(HUGGING_FACE, BIG_VISION),
    safetensors="model.safetensors",
    torch="pytorch_model.bin",
    beside=_beside,
    text_reader=_text_reader,
    vocabulary=_TOKENIZER,
    sizes={
        (768, 12, 32): "B/32",
        (768, 12, 16): "B/16",
        (1024, 24, 16): "L/16",
        (1152, 27, 14): "So400m/14",
        (1152, 27, 16): "So400m/16",
    },
    advice="Give a model of one resolution, such as siglip2:google/siglip2-base-patch16-224.",
    heads={1152: 16},
)
