"""Two processes that share a batch must train as one process with all of it.

Run by pytest, this file starts itself twice as a program: each process gets half of every batch and writes down its
losses, gradients and what a short training led to, which the tests compare with the whole batch in one process.
"""

import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn

from course_utils import losses, models, training

pytestmark = pytest.mark.slow
WORLD, ROWS, STEPS, PATIENCE = 2, 12, 4, 120  # processes, pairs in all, optimiser steps, seconds
CONFIG = training.TrainConfig(STEPS, learning_rate=2e-3, clip=0.5)
CONFIGS = {  # every way in which processes share a step
    "fit": CONFIG,
    "chunk": replace(CONFIG, chunk=4),
    "stages": replace(CONFIG, schedule="cosine", warmup=1, frozen=2, tower_rate=1e-3),
    "both": replace(CONFIG, chunk=4, frozen=2),
    "shared": replace(CONFIG, chunk=2),
}


def tiny():
    torch.manual_seed(0)
    sentences = models.TransformerWords(20, 6, width=12, layers=1, heads=2)
    nn.init.normal_(sentences.words.weight)  # embeddings well apart, so that rounding stays rounding
    nn.init.normal_(sentences.positions.weight)
    return models.DualEncoder(models.ConvTower(16, width=12, channels=(16, 16)), sentences, shared=8, tau=0.5)


def batch_of(seed):
    """ROWS pairs of 7 pictures, so that captions of one picture lie in both processes."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 20, (ROWS, 5), generator=random)
    return {
        "images": torch.rand(ROWS, 3, 16, 16, generator=random),
        "tokens": tokens,
        "token_mask": torch.ones_like(tokens, dtype=torch.bool),
        "image_ids": torch.arange(ROWS) % 7,
    }


def share_of(batch, rank):
    """The rows of process `rank`; in one process (rank None) all of them."""
    size = ROWS // WORLD
    return batch if rank is None else {name: rows[rank * size : (rank + 1) * size] for name, rows in batch.items()}


def clip(pairs, batch, gather=losses.gather_rows):
    z_img, z_txt, ids = gather(pairs.z_img), gather(pairs.z_txt), gather(batch["image_ids"])
    return losses.clip_loss(z_img, z_txt, pairs.tau, ids)


def siglip(pairs, batch, gather=losses.gather_rows):
    z_img, z_txt, ids = gather(pairs.z_img), gather(pairs.z_txt), gather(batch["image_ids"])
    return losses.siglip_loss(z_img, z_txt, 1 / pairs.tau, -2.0, ids)


def ungathered(pairs, batch):
    return clip(pairs, batch, gather=lambda rows: rows)


def without_ids(pairs, batch):
    return losses.clip_loss(losses.gather_rows(pairs.z_img), losses.gather_rows(pairs.z_txt), pairs.tau)


def measure(rank=None):
    """Loss and gradients under each loss, and the embeddings after a short training; rank None: one process."""
    found = {}
    for loss in (clip, siglip, ungathered, without_ids):
        model = tiny()
        encode = model if rank is None else nn.parallel.DistributedDataParallel(model)
        batch = share_of(batch_of(0), rank)
        value = loss(encode(batch), batch)
        value.backward()
        found[loss.__name__] = {"loss": value.item(), **{name: p.grad for name, p in model.named_parameters()}}
    for kind, config in CONFIGS.items():
        model, seen = tiny(), []
        batches = (share_of(batch_of(i), rank) for i in range(STEPS))
        if kind == "shared":
            batches = (owned(batch) for batch in batches)
        with noted(seen):
            history = training.fit(model, batches, clip, config)
        with torch.no_grad():  # what the model has become; a key's bias says nothing, softmax does not see it
            found[kind] = {"history": history, "gradients": seen, **model(batch_of(99))._asdict()}
    return found


def owned(batch):
    """Each second picture away, its caption given to the one before."""
    owners = torch.arange(len(batch["images"])) // 2
    return {**batch, "images": batch["images"][::2], "owners": owners, "image_ids": batch["image_ids"][::2][owners]}


@contextlib.contextmanager
def noted(seen):
    """Gradients as the optimiser meets them at each step."""
    step = torch.optim.AdamW.step

    def first(self, *arguments, **settings):
        every = [p for group in self.param_groups for p in group["params"]]
        seen.append([None if p.grad is None else p.grad.clone() for p in every])
        return step(self, *arguments, **settings)

    torch.optim.AdamW.step = first
    try:
        yield
    finally:
        torch.optim.AdamW.step = step


def gathered_order(rank):
    """What gather_rows makes of rows that name their process, and of the gradient that comes back."""
    rows = torch.full((2, 3), float(rank), requires_grad=True)
    gathered = losses.gather_rows(rows)
    (gathered * torch.arange(1.0, 5.0)[:, None] * (rank + 1)).sum().backward()
    return gathered.detach(), rows.grad


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """[what process 0 found, what process 1 found]; never longer than PATIENCE seconds."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(WORLD), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
              "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    processes = []
    try:
        for rank in range(WORLD):
            own = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, __file__, str(folder)]
            processes.append(subprocess.Popen(command, env=own, stderr=subprocess.PIPE, text=True))
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.fixture(scope="module")
def alone():
    return measure()


