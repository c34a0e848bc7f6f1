"""Towers and the dual encoder: what may reach the output does, what may not does not."""

import pytest
import torch
import torch.nn.functional as F

from course_utils import models

VOCABULARY, LENGTH = 30, 10


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def dual(size=32, **changes):
    pictures = models.ConvTower(size, width=24, channels=(8, 16))
    return models.DualEncoder(pictures, models.TransformerWords(VOCABULARY, LENGTH, width=16), shared=12, **changes)


def sentences(rows=8):
    """tokens and token_mask (B,LENGTH - 2): rows of 3 to LENGTH - 2 words."""
    tokens = torch.randint(2, VOCABULARY, (rows, LENGTH - 2))
    token_mask = torch.arange(LENGTH - 2) < torch.randint(3, LENGTH - 1, (rows, 1))
    return tokens * token_mask, token_mask


def batch_of(rows=8, size=32):
    tokens, token_mask = sentences(rows)
    return {"images": torch.rand(rows, 3, size, size), "tokens": tokens, "token_mask": token_mask}


# Text towers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing(training):
    tower = models.TransformerWords(VOCABULARY, LENGTH, width=32).train(training)  # torch has a fast path for each
    tokens, token_mask = sentences()
    with torch.set_grad_enabled(training):
        expected = tower(tokens, token_mask)
        wider = tower(F.pad(tokens, (0, 2)), F.pad(token_mask, (0, 2)))  # two more columns of padding
        torch.testing.assert_close(wider, expected, atol=1e-5, rtol=1e-5)
        rubbish = torch.where(token_mask, tokens, torch.randint_like(tokens, VOCABULARY))  # under the mask
        torch.testing.assert_close(tower(rubbish, token_mask), expected, atol=1e-5, rtol=1e-5)
        for i, words in enumerate(token_mask.sum(dim=1)):  # each sentence alone, without any padding
            alone = tower(tokens[i : i + 1, :words], token_mask[i : i + 1, :words])
            torch.testing.assert_close(alone[0], expected[i], atol=1e-5, rtol=1e-5)


def test_every_word_and_its_place_reach_the_output():
    tower = models.TransformerWords(VOCABULARY, LENGTH, width=32)
    tokens = torch.arange(2, 10)[None]  # (1,L) eight different words
    token_mask = torch.ones_like(tokens, dtype=torch.bool)
    plain = tower(tokens, token_mask)
    assert plain.shape == (1, tower.width) == (1, 32)
    swaps = []
    for i in range(8):
        changed, swapped = tokens.clone(), tokens.clone()
        changed[0, i] = 20
        assert (tower(changed, token_mask) - plain).norm() > 0.05 * plain.norm()
        swapped[0, [i, i - 1]] = tokens[0, [i - 1, i]]
        swaps.append(swapped)
        assert (tower(swapped, token_mask) - plain).norm() > 0.01 * plain.norm()
    torch.nn.init.zeros_(tower.positions.weight)  # the control: without places it is a bag of words
    for swapped in swaps:
        torch.testing.assert_close(tower(swapped, token_mask), tower(tokens, token_mask), atol=1e-5, rtol=1e-5)


def test_a_sentence_longer_than_the_tower_is_refused():
    tokens = torch.ones(1, LENGTH + 1, dtype=torch.long)
    with pytest.raises(ValueError, match=f"{LENGTH + 1} tokens, but built for length={LENGTH}"):
        models.TransformerWords(VOCABULARY, LENGTH)(tokens, tokens > 0)


# Picture tower --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_pictures_of_a_batch_do_not_see_each_other(training):
    tower = models.ConvTower(32, width=24, channels=(8, 16)).train(training)
    images = torch.rand(8, 3, 32, 32)
    together = tower(images)
    for i in range(8):
        torch.testing.assert_close(tower(images[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-5)


def test_places_reach_the_output():
    """A square on the left against the same square on the right: an average over places could not tell."""
    tower = models.ConvTower(64, width=24, channels=(8, 8, 8))
    left, right = torch.zeros(2, 3, 64, 64)
    left[:, 24:40, 8:24] = 1
    right[:, 24:40, 40:56] = 1  # 32 pixels further: four cells of the last map
    maps = tower.features(torch.stack([left, right]) - 0.5)
    average = maps.mean(dim=(2, 3))
    assert (average[0] - average[1]).norm() < 1e-3 * average[0].norm()
    a, b = tower(torch.stack([left, right]))
    assert (a - b).norm() > 0.05 * a.norm()


def test_sizes_of_the_picture_tower():
    tower = models.ConvTower(64)
    kernels = [(3, 3, 32), (3, 32, 64), (3, 64, 96), (3, 96, 128)]  # side, channels in, channels out
    by_hand = sum(side**2 * i * o + o + 2 * o for side, i, o in kernels) + (128 * 4 * 4 + 1) * 256
    assert sum(p.numel() for p in tower.parameters()) == by_hand < 1e6
    assert not any(True for _ in tower.buffers())  # no running statistics
    assert tower(torch.rand(2, 3, 64, 64)).shape == (2, tower.width) == (2, 256)


@pytest.mark.parametrize("size", [0, 8, 60, 100])
def test_a_size_that_does_not_halve_is_refused(size):
    with pytest.raises(ValueError, match=rf"size {size} is not divisible by 2\*\*4"):
        models.ConvTower(size)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 64, 64, 3), (3, 64, 64)])
