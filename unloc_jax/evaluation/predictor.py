"""A predictor of the texts of a split in its videos, such as a checkpoint: `unloc evaluate` measures it."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
from tqdm.auto import tqdm

from unloc_jax.batch import Batch
from unloc_jax.dataset import Dataset
from unloc_jax.errors import UserError
from unloc_jax.features.feature_inputs import NOT_COMPARED, changes
from unloc_jax.inference.loaded_model import LoadedModel, loaded
from unloc_jax.inference.vocabulary_cache import TextEncoder
from unloc_jax.processes import is_main
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions, Task
from unloc_jax.tasks.predict_split import predict_split
from unloc_jax.training.sharding import batch_sharding


class Annotations(Protocol):
    """Defines what the metrics need of a dataset; see `unloc_jax.dataset.Dataset`."""

    @property
    def metadata(self) -> Any:
        """Returns the metadata, with the `name` of the annotation format."""

    @property
    def splits(self) -> tuple[str, ...]: ...

    @property
    def left_out(self) -> dict[str, dict[str, int]]:
        """{"videos", "segments"} by split, numbers of annotations that could not be used at the build."""

    def records(self, split: str) -> list[VideoRecord]: ...


class Predictor(Protocol):
    """Predicts where texts happen in the videos of a dataset.

    Attributes:
      task: determines the texts and the metrics.
      task_name: of several tasks of a checkpoint, which one it is.
      dataset: where the videos are.
      metadata: what metrics.json holds about it.
      step_dir: of a checkpoint; None without one.
    """

    task: Task
    task_name: str
    metadata: dict[str, Any]
    step_dir: Path | None

    @property
    def dataset(self) -> Annotations: ...

    def predict(self, split: str, texts: Sequence[Sequence[str]]) -> SplitPredictions:
        """Searches every video of a split for its texts, one list per record."""


class CheckpointPredictor:
    """Predicts by a trained model.

    Args:
      model: a checkpoint; parameters that are not loaded are read when they are needed.
      dataset: opened with the model's config.
      watched: wraps the batches; it may raise to stop (see `Preemption.watched`).

    Raises:
      UserError: a dataset whose frames or features are not made as those of training.
    """

    def __init__(
        self,
        model: LoadedModel,
        dataset: Dataset,
        watched: Callable[[Iterable[Batch]], Iterable[Batch]] = lambda batches: batches,
    ):
        self._model, self.dataset, self._watched = model, dataset, watched
        self.task, self.task_name = model.task, model.task_name
        self.step_dir: Path | None = model.step_dir
        self.metadata: dict[str, Any] = {"checkpoint": str(model.step_dir)}
        self._check_fit()

    def _check_fit(self) -> None:
        """Refuses a dataset whose frames or features were made otherwise than those of training."""
        model, metadata = self._model, self.dataset.metadata
        trained_on, found = model.metadata.short_side, metadata.short_side
        if trained_on != found:
            raise UserError(
                f"the model was trained on frames with a short side of {trained_on} pixels, this dataset's have "
                f"{found}. Build it with `unloc data build --short-side {trained_on} …`."
            )
        for name, settings in model.metadata.feature_settings.items():
            # Versions differ in which of two neighbouring frames a row shows: too little to refuse.
            ignored = (*NOT_COMPARED, "version")
            if changed := changes(settings, metadata.feature_settings.get(name, settings), ignored):
                raise UserError(
                    f"the model was trained on other features {name!r} than this dataset's ({', '.join(changed)}). "
                    "Make them as those of training: `unloc features`."
                )

    def predict(self, split: str, texts: Sequence[Sequence[str]]) -> SplitPredictions:
        model, dataset = loaded(self._model), self.dataset
        batch_size, windows = model.task.config.evaluation.batch_size, dataset.num_windows(split)
        bar = lambda batches: tqdm(
            self._watched(batches),
            total=-(-sum(windows) // batch_size),
            desc=f"evaluate {split}",
            unit="batch",
            file=sys.stderr,
            disable=not is_main(),
        )
        # A vocabulary is the same for all videos: encoded once, or never if the checkpoint keeps it. Processes of one
        # run may not see the same files, and must all do the same.
        encode = TextEncoder(model) if jax.process_count() == 1 else None
        features = encode(texts[0]) if encode and model.task.config.with_vocabulary else None
        detect = jax.jit(model.task.detect)
        sharding = batch_sharding(model.mesh)
        with contextlib.closing(dataset.evaluation_batches(split)) as batches:
            return predict_split(
                model.task, detect, model.params, batches, texts, sharding, bar, windows, features, encode
            )
