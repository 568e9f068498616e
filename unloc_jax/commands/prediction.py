"""Flags and outputs of the commands that predict one video."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from unloc_jax.commands.common import count
from unloc_jax.console import show
from unloc_jax.errors import UserError

if TYPE_CHECKING:
    from unloc_jax.inference.predictions import VideoPrediction


def add_prediction_flags(parser: argparse.ArgumentParser, video_required: bool = True) -> None:
    parser.add_argument(
        "--video",
        type=Path,
        required=video_required,
        metavar="FILE",
        help="a file of video; for a model that hears alone, also one of sound",
    )
    parser.add_argument(
        "--audio-track",
        type=int,
        metavar="N",
        help="for a model that hears: which sound track of the video, from 0 (default: the one that a player plays)",
    )
    parser.add_argument(
        "--text", action="append", default=[], metavar="SENTENCE", help="text to search for; repeatable"
    )
    parser.add_argument("--vocabulary", type=Path, metavar="FILE", help="text file, one text per line")
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="report.html or result.json; repeatable",
    )
    parser.add_argument(
        "--top-k",
        type=count,
        default=5,
        metavar="K",
        help="segments per sentence on the page (default 5); the table shows up to 3, JSON all",
    )


def check_places(arguments: argparse.Namespace) -> None:
    """Checks that the video is there and every --out can be written, before anything is computed."""
    if arguments.video is not None and not arguments.video.is_file():
        raise UserError(f"{arguments.video}: there is no such file.")
    for out in arguments.out:
        if out.suffix not in (".html", ".json"):
            raise UserError(f"--out={out}: write a report.html or a result.json.")
        if out.suffix == ".html" and arguments.video is None:
            raise UserError(f"--out={out}: the page plays the video: add --video FILE, or write a .json.")
        if out.is_dir():
            raise UserError(f"--out={out} is a folder: name a file in it.")
        if not os.access(out if out.exists() else out.parent, os.W_OK):
            raise UserError(f"--out={out}: the folder {out.parent} is missing or cannot be written.")


def texts_of(arguments: argparse.Namespace) -> list[str]:
    """Returns the texts of --text and --vocabulary; [] if neither was given."""
    if arguments.vocabulary is None:
        return arguments.text
    from unloc_jax.inference.texts import read_texts

    return [*arguments.text, *read_texts(arguments.vocabulary)]


def present(prediction: "VideoPrediction", arguments: argparse.Namespace) -> None:
    """Writes the files of --out and prints a table."""
    from unloc_jax.inference.predictions import terminal_table

    for out in arguments.out:
        prediction.save(out, arguments.top_k)
    show(terminal_table(prediction, min(arguments.top_k, 3)))
    for out in arguments.out:
        show(f"wrote {out}")
