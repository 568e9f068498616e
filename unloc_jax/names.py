"""Which video, which text: the one way in which ids are compared, and the one in which texts are.

Files of annotations and of predictions write the same video as "s27-d50" or "s27-d50.avi", and the same sentence with
one or two spaces. Whatever is looked up by an id or a text is looked up by what these functions return. What is
written stays as the dataset's file has it.
"""

import json
import unicodedata

# What datasets write behind the ids of their videos, also where the file at hand has another ending.
VIDEO_ENDINGS = frozenset(
    "mp4 mkv webm avi mov m4v mpg mpeg wmv flv 3gp 3g2 mts m2ts ts ogv".split()  # noqa: SIM905
)


def without_ending(name: str) -> str:
    """Takes off the ending of a video's file name: "clip.avi" → "clip"; other dots stay."""
    stem, _, ending = name.rpartition(".")
    return stem if stem and (not ending or ending.lower() in VIDEO_ENDINGS) else name


def normal_id(video_id: str | int) -> str:
    """Returns what the id of a video is compared by: text, composed Unicode (NFC), without a video's ending."""
    return without_ending(unicodedata.normalize("NFC", str(video_id).strip()))


def normal_text(text: str) -> str:
    """Returns what a sentence or the name of a class is compared by: composed Unicode, one blank between words."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def id_to_text(value: str | int) -> str:
    """Writes an id so that `id_from_text` tells a number from a text: 12 → "12", "12" → '"12"', "x" → "x"."""
    text = str(value)
    return text if id_from_text(text) == value else json.dumps(text, ensure_ascii=False)


def id_from_text(text: str) -> str | int:
    """Reads an id that `id_to_text` wrote."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if type(value) in (str, int) else text
