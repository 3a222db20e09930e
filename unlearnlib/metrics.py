"""Metrics: pure functions of logits and labels.

``logits`` have the shape ``(n, classes)``: a tensor of any float type on any device, or an array; -inf is
allowed and means probability 0. ``labels`` are integers ``(n,)`` from 0 to classes - 1; where a sample has
several labels, ``(n, classes)`` bool (see :func:`cross_entropy`). Anything else raises ValueError. All
functions compute in float64 on the CPU and leave their arguments as they are. What is per sample comes back
as a float64 CPU tensor ``(n,)``, all else as a Python float.
Symbols: z logits, p = softmax(z), y label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CONFIDENCE_LIMIT = 100.0    # logit-scaled confidences are clipped to +- this


def accuracy(logits, labels) -> float:
    """Share of samples whose largest logit is the label's, in [0, 1]; NaN for an empty set.

        acc = 1/n Σ_i 1[argmax_c z_ic = y_i]        (of equal largest logits, the first counts)

    Of several labels, the first alone counts as y, as in the official code of ∇τ.

    *Differences from the paper*: the SSD and LFSSD code averages over batches: :func:`batch_mean_accuracy`.
    """
    z, y = _logits_and_labels(logits, labels)
    return _correct(z, y).mean().item()


def batch_mean_accuracy(logits, labels, batch_size: int) -> float:
    """Unweighted mean of the accuracies of consecutive batches, in [0, 1]; NaN for an empty set.

        acc = 1/B Σ_b acc(batch b)        B = ceil(n / batch_size)

    A short last batch weighs as much as a full one: with batches of 64, 59 of 64 and 35 of 36 right give
    94.70 %, though 94 of 100 are right. Equals :func:`accuracy` when ``batch_size`` divides n.
    Raises ValueError when ``batch_size`` is no positive integer.

    Source: ``evaluate`` of the official SSD code, which LFSSD shares: batches of 64 (random: 128), in %.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; it must be an integer of at least 1: "
                         "pass the batch size of the loader.")
    z, y = _logits_and_labels(logits, labels)
    return torch.stack([batch.mean() for batch in _correct(z, y).split(batch_size)]).mean().item()


def cross_entropy(logits, labels) -> Tensor:
    """Cross-entropy loss of each sample in nats, in [0, inf].

        ℓ = −log p_y = log(1 + exp(−φ))        φ = z_y − logsumexp_{c≠y} z_c

    The second form keeps the digits that log-softmax loses where p_y is close to 1. Of several labels:

        ℓ = −Σ_c log p(c is as labelled)        p(c) = sigmoid(z_c): binary cross-entropy, summed over c

    so that exp(−ℓ) is the probability of the labels in either case, and p_y and φ below follow from it.
    """
    return -F.logsigmoid(_margin(*_logits_and_labels(logits, labels)))


def entropy(logits) -> Tensor:
    """Shannon entropy of the prediction for each sample in nats, in [0, log(classes)].

        H = −Σ_c p_c log p_c        0 log 0 = 0

    Source: the feature of the attack of bad teaching (arXiv 2205.08096), SSD and LFSSD, and of ∇τ's MIA_E.
    """
    return torch.special.entr(F.softmax(_logits(logits), dim=1)).sum(dim=1)


def label_probability(logits, labels) -> Tensor:
    """Probability p_y of the label of each sample, in [0, 1].

        p_y = 1 / (1 + exp(−φ))        φ = z_y − logsumexp_{c≠y} z_c

    Source: the feature "confidence" of Unlearn-Sparse, see :func:`unlearnlib.attacks.confidence_svc`.
    """
    return torch.sigmoid(_margin(*_logits_and_labels(logits, labels)))


def logit_confidence(logits, labels) -> Tensor:
    """Logit-scaled confidence φ of each sample, clipped to [−100, 100].

        φ = z_y − logsumexp_{c≠y} z_c = log p_y − log(1 − p_y)

    Unchanged when a constant is added to all logits of a sample; z_1 − z_0 for label 1 of two classes.

    Source: LiRA (arXiv 2112.03570).
    *Differences from the paper*: published code goes through p, as log(p + 1e-45) or with p clipped to
    [1e-10, 1 − 1e-10], and so saturates at ±103.6 or ±23.03, and some overwrites the caller's logits.
    """
    return _margin(*_logits_and_labels(logits, labels)).clamp(-CONFIDENCE_LIMIT, CONFIDENCE_LIMIT)


