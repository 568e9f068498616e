"""`unloc data build`: builds a TFDS dataset and a report of problems from annotation files and a video folder."""

import contextlib
import dataclasses
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from data_pipelines.annotations import PARSERS, parse
from data_pipelines.annotations.json_file import sha256
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.builders.encoded_videos import EncodedVideos
from data_pipelines.builders.feature_files import FeatureSource, find_widths, settings_of
from data_pipelines.builders.hidden_splits import leave_out_absent
from data_pipelines.builders.local import LocalBuild
from data_pipelines.builders.report import BuildReport
from data_pipelines.builders.shard_list import list_shards, write_shard_list
from data_pipelines.builders.source import BuildSource
from data_pipelines.builders.storage import (
    only_build_in,
    remove_tree,
    reporting_full_disk,
    write_atomically,
)
from data_pipelines.quiet_tensorflow import import_tfds
from data_pipelines.reading.built import BUILD_FILE, find_dataset, read_build_info, tfds_directory
from data_pipelines.remote_paths import is_remote, storage_path
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.sound import check_rate
from unloc_jax.video import check_fps

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from data_pipelines.builders.beam import BeamBuild

REPORT_FILE = "unusable_videos.jsonl"
# Exist until build.json is written: the arguments of the build, and the videos that it has encoded.
ARGUMENTS_FILE = "unfinished_build.json"
ENCODED_DIR = "encoded_videos"


def build(
    dataset: str,
    annotations: Sequence[str | Path],
    videos: str | Path | None,
    out: str | Path,
    *,
    fps: float = 10.0,
    short_side: int = 256,
    jpeg_quality: int = 95,
    features: Sequence[FeatureSource] = (),
    sound_rate: int = 0,
    sound_track: int | None = None,
    with_frames: bool = True,
    workers: int | None = None,
    beam_options: "Sequence[str] | PipelineOptions | None" = None,
    config_name: str | None = None,
) -> Path:
    """Builds a dataset, continues an unfinished one, or reuses the one in `out`.

    Writes to `out`: the TFDS dataset `unloc_data/<config_name>/1.0.0`; `unusable_videos.jsonl`, the skipped videos with
    reasons; `shards.jsonl`, the videos of each shard; and last `build.json`: the arguments, the classes, and what was
    built and found wrong. Prints a summary to standard output and progress to standard error.

    A build that was stopped, in whatever way, continues when it is called again with the same arguments, and gives the
    same records. It needs about twice the space of the dataset, half of it only until it has finished.

    Args:
      dataset: name of an annotation parser (`data_pipelines.annotations.PARSERS`).
      annotations: the annotation files of all splits.
      videos: folder with the video files, named by their ids, and with files of sound alone if there is a `sound_rate`;
        None stores neither frames nor sound.
      out: folder to write to.
      fps: frames per second to store; without frames, the places per second that windows of sound count in.
      short_side: shorter side of the stored frames in pixels.
      jpeg_quality: 1 to 100.
      features: precomputed features to store, see `builders.feature_files.feature_sources`.
      sound_rate: samples per second of the sound to store, mono: 16000 are 115 MB per hour; 0 = without sound.
      sound_track: which of a file's sound tracks, from 0; None: the one that a player plays.
      with_frames: False stores only the sound of the videos.
      workers: decoding processes; None: one per CPU. Processes are spawned: a script must call this below
        `if __name__ == "__main__":`.
      beam_options: runs on Apache Beam with these pipeline options, such as ["--runner=FlinkRunner"]; `videos`
        and `out` may then be remote ("gs://…"). Such a build is left to its runner and cannot be continued.
      config_name: TFDS's name for the dataset: `unloc_data/<config_name>`; None: the value of `dataset`.

    Returns:
      The TFDS directory, for `tfds.builder_from_directory` and `RecordIndex.from_dir`.

    Raises:
      UserError: bad arguments or annotation files, two files of one video, a split without any usable video, a
        dataset in `out` that was built from other arguments, a full disk, or a video folder that disappears.
    """
    _check_options(fps, short_side, jpeg_quality, workers, sound_rate, sound_track)
    if videos is None and sound_rate:
        raise UserError("Sound (--audio) is read from video files: --videos DIR.")
    if videos is None and not features:
        raise UserError(
            "A dataset without frames (--no-frames) needs features: --features NAME=DIR, or sound: --videos DIR "
            "--audio."
        )
    if videos is not None and not with_frames and not sound_rate:
        raise UserError("--no-frames and --videos: without --audio there is nothing to read in the videos.")
    has_frames = videos is not None and with_frames
    files = [Path(file) for file in annotations]
    parsed = parse(dataset, files)
    source = BuildSource(
        videos=None if videos is None else storage_path(videos),
        fps=0.0 if videos is None else fps,
        short_side=short_side if has_frames else 0,
        jpeg_quality=jpeg_quality if has_frames else 0,
        features=tuple(features),
        sound_rate=sound_rate,
        sound_track=sound_track,
        with_frames=with_frames,
    )
    if source.videos is not None and not source.videos.is_dir():
        raise UserError(f"{videos}: there is no such video folder.")
    if beam_options is not None:
        _import_beam()  # reports a missing installation before anything is changed
    arguments = _arguments(dataset, config_name or dataset, files, source)
    out = storage_path(out)
    if beam_options is None and any(map(is_remote, (out, source.videos or out))):
        raise UserError(f"{out}: folders in a cloud need a build on Apache Beam (--beam-pipeline-options).")
    with only_build_in(out), reporting_full_disk(out):
        if _is_finished(out, arguments):
            _remove_unfinished(out)  # the build may have been stopped just before its last line
            show(f"reusing {out}: it was built from the same arguments (delete {out} to build again)")
            return find_dataset(out)
        import_tfds()  # reports a missing installation before hours of decoding
        return _build(parsed, source, out, files, arguments, workers or os.cpu_count() or 1, beam_options)


