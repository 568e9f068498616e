"""Lists the videos of each shard in order: small, and sufficient to rebuild a single damaged shard.

`shards.jsonl` in the folder of a build has a line per shard: {"file": its name, "split": …, "records":
[[video id, length of the record's data in bytes, its masked CRC-32C], …]}.
"""

import dataclasses
import json
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_pipelines.builders.storage import write_atomically
from data_pipelines.reading.record_index import RecordIndex, iterate_records
from data_pipelines.reading.tfrecord import FOOTER_BYTES
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json

SHARDS_FILE = "shards.jsonl"


@dataclasses.dataclass(frozen=True)
class ListedRecord:
    """One record of a shard: its video, and the length and checksum that identify its data."""

    video_id: str
    length: int
    masked_crc: int


@dataclasses.dataclass(frozen=True)
class ListedShard:
    """One shard: its file name, its split and its records in order."""

    file: str
    split: str
    records: list[ListedRecord]


def list_shards(directory: Path, splits: list[str]) -> list[ListedShard]:
    """Lists the shards of a dataset that was just written; reads only some hundred bytes of every record.

    Raises:
      UserError: a shard is damaged.
    """
    shards: list[ListedShard] = []
    for split in splits:
        index = RecordIndex.from_dir(directory, split)
        ids = [record.video_id for record in iterate_records(directory, split, with_frames=False)]
        for number, file in enumerate(index.files):
            with file.open("rb") as opened:
                records = [
                    ListedRecord(ids[i], *_length_and_crc(opened, index, i))
                    for i in np.flatnonzero(index.shards == number).tolist()
                ]
            shards.append(ListedShard(file.name, split, records))
    return shards


def _length_and_crc(shard: BinaryIO, index: RecordIndex, i: int) -> tuple[int, int]:
    length = int(index.lengths[i])
    shard.seek(int(index.offsets[i]) + length)
    (masked_crc,) = struct.unpack("<I", shard.read(FOOTER_BYTES))
    return length, masked_crc


def write_shard_list(out: Path, shards: list[ListedShard]) -> None:
    """Writes `shards.jsonl` to the folder of a build."""
    lines = []
    for shard in shards:
        records = [dataclasses.astuple(record) for record in shard.records]
        line = {"file": shard.file, "split": shard.split, "records": records}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_atomically(out / SHARDS_FILE, "".join(lines))


def read_shard_list(out: Path) -> list[ListedShard]:
    """Reads the `shards.jsonl` of a build.

    Raises:
      UserError: the file is missing or damaged.
    """
    file = out / SHARDS_FILE
    try:
        lines = [parse_json(line) for line in file.read_text("utf-8").splitlines()]
        return [
            ListedShard(line["file"], line["split"], [ListedRecord(*record) for record in line["records"]])
            for line in lines
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: missing or damaged; without it a single shard cannot be rebuilt. Delete {out} and build again."
        ) from error
