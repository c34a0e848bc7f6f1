"""Checks of lesson 02: scores, contrastive losses, their gradient and targets, foils, rivals, and a test of a loss.

Functions are tried on seeded rows with B != E. Results may be tensors, NumPy or plain Python, in any float type. Each
check lists what likely mistakes would give: message -> value or values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize, softplus

from course_utils import losses
from course_utils.checks._outcome import call, close, exercise, expect, judge, verdict


@exercise("02", "2.1")
def check_score_matrix(answer: Callable) -> None:
    """score_matrix(a (B,E), b (B,E)) -> cosines (B,B), rows for a."""
    for seed, size, width in ((1, 5, 3), (2, 4, 7)):
        a, b = _rows(seed, size, width), 2 * _rows(seed + 50, size, width)
        wanted = cosine_similarity(a[:, None], b[None, :], dim=-1)  # (B,1,E), (1,B,E) -> (B,B)
        mistakes = {
            "This is the plain product, where a long row wins by its length. Divide each row by its own.": a @ b.T,
            "This is the transpose: rows should stand for a, columns for b.": wanted.T,
            "You divided by the norm of the whole matrix. Each row has its own.": a @ b.T / a.norm() / b.norm(),
            "You divided along the wrong dimension: use dim=-1.": normalize(a, dim=0) @ normalize(b, dim=0).T,
            "Only one side was divided. Both a and b are raw.": (normalize(a) @ b.T, a @ normalize(b).T),
            "These are the B right pairs alone. Every row of a meets every row of b: (B,B).": wanted.diagonal(),
        }
        judge(call(answer, a, b), wanted, mistakes, "A cosine is the product of two rows, divided by both lengths.")


@exercise("02", "2.2")
def check_hardest_rival(answer: Callable) -> None:
    """hardest_rival(scores (B,B), margin) -> mean over pairs of both directions' worst rival."""
    for seed, size, margin in ((3, 6, 0.2), (4, 4, 0.5)):
        scores = _rows(seed, size, size).tanh()  # (B,B)
        scores[0], scores[:, 0] = scores[0].clamp(max=0.3), scores[:, 0].clamp(max=0.3)
        scores[0, 0] = 1.0  # pair 0 has met both margins
        rows, columns = _costs(scores, margin)
        wanted, every = _worst(rows, columns), rows.clamp(min=0) + columns.clamp(min=0).T  # (B,B)
        mean = (every.sum() / size / (size - 1), every.mean())
        one = rows.amax(dim=1).clamp(min=0).mean(), columns.amax(dim=0).clamp(min=0).mean()
        mistakes = {
            "The diagonal counts as a rival, and costs the margin. Leave it out.": _worst(rows, columns, margin),
            "You added up all rivals. Only the hardest of each row and column counts: amax.": every.sum() / size,
            "You took the mean over rivals. Only the hardest counts: amax.": mean,
            "One direction only. Add each picture's worst caption and each caption's worst picture.": one,
            "This is the sum over pairs. The loop divides by their number B at the end.": wanted * size,
            "Half of the right number: the two directions are added, not averaged.": wanted / 2,
            "A met margin must cost 0, yours costs less than nothing. Clamp at 0.": _worst(rows, columns, -math.inf),
            "The margin is missing: a rival that comes close must cost something.": _worst(*_costs(scores, 0.0)),
            "The margin is fixed at 0.2 in your function. Use its argument.": _worst(*_costs(scores, 0.2)),
            "The sign is turned: the cost is margin + rival - right.": _worst(*_costs(-scores, margin)),
            "amax runs along the wrong dimension: a row's rivals lie along dim=1.": _worst(columns, rows),
        }
        judge(call(answer, scores, margin), wanted, mistakes, f"For {size} pairs the loop says {float(wanted):.4f}.")


