"""Reads precomputed features of any origin: one file per video, or one HDF5 file for all.

DIR/<id>.npy                the array
DIR/<id>.npz                the array KEY, else "features", else the only one
DIR/<id>.h5 (.hdf5)         the dataset KEY, else "features", else the only one
DIR/<id>.pt (.pth)          a tensor, or a dictionary with the tensor KEY, else "features", else the only one
FILE.h5 (.hdf5)             a dataset per id, or a group per id that is read like a file of its own

An id may carry the extension of its video, in any case: DIR/<id>.avi.npy, or the dataset "<id>.MP4".

Files that hold several arrays may also hold `times_s` [F], the times of the rows, and `duration_s`, the length of the
video, as `unloc features` stores them.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.builders.frames import UnusableVideo
from data_pipelines.builders.video_files import NamedFiles, names_of
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id
from unloc_jax.video_names import composed

_HDF5 = (".h5", ".hdf5")
_EXTENSIONS = (".npy", ".npz", *_HDF5, ".pt", ".pth")
# `unloc features` writes this file beside its features: the settings of all of them.
SETTINGS_FILE = "clip_features.json"
_TIMES, _DURATION = "times_s", "duration_s"
# The width is that of most of the first videos with features.
_MOST_SHAPES = 32
# A file of 2 MB can hold zeros for 2 GB.
_MOST_COMPRESSION = 100
_MOST_UNSUSPICIOUS = 64 * 2**20  # bytes of an array


@dataclasses.dataclass(frozen=True)
class FeatureSource:
    """Location and layout of the features of one modality.

    Attributes:
      name: of the modality, such as "clip" or "i3d".
      path: a folder with one file per video, or one HDF5 file for all videos.
      key: the array inside a file that holds several; None: "features", or the only one.
      time_axis: 0 for arrays [F, D], 1 for [D, F].
    """

    name: str
    path: Path
    key: str | None = None
    time_axis: int = 0

    @functools.cached_property
    def files(self) -> NamedFiles:
        """Returns the index of the files in `path`, if that is a folder."""
        return NamedFiles(self.path, _EXTENSIONS, of_videos=True)


@dataclasses.dataclass(frozen=True)
class StoredFeatures:
    """The features of one video.

    Attributes:
      rows: float32 [F, D].
      times_s: float64 [F], strictly rising, seconds of the rows; None if not stored.
      duration_s: length in seconds of the video they were computed from; None if not stored.
    """

    rows: np.ndarray
    times_s: np.ndarray | None = None
    duration_s: float | None = None

    @property
    def end_s(self) -> float | None:
        """Returns the end in seconds of the features' video, as far as stored; else None."""
        if self.duration_s is not None or self.times_s is None:
            return self.duration_s
        steps_s = np.diff(self.times_s)
        return float(self.times_s[-1] + (np.median(steps_s) / 2 if len(steps_s) else 0.0))


def settings_of(sources: Iterable[FeatureSource]) -> dict[str, dict[str, Any]]:
    """Returns the settings of features made by `unloc features`, by modality; omits others, whose settings are unknown.

    Raises:
      UserError: a settings file is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        file = source.path / SETTINGS_FILE
        if file.is_file() and source.key in (None, "features") and source.time_axis == 0:
            try:
                found[source.name] = dict(json.loads(file.read_text("utf-8")))
            except (ValueError, TypeError) as error:
                raise UserError(f"{file} is damaged ({error}). Make the features again.") from error
    return found


class FeatureError(Exception):
    """Unusable features of one video; `kind` is short and countable."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


def feature_sources(texts: Iterable[str], axes: Iterable[str] = ()) -> list[FeatureSource]:
    """Parses the command line's NAME=DIR[:KEY] and the axis of time: 0, 1 or NAME=0, NAME=1.

    Raises:
      UserError: a text has another form, a name occurs twice or is invalid, or the folder or file does not exist.
    """
    time_axes: dict[str, int] = {}
    for text in axes:
        name, _, axis = text.rpartition("=")
        if axis not in ("0", "1"):
            raise UserError(
                f"--features-axis {text}: say which axis is time: 0 for arrays [F, D], 1 for [D, F] (or NAME=0, "
                "NAME=1 for one modality)."
            )
        time_axes[name] = int(axis)
    sources: list[FeatureSource] = []
    for text in texts:
        name, _, where = text.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or not where:
            raise UserError(
                f"--features {text}: write NAME=DIR or NAME=DIR:KEY, where NAME consists of letters, digits, _, - "
                "and dots, such as clip=features/clip."
            )
        path, key = Path(where), None
        if not path.exists() and ":" in where:
            folder, _, key = where.rpartition(":")
            path = Path(folder)
        if any(source.name == name for source in sources):
            raise UserError(f"--features {text}: there are already features named {name}.")
        if not path.is_dir() and not (path.is_file() and path.suffix.lower() in _HDF5):
            raise UserError(
                f"--features {text}: {path} is neither a folder with one file per video nor an HDF5 file."
            )
        sources.append(FeatureSource(name, path, key or None, time_axes.get(name, time_axes.get("", 0))))
    unknown = set(time_axes) - {""} - {source.name for source in sources}
    if unknown:
        raise UserError(f"--features-axis {min(unknown)}=…: there are no --features of this name.")
    return sources