def furthest(found, expected):
    """The largest difference of any gradient, in shares of the largest gradient."""
    names = [name for name in expected if name != "loss"]
    scale = max(expected[name].abs().max() for name in names)
    return max((found[name] - expected[name]).abs().max() for name in names) / scale


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_two_processes_equal_one(runs, alone, loss):
    for found in runs:
        assert found[loss]["loss"] == pytest.approx(alone[loss]["loss"], abs=1e-6)
        assert found[loss].keys() == alone[loss].keys()
        for name, expected in alone[loss].items():
            if name != "loss":
                assert expected.abs().max() > 1e-3, name  # each parameter, the temperature too, was asked
                torch.testing.assert_close(found[loss][name], expected, atol=1e-6, rtol=1e-5, msg=name)


def test_without_gathering_they_do_not(runs, alone):
    """So the test above can fail: each process saw half of the rivals."""
    assert furthest(runs[0]["ungathered"], alone["clip"]) > 0.05
    assert runs[0]["ungathered"]["loss"] < alone["clip"]["loss"] - 0.4
    assert runs[0]["ungathered"]["loss"] != runs[1]["ungathered"]["loss"]


def test_without_the_others_image_ids_they_do_not(runs, alone):
    assert furthest(runs[0]["without_ids"], alone["clip"]) > 0.05
    assert furthest(runs[0]["without_ids"], alone["without_ids"]) < 1e-5  # it is the loss that differs


@pytest.mark.parametrize("kind", CONFIGS)
def test_fit_on_two_processes_equals_fit_on_one(runs, alone, kind):
    for found in runs:
        assert found[kind]["history"] == pytest.approx(alone[kind]["history"], abs=1e-5)
        for name in ("z_img", "z_txt", "tau"):
            torch.testing.assert_close(found[kind][name], alone[kind][name], atol=1e-5, rtol=1e-5)
        assert len(found[kind]["gradients"]) == STEPS
        for mine, theirs in zip(found[kind]["gradients"], alone[kind]["gradients"]):
            assert [one is None for one in mine] == [one is None for one in theirs]
            for one, other in zip(mine, theirs):
                if other is not None:
                    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    frozen = [sum(one is None for one in step) for step in alone[kind]["gradients"]]
    assert (frozen[0] > 10) == (kind in ("stages", "both")) and frozen[2:] == [0, 0]


def test_the_ways_differ_where_they_should(alone):
    assert alone["chunk"]["history"] == pytest.approx(alone["fit"]["history"], abs=1e-5)
    assert alone["both"]["history"] != pytest.approx(alone["fit"]["history"], abs=1e-4)
    assert alone["shared"]["history"] != pytest.approx(alone["fit"]["history"], abs=1e-4)


def test_the_models_learnt_something(alone):
    untrained = tiny()(batch_of(99))
    assert (untrained.z_img - alone["fit"]["z_img"]).abs().max() > 0.01


def test_rows_come_in_the_order_of_the_processes_and_gradients_add_up(runs):
    for rank, found in enumerate(runs):
        rows, gradient = found["order"]
        assert rows[:, 0].tolist() == [0, 0, 1, 1]
        weights = [1 + 2 * rank, 2 + 2 * rank]  # its own rows stand at 2 * rank
        assert gradient[:, 0].tolist() == [(1 + 2) * weight for weight in weights]  # what both processes asked


def main(folder):
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE // 2))
    torch.save({**measure(rank), "order": gathered_order(rank)}, folder / f"{rank}.pt")
    torch.distributed.barrier()  # one that leaves early takes the other down
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
