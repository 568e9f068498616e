"""Commands as pages give them, at a tiny size: what the real parser made of them, with tiny inputs and few steps.

A path that exists is kept: the commands of a page run one after the other in one folder, and what one wrote the next
one reads. Other paths of inputs become those of tiny ones.
"""

import argparse
import dataclasses
import functools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tests.pages.inputs import (
    CLIP_WIDTH,
    write_annotations,
    write_pe_core,
    write_recording,
    write_scored,
    write_videoprism,
)
from tests.pretrained import clap_originals
from unloc_jax import config as config_lib
from unloc_jax.cli import _parser
from unloc_jax.sweep.description import read_sweep
from unloc_jax.video_names import SOUND_ENDINGS

# Towers of the golden CLIP's size, so that one can be started from it.
_TINY = [
    "batch_size=2", "log_every_steps=1", "accumulate=1", "contrastive.steps=0", "contrastive.warmup_steps=0",
    "train.steps=1",
    "train.warmup_steps=0", "evaluation.every_steps=1", "evaluation.batch_size=2", "checkpoint.every_steps=1",
    *(f"model.image.{one}" for one in ("width=16", "num_layers=2", "num_heads=2", "patch_size=8")),
    *(f"model.text.{one}" for one in ("width=24", "num_layers=2", "num_heads=3", "max_tokens=12")),
    *(f"model.fusion.{one}" for one in ("width=32", "num_layers=3", "num_heads=2", "mlp_dim=64")),
    "model.head.num_conv_layers=1",
]  # fmt: skip
_CLAP = f"clap:{clap_originals.GOLDENS / 'unfused'}"
_OF_DATA = ("crop_size=16", "num_frames=32")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs of pages; models are trained when a page first needs one.

    Attributes:
      raw: videos with their annotations.
      captions, activities: shards of them.
      clip: a CLIP as Hugging Face's library saves one.
      runs: of the quickstart's models, by the name of the config.
    """

    raw: Path
    captions: Path
    activities: Path
    clip: Path
    runs: Path

    @functools.cached_property
    def trained(self) -> Path:
        """The quickstart's run of moment retrieval, evaluated."""
        return self._run("quickstart")

    @functools.cached_property
    def trained_on_classes(self) -> Path:
        return self._run("quickstart_tal")

    def _run(self, config: str) -> Path:
        workdir = self.runs / config
        run_tiny(["train", f"--config=configs/{config}.py", f"--workdir={workdir}"], self, self.runs)
        run_tiny(["evaluate", f"--checkpoint={workdir}", "--split=test"], self, self.runs)
        return workdir


def run_tiny(words: Iterable[object], inputs: Inputs, scratch: Path) -> None:
    """Runs `unloc …` in this process; a finished run continues, as it does for a user."""
    arguments = parse([str(word) for word in words])
    make_tiny(arguments, inputs, scratch)
    arguments.run(arguments)


