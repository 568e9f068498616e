"""Official evaluations, from the datasets' own files to their numbers: one module per protocol.

Each module has a function that takes the paths of ground truth and predictions and returns the metrics as a dict;
`unloc metrics` calls it. docs/metrics.md describes formats, definitions and corner cases; `presets` names what each
dataset's papers report. Faults that make a number meaningless raise UserError; others warn with
`unloc_jax.metrics.checks.InputWarning` and a count.
"""

# Name → module of this package and its function: a command imports only the module that it needs.
PROTOCOLS = {
    "activitynet": ("activitynet", "evaluate_activitynet"),
    "thumos14": ("thumos14", "evaluate_thumos14"),
    "per-frame": ("per_frame", "evaluate_per_frame"),
    "moment-retrieval": ("moment_retrieval", "evaluate_moment_retrieval"),
    "qvhighlights": ("qvhighlights", "evaluate_qvhighlights"),
    "gmr": ("gmr", "evaluate_gmr"),
    "nextgqa": ("nextgqa", "evaluate_nextgqa"),
    "tvsum": ("highlights", "evaluate_tvsum"),
    "youtube-highlights": ("highlights", "evaluate_youtube_highlights"),
    "segmentation": ("segmentation", "evaluate_segmentation"),
    "classification": ("classification", "evaluate_classification"),
}
