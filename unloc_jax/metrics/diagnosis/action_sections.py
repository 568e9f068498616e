"""The diagnosis of action detections, section by section."""

import numpy as np

from unloc_jax.metrics.detection import detection_map, recall_at_multiples
from unloc_jax.metrics.diagnosis.action_timelines import action_videos_section
from unloc_jax.metrics.diagnosis.bin_readings import bin_readings
from unloc_jax.metrics.diagnosis.bins import Bins
from unloc_jax.metrics.diagnosis.calibration_section import calibration_section
from unloc_jax.metrics.diagnosis.comparison import LEAST_ITEMS, LEAST_VIDEOS
from unloc_jax.metrics.diagnosis.confusion import confused_pairs
from unloc_jax.metrics.diagnosis.errors import LEAST_TIOU, TYPES, Errors, find_errors
from unloc_jax.metrics.diagnosis.inputs import Actions
from unloc_jax.metrics.diagnosis.level_section import Produced, Segments, level_section
from unloc_jax.metrics.diagnosis.levels import Pyramid
from unloc_jax.metrics.diagnosis.matches import MULTIPLES, Matches, match_best
from unloc_jax.metrics.diagnosis.section import Bars, Diagnosis, Lines, Section, StackedBars, Table
from unloc_jax.metrics.diagnosis.sensitivity import BinScore, action_bins, scores_by_bin

CURVE_TIOU = np.round(np.arange(0.1, 0.96, 0.05), 2)
_BEST_MULTIPLES = (1, 5)
_MUCH_LOWER = 3.0  # points of mAP_N


def diagnose_actions(
    actions: Actions, protocol: str, tiou: float = 0.5, pyramid: Pyramid | None = None
) -> Diagnosis:
    """All sections for detections.

    Args:
      protocol: whose bins, see `bins`.
      tiou: threshold of a hit.
      pyramid: of the model, to see whether its levels fit the ground truth.
    """
    matches = match_best(actions.truth, actions.found, len(actions.classes), tiou)
    errors = find_errors(matches)
    map_n = 100 * float(np.nanmean(errors.ap_n))
    facts = {
        "videos": len(actions.videos),
        "classes": int(np.count_nonzero(matches.num_truth)),
        "ground-truth segments": len(actions.truth.class_index),
        "predictions": len(actions.found.score),
        f"diagnosed: best {MULTIPLES}·G of each class": len(matches.row),
        f"mAP at tIoU {tiou:g}": float(
            detection_map(actions.truth, actions.found, [tiou], empty_pairs_hit=False)["average_mAP"]
        ),
        f"mAP_N at tIoU {tiou:g}": map_n,
    }
    sections = [
        error_section(matches, errors),
        missed_section(matches, errors),
        *(sensitivity_section(matches, bins, map_n) for bins in action_bins(actions, protocol)),
        _levels(actions, matches, errors, pyramid),
        confusion_section(actions, matches, errors),
        curve_section(actions),
        calibration_section(
            matches.found.score, matches.hit, f"the {MULTIPLES}·G best predictions of every class", tiou
        ),
        action_videos_section(actions, matches, errors),
    ]
    return Diagnosis(
        "Diagnosis of detections", facts, [section for section in sections if section is not None]
    )


def _levels(actions: Actions, matches: Matches, errors: Errors, pyramid: Pyramid | None) -> Section | None:
    video = matches.truth.video_index
    produced = None
    if actions.level is not None:
        produced = Produced(actions.level[matches.row], errors.type, TYPES, matches.segment)
    segments = Segments(matches.truth.segments_s, actions.duration_s[video], video, matches.is_found)
    return level_section(segments, produced, pyramid)


