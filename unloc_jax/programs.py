"""Training, evaluation, official numbers and diagnosis, as functions.

The commands and notebooks call these: `unloc train` is `train`, and so on. What they return shows itself in a notebook.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unloc_jax import siblings
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of

if TYPE_CHECKING:
    from unloc_jax.config import Config
    from unloc_jax.evaluation.result import EvaluationResult
    from unloc_jax.metrics.diagnosis.section import Diagnosis
    from unloc_jax.metrics.protocols.measured import Measured
    from unloc_jax.training.preemption import Preemption
    from unloc_jax.training.watcher import Watcher

Settings = Mapping[str, Any] | Iterable[str]


def train(
    config: "str | Path | Config",
    workdir: str | Path,
    settings: Settings = (),
    *,
    watcher: "Watcher | None" = None,
) -> dict[str, float]:
    """Trains in `workdir`, or continues the run there; `unloc train`.

    >>> import unloc_jax
    >>> settings = {"data.dir": "SHARDS", "train.steps": 300}
    >>> scores = unloc_jax.train("configs/quickstart.py", "run", settings)  # doctest: +SKIP

    Args:
      config: a config file as --config takes it, or a config.
      workdir: where checkpoints and metrics are written.
      settings: changes to the file's config by key, or strings "KEY=VALUE" as the command takes them.
      watcher: is shown numbers and predictions while it trains, such as `unloc_jax.notebooks.LiveCharts`.

    Returns:
      The metrics of the last validation; {} if the run was finished before.

    Raises:
      UserError: see `unloc_jax.config.load` and `unloc_jax.training.loop.train`.
    """
    from unloc_jax import agreement
    from unloc_jax import config as config_lib
    from unloc_jax.training import facts
    from unloc_jax.training.loop import train as train_loop
    from unloc_jax.training.preemption import stop_if_signalled

    if isinstance(config, (str, Path)):
        config = config_lib.load(str(config), overrides_of(settings))
    elif settings:
        raise UserError("settings change a config file; change a config itself with dataclasses.replace.")
    config = config_lib.with_absolute_paths(config)  # the checkpoint stores them
    agreement.check(lambda: agreement.versions() | facts.config_facts(config))
    stop_if_signalled()
    with siblings.ours("data_pipelines"):
        from data_pipelines.reading.dataset import ShardedDataset

        datasets = {name: ShardedDataset(view) for name, view in config.task_configs.items()}
        agreement.check(lambda: facts.of_training(datasets))
        stop_if_signalled()
        return train_loop(config, _folder(workdir), datasets, watcher)


def _folder(workdir: str | Path) -> Path:
    """Returns the path of a workdir.

    Raises:
      UserError: it is an address of a cloud.
    """
    if re.match(r"[a-z][a-z0-9+.-]*:/", str(workdir)):  # Path makes "gs:/…" of "gs://…"
        raise UserError(
            f"--workdir={workdir}: training writes to a folder. Mount the bucket as one (docs/launch.md)."
        )
    return Path(path_of(str(workdir)))


def overrides_of(settings: Settings) -> list[str]:
    """Returns settings as strings "KEY=VALUE"."""
    if not isinstance(settings, Mapping):
        return list(settings)
    plain = lambda value: str(value) if isinstance(value, Path) else value
    return [f"{key}={plain(value)!r}" for key, value in settings.items()]


def clip_settings(source: str, *, features: bool = False) -> dict[str, Any]:
    """Returns settings of a model that starts from a CLIP, or reads its features, for `train`.

    >>> import unloc_jax
    >>> sorted(unloc_jax.clip_settings("CLIP"))[:3]
    ['data.crop_size', 'init_from', 'model.image.activation']

    Args:
      source: a CLIP as `unloc_jax.load` takes it.
      features: the model reads features of `unloc features` instead of frames; its text tower still starts from the
        CLIP.

    Raises:
      UserError: there is no CLIP that can be read.
    """
    from unloc_jax.pretrained.clip_source import absolute, kind_of, read_any_clip, split_source

    config = read_any_clip(source).config
    is_id = not (split_source(source) or Path(source).exists())
    init_from = f"{kind_of(source)}:{source}" if is_id else absolute(source)
    towers = {"text": config.text} if features else {"text": config.text, "image": config.image}
    settings: dict[str, Any] = {"init_from": init_from}
    for name, tower in towers.items():
        of_both = ("width", "num_layers", "num_heads", "activation")
        settings |= {f"model.{name}.{key}": getattr(tower, key) for key in of_both}
    settings["model.text.vocabulary_size"] = config.text.vocabulary_size
    if features:
        settings["model.modalities"] = {"clip": {"encoder": "features", "feature_dim": config.embed_dim}}
        return settings
    size = {"model.image.patch_size": config.image.patch_size, "data.crop_size": config.image_size}
    return settings | size


def videoprism_settings(source: str, *, sentencepiece: str | None = None) -> dict[str, Any]:
    """Returns settings of a model whose towers start from a VideoPrism, for `train`.

    Args:
      source: a VideoPrism as `unloc features --encoder videoprism:SRC` takes it, with or without "videoprism:".
      sentencepiece: the vocabulary of its texts; None = beside the weights. Weights without a text encoder leave the
        model's text tower as it is.

    Raises:
      UserError: there is no VideoPrism that can be read, or no vocabulary.
    """
    from unloc_jax.features.families import absolute
    from unloc_jax.pretrained.videoprism import KIND, read_videoprism
    from unloc_jax.pretrained.videoprism_towers import tower_settings

    place = source.removeprefix(f"{KIND}:")
    weights = read_videoprism(place, vocabulary=sentencepiece)
    settings = {"init_from": absolute(f"{KIND}:{place}"), **tower_settings(weights)}
    if weights.config.text is not None:
        if weights.vocabulary is None:
            raise UserError(
                f"{source}: its texts are read with a SentencePiece vocabulary: give sentencepiece=FILE "
                "(docs/videoprism.md)."
            )
        settings["model.text.sentencepiece"] = str(weights.vocabulary.resolve())
    return settings


def evaluate(
    checkpoint: str | Path,
    split: str = "test",
    *,
    task: str | None = None,
    data_dir: str | Path | None = None,
    vocabulary: Sequence[str] = (),
    vocabulary_name: str = "vocabulary",
    out: str | Path | None = None,
    classifier_scores: str | Path | None = None,
    protocol: str | None = None,
    settings: Settings = (),
) -> "EvaluationResult":
    """Evaluates a checkpoint on a split; `unloc evaluate --checkpoint`.

    >>> import unloc_jax
    >>> result = unloc_jax.evaluate("RUN", data_dir="SHARDS", out="results")
    >>> 0 <= result["recall"]["model"]["R1@0.5"] <= 100, result.predictions.name
    (True, 'predictions.jsonl')

    Args:
      checkpoint: a workdir or one of its steps.
      split: "train", "validation" or "test".
      task: of a checkpoint with several; None = the first.
      data_dir: the dataset, if it has moved since training or is another one.
      vocabulary: other classes than the model's.
      vocabulary_name: part of the name of the folder of their results.
      out: folder of metrics.json and the predictions; None = WORKDIR/evaluation/SPLIT.
      classifier_scores: see `unloc_jax.evaluation.classifier_scores`.
      protocol: see `unloc_jax.evaluation.evaluate.evaluate`.
      settings: changes to `config.evaluation`, as in `train`.

    Raises:
      UserError: see `load_model` and `unloc_jax.evaluation.evaluate.evaluate`; or the dataset is not there.
    """
    from unloc_jax.evaluation.evaluate import output_folders

    with siblings.ours("data_pipelines"):
        folder, run = checked_evaluation(
            checkpoint,
            split,
            task=task,
            data_dir=data_dir,
            vocabulary=vocabulary,
            vocabulary_name=vocabulary_name,
            out=out,
            classifier_scores=classifier_scores,
            protocol=protocol,
            settings=settings,
        )
        with output_folders([folder]):
            return run()


def checked_evaluation(
    checkpoint: str | Path,
    split: str = "test",
    *,
    task: str | None = None,
    data_dir: str | Path | None = None,
    vocabulary: Sequence[str] = (),
    vocabulary_name: str = "vocabulary",
    out: str | Path | None = None,
    classifier_scores: str | Path | None = None,
    protocol: str | None = None,
    settings: Settings = (),
    preemption: "Preemption | None" = None,
) -> "tuple[Path, Callable[[], EvaluationResult]]":
    """Checks an evaluation as `evaluate` does it; returns the folder of its results, and the work.

    Args:
      checkpoint, split, task, data_dir, vocabulary, vocabulary_name, out, classifier_scores, protocol, settings: see
        `evaluate`.
      preemption: stops the work.

    Raises:
      UserError: see `evaluate`.
    """
    from data_pipelines.reading.dataset import ShardedDataset
    from unloc_jax import agreement
    from unloc_jax.evaluation.evaluate import checked
    from unloc_jax.evaluation.predictor import CheckpointPredictor
    from unloc_jax.inference.loaded_model import load_model
    from unloc_jax.training import facts
    from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint, workdir_of

    step_dir = find_checkpoint(Path(checkpoint))
    whole, _ = load_checkpoint(step_dir)
    scores = None if classifier_scores is None else Path(classifier_scores)
    asked = {
        "--split": split,
        "--task": task,
        "--protocol": protocol,
        "the vocabulary": list(vocabulary),
        "the settings": overrides_of(settings),
    }
    agreement.check(lambda: agreement.versions() | asked | facts.of_evaluation(step_dir, scores))
    model = load_model(Path(checkpoint), task, overrides_of(settings), with_params=False)
    config = model.task.config
    if data_dir:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, dir=str(data_dir)))
        model = dataclasses.replace(model, task=dataclasses.replace(model.task, config=config))
    if config.data.format == "unloc" and not (config.data.dir and Path(config.data.dir).is_dir()):
        raise UserError(f"the dataset {config.data.dir} is not there. Give its place: --data-dir=DIR.")
    if vocabulary:
        if not config.with_vocabulary:
            raise UserError(
                f"--vocabulary is for tasks with classes; the texts of {config.task} are per video."
                + (" Choose the task with classes: --task=NAME." if whole.tasks else "")
            )
        changed = dataclasses.replace(model.task, evaluation_classes=tuple(vocabulary))
        model = dataclasses.replace(model, task=changed)
    dataset = ShardedDataset(config)
    agreement.check(lambda: facts.dataset_facts(model.task_name, dataset, (split, "train")))
    trained_on_it = dataset.metadata.fingerprint == model.metadata.fingerprint
    name = split if trained_on_it else f"{split}_{Path(config.data.dir).resolve().name}"
    name = f"{name}_{vocabulary_name}" if vocabulary else name
    folder = Path(out) if out else workdir_of(model.step_dir) / "evaluation" / name
    folder = folder / model.task_name if whole.tasks else folder
    watched = {"watched": preemption.watched} if preemption else {}
    predictor = CheckpointPredictor(model, dataset, **watched)
    return folder, checked(predictor, split, folder, scores, protocol)


def measure(
    protocol: str,
    ground_truth: str | Path | Sequence[str | Path],
    predictions: str | Path,
    *,
    subset: str | None = None,
    dataset: str | None = None,
    **options: Any,
) -> "Measured":
    """Computes the official numbers of a file of predictions; `unloc metrics`.

    >>> import unloc_jax
    >>> found = unloc_jax.evaluate("RUN", data_dir="SHARDS", out="results").predictions
    >>> numbers = unloc_jax.measure("moment-retrieval", "SHARDS", found, subset="test")
    >>> numbers["queries"] > 0
    True

    Args:
      protocol: of `unloc metrics --protocol`.
      ground_truth: one or several files, or a folder of `unloc data build`.
      predictions: file.
      subset: of an ActivityNet-style ground truth, of your own data or of shards.
      dataset: format of the ground truth, as for `unloc data build`; None: the protocol's.
      **options: of the protocol, such as `variant`; see docs/metrics.md.

    Raises:
      UserError: there is no such protocol, it has no such option, or it refuses a file.
    """
    from unloc_jax.metrics.protocols.measured import Measured
    from unloc_jax.metrics.protocols.run import measure as measure_file

    truth, chosen = _ground_truth(protocol, ground_truth, subset, dataset)
    title = f"{Path(predictions).name}, {protocol}"
    return Measured(title, measure_file(protocol, truth, Path(predictions), subset=chosen, **options))


def diagnose(
    protocol: str,
    ground_truth: str | Path | Sequence[str | Path],
    predictions: str | Path,
    *,
    tiou: float = 0.5,
    subset: str | None = None,
    dataset: str | None = None,
    blocked_videos: str | Path | None = None,
    checkpoint: str | Path | None = None,
    task: str | None = None,
) -> "Diagnosis":
    """Explains the score of a file of predictions; `unloc diagnose`.

    >>> import unloc_jax
    >>> found = unloc_jax.evaluate("RUN", data_dir="SHARDS", out="results").predictions
    >>> why = unloc_jax.diagnose("moment-retrieval", "SHARDS", found, subset="test")
    >>> why.save("why.html")

    Args:
      protocol: of `unloc diagnose --protocol`.
      ground_truth, predictions, subset, dataset: see `measure`.
      tiou: threshold of a hit.
      blocked_videos: JSON list of ids to leave out.
      checkpoint, task: of the model whose pyramid is compared with the ground truth.

    Raises:
      UserError: there is no such protocol, it has no such option, or it refuses a file.
    """
    from unloc_jax.metrics.diagnosis.run import diagnose as diagnose_file

    truth, chosen = _ground_truth(protocol, ground_truth, subset, dataset)
    path = lambda text: None if text is None else Path(text)
    return diagnose_file(
        protocol,
        truth,
        Path(predictions),
        tiou=tiou,
        subset=chosen,
        blocked_videos=path(blocked_videos),
        checkpoint=path(checkpoint),
        task=task,
    )


def _ground_truth(
    protocol: str, files: str | Path | Sequence[str | Path], subset: str | None, dataset: str | None
) -> Any:
    several = [files] if isinstance(files, (str, Path)) else files
    with siblings.ours("data_pipelines"):
        from data_pipelines.ground_truth import read_ground_truth

        return read_ground_truth(protocol, [Path(path_of(str(file))) for file in several], subset, dataset)
