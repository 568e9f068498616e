"""`unloc data build`: annotation files + video folder → a TFDS dataset and a report of what was wrong."""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipelines.annotations import parse
from data_pipelines.annotations.json_file import sha256
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems
from data_pipelines.quiet_tensorflow import import_tensorflow
from unloc_jax.errors import UserError

if TYPE_CHECKING:
    from data_pipelines.builders.unloc_data import BuildSource

BUILD_FILE = "build.json"
REPORT_FILE = "unusable_videos.jsonl"


def build(
    dataset: str,
    annotations: list[Path],
    videos: Path,
    out: Path,
    *,
    fps: float = 10.0,
    short_side: int = 256,
    jpeg_quality: int = 95,
    workers: int | None = None,
) -> Path:
    """Builds a dataset, or reuses the one in `out` if it was built from the same arguments.

    Writes to `out`: the TFDS dataset `unloc_data/<dataset>/1.0.0`; `unusable_videos.jsonl`, the videos that
    were skipped, with reasons; and last `build.json`: the arguments, classes, and what was built and found
    wrong. Prints a summary to standard output and progress to standard error.

    Args:
      dataset: name of an annotation parser (`data_pipelines.annotations.PARSERS`).
      annotations: the annotation files of all splits.
      videos: folder with the video files `<id>.mp4` (or .mkv, .webm, .avi, .mov).
      out: folder to write to.
      fps: frames per second to store.
      short_side: shorter side of the stored frames in pixels.
      jpeg_quality: 1 to 100.
      workers: decoding processes; None: one per CPU. Processes are spawned: call this below
        `if __name__ == "__main__":` when it is in a script.

    Returns:
      The TFDS directory, for `tfds.builder_from_directory` and `RecordIndex.from_dir`.

    Raises:
      UserError: bad arguments or annotation files, a split without any usable video, or a dataset in `out`
        that was built from other arguments.
    """
    annotations, videos, out = [Path(file) for file in annotations], Path(videos), Path(out)
    _check_options(fps, short_side, jpeg_quality, workers)
    parsed = parse(dataset, annotations)
    if not videos.is_dir():
        raise UserError(f"{videos}: there is no such video folder.")
    arguments = {
        "dataset": dataset,
        "annotations": [[file.name, sha256(file)] for file in annotations],
        "videos": str(videos.resolve()),
        "fps": fps,
        "short_side": short_side,
        "jpeg_quality": jpeg_quality,
    }
    with _only_build_in(out):
        done = _finished_build(out, arguments)
        if done is not None:
            print(f"reusing {done}: it was built from the same arguments (delete {out} to build again)")
            return done
        return _build(parsed, videos, out, arguments, workers or os.cpu_count() or 1)


def find_dataset(out: str | Path) -> Path:
    """The TFDS directory in the `out` of a build; also accepts that directory itself.

    Raises:
      UserError: there is no finished dataset.
    """
    out = Path(out)
    if (out / "dataset_info.json").is_file():
        return out
    if (out / BUILD_FILE).is_file():
        found = sorted(out.glob("unloc_data/*/*/dataset_info.json"))
        if found:
            return found[0].parent
    raise UserError(
        f"{out}: no finished dataset here. Build one: "
        f"`unloc data build --dataset NAME --annotations FILE… --videos DIR --out {out}`."
    )


def read_build_info(out: str | Path) -> dict[str, Any]:
    """The build.json of a dataset: "dataset", "fps", "short_side", "classes" (list or None), "splits", ….

    Args:
      out: the `out` of a build, or the TFDS directory in it.

    Raises:
      UserError: there is no finished dataset.
    """
    folder = find_dataset(out).resolve().parents[2]
    try:
        return json.loads((folder / BUILD_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / BUILD_FILE}: missing or damaged. Delete {folder} and build again."
        ) from error


def _check_options(fps: float, short_side: int, jpeg_quality: int, workers: int | None) -> None:
    if not 0 < fps < float("inf"):
        raise UserError(f"fps must be above 0, got {fps}.")
    if short_side < 16:
        raise UserError(f"short_side must be at least 16 pixels, got {short_side}.")
    if not 1 <= jpeg_quality <= 100:
        raise UserError(f"jpeg_quality must be between 1 and 100, got {jpeg_quality}.")
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}.")


