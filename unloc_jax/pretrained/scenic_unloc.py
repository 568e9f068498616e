"""Maps the parameters of Scenic's UnLoc to ours with one table of names, which is used in both directions.

The reference has one array per layer, and one each for queries, keys and values; ours are stacked over the layers
of a transformer and fused over these three.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from unloc_jax.config import Config, FusionConfig, HeadConfig, ImageTowerConfig, ModelConfig, TextTowerConfig
from unloc_jax.errors import UserError
from unloc_jax.pretrained.clip_model import listed
from unloc_jax.pretrained.resize_parameters import (
    adapt_class_embedding,
    adapt_image_positions,
    adapt_sequence_positions,
    adapt_text_positions,
)
from unloc_jax.tasks import TASKS, make_model
from unloc_jax.tasks.parameters import abstract_params
from unloc_jax.tasks.texts import TextEncoding

Params = dict[str, Any]
Path = tuple[str, ...]

# The reference's names of our tasks.
REFERENCE_TASKS = {
    "moment_retrieval": "moment_retrieval",
    "temporal_action_localization": "temporal_localization",
    "highlight_detection": "highlight_detection",
    "action_segmentation": "action_segmentation",
}
FUSION_ENCODER = "video_text_fusion/video_text_encoder"

# The parts of a transformer's block, by our names.
_CLIP_BLOCK = {
    "attention": "attn",
    "attention_norm": "ln_1",
    "mlp_norm": "ln_2",
    "mlp_in": "mlp/c_fc",
    "mlp_out": "mlp/c_proj",
}
_FUSION_BLOCK = {
    "attention": "MultiHeadAttention_0",
    "attention_norm": "LayerNorm_0",
    "mlp_norm": "LayerNorm_1",
    "mlp_in": "MlpBlock_0/Dense_0",
    "mlp_out": "MlpBlock_0/Dense_1",
}


class Leaf(NamedTuple):
    """Maps the reference's array of this name to ours[path][place], up to axes of length 1."""

    reference: str
    path: Path
    place: tuple = ()


@dataclasses.dataclass(frozen=True)
class Naming:
    """The variable parts of the reference's names.

    Attributes:
      head: Such as "moment_retrieval_head"; in checkpoints of several datasets, with a dataset's name as prefix.
      by_modality: Encoders are named "NAME_encoder", as with `modality_configs`; otherwise there is one
        "video_encoder".
    """

    head: str
    by_modality: bool


def naming_of(config: Config, reference: Iterable[str] = ()) -> Naming:
    """Returns the naming of a checkpoint with parameters of these names; without names, that of a new checkpoint."""
    names = list(reference)
    head = f"{REFERENCE_TASKS.get(config.task, config.task)}_head"
    heads = {name.partition("/")[0] for name in names}
    of_datasets = sorted(name for name in heads if name.endswith(f"_{head}"))
    if head not in heads and len(of_datasets) == 1:
        head = of_datasets[0]
    modalities = config.model.modalities
    by_modality = (
        len(modalities) > 1
        or any(modality.projection_width or modality.norm for modality in modalities.values())
        or any(name.startswith("concat_video_projection/") for name in names)
        or any(name.startswith(f"{x}_encoder/") for name in names for x in modalities if x != "video")
    )
    return Naming(head, by_modality)


def leaves(config: ModelConfig, naming: Naming) -> list[Leaf]:
    """Returns every parameter of the model with its name in the reference."""
    return [
        *_video_leaves(config, naming.by_modality),
        *_text_leaves(config.text),
        *fusion_leaves(config, FUSION_ENCODER, ("fusion", "encoder")),
        *head_leaves(config.head, config.geometry(2).num_levels, naming.head, ("head",)),
    ]


