"""Official evaluations, from the datasets' own files to their numbers: one module per protocol.

Each has a function that takes the paths of the ground truth and the predictions and returns the metrics as a dict;
`unloc metrics` calls them. docs/metrics.md describes formats, definitions and corner cases. Faults that make
a number meaningless raise UserError; the others are `unloc_jax.metrics.checks.InputWarning`, with a count.
"""

# Name → module of this package and its function: a command imports only its own.
PROTOCOLS = {
    "activitynet": ("activitynet", "evaluate_activitynet"),
    "thumos14": ("thumos14", "evaluate_thumos14"),
    "moment-retrieval": ("moment_retrieval", "evaluate_moment_retrieval"),
    "qvhighlights": ("qvhighlights", "evaluate_qvhighlights"),
    "tvsum": ("highlights", "evaluate_tvsum"),
    "youtube-highlights": ("highlights", "evaluate_youtube_highlights"),
    "segmentation": ("segmentation", "evaluate_segmentation"),
    "classification": ("classification", "evaluate_classification"),
}
