"""Logs a run's summary to the terminal."""

import sys
from collections.abc import Mapping

import jax

from unloc_jax.config.towers import tokens_of
from unloc_jax.console import show
from unloc_jax.dataset import Dataset, validation_split
from unloc_jax.inline import in_notebook
from unloc_jax.processes import is_main
from unloc_jax.tasks import Task
from unloc_jax.tasks.parameters import count_parameters
from unloc_jax.training.config_notes import notes_on
from unloc_jax.training.run_setup import Setup


def log(text: str) -> None:
    """Prints a line to stderr, in the first process only; to stdout in a notebook, which shows stderr as an error."""
    if is_main():
        show(text, file=sys.stdout if in_notebook() else sys.stderr)


def log_summary(setup: Setup, datasets: Mapping[str, Dataset]) -> None:
    """Logs the size of the model, the devices, and which data steps do not see: nothing is dropped silently."""
    log(
        f"{count_parameters(setup.abstract.params) / 1e6:.2f} M parameters, {jax.device_count()} × "
        f"{jax.devices()[0].device_kind} as {dict(setup.mesh.shape)} ({setup.config.mesh.strategy})"
    )
    for name, task in setup.tasks.items():
        _log_task_summary(name, task, datasets[name])


def _log_task_summary(name: str, task: Task, dataset: Dataset) -> None:
    """Logs the size of a task's data and what of it is left out."""
    config, records, split = task.config, dataset.records("train"), validation_split(dataset)
    log(
        f"{name}: {len(records)} training videos, "
        + (f"{len(dataset.records(split))} {split} videos" if split else "none for validation")
        + (f", {len(task.classes)} classes" if task.classes else "")
    )
    if split == "test":
        log("note: this dataset has no validation split; the run is validated on its test split")
    for note in notes_on(config, dataset):
        log(f"note: {note}")
    sizes = {"segments": config.data.max_segments}
    if not task.config.with_vocabulary:
        sizes["queries"] = config.data.max_queries
    for what, size in sizes.items():
        counts = [len(r.texts if what == "segments" else set(r.texts)) for r in records]
        beyond = [count - size for count in counts if count > size]
        if beyond:
            log(
                f"note: {len(beyond)} training videos have more than config.data.max_{what} = {size} {what}; "
                f"{sum(beyond)} {what} are left out of each step (at most {max(counts)} in a video)"
            )

    texts = {text for record in records for text in record.texts}
    tokens = tokens_of(config.model)
    long = sum(tokens.count(text) > config.model.text.max_tokens for text in texts)
    if long and not config.model.text.embeddings_file:
        log(
            f"note: {long} of {len(texts)} texts have more than config.model.text.max_tokens = "
            f"{config.model.text.max_tokens} tokens; their ends are left out"
        )
