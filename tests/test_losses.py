"""Contrastive losses against open_clip, transformers, torch and plain loops, in value and in gradient."""

import math

import pytest
import torch
import torch.nn.functional as F

from course_utils import losses


def unit_rows(*shape, seed=0, dtype=torch.float32):
    """Random rows of length 1 that ask for gradients."""
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=-1).to(dtype).requires_grad_()


def agree(ours, theirs, inputs, atol=1e-6):
    """Both scalars, and their gradients at all inputs, are the same."""
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=1e-6)
    mine = torch.autograd.grad(ours, inputs, retain_graph=True)
    for gradient, expected in zip(mine, torch.autograd.grad(theirs, inputs)):
        assert expected.abs().max() > 1e-4  # else the comparison would say nothing
        torch.testing.assert_close(gradient, expected, atol=atol, rtol=1e-5)


def log_share(scores, i):
    """log of softmax(scores)[i] for a list of floats."""
    top = max(scores)
    return scores[i] - top - math.log(sum(math.exp(s - top) for s in scores))


# CLIP -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.07, 1.0])
def test_clip_equals_open_clip(tau):
    from open_clip.loss import ClipLoss

    z_img, z_txt = unit_rows(12, 16), unit_rows(12, 16, seed=1)
    scale = torch.tensor(1 / tau, requires_grad=True)
    agree(losses.clip_loss(z_img, z_txt, 1 / scale), ClipLoss()(z_img, z_txt, scale), [z_img, z_txt, scale])


