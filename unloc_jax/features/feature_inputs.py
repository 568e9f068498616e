"""Features as inputs of a model: recomputes for a new video the features that the model was trained on.

Shards record which encoder computed their features, how many per second and in which dtypes; a checkpoint keeps this.
"""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from unloc_jax.config import Config, DataConfig
from unloc_jax.console import printable
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.features.embed_videos import VideoFeatures, embed_frames, embed_video
from unloc_jax.features.encoder import Encoder
from unloc_jax.features.families import family_of, open_encoder
from unloc_jax.features.stored_features import StoredFeatures
from unloc_jax.frame_inputs import SampledFrames, sample_timeline
from unloc_jax.sampling import Timeline, features_at, rows_timeline, times_of
from unloc_jax.video import VideoNote

# Settings of features that may differ: the same weights may have moved, and its fingerprint is compared.
NOT_COMPARED = ("clip_source",)


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], not_compared: Collection[str] = NOT_COMPARED
) -> list[str]:
    """Describes in words how the settings of two sets of features differ."""
    return [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
        for name in {**now, **before}
        if name not in not_compared and before.get(name) != now.get(name)
    ]


def description(modalities: Iterable[str], settings: Mapping[str, dict[str, Any]]) -> str:
    """Describes in words what a model reads: its modalities, and the settings of those that `unloc features` made."""
    return " and ".join(
        f"{settings[name]['clip']} features, {settings[name]['fps']:g} per second"
        if name in settings
        else f"{name} features"
        for name in modalities
    )


class ComputedFeatures:
    """Turns videos into the rows of features of an encoder that a model reads.

    Args:
      config: of the model.
      metadata: of the dataset that it was trained on.
      clip: location of that encoder, see `open_encoder`; None = where it was when the features were computed.

    Raises:
      UserError: the model reads inputs that no video file provides, such as other programs' features or several
        modalities; or there is no such encoder at that place, or another one.
    """

    def __init__(self, config: Config, metadata: DatasetMetadata, clip: str | None):
        self._data: DataConfig = config.data
        read = [name for name, modality in config.model.modalities.items() if not modality.reads_sound]
        (self._name, *others), known = read, metadata.feature_settings
        if others or self._name not in known:
            raise UserError(
                f"this model reads {' and '.join(read)}; only a model of one kind of features, "
                "made by `unloc features`, can read a video file alone. Give it the features of the video: "
                "--features NAME=FILE (docs/features.md)."
            )
        settings = known[self._name]
        self._fps, self._stored_as = float(settings["fps"]), np.dtype(settings["stored_as"])
        self._encoder = _the_encoder(settings, clip)

    @property
    def hears(self) -> bool:
        """Whether the features are those of the sound."""
        return self._encoder.hears

    def open(
        self, video: Path | np.ndarray, fps: float | None, watch: Callable[[float], object] | None = None
    ) -> "OpenVideo":
        """Opens a file, or frames uint8 [F, H, W, 3] at `fps` per second; `watch` as for `embed_video`."""
        if isinstance(video, np.ndarray):
            return OpenVideo(lambda: embed_frames(self._encoder, video, fps, self._fps))
        return OpenVideo(lambda: self._of_file(video, watch))

    def sample(self, video: "OpenVideo") -> Iterator[SampledFrames]:
        """Yields the whole video once, or all its windows: as training reads a record of this length."""
        found = video.read()
        rows = StoredFeatures(found.features.astype(self._stored_as), found.times_s)
        yield from sample_rows({self._name: rows}, video.duration_s, self._data)

    def _of_file(self, video: Path, watch: Callable[[float], object] | None) -> VideoFeatures:
        title = f"embedding {video.name}"
        with tqdm(desc=printable(title), unit="frame", delay=3, file=sys.stderr, leave=False) as bar:
            numbers = itertools.count(1)

            def on_frame() -> None:
                bar.update()
                if watch is not None:
                    watch(next(numbers) / self._fps)

            return embed_video(self._encoder, video, self._fps, on_frame=on_frame)


class OpenVideo:
    """A video whose features are computed when they are read.

    Attributes:
      duration_s: its length in seconds, known once it has been read.
      notes: messages about it, known at the same time.
    """

    def __init__(self, extract: Callable[[], VideoFeatures]):
        self._extract = extract
        self.duration_s = 0.0
        self.notes: tuple[VideoNote, ...] = ()

    def read(self) -> VideoFeatures:
        found = self._extract()
        self.duration_s, self.notes = found.duration_s, found.notes
        return found


def sample_rows(
    rows: Mapping[str, StoredFeatures], duration_s: float, data: DataConfig, phase: float = 0.5
) -> Iterator[SampledFrames]:
    """Yields the whole video once, or all its windows, as training reads a record of this length.

    Args:
      rows: the features by modality; windows count the rows of the finest.
      duration_s: length of the video in seconds.
      data: sampling of the training.
      phase: see `rows_timeline`.
    """
    main = max(_timelines(rows, duration_s, phase).values(), key=lambda timeline: timeline.count)
    yield from with_rows(sample_timeline(main, data), rows, duration_s, phase)


def with_rows(
    seen: Iterable[SampledFrames], rows: Mapping[str, StoredFeatures], duration_s: float, phase: float = 0.5
) -> Iterator[SampledFrames]:
    """Adds features to sampled frames, at their times; arguments as for `sample_rows`."""
    timelines = _timelines(rows, duration_s, phase)
    for one in seen:
        times_s = times_of(one.span_s, len(one.mask))
        features = {name: features_at(stored.rows, timelines[name], times_s) for name, stored in rows.items()}
        yield dataclasses.replace(one, features={**one.features, **features})


def _timelines(rows: Mapping[str, StoredFeatures], duration_s: float, phase: float) -> dict[str, Timeline]:
    return {
        name: rows_timeline(len(stored.rows), duration_s, phase, stored.times_s)
        for name, stored in rows.items()
    }


def _the_encoder(settings: dict[str, Any], given: str | None) -> Encoder:
    """Returns the encoder that computed features with these settings; `given` is its location.

    Raises:
      UserError: there is none at that place, or another one.
    """
    source = settings["clip_source"]
    title = family_of(source).title
    wanted = f"{title} {settings['clip'].removeprefix(title).strip()} ({source})"
    try:
        encoder = open_encoder(given or source, jnp.dtype(settings["computed_in"]))
    except UserError as error:
        if given:
            raise
        raise UserError(
            f"this model reads features of the {wanted}, which is not there any more. Give its place: "
            f"--clip SRC. ({error})"
        ) from error
    if encoder.hears and "window_s" in settings:
        encoder.use_window(settings["window_s"])
    if encoder.fingerprint() != settings["clip_fingerprint"]:
        raise UserError(
            f"this model reads features of the {wanted}; {given or source} has other weights or settings. Give "
            "the one that `unloc features` had: --clip SRC."
        )
    if changed := changes({name: settings.get(name) for name in encoder.settings()}, encoder.settings()):
        raise UserError(
            f"this model reads features of the {wanted} that an earlier version made in another way "
            f"({', '.join(changed)}). Make them anew with `unloc features`, and train again."
        )
    return encoder
