"""What does a Frechet distance cost? Run: python tests/benchmarks/bench_frechet.py (about two minutes on one thread)

`frechet_vs_torchmetrics`: CPU seconds of `distances.frechet` on 1,000 and 1,000 rows of 2,048 features in float32, as
networks give them, against torchmetrics' FrechetInceptionDistance over the same rows (update and compute; its network
is replaced by the identity, so no network is timed). Equality first, 1e-6 relative.

`frechet_same_source_1000`, `..._2000`: the distance of two sets from one source, which is truly 0, at 1,000 and 2,000
rows of these features: the bias of small sets, as a share of the distance that the timed sets have.
"""

import os
import statistics

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _results import entry, seconds, write
from torchmetrics.image.fid import FrechetInceptionDistance

from course_utils import distances

ROWS, WIDTH, REPETITIONS = 1_000, 2_048, 5
PACKAGES = ("numpy", "torchmetrics", "torch")


class Given(torch.nn.Module):
    """A "network" whose features are what it is given."""

    num_features = WIDTH

    def forward(self, rows):
        return rows


def features(seed, rows=ROWS, shift=0.0):
    """(rows,2048) like a pooled layer's: zero or more, a few directions strong, all noisy."""
    mix = np.random.default_rng(0).normal(size=(256, WIDTH)) / 16
    rng = np.random.default_rng(seed)
    rows_of = rng.normal(size=(rows, 256)) @ mix + 0.3 * rng.normal(size=(rows, WIDTH)) + shift
    return np.maximum(rows_of, 0).astype(np.float32)


def torchmetrics_of(x, y):
    metric = FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    metric.update(torch.from_numpy(x), real=True)
    metric.update(torch.from_numpy(y), real=False)
    return metric.compute().item()


def main():
    torch.set_num_threads(1)
    ratios, own = [], []
    for k in range(REPETITIONS):
        x, y = features(2 * k + 1), features(2 * k + 2, shift=0.1)
        mine, ours = seconds(distances.frechet, x, y)
        theirs, value = seconds(torchmetrics_of, x, y)
        assert abs(ours - value) <= 1e-6 * value, (ours, value)
        again = statistics.median([mine] + [seconds(distances.frechet, x, y)[0] for _ in range(4)])
        ratios.append(theirs / again)
        own.append(again)
        print(f"{ours:.6f} and {value:.6f}: {again:.3f} s and {theirs:.2f} s: {ratios[-1]:.1f}", flush=True)
    bias = {}
    for rows in (1_000, 2_000):
        bias[rows] = [distances.frechet(features(50 + k, rows), features(80 + k, rows)) / ours for k in range(5)]
    of = "N = 1,000, d = 2,048, features in float32"
    share = "of the distance of two different sources of 1,000 rows; the truth is 0"
    write(
        [
            entry("frechet_vs_torchmetrics", ratios, f"times faster, {of}", "torchmetrics' FID", PACKAGES),
            entry("frechet_seconds", own, f"CPU seconds, {of}", packages=PACKAGES),
            entry("frechet_same_source_1000", bias[1_000], share, packages=("numpy",)),
            entry("frechet_same_source_2000", bias[2_000], share, packages=("numpy",)),
        ]
    )
    assert statistics.median(ratios) >= 30, ratios


if __name__ == "__main__":
    main()