def to_params(reference: Mapping[str, np.ndarray], config: Config) -> tuple[Params, list[str]]:
    """Converts the reference's parameters to ours.

    Position and class embeddings for another number of frames, image size or text length are adapted (see
    `resize_parameters.py`); text positions beyond the checkpoint's last are 0, as in the reference's initialisation.
    What the reference itself never uses is left out: `cls` of its video tower, everything of that tower after the
      frames'
    tokens, and the heads of other tasks.

    Args:
      reference: Arrays as returned by `unloc_jax.pretrained.scenic_source.read_params`.
      config: Of the wanted model, such as from `unloc_jax.pretrained.scenic_config.to_config`.

    Returns:
      The tree of parameters, float32, and a line for everything that was adapted or left out.

    Raises:
      UserError: Parameters are missing, unexpected or of another shape.
    """
    naming = naming_of(config, reference)
    table = leaves(config.model, naming)
    task = TASKS[config.task](
        config,
        make_model(config, config.data.num_frames),
        TextEncoding(("{}",), config.model.text.max_tokens),
    )
    shapes = traverse_util.flatten_dict(abstract_params(task))
    wanted = {leaf.reference for leaf in table}
    unused = sorted(name for name in reference if name not in wanted and _is_unused(name, naming))
    report = [f"left out, the reference does not use it: {name}" for name in unused]
    arrays = {name: np.asarray(array) for name, array in reference.items() if name not in unused}
    for leaf in table:
        if leaf.reference in arrays and leaf.path in shapes:
            before = arrays[leaf.reference]
            after = _adapted(before, shapes[leaf.path].shape, leaf, config, arrays)
            if after is not before:
                report.append(f"adapted: {leaf.reference} {before.shape} → {after.shape}")
                arrays[leaf.reference] = after
    return fill(table, arrays, {path: leaf.shape for path, leaf in shapes.items()}), report


def to_reference(params: Params, config: Config, naming: Naming | None = None) -> dict[str, np.ndarray]:
    """Inverts `to_params`: returns our parameters, or their gradients, with the reference's names and shapes."""
    return read_back(leaves(config.model, naming or naming_of(config)), params)


def fill(table: Iterable[Leaf], reference: Mapping[str, np.ndarray], shapes: Mapping[Path, tuple]) -> Params:
    """Returns a tree of float32 arrays of these shapes, filled from the reference.

    Raises:
      UserError: See `to_params`.
    """
    ours = {path: np.full(shape, np.nan, np.float32) for path, shape in shapes.items()}
    problems: dict[str, list[str]] = {
        "missing": [],
        "unexpected": [],
        "shape": [],
        "not in the reference": [],
    }
    known, filled = set(), set()
    for leaf in table:
        known.add(leaf.reference)
        filled.add(leaf.path)
        if leaf.reference not in reference:
            problems["missing"].append(leaf.reference)
            continue
        if leaf.path not in ours:
            problems["unexpected"].append(leaf.reference)
            continue
        array, target = reference[leaf.reference], ours[leaf.path][leaf.place]
        if _same_shape(array.shape, target.shape, leaf.reference):
            ours[leaf.path][leaf.place] = array.reshape(target.shape)
        else:
            problems["shape"].append(f"{leaf.reference} {array.shape} vs ours {target.shape}")
    problems["unexpected"] += sorted(reference.keys() - known)
    problems["not in the reference"] = sorted("/".join(path) for path in ours.keys() - filled)
    if any(problems.values()):
        raise UserError(
            f"The checkpoint's parameters are not those that the config describes. {listed(problems)}. "
            "Give the config that the checkpoint was trained with."
        )
    return traverse_util.unflatten_dict(ours)


def read_back(table: Iterable[Leaf], params: Params) -> dict[str, np.ndarray]:
    """Returns the arrays of a table by the reference's names."""
    flat = {path: np.asarray(array) for path, array in traverse_util.flatten_dict(params).items()}
    return {leaf.reference: flat[leaf.path][leaf.place] for leaf in table}


def image_tower_leaves(config: ImageTowerConfig, reference: str, path: Path) -> Iterator[Leaf]:
    """Yields the parameters of `ImageTower`, which are those of the reference's ClipVideoTower up to frame tokens."""
    vision = f"{reference}VisionTransformer"
    if config.pooling == "token":
        yield Leaf(f"{reference}class_embedding", (*path, "class_embedding"))
    yield Leaf(f"{reference}conv1/kernel", (*path, "patch_embedding", "kernel"))
    yield Leaf(f"{vision}/positional_embedding", (*path, "position_embedding"))
    yield from norm_leaves(f"{vision}/ln_pre", (*path, "norm_in"))
    yield from norm_leaves(f"{vision}/ln_post", (*path, "norm_out"))
    yield from _transformer_leaves(
        f"{vision}/transformer/resblocks.{{}}", _CLIP_BLOCK, (*path, "transformer"), range(config.num_layers)
    )