def test_a_picture_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"images must be \(B,3,64,64\)"):
        models.ConvTower(64)(torch.rand(shape))


# Patch tower ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_patches_and_who_read_whom(pool):
    tower = models.PatchTower(32, 8, width=24, depth=2, heads=3, pool=pool)
    tokens = 17 if pool == "class" else 16  # 4 x 4 patches
    features, attn = tower.attend(torch.rand(5, 3, 32, 32))
    assert features.shape == (5, tower.width) == (5, 24)
    assert [tuple(one.shape) for one in attn] == [(5, 3, tokens, tokens)] * 2
    for one in attn:
        torch.testing.assert_close(one.sum(dim=-1), torch.ones(5, 3, tokens))


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_gradients_reach_all_of_the_patch_tower_and_every_pixel(pool):
    tower = models.PatchTower(16, 4, width=8, depth=2, heads=2, pool=pool)
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    weights = torch.randn(8)
    (tower(images) @ weights).sum().backward()
    nothing = [name for name, p in tower.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key's bias adds the same to every score of a row, which a softmax does not see: rounding is all its gradient.
    assert [name for name in nothing if not name.endswith("key.bias")] == []
    assert (images.grad.abs().sum(dim=1) > 0).all()


def test_positions_start_as_a_map():
    """Neighbours are alike, places far apart are not, and rows are told from columns."""
    tower = models.PatchTower(64, 8, width=32, depth=1, heads=1)
    assert tower.positions.requires_grad and not tower.positions[0].any()  # the class token has no place
    places = tower.positions[1:].detach().unflatten(0, (8, 8))  # (side,side,D)
    distance = (places - places[0, 0]).norm(dim=-1)  # (side,side)
    torch.testing.assert_close(distance, distance.T)
    assert distance[0, 0] == 0 < distance[0, 1] < distance[0, 4] and distance[0, 1] < distance[1, 1]
    assert distance.flatten()[1:].min() > 0.1 and (places[0, 3] - places[3, 0]).norm() > 0.1


def test_a_patch_is_cut_where_the_map_says():
    """Without positions and without reading one another, a bright patch changes one place of the map: its own."""
    tower = models.PatchTower(32, 8, width=8, depth=1, heads=1)
    hooked = []
    tower.blocks[-1].norm.register_forward_hook(lambda module, inputs, output: hooked.append(output))
    images = torch.full((2, 3, 32, 32), 0.5)
    images[1, :, 8:16, 24:32] = 1.0  # second row of patches, fourth column
    tower(images)
    change = (tower.as_map(hooked[0])[1] - tower.as_map(hooked[0])[0]).abs().sum(dim=0)  # (side,side)
    assert change.shape == (tower.side, tower.side) == (4, 4)
    assert change.nonzero().tolist() == [[1, 3]]


def test_class_token_is_what_was_read_and_mean_is_the_average():
    """The output is the last block's result at the class token, or averaged over patches."""
    for pool, take in (("class", lambda x: x[:, 0]), ("mean", lambda x: x.mean(dim=1))):
        tower = models.PatchTower(16, 4, width=8, depth=1, heads=2, pool=pool)
        tower.norm = torch.nn.Identity()  # nothing to compute: it shows what comes out of the blocks
        images = torch.rand(3, 3, 16, 16)
        x = tower.embed(images - 0.5).flatten(2).transpose(1, 2)  # (B,P,D)
        if pool == "class":
            x = torch.cat([tower.token.expand(3, 1, -1), x], dim=1)
        torch.testing.assert_close(tower(images), take(tower.blocks[0](x + tower.positions)[0]))


def test_patches_of_a_batch_do_not_see_each_other_and_places_reach_the_output():
    tower = models.PatchTower(32, 8, width=24, depth=2, heads=3, pool="mean")
    images = torch.rand(4, 3, 32, 32)
    together = tower(images)
    for i in range(4):
        torch.testing.assert_close(tower(images[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-5)
    moved = tower(images.roll(8, dims=3))
    assert (moved - together).abs().max() > 1e-4
    torch.nn.init.zeros_(tower.positions)  # the control: without places it is a bag of patches
    torch.testing.assert_close(tower(images.roll(8, dims=3)), tower(images), atol=1e-5, rtol=1e-4)


def test_a_patch_tower_has_the_usual_attention():
    """The same block from torch's own modules, with our weights."""
    tower = models.PatchTower(16, 4, width=8, depth=1, heads=2)
    block, x = tower.blocks[0], torch.randn(3, 17, 8)
    reference = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    block.attention.copy_from(reference)
    normed = F.layer_norm(x, (8,))
    read = x + reference(normed, normed, normed)[0]
    expected = read + block.mlp[2](F.gelu(block.mlp[0](F.layer_norm(read, (8,)))))
    torch.testing.assert_close(block(x)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("changes", "message"), [
    ({"patch": 5}, "size 32 is not divisible into patches of 5"), ({"patch": 0}, "into patches of 0"),
    ({"patch": 64}, "into patches of 64"), ({"heads": 5}, "not divisible by 5 heads"),
    ({"width": 6}, "not divisible by 4"),
    ({"pool": "max"}, "neither 'class' nor 'mean'"),
])  # fmt: skip
def test_a_patch_tower_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        models.PatchTower(**{"size": 32, "patch": 8, "width": 24, "depth": 1, "heads": 3} | changes)


@pytest.mark.parametrize("shape", [(2, 3, 40, 40), (2, 32, 32, 3), (3, 32, 32)])
def test_a_picture_of_another_shape_is_refused_by_patches(shape):
    with pytest.raises(ValueError, match=r"images must be \(B,3,32,32\)"):
        models.PatchTower(32, 8, width=24, depth=1, heads=3)(torch.rand(shape))


# Dual encoder ---------------------------------------------------------------------------------------------------------


def test_scores_are_cosines_of_the_heads():
    model, batch = dual(), batch_of()
    pairs = model(batch)
    image = model.image_head(model.image_tower(batch["images"]))
    caption = model.text_head(model.text_tower(batch["tokens"], batch["token_mask"]))
    cosines = F.cosine_similarity(image[:, None], caption[None], dim=-1)  # (B,B)
    torch.testing.assert_close(pairs.z_img @ pairs.z_txt.T, cosines, atol=1e-6, rtol=1e-5)
    for z in (pairs.z_img, pairs.z_txt):
        torch.testing.assert_close(z.norm(dim=1), torch.ones(8))
        assert z.dtype == torch.float32


def test_the_whole_model_encodes_each_pair_alone():
    model, batch = dual(), batch_of()
    together = model(batch)
    for i in range(8):
        alone = model({name: value[i : i + 1] for name, value in batch.items()})
        for z in ("z_img", "z_txt"):
            torch.testing.assert_close(getattr(alone, z)[0], getattr(together, z)[i], atol=1e-5, rtol=1e-5)


def test_embeddings_stay_fp32_under_autocast():
    model, batch = dual(), batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        pairs = model(batch)
    assert pairs.z_img.dtype == pairs.z_txt.dtype == pairs.tau.dtype == torch.float32
    torch.testing.assert_close(pairs.z_img.norm(dim=1), torch.ones(8))
    exact = model(batch).z_img
    assert 0 < (pairs.z_img - exact).abs().max() < 0.05  # half precision was used, and did little harm


def test_gradients_reach_every_parameter():
    model = dual()
    pairs = model(batch_of())
    (pairs.z_img @ pairs.z_txt.T / pairs.tau).logsumexp(dim=1).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    towers = [model.image_tower, model.text_tower, model.image_head, model.text_head]
    assert sum(p.numel() for p in model.parameters()) == 1 + sum(p.numel() for t in towers for p in t.parameters())


def test_temperature():
    assert dual(tau=0.2).tau.item() == pytest.approx(0.2)
    model = dual(tau=0.01)
    model.tau.backward()
    assert model.log_scale.grad.item() == pytest.approx(-0.01)  # d exp(-s) / ds: still alive at the cap
    torch.nn.init.constant_(model.log_scale, 9.0)
    assert model.tau.item() == pytest.approx(0.01, rel=1e-4)  # 1 / tau never above 100
    assert model.pairs(torch.eye(2), torch.eye(2)).tau == model.tau
    for tau in (0.005, 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="at least 0.01"):
            dual(tau=tau)
