"""`unloc data check`: summarises annotation files and lists all problems with them and with their videos."""

import functools
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from data_pipelines.annotations import parse
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problem
from data_pipelines.annotations.statistics import NUM_BINS, statistics
from data_pipelines.builders.feature_files import feature_sources
from data_pipelines.builders.fit_to_duration import fit_to_video
from data_pipelines.builders.frames import EncodeTask, UnusableVideo, encode_video
from data_pipelines.builders.hidden_splits import leave_out_absent
from data_pipelines.builders.video_files import SeveralFilesError, names_of, sound_files, video_files
from data_pipelines.starting_point import commands, starting_point
from unloc_jax.errors import UserError
from unloc_jax.sound_notes import lacks_sound
from unloc_jax.video import VideoError, VideoNote, probe, video_length_s
from unloc_jax.worker_process import start_worker

_BATCH = 64  # files submitted at once; if a process dies, up to this many are tried again one by one
_SOUND_RATE = 16000  # samples per second
_BAR = 40  # characters of the longest bar of the histogram
Probed = tuple[float, str, *tuple[VideoNote, ...]]  # see `probe_file`


def check(
    dataset: str,
    annotations: list[Path],
    videos: Path | None = None,
    workers: int | None = None,
    *,
    features: Sequence[str] = (),
    features_axis: Sequence[str] = (),
    sound: bool = False,
    sound_track: int | None = None,
) -> dict[str, Any]:
    """Reads annotation files and, if a folder is given, the headers of their videos.

    Args:
      dataset: name of an annotation parser (`data_pipelines.annotations.PARSERS`).
      annotations: the annotation files of all splits.
      videos: folder with the video files, named by their ids; shows progress on standard error.
      workers: processes that open videos; None: one per CPU. They are spawned: a script must call this below
        `if __name__ == "__main__":`.
      sound: reads the whole sound of the videos too, and suggests a model that hears.
      sound_track: see `unloc_jax.sound.read_sound`.
      features, features_axis: those to begin with instead of frames, as for `unloc data build`.

    Returns:
      A dictionary ready for JSON: the result of `statistics`, "dataset", "files" (names), "problems" (kind → count),
      "examples" (kind → [{"where", "detail"}, …], a few of each kind), "sound" ({"videos", "with_sound"}: how many were
      opened and how many of them have sound; None if it was not read) and "start": the commands of `starting_point`, []
      if there is nothing to localise.

    Raises:
      UserError: the dataset is unknown, a file is missing or not in its format, or `videos` does not exist.
    """
    sources = feature_sources(features, features_axis)
    parsed = parse(dataset, annotations)
    if sound and videos is None:
        raise UserError("Sound (--audio) is read from video files: --videos DIR.")
    if sound_track is not None and not sound:
        raise UserError("--audio-track picks a track of the sound: it needs --audio.")
    heard = {"videos": 0, "with_sound": 0} if sound else None
    if videos is not None:
        if not videos.is_dir():
            raise UserError(f"{videos}: there is no such video folder.")
        _check_videos(parsed, videos, workers or os.cpu_count() or 1, heard, sound_track)
    point = starting_point(parsed, sources, sound)
    return {
        "dataset": dataset,
        "files": [Path(file).name for file in annotations],
        **statistics(parsed),
        "problems": dict(parsed.problems.counts.most_common()),
        "examples": {
            kind: [{"where": example.where, "detail": example.detail} for example in examples]
            for kind, examples in parsed.problems.examples.items()
        },
        "sound": heard,
        "start": commands(point, dataset, annotations, videos, features, features_axis, sound_track)
        if point
        else [],
    }