def text_tower_leaves(config: TextTowerConfig, reference: str, path: Path) -> Iterator[Leaf]:
    """Yields the parameters of `TextTower`, the reference's ClipTextEncoder."""
    yield Leaf(f"{reference}token_embedding/embedding", (*path, "token_embedding", "embedding"))
    yield Leaf(f"{reference}positional_embedding", (*path, "position_embedding"))
    yield from norm_leaves(f"{reference}ln_final", (*path, "norm_out"))
    yield from _transformer_leaves(
        f"{reference}transformer/resblocks.{{}}",
        _CLIP_BLOCK,
        (*path, "transformer"),
        range(config.num_layers),
    )


def fusion_leaves(config: ModelConfig, reference: str, path: Path) -> Iterator[Leaf]:
    """Yields the parameters of `PairEncoder`, the reference's video-text encoder; `reference` is "" for it alone."""
    fusion, pyramid = config.fusion, config.pyramid
    prefix = f"{reference}/" if reference else ""
    block = f"{prefix}encoderblock_{{}}"
    if fusion.positions == "learned":
        # The reference's array has a leading axis of length 1.
        yield Leaf(f"{prefix}posembed_input/pos_embedding", (*path, "position_embedding"), (None,))
    if pyramid.type != "fpn":
        yield from _stack_leaves(block, fusion, (*path, "transformer"))
        if pyramid.type == "none":
            yield from norm_leaves(f"{prefix}encoder_norm", (*path, "norm_out"))
            return
    else:
        first = 0
        for level, layer in enumerate(config.pyramid_layers):
            layers = range(first, layer + 1)
            yield from _transformer_leaves(block, _FUSION_BLOCK, (*path, f"transformer_{level}"), layers)
            first = layer + 1
        if pyramid.downsampling.startswith("strided"):
            for level in range(pyramid.num_levels - 1):
                yield from dense_leaves(f"{prefix}Conv_{level}", (*path, f"downsample_{level}", "conv"))
    for level in range(pyramid.num_levels):
        yield from dense_leaves(f"{prefix}output_conv_{level}", (*path, "pyramid", f"conv_{level}"))
        yield from norm_leaves(f"{prefix}output_ln_{level}", (*path, "pyramid", f"norm_{level}"))


def head_leaves(config: HeadConfig, num_levels: int, reference: str, path: Path) -> Iterator[Leaf]:
    """Yields the parameters of `LocalizationHead`, the reference's heads; `reference` is "" for a head alone."""
    prefix = f"{reference}/" if reference else ""
    if config.type == "linear":
        yield from dense_leaves(f"{prefix}output_projection", (*path, "linear"))
        return
    both = (("ClassificationHead", "relevance"), ("RegressionHead", "offsets"))
    levels = range(num_levels)
    names: tuple[tuple[str, str], ...] = both
    if not config.shared_levels:
        names = tuple((f"{theirs}_{i}", f"{ours}_of_{i}") for theirs, ours in both for i in levels)
    for theirs, ours in names:
        for i in range(config.num_conv_layers):
            yield from norm_leaves(f"{prefix}{theirs}/ln{i}", (*path, ours, f"norm_{i}"))
            yield from dense_leaves(f"{prefix}{theirs}/conv{i}", (*path, ours, f"conv_{i}"))
        yield from dense_leaves(f"{prefix}{theirs}/output_projection", (*path, ours, "output"))
    if config.shared_levels:
        for kind in ("scale", "shift"):
            yield from (Leaf(f"{prefix}{kind}_{i}", (*path, f"{kind}_{i}")) for i in levels)


def dense_leaves(reference: str, path: Path, bias: bool = True) -> Iterator[Leaf]:
    """Yields the parameters of a linear layer or a convolution."""
    for name in ("kernel", "bias") if bias else ("kernel",):
        yield Leaf(f"{reference}/{name}", (*path, name))


def norm_leaves(reference: str, path: Path) -> Iterator[Leaf]:
    """Yields the parameters of a LayerNorm."""
    for name in ("scale", "bias"):
        yield Leaf(f"{reference}/{name}", (*path, name))


