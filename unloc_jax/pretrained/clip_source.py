"""Reads the CLIPs of other programs: their files, and what their configs say that the weights do not.

torch is needed for PyTorch's own files only.
"""

import collections
import dataclasses
import importlib
import json
import mmap
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.model.clip import PIXEL_MEAN, PIXEL_STD
from unloc_jax.pretrained import clip_names
from unloc_jax.pretrained.clip_model import SETTINGS_FILE, Clip, load_clip, read_safetensors
from unloc_jax.text import END_TOKEN

KINDS = ("hf-clip", "openai-clip", "open-clip", "scenic-clip")
# What others call activations, by the names of config.model.image.activation. PyTorch's GELU is the exact one.
_ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu_exact",
    "gelu_exact": "gelu_exact",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
}
_HEAD_WIDTH = 64  # of every attention in OpenAI's and, unless its config says otherwise, open_clip's models
_OLD_END_TOKEN = 2
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_HUB_ADVICE = "Download it where there is a network, or give a local folder that holds the model."
_LONGEST_REASON = 200  # characters
# A pickle may name any function; these are the ones that arrays need.
_PICKLED = {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("collections", "OrderedDict")}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user says about a model whose files do not say it; None = not said.

    Attributes:
      activation: of both towers: "quick_gelu" (all of OpenAI's), or "gelu" (most of open_clip's).
      image_heads, text_heads: of the attentions.
    """

    activation: str | None = None
    image_heads: int | None = None
    text_heads: int | None = None


@dataclasses.dataclass(frozen=True)
class _Found:
    """Tensors, and what the config beside them says.

    Attributes:
      tensors: by name.
      image_heads, text_heads: None = the width / 64.
      image_activation, text_activation: None = nothing says it.
      end_token: see `ClipConfig`.
    """

    tensors: dict[str, np.ndarray]
    image_heads: int | None = None
    text_heads: int | None = None
    image_activation: str | None = None
    text_activation: str | None = None
    end_token: int | None = None


def split_source(text: str) -> tuple[str, str] | None:
    """ "hf-clip:SRC" → ("hf-clip", "SRC"); None for anything else."""
    kind, separator, source = text.partition(":")
    return (kind, source) if separator and kind in KINDS else None


def read_any_clip(source: str) -> Clip:
    """A CLIP from "KIND:SRC" as in `read_clip`, or from a folder that `unloc import` wrote.

    Raises:
      UserError: nothing there that could be read.
    """
    if parts := split_source(source):
        return read_clip(*parts)
    if (Path(source) / SETTINGS_FILE).is_file():
        return load_clip(Path(source))
    raise UserError(
        f"{source} is no CLIP: give a folder that `unloc import --from hf-clip` wrote, or KIND:SRC with KIND "
        f"one of {', '.join(KINDS)}."
    )


def read_clip(kind: str, source: str, options: Options | None = None) -> Clip:
    """Reads a CLIP.

    Args:
      kind: one of `KINDS`.
      source: "hf-clip": a folder with config.json and model.safetensors (or its shards with an index), the file
        itself, or an id of the Hugging Face hub, with "@revision" if wanted. "open-clip": likewise with
        open_clip_config.json and open_clip_model.safetensors; a .safetensors file by itself needs
        `options.activation`. "openai-clip": a .pt file. "scenic-clip": an .npy file.
      options: for what the files do not say.

    Raises:
      UserError: nothing there, a damaged file, something that is no CLIP with a vision transformer, or settings
        that our towers cannot express.
    """
    options = options or Options()
    found = _READERS[kind](source)
    naming = clip_names.naming_of(found.tensors, kind, source)
    shapes = {name: tuple(np.shape(array)) for name, array in found.tensors.items()}
    image_width, text_width = clip_names.widths(shapes, naming)
    said = None
    if options.activation is not None:
        said = _activation(options.activation, "--activation")
    image_activation, text_activation = said or found.image_activation, said or found.text_activation
    if image_activation is None or text_activation is None:
        raise UserError(
            f"{source}: nothing beside it says which activation it has. Give --activation=quick_gelu (OpenAI's "
            "models and those named “-quickgelu”) or --activation=gelu (open_clip's others)."
        )
    unseen = clip_names.Unseen(
        options.image_heads or found.image_heads or image_width // _HEAD_WIDTH,
        options.text_heads or found.text_heads or text_width // _HEAD_WIDTH,
        image_activation,
        text_activation,
        found.end_token,
    )
    config = clip_names.recognize(shapes, naming, unseen, source)
    return Clip(config, clip_names.to_params(found.tensors, config, naming, source), f"{kind} {source}")


# --- Hugging Face -------------------------------------------------------------------------------------------------


def _read_hugging_face(source: str) -> _Found:
    files = _Files(source, "hf-clip")
    config_file = files.find("config.json")
    if config_file is None:
        raise UserError(
            f"{source} has no config.json, which says what the weights do not: heads and activation."
        )
    config = _read_json(config_file)
    if config.get("model_type", "clip") != "clip":
        raise UserError(f'{config_file}: model_type is {config["model_type"]!r}; only "clip" is supported.')
    towers = {}
    # What transformers assumes where a config is silent.
    for tower, heads in (("vision_config", 12), ("text_config", 8)):
        group = _group(config, tower, config_file) or _group(config, f"{tower}_dict", config_file)
        epsilon = group.get("layer_norm_eps", 1e-5)
        if epsilon != 1e-5:
            raise UserError(f"{config_file}: {tower}.layer_norm_eps is {epsilon}; CLIP's is 1e-05.")
        activation = group.get("hidden_act", "quick_gelu")
        number = group.get("num_attention_heads", heads)
        towers[tower] = (
            _whole(number, f"{config_file}: {tower}.num_attention_heads"),
            _activation(activation, f"{config_file}: {tower}.hidden_act"),
        )
    preprocessor = files.find("preprocessor_config.json")
    if preprocessor is not None:
        settings = _read_json(preprocessor)
        _check_normalization(settings.get("image_mean"), settings.get("image_std"), preprocessor)
    (image_heads, image_activation), (text_heads, text_activation) = (
        towers["vision_config"],
        towers["text_config"],
    )
    tensors = files.tensors("model.safetensors", "pytorch_model.bin")
    return _Found(
        tensors, image_heads, text_heads, image_activation, text_activation, _end_token(config, config_file)
    )


def _end_token(config: Mapping[str, Any], file: Path) -> int | None:
    """What transformers' CLIPTextTransformer looks for; it takes the 2 of old configs for a mistake."""
    end = _group(config, "text_config", file).get("eos_token_id", END_TOKEN)
    if not isinstance(end, int):
        raise UserError(f"{file}: text_config.eos_token_id is {end!r} instead of a number.")
    return None if end == _OLD_END_TOKEN else end


