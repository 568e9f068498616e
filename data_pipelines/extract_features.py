"""`unloc features`: extracts features of a folder of videos, one .npz per video, for `unloc data build`.

A file is complete or absent, and records the video file and the settings it was made from: a stopped run continues
where it was, and features of two encoders never mix in one folder.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from data_pipelines.annotations.problems import Problems
from data_pipelines.builders.feature_files import SETTINGS_FILE
from data_pipelines.builders.storage import reporting_full_disk, write_atomically
from data_pipelines.builders.video_files import (
    NamedFiles,
    check_one_file_each,
    names_of,
    sound_files,
    video_files,
)
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.features.embed_videos import VideoFeatures, embed_videos
from unloc_jax.features.encoder import Encoder
from unloc_jax.features.feature_inputs import changes
from unloc_jax.foreign_text import parse_json
from unloc_jax.video import VideoError, check_fps
from unloc_jax.video_names import SOUND_ENDINGS, VIDEO_ENDINGS, without_ending
from unloc_jax.whole_writes import replacing

# Changes whenever the same video and settings would give other numbers.
_VERSION = 2
_SHOWN_EVERY_S = 0.5
_SHOWN_OTHERS = 5


@dataclasses.dataclass(frozen=True)
class Extraction:
    """Settings of the features of each video.

    Attributes:
      encoder: weights and compute dtype.
      source: where the weights are, for `open_encoder`.
      fps: frames per second.
      stored_as: "float32" or "float16".

    Raises:
      UserError: fps is not above 0.
    """

    encoder: Encoder
    source: str
    fps: float
    stored_as: str = "float32"

    def __post_init__(self) -> None:
        check_fps(self.fps)  # before any output is written

    def settings(self) -> dict[str, Any]:
        """Returns everything that the numbers depend on."""
        return {
            "version": _VERSION,
            "clip": self.encoder.name,  # of whatever family
            "clip_source": self.source,
            "clip_fingerprint": self.encoder.fingerprint(),
            "width": self.encoder.embed_dim,
            "fps": self.fps,
            "computed_in": self.encoder.dtype.name,
            "stored_as": self.stored_as,
            **self.encoder.settings(),
        }


@dataclasses.dataclass(frozen=True)
class Share:
    """The videos of this process: part `index` of `count`, all of which write to one folder."""

    index: int = 0
    count: int = 1

    def named(self, name: str, suffix: str) -> str:
        """Returns a file name that only this part uses."""
        return name + (f"-{self.index:05d}-of-{self.count:05d}" if self.count > 1 else "") + suffix


def videos_in(folder: Path, *, with_sounds: bool = False) -> list[Path]:
    """Returns the video files of a folder, ordered by name.

    Args:
      folder: its subfolders are not searched.
      with_sounds: also files of sound alone, except for those beside a video of the same name.

    Raises:
      UserError: the folder does not exist or has no videos, or a video has several files.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such video folder.")
    endings = VIDEO_ENDINGS + SOUND_ENDINGS if with_sounds else VIDEO_ENDINGS
    files = sorted(
        file for file in folder.iterdir() if file.name.lower().endswith(endings) and not file.is_dir()
    )
    if not files:
        raise UserError(f"{folder}: no videos in it (files that end in {', '.join(endings)}).")
    videos = {without_ending(file.name) for file in files if file.name.lower().endswith(VIDEO_ENDINGS)}
    files = [
        file
        for file in files
        if file.name.lower().endswith(VIDEO_ENDINGS) or without_ending(file.name) not in videos
    ]
    check_one_file_each(_folders(folder, with_sounds), {without_ending(file.name): None for file in files})
    return files


def videos_of(
    folder: Path, video_ids: Sequence[str], *, with_sounds: bool = False
) -> tuple[list[Path], list[str]]:
    """Returns the video files of some ids, and the ids without a file; `with_sounds` as for `videos_in`.

    Raises:
      UserError: the folder does not exist or has no videos, or a video has several files.
    """
    folders = _folders(folder, with_sounds)
    check_one_file_each(folders, video_ids)
    found = {
        video_id: next((file for there in folders if (file := there.find(names_of(video_id)))), None)
        for video_id in video_ids
    }
    files = dict.fromkeys(file for file in found.values() if file is not None)
    if not files:
        videos_in(folder, with_sounds=with_sounds)  # raises if the folder has no videos at all
    return list(files), [video_id for video_id, file in found.items() if file is None]