def _video_leaves(config: ModelConfig, by_modality: bool) -> Iterator[Leaf]:
    for name, modality in config.modalities.items():
        if modality.encoder == "clip":
            encoder = f"{name}_encoder/" if by_modality else "video_encoder/"
            yield from image_tower_leaves(config.image, encoder, (f"towers_{name}",))
        if modality.projection_width:
            bias = modality.projection_bias
            yield from dense_leaves(f"{name}_projection", (f"projections_{name}",), bias)
        if modality.norm:
            yield from norm_leaves(f"{name}_ln", (f"norms_{name}",))
    if config.video_projection:
        projection = "concat_video_projection" if by_modality else "video_projection"
        yield from dense_leaves(projection, ("video_projection",), config.video_projection_bias)


def _text_leaves(config: TextTowerConfig) -> Iterator[Leaf]:
    if config.encoder == "clip":
        yield from text_tower_leaves(config, "text_encoder/", ("text_tower",))
    if config.projection:
        yield from dense_leaves("text_projection", ("text_projection",), config.projection_bias)


def _stack_leaves(block: str, config: FusionConfig, path: Path) -> Iterator[Leaf]:
    return _transformer_leaves(block, _FUSION_BLOCK, path, range(config.num_layers))


def _transformer_leaves(block: str, parts: Mapping[str, str], path: Path, layers: range) -> Iterator[Leaf]:
    """Yields the parameters of a stack of blocks; `block` is a block's name in the reference, {} its number."""
    for row, layer in enumerate(layers):
        for ours, theirs in parts.items():
            name, at = f"{block.format(layer)}/{theirs}", (*path, "layers", ours)
            if ours == "attention":
                for i, one in enumerate(("query", "key", "value")):
                    yield Leaf(f"{name}/{one}/kernel", (*at, "qkv", "kernel"), (row, slice(None), i))
                    yield Leaf(f"{name}/{one}/bias", (*at, "qkv", "bias"), (row, i))
                plain = dense_leaves(f"{name}/out", (*at, "out"))
            else:
                plain = norm_leaves(name, at) if ours.endswith("norm") else dense_leaves(name, at)
            yield from (leaf._replace(place=(row,)) for leaf in plain)


def _is_unused(name: str, naming: Naming) -> bool:
    module, _, rest = name.partition("/")
    if module.endswith("_head"):
        return module != naming.head
    behind_frame_tokens = ("cls", "TemporalTransformer/", "proj/", "output_projection/")
    return module.endswith("_encoder") and module != "text_encoder" and rest.startswith(behind_frame_tokens)


def _adapted(
    array: np.ndarray, target: tuple, leaf: Leaf, config: Config, reference: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Adapts a position or class embedding to the model's size; returns anything else unchanged."""
    if _same_shape(array.shape, target, leaf.reference) or array.shape[-1] != target[-1]:
        return array
    *_, kind = leaf.path
    if kind == "class_embedding":
        return adapt_class_embedding(array, target[0] if len(target) == 2 else None)
    if kind != "position_embedding":
        return array
    if leaf.path[0] == "text_tower":
        return adapt_text_positions(array, np.zeros(target, array.dtype))
    if leaf.path[0] == "fusion":
        return _adapted_sequence(array, target, config, reference)
    source_has_class = any(name.endswith("_encoder/class_embedding") for name in reference)
    if source_has_class != (config.model.image.pooling == "token"):
        return array  # another model: the class embedding, missing or unexpected, is what to report
    return adapt_image_positions(array, target[0], source_has_class, source_has_class)


def _adapted_sequence(
    array: np.ndarray, target: tuple, config: Config, reference: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Adapts positions of frames, then of text tokens: floating [1, T0 + L0, D] → [1, T1 + L1, D]."""
    texts = 1
    if config.model.fusion.all_text_tokens and "text_encoder/positional_embedding" in reference:
        texts = len(reference["text_encoder/positional_embedding"])
    rows, frames = array[0], config.data.num_frames
    of_texts = np.zeros((target[0] - frames, target[1]), array.dtype)
    return np.concatenate(
        [adapt_sequence_positions(rows[:-texts], frames), adapt_text_positions(rows[-texts:], of_texts)]
    )[None]


def _same_shape(theirs: tuple, ours: tuple, name: str) -> bool:
    if name.endswith(
        "conv1/kernel"
    ):  # in old checkpoints that of a convolution, [frames, height, width, 3, D]
        return theirs[-1] == ours[-1] and np.prod(theirs) == np.prod(ours)
    squeezed = lambda shape: [size for size in shape if size != 1]
    return squeezed(theirs) == squeezed(ours)