@contextlib.contextmanager
def _only_build_in(out: Path) -> Iterator[None]:
    """Holds a lock on `out`; the system lifts it when the process ends, however it ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".build.lock").open("w")
    except OSError as error:
        raise UserError(f"{out}: cannot write there: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{out}: another build is writing there. Wait for it or choose another --out."
            ) from error
        yield


def _finished_build(out: Path, arguments: dict[str, Any]) -> Path | None:
    """The finished dataset in `out`, which must be built from `arguments`; None if there is none."""
    if not (out / BUILD_FILE).is_file():
        return None
    built = read_build_info(out)["arguments"]
    differing = [name for name in arguments if built.get(name) != arguments[name]]
    if differing:
        changes = ", ".join(
            "other annotation files"
            if name == "annotations"
            else f"{name} was {built.get(name)!r}, now {arguments[name]!r}"
            for name in differing
        )
        raise UserError(
            f"{out} holds a dataset built from other arguments ({changes}). "
            "Delete it or choose another --out."
        )
    return find_dataset(out)


def _build(
    parsed: ParsedAnnotations, videos: Path, out: Path, arguments: dict[str, Any], workers: int
) -> Path:
    began = time.monotonic()
    # What a build that was stopped has left: build.json is written last, and no other build holds the lock.
    shutil.rmtree(out / "unloc_data", ignore_errors=True)
    report = out / REPORT_FILE
    report.write_text("")
    import_tensorflow()
    from data_pipelines.builders.unloc_data import BuildSource

    source = BuildSource(
        records=parsed.records,
        videos=videos,
        fps=arguments["fps"],
        short_side=arguments["short_side"],
        jpeg_quality=arguments["jpeg_quality"],
        workers=workers,
        report=report,
    )
    if not source.records:
        names = ", ".join(name for name, _ in arguments["annotations"])
        raise UserError(f"No usable video in {names}: {dict(parsed.problems.counts) or 'no video at all'}.")
    directory = _prepare(source, arguments["dataset"], out)
    splits = {
        split: dataclasses.asdict(counts) | {"texts": len(counts.texts)}
        for split, counts in source.counts.items()
    }
    info = {
        "arguments": arguments,
        "dataset": arguments["dataset"],
        "fps": arguments["fps"],
        "short_side": arguments["short_side"],
        "classes": parsed.classes,
        "splits": splits,
        "problems": {"annotations": dict(parsed.problems.counts), "videos": dict(source.problems.counts)},
    }
    _write_last(out / BUILD_FILE, json.dumps(info, indent=2, ensure_ascii=False))
    _print_summary(info, parsed, source.problems, directory, report, time.monotonic() - began)
    return directory


def _prepare(source: "BuildSource", dataset: str, out: Path) -> Path:
    import tensorflow_datasets as tfds

    from data_pipelines.builders.unloc_data import UnlocData

    tfds.disable_progress_bar()
    # TFDS chooses the number of shards: 64 to 128 MB each, at most as many as there are videos. It prints
    # that it "downloads", which is not so.
    with contextlib.redirect_stdout(io.StringIO()):
        builder = UnlocData(config=dataset, source=source, data_dir=out)
        builder.download_and_prepare()
    with contextlib.suppress(OSError):
        (out / "downloads").rmdir()  # empty: nothing was downloaded
    return Path(builder.data_dir)


def _write_last(path: Path, text: str) -> None:
    """Writes a file so that it exists only when it is complete."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def _print_summary(
    info: dict[str, Any],
    parsed: ParsedAnnotations,
    video_problems: Problems,
    directory: Path,
    report: Path,
    seconds: float,
) -> None:
    print(f"{'split':<12}{'videos':>8}{'segments':>10}{'texts':>8}{'frames':>10}{'MB':>10}")
    for split, row in info["splits"].items():
        print(
            f"{split:<12}{row['videos']:>8}{row['segments']:>10}{row['texts']:>8}{row['frames']:>10}"
            f"{row['megabytes']:>10.1f}"
        )
    print(f"annotation files: {parsed.num_videos} videos, {parsed.num_segments} segments")
    for file, split in parsed.file_splits:
        print(f"  {file.name} → {split}")
    print(f"built in {seconds:.1f} s")
    for title, problems in (("annotations", parsed.problems), ("videos", video_problems)):
        print(f"problems in the {title}:" + (f"\n{problems.table()}" if problems.counts else " none"))
    if report.stat().st_size:
        print(f"skipped videos, with reasons: {report}")
    print(f"dataset: {directory}")
