"""The training loop against a hand-written one, GradCache against the whole batch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_utils import losses, models, training


def tiny(seed=0):
    """A small model with embeddings well apart, so that rounding stays rounding; memory order as `fit` sets it."""
    torch.manual_seed(seed)
    sentences = models.TransformerWords(20, 6, width=12, layers=1, heads=2)
    nn.init.normal_(sentences.words.weight)
    nn.init.normal_(sentences.positions.weight)
    model = models.DualEncoder(models.ConvTower(16, width=12, channels=(16, 16)), sentences, shared=8, tau=0.5)
    return model.to(memory_format=torch.channels_last)


def batch_of(rows=12, seed=0):
    """Random pairs; the first word follows the brightness of the picture, so there is something to learn."""
    random = torch.Generator().manual_seed(seed)
    level = torch.randint(0, 10, (rows,), generator=random)
    images = 0.1 * level[:, None, None, None] + 0.05 * torch.rand(rows, 3, 16, 16, generator=random)
    tokens = torch.randint(2, 20, (rows, 5), generator=random)
    tokens[:, 0] = 2 + level
    token_mask = torch.arange(5) < torch.randint(2, 6, (rows, 1), generator=random)
    return {"images": images, "tokens": tokens * token_mask, "token_mask": token_mask, "image_ids": level}


def clip(pairs, batch):
    return losses.clip_loss(pairs.z_img, pairs.z_txt, pairs.tau, batch["image_ids"])


def same(model, other, atol):
    for (name, value), expected in zip(model.named_parameters(), other.parameters()):
        torch.testing.assert_close(value, expected, atol=atol, rtol=1e-5, msg=name)


# fit ------------------------------------------------------------------------------------------------------------------


def test_the_loss_falls():
    history = training.fit(
        tiny(), (batch_of(seed=i) for i in range(150)), clip, training.TrainConfig(150, learning_rate=5e-3)
    )
    assert len(history) == 150
    assert sum(history[-10:]) < 0.75 * sum(history[:10])


def test_the_model_comes_back_on_its_own_device(monkeypatch):
    """Torch's lazy backend is a second device in every build: it computes, and refuses tensors of the first one."""
    ts_backend = pytest.importorskip("torch._lazy.ts_backend")
    ts_backend.init()
    elsewhere, seen = torch.device("lazy"), set()
    monkeypatch.setattr(training.Accelerator, "device", property(lambda self: elsewhere))

    class Small(nn.Linear):
        def forward(self, batch):
            return super().forward(batch["images"])

    def loss(made, batch):
        seen.add((made.device.type, batch["images"].device.type))
        return made.square().mean()

    model, batch = Small(4, 3), {"images": torch.randn(5, 4)}
    history = training.fit(model, [batch, batch], loss, training.TrainConfig(2))
    assert seen == {("lazy", "lazy")} and history[1] < history[0]
    assert model.weight.device.type == "cpu" and model(batch).isfinite().all()  # what fed it before feeds it again
    with pytest.raises(FloatingPointError):
        training.fit(model, [{"images": torch.full((5, 4), torch.nan)}], loss, training.TrainConfig(1))
    assert model.weight.device.type == "cpu"
    at_home = Small(4, 3).to(elsewhere)
    training.fit(at_home, [batch], loss, training.TrainConfig(1))
    assert at_home.weight.device.type == "lazy"


@pytest.mark.parametrize("clip_norm", [0.2, 100.0])
def test_fit_equals_a_hand_written_loop(clip_norm):
    batches = [batch_of(seed=i) for i in range(12)]
    ours, theirs = tiny(), tiny()
    config = training.TrainConfig(12, learning_rate=3e-3, weight_decay=0.1, clip=clip_norm)
    history = training.fit(ours, iter(batches), clip, config)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=12)
    expected, norms = [], []
    for batch in batches:
        optimizer.zero_grad()
        loss = clip(theirs(batch), batch)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm).item())
        optimizer.step()
        schedule.step()
        expected.append(loss.item())
    assert (max(norms) > clip_norm) == (clip_norm < 1)  # clipping took part, or did not
    assert history == pytest.approx(expected, abs=1e-6)
    same(ours, theirs, atol=1e-5)