@exercise("02", "2.3")
def check_clip_loss(answer: Callable) -> None:
    """clip_loss(z_img (B,E), z_txt (B,E), tau) -> scalar in nats."""
    for seed, size, width, tau in ((5, 5, 3, 0.3), (6, 4, 9, 0.07), (7, 6, 2, 0.01)):
        z_img, z_txt = normalize(_rows(seed, size, width)), normalize(_rows(seed + 50, size, width))
        logits, target = z_img @ z_txt.T / tau, torch.arange(size)  # (B,E) @ (E,B) -> (B,B)
        wanted, rows, columns = _clip(logits), cross_entropy(logits, target), cross_entropy(logits.T, target)
        every = -(logits.log_softmax(dim=0).mean() + logits.log_softmax(dim=1).mean()) / 2
        bets = (logits.softmax(dim=0) + logits.softmax(dim=1)).diagonal().mean() / 2
        twice = cross_entropy(logits.softmax(dim=1), target) + cross_entropy(logits.T.softmax(dim=1), target)
        mistakes = {
            "One direction only. Pictures pick captions (logits), captions pick pictures (logits.T).": (rows, columns),
            "You multiplied by tau. A small tau must sharpen: divide by it.": _clip(logits * tau**2),
            "tau is not used. Divide the scores by it.": _clip(logits * tau),
            "This is the sum of both directions. Their mean is asked.": wanted * 2,
            "This is the sum over pairs. Their mean is asked.": (wanted * size, wanted * size * 2),
            "The softmax is applied twice: F.cross_entropy takes logits and does it itself.": (twice / 2, twice),
            "The sign is turned: a loss is the negative log-probability.": -wanted,
            "You averaged over all cells. Only the right caption's counts: the diagonal.": every,
            "The logarithm is missing: this is the mean probability.": (bets, -bets),
        }
        try:
            value = call(answer, z_img, z_txt, tau)
        except ValueError as error:
            targets = "F.cross_entropy wants one target a pair: arange over B = len(logits), not over E."
            expect("batch_size" not in str(error), targets)
            raise
        infinite = "At a small tau it overflows: exp(100) is too large. log_softmax subtracts the largest logit first."
        judge(value, wanted, mistakes, f"For {size} pairs at tau {tau}: {float(wanted):.4f}.", infinite)


@exercise("02", "2.4")
def check_factor(answer: object) -> None:
    """exp(-2) * 1024, rounded as you like."""
    p, wanted = math.exp(-2), math.exp(-2) * 1024
    rounded = close(answer, wanted, 5e-3) and not close(answer, p * 1023, 1e-5)
    mistakes = {
        "Guessing chooses among all 1,024 captions, the right one included.": p * 1023,
        "You compared losses, 2 and log B. Compare probabilities.": (math.log(1024) / 2, 2 / math.log(1024)),
        "This is the logarithm of the factor. Take exp of it.": math.log(1024) - 2,
        "This is the probability itself. Divide it by what guessing gives, 1/1024.": p,
        "This is what guessing gives. How often does it fit into exp(-2.0)?": 1 / 1024,
        "The sign is missing: a probability is exp(-loss), not exp(loss).": (1 / p, 1024 / p),
        "Upside down. The model is better than guessing, so the factor exceeds 1.": (1 / wanted, p / 1024),
        "This is in powers of 2. The loss is in nats: exp(-2.0).": 1024 / 4,
    }
    judge(wanted if rounded else answer, wanted, mistakes, "exp(-2.0) is the right caption's, 1/1024 is guessing.")


@exercise("02", "2.5")
def check_clip_gradient(answer: Callable) -> None:
    """clip_gradient(logits (B,B)) -> gradient of the symmetric loss, (B,B)."""
    for seed, size in ((8, 5), (9, 3)):
        logits = 2 * _rows(seed, size, size)
        wanted = torch.func.grad(_clip)(logits)  # (B,B)
        eye, rows, columns = torch.eye(size), logits.softmax(dim=1), logits.softmax(dim=0)  # (B,B)
        mistakes = {
            "The rows' half alone. The other is a softmax down the columns, dim=0.": ((rows - eye) / size, rows - eye),
            "The columns' half alone. The other half is a softmax along the rows, dim=1.": (columns - eye) / size,
            "Not divided by B: the loss is a mean over pairs, so is its gradient.": (wanted * size, wanted * 2 * size),
            "Twice too large: in the mean of two directions each counts one half.": wanted * 2,
            "The sign is turned: softmax minus target. Right pairs have negative entries.": -wanted,
            "The target is missing: subtract 1 at the right pairs.": (rows + columns) / 2 / size,
            "The target is subtracted once. Each half has its own.": (rows + columns - eye) / 2 / size,
            "Divided by B twice. The loss is a mean over B pairs.": wanted / size,
        }
        judge(call(answer, logits), wanted, mistakes, "Compare with autograd: which entries differ, by which factor?")


