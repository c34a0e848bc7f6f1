"""What does one training step cost? Run: python tests/benchmarks/bench_step.py (about five minutes on one thread)

`step_vs_tutorial`: pairs a CPU-second of a whole step (forward, loss, backward, AdamW), ResNet-50 and a BERT of base
size with random weights, in fp32: our batch, in which each picture is encoded once for its five captions and captions
are padded to the longest of the batch, against the popular tutorial's, in which each pair encodes its picture anew and
captions are padded to 200 tokens. Both hold the same pairs and the same loss, and have the same gradients: that is
checked first. Dropout is off and BatchNorm keeps its statistics in both, or nothing could be compared.

Lengths of captions are drawn around 14 tokens, since Flickr30k's have 12 words on average (Young et al. 2014) and a
sentence begins and ends with a token of its own.
"""

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from _results import entry, write

from course_utils import recipes

PICTURES, CAPTIONS, PADDED, REPETITIONS = 3, 5, 200, 5


def batches():
    """(ours, the tutorial's): the same pairs."""
    random = torch.Generator().manual_seed(0)
    pairs = PICTURES * CAPTIONS
    owners = torch.arange(PICTURES).repeat_interleave(CAPTIONS)
    lengths = (14 + 4 * torch.randn(pairs, generator=random)).round().clamp(6, 40).long()
    tokens = torch.randint(1000, 30_000, (pairs, PADDED), generator=random)
    token_mask = torch.arange(PADDED) < lengths[:, None]
    tokens *= token_mask
    images = torch.rand(PICTURES, 3, 224, 224, generator=random).contiguous(memory_format=torch.channels_last)
    longest = int(lengths.max())
    ours = {"images": images, "owners": owners, "tokens": tokens[:, :longest], "token_mask": token_mask[:, :longest]}
    theirs = {"images": images[owners], "tokens": tokens, "token_mask": token_mask}
    return ours | {"image_ids": owners}, theirs | {"image_ids": owners}


def gradients(model, batch):
    """Leaves gradients in the model; returns the loss."""
    model.zero_grad()
    loss = recipes.contrast(model(batch), batch)
    loss.backward()
    return loss.item()


def furthest(model, ours, theirs):
    """The largest difference of any gradient, in shares of the largest of its tensor; losses must agree as well."""
    value = gradients(model, ours)
    kept = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    other = gradients(model, theirs)
    assert abs(value - other) < 1e-5, (value, other)
    whole = max(gradient.abs().max().item() for gradient in kept.values())
    return max((parameter.grad - kept[name]).abs().max().item() / max(kept[name].abs().max().item(), 1e-4 * whole)
               for name, parameter in model.named_parameters() if name in kept)  # fmt: skip


def seconds(model, optimizer, batch):
    """CPU seconds of one step."""
    before = time.process_time()
    gradients(model, batch)
    optimizer.step()
    return time.process_time() - before


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = recipes.build(recipes.RECIPES["resnet50+bert"], pretrained=False).model
    model = model.eval().to(memory_format=torch.channels_last)
    ours, theirs = batches()
    difference = furthest(model, ours, theirs)
    print(f"gradients differ by at most {difference:.1e} of the largest in their tensor")
    assert difference < 1e-3, difference
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    seconds(model, optimizer, ours)  # the moments are made
    ratios = []
    for _ in range(REPETITIONS):
        mine, peers = seconds(model, optimizer, ours), seconds(model, optimizer, theirs)
        ratios.append(peers / mine)
        print(f"{mine:.2f} s and {peers:.2f} s: {ratios[-1]:.2f}", flush=True)
    unit = f"times the pairs a CPU-second, {PICTURES} pictures of {CAPTIONS} captions, fp32"
    peer = f"each picture encoded for each caption, padded to {PADDED}"
    write([entry("step_vs_tutorial", ratios, unit, peer, packages=("torch", "torchvision", "transformers"))])


if __name__ == "__main__":
    main()
