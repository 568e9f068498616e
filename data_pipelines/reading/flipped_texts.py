"""Mirrors texts whose video is flipped horizontally."""

import re
from collections.abc import Collection

_PAIRS = [
    ("left", "right"),
    ("leftward", "rightward"),
    ("leftwards", "rightwards"),
    ("leftmost", "rightmost"),
]
# Only the three ordinary capitalisations: others ("lEFT") could not be restored exactly.
_SWAPS = {
    case(a): case(b)
    for pair in _PAIRS
    for a, b in (pair, pair[::-1])
    for case in (str.lower, str.capitalize, str.upper)
}
# A word ends where letters and digits end; unlike \b, this includes the underscores of class labels.
_WORD = re.compile(rf"(?<![^\W_])({'|'.join(_SWAPS)})(?![^\W_])")


def mirror_text(sentence: str) -> str:
    """Swaps left and right, so that the text stays true for the horizontally flipped frames.

    "slides leftwards" → "slides rightwards", "from right to left" → "from left to right",
    "Turn_Left" → "Turn_Right". Only whole words change ("bright", "leftover" stay), and
    `mirror_text(mirror_text(s)) == s` for every s.

    Ignores meaning: "he left the room" becomes "he right the room", so use it only if left and right are directions in
    the texts.
    """
    return _WORD.sub(lambda match: _SWAPS[match[0]], sentence)


def without_mirror_image(classes: Collection[str]) -> list[str]:
    """Returns the classes whose mirror image is not a class: with any of these, videos must not be mirrored."""
    return [name for name in classes if mirror_text(name) not in classes]
