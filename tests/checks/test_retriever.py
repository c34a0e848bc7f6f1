"""Checks of lesson 06: the solution and other spellings pass, what people really write is named, nothing leaks."""

import copy
import math
import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import Contract, by_number

from course_utils import metrics
from course_utils.checks import retriever as checks
from course_utils.checks._outcome import WrongAnswer

BY_NUMBER = by_number(checks)
VALUES = ("6.5", "6.8")  # exercises whose answer is a value


# 6.1


def recall_both_ways(scores, owners, k):
    right = torch.arange(len(scores))[:, None] == owners
    found = right.gather(1, scores.topk(k, dim=1).indices).any(dim=1).float().mean()
    return found, right.T.gather(1, scores.T.topk(k, dim=1).indices).any(dim=1).float().mean()


def recall_loops(scores, owners, k):
    scores, owners = scores.tolist(), owners.tolist()
    pictures = captions = 0
    for i, row in enumerate(scores):
        best = sorted(range(len(row)), key=lambda j: -row[j])[:k]
        pictures += any(owners[j] == i for j in best)
    for j, owner in enumerate(owners):
        best = sorted(range(len(scores)), key=lambda i: -scores[i][j])[:k]
        captions += owner in best
    return pictures / len(scores), captions / len(owners)


def recall_counting(scores, owners, k):
    """By how many are better; NumPy alone."""
    right = np.arange(len(scores))[:, None] == np.asarray(owners)
    scores = np.asarray(scores)
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    own = scores[np.asarray(owners), np.arange(scores.shape[1])]
    return ((scores > best).sum(axis=1) < k).mean(), ((scores > own).sum(axis=0) < k).mean()


def recall_only_numpy(scores, owners, k):
    """Of a learner who was given arrays: torch has neither .astype nor negative steps."""
    order = scores.argsort(axis=1)[:, ::-1][:, :k]
    other = scores.T.argsort(axis=1)[:, ::-1][:, :k]
    first = (owners[order] == np.arange(len(scores))[:, None]).any(axis=1).astype(float).mean()
    return [first, (other == owners[:, None]).any(axis=1).astype(float).mean()]


def truth(scores, owners):
    return torch.arange(len(scores))[:, None] == owners


def top(scores, right, k, largest=True):
    return right.gather(1, scores.topk(k, dim=1, largest=largest).indices)


def with_truth(change):
    """image_to_text as `change` has it, text_to_image right."""

    def wrong(scores, owners, k):
        return change(scores, truth(scores, owners), k), recall_both_ways(scores, owners, k)[1]

    return wrong


def second(change):
    def wrong(scores, owners, k):
        return recall_both_ways(scores, owners, k)[0], change(scores, truth(scores, owners), k)

    return wrong


def first_caption(scores, right, k):
    return top(scores, right & (right.cumsum(dim=1) == 1), k).any(dim=1).float().mean()


