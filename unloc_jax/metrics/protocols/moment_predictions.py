"""Predictions of moments in the formats of other evaluators, as the rows of moment_detr's.

Ego4D NLQ: {"challenge": …, "results": [{"clip_uid", "annotation_uid", "query_idx", "predicted_times": [[s, s], …]}]}.
TimeLens: {"VIDEO>>>QUERY>>>[start, end]": {"timestamps": [[s, s], …]}}, also one such object per line.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.metrics.protocols.json_files import read_members, read_rows, shown

_HEAD = 1 << 16


def prediction_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields rows with "qid", or "vid" and "query", and their places, as `json_files.read_rows` does.

    Raises:
      UserError: the file is of none of the formats.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(_HEAD).lstrip()
    first_name = head[1:].lstrip().partition('":')[0]
    if head.startswith("{") and ">>>" in first_name:
        yield from _timelens(path)
    elif head.startswith("{") and '"predicted_times"' in head and '"results"' in head:
        yield from _ego4d_nlq(path)
    else:
        yield from read_rows(path)


def _ego4d_nlq(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, _, value in read_members(path):
        if name != "results":
            continue
        if not isinstance(value, list):
            raise UserError(f'{path}: "results" must be a list, not {shown(value)}')
        for number, row in enumerate(value):
            where = f"results[{number}]"
            needed = ("clip_uid", "annotation_uid", "query_idx", "predicted_times")
            if not isinstance(row, dict) or not all(key in row for key in needed):
                raise UserError(f"{path}: {where}: {', '.join(needed)} are needed, not {shown(row)}")
            qid = f"{row['annotation_uid']}_{row['query_idx']}"
            yield where, {"qid": qid, "vid": row["clip_uid"], "pred_relevant_windows": row["predicted_times"]}


def _timelens(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    is_lines = path.suffix.lower() == ".jsonl"
    objects = (
        (row.items() for _, row in read_rows(path))
        if is_lines
        else [((k, v) for k, _, v in read_members(path))]
    )
    for members in objects:
        for key, value in members:
            video, _, rest = key.partition(">>>")
            query, _, _ = rest.rpartition(">>>")
            if not isinstance(value, dict) or "timestamps" not in value or not query:
                raise UserError(
                    f'{path}: {shown(key)}: "VIDEO>>>QUERY>>>SPAN" with "timestamps", a list of [start, end], is'
                    " needed; answers in words are not read"
                )
            yield shown(key), {"vid": video, "query": query, "pred_relevant_windows": value["timestamps"]}
