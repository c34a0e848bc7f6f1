"""How fast is a retriever judged? Run: python tests/benchmarks/bench_ranking.py (about four minutes on one thread)

The full table of 1,000 pictures and 5,000 captions from one similarity matrix (float32), in both directions: hit rate
and true recall at 1, 5 and 10, first rank (hence median and mean rank), reciprocal rank, average precision, average
precision at R and nDCG, for each query, with expected values under ties. CPU seconds against

- `metrics_vs_clip_benchmark`: clip_benchmark's recall at 1, 5 and 10, both directions, and nothing else: its own
  functions as its `evaluate` calls them, in batches of 64, its program's default;
- `metrics_vs_pytrec_eval`: map, recip_rank, ndcg, recall and success at 1, 5 and 10, to full depth. `evaluate` alone is
  timed, not the making of the dictionaries of five million scores that it asks for;
- `metrics_vs_torchmetrics`: MAP, MRR, nDCG, recall and hit rate at 1, 5 and 10, one MetricCollection a direction.

Equality comes first: pytrec_eval's value of each query to 1e-6, clip_benchmark's recall, torchmetrics' means where all
scores are positive, and chance for a constant scorer. Where scores are not positive, torchmetrics drops right answers:
`torchmetrics_map_of_cosines` is what it makes of a mAP of `metrics_map_of_cosines`, on the timed scores.
"""

import os
import statistics

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytrec_eval
import torch
from _results import entry, seconds, write
from clip_benchmark.metrics import zeroshot_retrieval as clip_benchmark
from torchmetrics import MetricCollection, retrieval

from course_utils import counting

PICTURES, CAPTIONS, KS, REPETITIONS = 1_000, 5, (1, 5, 10), 5
OWNERS, IDS = np.repeat(np.arange(PICTURES), CAPTIONS), np.arange(PICTURES)
RIGHT = IDS[:, None] == OWNERS  # (N,M)
PACKAGES = ("numpy", "clip_benchmark", "pytrec-eval-terrier", "torchmetrics", "torch")
BATCH = 64


def cosines(seed):
    """(N,M) float32 scores of a middling retriever; a right caption's may be negative, as cosines may."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=RIGHT.shape) + 0.2 * RIGHT * rng.random(RIGHT.shape)).astype(np.float32)


def ours(scores):
    """direction -> measure -> (Q,) values."""
    return {name: one.measures(KS) for name, one in counting.rank_both(scores, IDS, OWNERS).items()}


def clip_benchmarks(scores):
    """What clip_benchmark's `evaluate` does once it has all scores (texts, images): recalls by name."""
    pairs, found = torch.from_numpy(RIGHT.T), {}
    for k in KS:
        for name, s, p in (("text_to_image", scores, pairs), ("image_to_text", scores.T, pairs.T)):
            hits = clip_benchmark.batchify(clip_benchmark.recall_at_k, s, p, BATCH, "cpu", k=k) > 0
            found[name, k] = hits.float().mean().item()
    return found


class TrecEval:
    """pytrec_eval in both directions; its dictionaries are made beforehand."""

    MEASURES = {"map", "recip_rank", "ndcg", "recall.1,5,10", "success.1,5,10"}
    NAMES = {"map": "average_precision", "recip_rank": "reciprocal_rank", "ndcg": "ndcg"}
    NAMES |= {f"recall_{k}": f"true_recall_at_{k}" for k in KS} | {f"success_{k}": f"hit_rate_at_{k}" for k in KS}

    def __init__(self, scores):
        self.runs = {}
        for name, s, right in (("image_to_text", scores, RIGHT), ("text_to_image", scores.T, RIGHT.T)):
            items = [str(k) for k in range(s.shape[1])]
            run = {str(q): dict(zip(items, line)) for q, line in enumerate(s.tolist())}
            relevant = {str(q): {items[k]: 1 for k in np.flatnonzero(line)} for q, line in enumerate(right)}
            self.runs[name] = pytrec_eval.RelevanceEvaluator(relevant, self.MEASURES), run

    def evaluate(self):
        return {name: evaluator.evaluate(run) for name, (evaluator, run) in self.runs.items()}

    def check(self, found):
        """Each query's value of each measure, to 1e-6."""
        for name, by_query in self.evaluate().items():
            for theirs, measure in self.NAMES.items():
                values = np.array([by_query[str(q)][theirs] for q in range(len(by_query))])
                np.testing.assert_allclose(found[name][measure], values, atol=1e-6, err_msg=f"{name} {theirs}")


