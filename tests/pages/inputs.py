"""Tiny inputs for the commands of pages: annotation files and predictions in every format that they name, a CLIP."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.pretrained.clip_originals import GOLDENS
from unloc_jax.text import VOCABULARY_SIZE

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


def write_predictions(protocol: str, variant: str | None, out: Path) -> tuple[Path, Path]:
    """A ground truth, and predictions that are right."""
    out.mkdir(parents=True, exist_ok=True)
    truth, found = out / "truth", out / "found"
    if variant == "devkit":
        truth.mkdir(exist_ok=True)
        _write(truth / "LongJump_test.txt", ["a 0 10\n"])
        return truth, _write(out / "found.txt", ["a.mp4 0 10 51 0.9\n"])
    if protocol == "segmentation":
        for folder, suffix, title in ((truth, ".txt", ""), (found, "", "### Frames: ###\n")):
            folder.mkdir(exist_ok=True)
            _write(folder / f"a{suffix}", [title, "run\njump\n" if suffix else "run jump"])
        return truth, found
    if protocol in ("activitynet", "thumos14"):
        segment = {"segment": [0.0, 10.0], "label": "run"}
        subsets = ("validation", "test", "testing")
        videos = {name: {"subset": name, "duration": 30.0, "annotations": [segment]} for name in subsets}
        results = {name: [segment | {"score": 0.9}] for name in subsets}
        return (
            _write(out / "truth.json", [json.dumps({"database": videos})]),
            _write(out / "found.json", [json.dumps({"results": results})]),
        )
    row = _row(1, "a", "a dog jumps", 10.0, [[0, 4]])
    found_row = {"qid": 1, "vid": "a", "query": "a dog jumps", "pred_relevant_windows": [[0, 4, 0.9]]}
    return (
        _write(out / "truth.jsonl", [_line(row)]),
        _write(out / "found.jsonl", [_line(found_row | {"pred_saliency_scores": [0.9, 0.8, 0.1, 0.1, 0.1]})]),
    )


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