def test_clip_and_siglip_equal_the_models_of_transformers():
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 20, "max_position_embeddings": 8, "eos_token_id": 2}
    vision = {**small, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    inputs = {"input_ids": torch.randint(3, 20, (6, 8)), "pixel_values": torch.rand(6, 3, 16, 16)}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    theirs = clip(**inputs, return_loss=True)
    ours = losses.clip_loss(theirs.image_embeds, theirs.text_embeds, 1 / clip.logit_scale.exp())
    agree(ours, theirs.loss, [theirs.image_embeds, theirs.text_embeds, clip.logit_scale])
    siglip = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    theirs = siglip(**inputs, return_loss=True)
    scale, bias = siglip.logit_scale.exp(), siglip.logit_bias
    ours = losses.siglip_loss(theirs.image_embeds, theirs.text_embeds, scale, bias)
    agree(ours, theirs.loss, [theirs.image_embeds, theirs.text_embeds, siglip.logit_scale, bias])


def test_clip_equals_two_cross_entropies():
    z_img, z_txt = unit_rows(9, 8), unit_rows(9, 8, seed=1)
    logits, target = z_img @ z_txt.T / 0.1, torch.arange(9)
    by_hand = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    agree(losses.clip_loss(z_img, z_txt, 0.1), by_hand, [z_img, z_txt])


def test_the_gradient_is_softmax_minus_target():
    z_img, z_txt = unit_rows(7, 8, dtype=torch.float64), unit_rows(7, 8, seed=1, dtype=torch.float64)
    logits = (z_img @ z_txt.T / 0.2).detach()
    pull = (logits.softmax(1) + logits.softmax(0) - 2 * torch.eye(7)) / (2 * 7 * 0.2)  # (B,B)
    gradients = torch.autograd.grad(losses.clip_loss(z_img, z_txt, 0.2), [z_img, z_txt])
    torch.testing.assert_close(gradients[0], pull @ z_txt.detach(), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(gradients[1], pull.T @ z_img.detach(), atol=1e-12, rtol=1e-9)


IDS = [4, 7, 4, 1, 7, 4]  # three captions of picture 4, two of picture 7


def clip_by_loops(z_img, z_txt, tau, ids):
    """The definition, pair by pair, in Python floats."""
    dot = lambda a, b: sum(x * y for x, y in zip(a, b)) / tau
    z_img, z_txt = z_img.tolist(), z_txt.tolist()
    total, n = 0.0, len(ids)
    for i in range(n):
        same = [j for j in range(n) if ids[j] == ids[i]]
        row = [dot(z_img[i], caption) for caption in z_txt]
        column = [dot(picture, z_txt[i]) for picture in z_img]
        total -= sum(log_share(row, j) + log_share(column, j) for j in same) / len(same)
    return total / (2 * n)


def test_clip_with_several_captions_of_a_picture_equals_a_loop():
    z_img, z_txt = unit_rows(6, 5, dtype=torch.float64), unit_rows(6, 5, seed=1, dtype=torch.float64)
    expected = clip_by_loops(z_img, z_txt, 0.3, IDS)
    assert losses.clip_loss(z_img, z_txt, 0.3, image_ids=torch.tensor(IDS)).item() == pytest.approx(expected, abs=1e-7)
    assert losses.clip_loss(z_img, z_txt, 0.3, image_ids=IDS).item() == pytest.approx(expected, abs=1e-7)
    assert abs(losses.clip_loss(z_img, z_txt, 0.3).item() - expected) > 0.01  # the diagonal alone is another loss
    apart = losses.clip_loss(z_img, z_txt, 0.3, image_ids=torch.arange(6))
    torch.testing.assert_close(apart, losses.clip_loss(z_img, z_txt, 0.3))


@pytest.mark.parametrize("batch", [8, 64, 256])
def test_clip_is_about_log_b_without_information(batch):
    z_img, z_txt = unit_rows(batch, 512), unit_rows(batch, 512, seed=1)
    assert losses.clip_loss(z_img, z_txt, 1.0).item() == pytest.approx(math.log(batch), abs=0.05)
    collapsed = F.normalize(torch.ones(batch, 4), dim=-1)
    assert losses.clip_loss(collapsed, collapsed, 0.01).item() == pytest.approx(math.log(batch), abs=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b, ids: losses.clip_loss(a, b, 0.1, ids),
        lambda a, b, ids: losses.siglip_loss(a, b, 10.0, -10.0, ids),
        lambda a, b, ids: losses.triplet_loss(a, b),
        lambda a, b, ids: losses.triplet_loss(a, b, hardest=False),
    ],
    ids=["clip", "siglip", "hardest", "all rivals"],
)
def test_the_order_of_the_batch_means_nothing(loss):
    z_img, z_txt, ids = unit_rows(6, 5), unit_rows(6, 5, seed=1), torch.tensor(IDS)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(loss(z_img[order], z_txt[order], ids[order]), loss(z_img, z_txt, ids))
    assert (loss(z_img[order], z_txt, ids) - loss(z_img, z_txt, ids)).abs() > 1e-3  # but the pairing does


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_scores_are_computed_in_fp32(half):
    z_img, z_txt = unit_rows(32, 64).detach().to(half), unit_rows(32, 64, seed=1).detach().to(half)
    loss = losses.clip_loss(z_img, z_txt, 0.01)
    assert loss.dtype == torch.float32
    assert loss == losses.clip_loss(z_img.float(), z_txt.float(), 0.01)
    assert losses.siglip_loss(z_img, z_txt, 10.0, -10.0).dtype == losses.triplet_loss(z_img, z_txt).dtype == loss.dtype


# SigLIP ---------------------------------------------------------------------------------------------------------------


def test_siglip_equals_open_clip():
    from open_clip.loss import SigLipLoss

    z_img, z_txt = unit_rows(12, 16), unit_rows(12, 16, seed=1)
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    ours = losses.siglip_loss(z_img, z_txt, scale, bias)
    agree(ours, SigLipLoss()(z_img, z_txt, scale, bias), [z_img, z_txt, scale, bias], atol=2e-6)


def test_siglip_with_several_captions_of_a_picture_equals_a_loop():
    z_img, z_txt = unit_rows(6, 5, dtype=torch.float64), unit_rows(6, 5, seed=1, dtype=torch.float64)
    expected = 0.0
    for i in range(6):
        for j in range(6):
            logit = 5.0 * (z_img[i] * z_txt[j]).sum().item() - 1.0
            expected += math.log(1 + math.exp(-logit if IDS[i] == IDS[j] else logit)) / 6
    ours = losses.siglip_loss(z_img, z_txt, 5.0, -1.0, torch.tensor(IDS))
    assert ours.item() == pytest.approx(expected, abs=1e-9)


# Triplets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_triplet_equals_a_loop(hardest, margin):
    z_img, z_txt = unit_rows(7, 5, dtype=torch.float64), unit_rows(7, 5, seed=1, dtype=torch.float64)
    scores, total, pick = (z_img @ z_txt.T).tolist(), 0.0, max if hardest else sum
    for i in range(7):
        rivals = [j for j in range(7) if j != i]
        total += pick(max(0.0, margin + scores[i][j] - scores[i][i]) for j in rivals)
        total += pick(max(0.0, margin + scores[j][i] - scores[i][i]) for j in rivals)
    assert losses.triplet_loss(z_img, z_txt, margin, hardest).item() == pytest.approx(total / 7, abs=1e-9)


def test_triplet_over_all_rivals_equals_torch():
    z_img, z_txt = unit_rows(6, 8), unit_rows(6, 8, seed=1)
    peer = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=lambda a, b: 1 - F.cosine_similarity(a, b), margin=0.3, reduction="sum"
    )
    i, j = torch.nonzero(~torch.eye(6, dtype=torch.bool)).T  # every pair with every rival
    theirs = (peer(z_img[i], z_txt[i], z_txt[j]) + peer(z_txt[i], z_img[i], z_img[j])) / 6
    ours = losses.triplet_loss(z_img, z_txt, 0.3, hardest=False)
    torch.testing.assert_close(ours, theirs)
    # cosine_similarity normalises once more: its gradient is ours without the part along the row
    for z in (z_img, z_txt):
        gradient = torch.autograd.grad(ours, z, retain_graph=True)[0]
        across = gradient - (gradient * z).sum(dim=1, keepdim=True) * z
        torch.testing.assert_close(across, torch.autograd.grad(theirs, z, retain_graph=True)[0], atol=1e-6, rtol=1e-5)