def check_out(
    dataset: str, annotations: Sequence[str | Path], out: str | Path, features: Sequence[FeatureSource]
) -> None:
    """Raises UserError if `build` without videos would refuse `out`, for callers with hours of work before it."""
    source = BuildSource(None, 0.0, 0, 0, tuple(features))
    _is_finished(
        storage_path(out), _arguments(dataset, dataset, [Path(file) for file in annotations], source)
    )


def _check_options(
    fps: float,
    short_side: int,
    jpeg_quality: int,
    workers: int | None,
    sound_rate: int,
    sound_track: int | None,
) -> None:
    check_fps(fps)
    if sound_rate:
        check_rate(sound_rate)
    elif sound_track is not None:
        raise UserError("--audio-track picks a track of the sound: it needs --audio.")
    if short_side < 16:
        raise UserError(f"short_side must be at least 16 pixels, got {short_side}.")
    if not 1 <= jpeg_quality <= 100:
        raise UserError(f"jpeg_quality must be between 1 and 100, got {jpeg_quality}.")
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}.")


def _arguments(dataset: str, config_name: str, files: list[Path], source: BuildSource) -> dict[str, Any]:
    """Returns the arguments of a build as build.json stores them; equal arguments give equal datasets."""
    return {
        "dataset": dataset,
        "config_name": config_name,
        "annotations": [[file.name, sha256(file)] for file in files],
        **source.to_arguments(),
    }


def _is_finished(out: Path, arguments: dict[str, Any]) -> bool:
    """Returns whether `out` holds the finished dataset; False also for an unfinished one that can be continued.

    Raises:
      UserError: the dataset in `out` is built from other arguments.
    """
    finished = (out / BUILD_FILE).is_file() and tfds_directory(out) is not None
    if finished:
        built = read_build_info(out)["arguments"]
    else:
        try:
            built = parse_json((out / ARGUMENTS_FILE).read_text("utf-8"))
        except (OSError, ValueError):
            return False
    # Earlier versions stored no keys for what a dataset lacked.
    built = {"features": {}, "config_name": arguments["dataset"]} | built
    differing = [name for name in arguments if built.get(name) != arguments[name]]
    if differing:
        changes = ", ".join(
            "other annotation files"
            if name == "annotations"
            else f"{name} was {built.get(name)!r}, now {arguments[name]!r}"
            for name in differing
        )
        raise UserError(
            f"{out} holds {'a' if finished else 'an unfinished'} dataset built from other arguments ({changes}). "
            "Delete it or choose another --out."
        )
    return finished