def torchmetrics_of(scores):
    """direction -> name -> mean. Rows of the table are given as torchmetrics wants them: flat, with their query."""
    found = {}
    for name, s, right in (("image_to_text", scores, RIGHT), ("text_to_image", scores.T, RIGHT.T)):
        metrics = {"map": retrieval.RetrievalMAP(), "mrr": retrieval.RetrievalMRR()}
        metrics |= {"ndcg": retrieval.RetrievalNormalizedDCG()}
        metrics |= {f"recall_{k}": retrieval.RetrievalRecall(top_k=k) for k in KS}
        metrics |= {f"hit_{k}": retrieval.RetrievalHitRate(top_k=k) for k in KS}
        every, queries = MetricCollection(metrics), np.arange(len(s)).repeat(s.shape[1])
        every.update(torch.from_numpy(s.ravel()), torch.from_numpy(right.ravel()), torch.from_numpy(queries))
        found[name] = {key: value.item() for key, value in every.compute().items()}
    return found


TORCHMETRICS = {"map": "average_precision", "mrr": "reciprocal_rank", "ndcg": "ndcg"}
TORCHMETRICS |= {f"recall_{k}": f"true_recall_at_{k}" for k in KS} | {f"hit_{k}": f"hit_rate_at_{k}" for k in KS}


def check_equality(scores, trec_eval):
    """All peers agree with us where they can; a scorer that knows nothing gets chance."""
    found = ours(scores)
    trec_eval.check(found)
    for (name, k), recall in clip_benchmarks(torch.from_numpy(scores.T.copy())).items():
        assert abs(found[name][f"hit_rate_at_{k}"].mean() - recall) < 1e-6, (name, k)
    above_zero = ours(scores + 1)
    for name, means in torchmetrics_of(scores + 1).items():
        for theirs, measure in TORCHMETRICS.items():
            assert abs(above_zero[name][measure].mean() - means[theirs]) < 1e-5, (name, theirs)
    chance = ours(np.zeros_like(scores))
    np.testing.assert_allclose(chance["text_to_image"]["hit_rate_at_10"], 10 / PICTURES)
    np.testing.assert_allclose(chance["image_to_text"]["true_recall_at_10"], 10 / len(OWNERS))
    print("equal to pytrec_eval, clip_benchmark and, above zero, torchmetrics; a constant scorer gets chance")


def main():
    torch.set_num_threads(1)
    scores = cosines(0)
    texts_first = torch.from_numpy(scores.T.copy())
    trec_eval = TrecEval(scores)
    check_equality(scores, trec_eval)
    ratios, table, maps = {"clip_benchmark": [], "pytrec_eval": [], "torchmetrics": []}, [], []
    for k in range(REPETITIONS):
        took = {}
        for name, call, arguments in (
            ("clip_benchmark", clip_benchmarks, [texts_first]),
            ("pytrec_eval", trec_eval.evaluate, []),
            ("torchmetrics", torchmetrics_of, [scores]),
        ):
            mine = statistics.median(seconds(ours, scores)[0] for _ in range(5))  # so short that one could be unlucky
            took[name], result = seconds(call, *arguments)
            ratios[name].append(took[name] / mine)
            table.append(mine)
        maps.append(result["image_to_text"]["map"])
        print(f"{k + 1} of {REPETITIONS}: ours {mine:.4f} s, " + ", ".join(f"{n} {s:.2f} s" for n, s in took.items()))
    true_map = ours(scores)["image_to_text"]["average_precision"].mean()
    unit = "times faster, 1,000 x 5,000 both ways"
    write(
        [
            entry(
                "metrics_vs_clip_benchmark", ratios["clip_benchmark"], unit, "clip_benchmark, recall alone", PACKAGES
            ),
            entry("metrics_vs_pytrec_eval", ratios["pytrec_eval"], unit, "pytrec_eval, full depth", PACKAGES),
            entry("metrics_vs_torchmetrics", ratios["torchmetrics"], unit, "torchmetrics' retrieval metrics", PACKAGES),
            entry("metrics_full_table", table, "CPU seconds, 1,000 x 5,000 both ways", packages=PACKAGES),
            entry("metrics_map_of_cosines", [true_map] * 5, "mAP, image to text, scores of both signs", None, PACKAGES),
            entry("torchmetrics_map_of_cosines", maps, "mAP of the same scores by torchmetrics", None, PACKAGES),
        ]
    )
    for name, bar in (("clip_benchmark", 30), ("pytrec_eval", 300), ("torchmetrics", 700)):
        assert statistics.median(ratios[name]) >= bar, (name, ratios[name])


if __name__ == "__main__":
    main()
