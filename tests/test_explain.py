"""Maps and attributions: against captum and plain loops, on pooled and flattened CNNs and on patches; and refusals."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, LayerGradCam, LayerIntegratedGradients, Occlusion
from torch import nn
from torchvision.models import resnet18

from course_utils import explain
from course_utils.attention import MultiHeadAttention
from course_utils.models import ConvTower, DualEncoder, TransformerWords

SIDE, PATCH, ROWS = 32, 8, 4


class Pooled(nn.Module):
    """A CNN that pools, as most do."""

    def __init__(self, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace=True),
            nn.Conv2d(12, 20, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.project, self.width = nn.Linear(20, width), width

    def forward(self, images):
        return self.project(self.features(images).mean(dim=(2, 3)))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(width), MultiHeadAttention(width, 2), nn.Linear(width, width)

    def forward(self, x):
        normed = self.norm(x)
        x = x + self.attention(normed, normed)[0]
        return x + self.mlp(x).relu()


class Patches(nn.Module):
    """A small vision transformer, read by a class token or by the mean of its patches."""

    def __init__(self, class_token, width=16, layers=2):
        super().__init__()
        self.cut = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.places = nn.Parameter(torch.randn(1, ROWS**2 + class_token, width))
        self.first = nn.Parameter(torch.randn(1, 1, width)) if class_token else None
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.width = width

    def forward(self, images):
        x = self.cut(images).flatten(2).transpose(1, 2)  # (B,P,D)
        if self.first is not None:
            x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1)
        x = self.blocks(x + self.places)
        return x.mean(dim=1) if self.first is None else x[:, 0]


def dual(tower):
    torch.manual_seed(0)
    model = DualEncoder(tower(), TransformerWords(30, 12, width=16, layers=1, heads=2), shared=8)
    return model.eval()


def pictures(count=3, seed=1):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def sentences(model, count=4):
    tokens = torch.randint(2, 30, (count, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(6) < torch.arange(count)[:, None] + 3
    return tokens * mask, mask, model.encode_text(tokens * mask, mask).detach()


TOWERS = {
    "pooled": (Pooled, "image_tower.features", None),
    "pooled, below": (Pooled, "image_tower.features.1", None),  # the next layer works in place
    "flattened": (lambda: ConvTower(SIDE, width=16), "image_tower.features", None),
    "patches, mean": (lambda: Patches(False), "image_tower.blocks.1", lambda x: explain.tokens_to_map(x, ROWS, ROWS)),
    "patches, class": (
        lambda: Patches(True),
        "image_tower.blocks.1.norm",
        lambda x: explain.tokens_to_map(x, ROWS, ROWS, skip=1),
    ),
}


@pytest.fixture(params=TOWERS)
def case(request):
    tower, layer, to_map = TOWERS[request.param]
    model = dual(tower)
    return model, model.get_submodule(layer), to_map


def by_hook(model, layer, to_map, images, z_txt):
    """The way that teaches: one picture and one sentence at a time."""
    maps = torch.empty(0)
    for image, z in itertools.product(images, z_txt):
        with explain.Watch(layer) as seen:
            score = model.encode_image(image[None]) @ z
        (gradient,) = torch.autograd.grad(score.sum(), seen.output)
        shaped = [x if to_map is None else to_map(x) for x in (seen.output, gradient)]
        maps = torch.cat([maps, explain.grad_cam(*shaped)])
    return maps.unflatten(0, (len(images), len(z_txt))).detach()


def test_the_fast_way_equals_the_hook(case):
    model, layer, to_map = case
    images, (_, _, z_txt) = pictures(), sentences(model)
    wanted = by_hook(model, layer, to_map, images, z_txt)
    assert wanted.amax(dim=(2, 3)).gt(0).float().mean() > 0.3  # maps that are not all cut off
    torch.testing.assert_close(explain.grad_cams(model.encode_image, layer, images, z_txt, to_map), wanted)


def test_more_sentences_than_dimensions_give_the_same_maps(case):
    model, layer, to_map = case
    z_txt = F.normalize(torch.randn(21, 8, generator=torch.Generator().manual_seed(3)), dim=-1)
    for average in (True, False):
        many = explain.grad_cams(model.encode_image, layer, pictures(), z_txt, to_map, average)
        parts = [explain.grad_cams(model.encode_image, layer, pictures(), part, to_map, average)
                 for part in z_txt.split(7)]  # fmt: skip
        torch.testing.assert_close(many, torch.cat(parts, dim=1), rtol=1e-4, atol=1e-6)


def test_frozen_towers_and_a_callers_no_grad_change_nothing(case):
    model, layer, to_map = case
    images, (_, _, z_txt) = pictures(), sentences(model)
    maps = explain.grad_cams(model.encode_image, layer, images, z_txt, to_map)
    with torch.no_grad():
        torch.testing.assert_close(explain.grad_cams(model.encode_image, layer, images, z_txt, to_map), maps)
        assert not torch.is_grad_enabled()
    model.requires_grad_(False)
    torch.testing.assert_close(explain.grad_cams(model.encode_image, layer, images, z_txt, to_map), maps)
    assert torch.is_grad_enabled()
    assert not layer._forward_hooks


@pytest.mark.parametrize("name", ["pooled", "flattened"])
def test_grad_cam_equals_captum(name):
    model, layer = dual(TOWERS[name][0]), None
    layer = model.get_submodule(TOWERS[name][1])
    images, (_, _, z_txt) = pictures(), sentences(model)
    maps = explain.grad_cams(model.encode_image, layer, images, z_txt)
    for k, z in enumerate(z_txt):
        theirs = LayerGradCam(lambda x, z=z: model.encode_image(x) @ z, layer).attribute(images, relu_attributions=True)
        torch.testing.assert_close(maps[:, k], theirs[:, 0].detach(), rtol=1e-4, atol=1e-6)


def test_grad_cam_equals_captum_on_resnet18():
    torch.manual_seed(0)
    body = resnet18(num_classes=8).eval()

    def encode(images):
        return F.normalize(body(images), dim=-1)

    images, z_txt = pictures(2), F.normalize(torch.randn(3, 8), dim=-1)
    for layer in (body.layer4, body.layer3, body.layer4[1].conv1):  # what follows conv1 works in place
        maps = explain.grad_cams(encode, layer, images, z_txt)
        for k, z in enumerate(z_txt):
            theirs = LayerGradCam(lambda x, z=z: encode(x) @ z, layer).attribute(images, relu_attributions=True)
            torch.testing.assert_close(maps[:, k], theirs[:, 0].detach(), rtol=1e-3, atol=1e-6)


def test_clips_tower_is_explained_at_its_patches():
    """Tokens of a tower that we did not write, with a class token in front; its layers give tuples in some versions."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                              image_size=SIDE, patch_size=PATCH, projection_dim=8)  # fmt: skip
    tower = CLIPVisionModelWithProjection(config).eval()
    layers = next(part for name, part in tower.named_modules() if name.endswith("encoder.layers"))
    images, z_txt = pictures(2), F.normalize(torch.randn(3, 8), dim=-1)

    def encode(images):
        return F.normalize(tower(images).image_embeds, dim=-1)

    def to_map(tokens):
        return explain.tokens_to_map(tokens, ROWS, ROWS, skip=1)

    for layer in (layers[-1].layer_norm1, layers[0]):
        maps = explain.grad_cams(encode, layer, images, z_txt, to_map)
        for i, k in itertools.product(range(2), range(3)):
            with explain.Watch(layer) as seen:
                score = encode(images[i : i + 1]) @ z_txt[k]
            (gradient,) = torch.autograd.grad(score, seen.output)
            wanted = explain.grad_cam(to_map(seen.output), to_map(gradient))[0]
            torch.testing.assert_close(maps[i, k], wanted.detach(), rtol=1e-3, atol=1e-7)
    with pytest.raises(ValueError, match="take a layer before it"):
        explain.grad_cams(encode, layers[-1], images, z_txt, to_map)


