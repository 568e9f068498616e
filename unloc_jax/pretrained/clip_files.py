"""Reads the files of other programs' models: folders, the Hugging Face hub, safetensors, PyTorch and NumPy.

torch is needed for PyTorch's files only.
"""

import math
import mmap
import re
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.pretrained.clip_model import listed, read_safetensors
from unloc_jax.pretrained.pickled_arrays import read_pickled_arrays

# A revision is a branch, tag, commit or refs/pr/N; it becomes part of a path in the cache, so no "..".
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9][\w-]*([./][\w-]+)*)?")
_HUB_ADVICE = "Download it where there is a network, or give a local folder that holds the model."
_PATIENCE_S = 60.0
_LONGEST_REASON = 200  # characters


def is_hub_id(source: str) -> bool:
    """Returns whether `source` has the form of a hub id: ORG/NAME, optionally with @REVISION."""
    return bool(_HUB_ID.fullmatch(source))


class Files:
    """The files of one model, in a local folder (or the folder of a given file) or a repository of the hub.

    Args:
      source: See `read_clip`.
      kind: For messages.

    Raises:
      UserError: The source is neither a file or folder nor a hub id.
    """

    # Every request to an unreachable hub waits and retries, so for a while only the cache is used.
    _ask_again_s = -math.inf  # of time.monotonic()

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
                f"--from {kind}: {source} is neither a file nor a folder nor an id of the Hugging Face hub."
            )
        self._repository, _, self._revision = source.removeprefix("hf-hub:").partition("@")

    def find(self, name: str, *, needed: bool = False) -> Path | None:
        """Returns the file of this name, or None if there is none.

        Raises:
          UserError: The hub has no such repository, or it is offline and its cache lacks a file that is `needed`.
        """
        if self._folder is None:
            return self._from_hub(name, needed)
        file = self._folder / name
        return file if file.is_file() else None

    def tensors(self, safetensors: str, torch: str) -> dict[str, np.ndarray]:
        """Returns all tensors by name, from a safetensors file, its shards or a PyTorch file, whichever is found first.

        Raises:
          UserError: There is none of them, or it is damaged.
        """
        names = dict.fromkeys((safetensors, "model.safetensors"))
        file = self._weights or next((found for name in names if (found := self.find(name))), None)
        if file is not None and file.name.endswith(".index.json"):
            return self._shards(file)
        if file is not None and file.suffix != ".safetensors":
            return read_torch(file)
        if file is not None:
            return read_safetensors(file)
        if index := self.find(f"{safetensors}.index.json"):
            return self._shards(index)
        if old := self.find(torch):
            return read_torch(old)
        where = "" if self._folder else " (offline, the cache may lack what the hub has)"
        raise UserError(f"{self._source} holds none of {', '.join(names)}, {torch}{where}.")

    def _shards(self, index: Path) -> dict[str, np.ndarray]:
        """Returns all tensors of the shards that an index lists, by name."""
        weight_map = read_json(index).get("weight_map")
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

    def _from_hub(self, name: str, needed: bool) -> Path | None:
        import huggingface_hub as hub
        from huggingface_hub import errors

        source, repository, revision = self._source, self._repository, self._revision or None
        cached_only = time.monotonic() < Files._ask_again_s
        try:
            return Path(
                hub.hf_hub_download(repository, name, revision=revision, local_files_only=cached_only)
            )
        except errors.LocalEntryNotFoundError as error:
            if not cached_only:
                Files._ask_again_s = time.monotonic() + _PATIENCE_S
            # The cache does not list the files of a repository.
            if not needed:
                return None
            why = "HF_HUB_OFFLINE is set" if hub.constants.HF_HUB_OFFLINE else "the hub cannot be reached"
            raise UserError(
                f"{source} is not a local file or folder; {why}, and its cache lacks {name} of {repository}. "
                f"{_HUB_ADVICE}"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise UserError(
                f"{source} is not a local file or folder, and the Hugging Face hub has no public model {repository} (a "
                "private or gated one needs `hf auth login`)."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise UserError(f"{source}: the model {repository} has no revision {revision}.") from error
        except errors.EntryNotFoundError:
            return None
        except Exception as error:  # raised by its network library, which differs between versions
            raise UserError(
                f"{source} is not a local file or folder, and asking the Hugging Face hub for {name} failed "
                f"({_reason(error)}). {_HUB_ADVICE}"
            ) from error


def read_torch(file: Path, torchscript: bool = False) -> dict[str, np.ndarray]:
    """Reads the tensors of a dictionary that torch.save wrote, by name.

    Args:
      file: The file.
      torchscript: It may be a TorchScript archive, as OpenAI's are. That is a program, parts of which PyTorch's
        interpreter runs while it loads the archive.

    Returns:
      Arrays by name; floating ones become float32, others keep their dtype.

    Raises:
      UserError: torch is not installed, or the file is damaged or not a dictionary of tensors.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError(
            f"{file} is a file of PyTorch's: to read it torch is needed: pip install 'unloc_jax[torch]'"
        ) from error
    try:
        if torchscript and _is_torchscript(file):
            with warnings.catch_warnings():  # torch.jit is deprecated, but OpenAI's files need it
                warnings.simplefilter("ignore", FutureWarning)
                stored = torch.jit.load(str(file), map_location="cpu").state_dict()
        elif _is_torchscript(file):
            raise UserError(
                f"{file} is a TorchScript archive, a program: only --from openai-clip opens such. Save the "
                "state_dict() of its model with torch.save, or take a safetensors file of the same weights."
            )
        else:
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except RuntimeError as error:
        raise UserError(
            f"{file} is damaged or no file of PyTorch's ({_reason(error)}). Get it again."
        ) from error
    # Foreign bytes raise anything, and torch's messages explain how to open an unsafe file anyway.
    except Exception as error:
        raise UserError(
            f"{file} is damaged or no file of PyTorch's with tensors only: other pickled objects are not opened. Get "
            "it again, or save the state_dict() of a model with torch.save."
        ) from error
    if isinstance(stored, Mapping) and isinstance(stored.get("state_dict"), Mapping):
        stored = stored["state_dict"]
    if not isinstance(stored, Mapping) or not all(isinstance(x, torch.Tensor) for x in stored.values()):
        raise UserError(f"{file} holds no dictionary of tensors.")
    return {
        str(name).removeprefix("module."): (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in stored.items()
    }


def _is_torchscript(file: Path) -> bool:
    """Returns whether a zip archive holds code, as `torch.jit.save` writes it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(
                Path(name).parts[1:2] in (("code",), ("constants.pkl",)) for name in archive.namelist()
            )
    except (OSError, zipfile.BadZipFile):
        return False


def read_json(file: Path) -> dict[str, Any]:
    """Reads a file of settings.

    Raises:
      UserError: The file does not exist or does not hold a JSON object.
    """
    try:
        settings = parse_json(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not JSON ({_reason(error)}). Get it again.") from error
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings. Get it again.")
    return settings


def read_npy(file: Path) -> dict[str, np.ndarray]:
    """Reads a dictionary of arrays, of any shape, that np.save pickled; dtypes are kept.

    Raises:
      UserError: The file does not hold such a dictionary, or holds more than arrays.
    """
    try:
        # With a memory map, a wrong length in a damaged file cannot read beyond its end.
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
            return read_pickled_arrays(stream)
    except UserError:
        raise
    except Exception as error:  # foreign bytes raise anything
        raise UserError(
            f"{file} is damaged or no .npy of Scenic's ({_reason(error)}). Get it again."
        ) from error


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz by name; they become float32. bfloat16, which NumPy does not know, is recognised.

    Raises:
      UserError: The file is missing or damaged, or holds what is not floating.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file} is damaged or no .npz of arrays ({_reason(error)}). Get it again."
        ) from error
    half = {name: array.view(ml_dtypes.bfloat16) for name, array in arrays.items() if array.dtype == "V2"}
    if others := [name for name, array in arrays.items() if array.dtype.kind != "f" and name not in half]:
        raise UserError(f"{file}: tensors that are {listed({'not numbers': others})}. Get it again.")
    return {name: array.astype(np.float32, copy=False) for name, array in {**arrays, **half}.items()}


def _reason(error: Exception) -> str:
    """Returns the first line of an error's message."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "…"
