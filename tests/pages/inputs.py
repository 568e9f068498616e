"""Tiny inputs for the commands of pages: annotation files and predictions in every format that they name, a CLIP."""

import argparse
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.clicks import write_clicks
from tests.pretrained.clip_originals import GOLDENS
from tests.pretrained.picture_text_tools import pe_with_all_words
from tests.pretrained.videoprism_tools import TEXT_SIZES, tensors, write
from unloc_jax.text import VOCABULARY_SIZE
from unloc_jax.video import video_length_s

CLIP_WIDTH = 20  # of the golden's embeddings


def write_clip(folder: Path) -> Path:
    """A golden as Hugging Face's library saves one, with random numbers for all of CLIP's words instead of its 99."""
    golden = GOLDENS / "hf_gelu_sharded"
    tensors: dict[str, np.ndarray] = {}
    for file in golden.glob("*.safetensors"):
        tensors |= safetensors.numpy.load_file(file)
    name = "text_model.embeddings.token_embedding.weight"
    shape = (VOCABULARY_SIZE, tensors[name].shape[1])
    tensors[name] = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    config = json.loads((golden / "config.json").read_text())
    end = {"bos_token_id": VOCABULARY_SIZE - 2, "eos_token_id": VOCABULARY_SIZE - 1}
    config["text_config"] |= {"vocab_size": VOCABULARY_SIZE, **end, "pad_token_id": VOCABULARY_SIZE - 1}
    config["vision_config"]["hidden_act"] = config["text_config"]["hidden_act"] = "quick_gelu"  # as OpenAI's
    folder.mkdir()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_videoprism(folder: Path) -> Path:
    """A VideoPrism with a text encoder, of random numbers."""
    config = dataclasses.replace(TEXT_SIZES, width=CLIP_WIDTH)
    return write(folder / "videoprism.npz", tensors(config))


def write_pe_core(folder: Path) -> Path:
    """A PE-Core of random numbers, whose embeddings are as wide as those of the CLIP."""
    return pe_with_all_words(folder / "pe_core")


