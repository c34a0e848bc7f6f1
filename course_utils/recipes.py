"""Retrievers by name, one line apart: which towers, how they meet, what a batch holds, how it is trained.

`resnet50+bert` is the classic: two pretrained towers, 256-wide projections, first those alone, then everything with a
lower rate for the towers. The numbers of the two GPU recipes come from what is published; none was run by the course.
Its batch fits into 16 GB: 64 pictures with five captions take 10 to 12 GB in half precision, by the longest caption
(counted by data_scripts/gpu_memory.py; the tokenizer cuts at 40 word pieces).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn

from course_utils import checkpoints, losses, models, text, towers
from course_utils.training import TrainConfig

_CLIP = "openai/clip-vit-base-patch16"
_LENGTH = 64  # most words of a caption that `words` reads
_ABOUT, _WORDS = "retriever.json", "tokenizer.json"


@dataclass(frozen=True)
class Recipe:
    """A retriever and its training.

    image, text: towers by the names of `towers`, or "conv" and "words", small ones from scratch ("patches" only in
    `shipped`). size: side of images.
    shared: width of the common space. tau: temperature at the start. heads: "new" projections, or "identity" for towers
    that share a space already. batch_size: pictures in a step, over all processes; captions: of each picture.
    """

    name: str
    image: str
    text: str
    train: TrainConfig
    size: int = 224
    shared: int = 256
    tau: float = 0.07
    heads: str = "new"
    batch_size: int = 128
    captions: int = 1


_CLASSIC = TrainConfig(steps=4_500, learning_rate=1e-3, weight_decay=0.01, schedule="cosine", warmup=200, frozen=450,
                       tower_rate=5e-5, still_norms=True)  # fmt: skip
_FINE = replace(_CLASSIC, steps=2_000, learning_rate=1e-5, tower_rate=1e-5, frozen=0)
_LIGHT = replace(_CLASSIC, steps=300, warmup=20, frozen=150, tower_rate=1e-4)
_SMALL = TrainConfig(steps=400, learning_rate=2e-3)

RECIPES = {recipe.name: recipe for recipe in (
    Recipe("resnet50+bert", "resnet50", "bert-base-uncased", _CLASSIC, batch_size=64, captions=5),
    Recipe("clip-vit-b16", _CLIP, _CLIP, _FINE, shared=512, tau=0.01, heads="identity"),
    Recipe("lite0+minilm", "efficientnet_lite0", "minilm", _LIGHT, batch_size=32),
    Recipe("tiny", "conv", "words", _SMALL, size=64, shared=128),
)}  # fmt: skip


@dataclass(frozen=True)
class Retriever:
    """A model with what belongs to it. tokenize: sentences -> (tokens, token_mask), each (B,L)."""

    recipe: Recipe
    model: models.DualEncoder
    tokenizer: Tokenizer
    tokenize: Callable


def build(recipe: Recipe, captions: Sequence[str] = (), pretrained: bool = True) -> Retriever:
    """Make the recipe's model. captions: whose words "words" will know; other text towers bring their vocabulary.

    pretrained=False builds towers of the same shapes with random weights. Raises towers.MissingWeights, which says
    which weights, from where, and what to use instead.
    """
    if recipe.text == "words":
        if isinstance(captions, str) or not any(isinstance(one, str) and one.split() for one in captions):
            raise ValueError(
                f"build: {recipe.name!r} knows the words of its captions alone; pass captions=train.texts."
            )
        return _assembled(recipe, text.word_tokenizer(word for one in captions for word in one.split()), pretrained)
    return _assembled(recipe, None, pretrained)


def save(retriever: Retriever, folder: Path | str) -> None:
    """Note beside the checkpoints what `load` needs: the recipe and the tokenizer."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = json.dumps(as_json(retriever.recipe), indent=1) + "\n"
    for name, content in ((_WORDS, retriever.tokenizer.to_str()), (_ABOUT, about)):
        (folder / f"{name}.part").write_text(content, encoding="utf-8")
        os.replace(folder / f"{name}.part", folder / name)


