"""Notes on settings that are valid but make no sense with a dataset: logged at the start, not refused."""

import numpy as np

from unloc_jax.config import Config
from unloc_jax.dataset import Dataset
from unloc_jax.model.log_mel import bands_of
from unloc_jax.tasks import TASKS, task_for

_WHOLE_VIDEO = 0.95  # fraction of a video from which on there is nothing to localise


def notes_on(config: Config, dataset: Dataset) -> list[str]:
    """Returns one sentence for each setting of a task that its training videos make meaningless."""
    records, kind, notes = dataset.records("train"), TASKS[config.task], list[str]()
    localizes = "localization" in kind.heads
    texts = {text for record in records for text in record.texts}
    if config.batch_size > len(records):
        notes.append(
            f"config.batch_size = {config.batch_size} is more than the {len(records)} training videos: every step "
            "sees some of them several times"
        )
    if dataset.metadata.classes and localizes and not kind.with_vocabulary:
        notes.append(
            f"the texts of this dataset are {len(dataset.metadata.classes)} classes, and config.task = {config.task!r} "
            f"asks each video for its own ones only; config.task = {task_for('', True).name!r} searches all videos "
            "for all classes"
        )
    text = config.model.text
    if text.encoder == "clip" and text.pooling == "first":
        notes.append(
            "config.model.text.pooling = 'first' takes the start token, which in the causal text tower sees no word: "
            "all texts have the same embedding. Take 'end' (CLIP's) or 'mean'"
        )
    notes += kind.notes(config, records)
    if config.model.reads_sound:
        notes += _notes_on_sound(config, dataset)
    if len(texts) == 1:
        what = f"there is one text only in training, {min(texts)!r}"
        if config.contrastive.steps or kind.compares_videos:
            notes.append(f"{what}: a contrastive loss has nothing to compare it with")
        elif not localizes:
            notes.append(f"{what}: there is nothing to tell it from")
    if localizes and _only_whole_videos(dataset):
        notes.append(
            f"every training segment is its whole video: config.task = {config.task!r} has nothing to localise "
            "(docs/pretraining.md)"
        )
    return notes


def _notes_on_sound(config: Config, dataset: Dataset) -> list[str]:
    """Returns notes on sound that the model does not hear, and on bands that hear nothing."""
    data, audio, notes = config.data, config.model.audio, list[str]()
    steps_s = np.array(
        [
            data.window_stride / record.fps if data.windowed else record.duration_s / (data.num_frames - 1)
            for record in dataset.records("train")
            if record.fps or not data.windowed
        ]
    )
    between = steps_s > 1.001 * audio.window_s
    if between.any():
        share = 1 - audio.window_s / steps_s[between].max()
        notes.append(
            f"config.model.audio.window_s = {audio.window_s:g}, and in {between.sum()} of {len(steps_s)} training "
            f"videos places are farther apart (up to {steps_s.max():.2f} s): up to {share:.0%} of a video's sound is "
            "not heard. Take a longer window_s, more config.data.num_frames, or "
            + ("a smaller window_stride" if data.windowed else "config.data.sampling = 'window'")
        )
    deaf = int((bands_of(audio).max(0) == 0).sum())
    if deaf:
        notes.append(
            f"{deaf} of config.model.audio.num_mels = {audio.num_mels} bands lie between the frequencies of a Fourier "
            f"transform of {audio.fft_size} samples and hear nothing: take fewer, or a longer frame_s"
        )
    return notes


def _only_whole_videos(dataset: Dataset) -> bool:
    shares = [
        np.diff(record.segments_s, axis=1)[:, 0] / record.duration_s
        for record in dataset.records("train")
        if record.duration_s and len(record.segments_s)
    ]
    return bool(shares) and bool((np.concatenate(shares) >= _WHOLE_VIDEO).all())
