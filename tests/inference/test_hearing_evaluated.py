"""`unloc predict` hears what training and `unloc evaluate` hear: the same inputs, the same numbers."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.reading.dataset import ShardedDataset
from tests.inference.test_embedded_video import untrained
from tests.inference.test_hearing import AUDIO, RATE, tones, write_film, write_wav
from unloc_jax.inference.localizer import Localizer

pytestmark = pytest.mark.slow

FPS = 5
# A film, one that is longer than its sound, one without sound, a file of sound.
FILES = {
    "film": lambda path: write_film(path.with_suffix(".mkv"), tones()),
    "short": lambda path: write_film(path.with_suffix(".mkv"), tones(3.0, first_hz=500.0)),
    "mute": lambda path: write_film(path.with_suffix(".mkv")),
    "sound": lambda path: write_wav(path.with_suffix(".wav"), tones(12.4, 22050, 400.0), 22050),
}
HEARD = ("film", "short", "sound")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("heard")
    (folder / "videos").mkdir()
    lines = []
    for name, write in FILES.items():
        for split in ("train", "test"):
            write(folder / "videos" / f"{name}_{split}")
            text = "the second tone" if name != "mute" else "nothing is heard"
            lines.append({"video": f"{name}_{split}", "split": split, "start": 1.0, "end": 2.0, "text": text})
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "alone.jsonl").write_text(
        "".join(json.dumps(x) + "\n" for x in lines if "mute" not in x["video"])
    )
    options = {"fps": FPS, "workers": 1, "sound_rate": RATE}
    videos = folder / "videos"
    build("jsonl", [folder / "alone.jsonl"], videos, folder / "alone", with_frames=False, **options)
    # A model that sees cannot read a file of sound.
    seen = [line for line in lines if "sound" not in line["video"]]
    (folder / "seen.jsonl").write_text("".join(json.dumps(line) + "\n" for line in seen))
    build("jsonl", [folder / "seen.jsonl"], videos, folder / "both", short_side=16, **options)
    return folder


def file_of(folder: Path, video_id: str) -> Path:
    (path,) = (folder / "videos").glob(f"{video_id}.*")
    return path


@pytest.mark.parametrize("sampling", ["linspace", "window"])
@pytest.mark.parametrize("shards, inputs", [("alone", ["audio"]), ("both", ["rgb", "audio"])])
def test_the_same_sound_at_the_same_places(folder, shards, inputs, sampling):
    modalities = {name: {"encoder": "audio"} if name == "audio" else {} for name in inputs}
    model = untrained(
        "moment_retrieval",
        model={"modalities": modalities, "audio": AUDIO},
        data={"dir": str(folder / shards), "sampling": sampling, "window_stride": 2},
    )
    dataset = ShardedDataset(model.task.config)
    model = dataclasses.replace(model, metadata=dataset.metadata)
    localizer, seen = Localizer(model), []
    encode = localizer._encode_videos
    localizer._encode_videos = lambda params, batch: seen.append(batch) or encode(params, batch)
    for record in dataset.records("test"):
        found = localizer(file_of(folder, record.video_id), ["a tone"])
        assert found.duration_s == pytest.approx(record.duration_s, abs=1e-3)
        assert ("no sound track" in {note.kind for note in found.notes}) == ("mute" in record.video_id)
    batches = list(dataset.evaluation_batches("test"))
    of_shards = [
        jax.tree.map(
            lambda x, row=row: np.asarray(x)[row], (b.features, b.input_masks, b.frame_mask, b.span_s)
        )
        for b in batches
        for row in np.flatnonzero(b.example_mask)
    ]
    assert len(seen) == len(of_shards) == sum(dataset.num_windows("test"))
    assert len(seen) > len(dataset.records("test")) or sampling == "linspace"
    for batch, expected in zip(seen, of_shards):
        ours = jax.tree.map(
            lambda x: np.asarray(x)[0], (batch.features, batch.input_masks, batch.frame_mask, batch.span_s)
        )
        jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_predict_gives_what_evaluate_gives(folder, config_file, tmp_path, unloc):
    workdir, audio = tmp_path / "run", {**AUDIO, "window_s": 0.5}
    words = [f"--config.model.audio.{key}={value}" for key, value in audio.items()]
    words += ["--config.model.modalities={'audio': {'encoder': 'audio'}}", "--config.train.steps=3"]
    words += [
        "--config.contrastive.steps=0",
        "--config.contrastive.warmup_steps=0",
        "--config.data.mirror=False",
    ]
    words += [f"--config.data.dir={folder / 'alone'}"]
    unloc("train", f"--config={config_file}", f"--workdir={workdir}", *words).ok()
    unloc("evaluate", f"--checkpoint={workdir}", f"--data-dir={folder / 'alone'}").ok()
    (file,) = workdir.glob("evaluation/test/predictions.jsonl")
    lines = {line["vid"]: line for line in map(json.loads, file.read_text().splitlines())}
    assert set(lines) == {f"{name}_test" for name in HEARD}
    for name, line in lines.items():
        out, page = tmp_path / f"{name}.json", tmp_path / f"{name}.html"
        words = ["predict", f"--checkpoint={workdir}", f"--video={file_of(folder, name)}"]
        ran = unloc(*words, f"--text={line['query']}", f"--out={out}", f"--out={page}").ok()
        assert f"wrote {page}" in ran.out
        (text,) = json.loads(out.read_text())["texts"]
        ours = [[segment["start_s"], segment["end_s"], segment["score"]] for segment in text["segments"]]
        np.testing.assert_allclose(ours, line["pred_relevant_windows"], atol=1e-3)
        assert ("<audio" in page.read_text()) == (
            "sound" in name
        ) and '<div class="sound">' in page.read_text()
    mute = unloc(
        "predict", f"--checkpoint={workdir}", f"--video={file_of(folder, 'mute_test')}", "--text=a tone"
    )
    assert (
        mute.error()
        == f"{file_of(folder, 'mute_test')}: there is no sound track, and this model hears alone."
    )
    words = ["predict", f"--checkpoint={workdir}", f"--video={file_of(folder, 'film_test')}", "--text=a tone"]
    assert "there is no sound track 3; the file has one, 0" in unloc(*words, "--audio-track=3").error()
