"""CLAP by the commands: features of sound and a model that is trained on them, zero-shot, evaluation."""

import json
import shutil

import numpy as np
import pytest

import unloc_jax
from tests.clicks import write_clicks
from tests.features.test_feature_inputs import annotations_of
from tests.pretrained.clap_originals import GOLDENS, sounds_of
from unloc_jax.errors import UserError
from unloc_jax.features.embed_videos import embed_frames, embed_video
from unloc_jax.features.encoder import unit
from unloc_jax.features.families import family_of, open_encoder
from unloc_jax.sound import read_sound
from unloc_jax.tasks.zeroshot_scores import relevance, smooth
from unloc_jax.video import VideoError, video_length_s

SOURCE = f"clap:{GOLDENS / 'unfused'}"
TEXTS = ["a dog barks", "a door slams"]
FILES = [
    ("mp4", "aac"), ("webm", "libopus"), ("wav", "pcm_s16le"), ("flac", "flac"), ("ogg", "libopus"),
    ("mp3", "libmp3lame"),
]  # fmt: skip


def recording(folder, name: str, codec: str, seconds: float = 6.0, **settings):
    """A file with another click in every second or so."""
    picture = {"webm": "libvpx", "mp4": "libx264"}.get(name)
    times_s = tuple(np.arange(0.3, seconds, 0.9))
    path = folder / f"{codec}.{name}"
    return write_clicks(path, codec, picture=picture, seconds=seconds, times_s=times_s, **settings)


