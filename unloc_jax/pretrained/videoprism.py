"""Reads VideoPrism's weights as published (`flax_*_repeated.npz`), and gives them our names.

Every size comes from the shapes of the tensors.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from unloc_jax.errors import UserError
from unloc_jax.model.videoprism import VideoPrismConfig, VideoPrismTextConfig
from unloc_jax.pretrained.clip_files import Files, is_hub_id, read_npz
from unloc_jax.pretrained.clip_model import differences, listed

KIND = "videoprism"
VOCABULARY_FILE = "sentencepiece.model"
Names = tuple[str, ...]
Shape = tuple[int, ...]

_TOP = "params/"
_ADVICE = (
    "Give a file as published, such as flax_base_f16r288_repeated.npz of google/videoprism-base-f16r288."
)
# The published models by width of the video encoder.
_NAMES = {(768, 12): "base", (1024, 24): "large"}


@dataclasses.dataclass(frozen=True)
class Unseen:
    """Settings that no tensor's shape shows; the defaults are those of all published models.

    Attributes:
      logit_cap, causal: See `VideoPrismConfig`, `VideoPrismTextConfig`.
      grid: Rows and columns of the trained table of patches; None = as many of both.
    """

    logit_cap: float = 50.0
    causal: bool = True
    grid: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class VideoPrismWeights:
    """A VideoPrism in memory.

    Attributes:
      config: Its sizes.
      params: Tree of float32 arrays, the parameters of `unloc_jax.model.videoprism.VideoPrism`.
      source: Its origin, as text.
      vocabulary: SentencePiece's file for its texts, if there is one.
    """

    config: VideoPrismConfig
    params: dict[str, Any]
    source: str
    vocabulary: Path | None = None

    @property
    def name(self) -> str:
        """A name such as "VideoPrism LvT base", or the sizes of a model that is not published."""
        config = self.config
        kind = "VideoPrism LvT" if config.text else "VideoPrism"
        layers = f"{config.spatial_layers}+{config.temporal_layers} layers × {config.width}"
        size = _NAMES.get((config.width, config.spatial_layers))
        return f"{kind} {size}" if size else f"{kind} of {layers}"


def read_videoprism(
    source: str, unseen: Unseen | None = None, vocabulary: str | None = None
) -> VideoPrismWeights:
    """Reads a VideoPrism: the video encoder alone, or the video–text model.

    Args:
      source: An .npz file, a folder that holds one, or an id of the Hugging Face hub such as
        google/videoprism-lvt-base-f16r288, optionally with "@revision".
      unseen: What the weights do not show.
      vocabulary: A SentencePiece file, or an id of the hub whose repository holds `sentencepiece.model`; None = that
        file beside the weights, if it is there.

    Raises:
      UserError: There is nothing, a file is damaged, or tensors are missing, unexpected or of another shape.
    """
    files, file = _files(source), weights_file(source)
    arrays = {name.removeprefix(_TOP): array for name, array in read_npz(file).items()}
    if told := listed(
        {"not finite": [name for name, array in arrays.items() if not np.isfinite(array).all()]}
    ):
        raise UserError(f"{file}: tensors that are {told}. {_ADVICE}")
    config = config_of({name: array.shape for name, array in arrays.items()}, str(file), unseen or Unseen())
    found = files.find(VOCABULARY_FILE) if vocabulary is None else _vocabulary_file(vocabulary)
    return VideoPrismWeights(config, _params(arrays, config), source, found)


def _files(source: str) -> Files:
    if not (Path(source).exists() or is_hub_id(source)):
        raise UserError(
            f"{KIND}:{source}: there is no such file or folder, and it is not an id of the Hugging Face hub. {_ADVICE}"
        )
    return Files(source, KIND)


def weights_file(source: str) -> Path:
    """Returns the file of weights that a source names, perhaps from the hub; errors are `read_videoprism`'s."""
    files, path = _files(source), Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        found = sorted(path.glob("flax_*_repeated.npz")) or sorted(path.glob("*.npz"))
        if len(found) != 1:
            names = (
                f"several: {', '.join(file.name for file in found)}. Name one" if found else "none. Add it"
            )
            raise UserError(f"{KIND}:{source}: a folder must hold one .npz of weights, this one has {names}.")
        return found[0]
    # Google's rule: videoprism-lvt-base-f16r288 holds flax_lvt_base_f16r288_repeated.npz.
    repository = source.partition("@")[0].rpartition("/")[2]
    name = f"flax_{repository.removeprefix('videoprism-').replace('-', '_')}_repeated.npz"
    file = files.find(name, needed=True)
    if file is None:
        raise UserError(
            f"{KIND}:{source}: its repository has no {name}. Download the weights and name the file."
        )
    return file


