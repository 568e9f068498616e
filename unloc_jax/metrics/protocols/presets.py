"""Protocols by dataset: what papers on a dataset report, as a protocol and its options. A new dataset is one line.

Names are formats of `unloc data build` where there is one, so that `--dataset NAME` alone chooses the protocol.
"""

import difflib
from typing import Any, NamedTuple

from unloc_jax.errors import UserError
from unloc_jax.metrics.protocols import PROTOCOLS


class Preset(NamedTuple):
    """A protocol of `PROTOCOLS` and options of its function."""

    protocol: str
    options: dict[str, Any]


def _of(protocol: str, **options: Any) -> Preset:
    return Preset(protocol, options)


_EPIC_TIOU, _DENSE_TIOU = "0.1:0.1:0.5", "0.1:0.1:0.9"

PRESETS: dict[str, Preset] = {
    "activitynet_captions": _of("moment-retrieval"),
    "assembly101": _of("segmentation", background="none"),
    "breakfast": _of("segmentation", background="none"),  # SIL is a class of MS-TCN's eval.py
    "charades": _of("activitynet", variant="opentad", subset="testing", tiou=_DENSE_TIOU),
    "charades_frames": _of("per-frame", subset="testing"),
    "charades_sta": _of("moment-retrieval"),
    "coin": _of("segmentation"),
    "crosstask": _of("activitynet"),
    "didemo": _of("moment-retrieval"),
    "ego4d_mq": _of("activitynet", variant="ego4d", tiou=_EPIC_TIOU),
    "ego4d_nlq": _of("moment-retrieval", variant="2d-tan", tiou="0.3,0.5", top="1,5"),
    "epic_kitchens": _of("activitynet", tiou=_EPIC_TIOU),
    "epic_kitchens_nouns": _of("activitynet", tiou=_EPIC_TIOU),
    "epic_kitchens_verbs": _of("activitynet", tiou=_EPIC_TIOU),
    "epic_sounds": _of("activitynet", tiou=_EPIC_TIOU),
    "fineaction": _of("activitynet", variant="opentad"),
    "50salads": _of("segmentation", background="none"),  # action_start and action_end are classes there
    "gtea": _of("segmentation", background="background"),
    "hacs": _of("activitynet", variant="opentad"),
    "kinetics": _of("classification"),
    "mad": _of("moment-retrieval", variant="moment-detr", tiou="0.1,0.3,0.5", top="1,5,10,50,100"),
    "ms_tcn": _of("segmentation"),
    "multithumos": _of("activitynet", variant="opentad", tiou=_DENSE_TIOU),
    "multithumos_frames": _of("per-frame"),
    "soccer_gmr": _of("gmr"),
    "tacos": _of("moment-retrieval", tiou="0.1,0.3,0.5", top="1,5"),
    "timelens": _of("moment-retrieval", variant="moment-detr", tiou="0.3,0.5,0.7", top="1"),
    "tvr": _of("moment-retrieval", tiou="0.5,0.7", top="1,5,10"),
    "youcook2": _of("moment-retrieval"),
    "youtube_highlights": _of("youtube-highlights"),
}


def chosen(protocol: str | None, dataset: str | None = None) -> str:
    """Returns the name of the protocol or preset to use: `protocol`, or without it the dataset's.

    Raises:
      UserError: neither is given, or the name is unknown.
    """
    name = protocol or dataset
    if name is None:
        raise UserError(
            "--protocol=NAME is needed, or --dataset=NAME of a dataset that has one (docs/metrics.md)"
        )
    if name in PROTOCOLS or name in PRESETS:
        return name
    if protocol is None:
        raise UserError(f"--dataset={dataset} has no protocol of its own: give --protocol=NAME")
    nearest = difflib.get_close_matches(name, [*PROTOCOLS, *PRESETS], n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise UserError(
        f"--protocol={name}: {hint}the protocols are {', '.join(PROTOCOLS)}; those of datasets: {', '.join(PRESETS)}"
    )


def preset_of(name: str) -> Preset:
    """Returns the protocol of a name, and the options that its dataset asks for.

    Raises:
      UserError: the name is unknown.
    """
    name = chosen(name)
    return _of(name) if name in PROTOCOLS else PRESETS[name]