def _folders(folder: Path, with_sounds: bool) -> list[NamedFiles]:
    """Returns indexes of the files of a folder, the preferred ones first."""
    return [video_files(folder), *([sound_files(folder)] if with_sounds else [])]


def other_entries(videos: Sequence[Path], folder: Path) -> list[str]:
    """Returns the names of other entries in a folder of videos; subfolders, which are not searched, end with "/"."""
    looked_at = {video.relative_to(folder).parts[0] for video in videos}
    others = sorted(entry for entry in folder.iterdir() if entry.name not in looked_at)
    return [f"{entry.name}/" if entry.is_dir() else entry.name for entry in others]


def extract_features(
    extraction: Extraction,
    videos: Sequence[Path],
    out: Path,
    *,
    folder: Path | None = None,
    missing: Sequence[str] = (),
    others: Sequence[str] = (),
    share: Share | None = None,
    decoders: int | None = None,
) -> None:
    """Writes `out/<name of the video>.npz` for every video without one, or whose file has changed.

    A file holds `features` [F, D] in the dtype `stored_as`; `times_s` float64 [F], the seconds of the frames; `fps` and
    `duration_s`; `settings` and `video`, JSON objects: the settings of the features, and name, size and modification
    time of the video file. `out/clip_features.json` also holds the settings, `out/unusable_videos.jsonl` the videos
    that were left out.

    Prints a summary to standard output and progress to standard error.

    Args:
      extraction: settings of the features.
      videos: files; their names without extension are distinct.
      out: output folder.
      folder: root of the videos: the name of one in a subfolder is its path from here; None: no subfolders.
      missing: ids of requested videos that have no file, to be listed.
      others: names of other entries that were not read, to be reported.
      share: this process's part of the videos, for several processes with one `out`; None: all of them.
      decoders: decoding threads; None: one per CPU.

    Raises:
      UserError: `out` holds features of other settings, another process writes there, no video can be used, or the
        disk is full.
    """
    share = share or Share()
    settings = extraction.settings()
    with _only_run_in(out, share), reporting_full_disk(out):
        _check_settings(out, settings)
        mine = sorted(videos)[share.index :: share.count]
        names = {
            video: without_ending(video.name if folder is None else str(video.relative_to(folder)))
            for video in mine
        }
        # Taken before decoding: a video that changes meanwhile is decoded again next time.
        states = {video: _state_of(video) for video in mine}
        todo = [video for video in mine if not _is_done(_npz(out, names[video]), states[video], settings)]
        done = len(mine) - len(todo)
        unusable = _Unusable(out / share.named("unusable_videos", ".jsonl"))
        for video_id in missing if share.index == 0 else ():
            unusable.add(video_id, "missing", f"{video_id}.mp4 (or .mov, .mkv, …): there is no such file.")
        made, reads = 0, extraction.encoder.reads
        notes = Problems()
        with _Progress(len(mine), done) as progress:
            results = embed_videos(
                extraction.encoder,
                todo,
                extraction.fps,
                decoders=decoders or os.cpu_count() or 1,
                on_frame=progress.on_frame,
            )
            for video, result in results:
                if isinstance(result, VideoError):
                    unusable.add(names[video], result.kind, str(result))
                    _npz(out, names[video]).unlink(missing_ok=True)  # features of a previous file
                else:
                    _save(_npz(out, names[video]), states[video], result, settings)
                    made += 1
                    for note in result.notes:
                        notes.add(note.kind, video.name, note.detail)
                progress.on_video(unusable.count)
    show(f"features of {settings['clip']}, {settings['width']} wide, {extraction.fps:g} per second, in {out}")
    show(
        f"{'made now':<12}{made:>8} videos {progress.frames:>10} {reads} {progress.frames_per_s:>8.1f} {reads}/s"
    )
    show(f"{'made before':<12}{done:>8} videos")
    show(f"{'unusable':<12}{unusable.count:>8} videos")
    if notes.counts:
        show(f"notes on the videos made now:\n{notes.table()}")
    if unusable.count:
        show(f"{unusable.problems.table()}\nall of them, with reasons: {unusable.file}")
    if others:
        shown = ", ".join(others[:_SHOWN_OTHERS]) + (", …" if len(others) > _SHOWN_OTHERS else "")
        show(f"{'ignored':<13}{len(others):>7} others in the folder: {shown}")
    if not made + done:
        raise UserError(f"None of the {len(mine) + len(missing)} videos can be used; see {unusable.file}.")


