"""Synthesizes a small video dataset for trying everything out: moving shapes, captions, activity labels.

The videos are untrimmed, with 4 or 5 captioned events and one distractor, short and long, that overlap. One caption of
each video has a rival that differs only in the object and one that differs only in the motion. Or they are trimmed, for
pretraining: one captioned event fills the clip. Needs no downloads and no TensorFlow.
"""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm.auto import tqdm

from data_pipelines.synthetic import language
from data_pipelines.synthetic.render import render_frames
from data_pipelines.synthetic.scene import COLORS, SHAPES, Event, Scene, make_scene, make_trimmed_scene
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.whole_writes import write_result
from unloc_jax.worker_process import start_worker

# Changes whenever the same arguments would give other videos, so that no folder mixes two recipes.
RECIPE = 4

_SPLITS = ("train", "val", "test")
_CAPTIONS = {split: f"captions_{split}.json" for split in _SPLITS}
_ACTIVITIES = "activities.json"
_SUBSETS = {"train": "training", "val": "validation", "test": "testing"}  # names of ActivityNet 1.3


@dataclasses.dataclass(frozen=True)
class _Job:
    """One video to synthesize; small, because it is sent to another process."""

    path: Path
    split: str
    index: int
    seed: int
    size: int
    fps: int
    trimmed: bool = False


def synthesize(
    out: str | Path,
    *,
    num_train: int = 1200,
    num_val: int = 60,
    num_test: int = 150,
    seed: int = 0,
    size: int = 128,
    fps: int = 10,
    trimmed: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Writes synthetic videos with captions and activity labels.

    Files, where a video's id is its split and number ("train_00012"):

      OUT/videos/ID.mp4                           H.264, size × size pixels, 10 to 20 seconds (trimmed: 2 to 6)
      OUT/annotations/captions_{train,val,test}.json  format of ActivityNet Captions, and per sentence
                                                  "attributes": {"object": "red circle", "motion": "left"}
      OUT/annotations/activities.json             format of ActivityNet 1.3: every event, including the
                                                  distractor, labelled like "moves left" (trimmed: with
                                                  the object, "red circle moves left", 108 classes)
      OUT/synthetic.json                          arguments and summary; written last

    The same arguments give the same files, independent of the number of processes. A finished folder is reused, an
    interrupted one is completed.

    Args:
      out: folder to write to; new, empty, or written by this function.
      num_train, num_val, num_test: videos per split.
      seed: determines the videos.
      size: side of the square frames in pixels, even.
      fps: frames per second.
      trimmed: one captioned event per video, from its first frame to its last, for pretraining.
      workers: processes; default: one per CPU. More than one are spawned: a script must call this below
        `if __name__ == "__main__":`.

    Returns:
      The summary that is also printed: "out", "videos" per split, "queries", "distractors", "event_s" (min, median,
      mean and max length in seconds), "megabytes", "seconds" that it took, and "reused".

    Raises:
      UserError: an argument is out of range, or `out` holds something else or is not writable.
    """
    counts = dict(zip(_SPLITS, (num_train, num_val, num_test)))
    _check(counts, seed, size, fps, workers)
    out = Path(out)
    arguments = {"recipe": RECIPE, **counts, "seed": seed, "size": size, "fps": fps, "trimmed": trimmed}
    jobs = [
        _Job(out / "videos" / f"{split}_{index:05d}.mp4", split, index, seed, size, fps, trimmed)
        for split, count in counts.items()
        for index in range(count)
    ]
    finished, started = out / "synthetic.json", out / "synthetic.unfinished.json"
    with _usable(out):
        _check_folder(out, arguments, finished, started)
    annotations = [out / "annotations" / name for name in (*_CAPTIONS.values(), _ACTIVITIES)]
    if all(path.exists() for path in (finished, *annotations, *(job.path for job in jobs))):
        show(f"reusing {out}: it was made with the same arguments")
        return {**parse_json(finished.read_text())["summary"], "out": str(out), "reused": True}

    began = time.monotonic()
    with _usable(out):
        for folder in (out / "videos", out / "annotations"):
            folder.mkdir(parents=True, exist_ok=True)
        _write_json(started, {"arguments": arguments})
    scenes = list(tqdm(_run(jobs, workers or os.cpu_count() or 1), "synthesize", len(jobs), unit="video"))
    _write_annotations(out / "annotations", jobs, scenes, trimmed)
    summary = _summarize(out, counts, jobs, scenes, time.monotonic() - began)
    _write_json(finished, {"arguments": arguments, "summary": summary})
    started.unlink()
    _print_summary(summary)
    return summary


def _check(counts: dict[str, int], seed: int, size: int, fps: int, workers: int | None) -> None:
    for split, count in counts.items():
        if count < 0:
            raise UserError(f"num_{split} is {count}: give 0 or more videos")
    if not any(counts.values()):
        raise UserError("num_train, num_val and num_test are all 0: ask for at least one video")
    if seed < 0:
        raise UserError(f"seed is {seed}: give 0 or more")
    if size < 32 or size % 2:
        raise UserError(f"size is {size}: give an even number of pixels, 32 or more")
    if fps < 4:
        raise UserError(f"fps is {fps}: give 4 or more, so that half a second shows a motion")
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}: give 1 or more")


@contextlib.contextmanager
def _usable(out: Path) -> Iterator[None]:
    """Turns file system errors into a UserError about the choice of `out`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out}: cannot write there ({error.strerror}): choose another --out") from error