def test_fit_is_that_loop_bit_for_bit():
    """What was measured with `fit` (the bands of lessons 02 to 04) must not move when it learns something new."""
    batches = [batch_of(seed=i) for i in range(9)]
    ours, theirs = tiny(), tiny()
    history = training.fit(ours, iter(batches), clip, training.TrainConfig(9, 3e-3, 0.1, 0.2))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=9)
    expected = []
    for batch in batches:
        loss = clip(theirs(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.2)
        optimizer.step()
        schedule.step()
        expected.append(loss.item())
    assert history == expected
    assert all(
        torch.equal(value, other) for value, other in zip(ours.state_dict().values(), theirs.state_dict().values())
    )


def test_one_step_is_enough_and_the_model_is_left_for_evaluation():
    model = tiny()
    before = [p.clone() for p in model.parameters()]
    assert len(training.fit(model, [batch_of()] * 5, clip, training.TrainConfig(1))) == 1
    assert not model.training
    assert any((p != old).any() for p, old in zip(model.parameters(), before))


class Probe(nn.Module):
    """One linear layer that notes in which precision it computed."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(4, 3), []

    def forward(self, batch):
        hidden = self.layer(batch["x"])
        self.seen.append(hidden.dtype)
        return hidden


def test_precision_is_the_configs_and_can_change_from_one_call_to_the_next():
    batches = [{"x": torch.randn(8, 4), "y": torch.randn(8, 3)}] * 3
    outputs = []

    def squares(output, batch):
        outputs.append(output.dtype)
        return F.mse_loss(output, batch["y"])

    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        probe = Probe()
        training.fit(probe, batches, squares, training.TrainConfig(3, dtype=dtype))
        assert probe.seen == [dtype] * 3
        assert probe.layer.weight.dtype == torch.float32
        assert probe(batches[0]).dtype == torch.float32  # autocast ended with the training
    probe = Probe()
    for _ in range(2):  # the same model again
        training.fit(probe, batches, squares, training.TrainConfig(1, dtype=torch.bfloat16))
    assert probe.seen == [torch.bfloat16] * 2
    assert set(outputs) == {torch.float32}  # scores are fp32 whatever the towers used


def test_mixed_precision_learns_like_full_precision():
    batches = [batch_of(seed=i) for i in range(8)]
    full = training.fit(tiny(), batches, clip, training.TrainConfig(8))
    half = training.fit(tiny(), batches, clip, training.TrainConfig(8, dtype=torch.bfloat16))
    assert half == pytest.approx(full, abs=0.05)
    assert half != full


def test_a_loss_that_is_no_number_names_the_step_and_leaves_the_weights():
    model, kept = tiny(), []

    def breaks(pairs, batch):
        kept[:] = [p.detach().clone() for p in model.parameters()]
        return clip(pairs, batch) * (torch.nan if len(seen.append(0) or seen) == 3 else 1)

    seen = []
    with pytest.raises(FloatingPointError, match="loss is nan at step 2; lower learning_rate"):
        training.fit(model, [batch_of()] * 5, breaks, training.TrainConfig(5, dtype=torch.bfloat16))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), kept))
    assert not model.training
    assert torch.equal(model(batch_of()).z_img, model.encode_image(batch_of()["images"]))  # no autocast left behind


def test_a_model_that_diverges_is_stopped():
    """The real loss passes NaN on, so that the error names the step and not the length of rows."""
    model = tiny()
    nn.init.constant_(model.image_head.weight, torch.nan)
    with pytest.raises(FloatingPointError, match="at step 0"):
        training.fit(model, [batch_of()], clip, training.TrainConfig(1))


def test_too_few_batches_are_refused():
    with pytest.raises(ValueError, match="ran out after 2 of 3 steps"):
        training.fit(tiny(), [batch_of()] * 2, clip, training.TrainConfig(3))


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"clip": -1.0},
        {"dtype": torch.float64},
        {"dtype": torch.int8},
        {"schedule": "linear"},
        {"warmup": 1},  # a cycle has its own
        {"schedule": "cosine", "warmup": 3},
        {"frozen": 3},
        {"frozen": -1},
        {"chunk": -1},
        {"tower_rate": 0.0},
    ],
)
def test_a_bad_config_is_refused(changes):
    with pytest.raises(ValueError, match="TrainConfig: "):
        training.TrainConfig(**{"steps": 3, **changes})


# schedules, stages, modes --------------------------------------------------------------------------------------------


class Watched(models.DualEncoder):
    """Notes at each step the modes and what the two parts have become."""

    def forward(self, batch):
        if torch.is_grad_enabled():
            weights = [one.weight.detach().clone() for one in (self.image_tower.project, self.image_head)]
            self.seen.append((self.training, self.image_tower.training, *weights))
        return super().forward(batch)


def watched():
    model = tiny()
    model.__class__, model.seen = Watched, []
    return model


def rates(config, model=None):
    """The learning rates of each step, asked of the optimiser itself."""
    seen, step = [], torch.optim.AdamW.step

    def noted(self, *arguments, **settings):
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", noted)
        training.fit(model or tiny(), [batch_of(4)] * config.steps, clip, config)
    return seen


def test_cosine_rises_in_a_line_and_falls_to_zero():
    config = training.TrainConfig(10, learning_rate=1.0, weight_decay=0, clip=1e-9, schedule="cosine", warmup=3)
    expected = [0.25, 0.5, 0.75] + [(1 + math.cos(math.pi * k / 7)) / 2 for k in range(7)]
    assert [one for (one,) in rates(config)] == pytest.approx(expected)


def test_towers_have_a_rate_of_their_own_and_warm_up_when_they_thaw():
    config = training.TrainConfig(10, 1e-3, schedule="cosine", warmup=1, frozen=4, tower_rate=1e-4)
    heads, towers = zip(*rates(config))
    assert heads == pytest.approx([5e-4] + [1e-3 * (1 + math.cos(math.pi * k / 9)) / 2 for k in range(9)])
    assert towers[4:] == pytest.approx([5e-5] + [1e-4 * (1 + math.cos(math.pi * k / 5)) / 2 for k in range(5)])
    heads, towers = zip(*rates(training.TrainConfig(10, 1e-3, tower_rate=1e-4)))
    assert [tower / head for head, tower in zip(heads, towers)] == pytest.approx([0.1] * 10)  # one cycle for both


def test_frozen_towers_stay_as_they_are_and_then_learn():
    model = watched()
    model.text_tower.words.weight.requires_grad_(False)  # the learner's own wish is respected after thawing too
    words = model.text_tower.words.weight.clone()
    training.fit(model, [batch_of()] * 6, clip, training.TrainConfig(6, frozen=3, weight_decay=0.5))
    modes = [(whole, tower) for whole, tower, _, _ in model.seen]
    assert modes == [(True, False)] * 3 + [(True, True)] * 3
    towers, heads = zip(*[(tower, head) for _, _, tower, head in model.seen])
    assert [torch.equal(one, towers[0]) for one in towers] == [True] * 4 + [False] * 2  # noted before each step
    assert [torch.equal(one, heads[0]) for one in heads] == [True] + [False] * 5
    assert torch.equal(model.text_tower.words.weight, words)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["text_tower.words.weight"]


def test_stages_need_a_model_with_towers():
    with pytest.raises(ValueError, match="need a model with image_tower and text_tower; it has no image_tower"):
        training.fit(Probe(), [batch_of()], clip, training.TrainConfig(2, frozen=1))


def test_batch_norm_keeps_its_statistics_where_it_is_told_to():
    for still in (False, True):
        model = tiny()
        model.image_tower.features[1] = nn.BatchNorm2d(16)
        training.fit(model, [batch_of()] * 2, clip, training.TrainConfig(2, still_norms=still))
        assert (model.image_tower.features[1].running_mean.abs().sum() == 0) == still
        assert (model.image_tower.features[1].weight != 1).any()


def test_the_memory_order_can_be_left():
    probes = []
    for last in (True, False):
        model = models.DualEncoder(models.ConvTower(16, 12, (16, 16)), tiny().text_tower, shared=8, tau=0.5)
        training.fit(model, [batch_of()], clip, training.TrainConfig(1, channels_last=last))
        probes.append(model.image_tower.features[3].weight.is_contiguous())
    assert probes == [False, True]


def test_sixteen_bit_floats_need_a_gpu():
    if torch.cuda.is_available():
        assert len(training.fit(tiny(), [batch_of()] * 3, clip, training.TrainConfig(3, dtype=torch.float16))) == 3
    else:
        with pytest.raises(ValueError, match="float16 needs a GPU; use torch.bfloat16"):
            training.fit(tiny(), [batch_of()], clip, training.TrainConfig(1, dtype=torch.float16))


def test_running_out_of_memory_says_what_to_lower():
    def greedy(pairs, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    with pytest.raises(MemoryError, match=r"12 rows does not fit.*chunk, for instance to 3 .*2.00 GiB") as caught:
        training.fit(tiny(), [batch_of()], greedy, training.TrainConfig(1))
    assert caught.value.__suppress_context__


def test_chunks_inside_fit_train_like_the_whole_batch():
    batches = [batch_of(seed=i) for i in range(8)]
    whole, parts = tiny(), tiny()
    expected = training.fit(whole, batches, clip, training.TrainConfig(8))
    assert training.fit(parts, batches, clip, training.TrainConfig(8, chunk=5)) == pytest.approx(expected, abs=1e-5)
    for name in ("z_img", "z_txt"):
        torch.testing.assert_close(
            getattr(parts(batches[0]), name), getattr(whole(batches[0]), name), atol=1e-4, rtol=0
        )


# GradCache ------------------------------------------------------------------------------------------------------------


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def siglip(pairs, batch):
    return losses.siglip_loss(pairs.z_img, pairs.z_txt, 1 / pairs.tau, -2.0, batch["image_ids"])


@pytest.mark.parametrize("loss", [clip, siglip])
@pytest.mark.parametrize("chunk", [1, 5, 8, 12, 50])
def test_grad_cache_equals_the_whole_batch(chunk, loss):
    model, batch = tiny(), batch_of(12)
    whole = loss(model(batch), batch)
    whole.backward()
    expected = gradients(model)
    assert all(gradient.abs().max() > 1e-4 for gradient in expected.values())  # of every parameter, log_scale too
    model.zero_grad()
    value = training.grad_cache(model, batch, loss, chunk)
    assert not value.requires_grad
    assert value.item() == pytest.approx(whole.item(), abs=1e-6)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_adding_up_the_losses_of_chunks_is_something_else():
    """The check above can fail: chunks that never meet have fewer rivals, and another gradient."""
    model, batch = tiny(), batch_of(12)
    value = training.grad_cache(model, batch, clip, 4)
    cached = gradients(model)
    model.zero_grad()
    total = 0.0
    for i in range(0, 12, 4):
        part = {name: rows[i : i + 4] for name, rows in batch.items()}
        loss = clip(model(part), part) / 3
        loss.backward()
        total += loss.item()
    assert total < value.item() - 0.5  # log 4 against log 12
    flat = [torch.cat([g.flatten() for g in each.values()]) for each in (cached, gradients(model))]
    assert (flat[0] - flat[1]).norm() > 0.3 * flat[0].norm()


def test_grad_cache_holds_only_a_chunk():
    model, batch, held = tiny(), batch_of(12), []
    model.image_tower.register_forward_hook(lambda _, args, out: held.append((len(args[0]), out.requires_grad)))
    training.grad_cache(model, batch, clip, 5)
    assert held == [(5, False), (5, False), (2, False), (5, True), (5, True), (2, True)]


def test_grad_cache_adds_to_gradients_that_are_there():
    model, batch = tiny(), batch_of(12)
    training.grad_cache(model, batch, clip, 5)
    once = gradients(model)
    training.grad_cache(model, batch, clip, 5)
    torch.testing.assert_close(gradients(model), {name: 2 * gradient for name, gradient in once.items()})


def test_grad_cache_refuses_an_empty_chunk():
    with pytest.raises(ValueError, match="chunk=0"):
        training.grad_cache(tiny(), batch_of(), clip, 0)


def owned(captions=3):
    """Pictures with several captions each, encoded once; and the same pairs, a picture for each caption."""
    batch = batch_of(12)
    owners = torch.arange(12) // captions
    once = {**batch, "images": batch["images"][::captions], "owners": owners, "image_ids": owners}
    return once, {**batch, "images": once["images"][owners], "image_ids": owners}


@pytest.mark.parametrize("chunk", [0, 1, 3, 4])
def test_a_picture_encoded_once_gives_the_gradient_of_encoding_it_for_each_caption(chunk):
    once, often = owned()
    model = tiny()
    expected_value = clip(model(often), often)
    expected_value.backward()
    expected = gradients(model)
    model.zero_grad()
    if chunk:
        value = training.grad_cache(model, once, clip, chunk)
    else:
        value = clip(model(once), once)
        value.backward()
    assert value.item() == pytest.approx(expected_value.item(), abs=1e-6)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_owners_out_of_order_are_refused():
    once, _ = owned()
    with pytest.raises(ValueError, match="owners must not fall"):
        training.grad_cache(tiny(), once | {"owners": once["owners"].flip(0)}, clip, 2)


def test_grad_cache_draws_the_same_dropout_twice():
    """Both passes see one network: the gradient is that of the loss which a loop computes with the same seed."""
    model, batch = tiny().train(), batch_of(12)
    model.text_head = nn.Sequential(nn.Dropout(0.5), model.text_head)
    torch.manual_seed(5)
    outs = [model({name: value[i : i + 4] for name, value in batch.items()}) for i in (0, 4, 8)]
    joined = model.pairs(torch.cat([out.z_img for out in outs]), torch.cat([out.z_txt for out in outs]))
    expected_value = clip(joined, batch)
    expected_value.backward()
    expected, after = gradients(model), torch.rand(1)
    model.zero_grad()
    torch.manual_seed(5)
    assert training.grad_cache(model, batch, clip, 4).item() == pytest.approx(expected_value.item(), abs=1e-6)
    assert torch.equal(torch.rand(1), after)  # and the generator stands where one pass leaves it
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_grad_cache_refuses_statistics_of_chunks():
    model = tiny().train()
    model.image_tower.features[1] = nn.BatchNorm2d(16)
    with pytest.raises(ValueError, match="BatchNorm would see chunks.*still_norms=True"):
        training.grad_cache(model, batch_of(), clip, 4)
    training.fit(model, [batch_of()], clip, training.TrainConfig(1, chunk=4, still_norms=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a scaler is at work on a GPU only")
def test_a_scaler_and_chunks_agree():
    histories = [training.fit(tiny(), [batch_of()] * 5, clip, training.TrainConfig(5, dtype=torch.float16, chunk=chunk))
                 for chunk in (0, 5)]  # fmt: skip
    assert histories[0] == pytest.approx(histories[1], abs=1e-2)


def test_grad_cache_starts_as_it_is_told():
    """A scaler multiplies the loss; all gradients follow."""
    model, batch = tiny(), batch_of(12)
    training.grad_cache(model, batch, clip, 5)
    once = gradients(model)
    model.zero_grad()
    training.grad_cache(model, batch, clip, 5, lambda value: (8 * value).backward())
    torch.testing.assert_close(gradients(model), {name: 8 * gradient for name, gradient in once.items()})