def find_widths(sources: Iterable[FeatureSource], video_ids: Iterable[str]) -> dict[str, int]:
    """Returns D of each modality: that of most of the first videos that have features.

    Raises:
      UserError: no video has usable features of a modality, or the widths look like lengths.
    """
    video_ids = list(video_ids)
    return {source.name: _find_width(source, video_ids) for source in sources}


def _find_width(source: FeatureSource, video_ids: list[str]) -> int:
    shapes: list[tuple[int, ...]] = []
    reasons: list[str] = []
    for video_id in video_ids:
        try:
            shapes.append(read_features(source, video_id).shape)
        except FeatureError as error:
            reasons.append(str(error))
        if len(shapes) == _MOST_SHAPES:
            break
    if not shapes:
        raise UserError(
            f"None of the {len(video_ids)} videos has usable features {source.name!r} in {source.path}"
            + (f", for example {reasons[0]}" if reasons else ".")
        )
    (_, same_length), (width, same_width) = (
        collections.Counter(shape[axis] for shape in shapes).most_common(1)[0] for axis in (0, 1)
    )
    if same_width < same_length:
        shape = " × ".join(map(str, shapes[0]))
        raise UserError(
            f"{source.path}: the features {source.name!r} differ in width between videos but not in length "
            f"({shape}, …): they seem to be stored {'[D, F]' if source.time_axis == 0 else '[F, D]'}; "
            f"try --features-axis {source.name}={1 - source.time_axis}."
        )
    return width


def read_all_features(
    sources: Iterable[FeatureSource], widths: Mapping[str, int], video_id: str
) -> dict[str, StoredFeatures] | UnusableVideo:
    """Reads the features of all modalities of a video, by modality, or returns why one of them is unusable."""
    features: dict[str, StoredFeatures] = {}
    for source in sources:
        try:
            stored = read_stored(source, video_id)
            width = stored.rows.shape[1]
            if width != widths[source.name]:
                raise FeatureError(
                    "other width",
                    f"{source.path}: {video_id}: {width} wide, those of other videos are "
                    f"{widths[source.name]} wide.",
                )
        except FeatureError as error:
            return _unusable(source, error)
        features[source.name] = stored
    return features


def find_missing(sources: Iterable[FeatureSource], video_id: str) -> UnusableVideo | None:
    """Reports a missing file without reading any; does not search a common HDF5 file."""
    for source in sources:
        try:
            _find(source, video_id)
        except FeatureError as error:
            return _unusable(source, error)
    return None


def _unusable(source: FeatureSource, error: FeatureError) -> UnusableVideo:
    return UnusableVideo(f"{source.name} features: {error.kind}", str(error))


def read_features(source: FeatureSource, video_id: str) -> np.ndarray:
    """Reads the features of one video, float32 [F, D]; see `read_stored`."""
    return read_stored(source, video_id).rows


def read_stored(source: FeatureSource, video_id: str) -> StoredFeatures:
    """Reads the features of one video and their times.

    Raises:
      FeatureError: the video has none, or they cannot be used.
      UserError: the package that reads such files is missing.
    """
    if source.path.is_file():
        where = f"{source.path}: {video_id}"
        with _readable(where):
            content = _in_common_file(_open_hdf5(source.path), source, video_id)
            found = _choose(content, source.key, where, _of_hdf5)
    else:
        path = _find(source, video_id)
        where = str(path)
        with _readable(where):
            found = _READERS[path.suffix.lower()](path, source.key)
    rows = _checked(found.array, source.time_axis, where)
    return StoredFeatures(
        rows, _checked_times(found.times_s, len(rows), where), _checked_duration(found.duration_s, where)
    )


