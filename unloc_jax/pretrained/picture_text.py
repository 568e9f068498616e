"""Reads families of picture–text models by their descriptions: every size comes from the shapes of the tensors.

`siglip.py` and `pe_core.py` describe one each.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from unloc_jax.config import Activation, ImageTowerConfig, TextTowerConfig
from unloc_jax.errors import UserError
from unloc_jax.model.picture_text import PictureText, PictureTextConfig
from unloc_jax.model.tower_form import ImageForm, TextForm
from unloc_jax.pretrained.clip_files import Files, is_hub_id, read_npz
from unloc_jax.pretrained.clip_model import differences, listed
from unloc_jax.pretrained.clip_pixels import Pixels
from unloc_jax.pretrained.tensor_map import Map, Shape, their_shapes, to_params
from unloc_jax.text_reader import TextReader

_HEAD_WIDTH = 64  # where nothing tells another
_SHARES = ("logit_scale", "logit_bias")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one program stores a family's tensors.

    Attributes:
      names: Of every tensor, by our path in `PictureTextWeights.params`.
      prepare: Changes tensors before they are looked up by these names.
      ignored: Pattern of buffers that are not parameters.
    """

    names: Map
    prepare: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda tensors: tensors
    ignored: str = ""

    def has(self, part: str) -> bool:
        """Returns whether there are tensors of a part of the model: "text", "image_projection"."""
        return any(path == part or path.startswith(f"{part}/") for path in self.names)


@dataclasses.dataclass(frozen=True)
class Unseen:
    """What no tensor's shape shows; None = as in the published models.

    Attributes:
      image_heads, text_heads: Numbers of attention heads.
      pooler_heads: Of the attention pooler.
      image_size: See `PictureTextConfig`; None = exactly the pixels of the patches.
      rotary_grid: See `ImageForm`.
      pixels: How a picture is resized and normalised.
    """

    image_heads: int | None = None
    text_heads: int | None = None
    pooler_heads: int | None = None
    image_size: int | None = None
    rotary_grid: int | None = None
    pixels: Pixels | None = None

    def over(self, others: "Unseen") -> "Unseen":
        """Returns these, and where they are None the others."""
        ours = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(others, **ours)


