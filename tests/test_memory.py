"""The estimate against a count by hand, against resident memory, and against itself in the other direction."""

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from course_utils import losses, memory, models


class Two(nn.Module):
    """Two linear layers with a ReLU: what the backward pass needs can be counted by hand."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(10, 20), nn.Linear(20, 5)

    def forward(self, batch):
        return self.second(self.first(batch["images"]).relu())


def squares(output, batch):
    return output.square().mean()


def pairs(rows, size=16):
    tokens = torch.randint(2, 20, (rows, 5))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    return {"images": torch.rand(rows, 3, size, size), "tokens": tokens, "token_mask": mask,
            "image_ids": torch.arange(rows)}  # fmt: skip


def clip(out, batch):
    return losses.clip_loss(out.z_img, out.z_txt, out.tau, batch["image_ids"])


def test_a_small_network_is_counted_to_the_byte():
    found = memory.estimate(Two(), {"images": torch.rand(4, 10)}, squares)
    weights = 4 * (10 * 20 + 20 + 20 * 5 + 5)
    assert (found.parameters, found.gradients, found.moments) == (weights, weights, 2 * weights)
    assert found.inputs == 4 * 10 and found.fixed == 0
    assert found.activations == 4 * (20 + 5)  # the ReLU's output, once for two layers; the output, which is squared
    assert found.total(100) == 4 * weights + 100 * (40 + 100)


def test_what_does_not_learn_has_no_gradient():
    model = Two()
    model.first.requires_grad_(False)
    model.register_buffer("table", torch.zeros(100))
    found = memory.estimate(model, {"images": torch.rand(4, 10)}, squares)
    assert found.parameters == 4 * (325 + 100) and found.gradients == 4 * 105 and found.moments == 8 * 105


def test_nothing_of_the_count_stays_in_memory():
    """A saved output that kept its graph alive would keep all activations: 1.3 GB for ResNet-50 and BERT."""
    seen = []

    class Watched(Two):
        def forward(self, batch):
            hidden = self.first(batch["images"]).relu()
            seen.append(weakref.ref(hidden.untyped_storage()))
            return self.second(hidden)

    memory.estimate(Watched(), {"images": torch.rand(4, 10)}, squares)
    gc.collect()
    assert len(seen) == 2 and [one() for one in seen] == [None, None]


def test_the_line_holds_for_other_batches():
    sentences = models.TransformerWords(20, 6, width=12, layers=1, heads=2)
    model = models.DualEncoder(models.ConvTower(16, width=12, channels=(16, 16)), sentences, shared=8)
    small, large = (memory.estimate(model, pairs(rows), clip) for rows in (8, 48))
    assert small.total(200) == pytest.approx(large.total(200), rel=0.05)  # B x B scores grow a little faster
    model.train()
    memory.estimate(model, pairs(4), clip)
    assert model.training and all(p.grad is None for p in model.parameters())


def test_statistics_and_generators_are_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    wrapped = Two()
    wrapped.forward = lambda batch: model(batch["images"])
    wrapped.inner = model
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    memory.estimate(wrapped, {"images": torch.rand(4, 3, 8, 8, generator=torch.Generator())}, squares)
    assert torch.equal(torch.rand(1), expected)
    assert model[1].running_mean.abs().sum() == 0 and not model.training and not model[2].training


def test_captions_come_with_their_pictures():
    sentences = models.TransformerWords(20, 6, width=12, layers=1, heads=2)
    model = models.DualEncoder(models.ConvTower(16, width=12, channels=(16, 16)), sentences, shared=8)
    batch = pairs(12)
    owners = torch.arange(12) // 3
    shared = memory.estimate(
        model, batch | {"images": batch["images"][:4], "owners": owners, "image_ids": owners}, clip
    )
    alone = memory.estimate(model, batch, clip)
    assert alone.activations < shared.activations < 3 * alone.activations  # three sentences, one picture


def test_half_precision_holds_less():
    model = models.DualEncoder(models.ConvTower(32, width=64), models.TransformerWords(20, 6), shared=8)
    full, half = (memory.estimate(model, pairs(8, 32), clip, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert 0.4 < half.activations / full.activations < 0.8
    assert half.fixed > full.fixed  # the weights in bfloat16


@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.parametrize("room", [1_000, 5_000, 5_390, 20_000, 1_000_000])
def test_the_largest_batch_is_the_last_that_fits(chunk, room):
    found = memory.Estimate(1000, 1000, 2000, 100, 10, 200, chunk)
    most = found.largest_batch(room)
    assert most == 0 or found.total(most) <= 0.9 * room
    assert found.total(most + 1) > 0.9 * room


def test_a_chunk_lets_more_in():
    found = memory.Estimate(1000, 1000, 2000, 100, 10, 200)
    chunked = memory.Estimate(1000, 1000, 2000, 100, 10, 200, 8)
    assert chunked.largest_batch(50_000) > 10 * found.largest_batch(50_000)
    assert chunked.total(100) == found.total(8) + 92 * 10
    assert "activations of 8 rows" in chunked.table(100) and "at the peak" in chunked.table(100)
    assert found.largest_batch() > 1_000  # of this machine


def test_a_count_that_fails_leaves_the_model_in_its_mode():
    def fails(out, batch):
        raise MemoryError("no room")

    model = Two().eval()
    with pytest.raises(MemoryError):
        memory.estimate(model, {"images": torch.rand(4, 10)}, fails)
    assert not any(module.training for module in model.modules())


def test_one_row_draws_no_line():
    with pytest.raises(ValueError, match="1 row; it draws a line through two batches"):
        memory.estimate(Two(), {"images": torch.rand(1, 10)}, squares)


@pytest.mark.parametrize("words", ["can't allocate memory", "not enough memory"], ids=["Linux", "Windows"])
def test_running_out_is_explained_and_other_errors_pass(words):
    with (
        pytest.raises(MemoryError, match="A step with 64 rows.*TrainConfig.chunk, for instance to 16"),
        memory.explained(64),
    ):
        raise RuntimeError(f"[enforce fail] DefaultCPUAllocator: {words}: you tried 99 bytes.")
    with pytest.raises(RuntimeError, match="shapes differ"), memory.explained(64):
        raise RuntimeError("shapes differ")
    with pytest.raises(MemoryError, match="64 rows"), memory.explained(64):
        torch.empty(1 << 55)


@pytest.mark.slow
@pytest.mark.parametrize(("chunk", "rows"), [(0, 32), (24, 48)])
def test_the_estimate_is_within_a_fifth_of_resident_memory(chunk, rows):
    """Lite0 and MiniLM, trained for real in a fresh process: predicted on four pictures."""
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, str(chunk), str(rows)]
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    predicted, measured = map(float, done.stdout.split())
    print(f"predicted {predicted / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB")
    assert measured > 4e8
    assert predicted == pytest.approx(measured, rel=0.2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("chunk", [0, 64])
def test_the_classic_recipe_at_batch_256_on_a_gpu(chunk):
    from course_utils import recipes, training

    def few(count):
        tokens = torch.randint(1000, 20_000, (count, 24), device="cuda")
        images = torch.rand(count, 3, 224, 224, device="cuda")
        return {"images": images, "tokens": tokens, "token_mask": tokens > 0,
                "image_ids": torch.arange(count, device="cuda")}  # fmt: skip

    model = recipes.build(recipes.RECIPES["resnet50+bert"], pretrained=False).model.cuda()
    predicted = memory.estimate(model, few(8), clip, torch.float16, chunk).total(256)
    torch.cuda.reset_peak_memory_stats()
    config = training.TrainConfig(3, 1e-5, dtype=torch.float16, chunk=chunk, still_norms=True)
    training.fit(model, (few(256) for _ in range(3)), recipes.contrast, config)
    assert predicted == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.2)


def main(chunk, rows):
    """Prints the bytes that are predicted, and those by which a training makes this process grow."""
    import timm  # noqa: F401
    import torchvision.models  # noqa: F401
    from transformers import BertModel  # noqa: F401

    from course_utils import recipes, training

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak():
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def few(count):
        tokens = torch.randint(1000, 20_000, (count, 16))
        images = torch.rand(count, 3, 128, 128).contiguous(memory_format=torch.channels_last)
        return {"images": images, "tokens": tokens, "token_mask": tokens > 0, "image_ids": torch.arange(count)}

    config = training.TrainConfig(2, chunk=chunk, still_norms=True)
    recipe = recipes.Recipe("probe", "efficientnet_lite0", "minilm", config, 128)
    warm = recipes.build(
        recipes.RECIPES["tiny"], [" ".join(map(chr, range(97, 120)))]
    ).model  # libraries are not the training's
    training.fit(warm, [pairs(4, 64)], clip, training.TrainConfig(1))
    before = resident()
    model = recipes.build(recipe, pretrained=False).model.to(memory_format=torch.channels_last)
    predicted = memory.estimate(model, few(4), clip, chunk=chunk).total(rows)
    training.fit(model, (few(rows) for _ in range(2)), recipes.contrast, config)
    print(predicted, peak() - before)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
