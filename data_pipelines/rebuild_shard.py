"""`unloc data rebuild-shard`: rebuilds a damaged or lost shard from the inputs of its dataset."""

import os
from pathlib import Path
from typing import Any

from data_pipelines.annotations import parse
from data_pipelines.annotations.json_file import sha256
from data_pipelines.builders.encoded_videos import EncodedVideos
from data_pipelines.builders.examples import example_to_store
from data_pipelines.builders.frames import EncodedVideo, UnusableVideo
from data_pipelines.builders.pool import encode_videos
from data_pipelines.builders.shard_list import ListedRecord, ListedShard, read_shard_list, write_shard_list
from data_pipelines.builders.source import BuildSource
from data_pipelines.builders.storage import only_build_in, remove_tree, reporting_full_disk
from data_pipelines.quiet_tensorflow import import_tfds
from data_pipelines.reading.built import read_build_info
from data_pipelines.reading.tfrecord import FOOTER_BYTES, HEADER_BYTES, masked_crc, tfrecord
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord
from unloc_jax.whole_writes import replacing

# Frames encoded for the shard; a stopped run leaves them to the next one.
_ENCODED_DIR = "encoded_videos_of_a_shard"


def rebuild_shard(file: str | Path, workers: int | None = None) -> int:
    """Repairs one shard of a dataset: intact records stay, the others are built again from their videos.

    With the same annotation files, videos, features and library versions, the shard is restored to the last bit; a
    message tells whether it was. The file is replaced atomically at the end.

    Args:
      file: the shard, whether it exists or not, in the folder where it was built.
      workers: decoding processes; None: one per CPU. Processes are spawned: a script must call this below
        `if __name__ == "__main__":`.

    Returns:
      Number of records that were built again.

    Raises:
      UserError: not a shard of a build, or its inputs have changed or disappeared; nothing is written then.
    """
    file = Path(file).absolute()
    info = read_build_info(file.parent)
    out = file.parent.resolve().parents[2]
    with only_build_in(out), reporting_full_disk(out):
        shards = read_shard_list(out)
        shard = next((shard for shard in shards if shard.file == file.name), None)
        if shard is None:
            raise UserError(f"{file}: no shard of this dataset; its first one is {shards[0].file}.")
        data = _whole_records(file, shard)
        damaged = [record.video_id for record in shard.records if record.video_id not in data]
        if damaged:
            data |= _make_records(file, damaged, shard.split, info, out, workers or os.cpu_count() or 1)
        with replacing(file) as rebuilt:
            rebuilt.writelines(tfrecord(data[record.video_id]) for record in shard.records)
        remove_tree(out / _ENCODED_DIR)
        made = [ListedRecord(i, len(data[i]), masked_crc(data[i])) for i in damaged]
        different = [record.video_id for record in made if record not in shard.records]
        if different:
            new = {record.video_id: record for record in made}
            shard.records[:] = [new.get(record.video_id, record) for record in shard.records]
            write_shard_list(out, shards)
    show(f"{file}: {len(damaged)} of {len(shard.records)} records were made again", end=", ")
    if different:
        show(
            f"{len(different)} of them differ from before (other video files, or other versions of FFmpeg, "
            f"libjpeg or unloc_jax): {', '.join(different[:3])}{', …' if len(different) > 3 else ''}"
        )
    else:
        show("and the shard is what it was to the last bit")
    return len(damaged)


def _whole_records(file: Path, shard: ListedShard) -> dict[str, bytes]:
    """Returns the data of the intact records by video id."""
    whole: dict[str, bytes] = {}
    if not file.is_file():
        return whole
    with file.open("rb") as opened:
        position = 0
        for record in shard.records:
            opened.seek(position + HEADER_BYTES)
            data = opened.read(record.length)
            if len(data) == record.length and masked_crc(data) == record.masked_crc:
                whole[record.video_id] = data
            position += HEADER_BYTES + record.length + FOOTER_BYTES
    return whole


def _make_records(
    file: Path, video_ids: list[str], split: str, info: dict[str, Any], out: Path, workers: int
) -> dict[str, bytes]:
    """Returns the serialized examples by video id, as the build made them."""
    tfds = import_tfds()  # reports a missing installation before anything is decoded
    source = BuildSource.from_arguments(info["arguments"], info["features"])
    records = _parse_again(file, video_ids, split, info)
    refused = [video_id for video_id in video_ids if video_id not in records]
    if refused:
        raise UserError(
            f"{file}: cannot be made again alone: {refused[0]!r} was built by an earlier version of unloc_jax, which "
            "took such an id. Build the dataset again."
        )
    videos: dict[str, EncodedVideo | UnusableVideo | None] = dict.fromkeys(video_ids)
    examples: dict[str, dict[str, Any]] = {}
    encoded = EncodedVideos(out / _ENCODED_DIR)
    if source.videos is not None:
        encoded.folder.mkdir(exist_ok=True)
        for task, unusable in encode_videos(map(source.task, video_ids), encoded, workers):
            lost = UnusableVideo("cannot be read", f"{task.path}: its encoded frames are damaged.")
            videos[task.video_id] = unusable or encoded.load(task) or lost
    for video_id in video_ids:
        features = source.read_features(video_id)
        example, findings = example_to_store(records[video_id], videos[video_id], features, source)
        if example is None:
            assert findings.unusable is not None
            raise UserError(
                f"{file}: cannot be made again, because this video cannot be used any more: "
                f"{findings.unusable.reason} Nothing was changed."
            )
        examples[video_id] = example
    from data_pipelines.builders.shard_builder import serialize

    specs = tfds.builder_from_directory(file.parent).info.features
    return {
        # Datasets of earlier versions have fewer fields.
        video_id: serialize(specs, {name: value for name, value in example.items() if name in specs})
        for video_id, example in examples.items()
    }


def _parse_again(
    file: Path, video_ids: list[str], split: str, info: dict[str, Any]
) -> dict[str, VideoRecord]:
    """Returns the annotations by video id.

    Raises:
      UserError: the annotation files are gone or have changed.
    """
    paths = [Path(path) for path in info.get("annotation_files", [])]
    if not paths:
        raise UserError(
            f"{file}: cannot be made again alone: this dataset was built by an earlier version of unloc_jax."
        )
    for path, (_, digest) in zip(paths, info["arguments"]["annotations"], strict=True):
        if not path.is_file() or sha256(path) != digest:
            raise UserError(
                f"{path}: {'has changed' if path.is_file() else 'is gone'} since {file} was built from it. "
                "Put the former file there (a link will do)."
            )
    parsed = parse(info["dataset"], paths)
    return {
        record.video_id: record
        for record in parsed.records
        if record.split == split and record.video_id in set(video_ids)
    }
