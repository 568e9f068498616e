"""Reads one file of precomputed features of any origin: an array of rows, and perhaps their times.

FILE.npy                the array
FILE.npz                the array KEY, else "features", else the only one
FILE.h5 (.hdf5)         the dataset KEY, else "features", else the only one
FILE.pt (.pth)          a tensor, or a dictionary with the tensor KEY, else "features", else the only one

Files that hold several arrays may also hold `times_s` [F], the times of the rows, and `duration_s`, the length of the
video; an .npz also `settings`, as `unloc features` stores all three.
"""

import contextlib
import dataclasses
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json

HDF5 = (".h5", ".hdf5")
EXTENSIONS = (".npy", ".npz", *HDF5, ".pt", ".pth")
_TIMES, _DURATION, _SETTINGS = "times_s", "duration_s", "settings"
# A file of 2 MB can hold zeros for 2 GB.
_MOST_COMPRESSION = 100
_MOST_UNSUSPICIOUS = 64 * 2**20  # bytes of an array


@dataclasses.dataclass(frozen=True)
class StoredFeatures:
    """The features of one video.

    Attributes:
      rows: float32 [F, D].
      times_s: float64 [F], strictly rising, seconds of the rows; None if not stored.
      duration_s: length in seconds of the video they were computed from; None if not stored.
      settings: of `unloc features`, if it made the file; None for other programs.
    """

    rows: np.ndarray
    times_s: np.ndarray | None = None
    duration_s: float | None = None
    settings: dict[str, Any] | None = None

    @property
    def end_s(self) -> float | None:
        """Returns the end in seconds of the features' video, as far as stored; else None."""
        if self.duration_s is not None or self.times_s is None:
            return self.duration_s
        steps_s = np.diff(self.times_s)
        return float(self.times_s[-1] + (np.median(steps_s) / 2 if len(steps_s) else 0.0))


class FeatureError(Exception):
    """Unusable features of one video; `kind` is short and countable."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


def read_feature_file(path: Path, key: str | None = None, time_axis: int = 0) -> StoredFeatures:
    """Reads the features of one video from their file.

    Args:
      path: a file with one of `EXTENSIONS`.
      key: the array in a file that holds several; None: "features", or the only one.
      time_axis: 0 for arrays [F, D], 1 for [D, F].

    Raises:
      FeatureError: they cannot be used.
      UserError: the package that reads such files is missing.
    """
    return checked(content_of(path, key), time_axis, str(path))


def content_of(path: Path, key: str | None) -> "Found":
    """Returns the unchecked content of a file; for arguments and errors see `read_feature_file`."""
    with readable(str(path)):
        return _READERS[path.suffix.lower()](path, key)


def checked(found: "Found", time_axis: int, where: str) -> StoredFeatures:
    """Returns the content of a file as features.

    Raises:
      FeatureError: they cannot be used.
    """
    rows = _checked_rows(found.array, time_axis, where)
    return StoredFeatures(
        rows,
        _checked_times(found.times_s, len(rows), where),
        _checked_duration(found.duration_s, where),
        found.settings,
    )


def _checked_rows(array: np.ndarray, time_axis: int, where: str) -> np.ndarray:
    shape = " × ".join(map(str, array.shape)) or "a single number"
    if array.dtype.kind not in "fiu":
        raise FeatureError(
            "not numbers", f"{where}: an array of {array.dtype}, not of floating point numbers."
        )
    if array.ndim != 2:
        raise FeatureError("wrong rank", f"{where}: {shape}, where two axes (time and width) are needed.")
    if array.size == 0:
        raise FeatureError("empty", f"{where}: {shape}.")
    with np.errstate(over="ignore"):  # becomes infinite, which is reported below
        array = np.ascontiguousarray(array if time_axis == 0 else array.T, np.float32)
    if not np.isfinite(array).all():
        raise FeatureError(
            "NaN or infinite", f"{where}: {(~np.isfinite(array)).sum()} of {array.size} values."
        )
    return array


def _checked_times(times_s: np.ndarray | None, rows: int, where: str) -> np.ndarray | None:
    if times_s is None:
        return None
    if times_s.shape != (rows,) or times_s.dtype.kind not in "fiu":
        raise FeatureError(
            "bad times_s", f"{where}: times_s is {times_s.dtype} {list(times_s.shape)}, not {rows} numbers."
        )
    times_s = times_s.astype(np.float64)
    if not (np.isfinite(times_s).all() and (np.diff(times_s) > 0).all() and times_s[0] >= 0):
        raise FeatureError("bad times_s", f"{where}: times_s must be rising seconds, from 0 on.")
    return times_s


def _checked_duration(duration_s: np.ndarray | None, where: str) -> float | None:
    if duration_s is None:
        return None
    if duration_s.size != 1 or duration_s.dtype.kind not in "fiu" or not 0 < duration_s.item() < np.inf:
        raise FeatureError("bad duration_s", f"{where}: duration_s must be one number of seconds above 0.")
    return float(duration_s.item())


@contextlib.contextmanager
def readable(where: str) -> Iterator[None]:
    """Turns whatever exception a library raises for a damaged file into a FeatureError."""
    try:
        yield
    except (FeatureError, UserError):
        raise
    except Exception as error:
        raise FeatureError("cannot be read", f"{where}: {type(error).__name__}: {error}") from error


class Found(NamedTuple):
    """Unchecked content of a file."""

    array: np.ndarray
    times_s: np.ndarray | None = None
    duration_s: np.ndarray | None = None
    settings: dict[str, Any] | None = None


def _read_npy(path: Path, key: str | None) -> Found:
    del key  # there is one array
    return Found(np.load(path, allow_pickle=False))


def _read_npz(path: Path, key: str | None) -> Found:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                _check_size(_size_in_header(stream), member.compress_size, f"{path}: {member.filename}")
    with np.load(path, allow_pickle=False) as arrays:
        found = choose(arrays, key, str(path))
        return found._replace(settings=_settings(arrays))


def _settings(arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Returns the settings of `unloc features`; None for another program's array of this name."""
    try:
        settings = parse_json(arrays[_SETTINGS].item())
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return settings if isinstance(settings, dict) else None