def fives(scores, owners, k):
    return recall_both_ways(scores, torch.arange(scores.shape[1]) // 5, k)


def diagonal(scores, owners, k):
    eye = torch.eye(*scores.shape, dtype=torch.bool)
    return top(scores, eye, k).any(dim=1).float().mean(), top(scores.T, eye.T, k).any(dim=1).float().mean()


def times(factor):
    return lambda scores, owners, k: tuple(factor * one for one in recall_both_ways(scores, owners, k))


# 6.2


def state(tower):
    return {name: value.clone() for name, value in tower.state_dict().items()}


def left_alone(train, tower, batches):
    before = state(tower)
    train(tower, batches)
    return all(torch.equal(before[name], value) for name, value in tower.state_dict().items())


def left_alone_copy(train, tower, batches):
    kept = copy.deepcopy(tower)
    train(tower, batches[:2])
    pairs = zip([*kept.parameters(), *kept.buffers()], [*tower.parameters(), *tower.buffers()])
    return not any((one != other).any() for one, other in pairs)


def left_alone_bytes(train, tower, batches):
    def told():
        return b"".join(value.detach().numpy().tobytes() for value in tower.state_dict().values())

    before = told()
    train(tower, batches)
    return np.bool_(before == told())


def compares(what, same=torch.equal, keep=lambda value: value.detach().clone()):
    """A test of some of the tower's tensors."""

    def test(train, tower, batches):
        before = [keep(value) for value in what(tower)]
        train(tower, batches)
        return all(same(one, other) for one, other in zip(before, what(tower)))

    return test


def everything(tower):
    return [value.float() if not value.is_floating_point() else value for value in tower.state_dict().values()]


def aliased(train, tower, batches):
    before = tower.state_dict()
    train(tower, batches)
    return all(torch.equal(before[name], value) for name, value in tower.state_dict().items())


def outputs_in_training(train, tower, batches):
    tower.train()
    before = tower(batches[0])
    train(tower, batches)
    tower.train()
    return torch.equal(before, tower(batches[0]))


def outputs_as_judged(train, tower, batches):
    before = tower.eval()(batches[0])
    train(tower, batches)
    return torch.equal(before, tower.eval()(batches[0]))


def flags(train, tower, batches):
    train(tower, batches)
    return not any(p.requires_grad for p in tower.parameters())


def mode(train, tower, batches):
    train(tower, batches)
    return not tower.training


def gradients(train, tower, batches):
    train(tower, batches)
    return all(p.grad is None for p in tower.parameters())


def losses_agree(train, tower, batches):
    return train(tower, batches) == train(tower, batches)


def left_alone_asserts(train, tower, batches):
    assert left_alone(train, tower, batches)
    return True


# 6.3


def rate(step, steps, warmup, peak):
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def rate_torch(step, steps, warmup, peak):
    share = torch.tensor((step - warmup) / (steps - warmup))
    return peak * torch.where(share < 0, torch.tensor((step + 1) / (warmup + 1)), (1 + torch.cos(math.pi * share)) / 2)


def rate_numpy(step, steps, warmup, peak):
    points = np.linspace(0, np.pi, steps - warmup + 1)[:-1]
    return np.concatenate([np.arange(1, warmup + 1) / (warmup + 1), np.cos(points / 2) ** 2])[step] * peak


def rising(climb):
    return lambda step, steps, warmup, peak: (
        climb(step, warmup, peak) if step < warmup else rate(step, steps, warmup, peak)
    )


def falling(fall):
    """fall(step, steps, warmup) in units of the peak."""

    def wrong(step, steps, warmup, peak):
        return rate(step, steps, warmup, peak) if step < warmup else peak * fall(step, steps, warmup)

    return wrong


def cosine(share):
    return (1 + math.cos(math.pi * share)) / 2


def divides_by_the_warm_up(step, steps, warmup, peak):
    return peak * step / warmup if step <= warmup else rate(step, steps, warmup, peak)


# 6.4


def parameter_groups(model, head_rate, tower_rate):
    inside = {id(p) for tower in (model.image_tower, model.text_tower) for p in tower.parameters()}
    return [
        {"params": [p for p in model.parameters() if id(p) not in inside], "lr": head_rate},
        {"params": [p for p in model.parameters() if id(p) in inside], "lr": tower_rate},
    ]


def groups_by_name(model, head_rate, tower_rate):
    named = dict(model.named_parameters())
    towers = [name for name in named if name.startswith(("image_tower.", "text_tower."))]
    return (
        {"params": model.image_tower.parameters(), "lr": tower_rate},  # a generator
        {"params": model.text_tower.parameters(), "lr": torch.tensor(tower_rate)},
        {"params": [value for name, value in named.items() if name not in towers], "lr": head_rate},
    )


def groups_one_each(model, head_rate, tower_rate):
    return [{"params": value, "lr": tower_rate if "tower." in name else head_rate}
            for name, value in model.named_parameters()]  # fmt: skip


def groups_yielded(model, head_rate, tower_rate):
    """A generator of groups of named parameters."""
    yield {"params": [pair for pair in model.named_parameters() if "_tower" in pair[0]], "lr": tower_rate}
    yield {"params": [pair for pair in model.named_parameters() if "_tower" not in pair[0]], "lr": head_rate}


def named_groups(is_head, heads_only=False):
    def wrong(model, head_rate, tower_rate):
        named = list(model.named_parameters())
        heads = [value for name, value in named if is_head(name)]
        towers = [value for name, value in named if ("tower" in name if heads_only else not is_head(name))]
        return [{"params": heads, "lr": head_rate}, {"params": towers, "lr": tower_rate}]

    return wrong


def three_names(model, head_rate, tower_rate):
    heads = [*model.image_head.parameters(), *model.text_head.parameters(), model.log_scale]
    towers = [*model.image_tower.parameters(), *model.text_tower.parameters()]
    return [{"params": heads, "lr": head_rate}, {"params": towers, "lr": tower_rate}]


def all_and_towers(model, head_rate, tower_rate):
    towers = [*model.image_tower.parameters(), *model.text_tower.parameters()]
    return [{"params": list(model.parameters()), "lr": head_rate}, {"params": towers, "lr": tower_rate}]


def by_value(model, head_rate, tower_rate):
    towers = [*model.image_tower.parameters(), *model.text_tower.parameters()]
    return [{"params": [p for p in model.parameters() if p not in towers], "lr": head_rate},
            {"params": towers, "lr": tower_rate}]  # fmt: skip


def changed_keys(old, new):
    def wrong(*arguments):
        return [{new if key == old else key: value for key, value in group.items()}
                for group in parameter_groups(*arguments)]  # fmt: skip

    return wrong


def no_rate_for_heads(model, head_rate, tower_rate):
    heads, towers = parameter_groups(model, head_rate, tower_rate)
    return [{"params": heads["params"]}, towers]


def only_the_picture_tower(model, head_rate, tower_rate):
    inside = {id(p) for p in model.image_tower.parameters()}
    return [{"params": [p for p in model.parameters() if (id(p) in inside) == yes], "lr": lr}
            for yes, lr in ((True, tower_rate), (False, head_rate))]  # fmt: skip


def without_the_text_tower(model, head_rate, tower_rate):
    inside = {id(p) for p in model.text_tower.parameters()}
    return [{"params": [p for p in group["params"] if id(p) not in inside], "lr": group["lr"]}
            for group in parameter_groups(model, head_rate, tower_rate)]  # fmt: skip


# 6.6


def paired_interval(a, b, pictures, seed):
    rng, unique = np.random.default_rng(seed), np.unique(pictures)
    rows = [np.flatnonzero(pictures == one) for one in unique]
    gain, draws = b - a, []
    for _ in range(1_000):
        chosen = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        draws.append(gain[chosen].mean())
    return (gain.mean(), *np.percentile(draws, [2.5, 97.5]))


def interval_package(a, b, pictures, seed):
    return [(b - a).mean(), *metrics.bootstrap_interval(b - a, pictures, seed)]


def interval_weights(a, b, pictures, seed):
    """Sums of each picture; torch at the end."""
    sums, counts = np.bincount(pictures, b - a), np.bincount(pictures)
    chosen = np.random.default_rng(seed).choice(len(sums), (3_000, len(sums)))
    draws = torch.tensor(sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1))
    return torch.tensor(float((b - a).mean())), *draws.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))