@dataclasses.dataclass(frozen=True)
class PictureTextFamily:
    """What a family of picture–text models is.

    Attributes:
      title: In messages.
      kind: Prefix of a source.
      image_form, text_form: Of the towers; sizes in them are taken from the weights.
      class_token: The image tower has one.
      activation: Of both towers and of the pooler.
      pixels: How the published models see pictures, where no file beside the weights tells it.
      layouts: Programs' ways to store the tensors.
      safetensors, torch: Names of the files of weights in a folder or repository.
      beside: What the files beside the weights tell, given these files, the source for messages, and whether the
        weights are an .npz.
      text_reader: Opens what reads texts, given a vocabulary's file (None = there is none), size of the vocabulary,
        most tokens, and the weights' origin for messages.
      vocabulary: Name of that file in a folder or repository; "" = the family brings its own.
      sizes: Names of the published models by width, layers and patch size of the image tower.
      advice: What to give instead, for messages.
      heads: Numbers of attention heads by width, where it is not width / 64.
      pooler_heads: Of the attention pooler; 0 = as many as the image tower.
      rotary: The image tower has rotary positions.
      rotary_grids: `ImageForm.rotary_grid` by width of the image tower; others count on their own grid.
    """

    title: str
    kind: str
    image_form: ImageForm
    text_form: TextForm
    class_token: bool
    activation: Activation
    pixels: Pixels
    layouts: tuple[Layout, ...]
    safetensors: str
    torch: str
    beside: Callable[[Files, str, bool], Unseen]
    text_reader: Callable[[Path | None, int, int, str], TextReader]
    vocabulary: str
    sizes: Mapping[tuple[int, int, int], str]
    advice: str
    heads: Mapping[int, int] = dataclasses.field(default_factory=dict)
    pooler_heads: int = 0
    rotary: bool = False
    rotary_grids: Mapping[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PictureTextWeights:
    """A picture–text model in memory.

    Attributes:
      family: Its family.
      config: Its sizes and form.
      params: Tree of float32 arrays, the parameters of `PictureText`; in models with texts also `logit_scale` [], the
        logarithm of the scale, and with `config.logit_bias` also `logit_bias` [].
      source: Its origin, as text.
      vocabulary: The file of its texts' vocabulary, if there is one.
    """

    family: PictureTextFamily
    config: PictureTextConfig
    params: dict[str, Any]
    source: str
    vocabulary: Path | None = None

    @property
    def name(self) -> str:
        """A name such as "SigLIP 2 B/16@256", or the sizes of a model that is not published."""
        image = self.config.image
        size = self.family.sizes.get((image.width, image.num_layers, image.patch_size))
        size = size or f"of {image.num_layers} layers × {image.width}, patches of {image.patch_size}"
        return f"{self.family.title} {size}@{self.config.image_size}"

    def text_reader(self) -> TextReader:
        """Opens what reads texts.

        Raises:
          UserError: The model has no text tower, or the vocabulary is missing or unfit.
        """
        text = self.config.text
        if text is None:
            raise UserError(
                f"{self.source}: these weights are the image tower alone, which reads no texts. {self.family.advice}"
            )
        return self.family.text_reader(self.vocabulary, text.vocabulary_size, text.max_tokens, self.source)


def read_picture_text(
    family: PictureTextFamily, source: str, unseen: Unseen | None = None, vocabulary: str | None = None
) -> PictureTextWeights:
    """Reads a picture–text model.

    Args:
      family: Which one.
      source: A file of weights, a folder that holds one, or an id of the Hugging Face hub, optionally with "@revision".
      unseen: What the weights do not show, if it is not as the files beside them tell.
      vocabulary: The file of its texts' vocabulary, or a folder or an id of the hub that holds it; None = beside the
        weights.

    Raises:
      UserError: There is nothing, a file is damaged, or tensors are missing, unexpected or of another shape.
    """
    files, npz = _files(family, source)
    told = (unseen or Unseen()).over(
        family.beside(files, source, npz is not None)
    )  # before gigabytes are read
    tensors = read_npz(npz) if npz else files.tensors(family.safetensors, family.torch)
    layout, tensors = _layout(family, tensors, source)
    kept = {
        name: np.reshape(x, ()) if np.size(x) == 1 and _is_share(name, layout) else x
        for name, x in tensors.items()
        if not re.fullmatch(layout.ignored, name)
    }
    their = {name: tuple(array.shape) for name, array in kept.items()}
    config = _config(family, layout, their, told, source)
    shapes = parameter_shapes(config)
    if wrong := differences(their, their_shapes(shapes, layout.names)):
        raise UserError(f"{source} is not the {family.title} that its sizes suggest. {wrong}.")
    broken = [name for name, array in kept.items() if not np.isfinite(array.astype(np.float32)).all()]
    if broken:
        raise UserError(f"{source} is damaged: numbers that are {listed({'not finite': broken})}.")
    file = _vocabulary(family, files, vocabulary)
    return PictureTextWeights(family, config, to_params(kept, shapes, layout.names), source, file)


@functools.lru_cache(maxsize=4)
def parameter_shapes(config: PictureTextConfig) -> Mapping[str, Shape]:
    """Returns the shape of every parameter of a model, by its path joined by "/"."""
    inputs = [jnp.zeros((1, config.image_size, config.image_size, 3), jnp.uint8)]
    if config.text is not None:
        inputs.append(jnp.zeros((1, config.text.max_tokens), jnp.int32))
    made = jax.eval_shape(functools.partial(PictureText(config).init, jax.random.key(0)), *inputs)["params"]
    shapes = {path: array.shape for path, array in traverse_util.flatten_dict(made, sep="/").items()}
    if config.text is not None:
        shapes["logit_scale"] = ()
    return shapes | ({"logit_bias": ()} if config.logit_bias else {})


def _files(family: PictureTextFamily, source: str) -> tuple[Files, Path | None]:
    """Returns the files of a source, and the .npz of its weights if that is what it has."""
    path = Path(source)
    if not (path.exists() or is_hub_id(source)):
        raise UserError(
            f"{family.kind}:{source}: there is no such file or folder, and it is not an id of the Hugging Face hub. "
            f"{family.advice}"
        )
    files = Files(source, family.kind)
    if path.suffix == ".npz":
        return files, path
    if path.is_dir() and not any(path.glob("*.safetensors*")) and not (path / family.torch).exists():
        found = sorted(path.glob("*.npz"))
        if len(found) == 1:
            return files, found[0]
        if found:
            names = ", ".join(file.name for file in found)
            raise UserError(f"{family.kind}:{source}: the folder holds several .npz: {names}. Name one.")
    return files, None


def _layout(
    family: PictureTextFamily, tensors: dict[str, np.ndarray], source: str
) -> tuple[Layout, dict[str, np.ndarray]]:
    """Returns the layout most of whose tensors are there, and the tensors by its names."""
    best, most = None, 0
    for layout in family.layouts:
        prepared = layout.prepare(tensors)
        wanted = [of.name.format(0) for ofs in layout.names.values() for of in ofs]
        count = sum(name in prepared for name in wanted)
        if count > most:
            best, most = (layout, prepared), count
    if best is None:
        raise UserError(
            f"{source} holds no {family.title}: none of its {len(tensors)} tensors has a known name, such as "
            f"{next(iter(family.layouts[0].names.values()))[0].name}. {family.advice}"
        )
    return best


def _is_share(name: str, layout: Layout) -> bool:
    """Returns whether a tensor is a single number, which some files store with axes of length 1."""
    return any(name == of.name for path in _SHARES for of in layout.names.get(path, ()))


def _config(
    family: PictureTextFamily, layout: Layout, shapes: Mapping[str, Shape], told: Unseen, source: str
) -> PictureTextConfig:
    """Derives the sizes of a model from the shapes of its tensors."""
    with_text, projects = layout.has("text"), layout.has("image_projection")
    paths = [
        "image/patch_embedding/kernel",
        "image/position_embedding",
        _LAYER_MLP,
        "image/pooler/mlp_in/kernel",
    ]
    paths += ["image_projection/kernel"] * projects
    if with_text:
        paths += [
            "text/token_embedding/embedding",
            "text/position_embedding",
            _TEXT_MLP,
            "text_projection/kernel",
        ]
    tensors = {path: layout.names[path][0] for path in paths}
    names = {path: of.name.format(0) for path, of in tensors.items()}
    problems = {
        "missing": [name for name in names.values() if name not in shapes],
        "of another shape": [
            f"{name} {shapes[name]} instead of {tensors[path].turn.rank} axes"
            for path, name in names.items()
            if name in shapes and (len(shapes[name]) != tensors[path].turn.rank or 0 in shapes[name])
        ],
    }
    if found := listed(problems):
        raise UserError(f"{source} is not a whole {family.title}. {found}. {family.advice}")
    size = {path: of.turn.our_shape(shapes[names[path]]) for path, of in tensors.items()}

    pixels, width = size["image/patch_embedding/kernel"]
    patch = math.isqrt(pixels // 3)
    positions = size["image/position_embedding"][0] - family.class_token
    grid = math.isqrt(max(positions, 0))
    if not grid or grid**2 != positions or not patch:
        token = "a class token and " if family.class_token else ""
        raise UserError(
            f"{source}: {positions + family.class_token} image positions are not {token}a square of patches."
        )
    image_size = told.image_size or grid * patch
    if image_size // patch != grid:
        raise UserError(
            f"{source}: the config beside it has {image_size} pixels, but the weights are those of {grid} × {grid} "
            f"patches of {patch} pixels."
        )
    image_heads = _heads(family, layout, shapes, "image", width, told.image_heads, source)
    pooler_heads = told.pooler_heads or family.pooler_heads or image_heads
    if width % pooler_heads:
        raise UserError(f"{source}: {pooler_heads} heads do not divide the pooler's width of {width}.")
    rotary_grid = 0
    if family.rotary:
        rotary_grid = told.rotary_grid or family.rotary_grids.get(width, grid)
        if width // image_heads % 4:
            raise UserError(
                f"{source}: heads of {width // image_heads} numbers; rotary positions need whole fours."
            )
    text = None
    if with_text:
        vocabulary, text_width = size["text/token_embedding/embedding"]
        text = TextTowerConfig(
            width=text_width,
            num_layers=_num_layers(shapes, tensors[_TEXT_MLP].name),
            num_heads=_heads(family, layout, shapes, "text", text_width, told.text_heads, source),
            max_tokens=size["text/position_embedding"][0],
            vocabulary_size=vocabulary,
            activation=family.activation,
        )
    seen = told.pixels or family.pixels
    return PictureTextConfig(
        image=ImageTowerConfig(
            width=width,
            num_layers=_num_layers(shapes, tensors[_LAYER_MLP].name),
            num_heads=image_heads,
            patch_size=patch,
            pooling="token" if family.class_token else "mean",
            activation=family.activation,
        ),
        image_form=dataclasses.replace(
            family.image_form,
            mean=seen.mean,
            std=seen.std,
            mlp_dim=size[_LAYER_MLP][1],
            rotary_grid=rotary_grid,
            pooler_heads=pooler_heads,
            pooler_mlp_dim=size["image/pooler/mlp_in/kernel"][1],
        ),
        text=text,
        text_form=dataclasses.replace(family.text_form, mlp_dim=size[_TEXT_MLP][1] if with_text else 0),
        image_size=image_size,
        embed_dim=size["image_projection/kernel"][1] if projects else width,
        image_projection=projects,
        text_projection_bias="text_projection/bias" in layout.names,
        logit_bias=layout.has("logit_bias"),
        resize=seen.resize,
        resample=seen.resample,
    )


_LAYER_MLP = "image/transformer/layers/mlp_in/kernel"
_TEXT_MLP = "text/transformer/layers/mlp_in/kernel"


def _heads(
    family: PictureTextFamily,
    layout: Layout,
    shapes: Mapping[str, Shape],
    tower: str,
    width: int,
    told: int | None,
    source: str,
) -> int:
    """Returns the number of attention heads of a tower: what a shape shows, a file tells, or published models have."""
    query = shapes.get(layout.names[f"{tower}/transformer/layers/attention/qkv/kernel"][0].name.format(0), ())
    heads = query[1] if len(query) == 3 else told or family.heads.get(width) or width // _HEAD_WIDTH
    if heads < 1 or width % heads:
        raise UserError(
            f"{source}: {heads} heads do not divide the {tower} tower's width of {width}: the settings beside the "
            "weights are another model's, or missing."
        )
    return heads


def _num_layers(names: Mapping[str, Any], name: str) -> int:
    """Counts the layers without a gap from 0 on; any beyond a gap is told as unexpected."""
    count = 0
    while name.format(count) in names:
        count += 1
    return count


def _vocabulary(family: PictureTextFamily, files: Files, given: str | None) -> Path | None:
    if not family.vocabulary:
        if given is not None:
            raise UserError(f"--tokenizer={given}: {family.title} brings its own vocabulary. Leave it out.")
        return None
    return vocabulary_file(family.kind, family.vocabulary, files, given)


def vocabulary_file(kind: str, name: str, files: Files, given: str | None) -> Path | None:
    """Finds the file of a vocabulary.

    Args:
      kind: Prefix of the source, for messages.
      name: Of the file in a folder or repository.
      files: Those of the weights.
      given: The file, or a folder or an id of the hub that holds it; None = beside the weights, if it is there.

    Raises:
      UserError: There is none where it was said to be.
    """
    if given is None:
        return files.find(name)
    path = Path(given)
    if path.is_file():
        return path
    if path.is_dir() or is_hub_id(given):
        found = Files(given, kind).find(name, needed=True)
        if found is not None:
            return found
    raise UserError(
        f"--tokenizer={given}: there is no such file, nor a folder or repository of the Hugging Face hub with a {name}."
    )
