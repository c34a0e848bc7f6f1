"""What does an interval cost? Run: python tests/benchmarks/bench_bootstrap.py (about a minute and a half on one thread)

95 % intervals of ten metrics, 1,000 draws of whole images; 5,000 images with 4 to 6 captions, COCO's 5K test. SciPy
knows no groups: it gets each image's sum and count as paired data and the ratio of sums as a vectorised statistic, one
call a metric, with its default settings; making the sums is not counted on its side, but is on ours.

- `bootstrap_vs_scipy_percentile`, `bootstrap_vs_scipy_bca`: this, CPU seconds;
- `..._tuned`: SciPy with batch=100, which suits this machine's cache better than its default;
- `..._1000_images`: the same, default settings, at the size of Flickr30k's test. SciPy's BCa grows with the square.

Equality first: both ends of each interval, with 20,000 draws, within 3 % of its width.
"""

import os
import statistics

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _results import entry, seconds, write
from scipy import stats

from course_utils import intervals

METRICS, DRAWS, REPETITIONS = 10, 1_000, 5
NAMES = {"percentile": "percentile", "bca": "BCa"}
PACKAGES = ("numpy", "scipy")


def judged(images):
    """values (Q,10) in 0..1 that captions of an image share in part, and groups (Q,)."""
    rng = np.random.default_rng(images)
    groups = np.repeat(np.arange(images), rng.integers(4, 7, images))
    chance = rng.beta(2, 1, (images, METRICS))
    return (rng.random((len(groups), METRICS)) < chance[groups]).astype(float), groups


def summed(values, groups):
    """(G,10) sums and (G,) counts: what SciPy is given."""
    sums = np.stack([np.bincount(groups, weights=column) for column in values.T], axis=1)
    return sums, np.bincount(groups).astype(float)


def ratio(sums, counts, axis=-1):
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def scipys(sums, counts, method, draws, batch=None):
    """(10,2) intervals, a call a metric."""
    found = [
        stats.bootstrap(
            (column, counts), ratio, paired=True, vectorized=True, n_resamples=draws, method=NAMES[method], batch=batch,
            rng=k,
        ).confidence_interval
        for k, column in enumerate(np.ascontiguousarray(sums.T))
    ]  # fmt: skip
    return np.array(found)


def check_equality():
    values, groups = judged(300)
    sums, counts = summed(values, groups)
    for method in NAMES:
        found = intervals.bootstrap(values, groups, draws=20_000, method=method)
        theirs = scipys(sums, counts, method, 20_000, batch=1_000)
        apart = np.abs(np.stack([found.low, found.high], axis=1) - theirs) / (theirs[:, 1:] - theirs[:, :1])
        assert apart.max() < 0.03, (method, apart.max())
        print(f"{method}: ends within {apart.max():.1%} of the interval's width")


def main():
    check_equality()
    ratios, own = {}, []
    for images, suffix, batch in ((5_000, "", None), (5_000, "_tuned", 100), (1_000, "_1000_images", None)):
        values, groups = judged(images)
        sums, counts = summed(values, groups)
        for _ in range(REPETITIONS):
            for method in NAMES:
                mine = statistics.median(
                    seconds(intervals.bootstrap, values, groups, DRAWS, 0.95, method)[0] for _ in range(5)
                )
                theirs, _ = seconds(scipys, sums, counts, method, DRAWS, batch)
                ratios.setdefault((method, suffix), []).append(theirs / mine)
                own += [mine] if (method, suffix) == ("bca", "") else []
                print(f"{method}{suffix}: {mine:.4f} s and {theirs:.3f} s", flush=True)
    entries = [entry("bootstrap_ten_metrics", own, "CPU seconds, BCa, B = 1,000, 5,000 images", packages=PACKAGES)]
    for (method, suffix), samples in ratios.items():
        images = "1,000" if suffix.endswith("images") else "5,000"
        peer = f"scipy.stats.bootstrap, {NAMES[method]}" + (", batch=100" if suffix == "_tuned" else "")
        unit = f"times faster, ten metrics, B = 1,000, {images} images"
        entries.append(entry(f"bootstrap_vs_scipy_{method}{suffix}", samples, unit, peer, PACKAGES))
    write(entries)
    for method, bar in (("percentile", 12), ("bca", 60)):
        assert statistics.median(ratios[method, ""]) >= bar, (method, ratios[method, ""])


if __name__ == "__main__":
    main()
