"""Which video, which text: the one way in which ids are compared, and the one in which texts are.

Files of annotations and of predictions write the same video as "s27-d50" or "s27-d50.avi", and the same sentence with
one or two spaces. Whatever is looked up by an id or a text is looked up by what these functions return. What is
written stays as the dataset's file has it.
"""

import json
import math
from typing import Any

from unloc_jax.video_names import composed, without_ending


def as_text(value: Any) -> str:
    """Returns a JSON value that names something (an id, a class, a query) as text.

    Some files write such names as numbers: the class 3 is "3", for annotations and predictions alike. What names
    nothing (null, true, lists, objects, NaN) is "".
    """
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return str(value) if is_number and math.isfinite(value) else ""
    except (OverflowError, ValueError):  # whole numbers beyond float64
        return ""


def normal_id(video_id: Any) -> str:
    """Returns what the id of a video is compared by: text, composed Unicode (NFC), without a video's ending."""
    return without_ending(composed(as_text(video_id).strip()))


def normal_text(text: Any) -> str:
    """Returns what a sentence or the name of a class is compared by: composed Unicode, one blank between words.

    What is no text (see `as_text`) is "".
    """
    return " ".join(composed(as_text(text)).split())


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