@exercise("02", "2.6")
def check_siglip_loss(answer: Callable) -> None:
    """siglip_loss(z_img (B,E), z_txt (B,E), scale, bias) -> scalar in nats."""
    for seed, size, width, scale, bias in ((10, 5, 3, 10.0, -5.0), (11, 4, 9, 3.0, -1.0), (12, 6, 2, 200.0, -10.0)):
        z_img, z_txt = normalize(_rows(seed, size, width)), normalize(_rows(seed + 50, size, width))
        scores, sign = z_img @ z_txt.T, 2 * torch.eye(size) - 1  # (B,B)
        logits = scale * scores + bias  # (B,B)
        wanted = softplus(-sign * logits).sum() / size
        signed = {
            "The signs are the wrong way round: +1 on the diagonal, -1 elsewhere.": -sign * logits,
            "The signs are missing: off the diagonal the sign is -1.": logits,
            "The diagonal alone: wrong pairs must learn to say no, all B*B cells count.": logits.diagonal(),
            "Your sign off the diagonal is 0, so wrong pairs teach nothing. It is -1.": torch.eye(size) * logits,
            "The bias is inside the product: scale times score, then plus bias.": sign * scale * (scores + bias),
            "The bias escapes the sign: sign * (scale * score + bias).": sign * scale * scores + bias,
            "The bias is missing.": sign * scale * scores,
            "You divided by scale. It is 1 / tau already: multiply.": sign * (scores / scale + bias),
        }
        mistakes = {message: softplus(-cells).sum() / size for message, cells in signed.items()} | {
            "You divided by B squared, the mean over cells. The sum is divided by B.": wanted / size,
            "Not divided: the sum over all cells is divided by B.": wanted * size,
            "The sign of the whole is turned: a loss is the negative log-probability.": -wanted,
        }
        infinite = "At a large scale it overflows: the sigmoid becomes 0 and its log infinite. F.logsigmoid is safe."
        otherwise = f"For {size} pairs, scale {scale}, bias {bias}: {float(wanted):.4f}."
        judge(call(answer, z_img, z_txt, scale, bias), wanted, mistakes, otherwise, infinite)


@exercise("02", "2.7")
def check_targets(answer: Callable) -> None:
    """targets(image_ids (B,)) -> target mass (B,B), rows add up to 1."""
    for ids in ([307, 12, 307, 55, 12, 307, 800], [4, 9, 2]):
        image_ids, own = torch.tensor(ids), torch.eye(len(ids))
        same = (image_ids[:, None] == image_ids[None, :]).float()  # (B,B)
        wanted, others = same / same.sum(dim=1, keepdim=True), same - own
        mistakes = {
            "Rows add up to more than 1: divide each by the number of its right answers.": same,
            "The diagonal alone: pairs that show the same picture are right answers too.": own,
            "Whole numbers cannot hold shares: mind the type, .float() and / instead of //.": wanted.floor(),
            "You divided by the sum of the whole matrix. Each row adds up to 1 by itself.": same / same.sum(),
            "You divided by B. Divide each row by the number of its right answers.": same / len(ids),
            "A softmax gives wrong pairs some mass too. Divide the ones by their number.": same.softmax(dim=1),
            "A pair's own caption is a right answer as well.": (others, normalize(others, p=1)),
        }
        judge(call(answer, image_ids), wanted, mistakes, f"Ids {ids}: which pairs share row 0, and how?")


