"""The files of `unloc evaluate`: predictions in the datasets' own formats, with nothing left out that was scored.

Numbers are written with all digits of float32, and ids as the dataset's file has them, so that `unloc metrics` on these
files gives what `unloc evaluate` prints.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.decimals import shortest
from unloc_jax.errors import UserError
from unloc_jax.queries import Query, file_id
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import Found, Task
from unloc_jax.tasks.action_segmentation import frame_labels, frame_times_s
from unloc_jax.tasks.highlight_detection import highlight_clips, scored_windows

BACKGROUND = "background"


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


def detections(task: Task, records: Sequence[VideoRecord], found: Found) -> Iterator[str]:
    """ActivityNet's submission format in parts: every detection that has a score, best first within its video."""
    yield '{"version": "VERSION 1.3", "results": {'
    levels = _levels(task, found)
    classes = task.evaluation_classes
    for number, (record, *of_video) in enumerate(zip(records, found.segments_s, found.scores, levels)):
        segments_s, scores, of_pyramid = (np.asarray(x) if x is not None else None for x in of_video)
        assert segments_s is not None and scores is not None
        label, place = np.nonzero(scores > 0)
        segments, values = shortest(segments_s[label, place]), shortest(scores[label, place])
        rows: list[dict[str, Any]] = [
            {"label": classes[label[i]], "score": float(values[i]), "segment": segments[i].tolist()}
            | ({} if of_pyramid is None else {"level": int(of_pyramid[label[i], place[i]])})
            for i in np.argsort(-values, kind="stable")
        ]
        yield f"{', ' if number else ''}{json.dumps(str(file_id(record)))}: {json.dumps(rows)}"
    yield '}, "external_data": {}}\n'


def moments(
    task: Task, records: Sequence[VideoRecord], queries: Sequence[Sequence[Query]], found: Found
) -> Iterator[str]:
    """moment_detr's format, one line per query, with the ground truth's windows beside where they are known.

    Highlights ("pred_saliency_scores") are there where curves are: per 2-second clip, or per labelled piece.
    """
    windows = iter(scored_windows(found))
    levels = _levels(task, found)
    for v, (record, of_video) in enumerate(zip(records, queries)):
        for i, query in enumerate(of_video):
            line: dict[str, Any] = {} if query.qid is None else {"qid": query.qid}
            line |= {"vid": file_id(record), "query": query.text}
            line["duration"] = float(shortest(np.float32(record.duration_s)))
            if "domain" in query.attributes:
                line["domain"] = query.attributes["domain"]
            if len(query.windows_s):
                line["relevant_windows"] = query.windows_s.tolist()
            line["pred_relevant_windows"] = next(windows).tolist()
            of_pyramid = levels[v]
            if of_pyramid is not None:
                line["pred_levels"] = of_pyramid[i][found.scores[v][i] > 0].tolist()
            if task.keeps_curves:
                clips = highlight_clips(record, query, found.curves[v][i], found.spans_s[v])
                line["pred_saliency_scores"] = clips.tolist()
            yield json.dumps(line) + "\n"


def frames(task: Task, records: Sequence[VideoRecord], found: Found) -> Iterator[str]:
    """A line per video: the class of each frame that was looked at, "pred", and its own, "gt", where that is known.

    Of a frame with several classes "gt" is the predicted one if it is among them.
    """
    classes = task.evaluation_classes
    number = {name: i for i, name in enumerate(classes)}
    known = task.can_score(records)
    for record, span_s, shown in zip(records, found.spans_s, found.frame_classes):
        line: dict[str, Any] = {
            "video_id": file_id(record),
            "times_s": frame_times_s(span_s, len(shown)).tolist(),
            "pred": [classes[i] if i >= 0 else BACKGROUND for i in shown],
        }
        if known:
            own = frame_labels(record, span_s, len(shown), number)
            right = own[np.arange(len(shown)), shown] & (shown >= 0)
            which = np.where(right, shown, np.where(own.any(1), own.argmax(1), -1))
            line["gt"] = [classes[i] if i >= 0 else BACKGROUND for i in which]
        yield json.dumps(line) + "\n"


def whole_videos(records: Sequence[VideoRecord], found: Found) -> Iterator[str]:
    """A line per video: its five best texts with their scores, "best", and its own text, "label", where it is known."""
    for record, texts, scores in zip(records, found.texts, found.video_scores):
        best = np.argsort(-scores, kind="stable")[:5]
        values = shortest(scores)
        line = {"video_id": file_id(record), "best": [[texts[i], float(values[i])] for i in best]}
        yield json.dumps(line | ({"label": record.texts[0]} if record.texts else {})) + "\n"


def _levels(task: Task, found: Found) -> Sequence[np.ndarray | None]:
    """Per video int [n, K]: the pyramid level of every segment; None where nothing came from a pyramid."""
    if found.points:
        return [task.geometry.levels[points] for points in found.points]
    return [None] * len(found.scores)