def test_triplet_stops_where_the_margin_is_kept():
    z = torch.eye(4).requires_grad_()
    assert losses.triplet_loss(z, z, margin=0.9) == 0
    assert losses.triplet_loss(z, z, margin=1.5).item() == pytest.approx(1.0)  # half a cosine short, both ways
    assert losses.triplet_loss(z[:1], z[:1]) == 0  # nobody to lose against


# Gradients by finite differences, and errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b, s: losses.clip_loss(a, b, s),
        lambda a, b, s: losses.clip_loss(a, b, s, IDS),
        lambda a, b, s: losses.siglip_loss(a, b, 1 / s, -s, IDS),
        lambda a, b, s: losses.triplet_loss(a, b, 0.5),
        lambda a, b, s: losses.triplet_loss(a, b, 0.5, hardest=False),
    ],
    ids=["clip", "clip with ids", "siglip", "hardest", "all rivals"],
)
def test_gradients_equal_finite_differences(loss):
    rows = [unit_rows(6, 4, seed=seed, dtype=torch.float64) for seed in range(2)]
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (*rows, tau))


EACH = pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: losses.clip_loss(a, b, 0.1),
        lambda a, b: losses.siglip_loss(a, b, 10.0, -10.0),
        lambda a, b: losses.triplet_loss(a, b),
    ],
    ids=["clip", "siglip", "triplet"],
)


@EACH
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.eye(3) * 2, torch.eye(3), r"z_img needs rows of length 1, found 2.000 to 2.000; pass it through torch"),
        (torch.eye(3), torch.zeros(3, 3), "z_txt needs rows of length 1, found 0.000"),
        (torch.eye(3), torch.eye(3)[:2], r"z_img \(3, 3\) and z_txt \(2, 3\) must be the same"),
        (torch.eye(3), torch.eye(3)[:1], r"z_txt \(1, 3\)"),  # one row would broadcast in silence
        (torch.eye(3), torch.eye(4)[:3], r"z_txt \(3, 4\)"),
        (torch.ones(3), torch.ones(3), r"z_img must be \(B,E\)"),
        (torch.empty(0, 3), torch.empty(0, 3), "at least one row"),
    ],
)
def test_bad_rows_are_refused(loss, a, b, message):
    with pytest.raises(ValueError, match=message):
        loss(a, b)


@EACH
def test_a_diverged_model_shows_as_nan(loss):
    broken = torch.eye(3)
    broken[1] = torch.nan
    assert loss(broken, torch.eye(3)).isnan()  # training.fit names the step; no advice to normalise


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_ids": [1, 2]}, r"image_ids must be \(3,\)"),
        ({"image_ids": torch.ones(3, 1)}, r"got \(3, 1\)"),
        ({"tau": 0.0}, "must be positive"),
        ({"tau": torch.tensor(-2.6)}, "not a logarithm"),
    ],
)
def test_bad_arguments_of_clip_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        losses.clip_loss(torch.eye(3), torch.eye(3), **{"tau": 0.1, **changes})


def test_gathering_without_processes_changes_nothing():
    rows = unit_rows(4, 3)
    assert losses.gather_rows(rows) is rows
