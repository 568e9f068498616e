"""Maps the names of parameters in other programs' CLIPs to ours.

There are two naming schemes: OpenAI's, which open_clip and Scenic's .npy keep, and Hugging Face's. Both store matrices
as PyTorch does, [out, in]; ours are [in, out], stacked over the layers.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from unloc_jax.config import Activation, ImageTowerConfig, TextTowerConfig
from unloc_jax.errors import UserError
from unloc_jax.pretrained.clip_model import ClipConfig, differences


@dataclasses.dataclass(frozen=True)
class TowerNames:
    """Names of one tower's parameters.

    Attributes:
      embeddings: By our path in the tower.
      norms: By our path in the tower, without ".weight" and ".bias".
      layer: Prefix of a layer, with {} for its number.
      projection: The matrix, [W, D] if `projection_as_ours`, else [D, W].
      projection_as_ours: See `projection`.
    """

    embeddings: dict[str, str]
    norms: dict[str, str]
    layer: str
    projection: str
    projection_as_ours: bool


@dataclasses.dataclass(frozen=True)
class Naming:
    """One program's naming scheme.

    Attributes:
      image, text: Of the towers.
      block: Parts of a layer, by our names.
      qkv: Names of queries, keys and values in the attention; () = fused, as in torch.nn.MultiheadAttention.
      ignored: Pattern of buffers that are not parameters.
    """

    image: TowerNames
    text: TowerNames
    block: dict[str, str]
    qkv: tuple[str, ...]
    ignored: str


HUGGING_FACE = Naming(
    image=TowerNames(
        embeddings={
            "class_embedding": "vision_model.embeddings.class_embedding",
            "patch_embedding": "vision_model.embeddings.patch_embedding.weight",
            "position_embedding": "vision_model.embeddings.position_embedding.weight",
        },
        norms={"norm_in": "vision_model.pre_layrnorm", "norm_out": "vision_model.post_layernorm"},
        layer="vision_model.encoder.layers.{}",
        projection="visual_projection.weight",
        projection_as_ours=False,
    ),
    text=TowerNames(
        embeddings={
            "token_embedding": "text_model.embeddings.token_embedding.weight",
            "position_embedding": "text_model.embeddings.position_embedding.weight",
        },
        norms={"norm_out": "text_model.final_layer_norm"},
        layer="text_model.encoder.layers.{}",
        projection="text_projection.weight",
        projection_as_ours=False,
    ),
    block={
        "attention": "self_attn",
        "attention_out": "self_attn.out_proj",
        "attention_norm": "layer_norm1",
        "mlp_norm": "layer_norm2",
        "mlp_in": "mlp.fc1",
        "mlp_out": "mlp.fc2",
    },
    qkv=("q_proj", "k_proj", "v_proj"),
    ignored=r"(text|vision)_model\.embeddings\.position_ids",
)
OPENAI = Naming(
    image=TowerNames(
        embeddings={
            "class_embedding": "visual.class_embedding",
            "patch_embedding": "visual.conv1.weight",
            "position_embedding": "visual.positional_embedding",
        },
        norms={"norm_in": "visual.ln_pre", "norm_out": "visual.ln_post"},
        layer="visual.transformer.resblocks.{}",
        projection="visual.proj",
        projection_as_ours=True,
    ),
    text=TowerNames(
        embeddings={
            "token_embedding": "token_embedding.weight",
            "position_embedding": "positional_embedding",
        },
        norms={"norm_out": "ln_final"},
        layer="transformer.resblocks.{}",
        projection="text_projection",
        projection_as_ours=True,
    ),
    block={
        "attention": "attn",
        "attention_out": "attn.out_proj",
        "attention_norm": "ln_1",
        "mlp_norm": "ln_2",
        "mlp_in": "mlp.c_fc",
        "mlp_out": "mlp.c_proj",
    },
    qkv=(),
    ignored=r"input_resolution|context_length|vocab_size|attn_mask",
)


@dataclasses.dataclass(frozen=True)
class Unseen:
    """Properties of a CLIP that its shapes do not reveal.

    Attributes:
      image_heads, text_heads: Numbers of attention heads.
      image_activation, text_activation: By our names.
      end_token, resize: See `ClipConfig`.
      image_size: See `ClipConfig`; None = exactly the pixels of the patches.
    """

    image_heads: int
    text_heads: int
    image_activation: Activation
    text_activation: Activation
    end_token: int | None = None
    resize: str = "shortest"
    image_size: int | None = None


class _Tensor(NamedTuple):
    """A tensor of theirs and its destination in ours.

    Attributes:
      name, shape: Theirs.
      path: Path of our array.
      place: Index within our array.
      turn: Converts their array to ours.
    """

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    place: tuple
    turn: Callable[[np.ndarray], np.ndarray]


def naming_of(names: Mapping[str, Any], kind: str, source: str) -> Naming:
    """Returns the naming scheme of a file.

    Args:
      names: Of its tensors.
      kind: "hf-clip", or a kind with OpenAI's names.
      source: The file, for messages.

    Raises:
      UserError: The names are those of another kind, or of a ResNet.
    """
    hugging_face = any(name.startswith(("vision_model.", "text_model.")) for name in names)
    openai = any(name.startswith("visual.") for name in names)
    if kind == "hf-clip" and openai and not hugging_face:
        raise UserError(
            f"{source} has OpenAI's names of tensors: try --from open-clip or --from openai-clip."
        )
    if kind != "hf-clip" and hugging_face and not openai:
        raise UserError(f"{source} has Hugging Face's names of tensors: try --from hf-clip.")
    if any(name.startswith("visual.layer1.") for name in names):
        raise UserError(
            f"{source} is a CLIP with a ResNet; only those with a vision transformer are supported."
        )
    if any(name.startswith("visual.trunk.") for name in names):
        raise UserError(f"{source} is a CLIP with an image tower of timm; only CLIP's own is supported.")
    if kind == "hf-clip":
        return HUGGING_FACE
    if any(name.startswith("text.transformer.resblocks.") for name in names):  # open_clip's CustomTextCLIP
        return dataclasses.replace(OPENAI, text=_below("text.", OPENAI.text))
    return OPENAI


def recognize(
    shapes: Mapping[str, tuple[int, ...]], naming: Naming, unseen: Unseen, source: str
) -> ClipConfig:
    """Derives the sizes of a CLIP from the shapes of its tensors.

    Raises:
      UserError: Tensors are missing or cannot be a CLIP's; lists them.
    """
    image, text = naming.image, naming.text
    ranks = {
        image.embeddings["patch_embedding"]: 4,
        image.embeddings["position_embedding"]: 2,
        image.projection: 2,
        text.embeddings["token_embedding"]: 2,
        text.embeddings["position_embedding"]: 2,
        text.projection: 2,
    }
    layers = {tower.layer: _num_layers(shapes, tower.layer) for tower in (image, text)}
    missing = [name for name in ranks if name not in shapes]
    missing += [name.format(0) + ".*" for name, number in layers.items() if not number]
    if missing:
        raise UserError(f"{source} is not a whole CLIP. missing: {', '.join(missing)}.")
    wrong = [f"{name} {tuple(shapes[name])}" for name, rank in ranks.items() if len(shapes[name]) != rank]
    if wrong:
        raise UserError(f"{source} is not a CLIP. of another shape: {', '.join(wrong)}.")

    width, channels, patch, _ = shapes[image.embeddings["patch_embedding"]]
    positions = shapes[image.embeddings["position_embedding"]][0]
    grid = math.isqrt(max(positions - 1, 0))
    if grid == 0 or grid**2 != positions - 1:
        raise UserError(
            f"{source}: {positions} image positions are not a class token and a square of patches."
        )
    image_size = grid * patch if unseen.image_size is None else unseen.image_size
    if image_size // patch != grid:
        raise UserError(
            f"{source}: the config beside it has {image_size} pixels, but the weights are those of {grid} × {grid} "
            f"patches of {patch} pixels."
        )
    if channels != 3:
        raise UserError(f"{source}: the image tower reads {channels} channels instead of 3.")
    vocabulary, text_width = shapes[text.embeddings["token_embedding"]]
    for heads, of_width, tower in (
        (unseen.image_heads, width, "image"),
        (unseen.text_heads, text_width, "text"),
    ):
        if heads < 1 or of_width % heads:
            raise UserError(
                f"{source}: {heads} heads do not divide the {tower} tower's width of {of_width}; give their "
                f"number with --{tower}-heads."
            )
    return ClipConfig(
        image=ImageTowerConfig(
            width=width,
            num_layers=layers[image.layer],
            num_heads=unseen.image_heads,
            patch_size=patch,
            activation=unseen.image_activation,
        ),
        text=TextTowerConfig(
            width=text_width,
            num_layers=layers[text.layer],
            num_heads=unseen.text_heads,
            max_tokens=shapes[text.embeddings["position_embedding"]][0],
            vocabulary_size=vocabulary,
            activation=unseen.text_activation,
        ),
        image_size=image_size,
        embed_dim=shapes[image.projection][1 if image.projection_as_ours else 0],
        end_token=unseen.end_token,
        resize=unseen.resize,
    )


def widths(shapes: Mapping[str, tuple[int, ...]], naming: Naming) -> tuple[int, int]:
    """Returns the widths (image, text); 0 where the tensor that reveals one is missing."""
    patch = shapes.get(naming.image.embeddings["patch_embedding"], (0,))
    words = shapes.get(naming.text.embeddings["token_embedding"], (0,))
    return (patch or (0,))[0], (words or (0,))[-1]


def to_params(
    tensors: Mapping[str, np.ndarray], config: ClipConfig, naming: Naming, source: str
) -> dict[str, Any]:
    """Converts their tensors to our tree (`Clip.params`), float32.

    Args:
      tensors: Arrays by their names, of any floating dtype.
      config: Sizes of the CLIP.
      naming: Of the tensors.
      source: The file, for messages.

    Raises:
      UserError: Tensors are missing, unexpected, of another shape or not finite; lists them.
    """
    table = list(_tensors(config, naming))
    kept = {name: array for name, array in tensors.items() if not re.fullmatch(naming.ignored, name)}
    if (scale := kept.get("logit_scale")) is not None and np.size(scale) == 1:  # in some files of shape [1]
        kept["logit_scale"] = np.reshape(scale, ())
    problems = differences(
        {name: array.shape for name, array in kept.items()}, {tensor.name: tensor.shape for tensor in table}
    )
    if problems:
        raise UserError(f"{source} is not the CLIP that its sizes suggest ({config.name}). {problems}.")
    broken = [name for name, array in kept.items() if not np.isfinite(array.astype(np.float32)).all()]
    if broken:
        raise UserError(f"{source} is damaged: numbers that are not finite in {', '.join(broken[:10])}.")
    ours = {path: np.empty(shape, np.float32) for path, shape in config.shapes().items()}
    for tensor in table:
        ours[tensor.path][tensor.place] = tensor.turn(kept[tensor.name].astype(np.float32))
    return traverse_util.unflatten_dict(ours)


def _tensors(config: ClipConfig, naming: Naming) -> Iterator[_Tensor]:
    """Yields every tensor of theirs."""
    image, text = config.image, config.text
    patches = (config.image_size // image.patch_size) ** 2
    names = naming.image.embeddings
    yield _plain(names["class_embedding"], (image.width,), ("image", "class_embedding"))
    yield _Tensor(
        names["patch_embedding"],
        (image.width, 3, image.patch_size, image.patch_size),
        ("image", "patch_embedding", "kernel"),
        (),
        lambda kernel: kernel.transpose(2, 3, 1, 0).reshape(-1, image.width),
    )
    position = (patches + 1, image.width)
    yield _plain(names["position_embedding"], position, ("image", "position_embedding"))
    names = naming.text.embeddings
    words = (text.vocabulary_size, text.width)
    yield _plain(names["token_embedding"], words, ("text", "token_embedding", "embedding"))
    position = (text.max_tokens, text.width)
    yield _plain(names["position_embedding"], position, ("text", "position_embedding"))
    for tower, sizes, theirs in (("image", image, naming.image), ("text", text, naming.text)):
        yield from _layers(tower, sizes, theirs, naming)
        for ours, name in theirs.norms.items():
            yield from _norm(name, sizes.width, (tower, ours))
        shape = (sizes.width, config.embed_dim)
        if theirs.projection_as_ours:
            yield _plain(theirs.projection, shape, (f"{tower}_projection",))
        else:
            yield _Tensor(theirs.projection, shape[::-1], (f"{tower}_projection",), (), np.transpose)
    yield _plain("logit_scale", (), ("logit_scale",))


def _layers(
    tower: str, config: ImageTowerConfig | TextTowerConfig, theirs: TowerNames, naming: Naming
) -> Iterator[_Tensor]:
    width, heads = config.width, config.num_heads
    split = (3, heads, width // heads)
    for row in range(config.num_layers):
        name = {ours: f"{theirs.layer.format(row)}.{part}" for ours, part in naming.block.items()}
        at, place = (tower, "transformer", "layers"), (row,)
        qkv = (*at, "attention", "qkv")
        if naming.qkv:
            for i, one in enumerate(naming.qkv):
                yield _Tensor(
                    f"{name['attention']}.{one}.weight",
                    (width, width),
                    (*qkv, "kernel"),
                    (row, slice(None), i),
                    lambda kernel: kernel.T.reshape(width, *split[1:]),
                )
                yield _Tensor(
                    f"{name['attention']}.{one}.bias",
                    (width,),
                    (*qkv, "bias"),
                    (row, i),
                    lambda bias: bias.reshape(split[1:]),
                )
        else:
            fused, of_fused = f"{name['attention']}.in_proj_weight", f"{name['attention']}.in_proj_bias"
            turn = lambda kernel: kernel.T.reshape(width, *split)
            yield _Tensor(fused, (3 * width, width), (*qkv, "kernel"), place, turn)
            yield _Tensor(of_fused, (3 * width,), (*qkv, "bias"), place, lambda bias: bias.reshape(split))
        turn = lambda kernel: kernel.T.reshape(*split[1:], width)
        yield from _linear(name["attention_out"], (width, width), (*at, "attention", "out"), place, turn)
        yield from _linear(name["mlp_in"], (width, 4 * width), (*at, "mlp_in"), place, np.transpose)
        yield from _linear(name["mlp_out"], (4 * width, width), (*at, "mlp_out"), place, np.transpose)
        for norm in ("attention_norm", "mlp_norm"):
            yield from _norm(name[norm], width, (*at, norm), place)


def _plain(name: str, shape: tuple[int, ...], path: tuple[str, ...], place: tuple = ()) -> _Tensor:
    return _Tensor(name, shape, path, place, lambda array: array)


def _linear(
    name: str,
    in_out: tuple[int, int],
    path: tuple[str, ...],
    place: tuple,
    turn: Callable[[np.ndarray], np.ndarray],
) -> Iterator[_Tensor]:
    yield _Tensor(f"{name}.weight", in_out[::-1], (*path, "kernel"), place, turn)
    yield _plain(f"{name}.bias", in_out[1:], (*path, "bias"), place)


def _norm(name: str, width: int, path: tuple[str, ...], place: tuple = ()) -> Iterator[_Tensor]:
    yield _plain(f"{name}.weight", (width,), (*path, "scale"), place)
    yield _plain(f"{name}.bias", (width,), (*path, "bias"), place)


def _num_layers(names: Mapping[str, Any], layer: str) -> int:
    pattern = re.compile(re.escape(layer).replace(r"\{\}", r"(\d+)") + r"\.")
    highest = max((int(match[1]) + 1 for name in names if (match := pattern.match(name))), default=0)
    return min(highest, len(names))  # a damaged name must not ask for millions


def _below(prefix: str, names: TowerNames) -> TowerNames:
    return TowerNames(
        embeddings={ours: prefix + name for ours, name in names.embeddings.items()},
        norms={ours: prefix + name for ours, name in names.norms.items()},
        layer=prefix + names.layer,
        projection=prefix + names.projection,
        projection_as_ours=names.projection_as_ours,
    )