def error_section(matches: Matches, errors: Errors) -> Section:
    """False positives by type and what each costs."""
    profile = errors.profile(matches.rank, matches.num_truth[matches.found.class_index])
    rows = [
        [f"{k}–{k + 1} G" if k else "best G", int(counts.sum()), *(100 * counts / counts.sum()).tolist()]
        for k, counts in enumerate(profile)
        if counts.sum()
    ]
    total = profile.sum(axis=0)
    rows.append(["all", int(total.sum()), *(100 * total / total.sum()).tolist()])
    base = 100 * float(np.nanmean(errors.ap_n))
    costs = [
        [name, int(total[i]), base + 100 * float(errors.gain[i]), 100 * float(errors.gain[i])]
        for i, name in enumerate(TYPES)
        if i
    ]
    readings = []
    order = np.argsort(-errors.gain)
    worst, second = order[0], order[1]
    if total[worst] >= LEAST_ITEMS and 100 * errors.gain[worst] >= 0.1:
        readings.append(
            f"{TYPES[worst].capitalize()} costs the most: without its {total[worst]} false positives mAP_N would be"
            f" {base + 100 * errors.gain[worst]:.1f} instead of {base:.1f}; next is {TYPES[second]} with"
            f" {100 * errors.gain[second]:.1f} points."
        )
    best = profile[0]
    if best.sum() >= 5 * LEAST_ITEMS:
        wrong = 1 + int(np.argmax(best[1:]))
        readings.append(
            f"Of the best G predictions {100 * best[0] / best.sum():.0f} % hit; their most frequent error is"
            f" {TYPES[wrong]} ({100 * best[wrong] / best.sum():.0f} %)."
        )
    labels = [str(row[0]) for row in rows]
    shares = (profile[profile.sum(axis=1) > 0].T / profile.sum(axis=1)[profile.sum(axis=1) > 0]).T
    return Section(
        "errors",
        "False positives by type, and what they cost",
        f"Predictions of each class by rank in slices of G, its number of segments. A false positive is judged by the"
        f" segment, of any class, that it overlaps most: tIoU ≥ {matches.tiou:g}: double detection if the class is its"
        f" own, else wrong class; ≥ {LEAST_TIOU:g}: localisation, or confusion; less: background. The gain is what"
        f" mAP_N gains when the type's false positives are removed (DETAD, Alwassel et al. 2018).",
        [
            Table(("rank", "predictions", *(f"{name} %" for name in TYPES)), rows),
            Table(("without", "false positives", "mAP_N", "gain"), costs),
        ],
        [
            StackedBars("Predictions by rank", labels[:-1], TYPES, (100 * shares).tolist()),
            Bars(
                "mAP_N gained without",
                TYPES[1:],
                [100 * float(x) for x in errors.gain[1:]],
                [int(x) for x in total[1:]],
            ),
        ],
        readings,
    )


def missed_section(matches: Matches, errors: Errors) -> Section:
    """Why segments are not found."""
    missed = ~matches.is_found
    own, any_ = errors.segment_own_tiou, errors.segment_any_tiou
    reasons = {
        "taken by another segment": own >= matches.tiou,
        "own class, boundaries off": (own >= LEAST_TIOU) & (own < matches.tiou),
        "other classes only": (own < LEAST_TIOU) & (any_ >= LEAST_TIOU),
        "nothing there": any_ < LEAST_TIOU,
    }
    counts = {name: int((missed & mask).sum()) for name, mask in reasons.items()}
    total = int(missed.sum())
    rows = [[name, n, 100 * n / max(total, 1)] for name, n in counts.items()]
    readings = []
    if total >= LEAST_ITEMS:
        most = max(counts, key=lambda name: counts[name])
        readings.append(
            f"{total} of {len(missed)} segments are missed ({100 * total / len(missed):.1f} %); the most frequent"
            f" reason: {most} ({100 * counts[most] / total:.0f} % of the missed)."
        )
    return Section(
        "missed",
        "Missed segments by reason",
        f"What overlaps a missed segment best. Taken: a prediction of its class fits (tIoU ≥ {matches.tiou:g}) but hits"
        f" another segment; boundaries off: the best of its class has {LEAST_TIOU:g} to {matches.tiou:g}; then"
        f" predictions of other classes with at least {LEAST_TIOU:g}, or nothing.",
        [Table(("reason", "segments", "% of the missed"), rows)],
        (),
        readings,
    )


def sensitivity_section(matches: Matches, bins: Bins, map_n: float) -> Section:
    """mAP_N and the found share by one characteristic; map_n: of all segments, in percent."""
    name = bins.short_name
    section = f"by-{name.replace(' ', '-')}"
    title = f"By {bins.name}"
    unknown = int((bins.index < 0).sum())
    if unknown == len(bins.index):
        return Section(section, title, "The ground truth does not say how long its videos are.", [])
    scores = scores_by_bin(matches, bins)
    note = (
        "mAP_N of each bin's segments alone (hits of other bins left out, false positives kept) and the share that is"
        f" found at tIoU ≥ {matches.tiou:g}."
    )
    if unknown:
        note += f" {unknown} segments are in videos of unknown duration."
    readings = bin_readings(
        bins,
        matches.is_found,
        matches.truth.video_index,
        "segments",
        "are found",
        [f"mAP_N {score.map_n:.1f}" for score in scores],
    )
    readings += _lowest_map_n(matches, bins, scores, map_n)
    figure = Bars(
        f"Found by {name}, % (line: all)",
        [score.label for score in scores],
        [score.found for score in scores],
        [score.segments for score in scores],
        100 * float(matches.is_found.mean()),
    )
    return Section(
        section,
        title,
        note,
        [Table((name, "segments", "mAP_N", "found %"), [list(score) for score in scores])],
        [figure] if len(scores) > 1 else [],
        readings,
    )