def test_the_closed_form_for_pooling_projection_and_cosine():
    """With mean pooling and linear layers above, Grad-CAM's weights need no autograd at all."""
    model = dual(Pooled)
    layer, images, (_, _, z_txt) = model.image_tower.features, pictures(), sentences(model)[:3]
    with explain.Watch(layer) as seen, torch.no_grad():
        z_img = model.encode_image(images)
    raw = model.image_head(model.image_tower(images)).norm(dim=1)
    along = z_txt[None] - (z_img @ z_txt.T)[..., None] * z_img[:, None]  # (B,K,E) gradient of a cosine, times |raw|
    weights = along / raw[:, None, None] @ model.image_head.weight @ model.image_tower.project.weight  # (B,K,C)
    places = seen.output[0, 0].numel()
    closed = torch.einsum("bkc,bchw->bkhw", weights / places, seen.output).relu()
    torch.testing.assert_close(explain.grad_cams(model.encode_image, layer, images, z_txt), closed.detach())


def test_without_averaging_it_is_gradient_times_activation(case):
    model, layer, to_map = case
    images, (_, _, z_txt) = pictures(2), sentences(model)
    maps = explain.grad_cams(model.encode_image, layer, images, z_txt, to_map, average=False)
    for i, k in itertools.product(range(2), range(4)):
        with explain.Watch(layer) as seen:
            score = model.encode_image(images[i : i + 1]) @ z_txt[k]
        (gradient,) = torch.autograd.grad(score, seen.output)
        product = seen.output * gradient
        product = product if to_map is None else to_map(product)
        torch.testing.assert_close(maps[i, k], product.sum(dim=1)[0].relu().detach(), rtol=1e-4, atol=1e-6)


