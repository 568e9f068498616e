"""`unloc submission`: predictions in the format of a challenge's server, checked as its published code checks them."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unloc_jax import siblings
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems
from unloc_jax.metrics.protocols.action_rows import read_results_of
from unloc_jax.metrics.protocols.json_files import read_members, read_rows, shown
from unloc_jax.metrics.protocols.moment_files import windows_of
from unloc_jax.names import as_text, normal_text
from unloc_jax.paths import check_output_file
from unloc_jax.whole_writes import write_result


def write_submission(
    challenge: str, predictions: Path, out: Path, *, classes: Sequence[Path] = (), levels: str | None = None
) -> None:
    """Writes predictions of `unloc evaluate` in a challenge's format.

    Args:
      challenge: a name in `CHALLENGES`.
      predictions: predictions.json (actions) or predictions.jsonl (moments).
      out: JSON to write; JSON lines for QVHighlights.
      classes: EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv, for EPIC-Kitchens.
      levels: EPIC-Kitchens' supervision levels of pretraining, training labels and training data, "2,4,4".

    Raises:
      UserError: there is no such challenge, an option is missing or not for it, or the predictions do not fit it.
    """
    if challenge not in CHALLENGES:
        raise UserError(f"--challenge={challenge}: the challenges are {', '.join(CHALLENGES)}")
    check_output_file("--out", out)
    is_epic = challenge == "epic-kitchens"
    for name, given in (("--classes", classes), ("--levels", levels)):
        if bool(given) != is_epic:
            what = "needs" if is_epic else "does not take"
            raise UserError(f"--challenge={challenge} {what} {name} (docs/metrics.md)")
    text = (
        _epic_kitchens(predictions, classes, levels or "") if is_epic else CHALLENGES[challenge](predictions)
    )
    write_result(out, text)
    show(f"wrote {out}")


def _results(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows {"label", "score", "segment"} of each video, best first."""
    problems, results = Problems(path, "predictions"), {}
    for _, video, rows in read_members(path, "results"):
        if video is None:
            continue
        found = read_results_of(path, video, rows, problems)
        for number, (start, end) in enumerate(found.segments_s.tolist()):
            if not 0 <= start < end:
                problems.add(
                    f'results["{video}"][{number}]', f"0 ≤ start < end is needed, not {[start, end]}"
                )
        each = zip(found.labels, found.score.tolist(), found.segments_s.tolist())
        made = [{"label": label, "score": score, "segment": segment} for label, score, segment in each]
        results[video] = sorted(made, key=lambda row: -row["score"])
    problems.refuse()
    if not any(results.values()):
        raise UserError(f"{path}: there are no predictions in it")
    return results


def _activitynet(path: Path) -> str:
    """`eval_detection.py`: "version", "results" and "external_data"; ids without "v_"."""
    results = {video.removeprefix("v_"): rows for video, rows in _results(path).items()}
    return _json(
        {"version": "VERSION 1.3", "results": results, "external_data": {"used": False, "details": ""}}
    )


def _ego4d_mq(path: Path) -> str:
    """`Merge_detection_retrieval.py`: the same detections for both metrics, best first, which recall needs."""
    results = _results(path)
    content = {"version": "1.0", "challenge": "ego4d_moment_queries"}
    return _json(content | {"detect_results": results, "retrieve_results": results})


def _epic_kitchens(path: Path, classes: Sequence[Path], levels: str) -> str:
    """`evaluate_detection_json_ek100.py`: `validate_submission`, version 0.2."""
    numbers = levels.split(",")
    if len(numbers) != 3 or not all(number.strip() in {"0", "1", "2", "3", "4", "5"} for number in numbers):
        raise UserError(
            f"--levels={levels}: three numbers from 0 to 5 are needed: pretraining, labels, data (2,4,4)"
        )
    pairs = _pairs(classes)
    results: dict[str, list[dict[str, Any]]] = {}
    for video, rows in _results(path).items():
        results[video] = []
        for row in rows:
            pair = pairs.get(normal_text(row["label"]))
            if pair is None:
                raise UserError(
                    f'{path}: results["{video}"]: {shown(row["label"])} is no verb and noun of --classes; a submission'
                    " needs a model of the actions, --dataset=epic_kitchens"
                )
            verb, noun = pair
            ids = {"verb": verb, "noun": noun, "action": f"{verb},{noun}"}
            results[video].append(ids | {"score": row["score"], "segment": row["segment"]})
    names = ("sls_pt", "sls_tl", "sls_td")
    content = {"version": "0.2", "challenge": "action_detection", **dict(zip(names, map(int, numbers)))}
    return _json(content | {"results": results})


