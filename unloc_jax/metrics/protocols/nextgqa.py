"""NExT-GQA: whether the moment that answers a question was found, and whether the answer is right as well."""

from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, warn_of
from unloc_jax.metrics.grounding import iou_and_iop
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.protocols.json_files import read_members, shown
from unloc_jax.metrics.protocols.moment_files import (
    Query,
    match_predictions,
    predicted_windows,
    read_queries,
    windows_of,
)
from unloc_jax.names import as_text

_THRESHOLDS = (0.3, 0.5)
_OF_ROWS = ("qid", "vid", "query", "pred_relevant_windows", "relevant_windows", "pred_saliency_scores")


def evaluate_nextgqa(
    ground_truth: Path | Annotated, predictions: Path, *, answers: Path | None = None
) -> dict[str, Any]:
    """Returns mIoP, IoP@0.3, IoP@0.5, mIoU, IoU@0.3, IoU@0.5 of one span per question, in percent.

    IoP is the intersection over the length of the prediction; of a question's moments the best one counts
    (`unloc_jax.metrics.grounding`).

    Args:
      ground_truth: gsub_test.json or gsub_val.json; JSON lines with a "qid" like "4010069381_3"; or `Annotated` ones.
      predictions: {"VIDEO_QID": [start_s, end_s]}; or JSON lines of "pred_relevant_windows", of which the first counts.
      answers: {"VIDEO_QID": {"answer": …, "prediction": …}}.

    Returns:
      The numbers, "questions" and "predicted_questions"; with answers "Acc@GQA", right and IoP ≥ 0.5, and "Acc@QA". A
      question without a prediction counts as missed, unlike in the official evaluator, which leaves it out.

    Raises:
      UserError: a file has another format, or no prediction is of a question.
    """
    is_own = isinstance(ground_truth, Path) and _is_object_of(ground_truth, dict)
    truth = _moments(ground_truth) if is_own else _of_queries(read_queries(ground_truth))  # type: ignore[arg-type]
    if _is_object_of(predictions, list):
        spans = _spans(predictions)
    else:
        queries = [Query(key, moments, {}) for key, moments in truth.items()]
        windows = predicted_windows(predictions, match_predictions(predictions, queries))
        spans = {key: rows[0, :2] for key, rows in zip(truth, windows) if len(rows)}
    unknown = [key for key in spans if key not in truth]
    if len(unknown) == len(spans):
        raise UserError(
            f"{predictions}: none of its {len(spans)} predictions is of a question of the ground truth: for example"
            f" {next(iter(spans), None)!r} is not, but {next(iter(truth))!r} is"
        )
    warn_of(unknown, len(spans), "predictions are of questions that the ground truth does not have: ignored")
    missing = [key for key in truth if key not in spans]
    warn_of(missing, len(truth), "questions have no prediction: they are missed")
    nothing = (0.0, 0.0)
    both = np.array(
        [iou_and_iop(spans[key], moments) if key in spans else nothing for key, moments in truth.items()]
    )
    numbers: dict[str, Any] = {}
    for name, values in (("IoP", both[:, 1]), ("IoU", both[:, 0])):
        numbers[f"m{name}"] = 100 * float(values.mean())
        numbers |= {f"{name}@{at}": 100 * float((values >= at).mean()) for at in _THRESHOLDS}
    if answers is not None:
        right = _right_answers(answers, list(truth))
        numbers["Acc@GQA"] = 100 * float((right & (both[:, 1] >= 0.5)).mean())
        numbers["Acc@QA"] = 100 * float(right.mean())
    return numbers | {"questions": len(truth), "predicted_questions": len(truth) - len(missing)}


def _is_object_of(path: Path, kind: type) -> bool:
    """Returns whether a file is one object whose first value, by its bracket, is a dict or a list."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(4096).lstrip()
    name, _, after = head[1:].partition('":')
    return (
        head.startswith("{")
        and name.strip().removeprefix('"') not in _OF_ROWS
        and after.lstrip().startswith("{" if kind is dict else "[")
    )


def _of_queries(queries: list[Query]) -> dict[str, np.ndarray]:
    without = [query for query in queries if isinstance(query.key, tuple)]
    if without:
        raise UserError(
            f"the ground truth: {len(without)} of {len(queries)} questions have no qid like 4010069381_3"
        )
    return {str(query.key): query.windows_s for query in queries}


def _moments(path: Path) -> dict[str, np.ndarray]:
    problems, moments = Problems(path, "questions"), {}
    for video, _, value in read_members(path):
        located = value.get("location") if isinstance(value, dict) else None
        if not isinstance(located, dict):
            raise UserError(f'{path}: "{video}" has no object "location": question → list of moments')
        for qid, rows in located.items():
            problems.seen += 1
            windows, wrong = windows_of({"location": rows}, "location", (2,))
            if wrong or not len(windows):
                problems.add(f'"{video}", question {qid}', wrong or "it has no moments")
                continue
            moments[f"{video}_{qid}"] = windows
    problems.refuse()
    if not moments:
        raise UserError(f"{path}: there are no questions in it")
    return moments


def _spans(path: Path) -> dict[str, np.ndarray]:
    problems, spans = Problems(path, "predictions"), {}
    for key, _, value in read_members(path):
        problems.seen += 1
        windows, wrong = windows_of({"span": [value]}, "span", (2,))
        if wrong:
            problems.add(f'"{key}"', wrong)
            continue
        spans[key] = windows[0]
    problems.refuse()
    return spans


def _right_answers(path: Path, questions: list[str]) -> np.ndarray:
    """Returns whether the answer to each of Q questions is right, bool [Q]; without an answer it is wrong."""
    right, unknown = {}, 0
    for key, _, value in read_members(path):
        told = (
            [as_text(value.get(name)) for name in ("answer", "prediction")] if isinstance(value, dict) else []
        )
        if not all(told) or not told:
            raise UserError(f'{path}: "{key}" must have "answer" and "prediction", not {shown(value)}')
        right[key] = told[0] == told[1]
    missing = [key for key in questions if key not in right]
    unknown = len(right) + len(missing) - len(questions)
    if unknown == len(right):
        raise UserError(f"{path}: none of its {len(right)} answers is to a question of the ground truth")
    warn_of(missing, len(questions), "questions have no answer: they are wrong")
    return np.array([right.get(key, False) for key in questions])