def test_watching_one_output_of_several():
    model = dual(lambda: Patches(True))
    attention = model.image_tower.blocks[0].attention
    with explain.Watch(attention, item=1) as seen:
        model.encode_image(pictures())
    assert seen.output.shape == (3, 2, 17, 17)
    torch.testing.assert_close(seen.output.sum(dim=-1), torch.ones(3, 2, 17))
    assert not attention._forward_hooks


def score_of(model, z_txt):
    return lambda images: (
        model.encode_image(images) @ z_txt.mT if z_txt.ndim == 2 else model.encode_image(images) @ z_txt
    )


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 4), (16, 8), (32, 1)])
def test_occlusion_equals_captum(window, stride):
    model = dual(Pooled)
    image, grey, (_, _, z_txt) = pictures(1)[0], torch.full((3, SIDE, SIDE), 0.5), sentences(model)
    maps = explain.occlusion(score_of(model, z_txt), image, grey, window, stride, batch=5)
    assert maps.shape == (4, SIDE, SIDE)
    theirs = Occlusion(lambda x: model.encode_image(x) @ z_txt[1])
    theirs = theirs.attribute(image[None], (3, window, window), (3, stride, stride), baselines=grey[None])
    torch.testing.assert_close(maps[1], theirs[0, 0].float(), rtol=1e-4, atol=1e-6)
    one = explain.occlusion(score_of(model, z_txt[1]), image, grey, window, stride)
    torch.testing.assert_close(one, maps[1], rtol=1e-4, atol=1e-6)