def parse(words: list[str]) -> argparse.Namespace:
    """The arguments of `unloc …`, by its own parser; settings of configs are read, too.

    Raises:
      SystemExit, UserError: as the command would.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(words)
    arguments.overrides = [item.removeprefix("--config.") for item in rest if item.startswith("--config.")]
    unknown = [item for item in rest if not item.startswith("--config.")]
    if unknown or (arguments.overrides and "config" not in arguments):
        parser.error(f"unknown arguments: {unknown or rest}")
    if arguments.command in ("train", "compile"):
        config_lib.load(arguments.config, arguments.overrides)
    return arguments


def unknown_options(words: list[str]) -> list[str]:
    """Of a mention such as `unloc data check --json`: the words that its command does not know."""
    parser: argparse.ArgumentParser | None = _parser()
    for i, word in enumerate(words):
        assert parser
        choices = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not choices:
            options = [word for word in words[i:] if word.startswith("--")]
            return [o for o in options if o.split("=")[0] not in parser._option_string_actions]
        parser = choices[0].get(word)
        if parser is None:
            return [word]
    return []


def make_tiny(a: argparse.Namespace, inputs: Inputs, scratch: Path) -> None:
    """Changes what `parse` returned: inputs that are not there, numbers, sizes."""
    name = getattr(a, "data_command", a.command)
    change: Callable[[argparse.Namespace, Inputs, Path], None] | None = {
        "synthesize": _synthesize,
        "build": _annotations,
        "check": _annotations,
        "features": _annotations,
        "rebuild-shard": _rebuild_shard,
        "train": _settings,
        "compile": _settings,
        "sweep": _sweep,
        "import": _source,
        "metrics": _predictions,
        "diagnose": _predictions,
    }.get(name)
    if change:
        change(a, inputs, scratch)
    if "workers" in a:
        a.workers = 1
    if getattr(a, "video", None) and not a.video.exists():
        video = inputs.raw / "videos" / "test_00000.mp4"
        heard = a.video.suffix.lower() in SOUND_ENDINGS
        a.video = write_recording(scratch / "heard", video) if heard else video
    if name == "zeroshot" and not Path(a.clip).exists():
        a.clip = _CLAP if a.clip.startswith("clap:") else f"hf-clip:{inputs.clip}"
    if name == "features":
        if a.encoder.startswith("videoprism:"):
            a.encoder = f"videoprism:{write_videoprism(scratch)}"
        elif a.encoder.startswith(("siglip2:", "pe:")):
            a.encoder = f"pe:{write_pe_core(scratch)}"
        elif a.encoder.startswith("clap:"):
            a.encoder, a.videos = _CLAP, scratch / "recordings"
            for video in (inputs.raw / "videos").glob("*.mp4"):
                write_recording(a.videos, video)
        elif not Path(a.encoder).exists():
            a.encoder = f"hf-clip:{inputs.clip}"
        a.batch_size = 4
    if getattr(a, "zeroshot_clip", None) and not Path(a.zeroshot_clip).exists():
        a.zeroshot_clip = f"hf-clip:{inputs.clip}"
    of_classes = bool(getattr(a, "vocabulary", None))
    if of_classes and not a.vocabulary.exists():
        a.vocabulary = scratch / "vocabulary.txt"
        a.vocabulary.write_text("".join(f"{text}\n" for text in _classes(inputs.raw)))
    foreign = getattr(a, "checkpoint", None) and not a.checkpoint.exists()
    if foreign:  # a copy: evaluation writes into it
        shutil.copytree(inputs.trained_on_classes if of_classes else inputs.trained, a.checkpoint)
    if name == "evaluate" and (foreign or a.data_dir) and not (a.data_dir and a.data_dir.exists()):
        a.data_dir = inputs.activities if of_classes else inputs.captions


def _classes(raw: Path) -> set[str]:
    database = json.loads((raw / "annotations" / "activities.json").read_text())["database"]
    return {segment["label"] for video in database.values() for segment in video["annotations"]}


def _synthesize(a: argparse.Namespace, inputs: Inputs, scratch: Path) -> None:
    a.num_train, a.num_val, a.num_test = 2, 1, 1


def _annotations(a: argparse.Namespace, inputs: Inputs, scratch: Path) -> None:
    if a.videos and not any(Path(a.videos).glob("*.mp4")):  # a page may call a checkpoint DIR as well
        a.videos = type(a.videos)(inputs.raw / "videos")
    if a.dataset and not all(file.exists() for file in a.annotations):
        a.annotations = write_annotations(a.dataset, inputs.raw, scratch / a.dataset)
    if a.command == "data" and a.data_command == "build":
        a.fps, a.short_side = 5.0, 16
        shutil.rmtree(a.out, ignore_errors=True)
        a.features = [_features(spec, inputs, scratch) for spec in a.features or []]
    elif a.command == "features" and a.num_processes == 1:
        shutil.rmtree(a.out, ignore_errors=True)


def _features(spec: str, inputs: Inputs, scratch: Path) -> str:
    """NAME=DIR with files in it."""
    name, _, folder = spec.partition("=")
    if Path(folder).exists():
        return spec
    made = scratch / "features" / name
    made.mkdir(parents=True, exist_ok=True)
    for video in (inputs.raw / "videos").iterdir():
        np.save(made / f"{video.stem}.npy", np.zeros((4, CLIP_WIDTH), np.float32))
    return f"{name}={made}"


def _rebuild_shard(a: argparse.Namespace, inputs: Inputs, scratch: Path) -> None:
    """There is one shard of a split here, not 16."""
    (a.file,) = a.file.parent.glob(re.sub(r"\d+-of-\d+$", "*", a.file.name))


def _settings(a: argparse.Namespace, inputs: Inputs, scratch: Path) -> None:
    if "configs/quickstart" not in a.config:
        a.config = re.sub(r"\.py(:[BL]\b)?", ".py:tiny", a.config, count=1).replace(":tiny:tiny", ":tiny")
    a.overrides = [re.sub(r"('feature_dim': )\d+", rf"\g<1>{CLIP_WIDTH}", one) for one in a.overrides]
    a.overrides += _TINY
    config = config_lib.load(a.config, a.overrides)
    for name, view in config.task_configs.items():
        key = f"tasks.{name}.data" if config.tasks else "data"
        shards = inputs.activities if view.with_vocabulary else inputs.captions
        a.overrides += [f"{key}.{one}" for one in _OF_DATA]
        if not Path(view.data.dir).is_dir() or not view.data.dir:
            a.overrides.append(f"{key}.dir={shards}")
    if config.init_from and not Path(config.init_from).exists():
        a.overrides.append(f"init_from=hf-clip:{inputs.clip}")


def _sweep(a: argparse.Namespace, inputs: Inputs, scratch: Path) -> None:
    """One row of the sweep, with one seed."""
    (row, *_) = read_sweep(a.file).rows
    config = argparse.Namespace(config=row.config, overrides=[])
    _settings(config, inputs, scratch)
    metrics = "metrics = ['recall/model/R1@0.5']"
    pairs = (override.split("=", 1) for override in config.overrides)
    settings = (f"{key!r} = {value if value.isdigit() else json.dumps(value)}" for key, value in pairs)
    a.file = scratch / "sweep.toml"
    a.file.write_text("\n".join([f"config = {row.config!r}", metrics, "seeds = 1", "[settings]", *settings]))


def _source(a: argparse.Namespace, inputs: Inputs, scratch: Path) -> None:
    if a.format == "hf-clip":
        a.source = str(inputs.clip)
    else:
        golden = Path(__file__).parents[1] / "goldens" / "scenic" / "mr_fpn_ws0_gather1_focal_iou.npz"
        assert a.format == "scenic-unloc", f"no tiny checkpoint of {a.format}"
        a.source, a.config = str(golden), golden.with_suffix(".json")
    shutil.rmtree(a.out, ignore_errors=True)


def _predictions(a: argparse.Namespace, inputs: Inputs, scratch: Path) -> None:
    if not all(file.exists() for file in (*a.ground_truth, a.predictions)):
        out = Path(tempfile.mkdtemp(dir=scratch))
        a.ground_truth, a.predictions = write_scored(a, inputs.raw, inputs.activities, out)
    if a.blocked_videos and not a.blocked_videos.exists():
        a.blocked_videos = scratch / "blocked.json"
        a.blocked_videos.write_text("[]")
