"""`unloc evaluate`: official metrics of a checkpoint, next to controls that put them in proportion."""

import contextlib
import errno
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.evaluation.classifier_scores import multiplied, read_classifier_scores
from unloc_jax.evaluation.predictor import Predictor
from unloc_jax.evaluation.presence import calibrated, presence_lines, presence_metrics
from unloc_jax.evaluation.result import EvaluationResult
from unloc_jax.metrics.presence import Calibrated
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.protocols.presets import PRESETS, preset_of
from unloc_jax.metrics.protocols.run import measure, tables
from unloc_jax.processes import is_main
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import Task
from unloc_jax.tasks.outputs import Predict, Presence
from unloc_jax.training.checkpoints.presence import store, stored_threshold
from unloc_jax.whole_writes import write_result


def evaluate(
    predictor: Predictor,
    split: str,
    out: Path,
    classifier_scores: Path | None = None,
    protocol: str | None = None,
) -> EvaluationResult:
    """Evaluates a split and writes `metrics.json` and the predictions to `out`.

    Args:
      predictor: what is measured, with its dataset.
      split: "train", "validation" or "test".
      out: folder, made if needed.
      classifier_scores: of action localisation, see `read_classifier_scores`.
      protocol: of `unloc metrics`, or the name of a dataset's; its numbers are reported besides. None: that of the
        dataset's format, if it asks for other numbers than the task.

    A split without ground truth, such as a hidden test split, is predicted and not scored.

    Returns:
      What metrics.json holds, with the tables to print.

    Raises:
      UserError: see `checked`; the folder is then as it was.
    """
    run = checked(predictor, split, out, classifier_scores, protocol)
    with output_folders([out]):
        return run()


@contextlib.contextmanager
def output_folders(folders: Sequence[Path]) -> Iterator[None]:
    """Makes folders before the work that fills them; if that fails, removes those that it made and left empty.

    Raises:
      UserError: a folder cannot be made or written.
    """
    new = {path for folder in folders for path in (folder, *folder.parents) if not path.exists()}
    try:
        for folder in folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                writable = os.access(folder, os.W_OK | os.X_OK)
            except OSError as error:
                raise _unwritable(folder, error.strerror or str(error)) from error
            if not writable:
                raise _unwritable(folder, os.strerror(errno.EACCES))
        yield
    except BaseException:
        for path in sorted(new, key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):  # it holds something
                path.rmdir()
        raise


def _unwritable(folder: Path, reason: str) -> UserError:
    return UserError(f"--out={folder} cannot be written: {reason}. Choose another one.")


def checked(
    predictor: Predictor,
    split: str,
    out: Path,
    classifier_scores: Path | None = None,
    protocol: str | None = None,
) -> Callable[[], EvaluationResult]:
    """Does what `evaluate` does in two parts: checks everything, and returns what remains: the work.

    `out` must exist when the work begins (see `output_folders`).

    Raises:
      UserError: a split that is not there, a dataset that does not fit the model, classifier scores that do not
        fit either, or a protocol or thresholds that are not for the task.
    """
    task, dataset = predictor.task, predictor.dataset
    records = dataset.records(split)
    _check_classes(task, records)
    if task.config.evaluation.tiou and task.metrics_key != "mAP":
        raise UserError(
            f"--tiou has the thresholds of action localisation's mAP; {task.name} does not use them."
        )
    official = _protocol_of(task, dataset.metadata.name, protocol)
    if task.encoding.embeddings_file:  # it has all texts, or nothing can be done
        task.encoding(sorted({text for of_video in task.evaluation_texts(records) for text in of_video}))
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
    return lambda: _evaluate(predictor, split, out, records, predict, official)