def _pairs(files: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """Returns (verb, noun) of each action "VERB NOUN"."""
    with siblings.ours("data_pipelines"):
        from data_pipelines.annotations.problems import Problems as Findings
        from data_pipelines.annotations.table_file import read_table

        layout = "EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv have the columns id and key"
        tables = {
            kind: [
                row
                for path in files
                if kind in path.name
                for _, row in read_table(path, ("id", "key"), Findings(), layout)
            ]
            for kind in ("verb", "noun")
        }
    for kind, rows in tables.items():
        if not rows or not all(row["id"].isdecimal() and row["key"] for row in rows):
            raise UserError(f"--classes: {layout}; no such file of {kind}s is given")
    return {
        normal_text(f"{verb['key']} {noun['key']}"): (int(verb["id"]), int(noun["id"]))
        for verb in tables["verb"]
        for noun in tables["noun"]
    }


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any], list[list[float]]]]:
    """Yields (place, row, windows [start, end, score]) of each query."""
    problems, made = Problems(path, "predictions"), []
    for where, row in read_rows(path):
        problems.seen += 1
        windows, wrong = windows_of(row, "pred_relevant_windows", (3,))
        if not wrong and not as_text(row.get("qid")):
            wrong = '"qid" is missing'
        if wrong:
            problems.add(where, wrong)
        made.append((where, row, windows.tolist()))
    problems.refuse()
    yield from made


def _ego4d_nlq(path: Path) -> str:
    """`evaluate_ego4d_nlq.py`: qids are ANNOTATION_INDEX, as `unloc data build --dataset=ego4d_nlq` makes them."""
    results = []
    for where, row, windows in _rows(path):
        uid, _, index = as_text(row["qid"]).rpartition("_")
        if not uid or not index.isdecimal() or not as_text(row.get("vid")):
            raise UserError(
                f"{path}: {where}: a qid like ANNOTATION-UID_0 and the clip's uid as vid are needed, not"
                f" {shown(row['qid'])} and {shown(row.get('vid'))}"
            )
        if not windows:
            raise UserError(f"{path}: {where}: the server needs at least one window")
        ids = {"clip_uid": as_text(row["vid"]), "annotation_uid": uid, "query_idx": int(index)}
        results.append(ids | {"predicted_times": [window[:2] for window in windows]})
    return _json({"version": "1.0", "challenge": "ego4d_nlq_challenge", "results": results})


_QVHIGHLIGHTS = ("qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores")


def _qvhighlights(path: Path) -> str:
    """moment_detr's `standalone_eval`: lines of qids, with windows and a score for every 2-second clip."""
    lines = []
    for where, row, windows in _rows(path):
        missing = [name for name in _QVHIGHLIGHTS if name not in row]
        if missing or type(row["qid"]) is not int:
            needed = "a qid that is a number" if not missing else f'"{missing[0]}"'
            raise UserError(f"{path}: {where}: {needed} is needed")
        ranked = sorted(windows, key=lambda window: -window[2])
        lines.append(
            json.dumps({name: row[name] for name in _QVHIGHLIGHTS} | {"pred_relevant_windows": ranked}) + "\n"
        )
    return "".join(lines)


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, allow_nan=False) + "\n"


CHALLENGES: dict[str, Callable[..., str]] = {
    "activitynet": _activitynet,
    "ego4d-mq": _ego4d_mq,
    "ego4d-nlq": _ego4d_nlq,
    "epic-kitchens": _epic_kitchens,
    "qvhighlights": _qvhighlights,
}
