"""Encoded videos of an unfinished build: one file per video, written atomically, so that the build can continue.

A file is a line of JSON followed by the JPEGs and the samples of the sound. The line identifies the video file by size
and modification time, so that a video that was downloaded again is decoded again.
"""

import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.builders.frames import EncodedVideo, EncodeTask, UnusableVideo
from unloc_jax.foreign_text import parse_json
from unloc_jax.sound_windows import Sound
from unloc_jax.video import VideoNote
from unloc_jax.whole_writes import UNFINISHED, replacing

# Changes whenever the same task would give other frames: builds started by an earlier version then decode again.
_VERSION = 2
# Kinds that depend on the content of a file. Others ("missing", "decoder crashed", …) may succeed next time.
_REMEMBERED = ("empty file", "not a video", "no frames", "truncated", "too wide for JPEG", "no sound")


@dataclasses.dataclass(frozen=True)
class EncodedVideos:
    """The folder of these files; small and picklable, because workers write to it."""

    folder: Path

    def known(self, task: EncodeTask) -> bool:
        """Returns whether `load` will (most likely) have a result; reads one line and compares sizes."""
        return self._read(task, with_frames=False) is not None

    def load(self, task: EncodeTask) -> EncodedVideo | UnusableVideo | None:
        """Loads a saved result; returns None if there is none, it is damaged, or it is of another video file.

        If the video file no longer exists, it is not compared: the frames are valid without it.
        """
        return self._read(task, with_frames=True)

    def save(self, task: EncodeTask, result: EncodedVideo | UnusableVideo) -> bool:
        """Writes a result atomically and durably: it is complete or absent, even after a power failure.

        Returns:
          False for an UnusableVideo whose reason may be temporary, which is not saved.

        Raises:
          OSError: the write failed, for example because the disk is full.
        """
        header: dict[str, Any] = _state_of(task.path) or {}
        frames: list[bytes | memoryview] = []
        if isinstance(result, UnusableVideo):
            if result.kind not in _REMEMBERED or not header:
                return False
            header |= dataclasses.asdict(result)
        else:
            frames = [*result.frames]
            if (sound := result.sound) is not None:
                frames.append(sound.samples.astype("<i2", copy=False).data.cast("B"))
                header["sound"] = {"rate": sound.rate, "heard": sound.heard.tolist(), "notes": sound.notes}
            header |= {
                "duration_s": result.duration_s,
                "lengths": [len(frame) for frame in frames],
                "crc32": _crc32(frames),
                "notes": result.notes,
            }
        with replacing(self._path(task)) as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.writelines(frames)
        return True

    def remove_unfinished(self) -> None:
        """Removes files left by the workers of a killed build."""
        for unfinished in self.folder.glob(f".*{UNFINISHED}"):
            unfinished.unlink(missing_ok=True)

    def _path(self, task: EncodeTask) -> Path:
        settings = [_VERSION, task.video_id, task.fps, task.short_side, task.jpeg_quality]
        if task.sound_rate:
            settings += [task.sound_rate, task.sound_track, task.with_frames]
        key = json.dumps(settings)
        return self.folder / hashlib.sha256(key.encode()).hexdigest()[:32]

    def _read(self, task: EncodeTask, with_frames: bool) -> EncodedVideo | UnusableVideo | None:
        try:
            with self._path(task).open("rb") as file:
                line = file.readline()
                header = parse_json(line)
                state = _state_of(task.path)
                if state is not None and any(header[key] != state[key] for key in state):
                    return None
                if "kind" in header:
                    return UnusableVideo(header["kind"], header["reason"])
                lengths = header["lengths"]
                if os.fstat(file.fileno()).st_size != len(line) + sum(lengths):
                    return None
                notes = tuple(VideoNote(*note) for note in header["notes"])
                if not with_frames:
                    return EncodedVideo([], header["duration_s"], notes)
                frames = [file.read(length) for length in lengths]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        if _crc32(frames) != header["crc32"]:
            return None
        sound = None
        if "sound" in header:
            of, heard = header["sound"], np.array(header["sound"]["heard"], np.float64).reshape(-1, 2)
            samples = np.frombuffer(frames.pop(), "<i2")
            sound = Sound(samples, of["rate"], heard, tuple((kind, detail) for kind, detail in of["notes"]))
        return EncodedVideo(frames, header["duration_s"], notes, sound)


def _state_of(video: Path) -> dict[str, int] | None:
    try:
        stat = video.stat()
    except OSError:
        return None
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _crc32(frames: Sequence[bytes | memoryview]) -> int:
    crc = 0
    for frame in frames:
        crc = zlib.crc32(frame, crc)
    return crc