@exercise("02", "2.8")
def check_told_apart(answer: Callable) -> None:
    """told_apart(z_img, z_txt, z_foil), each (N,E) -> share of rows whose caption beats the foil, ties one half."""
    for seed, size, width, wins, ties in ((32, 11, 4, 6, 2), (15, 8, 3, 2, 3)):
        z_img, z_txt, z_foil = _foils(seed, size, width, wins, ties)
        true, false, between = ((x * y).sum(dim=1) for x, y in ((z_img, z_txt), (z_img, z_foil), (z_txt, z_foil)))
        wanted, gap = (wins + ties / 2) / size, z_img @ (z_txt - z_foil).T  # (N,E) @ (E,N) -> (N,N)
        sure = gap.sign() / 2 + 0.5  # (N,N)
        matrix = (sure, sure.mean(), (gap > 0).float().mean(), (gap >= 0).float().mean())
        captions = ((true > between).float().mean(), (between > false).float().mean(), between.mean())
        mistakes = {
            "Ties count as wins in yours (>=). A tie counts one half.": (wins + ties) / size,
            "Ties count as losses in yours. A tie counts one half.": wins / size,
            "This is a count. The share is asked: take the mean.": wins + ties / 2,
            "The wrong way round: this is the share in which the foil wins.": 1 - wanted,
            "These are the N verdicts. Take their mean.": (true - false).sign() / 2 + 0.5,
            "This is about how much they win by. Count who wins.": (true - false).mean(),
            "Wins minus losses. Count a win 1, a tie one half, a loss 0.": (true - false).sign().mean(),
            "You compared a whole matrix. Row i meets its own caption and its own foil: N scores, not N * N.": matrix,
            "You compared captions with each other. Ask the picture: its cosine with each of the two.": captions,
        }
        otherwise = f"With {wins} wins, {ties} ties and {size - wins - ties} losses the share is {wanted:.3f}."
        judge(call(answer, z_img, z_txt, z_foil), wanted, mistakes, otherwise)


@exercise("02", "2.9")
def check_rivals_met(answer: object) -> None:
    """(63, 1023)."""
    values = list(answer) if hasattr(answer, "__iter__") and not isinstance(answer, (str, set, dict)) else []
    expect(not any(value is ... or value is None for value in values), "One of the two numbers is still open.")
    expect(len(values) == 2, "Two numbers are wanted, in a tuple: accumulation first, then GradCache.")
    mistakes = {
        "The right caption is not its own rival: one less.": ([64, 1024], [64, 1023], [63, 1024]),
        "Swapped: gradient accumulation comes first, GradCache second.": ([1023, 63], [1024, 64]),
        "GradCache encodes in chunks, but its loss sees the embeddings of the whole batch.": ([63, 63], [64, 64]),
        "Accumulation computes each chunk's loss alone: only its own captions are met.": ([1023, 1023], [1024, 1024]),
        "Accumulation: a picture stands in one chunk only, and chunks are no rivals.": ([1008, 1023], [15, 1023]),
    }
    judge(values, [63, 1023], mistakes, "How many wrong captions are in a chunk, how many in the batch?")


