"""ShardedDataset: the `unloc_jax.dataset.Dataset` of shards on disk."""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Generator, Iterator
from types import ModuleType

import jax
import numpy as np

from data_pipelines.reading.example import ExampleSpec, main_timeline, num_places
from data_pipelines.reading.flipped_texts import mirror_text, without_mirror_image
from data_pipelines.reading.rows import Source
from data_pipelines.reading.shards import ShardMetadata, Shards, UnlocShards
from data_pipelines.reading.slots import training_records
from data_pipelines.reading.zero_shot_splits import only_classes, split_classes
from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.config.towers import tokens_of
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.processes import share_of_batch
from unloc_jax.queries import absent
from unloc_jax.records import VideoRecord
from unloc_jax.sampling import Timeline, all_starts, center_start
from unloc_jax.text import words


class ShardedDataset:
    """A dataset of shards on disk, of which each host reads its share.

    Args:
      config: location of the dataset and how to sample its videos.

    Raises:
      UserError: there is no dataset, a shard is damaged, frames or features do not fit the model, or (with
        `data.mirror`) the mirror image of a class is not a class.
    """

    def __init__(self, config: Config):
        self._config = config
        self._shards = _open(config)
        metadata = self._shards.metadata
        modalities = config.model.modalities
        self._with_frames = config.model.reads_frames
        self._features = {
            name: modality.feature_dim for name, modality in modalities.items() if not modality.has_tower
        }
        _check_modalities(config, metadata)
        self._records: dict[str, tuple[np.ndarray | None, list[VideoRecord]]] = {}
        self._starts: dict[str, list[np.ndarray]] = {}
        classes, unseen = split_classes(
            metadata.classes, config.data.class_split, config.data.class_split_seed
        )
        self._classes_of = {"train": classes, "validation": unseen or classes, "test": unseen or classes}
        if config.data.mirror:
            _check_mirrored(classes)
        training_records = self.records("train") if "train" in self.splits else []
        texts = (
            text
            for record in training_records
            for text in (*record.texts, *(text for text, _ in absent(record)))
        )
        self.metadata = DatasetMetadata(
            name=metadata.name,
            fps=metadata.fps,
            short_side=metadata.short_side,
            classes=classes,
            unseen_classes=unseen,
            fingerprint=metadata.fingerprint,
            feature_settings={
                name: of for name, of in metadata.feature_settings.items() if name in self._features
            },
            sound_rate=metadata.sound_rate,
            words=sorted({word for text in set(texts) for word in words(text)}),
        )

    @property
    def splits(self) -> tuple[str, ...]:
        return self._shards.splits

    @property
    def left_out(self) -> dict[str, dict[str, int]]:
        return self._shards.metadata.left_out

    def records(self, split: str) -> list[VideoRecord]:
        return self._rows(split)[1]

    def num_windows(self, split: str) -> list[int]:
        return [len(starts) for starts in self._windows(split)]

    def training_lengths(self) -> np.ndarray:
        return np.array(
            [
                length / step_s
                for record, step_s in self._training_steps()
                for length in np.diff(record.segments_s, axis=1)[:, 0]
            ]
        )

    def training_batches(self, start_step: int, num_steps: int) -> Generator[Batch, None, None]:
        return self._reader.training_batches(
            self._source("train"),
            seed=self._config.seed,
            batch_size=self._config.batch_size,
            start_step=start_step,
            num_steps=num_steps,
            host=self._share[0],
            num_hosts=self._share[1],
        )

    def training_videos(self, step: int) -> list[str]:
        records = self.records("train")
        rows = training_records(len(records), self._config.seed, self._config.batch_size, step)
        return [records[row].video_id for row in rows]

    def evaluation_batches(self, split: str) -> Generator[Batch, None, None]:
        return self._reader.evaluation_batches(
            self._source(split, self._windows(split)),
            batch_size=self._config.evaluation.batch_size,
            crops=self._config.evaluation.crops,
            host=self._share[0],
            num_hosts=self._share[1],
        )

    @property
    def _reader(self) -> ModuleType:
        """Imports the module that makes batches."""
        name = self._config.data.reader
        if name == "auto":
            name = "tf.data" if importlib.util.find_spec("tensorflow") else "grain"
        module = {"tf.data": "input_pipeline", "grain": "grain_pipeline"}[name]
        return importlib.import_module(f"data_pipelines.reading.{module}")

    @property
    def _share(self) -> tuple[int, int]:
        """Returns this process's share of a batch: (index, number of shares)."""
        return share_of_batch(self._config.mesh.sizes(jax.device_count())[0])

    def _rows(self, split: str) -> tuple[np.ndarray | None, list[VideoRecord]]:
        """Returns the used records of a split, with their indices in the shards, int64 [n] (None = all)."""
        if split not in self._records:
            rows, records = None, self._shards.records(split)
            if self._config.data.class_split != "all":
                rows, records = only_classes(records, self._classes_of[split])
                if not records:
                    raise UserError(
                        f"{self._config.data.dir}, {split}: no video shows one of the "
                        f"{len(self._classes_of[split])} classes that config.data.class_split = "
                        f"{self._config.data.class_split!r} leaves it."
                    )
            self._records[split] = rows, records
        return self._records[split]

    def _windows(self, split: str) -> list[np.ndarray]:
        """Returns, per record, the first stored frames (or rows of features) of its evaluation windows, int64 [W]."""
        if split not in self._starts:
            self._starts[split] = self._find_windows(split)
        return self._starts[split]

    def _training_steps(self) -> Iterator[tuple[VideoRecord, float]]:
        """Yields the training records, each with the time in seconds from one sampled frame to the next."""
        data, records = self._config.data, self.records("train")
        if not data.windowed:
            yield from ((record, record.duration_s / (data.num_frames - 1)) for record in records)
        elif self._with_frames or not self._features:
            yield from ((record, data.window_stride / record.fps) for record in records)
        else:
            for record, timeline in zip(records, self._timelines("train"), strict=True):
                try:
                    step_s = timeline().step_s
                except (UserError, ValueError):  # unreadable: training counts and reports it
                    continue
                yield record, data.window_stride * step_s

    def _timelines(self, split: str) -> Iterator[Callable[[], Timeline]]:
        """Yields, per used record, what reads its features: nothing else says how many rows they have."""
        index, spec = self._shards.index(split), self._spec(split)

        def timeline(number: int) -> Timeline:
            return main_timeline(index.record(number, with_frames=False, with_features=True), spec)

        rows, records = self._rows(split)
        for number in range(len(records)) if rows is None else rows.tolist():
            yield functools.partial(timeline, number)

    def _find_windows(self, split: str) -> list[np.ndarray]:
        data = self._config.data
        records = self.records(split)
        if not data.windowed:
            return [np.zeros(1, np.int64)] * len(records)
        sizes = (data.num_frames, data.window_stride)
        if self._with_frames or not self._features:
            counts = [num_places(record) for record in records]
        else:
            counts = [timeline().count for timeline in self._timelines(split)]
        if data.evaluation_windows == "center":
            return [np.array([center_start(count, *sizes)]) for count in counts]
        return [all_starts(count, *sizes, data.window_hop) for count in counts]

    def _spec(self, split: str) -> ExampleSpec:
        return ExampleSpec(
            self._config.data,
            self._config.model.text.max_tokens,
            self._classes_of[split] if self._config.with_vocabulary else None,
            self._with_frames,
            self._features,
            self._config.data.mediasequence.short_side if self._config.data.format == "mediasequence" else 0,
            self._shards.metadata.row_phase,
            tokens_of(self._config.model),
            self._config.model.audio.window_s if self._config.model.reads_sound else 0.0,
            self._config.model.audio.sample_rate,
        )

    def _source(self, split: str, windows: list[np.ndarray] | None = None) -> Source:
        return Source(self._shards.index(split), self._spec(split), self._rows(split)[0], windows)


