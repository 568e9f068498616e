"""`unloc quickstart`: runs the public commands from synthetic videos to a report."""

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from unloc_jax.console import show
from unloc_jax.errors import UserError

# By task: the annotation format, its files, the config, and whether `predict` is given sentences.
SETUPS = {
    "moment_retrieval": ("activitynet_captions", "captions_{}.json", "configs/quickstart.py", True),
    "temporal_action_localization": ("activitynet", "activities.json", "configs/quickstart_tal.py", False),
}


def run_quickstart(workdir: Path, task: str, run: Callable[[list[str]], int]) -> None:
    """Runs the commands in order and prints each, so that a user can repeat or change any of them.

    Args:
      workdir: folder for all output; existing results are reused.
      task: of SETUPS.
      run: the command line's main function.

    Raises:
      UserError: a command failed, after printing the reason.
    """
    dataset, annotation_file, config, with_sentences = SETUPS[task]
    raw, shards, trained = workdir / "raw", workdir / dataset, workdir / f"run_{task}"
    splits = ("train", "val", "test") if "{}" in annotation_file else ("all",)
    annotations = [str(raw / "annotations" / annotation_file.format(split)) for split in splits]
    report = workdir / f"report_{task}.html"
    started = time.monotonic()

    def step(*words: object) -> None:
        command = [str(word) for word in words]
        show(f"\n$ unloc {shlex.join(command)}")
        begun = time.monotonic()
        status = run(command)
        if status == 130:
            raise KeyboardInterrupt
        if status:
            words_of_command = " ".join(command[:2])
            raise UserError(f"the quickstart stopped at `unloc {words_of_command}`; the reason is above.")
        show(f"({_minutes(time.monotonic() - begun)})")

    step("data", "synthesize", "--out", raw)
    step(
        "data", "build", "--dataset", dataset, "--annotations", *annotations, "--videos", raw / "videos",
        "--out", shards, "--short-side", 32, "--fps", 10,
    )  # fmt: skip
    step("train", f"--config={config}", f"--workdir={trained}", f"--config.data.dir={shards}")
    step("evaluate", f"--checkpoint={trained}", "--split=test")
    video, texts = _example(raw)
    step(
        "predict", f"--checkpoint={trained}", f"--video={raw / 'videos' / video}",
        *(f"--text={text}" for text in texts if with_sentences), f"--out={report}",
    )  # fmt: skip
    show(f"\nDone in {_minutes(time.monotonic() - started)}. Open {report.resolve()} in a browser:")
    show("the page shows a video that was never trained on.")


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _example(raw: Path) -> tuple[str, list[str]]:
    """Returns the file name of the first test video, and its sentences."""
    captions = json.loads((raw / "annotations" / "captions_test.json").read_text("utf-8"))
    video_id = min(captions)
    return f"{video_id}.mp4", captions[video_id]["sentences"]