def drawing(draw, ends=lambda draws: np.percentile(draws, [2.5, 97.5]), middle=lambda a, b: (b - a).mean()):
    """draw(rng, a, b, pictures) -> one draw."""

    def wrong(a, b, pictures, seed):
        rng = np.random.default_rng(seed)
        draws = np.array([draw(rng, a, b, pictures) for _ in range(1_000)])
        return (middle(a, b), *ends(draws))

    return wrong


def sums_of(a, b, pictures):
    return np.bincount(pictures, a), np.bincount(pictures, b), np.bincount(pictures)


def draw_right(rng, a, b, pictures):
    before, after, counts = sums_of(a, b, pictures)
    i = rng.integers(0, len(counts), len(counts))
    return (after - before)[i].sum() / counts[i].sum()


def draw_queries(rng, a, b, pictures):
    i = rng.integers(0, len(a), len(a))
    return (b - a)[i].mean()


def draw_apart(rng, a, b, pictures):
    before, after, counts = sums_of(a, b, pictures)
    i, j = rng.integers(0, len(counts), (2, len(counts)))
    return after[i].sum() / counts[i].sum() - before[j].sum() / counts[j].sum()


def draw_isin(rng, a, b, pictures):
    chosen = rng.choice(np.unique(pictures), len(np.unique(pictures)))
    return (b - a)[np.isin(pictures, chosen)].mean()


def draw_heavy(rng, a, b, pictures):
    before, after, counts = sums_of(a, b, pictures)
    i = rng.choice(pictures, len(counts))
    return (after - before)[i].sum() / counts[i].sum()


def draw_means(rng, a, b, pictures):
    before, after, counts = sums_of(a, b, pictures)
    return ((after - before) / counts)[rng.integers(0, len(counts), len(counts))].mean()


def draw_b(rng, a, b, pictures):
    return draw_right(rng, 0 * a, b, pictures)


def without_return_of_pictures(rng, a, b, pictures):
    before, after, counts = sums_of(a, b, pictures)
    i = rng.permutation(len(counts))
    return (after - before)[i].sum() / counts[i].sum()


def small_sample(rng, a, b, pictures):
    before, after, counts = sums_of(a, b, pictures)
    i = rng.integers(0, len(counts), 10)
    return (after - before)[i].sum() / counts[i].sum()


def few_draws(a, b, pictures, seed):
    rng = np.random.default_rng(seed)
    return (b - a).mean(), *np.percentile([draw_right(rng, a, b, pictures) for _ in range(5)], [2.5, 97.5])


def unseeded(a, b, pictures, seed):
    return interval_weights(a, b, pictures, random.SystemRandom().randrange(10**9))


# 6.7


def write_whole(path, pieces):
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def write_tempfile(path, pieces):
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.writelines(pieces)
    Path(file.name).replace(path)


def write_tidy(path, pieces):
    draft = path.parent / "draft"
    try:
        draft.write_bytes(b"".join(pieces))
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return path


def write_moved(path, pieces):
    draft = f"{path}.tmp"
    with open(draft, "wb") as file:
        [file.write(piece) for piece in pieces]
    os.replace(src=draft, dst=path)


def write_by_shutil(path, pieces):
    draft = path.with_suffix(".new")
    draft.write_bytes(b"".join(pieces))
    shutil.move(draft, path)