def windows_of(path, encoder, times_s) -> list[np.ndarray]:
    """What a row is made of, cut from the whole sound."""
    sound = read_sound(path, encoder.weights.mel.rate)
    size = round(encoder.window_s * sound.rate)
    begins = [round(time_s * sound.rate) - size // 2 for time_s in times_s]
    return [sound.samples[max(0, begin) : begin + size] for begin in begins]


@pytest.mark.parametrize(("name", "codec"), FILES)
def test_a_row_is_of_the_sound_around_it(tmp_path, name, codec):
    encoder, path = open_encoder(SOURCE, batch_size=4), recording(tmp_path, name, codec)
    encoder.use_window(1.0)
    found = embed_video(encoder, path, 4.0)
    assert found.duration_s == pytest.approx(6.0, abs=0.1)
    assert len(found.features) == len(found.times_s) == np.ceil(found.duration_s * 4 - 0.5 - 4e-3)
    np.testing.assert_allclose(found.times_s[:3], (0.125, 0.375, 0.625))
    wanted = encoder.encode_sounds(windows_of(path, encoder, found.times_s))
    np.testing.assert_allclose(found.features, wanted, atol=1e-5)
    assert np.abs(np.diff(found.features, axis=0)).max() > 1e-2  # moments differ


def test_curves_are_cosines(tmp_path):
    path, encoder = recording(tmp_path, "wav", "pcm_s16le"), open_encoder(SOURCE)
    localizer = unloc_jax.load(SOURCE)
    found = localizer(path, TEXTS)
    times_s = np.arange(12) / 2
    rows = unit(encoder.encode_sounds(windows_of(path, encoder, times_s)))
    for text, of_text in zip(found, unit(encoder.encode_texts(TEXTS))):
        np.testing.assert_allclose(text.relevance, relevance(smooth(rows @ of_text, 2.0)), atol=1e-3)
    assert found.model["hears"] == "2 windows per second, of 2 s of sound"
    assert "(CLAP, not trained to localise)" in found.model["model"]
    assert family_of(SOURCE).title == "CLAP"
    samples = read_sound(path, encoder.weights.mel.rate).samples
    given = localizer(samples, TEXTS, rate=encoder.weights.mel.rate)
    np.testing.assert_allclose(given[0].relevance, found[0].relevance, atol=1e-5)
    with pytest.raises(UserError, match="reads sound: give it a file, or samples"):
        localizer(np.zeros((4, 8, 8, 3), np.uint8), TEXTS, fps=2)


def test_what_it_cannot_hear_is_told(tmp_path):
    encoder = open_encoder(SOURCE)
    silent = write_clicks(tmp_path / "a.mp4", ())
    with pytest.raises(VideoError, match="has no sound track"):
        embed_video(encoder, silent, 2.0)
    with pytest.raises(UserError, match="reads sound, which frames do not have"):
        embed_frames(encoder, np.zeros((4, 8, 8, 3), np.uint8), 2.0, 2.0)
    for window_s in (0.0, 2.1, np.nan):
        with pytest.raises(UserError, match=r"hears from 0\.1 to 2 seconds at a time"):
            encoder.use_window(window_s)


def test_features_of_a_folder(unloc, tmp_path):
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    for name, codec in FILES:
        recording(videos, name, codec, seconds=3.0)
    write_clicks(videos / "silent.mp4", ())
    (videos / "damaged.wav").write_bytes(b"RIFF")
    recording(videos, "mkv", "flac", seconds=3.0)  # beside flac.flac, of the same name
    words = ("features", f"--encoder={SOURCE}", f"--videos={videos}", f"--out={out}")
    told = unloc(*words, "--window=1", "--fps=4").ok().out
    assert "made now           5 videos         60 windows" in told
    assert "unusable           2 videos" in told and "no sound track" in told
    unusable = [json.loads(line) for line in (out / "unusable_videos.jsonl").read_text().splitlines()]
    assert {line["video_id"]: line["kind"] for line in unusable}["silent"] == "no sound track"
    assert len(unusable) == 2
    assert "flac.flac" in told  # ignored: the video of that name is heard
    made = sorted(file.stem for file in out.glob("*.npz"))
    assert made == ["aac", "flac", "libmp3lame", "libopus", "pcm_s16le"]
    stored = np.load(out / "aac.npz")
    assert json.loads(str(stored["settings"]))["window_s"] == 1.0
    assert "made now           0 videos" in unloc(*words, "--window=1", "--fps=4").ok().out
    assert "window_s was 1.0, now 2.0" in unloc(*words, "--fps=4").error()
    picture = ("features", f"--encoder=hf-clip:{GOLDENS.parent / 'clip' / 'hf_gelu_sharded'}")
    more = (f"--videos={videos}", f"--out={tmp_path / 'c'}", "--window=1")
    assert "--window=1 is for an encoder of sound" in unloc(*picture, *more).error()


def with_sound(tiny_videos, folder):
    """Files of sound as long as the tiny videos, of the same names."""
    folder.mkdir()
    for number, video in enumerate(sorted((tiny_videos / "videos").glob("*.mp4"))):
        length_s = video_length_s(video)
        times_s = tuple(np.arange(0.2 + 0.05 * number, length_s, 0.8))
        write_clicks(
            folder / f"{video.stem}.wav", "pcm_s16le", picture=None, seconds=length_s, times_s=times_s
        )
    return folder


@pytest.mark.slow
def test_features_build_train_predict_and_zero_shot(unloc, config_file, tiny_videos, tmp_path):
    """The whole way of a newcomer, by commands alone."""
    weights = shutil.copytree(GOLDENS / "fused", tmp_path / "weights")
    features, shards, run = (tmp_path / name for name in ("features", "shards", "run"))
    sounds = with_sound(tiny_videos, tmp_path / "sounds")
    words = ("features", f"--encoder=clap:{weights}", f"--videos={sounds}", f"--out={features}")
    unloc(*words, "--window=1", "--fps=4").ok()
    annotations = annotations_of(tiny_videos)
    unloc(
        "data", "build", "--dataset=activitynet_captions", "--annotations", *annotations,
        "--no-frames", f"--features=clap={features}", f"--out={shards}",
    ).ok()  # fmt: skip
    unloc(
        "train", f"--config={config_file}", f"--workdir={run}", f"--config.data.dir={shards}",
        "--config.data.mirror=False",
        "--config.model.modalities={'clap': {'encoder': 'features', 'feature_dim': 20}}",
        "--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0", "--config.train.steps=3",
    ).ok()  # fmt: skip
    sound = next(sounds.glob("test_*.wav"))
    words = ("predict", f"--checkpoint={run}", f"--video={sound}", "--text=a square")
    assert "a square" in unloc(*words).ok().out
    localizer = unloc_jax.load(run)
    given = localizer.embed_features({"clap": features / f"{sound.stem}.npz"})
    np.testing.assert_allclose(
        localizer(given, "a square")[0].relevance, localizer(sound, "a square")[0].relevance, atol=1e-4
    )
    out = tmp_path / "r.json"
    unloc("zeroshot", f"--clip=clap:{weights}", f"--video={sound}", "--text=a dog", f"--out={out}").ok()
    assert len(json.loads(out.read_text())["texts"][0]["relevance"]) > 4
    heard = tmp_path / "heard"
    unloc(
        "data", "build", "--dataset=activitynet_captions", "--annotations", *annotations, f"--videos={sounds}",
        "--no-frames", "--audio=4000", f"--out={heard}",
    ).ok()  # fmt: skip
    words = ("evaluate", f"--zeroshot-clip=clap:{weights}", f"--out={tmp_path / 'e'}")
    assert "R1@0.5" in unloc(*words, f"--dataset={heard}").ok().out
    assert "holds no sound, which CLAP" in unloc(*words, f"--dataset={shards}").error()


def test_sounds_of_any_rate_are_resampled():
    encoder = open_encoder(SOURCE)
    (sound,) = sounds_of(4000, (3.0,))
    rows = encoder.encode_stream(encoder.open_samples(np.repeat(sound, 2), 8000, 2.0))
    near = encoder.encode_stream(encoder.open_samples(sound, 4000, 2.0))
    assert rows.shape == near.shape and (unit(rows) * unit(near)).sum(1).min() > 0.9