def _check_folder(out: Path, arguments: dict[str, Any], finished: Path, started: Path) -> None:
    """Raises UserError for a folder that holds anything but (a part of) the output of these arguments."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose another --out")
    for marker in (finished, started):
        if not marker.exists():
            continue
        try:
            made_with = {"trimmed": False, **parse_json(marker.read_text())["arguments"]}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{marker} is not readable: choose another --out, or delete {out}") from None
        if made_with != arguments:
            differing = sorted(k for k in arguments if made_with.get(k) != arguments[k])
            was = ", ".join(f"{k}={made_with.get(k)} (now {arguments[k]})" for k in differing)
            raise UserError(
                f"{out} was made with other arguments, {was}: choose another --out, or delete {out}"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no synthetic videos: choose another --out")


def _run(jobs: list[_Job], workers: int) -> Iterator[Scene]:
    """Synthesizes the videos; yields their scenes in the order of the jobs."""
    workers = min(workers, len(jobs))
    if workers == 1:
        yield from map(_make_video, jobs)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker
    )
    try:
        yield from pool.map(_make_video, jobs, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)  # otherwise Ctrl-C would wait for all the videos


def _make_video(job: _Job) -> Scene:
    rng = np.random.default_rng([job.seed, _SPLITS.index(job.split), job.index])
    scene = make_trimmed_scene(rng, job.fps) if job.trimmed else make_scene(rng, job.fps)
    if not job.path.exists():
        # Written under another name first: a file with the right name is always complete.
        part = job.path.with_suffix(".part")
        _encode(part, render_frames(scene, rng, job.size, job.fps), job.size, job.fps)
        os.replace(part, job.path)
    return scene


def _encode(path: Path, frames: Iterable[np.ndarray], size: int, fps: int) -> None:
    options = {"preset": "veryfast", "crf": "20", "threads": "1"}
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for k, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_annotations(folder: Path, jobs: list[_Job], scenes: list[Scene], trimmed: bool) -> None:
    label = _action_label if trimmed else _motion_label
    captions: dict[str, dict[str, Any]] = {split: {} for split in _SPLITS}
    database = {}
    for job, scene in zip(jobs, scenes):
        queries = [event for event in scene.events if event.sentence is not None]
        captions[job.split][job.path.stem] = {
            "duration": scene.duration_s,
            "timestamps": [[event.start_cs / 100, event.end_cs / 100] for event in queries],
            "sentences": [event.sentence for event in queries],
            "attributes": [
                {"object": f"{event.color} {event.shape}", "motion": event.motion} for event in queries
            ],
        }
        database[job.path.stem] = {
            "duration": scene.duration_s,
            "subset": _SUBSETS[job.split],
            "annotations": [
                {
                    "segment": [event.start_cs / 100, event.end_cs / 100],
                    "label": label(event),
                }
                for event in scene.events
            ],
        }
    for split, videos in captions.items():
        _write_json(folder / _CAPTIONS[split], videos)
    activities = {"version": f"synthetic {RECIPE}", "taxonomy": _taxonomy(trimmed), "database": database}
    _write_json(folder / _ACTIVITIES, activities)


def _motion_label(event: Event) -> str:
    return language.CLASS_LABELS[event.motion]


def _action_label(event: Event) -> str:
    return f"{event.color} {event.shape} {_motion_label(event)}"


def _taxonomy(trimmed: bool) -> list[dict[str, Any]]:
    labels = list(language.CLASS_LABELS.values())
    if trimmed:
        labels = [" ".join(parts) for parts in itertools.product(COLORS, SHAPES, labels)]
    root = {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}
    return [root] + [
        {"nodeId": i, "nodeName": label, "parentId": 0, "parentName": "Root"}
        for i, label in enumerate(labels, start=1)
    ]


def _summarize(
    out: Path, counts: dict[str, int], jobs: list[_Job], scenes: list[Scene], seconds: float
) -> dict[str, Any]:
    events = [event for scene in scenes for event in scene.events]
    lengths_s: np.ndarray = np.array([event.end_cs - event.start_cs for event in events]) / 100
    statistics = {
        "min": lengths_s.min(),
        "median": np.median(lengths_s),
        "mean": lengths_s.mean(),
        "max": lengths_s.max(),
    }
    queries = sum(event.sentence is not None for event in events)
    return {
        "out": str(out),
        "videos": counts,
        "queries": queries,
        "distractors": len(events) - queries,
        "event_s": {name: round(float(value), 2) for name, value in statistics.items()},
        "megabytes": round(sum(job.path.stat().st_size for job in jobs) / 1e6, 1),
        "seconds": round(seconds, 1),
        "reused": False,
    }


def _print_summary(summary: dict[str, Any]) -> None:
    videos = ", ".join(f"{count} {split}" for split, count in summary["videos"].items())
    lengths = ", ".join(f"{name} {value:g}" for name, value in summary["event_s"].items())
    show(
        f"{summary['out']}: {videos} videos\n"
        f"events: {summary['queries']} with a caption, {summary['distractors']} distractors;"
        f" length in s: {lengths}\n"
        f"{summary['megabytes']:g} MB in {summary['seconds']:g} s"
    )


def _write_json(path: Path, content: Any) -> None:
    write_result(path, json.dumps(content, indent=1))