# --- open_clip ----------------------------------------------------------------------------------------------------


def _read_open_clip(source: str) -> _Found:
    files = _Files(source, "open-clip")
    config_file = files.find("open_clip_config.json")
    if config_file is None:
        return _Found(files.tensors("open_clip_model.safetensors", "open_clip_pytorch_model.bin"))
    config = _read_json(config_file)
    model = _group(config, "model_cfg", config_file) or config
    preprocess = _group(config, "preprocess_cfg", config_file)
    _check_normalization(preprocess.get("mean"), preprocess.get("std"), config_file)
    towers = {}
    # Settings that change what is computed and that no tensor betrays; the values are those of CLIP.
    plain = {
        "vision_cfg": {"timm_model_name": "", "pool_type": "tok", "global_average_pool": False},
        "text_cfg": {"hf_model_name": "", "pool_type": "argmax", "no_causal_mask": False, "embed_cls": False},
    }
    for tower, expected in plain.items():
        group = _group(model, tower, config_file)
        for key, value in expected.items():
            if (group.get(key) or value) != value:
                raise UserError(f"{config_file}: {tower}.{key} is {group[key]!r}, which no CLIP tower has.")
        epsilon = _group(group, "norm_kwargs", config_file).get("eps", 1e-5)
        if epsilon != 1e-5:
            raise UserError(f"{config_file}: {tower}.norm_kwargs.eps is {epsilon}; CLIP's is 1e-05.")
        activation = "quick_gelu" if model.get("quick_gelu") else "gelu_exact"
        if _group(group, "act_kwargs", config_file).get("approximate") == "tanh":
            activation = "gelu"
        towers[tower] = (group, activation)
    (vision, image_activation), (text, text_activation) = towers["vision_cfg"], towers["text_cfg"]
    image_heads = text_heads = None
    if vision.get("head_width"):
        head_width = _whole(vision["head_width"], f"{config_file}: vision_cfg.head_width")
        image_heads = _whole(vision.get("width", 768), f"{config_file}: vision_cfg.width") // head_width
    # open_clip's own defaults are not width / 64 for text.
    text_heads = _whole(text.get("heads", 8), f"{config_file}: text_cfg.heads")
    tensors = files.tensors("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return _Found(tensors, image_heads, text_heads, image_activation, text_activation)


# --- OpenAI and Scenic --------------------------------------------------------------------------------------------


def _read_openai(source: str) -> _Found:
    file = Path(source)
    _need_file(file, "openai-clip", "a .pt file such as ViT-B-32.pt")
    return _Found(_read_torch(file), image_activation="quick_gelu", text_activation="quick_gelu")


def _read_scenic(source: str) -> _Found:
    file = Path(source)
    _need_file(file, "scenic-clip", "an .npy file that Scenic's load_model_vars wrote")
    try:
        # Mapped, a length that a damaged file claims reads no further than its end.
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            version = np.lib.format.read_magic(stream)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            shape, _, dtype = header[version](stream)
            if shape != () or not dtype.hasobject:
                raise UserError(
                    f"{file} holds an array {shape} of {dtype} instead of a dictionary of arrays."
                )
            stored: Any = _ArrayUnpickler(stream).load()
        if isinstance(stored, np.ndarray):
            stored = stored.item()
        if not isinstance(stored, Mapping):
            raise UserError(f"{file} holds a {type(stored).__name__} instead of a dictionary of arrays.")
        tensors = {str(name): np.asarray(array) for name, array in stored.items()}
    except UserError:
        raise
    except Exception as error:  # foreign bytes raise anything
        raise UserError(
            f"{file} is damaged or no .npy of Scenic's ({_reason(error)}). Get it again."
        ) from error
    strange = [name for name, array in tensors.items() if array.dtype.kind not in "fiub"]
    if strange:
        raise UserError(f"{file}: {strange[0]} is no array of numbers.")
    return _Found(tensors, image_activation="quick_gelu", text_activation="quick_gelu")


class _ArrayUnpickler(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Arrays and dictionaries only: a pickle from elsewhere could run any program.

    The one in Python, because that in C makes a table as long as a damaged file asks for, of any number of gigabytes.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) not in _PICKLED:
            raise UserError(
                f"the file asks for {module}.{name}, which no dictionary of arrays needs: not opened."
            )
        return getattr(importlib.import_module(module.replace("numpy.core", "numpy._core")), name)


_READERS: dict[str, Callable[[str], _Found]] = {
    "hf-clip": _read_hugging_face,
    "openai-clip": _read_openai,
    "open-clip": _read_open_clip,
    "scenic-clip": _read_scenic,
}


# --- files --------------------------------------------------------------------------------------------------------


class _Files:
    """The files of one model: of a local folder (or the folder of a file), or of a repository of the hub.

    Args:
      source: see `read_clip`.
      kind: for messages.
    """

    def __init__(self, source: str, kind: str):
        self._source = source
        self._weights: Path | None = None
        self._folder: Path | None = None
        path = Path(source)
        if path.is_dir():
            self._folder = path
        elif path.is_file():
            self._folder, self._weights = path.parent, path
        elif not _HUB_ID.fullmatch(source.removeprefix("hf-hub:")):
            raise UserError(
                f"--from {kind}: {source} is no file, no folder and no id of the Hugging Face hub."
            )
        self._repository, _, self._revision = source.removeprefix("hf-hub:").partition("@")

    def find(self, name: str) -> Path | None:
        """The file of this name, None if there is none."""
        if self._folder is None:
            return _from_hub(self._source, self._repository, self._revision or None, name)
        file = self._folder / name
        return file if file.is_file() else None

    def tensors(self, safetensors: str, torch: str) -> dict[str, np.ndarray]:
        """All tensors, from a safetensors file, its shards, or a file of PyTorch, whichever is there first."""
        names = dict.fromkeys((safetensors, "model.safetensors"))
        file = self._weights or next((found for name in names if (found := self.find(name))), None)
        if file is not None and file.name.endswith(".index.json"):
            return self._shards(file)
        if file is not None and file.suffix != ".safetensors":
            return _read_torch(file)
        if file is not None:
            return read_safetensors(file)
        if index := self.find(f"{safetensors}.index.json"):
            return self._shards(index)
        if old := self.find(torch):
            return _read_torch(old)
        where = (
            "" if self._folder else " (offline: its cache may lack what the hub has)" if _offline() else ""
        )
        raise UserError(f"{self._source} holds none of {', '.join(names)}, {torch}{where}.")

    def _shards(self, index: Path) -> dict[str, np.ndarray]:
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise UserError(f"{index} has no weight_map of tensors and files. Get it again.")
        tensors: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(weight_map.values()):
            file = self.find(name) if Path(name).name == name else None
            if file is None:
                raise UserError(f"{index} names the file {name}, which is missing. Get it again.")
            tensors |= read_safetensors(file)
        lost = [name for name in weight_map if name not in tensors]
        if lost:
            raise UserError(
                f"{index} names tensors that its files lack: {', '.join(lost[:10])}. Get it again."
            )
        return tensors


def _from_hub(source: str, repository: str, revision: str | None, name: str) -> Path | None:
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        return Path(hub.hf_hub_download(repository, name, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        # The cache does not know which files a repository has, so a config must be there and the rest may be.
        if _offline() and not name.endswith("config.json"):
            return None
        if name == "preprocessor_config.json":
            return None
        why = "HF_HUB_OFFLINE is set" if _offline() else "the hub cannot be reached"
        raise UserError(
            f"{source} is no local file or folder; {why}, and its cache lacks {name} of {repository}. {_HUB_ADVICE}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{source} is no local file or folder, and the Hugging Face hub has no public model {repository} (a "
            "private or gated one needs `hf auth login`)."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{source}: the model {repository} has no revision {revision}.") from error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # of its network library, which changes between versions
        raise UserError(
            f"{source} is no local file or folder, and asking the Hugging Face hub for {name} failed "
            f"({_reason(error)}). {_HUB_ADVICE}"
        ) from error


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _read_torch(file: Path) -> dict[str, np.ndarray]:
    """A TorchScript archive, or a dictionary of tensors that torch.save wrote."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError(
            f"{file} is a file of PyTorch's: to read it torch is needed: pip install 'unloc_jax[torch]'"
        ) from error
    try:
        try:
            stored = torch.jit.load(str(file), map_location="cpu").state_dict()
        except RuntimeError:  # no TorchScript
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes raise anything
        raise UserError(
            f"{file} is damaged or no file of PyTorch's ({_reason(error)}). Get it again."
        ) from error
    if isinstance(stored, Mapping) and isinstance(stored.get("state_dict"), Mapping):
        stored = stored["state_dict"]
    if not isinstance(stored, Mapping) or not all(isinstance(x, torch.Tensor) for x in stored.values()):
        raise UserError(f"{file} holds no dictionary of tensors.")
    return {
        str(name).removeprefix("module."): (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in stored.items()
    }


def _need_file(file: Path, kind: str, what: str) -> None:
    if not file.is_file():
        raise UserError(f"--from {kind}: {file} is no file. Give {what}.")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no JSON ({_reason(error)}). Get it again.") from error
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings. Get it again.")
    return settings


def _group(settings: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """A group of settings; {} if it is not there."""
    group = settings.get(name) or {}
    if not isinstance(group, dict):
        raise UserError(f"{file}: {name} is {group!r} instead of a group of settings.")
    return group


def _activation(name: Any, where: str) -> str:
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise UserError(f"{where} is {name!r}; known are {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]


def _whole(number: Any, where: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise UserError(f"{where} is {number!r} instead of a whole number above 0.")
    return number


def _check_normalization(mean: Any, std: Any, file: Path) -> None:
    """The towers normalize pixels as CLIP does."""
    for name, values, ours in (("mean", mean, PIXEL_MEAN), ("std", std, PIXEL_STD)):
        try:
            same = values is None or bool(np.allclose(values, ours, atol=1e-4))
        except (TypeError, ValueError):  # no three numbers
            same = False
        if not same:
            raise UserError(
                f"{file}: the pixels' {name} is {values}; only CLIP's, {list(ours)}, is supported."
            )


def _reason(error: Exception) -> str:
    """The first line of a message."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "…"