def _open(config: Config) -> Shards:
    if config.data.format == "unloc":
        return UnlocShards(config.data.dir)
    from data_pipelines.reading.mediasequence import MediaSequenceShards

    features = [name for name, m in config.model.modalities.items() if m.encoder == "features"]
    hears = config.model.reads_sound
    return MediaSequenceShards(config.data.dir, config.data.mediasequence, features, hears)


def _check_modalities(config: Config, metadata: ShardMetadata) -> None:
    """Raises UserError if the shards do not hold what the model reads."""
    directory, size, short_side = config.data.dir, config.data.crop_size, metadata.short_side
    built_here = config.data.format == "unloc"
    for name, modality in config.model.modalities.items():
        where = f"config.model.modalities.{name}"
        if modality.reads_frames and name != "rgb":
            raise UserError(f"{where}: the frames are called rgb; other names are precomputed features.")
        if modality.reads_sound:
            _check_sound(config, metadata)
        if modality.has_tower:
            continue
        if name not in metadata.features:
            raise UserError(
                f"{where} reads features, but {directory} holds none of that name (there: "
                f"{', '.join(metadata.features) or 'none'}). Build with `unloc data build --features {name}=DIR …`."
            )
        if metadata.features[name] != modality.feature_dim:
            raise UserError(
                f"{where}.feature_dim = {modality.feature_dim}, but the features of {directory} are "
                f"{metadata.features[name]} wide."
            )
    if not config.model.reads_frames:
        return
    if not short_side:
        raise UserError(
            f"config.model.modalities reads frames, but {directory} holds precomputed features only."
        )
    mend = (
        "build again with `unloc data build --short-side {} …`"
        if built_here
        else ("set config.data.mediasequence.short_side = {}, to which frames are scaled first")
    )
    if size > short_side:
        raise UserError(
            f"config.data.crop_size = {size} is larger than the stored frames of {directory} (short side "
            f"{short_side}). Use {short_side} or less, or {mend.format(size)}."
        )
    if size < 0.7 * short_side:
        raise UserError(
            f"config.data.crop_size = {size} would see only a small part of the stored frames of {directory} (short "
            f"side {short_side}). Use {round(0.875 * short_side)} to {short_side}, or {mend.format(size)}."
        )


def _check_sound(config: Config, metadata: ShardMetadata) -> None:
    """Raises UserError if the shards hold no sound, or sound of another rate."""
    directory, rate = config.data.dir, config.model.audio.sample_rate
    if not metadata.sound_rate:
        mend = f"Build again with `unloc data build --audio {rate} …`"
        if config.data.format != "unloc":
            mend = "Name the feature list of its samples: config.data.mediasequence.sound"
        raise UserError(
            f"config.model.modalities.audio hears, but {directory} was built without sound. {mend}."
        )
    if metadata.sound_rate != rate:
        raise UserError(
            f"config.model.audio.sample_rate = {rate}, but {directory} holds {metadata.sound_rate} samples of sound "
            f"per second. Set it to {metadata.sound_rate}, or build again with `unloc data build --audio {rate} …`."
        )
    if metadata.with_sound and not sum(metadata.with_sound.values()):
        raise UserError(
            f"config.model.modalities.audio hears, but no video of {directory} has sound that can be read. See "
            "`unloc data check --audio`."
        )


def _check_mirrored(classes: list[str]) -> None:
    if lost := without_mirror_image(classes):
        raise UserError(
            f"config.data.mirror = True turns the class {lost[0]!r} into {mirror_text(lost[0])!r}, which is not a "
            f"class of this dataset ({len(lost)} such classes). Set config.data.mirror = False."
        )
