"""Sentences and class labels for the events of synthetic videos."""

import numpy as np

SHAPE_WORDS = {
    "circle": ("circle", "ball", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
}

MOTION_WORDS = {
    "left": (
        "moves left",
        "moves to the left",
        "slides left",
        "travels leftwards",
        "goes from right to left",
    ),
    "right": (
        "moves right",
        "moves to the right",
        "slides right",
        "travels rightwards",
        "goes from left to right",
    ),
    "up": ("moves up", "rises", "travels upwards", "goes up", "goes from the bottom to the top"),
    "down": ("moves down", "sinks", "travels downwards", "goes down", "goes from the top to the bottom"),
    "grow": ("grows", "gets bigger", "becomes larger", "expands"),
    "shrink": ("shrinks", "gets smaller", "becomes smaller", "contracts"),
}

# The kinds of events, independent of the object: the classes of action localisation.
CLASS_LABELS = {
    "left": "moves left",
    "right": "moves right",
    "up": "moves up",
    "down": "moves down",
    "grow": "grows",
    "shrink": "shrinks",
}


def sentence(color: str, shape: str, motion: str, rng: np.random.Generator) -> str:
    """Returns one of many descriptions of an event, such as "the blue box gets bigger"."""
    article = _choice(("a", "the"), rng)
    if article == "a" and color[0] in "aeiou":
        article = "an"
    return f"{article} {color} {_choice(SHAPE_WORDS[shape], rng)} {_choice(MOTION_WORDS[motion], rng)}"


def _choice(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]