def modified_entropy(logits, labels) -> Tensor:
    """Modified entropy of each sample in nats, in [0, inf]: 0 if sure and right, large if sure and wrong.

        M = −(1 − p_y) log p_y − Σ_{c≠y} p_c log(1 − p_c)

    Finite for finite logits: 1 − p_c of the largest class comes from the other logits, without subtraction.

    Source: Song and Mittal (arXiv 2003.10595).
    *Differences from the paper*: none. The version in the Unlearn-Sparse code and its descendants assigns to
    ``probs[:, labels]``, which overwrites these columns in every row, and takes log p for log(1 − p).
    """
    z, y = _logits_and_labels(logits, labels)
    if y.ndim == 2:
        raise ValueError("labels are bool, several a sample; modified entropy needs one: pass class ids.")
    probability = F.softmax(z, dim=1)                       # (n, classes)
    log_rest = torch.log1p(-probability)                    # log(1 − p_c), exact where p_c <= 1/2:
    largest = z.argmax(dim=1)                               # all classes but perhaps the largest
    log_rest = _put(log_rest, largest, F.logsigmoid(-_margin(z, largest)))
    margin = _margin(z, y)
    terms = _put(probability * log_rest, y, torch.sigmoid(-margin) * F.logsigmoid(margin))
    return -terms.sum(dim=1)


def js_divergence(logits_p, logits_q) -> Tensor:
    """Jensen–Shannon divergence of two predictions for each sample in nats, in [0, ln 2].

        JS(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m)        m = (p + q) / 2

    Symmetric; 0 for equal, ln 2 for disjoint predictions. Raises ValueError when the shapes differ.

    *Differences from the paper*: the code of bad teaching and SSD computes ½ KL(m ‖ p) + ½ KL(m ‖ q) and
    divides it by the number of classes.
    """
    p, q = F.softmax(_logits(logits_p), dim=1), F.softmax(_logits(logits_q), dim=1)
    if p.shape != q.shape:
        raise ValueError(f"logits have the shapes {tuple(p.shape)} and {tuple(q.shape)}; both must be equal: "
                         "pass the logits of two models on the same images.")
    total = (p + q).clamp_min(torch.finfo(torch.float64).tiny)      # 2m, kept from 0 so that 0 log 0 = 0
    divergence = (torch.xlogy(p, 2 * p / total) + torch.xlogy(q, 2 * q / total)).sum(dim=1) / 2
    return divergence.clamp(0.0, math.log(2))


def zrf(logits, random_logits) -> float:
    """Zero-retrain forgetting score, in [1 − ln 2, 1]: 1 for a model that answers like an untrained one.

        ZRF = 1 − 1/n Σ_i JS(p_i, p_i^random)        NaN for an empty set

    ``random_logits``: those of a randomly initialised model on the same (forget) images. The score rewards
    randomness, not likeness to a retrained model. Raises ValueError when the shapes differ.

    Source: bad teaching (arXiv 2205.08096); SSD and LFSSD report it.
    *Differences from the paper*: the code uses the divergence described in :func:`js_divergence`, so that its
    values crowd near 1 and cannot be compared with these.
    """
    return 1.0 - js_divergence(logits, random_logits).mean().item()


def tow(unlearned: Mapping | Iterable, retrained: Mapping | Iterable) -> float:
    """Tug of war: likeness to the retrained model in all accuracies at once, in [0, 1]; 1 if all are equal.

        ToW = Π_s (1 − |acc_s(unlearned) − acc_s(retrained)|)        s = forget, retain, test

    Both arguments are mappings with the same keys (a dict, a pandas Series) or sequences in the same order,
    of accuracies in [0, 1]. Compute it for each seed, then average. Raises ValueError when keys or lengths
    differ, when there is no value, and for a value outside [0, 1] or NaN.

    Source: Zhao et al. (arXiv 2406.01257).
    """
    pairs = _pairs(unlearned, retrained)
    for value in [value for pair in pairs for value in pair]:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"an accuracy is {value:g}; it must be in [0, 1]: "
                             "divide percentages by 100, and leave out empty sets.")
    return math.prod(1.0 - abs(a - b) for a, b in pairs)


