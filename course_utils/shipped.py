"""Retrievers that were trained beforehand and come with the package, so that a lesson starts at once.

    retriever = shipped.load("scenes_foils")       # a recipes.Retriever: model, tokenizer, tokenize
    shipped.card("scenes_foils")["records"]        # and data, seed, recipe, commit: what the stored weights reach

| name | what it is | for Grad-CAM hook |
|---|---|---|
| scenes_plain | lesson 02's model, random pairs: blind to the order of words | `image_tower.features[5]`, 16 x 16 |
| scenes_foils | the same with twins in the batch: it knows left from right | `image_tower.features[5]`, 16 x 16 |
| patches | the same task, a tower of patches with a class token | `image_tower.blocks[1].norm`, 8 x 8 by `as_map` |
| patches_mean | the same with the patches' mean in place of the token | `image_tower.blocks[3].norm`, 8 x 8 likewise |
| tiny | the recipe of that name: one to four stamps, five captions | `image_tower.features[5]`, 16 x 16 |
| lite0+minilm | two projections over the towers that come as packages | `image_tower.tower.body.bn2`, 7 x 7 |

A folder of `data/checkpoints` holds `model.safetensors`, `retriever.json`, `tokenizer.json` where words are the model's
own, and `card.json`, which has the SHA-256 of the others. Matrices are stored as 8-bit whole numbers with one scale a
row, as the shipped features are, everything else as 16-bit floats; a card's records were measured on what is stored.
`data_scripts/train_checkpoints.py` makes them again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from tokenizers import Tokenizer

from course_utils import models, recipes, text
from course_utils.checkpoints import CheckpointError

FORMAT = 1
STORED_AS = "matrices as 8-bit whole numbers with one fp16 scale a row, everything else as fp16"
FOLDER = Path(__file__).resolve().parent / "data" / "checkpoints"
_CARD, _WEIGHTS, _ABOUT, _WORDS = "card.json", "model.safetensors", "retriever.json", "tokenizer.json"
_MATRIX = 1024  # tensors of two dimensions and more that hold so many numbers are stored in 8 bits
_SCALE = "/scale"
_MEND = "Install the package again, or make it again with data_scripts/train_checkpoints.py."


def names(folder: Path = FOLDER) -> tuple[str, ...]:
    """What `load` knows, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in Path(folder).glob(f"*/{_CARD}")))


def card(name: str, folder: Path = FOLDER) -> dict:
    """What is known of a retriever: data, seed, recipe, commit, seconds, versions, held-out scenes, records.

    A record has name, value, interval (95 %, drawn by scene) and chance. Raises ValueError for an unknown name,
    checkpoints.CheckpointError for a damaged card or one of another format.
    """
    if name not in names(folder):
        raise ValueError(f"no shipped retriever is called {name!r}; there are {', '.join(names(folder)) or 'none'}.")
    path = Path(folder) / name / _CARD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        number, files = found["format"], dict(found["files"])
        if not {_WEIGHTS, _ABOUT} <= files.keys():
            raise KeyError("files")
    except (ValueError, KeyError, TypeError) as error:  # JSON's and UTF-8's errors are ValueErrors
        raise CheckpointError(f"{path} is damaged ({error!r}). {_MEND}") from error
    if number != FORMAT:
        raise CheckpointError(f"{path} is of format {number}, this edition reads {FORMAT}. {_MEND}")
    return found