def _find(source: FeatureSource, video_id: str) -> Path:
    """Returns the file of a video's features, or the common HDF5 file if there is one.

    Raises:
      FeatureError: the video has no file.
      SeveralFilesError: the video has several.
    """
    if source.path.is_file():
        return source.path
    path = source.files.find(names_of(video_id))
    if path is not None:
        return path
    raise FeatureError(
        "missing", f"{source.path / video_id}.npy (or .npz, .h5, .hdf5, .pt, .pth): there is no such file."
    )


def _checked(array: np.ndarray, time_axis: int, where: str) -> np.ndarray:
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
def _readable(where: str) -> Iterator[None]:
    """Turns whatever exception a library raises for a damaged file into a FeatureError."""
    try:
        yield
    except (FeatureError, UserError):
        raise
    except Exception as error:
        raise FeatureError("cannot be read", f"{where}: {type(error).__name__}: {error}") from error


class _Found(NamedTuple):
    """Unchecked content of a file."""

    array: np.ndarray
    times_s: np.ndarray | None = None
    duration_s: np.ndarray | None = None


def _read_npy(path: Path, key: str | None) -> _Found:
    del key  # there is one array
    return _Found(np.load(path, allow_pickle=False))


def _read_npz(path: Path, key: str | None) -> _Found:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                _check_size(_size_in_header(stream), member.compress_size, f"{path}: {member.filename}")
    with np.load(path, allow_pickle=False) as arrays:
        return _choose(arrays, key, str(path))


def _read_hdf5(path: Path, key: str | None) -> _Found:
    with _open(path) as file:
        return _choose(file, key, str(path), _of_hdf5)


def _read_torch(path: Path, key: str | None) -> _Found:
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

    return _choose(content, key, str(path), to_array)


_READERS: dict[str, Callable[[Path, str | None], _Found]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    **dict.fromkeys(_HDF5, _read_hdf5),
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


def _of_hdf5(dataset: Any) -> np.ndarray:
    if hasattr(dataset, "nbytes"):
        _check_size(dataset.nbytes, dataset.id.get_storage_size(), f"{dataset.file.filename}: {dataset.name}")
    return np.asarray(dataset)


def _choose(
    content: Any, key: str | None, where: str, to_array: Callable[[Any], np.ndarray] = np.asarray
) -> _Found:
    """Returns the array of a file that may hold several, with its stored times."""
    if not isinstance(content, Mapping):
        return _Found(to_array(content))
    names = [name for name in content if name not in (_TIMES, _DURATION)]
    if key is None:
        key = "features" if "features" in names or len(names) != 1 else names[0]
    if key not in content:  # HDF5 files also accept paths, such as "group/array"
        there = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise FeatureError(
            "no such array", f"{where}: no array {key!r} (there are: {there}); say NAME=DIR:KEY."
        )
    of_times = (to_array(content[name]) if name in content else None for name in (_TIMES, _DURATION))
    return _Found(to_array(content[key]), *of_times)


def _in_common_file(file: Any, source: FeatureSource, video_id: str) -> Any:
    for name in names_of(video_id):
        found = _arrays_of(source.path).get(composed(name).strip()) or ([name] if name in file else [])
        if len(found) > 1:
            names = " and ".join(map(ascii, found))
            raise FeatureError(
                "several arrays", f"{source.path}: {names} have one name: keep one of them, or rename one."
            )
        if found:
            return file[found[0]]
    raise FeatureError("missing", f"{source.path}: nothing is stored for {video_id}.")


@functools.lru_cache(maxsize=8)
def _arrays_of(path: Path) -> Mapping[str, list[str]]:
    """The names in a common file by what videos may be called: composed Unicode, with and without an ending.

    Blanks around them do not count.
    """
    found: dict[str, list[str]] = {}
    for name in _open_hdf5(path):
        for known_as in {composed(name).strip(), normal_id(name)}:
            found.setdefault(known_as, []).append(name)
    return found


@functools.lru_cache(maxsize=8)
def _open_hdf5(path: Path) -> Any:
    """Opens a file and keeps it open: one file serves all videos."""
    return _open(path)


def _open(path: Path) -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path}: reading this file needs h5py: `pip install 'unloc_jax[features]'`."
        ) from error
    return h5py.File(path, "r", locking="best-effort")  # there are mounts without locks