class _Progress:
    """Progress bar over videos that also shows, during a long video, how fast frames are embedded.

    Attributes:
      frames: number of embedded frames.
    """

    def __init__(self, total: int, done: int):
        self.frames = 0
        self._began = self._shown = time.monotonic()
        self._unusable = 0
        self._bar = tqdm(total=total, initial=done, desc="features", unit="video", file=sys.stderr)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    @property
    def frames_per_s(self) -> float:
        """Returns the average since the start, including compilation."""
        return self.frames / (time.monotonic() - self._began)

    def on_frame(self) -> None:
        self.frames += 1
        now = time.monotonic()
        if now - self._shown > _SHOWN_EVERY_S:
            self._shown = now
            self._show()

    def on_video(self, unusable: int) -> None:
        self._unusable = unusable
        self._bar.update()
        self._show()

    def _show(self) -> None:
        told = {"frames": self.frames, "frames/s": f"{self.frames_per_s:.1f}", "unusable": self._unusable}
        self._bar.set_postfix(told)


class _Unusable:
    """Counts and lists the videos that are left out; the file can be read while the run continues."""

    def __init__(self, file: Path):
        self.file = file
        self.count = 0
        self.problems = Problems()
        file.write_text("")

    def add(self, video_id: str, kind: str, reason: str) -> None:
        self.count += 1
        self.problems.add(kind, video_id, reason)
        line = {"video_id": video_id, "kind": kind, "reason": reason}
        with self.file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _only_run_in(out: Path, share: Share) -> Iterator[None]:
    """Holds a lock on a part of a folder; the system releases it when the process ends, in whatever way."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / share.named(".features", ".lock")).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{out}: another `unloc features` is writing there. Wait for it.") from error
        yield


def _check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Writes the settings into a new folder, or compares them.

    Raises:
      UserError: the folder has other settings.
    """
    file = out / SETTINGS_FILE
    try:
        stored = parse_json(file.read_text("utf-8"))
        stored.items()
    except FileNotFoundError:
        if any(out.glob("*.npz")):
            raise UserError(
                f"{out} holds .npz files, but no {SETTINGS_FILE} that describes them. Choose another --out."
            ) from None
        write_atomically(file, json.dumps(settings, indent=1) + "\n")
        return
    except (ValueError, AttributeError) as error:
        raise UserError(f"{file} is damaged. Delete {out} or choose another --out.") from error
    if changed := changes(stored, settings):
        raise UserError(
            f"{out} holds features made with other settings ({', '.join(changed)}). Choose another --out."
        )


def _npz(out: Path, name: str) -> Path:
    return out / f"{name}.npz"


def _save(path: Path, video: dict[str, Any] | None, made: VideoFeatures, settings: dict[str, Any]) -> None:
    """Writes a file atomically and durably: it is complete or absent, even after a power failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(
            file,
            features=made.features.astype(settings["stored_as"]),
            times_s=made.times_s,
            fps=made.fps,
            duration_s=made.duration_s,
            settings=json.dumps(settings),
            video=json.dumps(video),
        )


def _is_done(path: Path, video: dict[str, Any] | None, settings: dict[str, Any]) -> bool:
    """Returns whether a file holds features of a video file in this state."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            stored = parse_json(str(arrays["settings"]))
            return not changes(stored, settings) and parse_json(str(arrays["video"])) == video
    except FileNotFoundError:
        return False
    except Exception:  # NumPy and zipfile raise many types for a damaged file
        return False


def _state_of(video: Path) -> dict[str, Any] | None:
    """Returns name, size and modification time; None if the file no longer exists, which its decoder reports."""
    try:
        stat = video.stat()
    except OSError:
        return None
    return {"name": video.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