def load(folder: Path | str, which: str = "best") -> Retriever:
    """A trained retriever, its best or its last weights, in evaluation mode on the CPU.

    Raises FileNotFoundError or checkpoints.CheckpointError, naming the file.
    """
    folder = Path(folder)
    found = checkpoints.read(folder, which)
    try:
        recipe = from_json(json.loads((folder / _ABOUT).read_text(encoding="utf-8")))
        words = Tokenizer.from_file(str(folder / _WORDS))
    except FileNotFoundError:
        raise
    except Exception as error:  # tokenizers raises no narrower kind
        raise checkpoints.CheckpointError(f"{folder / _ABOUT} or {_WORDS} beside it is damaged ({error!r}).") from error
    retriever = _assembled(recipe, words, pretrained=False)
    if recipe.train.channels_last:
        retriever.model.to(
            memory_format=torch.channels_last
        )  # as it was trained: sums in another order round otherwise
    checkpoints.restore(found, retriever.model)
    retriever.model.eval()
    return retriever


def as_json(recipe: Recipe) -> dict:
    """The recipe as JSON can hold it."""
    about = asdict(recipe)
    about["train"]["dtype"] = str(recipe.train.dtype)
    return about


def from_json(about: dict) -> Recipe:
    """What `as_json` made, as a recipe again. Raises KeyError, TypeError or ValueError for anything else."""
    train = dict(about["train"])
    train["dtype"] = getattr(torch, train["dtype"].removeprefix("torch."))
    return Recipe(**{one.name: about[one.name] for one in fields(Recipe)} | {"train": TrainConfig(**train)})


def contrast(pairs, batch, gather: Callable = losses.gather_rows) -> torch.Tensor:
    """The loss of all recipes: CLIP's, with positives by image id, over the rows of all processes."""
    return losses.clip_loss(gather(pairs.z_img), gather(pairs.z_txt), pairs.tau, gather(batch["image_ids"]))


class _UnitImages(nn.Module):
    """A pretrained tower for images in [0, 1]: it scales them as the tower was trained to see them."""

    def __init__(self, tower: towers.ImageTower):
        super().__init__()
        tower.head = None  # ImageNet's classes are not asked for
        self.tower, self.width = tower, tower.width

    def forward(self, images):
        return self.tower((images - self.tower.mean) / self.tower.std)  # (B,3,H,W) -> (B,D)


def _assembled(recipe: Recipe, words: Tokenizer | None, pretrained: bool) -> Retriever:
    if recipe.text == "words":
        words.enable_truncation(_LENGTH)
        read = models.TransformerWords(words.get_vocab_size(), _LENGTH)

        def tokenize(sentences):
            return text.encode(words, sentences)
    else:
        read = towers.load_text_tower(recipe.text, pretrained)
        if words is not None:
            read = _reading(read, words)
        words, tokenize = read.tokenizer, read.preprocess
    if recipe.image == "conv":
        see = models.ConvTower(recipe.size)
    else:
        see = _UnitImages(towers.load_image_tower(recipe.image, pretrained))
    model = models.DualEncoder(see, read, recipe.shared, recipe.tau)
    if recipe.heads == "identity":
        for head in (model.image_head, model.text_head):
            nn.init.eye_(head.weight)
            nn.init.zeros_(head.bias)
    return Retriever(recipe, model, words, tokenize)


def _reading(tower: towers.TextTower, words: Tokenizer) -> towers.TextTower:
    """The same tower over another vocabulary; CLIP must know which token ends a sentence."""
    end = words.token_to_id("<|endoftext|>")
    inner = getattr(tower.body, "text_model", None)
    if end is not None and inner is not None:
        inner.eos_token_id = end
    length = words.truncation["max_length"] if words.truncation else 256
    return towers.TextTower(tower.body, tower.width, words, tower.readout, length)
