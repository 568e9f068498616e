"""Reads precomputed features of any origin: one file per video, or one HDF5 file for all.

DIR/<id>.npy (.npz, .h5, .hdf5, .pt, .pth)   see `unloc_jax.features.stored_features`
FILE.h5 (.hdf5)                              a dataset per id, or a group per id that is read like a file

An id may carry the extension of its video, in any case: DIR/<id>.avi.npy, or the dataset "<id>.MP4".
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.builders.frames import UnusableVideo
from data_pipelines.builders.video_files import NamedFiles, names_of
from unloc_jax.errors import UserError
from unloc_jax.features.stored_features import (
    EXTENSIONS,
    HDF5,
    FeatureError,
    StoredFeatures,
    checked,
    choose,
    of_hdf5,
    open_hdf5,
    read_feature_file,
    readable,
)
from unloc_jax.foreign_text import parse_json
from unloc_jax.names import normal_id
from unloc_jax.video_names import composed

# `unloc features` writes this file beside its features: the settings of all of them.
SETTINGS_FILE = "clip_features.json"
# The width is that of most of the first videos with features.
_MOST_SHAPES = 32


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
        return NamedFiles(self.path, EXTENSIONS, of_videos=True)


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
                found[source.name] = dict(parse_json(file.read_text("utf-8")))
            except (ValueError, TypeError) as error:
                raise UserError(f"{file} is damaged ({error}). Make the features again.") from error
    return found


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
                f"--features-axis {text}: give the axis of time: 0 for arrays [F, D], 1 for [D, F] (or NAME=0, "
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
        if not path.is_dir() and not (path.is_file() and path.suffix.lower() in HDF5):
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
    return {source.name: most_common_width(find_shapes(source, video_ids)) for source in sources}


def most_common_width(shapes: Sequence[tuple[str, tuple[int, int]]]) -> int:
    """Returns D of most of the shapes that `find_shapes` found."""
    return collections.Counter(width for _, (_, width) in shapes).most_common(1)[0][0]


def find_shapes(source: FeatureSource, video_ids: Sequence[str]) -> list[tuple[str, tuple[int, int]]]:
    """Returns (video id, (F, D)) of the first videos that have features of a modality.

    Raises:
      UserError: none has, or the widths look like lengths.
    """
    found: list[tuple[str, tuple[int, int]]] = []
    reasons: list[str] = []
    for video_id in video_ids:
        try:
            rows, width = read_features(source, video_id).shape
            found.append((video_id, (rows, width)))
        except FeatureError as error:
            reasons.append(str(error))
        if len(found) == _MOST_SHAPES:
            break
    if not found:
        raise UserError(
            f"None of the {len(video_ids)} videos has usable features {source.name!r} in {source.path}"
            + (f", for example {reasons[0]}" if reasons else ".")
        )
    shapes = [shape for _, shape in found]
    (_, same_length), (_, same_width) = (
        collections.Counter(shape[axis] for shape in shapes).most_common(1)[0] for axis in (0, 1)
    )
    if same_width < same_length:
        shape = " × ".join(map(str, shapes[0]))
        raise UserError(
            f"{source.path}: the features {source.name!r} differ in width between videos but not in length "
            f"({shape}, …): they seem to be stored {'[D, F]' if source.time_axis == 0 else '[F, D]'}; "
            f"try --features-axis {source.name}={1 - source.time_axis}."
        )
    return found


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
        with readable(where):
            content = _in_common_file(_open_hdf5(source.path), source, video_id)
            found = choose(content, source.key, where, of_hdf5)
        return checked(found, source.time_axis, where)
    return read_feature_file(_find(source, video_id), source.key, source.time_axis)


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
    """Returns the names in a common file by ids of videos: composed Unicode, with and without an ending.

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
    return open_hdf5(path)