def to_text(result: dict[str, Any]) -> str:
    """Formats the result of `check` for the terminal."""
    counts = [f"{result[name]} {name}" for name in ("videos", "segments", "texts", "classes") if result[name]]
    lines = [f"{result['dataset']}: {', '.join(counts) or 'nothing'} in {', '.join(result['files'])}"]
    usable = result["usable"]
    lines.append(f"usable: {usable['videos']} videos, {usable['segments']} segments")
    others, merged = result["segments"] - usable["segments"], result["merged"]
    if merged:
        lines.append(
            f"  {merged} segments are answers that equal another annotator's: they are counted there"
        )
    if others > merged:
        lines.append(f"  {others - merged} segments are left out: see the problems")
    if result["absent"]:
        lines.append(f"queries without an answer in their video: {result['absent']}")
    if result["sound"]:
        lines.append(f"sound: in {result['sound']['with_sound']} of {result['sound']['videos']} videos")
    if result["texts_with_saliency"]:
        lines.append(f"highlight scores: of {result['texts_with_saliency']} texts")
    if result["unknown_durations"]:
        lines.append(
            f"duration missing: of {result['unknown_durations']} videos. With --videos it is measured; a build without "
            "frames (--no-frames) needs it in the annotations, or features with `duration_s`"
        )
    lines += ["", f"{'split':<20}{'videos':>10}{'segments':>10}{'texts':>10}"]
    for split, row in result["splits"].items():
        lines.append(f"{split:<20}{row['videos']:>10}{row['segments']:>10}{row['texts']:>10}")
    lines += ["", f"{'':<20}{'min':>10}{'median':>10}{'mean':>10}{'max':>10}"]
    names = {
        "videos_s": "video length, s",
        "segments_s": "segment length, s",
        "segments_per_video": "segments per video",
    }
    for key, name in names.items():
        if (row := result["lengths"][key]) is not None:
            lines.append(
                f"{name:<20}" + "".join(f"{row[of]:>10.2f}" for of in ("min", "median", "mean", "max"))
            )
    if result["suggested"] is not None:
        lines += ["", *_histogram(result["relative_lengths"]), "", *_suggestion(result["suggested"])]
    if result["start"]:
        lines += ["", "a small model from scratch to begin with (docs/own_dataset.md):"]
        lines += [f"  {command}" for command in result["start"]]
    if result["notes"]:
        lines += ["", *(f"note: {note}" for note in result["notes"])]
    lines += ["", "problems:" if result["problems"] else "problems: none"]
    for kind, count in result["problems"].items():
        lines.append(f"{count:8d}  {kind}")
        for example in result["examples"][kind]:
            detail = f": {example['detail']}" if example["detail"] else ""
            lines.append(f"          - {example['where']}{detail}")
    return "\n".join(lines)


