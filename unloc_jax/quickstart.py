"""`unloc quickstart`: the main job from video files to a report, as a list of public commands."""

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from unloc_jax.errors import UserError

_SETUP = {
    "moment_retrieval": ("activitynet_captions", "captions_{}.json", "configs/quickstart.py"),
    "temporal_action_localization": ("activitynet", "activities.json", "configs/quickstart_tal.py"),
}


def run_quickstart(workdir: Path, task: str, run: Callable[[list[str]], int]) -> None:
    """Runs the commands in order and prints each, so that a user can repeat or change any of them.

    Args:
      workdir: everything is written here; what is there already is reused.
      task: "moment_retrieval" or "temporal_action_localization".
      run: the command line's main function.

    Raises:
      UserError: a command failed (it has said why).
    """
    dataset, annotation_file, config = _SETUP[task]
    raw, shards, trained = workdir / "raw", workdir / dataset, workdir / f"run_{task}"
    splits = ("train", "val", "test") if "{}" in annotation_file else ("all",)
    annotations = [str(raw / "annotations" / annotation_file.format(split)) for split in splits]
    report = workdir / f"report_{task}.html"
    started = time.monotonic()

    def step(*words: object) -> None:
        command = [str(word) for word in words]
        print(f"\n$ unloc {shlex.join(command)}", flush=True)
        if run(command):
            raise UserError(
                f"the quickstart stopped at `unloc {' '.join(command[:2])}`; the reason is above."
            )

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
        *(f"--text={text}" for text in texts if task == "moment_retrieval"), f"--out={report}",
    )  # fmt: skip
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(
        f"\nDone in {minutes} min {seconds} s. Open {report.resolve()} in a browser: the video was never trained on."
    )


def _example(raw: Path) -> tuple[str, list[str]]:
    """The first test video and its sentences."""
    captions = json.loads((raw / "annotations" / "captions_test.json").read_text("utf-8"))
    video_id = min(captions)
    return f"{video_id}.mp4", captions[video_id]["sentences"]
