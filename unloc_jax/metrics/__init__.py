"""Metrics of the field, on NumPy arrays: no device, no jax, usable alone.

Every score is in percent. Times are in seconds (names end in `_s`); relative segments say so.

- `tiou`: temporal intersection over union.
- `moment_retrieval`: R@k at tIoU thresholds, mean IoU.
- `moment_retrieval_controls`: how much of those comes from understanding the text.
- `detection`: ActivityNet-style mAP of temporal action localisation, on `matching`; `thumos14`: its devkit's.
- `proposals`: AR@AN.
- `highlights`: mAP and HIT@1 of moments; `qvhighlights`: moments and highlights as its own evaluator counts them.
- `segmentation`: frames and segments of one label each; `classification`: whole videos.
- `protocols`: all of these from the datasets' files, for `unloc metrics`.
"""