def avg_gap(unlearned: Mapping | Iterable, retrained: Mapping | Iterable) -> float:
    """Mean absolute gap to the retrained model, in the unit of the values; 0 for equal values.

        Avg.Gap = 1/K Σ_k |value_k(unlearned) − value_k(retrained)|        k = UA, RA, TA, MIA

    Both arguments are mappings with the same keys (a dict, a pandas Series) or sequences in the same order.
    A NaN among them gives NaN. Raises ValueError when keys or lengths differ and when there is no value.

    Source: Unlearn-Sparse (arXiv 2304.04934) and Forget Vectors (arXiv 2412.16780).
    """
    pairs = _pairs(unlearned, retrained)
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def _logits(logits) -> Tensor:
    if isinstance(logits, Tensor):
        z = logits.detach().cpu().double()      # in this order: some devices have no float64
    else:
        z = torch.tensor(np.asarray(logits, dtype=np.float64))
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"logits have the shape {tuple(z.shape)}; it must be (n, classes): "
                         "pass one row per sample.")
    return z


def _logits_and_labels(logits, labels) -> tuple[Tensor, Tensor]:
    z = _logits(logits)
    y = labels.detach().cpu() if isinstance(labels, Tensor) else torch.tensor(np.asarray(labels))
    if y.dtype == torch.bool and y.shape == z.shape:
        return z, y
    if y.shape != z.shape[:1]:
        raise ValueError(f"labels have the shape {tuple(y.shape)}; it must be ({len(z)},) for {len(z)} rows "
                         f"of logits, or {tuple(z.shape)} bool: pass one class id per sample.")
    if len(y) and (y.is_floating_point() or y.min() < 0 or y.max() >= z.shape[1]):
        raise ValueError(f"labels are {y.dtype} from {y.min().item()} to {y.max().item()}; they must be "
                         f"integers from 0 to {z.shape[1] - 1}: pass ids of the columns of the logits.")
    return z, y.long()


def _correct(z: Tensor, y: Tensor) -> Tensor:
    return (z.argmax(dim=1) == (y.to(torch.uint8).argmax(dim=1) if y.ndim == 2 else y)).double()


def _margin(z: Tensor, y: Tensor) -> Tensor:
    """z_y − logsumexp_{c≠y} z_c = log p_y − log(1 − p_y) of each row, unclipped."""
    if y.ndim == 2:                                         # p_y = Π_c p(c is as labelled) = exp(−ℓ)
        log_p = F.logsigmoid(torch.where(y, z, -z)).sum(dim=1)
        return log_p - torch.log(-torch.expm1(log_p))
    others = z.scatter(1, y[:, None], -math.inf)
    return z.gather(1, y[:, None])[:, 0] - torch.logsumexp(others, dim=1)


def _put(rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """A copy of ``rows`` with ``values[i]`` in row i, column ``columns[i]``."""
    return rows.scatter(1, columns[:, None], values[:, None])


def _pairs(unlearned, retrained) -> list[tuple[float, float]]:
    """The values of both models under each key, or at each position."""
    with_keys = [hasattr(values, "keys") for values in (unlearned, retrained)]
    if any(with_keys) and not all(with_keys):
        raise ValueError("one argument has keys and the other has none; both must be mappings or "
                         "both sequences: convert one of them.")
    if not any(with_keys):
        unlearned, retrained = dict(enumerate(unlearned)), dict(enumerate(retrained))
    if set(unlearned.keys()) != set(retrained.keys()):
        raise ValueError(f"the models have values for {list(unlearned.keys())} and for "
                         f"{list(retrained.keys())}; both must have the same: leave out what only one has.")
    if len(unlearned) == 0:
        raise ValueError("there are 0 values; there must be one or more of each model: "
                         "pass the values to compare.")
    return [(float(unlearned[key]), float(retrained[key])) for key in unlearned.keys()]