def write_in_a_folder(path, pieces):
    """The draft in a folder of its own, beside path, which goes away with what is left."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder, "draft")
        draft.write_bytes(b"".join(pieces))
        Path(folder, "note").write_text("tidy me up")
        os.replace(draft, path)


def in_place(path, pieces):
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)


def joined(path, pieces):
    path.write_bytes(b"".join(pieces))


def appends(path, pieces):
    with path.open("ab") as file:
        for piece in pieces:
            file.write(piece)


def deletes_first(path, pieces):
    path.unlink(missing_ok=True)
    write_whole(path, pieces)


def deletes_last(path, pieces):
    draft = path.with_suffix(".part")
    draft.write_bytes(b"".join(pieces))
    if path.exists():
        os.remove(path)
    draft.rename(path)


def copies(path, pieces):
    draft = path.with_suffix(".part")
    draft.write_bytes(b"".join(pieces))
    shutil.copy(draft, path)
    draft.unlink()


def leaves_the_draft(path, pieces):
    draft = path.with_suffix(".part")
    draft.write_bytes(b"".join(pieces))
    shutil.copy(draft, path.with_suffix(".second"))
    os.replace(path.with_suffix(".second"), path)


def never_renames(path, pieces):
    path.with_suffix(".part").write_bytes(b"".join(pieces))


def swallows(path, pieces):
    try:
        write_whole(path, pieces)
    except Exception as error:
        print(f"failed: {error}")


def text_mode(path, pieces):
    with path.with_suffix(".part").open("w") as file:
        for piece in pieces:
            file.write(piece)
    path.with_suffix(".part").rename(path)


def last_piece(path, pieces):
    for piece in pieces:
        path.with_suffix(".part").write_bytes(piece)
    path.with_suffix(".part").rename(path)


def elsewhere(path, pieces):
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.writelines(pieces)
    shutil.move(file.name, path)


def finishes_anyway(path, pieces):
    draft = path.with_suffix(".part")
    try:
        with draft.open("wb") as file:
            file.writelines(pieces)
    finally:
        os.replace(draft, path)


def writes_once(path, pieces):
    draft = path.with_suffix(".part")
    with draft.open("xb") as file:
        file.writelines(pieces)
    os.replace(draft, path)


def goes_on_with_the_draft(path, pieces):
    draft = path.with_suffix(".part")
    for piece in pieces:
        with draft.open("ab") as file:
            file.write(piece)
    os.replace(draft, path)


def wraps(path, pieces):
    try:
        write_whole(path, pieces)
    except Exception as error:
        raise RuntimeError("not written") from error


def consumes(path, pieces):
    print(len(list(pieces)))
    write_whole(path, pieces)


# 6.9


def truly_wrong(scores, own, true, k):
    return 1 - true.gather(1, scores.topk(k, dim=1).indices).any(dim=1).float().mean()


def truly_wrong_numpy(scores, own, true, k):
    order = (-scores).argsort(axis=1)[:, :k].astype(int)
    return (~np.take_along_axis(true, order, axis=1).any(axis=1)).mean()


def truly_wrong_loop(scores, own, true, k):
    misses = 0
    for row, good in zip(scores.tolist(), true.tolist()):
        best = sorted(range(len(row)), key=row.__getitem__, reverse=True)[:k]
        misses += not any(good[j] for j in best)
    return misses / len(scores)


def own_only(scores, own, true, k):
    return 1 - (scores.topk(k, dim=1).indices == own[:, None]).any(dim=1).float().mean()


def counted(scores, own, true, k):
    return truly_wrong(scores, own, true, k) * len(scores)


# 6.10


def parts(encode, words, z_img):
    sentences = [words, *(words[:i] + words[i + 1 :] for i in range(len(words)))]
    scores = encode([" ".join(sentence) for sentence in sentences]) @ z_img
    return scores[0] - scores[1:]


def parts_loop(encode, words, z_img):
    whole = float(encode([" ".join(words)])[0] @ z_img)
    found = []
    for i in range(len(words)):
        left = list(words)
        del left[i]
        found.append(whole - float((encode([" ".join(left)]) @ z_img)[0]))
    return found


def parts_two_blanks(encode, words, z_img):
    rows = [" ".join(words)] + [" ".join("" if i == j else word for j, word in enumerate(words))
                                for i in range(len(words))]  # fmt: skip
    scores = (encode(rows) @ z_img[:, None])[:, 0].numpy()
    return scores[:1] - scores[1:]


def leaving(rest):
    """rest(words, i) -> the words without word i."""

    def wrong(encode, words, z_img):
        scores = encode([" ".join(words), *(" ".join(rest(list(words), i)) for i in range(len(words)))]) @ z_img
        return scores[0] - scores[1:]

    return wrong


def removed(words, i):
    words.remove(words[i])
    return words


def glued(encode, words, z_img):
    scores = encode(["".join(words), *("".join(words[:i] + words[i + 1 :]) for i in range(len(words)))]) @ z_img
    return scores[0] - scores[1:]


def own_scores(encode, words, z_img):
    return encode(words) @ z_img


def without_alone(encode, words, z_img):
    return encode([" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]) @ z_img


def pops(encode, words, z_img):
    whole, found = encode([" ".join(words)])[0] @ z_img, []
    for i in range(len(words)):
        word = words.pop(i)
        found.append(whole - encode([" ".join(words)])[0] @ z_img)
        words.append(word)
    return torch.stack(found)


def in_a_dict(encode, words, z_img):
    return list(dict(zip(words, parts(encode, words, z_img).tolist())).values())


def prefixes(encode, words, z_img):
    scores = (encode([" ".join(words[: i + 1]) for i in range(len(words))]) @ z_img).tolist()
    return [one - other for one, other in zip(scores, [0.0, *scores])]


RIGHT = [
    ("6.1", [recall_both_ways, recall_loops, recall_counting, recall_only_numpy]),
    ("6.2", [left_alone, left_alone_copy, left_alone_bytes, compares(everything)]),
    ("6.3", [rate, rate_torch, rate_numpy]),
    ("6.4", [parameter_groups, groups_by_name, groups_one_each, groups_yielded]),
    ("6.5", [134e6 * 16 / 1e9, 2.14, 2.1, np.float32(2.144), torch.tensor(2.144)]),
    ("6.6", [paired_interval, interval_package, interval_weights, drawing(draw_right)]),
    ("6.7", [write_whole, write_tempfile, write_tidy, write_moved, write_by_shutil, write_in_a_folder]),
    ("6.8", [{"weights", "moments", "step", "random state"}, ["Step", "Weights", "random_state", " moments"]]),
    ("6.9", [truly_wrong, truly_wrong_numpy, truly_wrong_loop]),
    ("6.10", [parts, parts_loop, parts_two_blanks]),
]


WRONG = {
    "6.1": [
        (lambda s, o, k: recall_both_ways(s, o, k)[::-1], "two are swapped"),
        (lambda s, o, k: sum(recall_both_ways(s, o, k)) / 2, "Two numbers are wanted"),
        (lambda s, o, k: recall_both_ways(s, o, k)[:1] * 2, "the other direction's. For text_to_image"),
        (lambda s, o, k: recall_both_ways(s, o, k)[1:] * 2, "the other direction's. For image_to_text"),
        (with_truth(lambda s, right, k: top(s, right, k).float().mean()), "not a share"),
        (with_truth(lambda s, right, k: (top(s, right, k).sum(1) / right.sum(1)).mean()), "not a share"),
        (with_truth(lambda s, right, k: (top(s, right, k).sum(1) / 5).mean()), "not a share"),
        (with_truth(first_caption), "not only its first"),
        (with_truth(lambda s, right, k: (top(s, right, k).sum(1) >= right.sum(1)).float().mean()), "not all of them"),
        (with_truth(lambda s, right, k: top(s, right, k).all(1).float().mean()), "not all of them"),
        (with_truth(lambda s, right, k: top(s, right, k).any(1).sum() / s.shape[1]), "Another number of queries"),
        (second(lambda s, right, k: top(s.T, right.T, k).any(1).sum() / len(s)), "Another number of queries"),
        (with_truth(lambda s, right, k: top(s, right, k).any(1).sum()), "This is a count"),
        (second(lambda s, right, k: int(top(s.T, right.T, k).any(1).sum())), "This is a count"),
        (with_truth(lambda s, right, k: top(s, right, k, largest=False).any(1).float().mean()), "the k worst"),
        (lambda s, o, k: recall_both_ways(s, o, 1), "Do you use k"),
        (
            second(lambda s, right, k: (right.int() @ top(s.T, right.T, k).any(1).int() > 0).float().mean()),
            "one by one",
        ),
        (with_truth(lambda s, right, k: top(s, right, k).any(1)), "Is a mean still to be taken"),
        (fives, "owners is not used"),
        (diagonal, "owners is not used"),
        (times(100), "not percent"),
        (lambda s, o, k: recall_both_ways(s, o, k - 1), "k is off by one"),
        (lambda s, o, k: recall_both_ways(s, o, k + 1), "k is off by one"),
        (lambda s, o, k: recall_both_ways(-s, o, k), "the k worst"),
        (lambda s, o, k: recall_both_ways(s.mul_(2), o, k), "changes its inputs"),
        (lambda s, o, k: recall_both_ways(s, o, 9), "image_to_text of .. pictures and .* captions at k = 3 is"),
        (lambda s, o, k: recall_both_ways(s, o, k)[0].item(), "Two numbers are wanted"),
        (lambda s, o, k: {"image_to_text": 1.0}, "Two numbers are wanted"),
        (lambda s, o, k: recall_both_ways(s.T, o, k), "image_to_text of"),
    ],
    "6.2": [
        (lambda train, tower, batches: train(tower, batches) is None, "accepts every training.*Did you copy"),
        (lambda train, tower, batches: train(tower, batches) is not None, "rejects a training that leaves"),
        (lambda train, tower, batches: True, "Your test never trains"),
        (lambda train, tower, batches: train(batches, tower), "stopped in line"),
        (aliased, "accepts every training.*clone"),
        (compares(lambda tower: tower.parameters(), keep=lambda value: value), "accepts every training.*clone"),
        (compares(lambda tower: tower.parameters()), "4 of 7 broken trainings. One freezes parameters.*buffers"),
        (compares(lambda tower: tower.buffers()), "2 of 7 broken trainings. One gives the tower's weights"),
        (compares(lambda tower: [tower[1].running_mean]), "3 of 7 broken trainings. One resets num_batches"),
        (compares(everything, torch.allclose), "1 of 7 broken trainings. One moves a bias by a millionth.*torch.equal"),
        (compares(everything, lambda x, y: abs(x.mean() - y.mean()) < 1e-4), "broken trainings. One"),
        (outputs_in_training, "broken trainings. One freezes parameters"),
        (outputs_as_judged, "1 of 7 broken.* resets num_batches_tracked"),
        (flags, "rejects a training.*flags"),
        (mode, "rejects a training.*Modes"),
        (gradients, "rejects a training.*gradients"),
        (losses_agree, "accepts every training"),
        (left_alone_asserts, "raised AssertionError: return True or False"),
        (lambda train, tower, batches: bool(state(tower)), "Your test never trains"),
        (lambda train, tower, batches: print(train(tower, batches)), "gave back nothing"),
        (
            lambda train, tower, batches: state(tower) == (train(tower, batches), state(tower))[1],
            "Boolean value of Tensor",
        ),
        (True, "your function itself"),
    ],
    "6.3": [
        (rising(lambda step, warmup, peak: peak * step / warmup), "Step 0 would have rate 0"),
        (rising(lambda step, warmup, peak: peak * (step + 1) / warmup), "yours comes one early"),
        (rising(lambda step, warmup, peak: peak * ((step + 1) // (warmup + 1))), "Whole numbers"),
        (
            rising(lambda step, warmup, peak: peak * 0.1),
            r"rate\(0, 20, 5, 0.001\) is 0.0001667.* warm-up is",
        ),
        (falling(lambda step, steps, warmup: cosine(step / steps)), "subtract it"),
        (falling(lambda step, steps, warmup: cosine((step - warmup) / steps)), "end with the steps"),
        (falling(lambda step, steps, warmup: 2 * cosine((step - warmup) / (steps - warmup)) - 1), "becomes negative"),
        (falling(lambda step, steps, warmup: cosine((step - warmup) / (steps - warmup)) - 0.5), "1 [+] is missing"),
        (falling(lambda step, steps, warmup: 2 * cosine((step - warmup) / (steps - warmup))), "Twice too large"),
        (falling(lambda step, steps, warmup: (1 + math.cos(180 * (step - warmup) / (steps - warmup))) / 2), "radians"),
        (falling(lambda step, steps, warmup: (1 + math.cos((step - warmup) / (steps - warmup))) / 2), "Without pi"),
        (falling(lambda s, n, w: (1 + math.sin(math.pi * (s - w) / (n - w))) / 2), "The cosine is wrong"),
        (falling(lambda step, steps, warmup: 1 - (step - warmup) / (steps - warmup)), "falls in a line"),
        (falling(lambda step, steps, warmup: cosine(2 * (step - warmup) / (steps - warmup))), "comes up again"),
        (falling(lambda s, n, w: math.cos(math.pi / 2 * (s - w) / (n - w))), "The cosine is wrong"),
        (falling(lambda step, steps, warmup: 1), "stays at the peak"),
        (falling(lambda step, steps, warmup: cosine((step - warmup) // (steps - warmup))), "stays at the peak"),
        (falling(lambda step, steps, warmup: cosine((step - warmup) / (steps - warmup - 1))), "0 comes one step early"),
        (lambda step, steps, warmup, peak: rate(step, steps, warmup, 1), "peak is missing"),
        (falling(lambda step, steps, warmup: 1 - cosine((step - warmup) / (steps - warmup))), "It rises"),
        (divides_by_the_warm_up, "Step 0 would have rate 0"),
        (lambda s, n, w, peak: peak * min((s + 1) / w, 1) if s < w else rate(s, n, w, peak), "yours comes one early"),
        (
            lambda s, n, w, peak: rate(s, n, w, peak) * (w + 1) / w if s < w else peak * s / w,
            "comes one early",
        ),
        (lambda s, n, w, peak: rate(s, n, w, peak) * 0.99, "The warm-up is wrong"),
        (lambda s, n, w, peak: [rate(s, n, w, peak)], "A number is wanted, not"),
        (lambda s, n, w, peak: "0.001", "A number is wanted, not '0.001'"),
        (lambda s, n, w, peak: rate(s, n, w, peak) if s < n - 1 else None, "gave back nothing"),
        (lambda s, n, w, peak: rate(s, n, w, peak) if s else math.nan, "says nan"),
    ],
    "6.4": [
        (named_groups(lambda name: "head" in name, heads_only=True), "log_scale is in no group"),
        (named_groups(lambda name: "_head" in name, heads_only=True), "log_scale is in no group"),
        (three_names, "bias is in no group.* whatever its name"),
        (without_the_text_tower, "text_tower.body.weight is in no group"),
        (only_the_picture_tower, "text_tower.body.weight is in a tower: its rate should be 1e-05, yours is 0.001"),
        (lambda m, head, tower: parameter_groups(m, tower, head), "rates are swapped"),
        (lambda m, head, tower: parameter_groups(m, 1e-3, 1e-5), "rate should be 2e-05, yours is 1e-05|bias|0.0005"),
        (all_and_towers, "stands in two groups"),
        (named_groups(lambda name: "head" in name or name in ("log_scale", "bias")), "layer called head"),
        (by_value, "compare values. Collect id"),
        (changed_keys("lr", "learning_rate"), "'learning_rate', 'params'.*'lr'.* missing"),
        (changed_keys("params", "parameters"), "'params'.* missing"),
        (no_rate_for_heads, "'lr'.* missing"),
        (lambda m, head, tower: list(m.parameters()), "not bare parameters"),
        (lambda m, head, tower: torch.optim.AdamW(parameter_groups(m, head, tower)), "optimiser is made of it"),
        (lambda m, head, tower: {"params": list(m.parameters()), "lr": head}, "is in a tower: its rate"),
        (lambda m, head, tower: [{"params": copy.deepcopy(m).parameters(), "lr": head}], "not the model's own"),
        (lambda m, head, tower: [{"params": ["image_tower"], "lr": head}], "holds a str"),
        (lambda m, head, tower: [m.parameters()], "A list of dictionaries"),
        (lambda m, head, tower: 3, "A list of dictionaries.* not 3"),
        (lambda m, head, tower: parameter_groups(m, None, tower), "A number is wanted, not None"),
    ],
    "6.5": [
        (0.536, "the weights alone"),
        (1.072, "Two numbers a parameter"),
        (1.07, "Two numbers a parameter"),
        (1.608, "Three numbers a parameter"),
        (1.61, "Three numbers a parameter"),
        (4.288, "fp64"),
        (17.152, "gigabits"),
        (2144, "megabytes"),
        (2_144_000_000, "These are bytes"),
        (134e6 * 16, "These are bytes"),
        (2.0, "These are GiB"),
        (134e6 * 16 / 2**30, "These are GiB"),
        (3.0, "How many numbers a parameter"),
        ("2.144", "A number is wanted, not '2.144'"),
        ([2.144], "A number is wanted"),
        (math.nan, "How many numbers"),
    ],
    "6.6": [
        (lambda a, b, p, seed: paired_interval(b, a, p, seed), "The sign is turned"),
        (drawing(draw_queries), "You drew queries"),
        (drawing(draw_apart), "drawn apart"),
        (drawing(draw_right, lambda draws: np.percentile(draws, [5, 95])), "90 % interval"),
        (drawing(draw_right, lambda draws: np.percentile(draws, [0.025, 0.975])), "np.percentile takes percent"),
        (drawing(draw_right, lambda draws: draws.mean() + np.array([-1, 1]) * draws.std()), "one standard deviation"),
        (drawing(draw_right, lambda draws: np.percentile(draws, [97.5, 2.5])), "swapped"),
        (drawing(draw_right, lambda draws: [draws.std()]), "Three numbers"),
        (drawing(draw_right, lambda draws: [-draws.std(), draws.std()]), "lies outside"),
        (drawing(draw_b), "draws of b alone"),
        (drawing(draw_isin), "drawn twice counts twice"),
        (drawing(draw_heavy), "nine times as often"),
        (drawing(draw_means), "means of pictures' means"),
        (drawing(draw_means, middle=lambda a, b: 0.0), "the mean of b - a"),
        (few_draws, "jump from seed to seed"),
        (drawing(without_return_of_pictures), "low equals high"),
        (drawing(small_sample), "is right, yours is"),
        (unseeded, "The same seed gives two intervals"),
        (lambda a, b, p, seed: interval_weights(a, b, p, 0), "Every seed gives the same draws"),
        (lambda a, b, p, seed: interval_weights(a, b, p, seed)[1:], "Three numbers"),
        (lambda a, b, p, seed: (0.1, 0.05, 0.15), "The difference is the mean of b - a"),
        (lambda a, b, p, seed: (b.mean() - a.mean(), math.nan, math.nan), "not finite"),
        (lambda a, b, p, seed: ("0.1", 0.05, 0.15), "A number is wanted"),
        (lambda a, b, p, seed: interval_package(a, np.subtract(b, a, out=b) + a, p, seed), "changes its inputs"),
    ],
    "6.7": [
        (in_place, "write into the old file itself"),
        (joined, "write into the old file itself"),
        (appends, "appended"),
        (deletes_first, "away for a moment"),
        (deletes_last, "away for a moment"),
        (copies, "write into the old file itself"),
        (leaves_the_draft, "left behind"),
        (never_renames, "nothing stands at path"),
        (swallows, "kept silent"),
        (text_mode, "mode 'wb'"),
        (last_piece, "Only the last piece"),
        (elsewhere, "another folder"),
        (finishes_anyway, "the old file must stand at path"),
        (consumes, "became b''|became b'newer'"),
        (writes_once, "FileExistsError"),
        (goes_on_with_the_draft, "Is the old draft still in it"),
        (wraps, "A bare raise passes it on"),
        (lambda path, pieces: None, "nothing stands at path"),
        (lambda path, pieces: write_whole(str(path), pieces), "AttributeError"),
        ("path", "your function itself"),
    ],
    "6.8": [
        ({"weights"}, "AdamW begins again.*Without the step.*dropout draws"),
        ({"weights", "step", "random state"}, "AdamW begins again with averages of zero"),
        ({"weights", "moments", "random state"}, "schedule and batches begin anew"),
        ({"weights", "moments", "step"}, "dropout draws other masks"),
        ({"moments", "step", "random state"}, "nothing to go on with"),
        ({"weights", "moments", "step", "random state", "gradients"}, "Gradients are not needed"),
        ({"weights", "moments", "step", "random state", "activations"}, "Activations are not needed"),
        ({"weights", "moments", "step", "random state", "loss so far"}, "a nice curve"),
        (set(), "The set is empty"),
        ({"weights", "optimizer"}, r"\['optimizer'\] is none of the seven"),
        ({"weights", ...}, "none of the seven"),
        ("weights", "A set of words"),
        (3, "A set of words"),
        ({"weights": 1}, "A set of words"),
    ],
    "6.9": [
        (own_only, "own picture is right in yours"),
        (lambda *x: truly_wrong(*x) / own_only(*x), "share among the misses"),
        (lambda *x: own_only(*x) - truly_wrong(*x), "found another picture"),
        (lambda *x: 1 - truly_wrong(*x) / own_only(*x), "found another picture"),
        (counted, "This is a count"),
        (lambda *x: 100 * truly_wrong(*x), "or percent"),
        (lambda *x: 1 - truly_wrong(*x), "the share that is right"),
        (lambda s, o, t, k: 1 - top(s, t, k).all(1).float().mean(), "You ask for k of them"),
        (lambda s, o, t, k: 1 - top(s, t, k).float().mean(), "share of cells"),
        (lambda s, o, t, k: truly_wrong(s, o, t, k + 1), "off by one"),
        (lambda s, o, t, k: truly_wrong(s, o, t, k - 1), "off by one"),
        (lambda *x: counted(*x) / x[0].shape[1], "Divide by M"),
        (lambda s, o, t, k: truly_wrong(s, o, t, 1), "Do you use k"),
        (lambda s, o, t, k: truly_wrong(-s, o, t, k), "the k worst"),
        (lambda s, o, t, k: truly_wrong(s.T, o, t.T, k), "Rows are captions"),
        (lambda s, o, t, k: truly_wrong(s, o, t, 7), "have no true picture among their 3 best"),
        (lambda s, o, t, k: truly_wrong(s.fill_(0.0), o, t, k), "changes its inputs"),
        (lambda s, o, t, k: ~top(s, t, k).any(1), r"shape should be \(\)"),
    ],
    "6.10": [
        (lambda e, w, z: -parts(e, w, z), "The sign is turned"),
        (without_alone, "scores without each word"),
        (own_scores, "each word's own score"),
        (leaving(lambda words, i: [one for one in words if one != words[i]]), "Equal words go together"),
        (leaving(removed), "words.remove takes the first"),
        (glued, "Put a blank"),
        (lambda e, w, z: parts(e, w, z).abs(), "no abs"),
        (lambda e, w, z: parts(e, w, z) / parts(e, w, z).sum(), "do not divide"),
        (lambda e, w, z: parts(e, w, z).softmax(dim=0), "do not divide"),
        (prefixes, "words after it stay"),
        (leaving(lambda words, i: words[: i + 1]), "words after it stay"),
        (leaving(lambda words, i: words[:i] + words[i:]), "Nothing is left out"),
        (pops, "changes its list of words"),
        (lambda e, w, z: [e([" ".join(w)]) @ z for i in range(len(w)) if w.pop(i)], "changes its list of words"),
        (in_a_dict, "One number for each word"),
        (lambda e, w, z: dict(zip(w, parts(e, w, z))), "One number for each word"),
        (lambda e, w, z: e(" ".join(w)) @ z, "takes a list of sentences"),
        (lambda e, w, z: e([w, w]) @ z, "not lists of words"),
        (lambda e, w, z: parts(e, w, z)[:2], r"shape should be \(6,\), yours is \(2,\)"),
        (lambda e, w, z: parts(e, w, z) + 1, "the score of all words minus"),
        (lambda e, w, z: float(parts(e, w, z).sum()), r"shape should be \(6,\)"),
    ],
}


class TestContract(Contract):
    checks, right, wrong, values = checks, RIGHT, WRONG, VALUES


@pytest.mark.parametrize("number", ["6.1", "6.6", "6.9"])
def test_an_answer_that_empties_its_inputs_is_told_so(number):
    right = next(answers[0] for key, answers in RIGHT if key == number)

    def empties(*arguments):
        value = right(*arguments)
        for argument in arguments:
            if hasattr(argument, "shape"):
                argument[:] = 0
        return value

    with pytest.raises(WrongAnswer, match="changes its inputs"):
        BY_NUMBER[number](empties)
    assert BY_NUMBER[number](right) is True


@pytest.mark.parametrize("number", ["6.4", "6.2", "6.6", "6.10"])
def test_a_check_leaves_the_lessons_random_numbers_alone(number):
    right = next(answers[0] for key, answers in RIGHT if key == number)
    torch.manual_seed(5), np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5), np.random.seed(5)
    BY_NUMBER[number](right)
    assert torch.equal(torch.rand(3), expected[0]) and (np.random.rand(3) == expected[1]).all()


def test_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    kept = os.replace, os.rename, os.unlink, os.remove
    for answer in (write_whole, write_tempfile):
        checks.check_write_whole(answer)
    with pytest.raises(WrongAnswer):
        checks.check_write_whole(in_place)
    assert not list(place.iterdir()) and kept == (os.replace, os.rename, os.unlink, os.remove)


@pytest.mark.parametrize("seeds", range(3))
def test_an_interval_of_few_draws_is_right_whatever_the_draws(seeds):
    """A thousand draws, the least that is asked for, must not be refused by chance."""

    def shifted(a, b, pictures, seed):
        return paired_interval(a, b, pictures, [seed, seeds])

    assert checks.check_paired_interval(shifted) is True


def test_an_answer_that_stumbles_over_both_kinds_gets_the_first_error():
    def neither(scores, owners, k):
        return scores.no_such_thing, k

    with pytest.raises(WrongAnswer, match="'Tensor' object has no attribute 'no_such_thing'"):
        checks.check_recall_both_ways(neither)