def write_recording(folder: Path, video: Path) -> Path:
    """A file of sound as long as a video, and of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    length_s = video_length_s(video)
    made = folder / f"{video.stem}.wav"
    return write_clicks(made, "pcm_s16le", picture=None, seconds=length_s, times_s=(0.3, 1.1))


def write_annotations(dataset: str, raw: Path, out: Path) -> list[Path]:
    """Files of a format about the videos that `unloc data synthesize` wrote to `raw`."""
    own = raw / "annotations"
    if dataset == "activitynet":
        return [own / "activities.json"]
    captions = {split: own / f"captions_{split}.json" for split in ("train", "val", "test")}
    if dataset == "activitynet_captions":
        return list(captions.values())
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for split, file in captions.items():
        videos = json.loads(file.read_text())
        moments = [
            (video, *span, text)
            for video, annotation in videos.items()
            for span, text in zip(annotation["timestamps"], annotation["sentences"])
        ]
        if dataset == "csv":
            lines = [f"{video},{start},{end},{text}\n" for video, start, end, text in moments]
            files.append(_write(out / f"{split}.csv", ["video,start,end,text\n", *lines]))
        elif dataset == "charades_sta" and split != "val":
            lines = [f"{video} {start} {end}##{text}\n" for video, start, end, text in moments]
            files.append(_write(out / f"charades_sta_{split}.txt", lines))
            lengths = [f"{video},{annotation['duration']}\n" for video, annotation in videos.items()]
            files.append(_write(out / f"Charades_v1_{split}.csv", ["id,length\n", *lengths]))
        elif dataset == "qvhighlights" and split != "test":
            rows = [
                _row(i, video, text, videos[video]["duration"], [[start, end]])
                for i, (video, start, end, text) in enumerate(moments)
            ]
            files.append(_write(out / f"highlight_{split}_release.jsonl", map(_line, rows)))
    assert files, f"tests/pages/inputs.py has no annotation files of the dataset {dataset!r}"
    return files


def write_scored(a: argparse.Namespace, raw: Path, shards: Path, out: Path) -> tuple[list[Path], Path]:
    """Ground truth in the format of its files' names, and predictions that are right.

    Args:
      a: of `unloc metrics` or `unloc diagnose`; files with the names of its files are written.
      raw: videos with their annotations.
      shards: built from their activities, for a ground truth that is a folder.
      out: folder to write to.
    """
    truth, found = ([out / f"truth_{file.name}" for file in a.ground_truth], out / a.predictions.name)
    if a.protocol == "segmentation":
        for folder, name, text in (
            (truth[0], "a.txt", "run\njump\n"),
            (found, "a", "### Frames: ###\nrun jump"),
        ):
            folder.mkdir()
            _write(folder / name, [text])
    elif getattr(a, "variant", None) == "devkit":
        truth[0].mkdir()
        _write(truth[0] / "LongJump_test.txt", ["a 0 10\n"])
        _write(found, ["a.mp4 0 10 51 0.9\n"])
    elif a.protocol in ("activitynet", "thumos14"):
        database = _write_actions(truth, raw, shards)
        results = {
            video: [segment | {"score": 0.9} for segment in facts["annotations"]]
            for video, facts in database.items()
        }
        _write(found, [json.dumps({"results": results})])
    else:
        query = {"qid": 1, "vid": "a", "query": "a dog jumps"}
        detected = {"pred_relevant_windows": [[0, 4, 0.9]], "pred_saliency_scores": [0.9, 0.8, 0.1, 0.1, 0.1]}
        official = _row(1, "a", "a dog jumps", 10.0, [[0, 4]])
        own = {"video": "a", "start": 0, "end": 4, "text": "a dog jumps", "duration": 10.0}
        if a.ground_truth == [a.predictions]:  # a file of `unloc evaluate` holds both
            truth, official = [found], official | detected
        else:
            _write(found, [_line(query | detected)])
        (kind,) = a.ground_truth
        of_kind = {
            ".txt": "a 0 4##a dog jumps\n",
            ".csv": "video,start,end,text,duration\na,0,4,a dog jumps,10\n",
            ".jsonl": _line(own if "my_" in kind.name else official),
        }
        _write(truth[0], [of_kind.get(kind.suffix, _line(official))])
    return truth, found


def _write_actions(truth: list[Path], raw: Path, shards: Path) -> dict[str, Any]:
    """Writes a ground truth of actions; returns its videos as ActivityNet's `database` has them."""
    if truth[0].name.endswith("shards"):
        truth[:] = [shards]
        return json.loads((raw / "annotations" / "activities.json").read_text())["database"]
    segment = {"segment": [0.0, 10.0], "label": "run"}
    subsets = ("validation", "test", "testing")
    database = {name: {"subset": name, "duration": 30.0, "annotations": [segment]} for name in subsets}
    # BMN's and mmaction2's.
    flat = {
        f"v_{name}": {"duration_second": 30.0, "annotations": facts["annotations"]}
        for name, facts in database.items()
    }
    if truth[0].suffix == ".csv":
        _write(truth[0], ["video,start,end,label,split\n", *(f"{name},0,10,run,test\n" for name in subsets)])
    else:
        is_flat = "anet_anno" in truth[0].name
        _write(truth[0], [json.dumps(flat if is_flat else {"database": database})])
    for table in truth[1:]:
        _write(table, ["video,numFrame,subset\n", *(f"v_{name},9,{name}\n" for name in subsets)])
    return database


def _row(qid: int, video: str, text: str, duration_s: float, windows: list[list[float]]) -> dict[str, Any]:
    """A line of QVHighlights."""
    clips = list(range(int(windows[0][0] // 2), int(windows[0][1] // 2)))
    return {
        "qid": qid, "query": text, "vid": video, "duration": duration_s, "relevant_windows": windows,
        "relevant_clip_ids": clips, "saliency_scores": [[4, 4, 4]] * len(clips),
    }  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _write(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(lines))
    return path
