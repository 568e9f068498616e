"""Names of video files: the list of extensions, and names in the form that file systems and FFmpeg expect."""

import functools
import unicodedata
from pathlib import Path, PurePosixPath

# In lower case; extensions are compared without regard to case. The order has no meaning.
VIDEO_ENDINGS = (
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
# Files of sound alone, which are videos without frames.
SOUND_ENDINGS = (
    ".aac", ".ac3", ".aif", ".aiff", ".flac", ".m4a", ".m4b", ".mka", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".wav",
    ".weba", ".wma",
)  # fmt: skip


def without_ending(name: str) -> str:
    """Returns a video's file name as its id: "clip.avi" → "clip", "clip.wav" → "clip"; other dots stay."""
    stem, _, ending = name.rpartition(".")
    return stem if stem and (not ending or f".{ending.lower()}" in VIDEO_ENDINGS + SOUND_ENDINGS) else name


def composed(name: str) -> str:
    """Returns a name in Unicode's form NFC: macOS and some archives write "é" as two characters."""
    return unicodedata.normalize("NFC", name)


def leaves_folder(name: str) -> bool:
    """Returns whether a name, as a path in a folder, leads out of the folder or to the folder itself."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or not path.name


# FFmpeg's formats that only name other files or addresses, and devices: an "MP4" that someone sends may be such a list.
_LISTS = {
    "concat",
    "dash",
    "hls",
    "imf",
    "lavfi",
    "rtp",
    "rtsp",
    "sap",
    "sdp",
    "vobsub",
    "webm_dash_manifest",
}


def ffmpeg_file(path: str | Path) -> tuple[str, dict[str, str]]:
    """Returns the name and the options with which `av.open` reads this file and nothing else.

    FFmpeg treats "concat:a|b.mp4" and "a:b.mp4" as protocols and "img%03d.jpg" as a series of pictures, and it opens
    the files that a playlist names.
    """
    return f"file:{path}", {"pattern_type": "none", "format_whitelist": _formats()}


@functools.cache
def _formats() -> str:
    """Returns the names of all formats but lists; FFmpeg has no option that excludes single ones."""
    import av  # not on top: names alone need no FFmpeg

    return ",".join(sorted(av.formats_available - _LISTS))
