"""Does a ranking of Flickr30k's size fit? Run: python tests/benchmarks/bench_ranking_size.py (about fifteen minutes)

31,783 pictures against 158,915 captions, embeddings of 256 numbers, both directions, on one thread, each run in a
process of its own:

`ranking_flickr30k_memory`: peak resident megabytes, everything included (Python, the embeddings, all measures);
`ranking_flickr30k_seconds`: CPU seconds from embeddings to all measures of all queries;
`ranking_memory_growth`, `ranking_seconds_growth`: how many times as much as for half as many pictures and captions: 2
is linear, 4 is quadratic. The whole matrix of scores would be 20 GB in float32.
"""

import os
import subprocess
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

from _results import entry, write

PICTURES, REPETITIONS = 31_783, 5
RUN = """
import resource, sys, time
import numpy as np
from course_utils import counting
n = int(sys.argv[1])
rng = np.random.default_rng(0)
def unit(rows):
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
z_img = unit(rng.standard_normal((n, 256), dtype=np.float32))
z_txt = unit(rng.standard_normal((5 * n, 256), dtype=np.float32) + 4 * np.repeat(z_img, 5, axis=0))
before = time.process_time()
found = counting.rank_embeddings(z_img, z_txt, np.arange(n), np.repeat(np.arange(n), 5))
means = [one.summary() for one in found.values()]
seconds = time.process_time() - before
some = rng.permutation(5 * n)[:20]  # equality: a few captions' ranks by a plain product and comparison
scores = z_txt[some].astype(np.float64) @ z_img.T.astype(np.float64)
own = scores[np.arange(20), some // 5][:, None]
ranks = found["text_to_image"].first_rank()[some]
assert (abs(ranks - 1 - (scores > own).sum(axis=1)) <= (abs(scores - own) < 2e-6).sum(axis=1) - 1).all()
assert 0.05 < means[1]["hit_rate_at_1"] < 0.95, means
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds)
"""


def ranked(pictures):
    """(peak megabytes, CPU seconds) of one run."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", RUN, str(pictures)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True)
    done.check_returncode()
    megabytes, seconds = done.stdout.split()
    return float(megabytes), float(seconds)


def main():
    halves, wholes = [], []
    for k in range(REPETITIONS):
        halves.append(ranked(PICTURES // 2))
        wholes.append(ranked(PICTURES))
        print(f"{k + 1} of {REPETITIONS}: half {halves[-1]}, whole {wholes[-1]}", flush=True)
    of = f"{PICTURES:,} x {5 * PICTURES:,}, 256 numbers"
    growth = [[whole[i] / half[i] for half, whole in zip(halves, wholes)] for i in (0, 1)]
    unit = "times that of half the pictures and captions"
    write(
        [
            entry("ranking_flickr30k_memory", [one[0] for one in wholes], f"MB, {of}, both ways", packages=("numpy",)),
            entry("ranking_flickr30k_seconds", [one[1] for one in wholes], f"CPU seconds, {of}", packages=("numpy",)),
            entry("ranking_memory_growth", growth[0], unit, packages=("numpy",)),
            entry("ranking_seconds_growth", growth[1], unit, packages=("numpy",)),
        ]
    )
    assert max(one[0] for one in wholes) <= 4_000, "more than 4 GB"


if __name__ == "__main__":
    main()