def _build(
    parsed: ParsedAnnotations,
    source: BuildSource,
    out: Path,
    files: list[Path],
    arguments: dict[str, Any],
    workers: int,
    beam_options: "Sequence[str] | PipelineOptions | None",
) -> Path:
    began = time.monotonic()
    if not any(record.texts for record in parsed.records):
        names = ", ".join(name for name, _ in arguments["annotations"])
        raise UserError(f"No usable video in {names}: {dict(parsed.problems.counts) or 'no video at all'}.")
    source.check_names(record.video_id for record in parsed.records)
    leave_out_absent(parsed, source.has)
    widths = find_widths(source.features, [record.video_id for record in parsed.records])
    source = dataclasses.replace(source, widths=widths)
    # Shards of a stopped build may be incomplete, and as the encoded frames are kept, they are soon written again.
    (out / BUILD_FILE).unlink(missing_ok=True)
    remove_tree(out / "unloc_data" / arguments["config_name"])
    write_atomically(out / ARGUMENTS_FILE, _json(arguments))
    report = BuildReport(out / REPORT_FILE)
    if beam_options is None:
        encoded = EncodedVideos(out / ENCODED_DIR)
        local = LocalBuild(source, parsed.records, encoded, workers, report)
        directory = _prepare(local, arguments["config_name"], out)
    else:
        beam = _import_beam()
        on_beam = beam.BeamBuild(source, parsed.records, out, beam_options, report)
        directory = _prepare(on_beam, arguments["config_name"], out)
    report.check_rates()
    info = {
        "arguments": arguments,
        "annotation_files": [str(file.resolve()) for file in files],
        "dataset": arguments["dataset"],
        "has_frames": source.has_frames,
        "fps": source.fps,
        "short_side": source.short_side,
        "sound_rate": source.sound_rate,
        "with_sound": report.with_sound() if source.sound_rate else {},
        "features": widths,
        "feature_settings": settings_of(source.features),
        "classes": parsed.classes,
        "splits": report.splits(),
        "left_out": report.left_out(),
        "problems": {"annotations": dict(parsed.problems.counts), "videos": dict(report.problems.counts)},
    }
    if not is_remote(out):
        write_shard_list(out, list_shards(directory, list(info["splits"])))
    os.sync()  # the shards must survive a power failure before the encoded frames are deleted
    write_atomically(out / BUILD_FILE, _json(info))
    _remove_unfinished(out)
    _print_summary(info, parsed, report, directory, time.monotonic() - began)
    return directory


def _import_beam() -> ModuleType:
    try:
        from data_pipelines.builders import beam
    except ModuleNotFoundError as error:
        raise UserError("Apache Beam is missing: `pip install 'unloc_jax[beam]'`.") from error
    return beam


def _prepare(work: "LocalBuild | BeamBuild", config_name: str, out: Path) -> Path:
    splits = work.start()
    tfds = import_tfds()

    from data_pipelines.builders.shard_builder import ShardBuilder

    tfds.disable_progress_bar()
    # TFDS chooses the number of shards: 64 to 128 MB each, at most as many as there are videos. It prints
    # that it "downloads", which is wrong.
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as downloads:
        builder = ShardBuilder(
            # TFDS requires the name instead of a config object if it knows the config.
            config=config_name if config_name in PARSERS else tfds.core.BuilderConfig(name=config_name),
            splits=splits,
            has_frames=work.source.has_frames,
            has_sound=work.source.sound_rate > 0,
            widths=work.source.widths,
            data_dir=str(out),
        )
        work.prepare(builder, downloads)  # `downloads` stays empty
    return storage_path(builder.data_dir)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _remove_unfinished(out: Path) -> None:
    """Removes the files that only an unfinished build needs."""
    remove_tree(out / ENCODED_DIR)
    (out / ARGUMENTS_FILE).unlink(missing_ok=True)


def _print_summary(
    info: dict[str, Any], parsed: ParsedAnnotations, report: BuildReport, directory: Path, seconds: float
) -> None:
    show(f"{'split':<12}{'videos':>8}{'segments':>10}{'texts':>8}{'frames':>10}{'MB':>10}")
    for split, row in info["splits"].items():
        show(
            f"{split:<12}{row['videos']:>8}{row['segments']:>10}{row['texts']:>8}{row['frames']:>10}"
            f"{row['megabytes']:>10.1f}"
        )
    if info["sound_rate"]:
        there, of = sum(info["with_sound"].values()), sum(row["videos"] for row in info["splits"].values())
        show(f"sound: {info['sound_rate']} samples per second, of {there} of {of} videos")
    for name, width in info["features"].items():
        show(f"features {name}: {width} wide")
    merged = f" ({parsed.num_merged} are answers that equal another annotator's)" if parsed.num_merged else ""
    show(f"annotation files: {parsed.num_videos} videos, {parsed.num_segments} segments{merged}")
    for file, split in parsed.file_splits:
        show(f"  {file.name} → {split}")
    show(f"built in {seconds:.1f} s")
    for title, problems in (("annotations", parsed.problems), ("videos", report.problems)):
        show(f"problems in the {title}:" + (f"\n{problems.table()}" if problems.counts else " none"))
    if any(kind.startswith("video skipped") for kind in report.problems.counts):
        show(f"skipped videos, with reasons: {report.file}")
    show(f"dataset: {directory}")
