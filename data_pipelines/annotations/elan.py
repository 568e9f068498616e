"""Parser of ELAN's .eaf files (XML): annotations of all tiers, as class names.

TIME_SLOTs have milliseconds; an ALIGNABLE_ANNOTATION refers to two of them, a REF_ANNOTATION to another annotation,
whose times it shares. The video is the first MEDIA_DESCRIPTOR's, else it is named as the file.
"""

from pathlib import Path
from urllib.parse import unquote

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.own_rows import Row, parse_rows
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.segments import as_number
from data_pipelines.annotations.tool_rows import read_xml, row, split_of_export
from unloc_jax.errors import UserError

_LAYOUT = "an ELAN file is XML with ANNOTATION_DOCUMENT, TIME_ORDER and TIER"
# (start, end) in seconds, None if a time slot is not aligned
_Times = tuple[float | None, float | None]


def parse_elan(files: list[Path]) -> ParsedAnnotations:
    """Reads annotations as class names; those with an empty value are left out.

    Raises:
      UserError: a file is missing or not ELAN's, or neither its folder nor its name tells the split.
    """
    collector = VideoCollector()
    return parse_rows(collector, [(path, _rows(path, collector)) for path in files], _LAYOUT)


def _rows(path: Path, collector: VideoCollector) -> list[Row]:
    document = read_xml(path, "ANNOTATION_DOCUMENT", _LAYOUT)
    split = split_of_export(path)
    media = document.find(".//MEDIA_DESCRIPTOR")
    address = "" if media is None else media.get("RELATIVE_MEDIA_URL") or media.get("MEDIA_URL") or ""
    video = unquote(address.replace("\\", "/").rpartition("/")[2]) or path.stem
    slots = {
        slot.get("TIME_SLOT_ID"): as_number(slot.get("TIME_VALUE")) for slot in document.iter("TIME_SLOT")
    }
    times: dict[str | None, _Times] = {}
    for annotation in document.iter("ALIGNABLE_ANNOTATION"):
        start, end = (slots.get(annotation.get(f"TIME_SLOT_REF{which}")) for which in (1, 2))
        times[annotation.get("ANNOTATION_ID")] = (
            None if start is None else start / 1000,
            None if end is None else end / 1000,
        )
    parents = {of.get("ANNOTATION_ID"): of.get("ANNOTATION_REF") for of in document.iter("REF_ANNOTATION")}
    rows = []
    for tier in document.iter("TIER"):
        for annotation in (*tier.iter("ALIGNABLE_ANNOTATION"), *tier.iter("REF_ANNOTATION")):
            name = annotation.get("ANNOTATION_ID")
            where = f"{path.name}: tier {tier.get('TIER_ID')}, {name}"
            value = annotation.findtext("ANNOTATION_VALUE") or ""
            if not value.strip():
                collector.problems.add("empty annotation", where, "left out")
                continue
            for _ in range(len(parents)):  # at most as many steps as there are references
                if name in times or name not in parents:
                    break
                name = parents[name]
            start_s, end_s = times.get(name, (None, None))
            rows.append(row(where, video, (start_s, end_s), split, label=value))
    if not rows:
        raise UserError(f"{path}: there are no annotations in this file. {_LAYOUT}.")
    return rows
