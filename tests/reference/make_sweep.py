"""Writes sweep.json: quantiles of Student's t distribution, intervals of means, and Spearman's rank correlations, by SciPy."""

import json
from pathlib import Path

import numpy as np
from scipy import stats

rng = np.random.default_rng(0)
intervals = []
for count in (2, 3, 5, 12, 40):
    values = np.round(rng.normal(0.1, 0.05, count), 4)
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    intervals.append({"values": values.tolist(), "mean_and_half_width": [values.mean(), half]})
correlations = []
for count in (3, 6, 28):
    # Rounded, so that there are ties.
    pairs = np.round(rng.normal(size=(count, 2)) + rng.normal(size=(count, 1)), 0 if count > 6 else 1)
    correlations.append({"pairs": pairs.tolist(), "spearman": stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic})
reference = {
    "t_quantiles": {str(n): stats.t.ppf(0.975, n) for n in (*range(1, 33), 50, 100, 1000)},
    "intervals": intervals,
    "rank_correlations": correlations,
}
Path(__file__).with_name("sweep.json").write_text(json.dumps(reference, indent=1) + "\n")
