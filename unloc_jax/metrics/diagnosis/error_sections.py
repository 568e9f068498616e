"""Sections on the types of false positives and of missed segments."""

import numpy as np

from unloc_jax.metrics.diagnosis.comparison import LEAST_ITEMS
from unloc_jax.metrics.diagnosis.confusion import confused_pairs
from unloc_jax.metrics.diagnosis.errors import LEAST_TIOU, TYPES, Errors
from unloc_jax.metrics.diagnosis.matches import Matches
from unloc_jax.metrics.diagnosis.section import Bars, Section, StackedBars, Table


def error_section(matches: Matches, errors: Errors) -> Section:
    """Shows false positives by type, and the cost of each type."""
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
    """Shows why segments are not found."""
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


def confusion_section(classes: list[str], matches: Matches, errors: Errors) -> Section:
    """Shows class pairs; classes: their names."""
    pairs = confused_pairs(matches, errors)
    rows = [[classes[p.predicted], classes[p.true], p.wrong_class, p.confusion, p.share] for p in pairs]
    readings = []
    if pairs and pairs[0].wrong_class >= LEAST_ITEMS:
        p = pairs[0]
        readings.append(
            f"{classes[p.predicted]} is predicted on {classes[p.true]} most often: {p.wrong_class}"
            f" times with tIoU ≥ {matches.tiou:g}, and with {p.confusion} looser ones this is {p.share:.0f} % of the"
            f" false positives of {classes[p.predicted]}."
        )
    return Section(
        "confusion",
        "Classes taken for one another",
        f"False positives that overlap a segment of another class most: with tIoU ≥ {matches.tiou:g}, or at least"
        f" {LEAST_TIOU:g}; share: both, of all false positives of the predicted class. Those that fit a segment of"
        f" their own class as well are left out." + ("" if rows else " There are none."),
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