def _lowest_map_n(matches: Matches, bins: Bins, scores: list[BinScore], of_all: float) -> list[str]:
    """Of the bins that are large enough, the one with the lowest mAP_N, if it is much below that of all."""
    video = matches.truth.video_index
    large = [
        score
        for score, (_, inside) in zip(scores, bins.members())
        if score.segments >= 2 * LEAST_ITEMS and len(np.unique(video[inside])) >= LEAST_VIDEOS
    ]
    lowest = min(large, key=lambda score: score.map_n, default=None)
    if lowest is None or len(scores) < 2 or lowest.map_n > of_all - _MUCH_LOWER:
        return []
    return [
        f"mAP_N is lowest for {lowest.label} ({lowest.segments} segments): {lowest.map_n:.1f}, of all {of_all:.1f}."
    ]


def confusion_section(actions: Actions, matches: Matches, errors: Errors) -> Section:
    """Class pairs."""
    pairs = confused_pairs(matches, errors)
    rows = [
        [actions.classes[p.predicted], actions.classes[p.true], p.wrong_class, p.confusion, p.share]
        for p in pairs
    ]
    readings = []
    if pairs and pairs[0].wrong_class >= LEAST_ITEMS:
        p = pairs[0]
        readings.append(
            f"{actions.classes[p.predicted]} is predicted on {actions.classes[p.true]} most often: {p.wrong_class}"
            f" times with tIoU ≥ {matches.tiou:g}, and with {p.confusion} looser ones this is {p.share:.0f} % of the"
            f" false positives of {actions.classes[p.predicted]}."
        )
    return Section(
        "confusion",
        "Classes taken for one another",
        f"False positives that overlap a segment of another class most: with tIoU ≥ {matches.tiou:g}, or at least"
        f" {LEAST_TIOU:g}; share: both, of all false positives of the predicted class. Those that fit a segment of"
        f" their own class as well are left out.",
        [
            Table(
                (
                    "predicted",
                    "on",
                    f"tIoU ≥ {matches.tiou:g}",
                    "looser",
                    "% of its false positives",
                ),
                rows,
            )
        ],
        (),
        readings,
    )


def curve_section(actions: Actions) -> Section:
    """mAP and recall over tIoU."""
    result = detection_map(actions.truth, actions.found, CURVE_TIOU, empty_pairs_hit=False)
    recall = recall_at_multiples(actions.truth, actions.found, CURVE_TIOU, _BEST_MULTIPLES)
    curves = {"mAP": [result[f"mAP@{t:.2f}"] for t in CURVE_TIOU]}
    for k in _BEST_MULTIPLES:
        curves[f"recall, best {k if k > 1 else ''}n"] = [recall[f"recall@{t:.2f}@{k}"] for t in CURVE_TIOU]
    at = lambda t: curves["mAP"][int(np.flatnonzero(t == CURVE_TIOU)[0])]
    readings = []
    if len(actions.truth.class_index) >= 5 * LEAST_ITEMS and at(0.3) > 0:
        kept = 100 * at(0.7) / at(0.3)
        readings.append(
            f"From tIoU 0.3 to 0.7 mAP goes from {at(0.3):.1f} to {at(0.7):.1f}: {kept:.0f} % of it remain"
            f"{', boundaries are what most detections lack' if kept < 50 else ''}."
        )
    return Section(
        "curves",
        "mAP and recall over tIoU",
        "mAP of all predictions; recall of the n and 5n best predictions of a video and class with n segments, mean"
        " over classes (OpenTAD's top-kx).",
        [
            Table(
                ("tIoU", *curves),
                [
                    [f"{t:.2f}", *values]
                    for t, *values in zip(CURVE_TIOU, *curves.values())
                    if round(100 * t) % 10 == 0
                ],
            )
        ],
        [
            Lines(
                "mAP and recall over tIoU",
                "tIoU",
                "%",
                {name: (CURVE_TIOU.tolist(), values) for name, values in curves.items()},
                (float(CURVE_TIOU[0]), float(CURVE_TIOU[-1])),
            )
        ],
        readings,
    )