def test_integrated_gradients_equal_captum_and_add_up():
    model = dual(lambda: ConvTower(SIDE, width=16))
    images, (_, _, z_txt) = pictures(), sentences(model)
    score, grey = score_of(model, z_txt[0]), torch.full_like(images, 0.5)
    ours = explain.integrated_gradients(score, images, grey, steps=24, batch=7)
    theirs = IntegratedGradients(score).attribute(images, grey, n_steps=24, method="gausslegendre")
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(ours.sum(dim=(1, 2, 3)), (score(images) - score(grey)).detach(), atol=1e-5, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(explain.integrated_gradients(score, images, grey, 24), ours, rtol=1e-3, atol=1e-7)


def test_word_attribution_equals_captum_and_adds_up():
    model = dual(Pooled)
    tokens, mask, _ = sentences(model)
    z_img = model.encode_image(pictures(1))[0].detach()
    absent, embedding = 1, model.text_tower.words

    def score(tokens, token_mask):
        return model.encode_text(tokens, token_mask) @ z_img

    ours = explain.word_attribution(score, embedding, tokens, mask, absent, steps=24)
    nothing = torch.where(mask, absent, tokens)
    theirs = LayerIntegratedGradients(score, embedding).attribute(
        tokens, nothing, additional_forward_args=(mask,), n_steps=24
    )
    torch.testing.assert_close(ours, theirs.sum(dim=-1).float(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        ours.sum(dim=1), (score(tokens, mask) - score(nothing, mask)).detach(), atol=1e-4, rtol=0
    )
    assert (ours[~mask] == 0).all()
    assert not embedding._forward_hooks


def test_rollout_adds_up_all_paths():
    generator = torch.Generator().manual_seed(4)
    attentions = [torch.randn(2, 3, 4, 4, generator=generator).softmax(dim=-1) for _ in range(3)]
    steps = [(attn.mean(dim=1) + torch.eye(4)) / 2 for attn in attentions]
    wanted = torch.zeros(2, 4, 4)
    for path in itertools.product(range(4), repeat=4):  # from input token path[0] up to output token path[3]
        weight = 1.0
        for step, low, high in zip(steps, path, path[1:]):
            weight = weight * step[:, high, low]
        wanted[:, path[3], path[0]] += weight
    found = explain.rollout(attentions)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 4))
    torch.testing.assert_close(explain.rollout(attentions[:1]), steps[0])


def test_forgetting_goes_part_by_part():
    model = dual(Pooled)
    parts = ["image_head", "image_tower.project", "image_tower.features.3"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for k, (name, copy) in enumerate(explain.randomised(model, parts, seed=5)):
        assert name == parts[k]
        for key, value in copy.state_dict().items():
            same = torch.equal(value, before[key])
            assert same == (not key.startswith(tuple(part + "." for part in parts[: k + 1]))), key
            torch.testing.assert_close(value.flatten().sort().values, before[key].flatten().sort().values)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = [copy.state_dict() for _, copy in explain.randomised(model, parts, seed=5)]
    assert torch.equal(again[-1]["image_head.weight"], copy.state_dict()["image_head.weight"])
    other = [copy.state_dict() for _, copy in explain.randomised(model, parts, seed=6)]
    assert not torch.equal(other[-1]["image_head.weight"], copy.state_dict()["image_head.weight"])


# What is refused ------------------------------------------------------------------------------------------------------


def refused(message, call, *arguments, **settings):
    with pytest.raises(ValueError, match=message):
        call(*arguments, **settings)


def test_a_model_in_training_mode():
    model = dual(Pooled)
    tokens, mask, z_txt = sentences(model)
    layer, message = model.image_tower.features, r"training mode.*model.eval\(\)"
    model.image_tower.features[1].train()
    refused(message, explain.grad_cams, lambda x: model.encode_image(x), layer, pictures(), z_txt)
    model.eval().text_tower.train()
    refused(message, explain.grad_cams, model.encode_image, layer, pictures(), z_txt)
    refused(message, explain.word_attribution, lambda *x: x, model.text_tower.train(), tokens, mask, 1)
    noisy = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * SIDE * SIDE, 1), nn.Flatten(0))
    refused("twice; is a model in training mode", explain.occlusion, noisy, pictures(1)[0], pictures(1, 9)[0], 8, 8)
    refused("twice; is a model in training mode", explain.integrated_gradients, noisy, pictures(2), pictures(2, 9))