@exercise("02", "2.10")
def check_is_sound(answer: Callable) -> None:
    """is_sound(loss) -> bool: whether loss(a (B,E), b (B,E), tau) of raw rows is CLIP's loss of unit rows."""
    one_way = _on_unit_rows(lambda a, b, tau: cross_entropy(a @ b.T / tau, torch.arange(len(a), device=a.device)))
    double = _on_unit_rows(lambda a, b, tau: losses.clip_loss(a.double(), b.double(), tau).to(a.dtype))
    sound = {
        "as the package computes it": _on_unit_rows(losses.clip_loss),
        "written with cosine_similarity": lambda a, b, tau: _clip(cosine_similarity(a[:, None], b, dim=-1) / tau),
        "computed in float64, which changes the last digits": double,
    }
    target = "Where every row equals its partner and tau is small, a sound loss is nearly 0; this one is not."
    swap = "Does loss(a, b, tau) equal loss(b, a, tau)? Try rows where the two directions differ."
    longer = "Make one row longer: the loss must stay the same."
    wrong = {
        "the tutorial's, with both mistakes": (_soft, "Compute the right value for raw rows, and compare."),
        "one without unit rows": (lambda a, b, tau: _clip(a @ b.T / tau), longer),
        "one whose soft targets follow the embeddings": (_on_unit_rows(_soft), target),
        "one with soft targets, detached": (_on_unit_rows(lambda a, b, tau: _soft(a, b, tau, True)), target),
        "one that asks in one direction only": (one_way, swap),
        "a constant, log B": (lambda a, b, tau: math.log(len(a)) + 0 * (a @ b.T).sum(), "Wrong pairs must cost more."),
    }
    for words, loss in sound.items():
        verdict, lengths = _verdict(answer, loss)
        expect(lengths, "Your test never calls the loss that it is given. Use its argument, not tutorial_loss by name.")
        hint = "Use unit rows, / tau, both directions, and a tolerance (torch.allclose), not ==."
        expect(verdict, f"Your test rejects a sound loss, CLIP's {words}. {hint}")
    fooled = []
    for words, (loss, look) in wrong.items():
        verdict, lengths = _verdict(answer, loss)
        if verdict and "without unit" in words and (torch.cat(lengths) - 1).abs().max() < 1e-3:
            look = "All your rows have length 1, and there this mistake hides."
        fooled += [f"{words}. {look}"] if verdict else []
    expect(len(fooled) < len(wrong), "Your test accepts every loss, even a constant. What does it compare?")
    expect(not fooled, f"Your test accepts {len(fooled)} of {len(wrong)} wrong losses. One is {''.join(fooled[:1])}")


def _on_unit_rows(loss: Callable) -> Callable:
    return lambda a, b, tau: loss(normalize(a), normalize(b), tau)


def _soft(a: torch.Tensor, b: torch.Tensor, tau: float, detach: bool = False) -> torch.Tensor:
    """The tutorial's loss: rows as they come, targets softened by the embeddings' own likeness."""
    logits, c, d = a @ b.T / tau, *((a.detach(), b.detach()) if detach else (a, b))
    target = ((c @ c.T + d @ d.T) / 2 * tau).softmax(dim=-1)  # (B,B)
    return -(target * logits.log_softmax(dim=1) + target.T * logits.T.log_softmax(dim=1)).sum(dim=1).mean() / 2


def _verdict(answer: Callable, loss: Callable) -> tuple[bool, list]:
    """What the learner's test says of a loss, and the lengths of the rows that it gave to it."""
    lengths = []

    def watched(a, b, tau):
        lengths.extend(rows.detach().float().norm(dim=-1).flatten() for rows in (a, b))
        return loss(a, b, tau)

    return verdict(answer, watched), lengths


def _foils(seed: int, size: int, width: int, wins: int, ties: int) -> tuple[torch.Tensor, ...]:
    """Unit rows z_img, z_txt, z_foil (N,E): the first `wins` captions win, the next `ties` are equal, the rest lose."""
    z_img, x, y = (normalize(_rows(seed + 50 * k, size, width)) for k in range(3))
    ahead = (z_img * x).sum(dim=1) > (z_img * y).sum(dim=1)  # (N,)
    keep = (ahead == (torch.arange(size) < wins))[:, None]  # (N,1) x plays the caption
    z_txt, z_foil = torch.where(keep, x, y), torch.where(keep, y, x)
    z_foil[wins : wins + ties] = z_txt[wins : wins + ties]
    return z_img, z_txt, z_foil


def _rows(seed: int, size: int, width: int) -> torch.Tensor:
    return torch.randn(size, width, generator=torch.Generator().manual_seed(seed))


def _costs(scores: torch.Tensor, margin: float) -> list[torch.Tensor]:  # unclamped, of rival captions, rival pictures
    right, own = scores.diagonal(), torch.eye(len(scores), dtype=torch.bool)
    return [(margin + scores - aside).masked_fill(own, -math.inf) for aside in (right[:, None], right[None, :])]


def _worst(rows: torch.Tensor, columns: torch.Tensor, least: float = 0.0) -> torch.Tensor:
    return (rows.amax(dim=1).clamp(min=least) + columns.amax(dim=0).clamp(min=least)).mean()


def _clip(logits: torch.Tensor) -> torch.Tensor:
    return -(logits.log_softmax(dim=0) + logits.log_softmax(dim=1)).diagonal().mean() / 2
