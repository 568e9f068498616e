"""Canonical forms in which ids of videos, and texts, are compared.

Annotation and prediction files write the same video as "s27-d50" or "s27-d50.avi", and the same sentence with one or
two spaces. Every look-up by id or text uses the results of these functions; output keeps the form of the dataset's
file.
"""

import json
import math
from typing import Any

from unloc_jax.foreign_text import parse_json
from unloc_jax.video_names import composed, without_ending


def as_text(value: Any) -> str:
    """Returns a JSON value that names something (an id, a class, a query) as text.

    Some files write such names as numbers: the class 3 becomes "3", for annotations and predictions. Values that name
    nothing (null, true, lists, objects, NaN) become "".
    """
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return str(value) if is_number and math.isfinite(value) else ""
    except (OverflowError, ValueError):  # whole numbers beyond float64
        return ""


def id_of_record(video_id: Any) -> str:
    """Returns the form in which records store a video id and files are found: text without a video's extension and
    without surrounding blanks."""
    return without_ending(as_text(video_id).strip())


def normal_id(video_id: Any) -> str:
    """Returns the form in which video ids are compared: that of a record, in composed Unicode (NFC)."""
    return composed(id_of_record(video_id))


def normal_text(text: Any) -> str:
    """Returns the form in which sentences and class names are compared: composed Unicode, single spaces.

    Values that are not texts (see `as_text`) become "".
    """
    return " ".join(composed(as_text(text)).split())


def id_to_text(value: str | int) -> str:
    """Formats an id so that `id_from_text` distinguishes numbers from texts: 12 → "12", "12" → '"12"', "x" → "x"."""
    text = str(value)
    return text if id_from_text(text) == value else json.dumps(text, ensure_ascii=False)


def id_from_text(text: str) -> str | int:
    """Parses an id that `id_to_text` wrote."""
    try:
        value = parse_json(text)
    except ValueError:
        return text
    return value if type(value) in (str, int) else text
