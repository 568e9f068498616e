"""One model that sees and hears, next to models that do one of both: `python benchmarks/seen_and_heard.py DIR`.

DIR has `signs/` and `sounds/` as for benchmarks/real.py. The signs' picture gets the sound of a recording of the same
split, at an independent time. Sentences are about what is seen, what is heard, or both at once: "the person signs eat
while a dog barks". Writes to seen_and_heard/ (videos, shards, runs) and prints R@1 at IoU 0.5 of each kind of sentence.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np

from configs.real.seen_and_heard import MODELS
from unloc_jax.console import show
from unloc_jax.metrics.tiou import segment_iou
from unloc_jax.paths import ArgumentParser
from unloc_jax.sound import read_sound

OUT = Path("seen_and_heard")
RATE = 16_000
SPLITS = {"train": "train", "val": "validation", "test": "test"}  # of the signs → of the sounds
LEAST_OVERLAP_S = 0.5
KINDS = ("seen", "heard", "both")
_NAMES_A_SOUND = re.compile(r"(the sound|noise|barking|ticking|crying|crowing) of |.* sneezing$")

Windows = list[list[float]]


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    if not (OUT / "shards").exists():
        make_dataset(arguments.dir)
    show(f"{'R@1 at IoU 0.5':<16}" + "".join(f"{kind:>14}" for kind in KINDS))
    for model in MODELS:
        scores = [_scores(model, seed) for seed in arguments.seeds]
        cells = [_mean(of_kind) for of_kind in zip(*scores)]
        show(f"{model:<16}" + "".join(f"{cell:>14}" for cell in cells))


def _mean(values: tuple[float, ...]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def make_dataset(folder: Path) -> None:
    """Writes videos, annotations and shards."""
    (OUT / "videos").mkdir(parents=True, exist_ok=True)
    rng, files = random.Random(0), []
    for split, of_sounds in SPLITS.items():
        signs = _read(folder / "signs" / f"moments_{split}.jsonl")
        sounds = _read(folder / "sounds" / f"moments_{of_sounds}.jsonl")
        chosen = rng.sample(sorted(sounds), len(signs))
        lines = []
        for video, sound in zip(sorted(signs), chosen):
            duration_s = signs[video][0]["duration"]
            start_s = rng.uniform(0, max(0.0, sounds[sound][0]["duration"] - duration_s))
            _mux(
                folder / "signs" / "videos" / f"{video}.mp4",
                folder / "sounds" / "videos" / f"{sound}.mp4",
                start_s,
                OUT / "videos" / f"{video}.mkv",
            )
            lines += queries_of(video, duration_s, signs[video], sounds[sound], start_s)
        files.append(OUT / f"moments_{split}.jsonl")
        files[-1].write_text("".join(f"{json.dumps(line | {'qid': i})}\n" for i, line in enumerate(lines)))
    build = ["data", "build", "--dataset", "qvhighlights", "--annotations", *files]
    _unloc(
        *build,
        "--videos",
        OUT / "videos",
        "--audio",
        "--fps",
        6.9,
        "--short-side",
        72,
        "--out",
        OUT / "shards",
    )


def queries_of(
    video: str, duration_s: float, signs: list[dict], sounds: list[dict], start_s: float
) -> list[dict[str, Any]]:
    """Returns lines as QVHighlights has them, with "kind", one of KINDS.

    Args:
      video: its id.
      duration_s: its length; the sound is cut to it.
      signs, sounds: lines of what is seen, and of what is heard in the recording of the sound.
      start_s: of the video in that recording.
    """
    moved = [(line["query"], _cut(line["relevant_windows"], start_s, duration_s)) for line in sounds]
    heard = [(text, windows) for text, windows in moved if windows]
    seen = [(line["query"], line["relevant_windows"]) for line in signs]
    both = [
        (f"{sign} while {sound}{' is heard' * bool(_NAMES_A_SOUND.match(sound))}", _common(first, second))
        for sign, first in seen
        for sound, second in heard
    ]
    return [
        {"vid": video, "duration": duration_s, "query": text, "relevant_windows": windows, "kind": kind}
        for kind, of_kind in zip(KINDS, (seen, heard, both))
        for text, windows in of_kind
        if windows
    ]


def _cut(windows: Windows, start_s: float, duration_s: float) -> Windows:
    moved = [[max(a - start_s, 0.0), min(b - start_s, duration_s)] for a, b in windows]
    return [[round(a, 3), round(b, 3)] for a, b in moved if b - a >= LEAST_OVERLAP_S]


def _common(first: Windows, second: Windows) -> Windows:
    both = [[max(a, c), min(b, d)] for a, b in first for c, d in second]
    return [[a, b] for a, b in both if b - a >= LEAST_OVERLAP_S]


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Lines by video."""
    videos: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, file.read_text().splitlines()):
        videos.setdefault(line["vid"], []).append(line)
    return videos


def _mux(picture: Path, sound: Path, start_s: float, out: Path) -> None:
    """Writes the picture of one file, as it is, with the sound of another from start_s on, as far as that reaches."""
    heard = read_sound(sound, RATE)
    assert heard is not None, sound
    with av.open(str(picture)) as source, av.open(str(out), "w") as target:
        shown = source.streams.video[0]
        video = target.add_stream_from_template(shown)
        audio = target.add_stream("flac", rate=RATE, layout="mono")
        end_s = start_s + float(shown.duration * shown.time_base)
        samples = heard.samples[round(start_s * RATE) : round(end_s * RATE)]
        for packet in source.demux(shown):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        for start in range(0, len(samples), RATE):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + RATE], "s16", "mono")
            frame.sample_rate, frame.pts = RATE, start
            target.mux(audio.encode(frame))
        target.mux(audio.encode())


def _scores(model: str, seed: int) -> list[float]:
    """Trains and evaluates; returns R@1 at IoU 0.5 in percent, for each kind of sentence."""
    run = OUT / f"{model}_{seed}"
    _unloc(
        "train",
        f"--config=configs/real/seen_and_heard.py:{model}",
        f"--workdir={run}",
        f"--config.seed={seed}",
    )
    _unloc("evaluate", f"--checkpoint={run}", "--split=test")
    lines = (OUT / "moments_test.jsonl").read_text().splitlines()
    kinds = {(line["vid"], line["query"]): line["kind"] for line in map(json.loads, lines)}
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    found = (run / "evaluation" / "test" / "predictions.jsonl").read_text().splitlines()
    for line in map(json.loads, found):
        best = np.array(line["pred_relevant_windows"][0][:2])
        truth = np.array(line["relevant_windows"])
        hits[kinds[line["vid"], line["query"]]].append(bool(segment_iou(best[None], truth).max() >= 0.5))
    return [100 * statistics.mean(hits[kind]) for kind in KINDS]


def _unloc(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "unloc_jax.cli", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
