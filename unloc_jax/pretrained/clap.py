"""CLAP (Wu et al. 2023, arXiv 2211.06687) as transformers stores `ClapModel`: what it is, and how it is read.

Sizes come from the shapes of the tensors, the rest from the settings beside them.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from unloc_jax.errors import UserError
from unloc_jax.model.clap import PROJECTIONS, Clap, ClapConfig, RobertaConfig
from unloc_jax.model.htsat import HtsatConfig
from unloc_jax.pretrained import clap_mel
from unloc_jax.pretrained.clap_mel import ClapMel
from unloc_jax.pretrained.clip_files import Files, is_hub_id, read_json
from unloc_jax.pretrained.clip_model import differences, listed
from unloc_jax.pretrained.foreign_settings import group, positive_int, side
from unloc_jax.pretrained.picture_text import vocabulary_file
from unloc_jax.pretrained.tensor_map import (
    FLAT,
    LINEAR,
    LINEAR_OF_HEADS,
    Map,
    Of,
    Shape,
    Turn,
    their_shapes,
    to_params,
    torch_linear,
    torch_norm,
)
from unloc_jax.text_reader import RobertaFile

KIND = "clap"
TITLE = "CLAP"
_TOKENIZER = "tokenizer.json"
_ADVICE = "Give one as transformers stores it, such as clap:laion/clap-htsat-unfused."
_MOST_TOKENS = 77  # of a text, as in training
_AUDIO, _TEXT = "audio_model.audio_encoder", "text_model"
# Buffers, and the parts of a fused model that only sounds longer than its window pass through.
_IGNORED = (".relative_position_index", ".num_batches_tracked", ".position_ids", ".token_type_ids")
_FUSION = (f"{_AUDIO}.patch_embed.fusion_model.", f"{_AUDIO}.patch_embed.mel_conv2d.")
_PATCHES = Turn(
    lambda shape: (shape[1], 1, math.isqrt(shape[0]), math.isqrt(shape[0])),
    ours=lambda array, shape: array.reshape(len(array), -1).T.reshape(shape),
)
_ONE_ROW = Turn(lambda shape: (1, *shape))
_SIZES: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "HTSAT-tiny",
    (128, (2, 2, 12, 2)): "HTSAT-base",
}


@dataclasses.dataclass(frozen=True)
class ClapWeights:
    """A CLAP in memory.

    Attributes:
      config: Its sizes.
      mel: How it hears.
      params: Tree of float32 arrays, the parameters of `Clap`, and `logit_scale_a` and `logit_scale_t` [], logarithms
        of the scales of a sound's logits over texts, and of a text's over sounds.
      source: Its origin, as text.
      vocabulary: The file of its texts' vocabulary, if there is one.
    """

    config: ClapConfig
    mel: ClapMel
    params: dict[str, Any]
    source: str
    vocabulary: Path | None = None

    @property
    def name(self) -> str:
        """A name such as "CLAP HTSAT-tiny", or the sizes of a model that is not published."""
        audio = self.config.audio
        size = _SIZES.get((audio.width, audio.depths))
        size = size or f"of {'-'.join(map(str, audio.depths))} blocks × {audio.width}"
        return f"{TITLE} {size}"

    def text_reader(self) -> RobertaFile:
        """Opens what reads texts.

        Raises:
          UserError: The vocabulary is missing or unfit.
        """
        if self.vocabulary is None:
            raise UserError(
                f"{self.source}: to read texts CLAP needs RoBERTa's tokenizer: give --tokenizer=FILE, or put "
                f"{_TOKENIZER} beside the weights (docs/encoders.md)."
            )
        text = self.config.text
        most = min(_MOST_TOKENS, text.num_positions - text.padding - 1)
        return RobertaFile(self.vocabulary, text.vocabulary_size, most, text.padding)


def read_clap(source: str, vocabulary: str | None = None) -> ClapWeights:
    """Reads a CLAP.

    Args:
      source: A file of weights, a folder that holds one, or an id of the Hugging Face hub, optionally with "@revision".
      vocabulary: The file of its texts' vocabulary, or a folder or an id of the hub that holds it; None = beside the
        weights.

    Raises:
      UserError: There is nothing, a file is damaged, or tensors are missing, unexpected or of another shape.
    """
    if not (Path(source).exists() or is_hub_id(source)):
        raise UserError(
            f"{KIND}:{source}: there is no such file or folder, and it is not an id of the Hugging Face hub. {_ADVICE}"
        )
    files = Files(source, KIND)
    file = files.find("config.json", needed=True)
    if file is None:
        raise UserError(f"{source} has no config.json, which has what the weights lack. {_ADVICE}")
    settings = _Settings(file)  # before gigabytes are read
    mel = clap_mel.of_hugging_face(files, settings.fused)
    tensors = {
        name: array
        for name, array in files.tensors("model.safetensors", "pytorch_model.bin").items()
        if not name.endswith(_IGNORED) and not (settings.fused and name.startswith(_FUSION))
    }
    their = {name: tuple(array.shape) for name, array in tensors.items()}
    config = _config(their, settings, source)
    names, shapes = _names(config), parameter_shapes(config)
    if wrong := differences(their, their_shapes(shapes, names)):
        raise UserError(f"{source} is not the {TITLE} that its sizes suggest. {wrong}.")
    broken = [name for name, array in tensors.items() if not np.isfinite(array.astype(np.float32)).all()]
    if broken:
        raise UserError(f"{source} is damaged: numbers that are {listed({'not finite': broken})}.")
    if mel.bins != config.audio.mel_bins or mel.num_frames > config.audio.most_frames:
        raise UserError(
            f"{source}: preprocessor_config.json makes spectrograms of {mel.num_frames} × {mel.bins}, the model reads "
            f"at most {config.audio.most_frames} × {config.audio.mel_bins}."
        )
    found = vocabulary_file(KIND, _TOKENIZER, files, vocabulary)
    return ClapWeights(config, mel, to_params(tensors, shapes, names), source, found)


@functools.lru_cache(maxsize=4)
def parameter_shapes(config: ClapConfig) -> Mapping[str, Shape]:
    """Returns the shape of every parameter of a model, by its path joined by "/"."""
    mel = jnp.zeros((1, config.audio.most_frames, config.audio.mel_bins))
    made = jax.eval_shape(Clap(config).init, jax.random.key(0), mel, jnp.zeros((1, 2), jnp.int32))["params"]
    shapes = {path: array.shape for path, array in traverse_util.flatten_dict(made, sep="/").items()}
    return {**shapes, "logit_scale_a": (), "logit_scale_t": ()}


class _Settings:
    """What config.json tells.

    Attributes:
      fused: The model has a branch for sounds longer than its window.
      picture_size, patch_size, audio_epsilon: See `HtsatConfig`.
      text_heads, padding, text_epsilon: See `RobertaConfig`.
      projection: See `ClapConfig`.

    Raises:
      UserError: The settings are of a model that is computed in another way.
    """

    def __init__(self, file: Path):
        config = read_json(file)
        kind = config.get("model_type", "clap")
        if kind != "clap":
            raise UserError(f'{file}: model_type is {kind!r}; only "clap" is supported. {_ADVICE}')
        audio, text = group(config, "audio_config", file), group(config, "text_config", file)
        expected: list[tuple[str, dict[str, Any], str, Any]] = [
            ("audio_config", audio, "hidden_act", "gelu"),
            ("audio_config", audio, "patch_embed_input_channels", 1),
            ("audio_config", audio, "flatten_patch_embeds", True),
            ("text_config", text, "hidden_act", "gelu"),
            ("text_config", text, "position_embedding_type", "absolute"),
        ]
        for name, of, key, value in expected:
            if of.get(key, value) != value:
                raise UserError(f"{file}: {name}.{key} is {of[key]!r}; CLAP's is {value!r}.")
        self.fused = bool(audio.get("enable_fusion", False))
        if self.fused and audio.get("fusion_type") == "channel_map":
            raise UserError(
                f"{file}: a fused CLAP of the type channel_map, which is not read. Give laion/clap-htsat-fused, or an "
                "unfused one such as laion/clap-htsat-unfused."
            )
        patch = side(audio.get("patch_size", 4), f"{file}: audio_config.patch_size")
        stride = side(audio.get("patch_stride", 4), f"{file}: audio_config.patch_stride")
        if patch is None or patch != stride:
            raise UserError(f"{file}: patches of {patch} every {stride}; CLAP's do not overlap.")
        self.patch_size = patch
        self.picture_size = positive_int(audio.get("spec_size", 256), f"{file}: audio_config.spec_size")
        self.audio_epsilon = float(audio.get("layer_norm_eps", 1e-5))
        self.text_epsilon = float(text.get("layer_norm_eps", 1e-12))
        self.text_heads = positive_int(
            text.get("num_attention_heads", 12), f"{file}: text_config.num_attention_heads"
        )
        self.padding = positive_int(text.get("pad_token_id", 1), f"{file}: text_config.pad_token_id")
        self.projection = config.get("projection_hidden_act", "relu")
        if self.projection not in PROJECTIONS:
            raise UserError(
                f"{file}: projection_hidden_act is {self.projection!r}; known are {', '.join(PROJECTIONS)}."
            )


def _config(shapes: Mapping[str, Shape], told: _Settings, source: str) -> ClapConfig:
    """Derives the sizes of a model from the shapes of its tensors."""

    def size(name: str, rank: int) -> Shape:
        shape = shapes.get(name)
        if shape is None or len(shape) != rank or 0 in shape:
            found = "missing" if shape is None else f"of another shape: {shape} instead of {rank} axes"
            raise UserError(f"{source} is not a whole {TITLE}: {name} is {found}. {_ADVICE}")
        return shape

    depths: list[int] = []
    while count := _count(shapes, f"{_AUDIO}.layers.{len(depths)}.blocks.{{}}.layernorm_before.weight"):
        depths.append(count)
    blocks = [f"{_AUDIO}.layers.{stage}.blocks.0" for stage in range(max(len(depths), 1))]
    tables = [size(f"{block}.attention.self.relative_position_bias_table", 2) for block in blocks]
    width = size(f"{_AUDIO}.patch_embed.proj.weight", 4)[0]
    audio = HtsatConfig(
        width=width,
        depths=tuple(depths),
        heads=tuple(heads for _, heads in tables),
        mlp_dims=tuple(size(f"{block}.intermediate.dense.weight", 2)[0] for block in blocks),
        window=(math.isqrt(tables[0][0]) + 1) // 2,
        patch_size=told.patch_size,
        picture_size=told.picture_size,
        mel_bins=size(f"{_AUDIO}.batch_norm.weight", 1)[0],
        patch_norm=f"{_AUDIO}.patch_embed.norm.weight" in shapes,
        qkv_bias=f"{blocks[0]}.attention.self.query.bias" in shapes,
        epsilon=told.audio_epsilon,
    )
    vocabulary_size, text_width = size(f"{_TEXT}.embeddings.word_embeddings.weight", 2)
    text = RobertaConfig(
        width=text_width,
        num_layers=_count(shapes, f"{_TEXT}.encoder.layer.{{}}.intermediate.dense.weight"),
        num_heads=told.text_heads,
        mlp_dim=size(f"{_TEXT}.encoder.layer.0.intermediate.dense.weight", 2)[0],
        vocabulary_size=vocabulary_size,
        num_positions=size(f"{_TEXT}.embeddings.position_embeddings.weight", 2)[0],
        padding=told.padding,
        epsilon=told.text_epsilon,
    )
    _check(audio, text, source)
    embed_dim = size("audio_projection.linear2.weight", 2)[0]
    return ClapConfig(audio, text, embed_dim, told.projection)


def _check(audio: HtsatConfig, text: RobertaConfig, source: str) -> None:
    """Raises UserError if sizes do not fit each other."""
    merges = 2 ** (len(audio.depths) - 1)
    if (
        audio.picture_size % audio.patch_size
        or audio.picture_size % audio.mel_bins
        or audio.grid % merges
        or audio.grid // merges < audio.window
    ):
        raise UserError(
            f"{source}: a spectrogram of {audio.mel_bins} mel bins as a picture of {audio.picture_size} pixels, in "
            f"patches of {audio.patch_size}, does not give {len(audio.depths)} stages with windows of {audio.window}."
        )
    widths = [audio.width * 2**stage for stage in range(len(audio.heads))]
    for what, width, heads in [("audio", *one) for one in zip(widths, audio.heads)] + [
        ("text", text.width, text.num_heads)
    ]:
        if width % heads:
            raise UserError(f"{source}: {heads} heads do not divide the {what} tower's width of {width}.")
    if not text.padding < text.vocabulary_size or text.num_positions < text.padding + 4:
        raise UserError(
            f"{source}: {text.num_positions} positions and {text.vocabulary_size} word pieces do not go with "
            f"pad_token_id {text.padding}."
        )


def _count(names: Mapping[str, Any], name: str) -> int:
    """Counts without a gap from 0 on; any beyond a gap is told as unexpected."""
    count = 0
    while name.format(count) in names:
        count += 1
    return count


def _qkv(ours: str, theirs: str, bias: bool) -> dict[str, tuple[Of, ...]]:
    parts = tuple(enumerate(f"{theirs}.{part}" for part in ("query", "key", "value")))
    made = {f"{ours}/qkv/kernel": tuple(Of(f"{name}.weight", LINEAR, i) for i, name in parts)}
    if bias:
        made[f"{ours}/qkv/bias"] = tuple(Of(f"{name}.bias", FLAT, i) for i, name in parts)
    return made


def _names(config: ClapConfig) -> Map:
    """Returns the names of transformers' tensors by our paths."""
    audio = config.audio
    names: dict[str, tuple[Of, ...]] = {
        "audio/mel_norm/mean": (Of(f"{_AUDIO}.batch_norm.running_mean"),),
        "audio/mel_norm/variance": (Of(f"{_AUDIO}.batch_norm.running_var"),),
        **torch_norm("audio/mel_norm", f"{_AUDIO}.batch_norm"),
        "audio/patch_embedding/kernel": (Of(f"{_AUDIO}.patch_embed.proj.weight", _PATCHES),),
        "audio/patch_embedding/bias": (Of(f"{_AUDIO}.patch_embed.proj.bias"),),
        **torch_norm("audio/norm_out", f"{_AUDIO}.norm"),
    }
    if audio.patch_norm:
        names |= torch_norm("audio/patch_norm", f"{_AUDIO}.patch_embed.norm")
    for stage, depth in enumerate(audio.depths):
        for block in range(depth):
            ours, theirs = f"audio/stage_{stage}_block_{block}", f"{_AUDIO}.layers.{stage}.blocks.{block}"
            names |= {
                **_qkv(ours, f"{theirs}.attention.self", audio.qkv_bias),
                **torch_linear(f"{ours}/out", f"{theirs}.attention.output.dense"),
                f"{ours}/relative_positions": (Of(f"{theirs}.attention.self.relative_position_bias_table"),),
                **torch_norm(f"{ours}/attention_norm", f"{theirs}.layernorm_before"),
                **torch_norm(f"{ours}/mlp_norm", f"{theirs}.layernorm_after"),
                **torch_linear(f"{ours}/mlp_in", f"{theirs}.intermediate.dense"),
                **torch_linear(f"{ours}/mlp_out", f"{theirs}.output.dense"),
            }
        if stage < len(audio.depths) - 1:
            merge = f"{_AUDIO}.layers.{stage}.downsample"
            names[f"audio/merge_{stage}/kernel"] = (Of(f"{merge}.reduction.weight", LINEAR),)
            names |= torch_norm(f"audio/merge_{stage}_norm", f"{merge}.norm")
    embeddings, layer = f"{_TEXT}.embeddings", f"{_TEXT}.encoder.layer.{{}}"
    names |= {
        "text/token_embedding/embedding": (Of(f"{embeddings}.word_embeddings.weight"),),
        "text/position_embedding/embedding": (Of(f"{embeddings}.position_embeddings.weight"),),
        "text/type_embedding": (Of(f"{embeddings}.token_type_embeddings.weight", _ONE_ROW),),
        **torch_norm("text/norm_in", f"{embeddings}.LayerNorm"),
        **_qkv("text/layers/attention", f"{layer}.attention.self", True),
        **torch_linear("text/layers/attention/out", f"{layer}.attention.output.dense", LINEAR_OF_HEADS),
        **torch_norm("text/layers/attention_norm", f"{layer}.attention.output.LayerNorm"),
        **torch_linear("text/layers/mlp_in", f"{layer}.intermediate.dense"),
        **torch_linear("text/layers/mlp_out", f"{layer}.output.dense"),
        **torch_norm("text/layers/mlp_norm", f"{layer}.output.LayerNorm"),
        **torch_linear("text/pooler", f"{_TEXT}.pooler.dense"),
        "logit_scale_a": (Of("logit_scale_a"),),
        "logit_scale_t": (Of("logit_scale_t"),),
    }
    for tower in ("audio", "text"):
        for ours, theirs in (("first", "linear1"), ("second", "linear2")):
            names |= torch_linear(f"{tower}_projection/{ours}", f"{tower}_projection.{theirs}")
    return names