def _read_hdf5(path: Path, key: str | None) -> Found:
    with open_hdf5(path) as file:
        return choose(file, key, str(path), of_hdf5)


def _read_torch(path: Path, key: str | None) -> Found:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError(f"{path}: reading this file needs PyTorch: `pip install torch`.") from error
    content = torch.load(path, map_location="cpu", weights_only=True)

    def to_array(value: Any) -> np.ndarray:
        if not isinstance(value, torch.Tensor):
            return np.asarray(value)
        _check_size(4 * value.numel(), path.stat().st_size, str(path))  # its strides may repeat one number
        return value.float().numpy()

    return choose(content, key, str(path), to_array)


_READERS: dict[str, Callable[[Path, str | None], Found]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    **dict.fromkeys(HDF5, _read_hdf5),
    **dict.fromkeys((".pt", ".pth"), _read_torch),
}


def _size_in_header(stream: Any) -> int:
    """Returns the bytes of the array of an .npy stream, of which only the header is read."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return math.prod(shape) * dtype.itemsize


def _check_size(size: int, stored: int, where: str) -> None:
    """Raises FeatureError before an array is read that a small file would make large, in bytes."""
    if size > max(_MOST_UNSUSPICIOUS, _MOST_COMPRESSION * stored):
        raise FeatureError(
            "too large",
            f"{where}: {stored:,} bytes are stored, but the array would have {size:,}; features are not compressed "
            f"more than {_MOST_COMPRESSION} times.",
        )


def of_hdf5(dataset: Any) -> np.ndarray:
    if hasattr(dataset, "nbytes"):
        _check_size(dataset.nbytes, dataset.id.get_storage_size(), f"{dataset.file.filename}: {dataset.name}")
    return np.asarray(dataset)


def choose(
    content: Any, key: str | None, where: str, to_array: Callable[[Any], np.ndarray] = np.asarray
) -> Found:
    """Returns the array of a file that may hold several, with its stored times."""
    if not isinstance(content, Mapping):
        return Found(to_array(content))
    names = [name for name in content if name not in (_TIMES, _DURATION)]
    if key is None:
        key = "features" if "features" in names or len(names) != 1 else names[0]
    if key not in content:  # HDF5 files also accept paths, such as "group/array"
        there = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise FeatureError(
            "no such array", f"{where}: no array {key!r} (there are: {there}); say NAME=DIR:KEY."
        )
    times_s, duration_s = (
        to_array(content[name]) if name in content else None for name in (_TIMES, _DURATION)
    )
    return Found(to_array(content[key]), times_s, duration_s)


def open_hdf5(path: Path) -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path}: reading this file needs h5py: `pip install 'unloc_jax[features]'`."
        ) from error
    return h5py.File(path, "r", locking="best-effort")  # there are mounts without locks
