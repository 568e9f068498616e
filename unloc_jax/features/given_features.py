"""Features that a user gives instead of a video: reads them, and checks that they are what a model reads."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unloc_jax.config import Config
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.features.feature_inputs import NOT_COMPARED, changes
from unloc_jax.features.stored_features import (
    EXTENSIONS,
    FeatureError,
    Found,
    StoredFeatures,
    checked,
    content_of,
)
from unloc_jax.video import VideoNote

Features = str | Path | np.ndarray | StoredFeatures

# As `data_pipelines.builders.fit_to_duration` compares lengths.
_DISAGREES_FRACTION = 0.05
_DISAGREES_S = 1.0


@dataclasses.dataclass(frozen=True)
class GivenFeatures:
    """The features of one video, all that a model reads.

    Attributes:
      rows: by modality.
      duration_s: length of the video in seconds.
      notes: messages about them.
    """

    rows: dict[str, StoredFeatures]
    duration_s: float
    notes: tuple[VideoNote, ...] = ()


def read_given(
    given: Mapping[str, Features],
    config: Config,
    metadata: DatasetMetadata,
    duration_s: float | None,
    *,
    with_video: bool = False,
) -> GivenFeatures:
    """Reads features and checks them.

    Args:
      given: by modality: a file, "FILE:KEY" for one array of several, an array [F, D], or features with their times. An
        array [D, F] is turned round where the model's D decides.
      config: of the model.
      metadata: metadata of the dataset that it was trained on.
      duration_s: length of the video in seconds; None = that of the features.
      with_video: whether the video is there too, for a model that also reads frames or sound.

    Raises:
      UserError: the model reads no features, or frames of a video that is not there; a modality is missing or unknown;
        features cannot be used, are not those that the model reads, or say neither times nor length where `duration_s`
        is None.
    """
    modalities = {
        name: modality for name, modality in config.model.modalities.items() if modality.encoder == "features"
    }
    if not modalities:
        inputs = "sound" if not config.model.reads_frames else "frames"
        alone = " and sound" if inputs == "frames" and config.model.reads_sound else " alone"
        raise UserError(f"this model reads {inputs}{alone}: give it a video, and no features.")
    names = " and ".join(modalities)
    others = ["frames"] * config.model.reads_frames + ["sound"] * config.model.reads_sound
    reads = " and ".join([names, *others])
    if others and not with_video:
        raise UserError(f"this model reads {reads}: give the video too (--video FILE; video=… in Python).")
    if unknown := sorted(given.keys() - modalities.keys()):
        raise UserError(f"features {unknown[0]!r}: this model reads {reads}.")
    if missing := [name for name in modalities if name not in given]:
        raise UserError(f"this model reads {reads}: give {missing[0]} too ({missing[0]}=FILE).")
    if duration_s is not None and not 0 < duration_s < np.inf:
        raise UserError(f"the length of the video must be above 0 seconds, got {duration_s:g}.")
    rows = {}
    for name, modality in modalities.items():
        rows[name] = _read(name, given[name], modality.feature_dim)
        settings, of_training = rows[name].settings, metadata.feature_settings.get(name)
        if (
            settings
            and of_training
            and (changed := changes(of_training, settings, (*NOT_COMPARED, "version")))
        ):
            raise UserError(
                f"features {name}: the model was trained on others ({', '.join(changed)}). Make them as those of "
                "training: `unloc features`."
            )
    ends_s = {name: stored.end_s for name, stored in rows.items() if stored.end_s is not None}
    if duration_s is None:
        duration_s = next((stored.duration_s for stored in rows.values() if stored.duration_s), None)
    if duration_s is None:
        duration_s = max(ends_s.values(), default=None)
    if duration_s is None:
        raise UserError(
            f"the features {names} say neither times nor length: give the length of their video (--duration SECONDS, "
            "or --video FILE; duration_s=… in Python)."
        )
    notes = [
        VideoNote(f"features {name} of another length", f"until {end_s:.2f} s of {duration_s:.2f} s")
        for name, end_s in ends_s.items()
        if abs(end_s - duration_s) > max(_DISAGREES_S, _DISAGREES_FRACTION * duration_s)
    ]
    return GivenFeatures(rows, duration_s, tuple(notes))


def _read(name: str, given: Features, width: int) -> StoredFeatures:
    """Returns the features of one modality, [F, width]; an array [width, F] is turned round.

    Raises:
      UserError: they cannot be used, or have another width.
    """
    if isinstance(given, np.ndarray):
        given = StoredFeatures(given)
    try:
        if isinstance(given, StoredFeatures):
            length_s = None if given.duration_s is None else np.asarray(given.duration_s)
            found, where = Found(given.rows, given.times_s, length_s, given.settings), "an array"
        else:
            path, key = _place(name, str(given))
            found, where = content_of(path, key), str(path)
        shape = found.array.shape
        turned = len(shape) == 2 and shape[0] == width != shape[1]
        stored = checked(found, int(turned), where)
    except FeatureError as error:
        raise UserError(f"features {name}: {error}") from error
    if stored.rows.shape[1] != width:
        size = " × ".join(map(str, shape))
        raise UserError(
            f"features {name}: {where}: {size}; this model reads rows of {width} numbers ([F, {width}])."
        )
    return stored


def _place(name: str, given: str) -> tuple[Path, str | None]:
    """Splits FILE or FILE:KEY.

    Raises:
      UserError: there is no such file, or files of its kind hold no features.
    """
    path, key = Path(given), None
    if not path.exists() and ":" in given:
        before, _, key = given.rpartition(":")
        path = Path(before)
    if not path.is_file():
        kind = "is a folder: name the file of one video" if path.is_dir() else "there is no such file"
        raise UserError(f"features {name}: {path}: {kind}.")
    if path.suffix.lower() not in EXTENSIONS:
        raise UserError(
            f"features {name}: {path}: no file of features; these end in {', '.join(EXTENSIONS)}."
        )
    return path, key
