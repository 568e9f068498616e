"""What a run says on the terminal about itself and its data."""

import sys
from collections.abc import Mapping

import jax

from unloc_jax.dataset import Dataset, validation_split
from unloc_jax.processes import is_main
from unloc_jax.tasks import Task
from unloc_jax.text import num_tokens
from unloc_jax.training.notes import notes_on
from unloc_jax.training.run_setup import Setup
from unloc_jax.training.state import count_parameters


def say(text: str) -> None:
    """A line on the terminal, from the first process only."""
    if is_main():
        print(text, file=sys.stderr, flush=True)


def say_what_a_run_has(setup: Setup, datasets: Mapping[str, Dataset]) -> None:
    """The size of the model, the devices, and what of the data a step does not see: nothing is dropped in silence."""
    say(
        f"{count_parameters(setup.abstract.params) / 1e6:.2f} M parameters, {jax.device_count()} × "
        f"{jax.devices()[0].device_kind} as {dict(setup.mesh.shape)} ({setup.config.mesh.strategy})"
    )
    for name, task in setup.tasks.items():
        _say_what_a_task_has(name, task, datasets[name])


def _say_what_a_task_has(name: str, task: Task, dataset: Dataset) -> None:
    config, records, split = task.config, dataset.records("train"), validation_split(dataset)
    say(
        f"{name}: {len(records)} training videos, "
        + (f"{len(dataset.records(split))} {split} videos" if split else "none for validation")
        + (f", {len(task.classes)} classes" if task.classes else "")
    )
    if split == "test":
        say("note: this dataset has no validation split; the run is validated on its test split")
    for note in notes_on(config, dataset):
        say(f"note: {note}")
    sizes = {"segments": config.data.max_segments}
    if not task.config.with_vocabulary:
        sizes["queries"] = config.data.max_queries
    for what, size in sizes.items():
        counts = [len(r.texts if what == "segments" else set(r.texts)) for r in records]
        beyond = [count - size for count in counts if count > size]
        if beyond:
            say(
                f"note: {len(beyond)} training videos have more than config.data.max_{what} = {size} {what}; "
                f"{sum(beyond)} {what} are left out of each step (at most {max(counts)} in a video)"
            )

    texts = {text for record in records for text in record.texts}
    long = sum(num_tokens(text) > config.model.text.max_tokens for text in texts)
    if long and not config.model.text.embeddings_file:
        say(
            f"note: {long} of {len(texts)} texts have more than config.model.text.max_tokens = "
            f"{config.model.text.max_tokens} tokens; their ends are left out"
        )
