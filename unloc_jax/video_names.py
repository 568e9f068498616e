"""What files of videos are called: the one list of endings, and names as file systems and FFmpeg take them."""

import unicodedata
from pathlib import Path, PurePosixPath

# In small letters; a file's ending is compared without regard to capitals. The order says nothing.
VIDEO_ENDINGS = (
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip


def without_ending(name: str) -> str:
    """A video's file name as its id: "clip.avi" → "clip"; other dots stay."""
    stem, _, ending = name.rpartition(".")
    return stem if stem and (not ending or f".{ending.lower()}" in VIDEO_ENDINGS) else name


def composed(name: str) -> str:
    """A name in Unicode's form NFC: macOS and some archives write "é" as two characters."""
    return unicodedata.normalize("NFC", name)


def leaves_folder(name: str) -> bool:
    """Whether a name, taken as a path in a folder, leads out of it or to the folder itself."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or not path.name


def ffmpeg_file(path: str | Path) -> tuple[str, dict[str, str]]:
    """The name and the options with which `av.open` reads this file and nothing else.

    FFmpeg takes "concat:a|b.mp4" and "a:b.mp4" for protocols and "img%03d.jpg" for a series of pictures.
    """
    return f"file:{path}", {"pattern_type": "none"}