def _vocabulary_file(source: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir() or is_hub_id(source):
        found = Files(source, KIND).find(VOCABULARY_FILE, needed=True)
        if found is not None:
            return found
    raise UserError(
        f"--sentencepiece={source}: there is no such file, nor a folder or repository of the Hugging Face hub with a "
        f"{VOCABULARY_FILE}."
    )


def config_of(shapes: Mapping[str, Shape], where: str, unseen: Unseen) -> VideoPrismConfig:
    """Returns the sizes that the shapes of published tensors show.

    Raises:
      UserError: They are not those of a VideoPrism: lists of tensors that are missing, unexpected or of another shape.
    """
    with_text = any(name.startswith("text_encoder/") for name in shapes)
    encoder = "vision_encoder/" if any(name.startswith("vision_encoder/") for name in shapes) else ""
    ranks = {
        f"{encoder}patch_projection/linear/kernel": 2,
        f"{encoder}spatial_pos_emb/emb_var": 2,
        f"{encoder}temporal_pos_emb/emb_var": 2,
        f"{encoder}spatial_encoder/{_VIDEO_STACK}/self_attention/query/w": 4,
        f"{encoder}spatial_encoder/{_VIDEO_STACK}/ff_layer/ffn_layer1/linear/kernel": 3,
        f"{encoder}temporal_encoder/{_VIDEO_STACK}/ff_layer/ffn_layer1/linear/kernel": 3,
    }
    if encoder:
        ranks["contrastive_vision_pooler/pooling_attention/query/w"] = 3
    if with_text:
        ranks |= {
            "text_encoder/token_emb/emb_var": 2,
            f"text_encoder/{_TEXT_STACK}/ff_layer/ffn_layer1/linear/kernel": 3,
        }
    problems = {
        "missing": [name for name in ranks if name not in shapes],
        "of another shape": [
            f"{name} {shapes[name]} instead of {rank} axes"
            for name, rank in ranks.items()
            if name in shapes and (len(shapes[name]) != rank or 0 in shapes[name])
        ],
    }
    if told := listed(problems):
        raise UserError(f"{where} holds no VideoPrism in its published layout: {told}. {_ADVICE}")
    kernel, places, times, query, spatial, temporal, *others = (shapes[name] for name in ranks)
    patch = math.isqrt(kernel[0] // 3)
    side = math.isqrt(places[0])
    grid = unseen.grid or (side, side)
    odd = {
        f"{kernel[0]} numbers per patch, which is no square of 3 colours": 3 * patch**2 != kernel[0],
        f"{places[0]} positions of patches, which are no {grid[0]} × {grid[1]}": math.prod(grid) != places[0],
    }
    if any(odd.values()):
        raise UserError(f"{where}: {'; '.join(text for text, is_so in odd.items() if is_so)}. {_ADVICE}")
    auxiliary = shapes.get(f"auxiliary_encoder/{_VIDEO_STACK}/ff_layer/ffn_layer1/linear/kernel", (0,))
    pooler = math.prod(others[0][1:]) if encoder else 0
    text = None
    if with_text:
        embedding, of_text = others[-2:]
        text = VideoPrismTextConfig(embedding[0], of_text[0], of_text[2], unseen.causal)
    config = VideoPrismConfig(
        patch, times[0], grid, kernel[1], query[2], spatial[2], spatial[0], temporal[0], auxiliary[0], pooler,
        unseen.logit_cap, text,
    )  # fmt: skip
    if config.width % config.num_heads:
        raise UserError(
            f"{where}: {config.num_heads} heads do not divide a width of {config.width}. {_ADVICE}"
        )
    wanted = {
        name: of_one.shape for of_one in _tensors(config, encoder).values() for name in of_one.published
    }
    if told := differences(shapes, wanted):
        raise UserError(f"{where} is no VideoPrism in its published layout: {told}. {_ADVICE}")
    return config


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """What one of our parameters is made of.

    Attributes:
      published: Names of tensors, all of one shape.
      shape: That shape.
      make: Our array of theirs.
    """

    published: tuple[str, ...]
    shape: Shape
    make: Callable[..., np.ndarray] = lambda array: array


_VIDEO_STACK = "transformers_stack/x_layers"
_TEXT_STACK = "unimodal_transformer/x_layers"
_SCALE_OF_SOFTPLUS = 1.442695041  # of the original: 1 / softplus(0)


def _params(arrays: Mapping[str, np.ndarray], config: VideoPrismConfig) -> dict[str, Any]:
    encoder = "vision_encoder/" if config.pooler_width else ""
    flat = {
        path: of_one.make(*(arrays[name] for name in of_one.published))
        for path, of_one in _tensors(config, encoder).items()
    }
    return traverse_util.unflatten_dict(flat)


def _tensors(config: VideoPrismConfig, encoder: str) -> dict[Names, _Tensor]:
    """Returns what each of our parameters is made of; the video encoder's published names begin with `encoder`."""
    width, patches = config.width, math.prod(config.grid)
    stack = lambda ours, published, layers, mlp: _stack(ours, published, config, layers, mlp)
    made = {
        ("encoder", "patch_embedding", "kernel"): _Tensor(
            (f"{encoder}patch_projection/linear/kernel",), (config.patch_size**2 * 3, width)
        ),
        ("encoder", "patch_embedding", "bias"): _Tensor(
            (f"{encoder}patch_projection/linear/bias",), (width,)
        ),
        ("encoder", "spatial_position"): _Tensor((f"{encoder}spatial_pos_emb/emb_var",), (patches, width)),
        ("encoder", "temporal_position"): _Tensor(
            (f"{encoder}temporal_pos_emb/emb_var",), (config.num_frames, width)
        ),
    }
    for part, layers in (("spatial", config.spatial_layers), ("temporal", config.temporal_layers)):
        made |= stack(("encoder", part), f"{encoder}{part}_encoder/{_VIDEO_STACK}", layers, config.mlp_dim)
        made |= _norm(("encoder", f"{part}_norm"), f"{encoder}{part}_ln", (width,))
    if config.auxiliary_layers:
        published = f"auxiliary_encoder/{_VIDEO_STACK}"
        made |= stack(("auxiliary",), published, config.auxiliary_layers, config.mlp_dim)
    if config.pooler_width:
        made |= _pooler(config)
    if config.text is not None:
        text = config.text
        made |= {
            ("text", "token_embedding", "embedding"): _Tensor(
                ("text_encoder/token_emb/emb_var",), (text.vocabulary_size, width)
            ),
            ("text", "class_embedding"): _Tensor(
                ("text_encoder/cls_emb",), (1, 1, width), lambda array: array[0, 0]
            ),
            **stack(("text", "transformer"), f"text_encoder/{_TEXT_STACK}", text.num_layers, text.mlp_dim),
            **_norm(("text", "norm_out"), "text_encoder/unimodal_ln", (width,)),
        }
    return made


def _stack(
    ours: Names, published: str, config: VideoPrismConfig, layers: int, mlp: int
) -> dict[Names, _Tensor]:
    """Returns the parameters of a `Transformer`, whose layers are stacked along axis 0 in both layouts."""
    width, heads = config.width, config.num_heads
    attention = f"{published}/self_attention"
    of_inputs = lambda name: tuple(f"{attention}/{part}/{name}" for part in ("query", "key", "value"))
    in_head = (heads, width // heads)
    feed_forward = f"{published}/ff_layer"
    at = (*ours, "layers")
    return {
        (*at, "attention", "qkv", "kernel"): _Tensor(
            of_inputs("w"), (layers, width, *in_head), lambda *arrays: np.stack(arrays, axis=2)
        ),
        (*at, "attention", "qkv", "bias"): _Tensor(
            of_inputs("b"), (layers, *in_head), lambda *arrays: np.stack(arrays, axis=1)
        ),
        (*at, "attention", "out", "kernel"): _Tensor(
            (f"{attention}/post/w",), (layers, width, *in_head), lambda array: array.transpose(0, 2, 3, 1)
        ),
        (*at, "attention", "out", "bias"): _Tensor((f"{attention}/post/b",), (layers, width)),
        (*at, "mlp_in", "kernel"): _Tensor(
            (f"{feed_forward}/ffn_layer1/linear/kernel",), (layers, width, mlp)
        ),
        (*at, "mlp_in", "bias"): _Tensor((f"{feed_forward}/ffn_layer1/linear/bias",), (layers, mlp)),
        (*at, "mlp_out", "kernel"): _Tensor(
            (f"{feed_forward}/ffn_layer2/linear/kernel",), (layers, mlp, width)
        ),
        (*at, "mlp_out", "bias"): _Tensor((f"{feed_forward}/ffn_layer2/linear/bias",), (layers, width)),
        **_norm((*at, "attention_norm"), f"{published}/layer_norm", (layers, width)),
        **_norm((*at, "mlp_norm"), f"{feed_forward}/layer_norm", (layers, width)),
    }


def _pooler(config: VideoPrismConfig) -> dict[Names, _Tensor]:
    width, heads = config.width, config.num_heads
    published = "contrastive_vision_pooler"
    attention = f"{published}/pooling_attention"
    in_head = (heads, config.pooler_width // heads)
    made = {
        ("pooler", "query"): _Tensor((f"{published}/pooling_attention_query",), (1, width)),
        ("pooler", "scale"): _Tensor(
            (f"{attention}/per_dim_scale/per_dim_scale",),
            in_head[1:],
            lambda array: np.float32(_SCALE_OF_SOFTPLUS) * np.logaddexp(array, np.float32(0)),
        ),
        ("pooler", "out", "kernel"): _Tensor(
            (f"{attention}/post/w",), (width, *in_head), lambda array: array.transpose(1, 2, 0)
        ),
        ("pooler", "out", "bias"): _Tensor((f"{attention}/post/b",), (width,)),
        **_norm(("pooler", "norm"), f"{published}/pooling_attention_layer_norm", (width,)),
    }
    for ours, theirs in (("query_projection", "query"), ("key", "key"), ("value", "value")):
        made["pooler", ours, "kernel"] = _Tensor((f"{attention}/{theirs}/w",), (width, *in_head))
        made["pooler", ours, "bias"] = _Tensor((f"{attention}/{theirs}/b",), in_head)
    return made


def _norm(ours: Names, published: str, shape: Shape) -> dict[Names, _Tensor]:
    """Returns the parameters of a LayerNorm; the published scale is what is added to 1."""
    return {
        (*ours, "scale"): _Tensor((f"{published}/scale",), shape, lambda array: array + np.float32(1)),
        (*ours, "bias"): _Tensor((f"{published}/bias",), shape),
    }
