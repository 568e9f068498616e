"""Parsers from annotation files as published to VideoRecords: one small module per dataset, without TensorFlow."""

import difflib
from collections.abc import Callable
from pathlib import Path

from data_pipelines.annotations.activitynet import parse_activitynet
from data_pipelines.annotations.activitynet_captions import parse_activitynet_captions
from data_pipelines.annotations.assembly101 import parse_assembly101
from data_pipelines.annotations.charades_sta import parse_charades_sta
from data_pipelines.annotations.coin import parse_coin
from data_pipelines.annotations.crosstask import parse_crosstask
from data_pipelines.annotations.cvat import parse_cvat
from data_pipelines.annotations.didemo import parse_didemo
from data_pipelines.annotations.ego4d import parse_ego4d_mq, parse_ego4d_nlq
from data_pipelines.annotations.elan import parse_elan
from data_pipelines.annotations.epic_kitchens import (
    parse_epic_kitchens,
    parse_epic_kitchens_nouns,
    parse_epic_kitchens_verbs,
)
from data_pipelines.annotations.epic_sounds import parse_epic_sounds
from data_pipelines.annotations.fiftyone import parse_fiftyone
from data_pipelines.annotations.kinetics import parse_kinetics
from data_pipelines.annotations.label_studio import parse_label_studio
from data_pipelines.annotations.mad import parse_mad
from data_pipelines.annotations.ms_tcn import parse_ms_tcn
from data_pipelines.annotations.nextgqa import parse_nextgqa
from data_pipelines.annotations.own_csv import parse_csv
from data_pipelines.annotations.own_jsonl import parse_jsonl
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.qvhighlights import parse_qvhighlights
from data_pipelines.annotations.subtitles import parse_subtitles
from data_pipelines.annotations.tacos import parse_tacos
from data_pipelines.annotations.textgrid import parse_textgrid
from data_pipelines.annotations.thumos14 import parse_thumos14
from data_pipelines.annotations.timelens import parse_timelens
from data_pipelines.annotations.tvr import parse_tvr
from data_pipelines.annotations.tvsum import parse_tvsum
from data_pipelines.annotations.via import parse_via
from data_pipelines.annotations.youcook2 import parse_youcook2
from data_pipelines.annotations.youtube_highlights import parse_youtube_highlights
from unloc_jax.errors import UserError

PARSERS: dict[str, Callable[[list[Path]], ParsedAnnotations]] = {
    "activitynet": parse_activitynet,
    "activitynet_captions": parse_activitynet_captions,
    "assembly101": parse_assembly101,
    "charades_sta": parse_charades_sta,
    "coin": parse_coin,
    "crosstask": parse_crosstask,
    "csv": parse_csv,
    "cvat": parse_cvat,
    "didemo": parse_didemo,
    "ego4d_mq": parse_ego4d_mq,
    "ego4d_nlq": parse_ego4d_nlq,
    "elan": parse_elan,
    "epic_kitchens": parse_epic_kitchens,
    "epic_kitchens_nouns": parse_epic_kitchens_nouns,
    "epic_kitchens_verbs": parse_epic_kitchens_verbs,
    "epic_sounds": parse_epic_sounds,
    "fiftyone": parse_fiftyone,
    "jsonl": parse_jsonl,
    "kinetics": parse_kinetics,
    "label_studio": parse_label_studio,
    "mad": parse_mad,
    "ms_tcn": parse_ms_tcn,
    "nextgqa": parse_nextgqa,
    "qvhighlights": parse_qvhighlights,
    "subtitles": parse_subtitles,
    "tacos": parse_tacos,
    "textgrid": parse_textgrid,
    "thumos14": parse_thumos14,
    "timelens": parse_timelens,
    "tvr": parse_tvr,
    "tvsum": parse_tvsum,
    "via": parse_via,
    "youcook2": parse_youcook2,
    "youtube_highlights": parse_youtube_highlights,
}


def parse(dataset: str, files: list[Path]) -> ParsedAnnotations:
    """Reads the annotation files of a dataset.

    Args:
      dataset: a name in `PARSERS`.
      files: the files of all wanted splits.

    Raises:
      UserError: the name is unknown, or a file is missing or not in the dataset's format.
    """
    if dataset not in PARSERS:
        nearest = difflib.get_close_matches(str(dataset), PARSERS, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        raise UserError(f"Unknown dataset {dataset!r}.{hint} Known datasets: {', '.join(sorted(PARSERS))}.")
    if not files:
        raise UserError(f"No annotation file was given for {dataset}.")
    return PARSERS[dataset]([Path(file) for file in files])