def load(name: str, folder: Path = FOLDER) -> recipes.Retriever:
    """The retriever of that name, in evaluation mode on the CPU. The global generator is left as it was.

    Raises what `card` raises, CheckpointError naming the file where one is missing or damaged, and
    towers.MissingWeights where the package of a pretrained tower is not installed.
    """
    where = Path(folder) / name
    parts = {part: _verified(where / part, digest) for part, digest in card(name, folder)["files"].items()}
    try:
        about = json.loads(parts[_ABOUT])
        recipe, stored = recipes.from_json(about["recipe"]), tuple(about["stored"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where / _ABOUT} does not fit this edition ({error!r}). {_MEND}") from error
    with torch.random.fork_rng(devices=[]):  # weights are drawn first, then replaced
        if recipe.text == "words":
            retriever = _of_words(recipe, about, Tokenizer.from_str(parts[_WORDS].decode("utf-8")))
        else:
            retriever = recipes.build(recipe)
    state = retriever.model.state_dict()
    wanted = {key: value for key, value in state.items() if key.startswith(stored)}
    found = _unpacked(safetensors.torch.load(parts[_WEIGHTS]))
    if {key: value.shape for key, value in found.items()} != {key: value.shape for key, value in wanted.items()}:
        raise CheckpointError(f"{where / _WEIGHTS} holds other tensors than this edition's model. {_MEND}")
    retriever.model.load_state_dict(state | found)
    retriever.model.to(memory_format=torch.channels_last).eval()
    return retriever


def write(retriever: recipes.Retriever, about: dict, folder: Path, stored: tuple[str, ...] = ("",)) -> None:
    """Store a retriever in `folder`, whose last part is its name, with a card that holds `about`.

    stored: how the names of the tensors begin that are kept; the others come from packages. Overwrites.
    Raises ValueError for weights that are not finite in 16 bits.
    """
    recipe, model, folder = retriever.recipe, retriever.model, Path(folder)
    noted = {"recipe": recipes.as_json(recipe), "stored": list(stored)}
    if recipe.text == "words":
        noted["length"] = model.text_tower.length
    if recipe.image == "patches":
        tower = model.image_tower
        noted["patches"] = {"patch": tower.size // tower.side, "width": tower.width, "depth": len(tower.blocks),
                            "heads": tower.blocks[0].attention.heads, "pool": tower.pool}  # fmt: skip
    kept = {key: value for key, value in model.state_dict().items() if key.startswith(tuple(stored))}
    parts = {_WEIGHTS: safetensors.torch.save(_packed(kept)), _ABOUT: _json(noted)}
    if recipe.text == "words":
        parts[_WORDS] = retriever.tokenizer.to_str().encode("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in parts.items():
        (folder / part).write_bytes(content)
    files = {part: hashlib.sha256(content).hexdigest() for part, content in parts.items()}
    about = {**about, "recipe": noted["recipe"], "stored_as": STORED_AS, "files": files}
    (folder / _CARD).write_bytes(_json({"format": FORMAT, **about}))


def _of_words(recipe: recipes.Recipe, about: dict, words: Tokenizer) -> recipes.Retriever:
    """Towers from scratch, whose vocabulary is the tokenizer's."""
    if recipe.image == "patches":
        see = models.PatchTower(recipe.size, **about["patches"])
    else:
        see = models.ConvTower(recipe.size)
    read = models.TransformerWords(words.get_vocab_size(), about["length"])
    model = models.DualEncoder(see, read, recipe.shared, recipe.tau)
    return recipes.Retriever(recipe, model, words, lambda sentences: text.encode(words, sentences))


def _verified(path: Path, digest: str) -> bytes:
    """A file's content, once its SHA-256 is found right."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}). {_MEND}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise CheckpointError(f"{path} is damaged: its SHA-256 begins {found[:12]}, not {digest[:12]}. {_MEND}")
    return content


def _packed(state: dict) -> dict:
    """Weights as they are stored: a matrix in 8 bits, one scale a row of its first dimension; the rest in 16."""
    packed = {}
    for key, value in state.items():
        value = value.detach().cpu().float()
        if value.ndim >= 2 and value.numel() >= _MATRIX:
            rows = value.flatten(1)  # (N,...) -> (N,D)
            scale = (rows.abs().amax(dim=1) / 127).clamp(min=1e-6).half()  # (N,)
            whole = (rows / scale[:, None].float()).round().clamp(-127, 127).to(torch.int8)  # (N,D)
            packed |= {key: whole.view(value.shape).contiguous(), key + _SCALE: scale}
        else:
            packed[key] = value.half().contiguous()
    if not all(value.isfinite().all() for value in packed.values()):
        raise ValueError("write: a weight is NaN, or too large for 16 bits.")
    return packed


def _unpacked(packed: dict) -> dict:
    """`_packed` undone: fp32."""
    state = {}
    for key, value in packed.items():
        if key + _SCALE in packed:
            state[key] = value.float() * packed[key + _SCALE].float().view(-1, *[1] * (value.ndim - 1))
        elif not key.endswith(_SCALE):
            state[key] = value.float()
    return state


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
