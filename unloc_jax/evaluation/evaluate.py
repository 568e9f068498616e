"""`unloc evaluate`: official metrics of a checkpoint, next to controls that say what they are worth."""

import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.evaluation.classifier_scores import multiplied, read_classifier_scores
from unloc_jax.evaluation.predictor import Predictor
from unloc_jax.processes import is_main
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import Task
from unloc_jax.tasks.base import Predict


def evaluate(
    predictor: Predictor, split: str, out: Path, classifier_scores: Path | None = None
) -> dict[str, Any]:
    """Evaluates a split, prints the tables and writes `metrics.json` and the predictions to `out`.

    Args:
      predictor: what is measured, with its dataset.
      split: "train", "validation" or "test".
      out: folder, made if needed.
      classifier_scores: of action localisation, see `read_classifier_scores`.

    A split without ground truth, such as a hidden test split, is predicted and not scored.

    Returns:
      What metrics.json holds.

    Raises:
      UserError: a split that is not there, a dataset that does not fit the model, or a folder that cannot be
        written.
    """
    task, dataset = predictor.task, predictor.dataset
    records, name, directory = dataset.records(split), task.predictions_file, task.config.data.dir
    if predictor.task_name != task.name:
        print(f"\n== {predictor.task_name} ==")
    _check_classes(task, records)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}. Choose another one.") from error
    predict: Predict = functools.partial(predictor.predict, split)
    if classifier_scores:
        if not (task.with_vocabulary and task.has_boundaries):
            raise UserError(
                f"--classifier-scores is for tasks that look for segments of classes; {task.name} does not."
            )
        scores = read_classifier_scores(
            classifier_scores, records, task.evaluation_classes
        )  # before the work
        predict = lambda texts: multiplied(predictor.predict(split, texts), scores)
    evaluated = task.evaluate(
        records, predict, lambda: dataset.records("train") if "train" in dataset.splits else []
    )
    print(f"\n{directory}, {split}: {len(records)} videos, {evaluated.table}")
    scored = task.has_ground_truth(records)
    metrics = {
        **predictor.metadata,
        "data": directory,
        "annotation_format": dataset.metadata.name,
        "task": predictor.task_name,
        "split": split,
        "videos": len(records),
        "scored": scored,
    } | evaluated.metrics
    if is_main():
        write_text(out / name, task.prediction_lines(records, evaluated.predictions))
        write_text(out / "metrics.json", [json.dumps(_without_nan(metrics), indent=2) + "\n"])
    if not scored:
        print(
            f"\nnothing was scored: the {split} split of {directory} has no ground truth for {task.name}. {name} holds "
            "the predictions, to be submitted where it is known."
        )
    print(f"wrote {out / 'metrics.json'} and {out / name}")
    return metrics


def write_text(path: Path, parts: Iterable[str]) -> None:
    """Writes a file whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.writelines(parts)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}. Choose another --out=DIR.") from error


def _check_classes(task: Task, records: Sequence[VideoRecord]) -> None:
    """Refuses videos of classes that the task does not know: their numbers would mean nothing."""
    known = task.evaluation_classes
    unknown = sorted({text for record in records for text in record.texts} - set(known))
    if known and unknown:
        raise UserError(
            f"{len(unknown)} classes of this dataset, such as {unknown[0]!r}, are none of the vocabulary's "
            f"{len(known)} classes. A file with all of them, one per line, makes them the vocabulary: "
            "--vocabulary=FILE."
        )


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: rates over nothing become null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value
