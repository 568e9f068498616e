"""The videos that the demo holds: by content, so that each is embedded once; the oldest make room for new ones."""

import dataclasses
import hashlib
import re
import secrets
import shutil
import threading
import time
from pathlib import Path

from unloc_jax.inference.preview import playable_as, preview_bytes

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class HeldVideo:
    """A video in the demo's own folder.

    Attributes:
      path: the file; the same content always has the same path and time stamp, so that its embedding is cached.
      playable: the file that browsers play: the same one or a copy, see `HeldVideos.playable`.
    """

    path: Path

    @property
    def folder(self) -> Path:
        return self.path.parent

    def playable(self, with_sound: bool = False) -> tuple[Path, str]:
        """Returns a file that browsers play, and its MIME type; makes a copy on first use if the original is none.

        Args:
          with_sound: whether its sound must be played, too; the same for all calls.

        Raises:
          UserError: the video cannot be used.
        """
        mime = playable_as(self.path, with_sound=with_sound)
        if mime is not None:
            return self.path, mime
        copy = self.folder / "copy.mp4"
        if not copy.exists():
            content, _ = preview_bytes(self.path, with_sound=with_sound)
            part = self.folder / f"{secrets.token_hex(8)}.part"
            part.write_bytes(content)
            part.rename(copy)
        return copy, "video/mp4"


class HeldVideos:
    """Files by content, in folders whose names cannot be guessed, limited in bytes and age.

    Args:
      folder: an own folder, which nothing else writes to.
      most_bytes: of all files together; the least recently used are deleted first.
      most_s: seconds after its last use at which a video is deleted.
    """

    def __init__(self, folder: Path, most_bytes: int, most_s: float = 3600.0):
        self._folder, self._most_bytes, self._most_s = folder, most_bytes, most_s
        self._key = secrets.token_bytes(
            32
        )  # without it nobody can tell a folder's name from a video's content
        self._used: dict[Path, float] = {}
        self._lock = threading.Lock()

    def hold(self, file: Path) -> HeldVideo:
        """Copies a file into the folder, unless its content is there already."""
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
        # FFmpeg needs some formats' endings.
        ending = file.suffix if re.fullmatch(r"\.\w{1,8}", file.suffix, re.ASCII) else ""
        folder = self._folder / digest.hexdigest()
        video = HeldVideo(folder / f"video{ending}")
        with self._lock:
            self._used[folder] = time.monotonic()
            if not video.path.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                part = folder / "video.part"
                shutil.copyfile(file, part)
                part.rename(video.path)
            self._make_room()
        return video

    def _make_room(self) -> None:
        """Deletes what is old or too much; never the video that was used last."""
        now = time.monotonic()
        by_use = sorted(self._used, key=lambda folder: self._used[folder])
        sizes = {
            folder: sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
            for folder in by_use
        }
        total = sum(sizes.values())
        for folder in by_use[:-1]:
            if total > self._most_bytes or now - self._used[folder] > self._most_s:
                shutil.rmtree(folder, ignore_errors=True)
                del self._used[folder]
                total -= sizes[folder]