def test_a_layer_that_cannot_be_explained():
    model = dual(Pooled)
    tower, images, (_, _, z_txt) = model.image_tower, pictures(), sentences(model)

    def cams(layer, encode=model.encode_image, to_map=None):
        return explain.grad_cams(encode, layer, images, z_txt, to_map)

    refused("Linear has no activations", cams, model.text_head)
    refused(r"Linear gives \(3, 16\), no maps", cams, tower.project)
    with explain.Watch(model.text_head) as seen:
        model.encode_image(images)
    refused("Linear has no activations", lambda: seen.output)

    def without_graph(images):
        maps = tower.features(images)
        with torch.no_grad():
            return model.image_head(tower.project(maps.mean(dim=(2, 3))))

    refused(r"no gradient reaches.*no_grad\(\)", cams, tower.features, without_graph)
    refused("runs more than once", cams, tower.features, lambda x: model.encode_image(x) + model.encode_image(x))
    tokens = dual(lambda: Patches(True))
    layer, to_map = tokens.image_tower.blocks[1], TOWERS["patches, class"][2]
    refused("take a layer before it", cams, layer, tokens.encode_image, to_map)
    refused("for tokens pass to_map", cams, layer, tokens.encode_image)
    for one in (model, tokens):
        assert not any(part._forward_hooks for part in one.modules())
    assert torch.is_grad_enabled()


def test_padding_nan_and_shapes():
    model = dual(Pooled)
    images, (tokens, mask, z_txt) = pictures(), sentences(model)
    layer, encode = model.image_tower.features, model.encode_image
    empty = mask.clone()
    empty[2] = False
    words = model.text_tower.words
    refused("sentence 2 is padding only", explain.word_attribution, model.encode_text, words, tokens, empty, 1)
    refused("is a sentence only padding", explain.grad_cams, encode, layer, images, model.encode_text(tokens, empty))
    refused(r"z_txt \(8,\) must be", explain.grad_cams, encode, layer, images, z_txt[0])
    refused(r"encode gave \(3, 8\) for z_txt \(4, 7\)", explain.grad_cams, encode, layer, images, z_txt[:, :7])
    refused(r"\(B,E\) and \(K,E\), finite", explain.grad_cams, encode, layer, images * torch.nan, z_txt)
    refused("took no part", explain.word_attribution, lambda t, m: t.float().sum(1), words, tokens, mask, 1)
    image, score = images[0], score_of(model, z_txt)
    refused("do not cover 32x32 pixels evenly", explain.occlusion, score, image, image, 8, 5)
    refused("do not cover 32x32 pixels evenly", explain.occlusion, score, image, image, 4, 8)
    refused(r"instead \(3, 32, 31\)", explain.occlusion, score, image, image[..., 1:], 8, 8)
    refused("NaN or infinite", explain.occlusion, lambda x: x.sum(dim=(1, 2, 3)) * torch.nan, image, image, 8, 8)
    refused(r"baseline \(1, 3, 32, 32\)", explain.integrated_gradients, score, images, images[:1])
    refused(r"scores \(96, 4\) of 96 rows must be", explain.integrated_gradients, score, images, images, batch=96)
    refused("must be.*finite", explain.integrated_gradients, lambda x: x.sum(dim=(1, 2, 3)) / 0, images, images)
    refused(r"4 x 4 tokens wanted; got \(1, 15, 2\)", explain.tokens_to_map, torch.zeros(1, 15, 2), 4, 4)
    refused("for tokens see tokens_to_map|For tokens", explain.grad_cam, torch.zeros(1, 15, 2), torch.zeros(1, 15, 2))
    refused("no attentions given", explain.rollout, [])
    refused(r"all alike; got \(1, 2, 4, 5\)", explain.rollout, [torch.zeros(1, 2, 4, 5)])
    refused("before the softmax", explain.rollout, [torch.zeros(1, 2, 4, 4)])
    refused("no part 'features'; known are image_tower", lambda: next(explain.randomised(model, ["features"])))
