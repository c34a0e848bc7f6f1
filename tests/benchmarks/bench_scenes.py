"""How many scenes a second does one core make? Run: python tests/benchmarks/bench_scenes.py

`scenes_per_second`: picture, masks and all five captions of single items (64 px, two objects).
`scenes_per_second_fed`: `images` and `captions`, the fast paths that feed a training.
CPU seconds, so that other work on the machine does not count; the objects are already resized, as they are after the
first batch.
"""

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _results import entry, write

from course_utils.scenes import Scenes

SCENES, REPETITIONS = 4_000, 9


def one_by_one(source, indices):
    for i in indices:
        scene = source[i]
        _ = scene.image, scene.masks, scene.captions


def fed(source, indices):
    source.images(indices)
    source.captions(indices)


def rates(make, source):
    """Scenes a CPU-second, one figure a repetition, each over other items."""
    found = []
    for k in range(REPETITIONS):
        start = time.process_time()
        make(source, range(k * SCENES, (k + 1) * SCENES))
        found.append(SCENES / (time.process_time() - start))
    return found


def main():
    source = Scenes(seed=0)
    some = range(500)
    pictures, captions = source.images(some), source.captions(some)  # both ways give the same, and objects are resized
    for i in some:
        assert np.array_equal(source[i].image, pictures[i])
        assert source[i].captions[0].text == captions[i]
    write(
        [
            entry("scenes_per_second", rates(one_by_one, source), "scenes a CPU-second, one core, 64 px"),
            entry("scenes_per_second_fed", rates(fed, source), "scenes a CPU-second, one core, 64 px"),
        ]
    )


if __name__ == "__main__":
    main()