def _histogram(counts: list[int]) -> list[str]:
    lines = ["length of segments relative to their video:"]
    for number, count in enumerate(counts):
        low, high = (100 * edge // NUM_BINS for edge in (number, number + 1))
        bar = "#" * round(_BAR * count / max(counts))
        lines.append(f"{low:>4} to {high:>3} %{count:>9}  {bar}".rstrip())
    return lines


def _suggestion(pyramid: dict[str, Any]) -> list[str]:
    ranges = ", ".join(
        f"({low:g}, {'inf' if high is None else f'{high:g}'})" for low, high in pyramid["regression_ranges"]
    )
    if pyramid["num_levels"] == 1:
        ranges += ","
    return [
        "suggested pyramid for a model that sees a video as a whole:",
        f"  --config.data.num_frames={pyramid['num_frames']}",
        f"  --config.model.pyramid.num_levels={pyramid['num_levels']}",
        f'  "--config.model.pyramid.regression_ranges=({ranges})"',
    ]


def _check_videos(
    parsed: ParsedAnnotations,
    folder: Path,
    workers: int,
    heard: dict[str, int] | None,
    sound_track: int | None,
) -> None:
    """Adds the problems of the videos to those of the annotations; fills in unknown durations and fits segments.

    `heard`: see `check`; if given, the sound is read too, and counted there.
    """
    problems = parsed.problems
    unusable: set[int] = set()
    files: dict[Path, list[int]] = {}  # a file → the records of its video
    kinds = [video_files(folder)] + ([] if heard is None else [sound_files(folder)])
    leave_out_absent(
        parsed, lambda video_id: any(there.named(name) for there in kinds for name in names_of(video_id))
    )
    for number, record in enumerate(parsed.records):
        where = f"{record.split}: {record.video_id}"
        try:
            names = names_of(record.video_id)
            file = next((at for there in kinds if (at := there.find(names)) is not None), None)
        except SeveralFilesError as error:
            problems.add("several files of one video", where, str(error))
            continue
        if file is None:
            name = folder / record.video_id
            problems.add("missing video", where, f"no file {name}.mp4 (or .mov, .mkv, …)")
        else:
            files.setdefault(file, []).append(number)
    probe_one = probe_file if heard is None else functools.partial(probe_sound, track=sound_track)
    with tqdm(total=len(files), desc="opening videos", unit="video", file=sys.stderr) as progress:
        for path, duration_s, fault, *notes in probe_all(list(files), workers, probe_one):
            progress.update()
            if heard is not None and not fault:
                heard["videos"] += 1
                heard["with_sound"] += not any(lacks_sound(note) for note in notes)
            for number in files[path]:
                record = parsed.records[number]
                for note in notes:
                    problems.add(note.kind, f"{record.split}: {record.video_id}", note.detail)
                if fault:
                    problems.add("undecodable video", f"{record.split}: {record.video_id}", fault)
                elif duration_s:
                    findings: list[Problem] = []
                    fitted = fit_to_video(record, duration_s, findings)
                    for found in findings:
                        problems.add(found.kind, found.where, found.detail)
                    if fitted is None:
                        problems.add("video without usable segments", f"{record.split}: {record.video_id}")
                        unusable.add(number)
                    else:
                        parsed.records[number] = fitted
    parsed.records = [record for number, record in enumerate(parsed.records) if number not in unusable]


def probe_file(path: Path) -> Probed:
    """Returns (length in seconds or 0.0 if unknown, "", notes…) of a video; (0.0, fault) if it is unusable."""
    try:
        info = probe(path)
        return video_length_s(path, info), "", *info.notes
    except VideoError as error:
        return 0.0, str(error)
    except Exception as error:  # one odd file among thousands must not end a check of an hour
        return 0.0, f"{path}: {type(error).__name__}: {error}"


def probe_sound(path: Path, track: int | None) -> Probed:
    """Does what `probe_file` does, of videos and of files of sound alone; reads the whole sound, for notes on it."""
    read = encode_video(EncodeTask(path.name, path, 1.0, 16, 90, _SOUND_RATE, track, with_frames=False))
    if isinstance(read, UnusableVideo):
        return 0.0, read.reason
    return read.duration_s, "", *read.notes


def probe_all(
    paths: Sequence[Path], workers: int, probe_one: Callable[[Path], Probed] = probe_file
) -> Iterator[tuple[Path, float, str, *tuple[VideoNote, ...]]]:
    """Yields (path, length in seconds, fault, notes…) of each file, see `probe_file`, from `workers` processes.

    FFmpeg is C code: a damaged file can crash the process that opens it. Files whose results are lost in this way are
    tried again one by one, each in its own process.
    """
    pool = _pool(min(workers, len(paths)))
    try:
        for start in range(0, len(paths), _BATCH):
            lost = []
            for path, result in _results(pool, paths[start : start + _BATCH], probe_one):
                if result is None:
                    lost.append(path)
                else:
                    yield path, *result
            if lost:
                pool.shutdown()
                pool = _pool(min(workers, len(paths)))
            for path in lost:
                with _pool(1) as alone:
                    ((_, result),) = _results(alone, [path], probe_one)
                yield path, *(result or (0.0, f"{path}: opening it ended the process."))
    finally:
        pool.shutdown(cancel_futures=True)


def _results(
    pool: ProcessPoolExecutor, paths: Sequence[Path], probe_one: Callable[[Path], Probed]
) -> Iterator[tuple[Path, Probed | None]]:
    """Yields (path, result) of each file; the result is None if the process died."""
    futures = []
    for path in paths:
        try:
            futures.append((path, pool.submit(probe_one, path)))
        except BrokenProcessPool:
            yield path, None
    for path, future in futures:
        try:
            yield path, future.result()
        except BrokenProcessPool:
            yield path, None


def _pool(workers: int) -> ProcessPoolExecutor:
    # "spawn": locks inherited by forking a program with threads may stay locked forever.
    return ProcessPoolExecutor(
        max(workers, 1), mp_context=multiprocessing.get_context("spawn"), initializer=start_worker
    )