def _evaluate(
    predictor: Predictor,
    split: str,
    out: Path,
    records: Sequence[VideoRecord],
    predict: Predict,
    protocol: str | None,
) -> EvaluationResult:
    task, dataset = predictor.task, predictor.dataset
    name, directory = task.predictions_file, task.config.data.dir
    evaluated = task.evaluate(
        records, predict, lambda: dataset.records("train") if "train" in dataset.splits else []
    )
    videos = f"{split}: {len(records)} videos"
    text = [] if predictor.task_name == task.name else [f"\n== {predictor.task_name} =="]
    text.append(f"\n{directory}, {videos}, {evaluated.table}")
    left_out = dataset.left_out.get(split, {"videos": 0, "segments": 0})
    if left_out["videos"]:
        text.append(
            f"{left_out['videos']} more videos of the annotations, with {left_out['segments']} segments, could not be "
            f"used when {directory} was built (unusable_videos.jsonl): they are not in these numbers. `unloc metrics` "
            "on the official file counts them as missed."
        )
    scored = task.has_ground_truth(records)
    found = task.presence(records, evaluated.predictions)
    presence, lines = ({}, []) if found is None else _presence(predictor, split, found)
    text += lines
    metrics = {
        **predictor.metadata,
        "data": directory,
        "annotation_format": dataset.metadata.name,
        "task": predictor.task_name,
        "split": split,
        "videos": len(records),
        "left_out": left_out,
        "scored": scored,
        **({"presence": presence} if presence else {}),
    } | evaluated.metrics
    if is_main():
        write_result(out / name, task.prediction_lines(records, evaluated.predictions))
        if protocol and scored:
            truth = Annotated.of_records(Path(directory), records, has_classes=bool(dataset.metadata.classes))
            is_actions = task.with_vocabulary and task.has_boundaries
            numbers, shown = _official_numbers(protocol, truth, out / name, split if is_actions else None)
            metrics["official"] = numbers
            text.append(shown)
        write_result(out / "metrics.json", json.dumps(_without_nan(metrics), indent=2) + "\n")
    if not scored:
        text.append(
            f"\nnothing was scored: the {split} split of {directory} has no ground truth for {task.name}. {name} holds "
            "the predictions, to be submitted where it is known."
        )
    text.append(f"wrote {out / 'metrics.json'} and {out / name}")
    title = f"{Path(directory).name}, {videos}"
    return EvaluationResult(metrics, title, evaluated.metrics, "\n".join(text), out / name)


def _presence(predictor: Predictor, split: str, found: Presence) -> tuple[dict[str, Any], list[str]]:
    """Returns metrics of queries without an answer, and the lines that show them; keeps a validation's threshold."""
    step_dir, task = predictor.step_dir, predictor.task_name
    if split == "validation":
        chosen = calibrated(found)
        threshold = None if chosen is None else chosen.threshold
        where = "no threshold can be chosen: both kinds of queries are needed"
        if chosen is not None:
            where = f"threshold {chosen.threshold:.4g}, which has the best Rej-F1 here"
            if step_dir and is_main():
                where += f", {_kept(step_dir, task, chosen, str(predictor.task.config.data.dir))}"
    else:
        threshold = stored_threshold(step_dir, task) if step_dir else None
        where = "no threshold is known: evaluate the validation split first (--split=validation)"
        if threshold is not None:
            where = f"threshold {threshold:.4g}, from the validation split"
    metrics = presence_metrics(found, threshold)
    return metrics, presence_lines(metrics, where)


def _kept(step_dir: Path, task: str, chosen: Calibrated, data: str) -> str:
    """Keeps a threshold; returns where it is, or why it could not be kept: the results are worth more."""
    try:
        return f"is in {store(step_dir, task, chosen, data)}: other splits and `unloc predict` use it"
    except (OSError, UserError) as error:
        return f"could not be kept beside the checkpoint: {error}"


def _protocol_of(task: Task, annotation_format: str, asked: str | None) -> str | None:
    """Returns the protocol, or the dataset's name of one, that is measured besides; None = none.

    Raises:
      UserError: the protocol that was asked for is unknown, or is not for the task.
    """
    name = asked or annotation_format
    if asked is None and not (name in PRESETS and PRESETS[name].options):
        return None
    if preset_of(name).protocol in task.protocols:
        return name
    if asked is None:
        return None
    known = ", ".join(task.protocols) or "none"
    raise UserError(f"--protocol={asked} does not measure {task.name}; the protocols that do: {known}.")


def _official_numbers(
    protocol: str, truth: Annotated, predictions: Path, subset: str | None
) -> tuple[dict[str, Any], str]:
    """Returns the numbers of a protocol, and the lines that show them."""
    try:
        numbers = measure(protocol, truth, predictions, subset=subset)
    except UserError as error:  # the results are there already
        return {}, f"\n`unloc metrics --protocol={protocol}` cannot measure it: {error}\n"
    return numbers, "\n".join(
        ["", f"protocol {protocol} (%)", *(f"  {line}".rstrip() for line in tables(numbers)), ""]
    )


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
    """Replaces NaN, a rate over nothing, by null: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value
