"""Membership attacks: how well an adversary tells forgotten samples from samples that the model never saw.

Two kinds, side by side: exact attacks on the order of a score, the same for all methods (:func:`auc`,
:func:`best_threshold`, :func:`tpr_at_fpr`, :func:`population`), and the papers' own attacks, as their code
computes them (:func:`entropy_lr`, :func:`confidence_svc`, :func:`loss_lr`).

Scores are tensors, arrays or lists of shape ``(n,)``, n >= 1, infinite values included unless a classifier
is fitted to them. Another shape, an empty side and NaN raise ValueError. All functions compute in float64.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.svm import SVC
from torch import Tensor, nn

from .metrics import accuracy, cross_entropy, entropy, logit_confidence
from .train import logits, task_loss


def best_threshold(members, nonmembers) -> tuple[float, float]:
    """The largest balanced accuracy of any threshold, in [0.5, 1], and that threshold.

        max_t max(b(t), 1 − b(t))        b(t) = ½ (share of members >= t) + ½ (share of non-members < t)

    Exact: every way in which a threshold can divide the scores is tried, in O(n log n). Both directions
    count: with the returned t, either ``score >= t`` or ``score < t`` calls a sample a member with the
    returned accuracy. t lies midway between two neighbouring scores (on the upper one where no float32 fits
    between them), or on the lowest score if no threshold beats 0.5.
    """
    members, nonmembers = _scores("member", members), _scores("non-member", nonmembers)
    thresholds = np.unique(np.concatenate([members, nonmembers]))
    pairs = len(members) * len(nonmembers)
    advantage = np.abs(_accepted(members, thresholds) * len(nonmembers)     # pairs · |TPR − FPR|, an integer
                       - _accepted(nonmembers, thresholds) * len(members))
    best = int(advantage.argmax())
    balanced_accuracy = (pairs + int(advantage[best])) / (2 * pairs)
    if best == 0:                                                           # all scores are accepted
        return balanced_accuracy, float(thresholds[0])
    return balanced_accuracy, _between(float(thresholds[best - 1]), float(thresholds[best]))


def auc(members, nonmembers) -> float:
    """Area under the ROC curve, in [0, 1]; 0.5 is chance, and above it members score higher.

        AUC = P(member > non-member) + ½ P(member = non-member)        over all pairs (Mann–Whitney)

    Exact, ties included, in O(n log n). Swapping the sides, or negating all scores, gives 1 − AUC.
    Far below 0.5 is over-forgetting, as detectable as remembering.
    """
    members, nonmembers = _scores("member", members), np.sort(_scores("non-member", nonmembers))
    below = np.searchsorted(nonmembers, members, side="left").sum()
    below_or_equal = np.searchsorted(nonmembers, members, side="right").sum()
    return int(below + below_or_equal) / (2 * len(members) * len(nonmembers))


def tpr_at_fpr(members, nonmembers, fpr: float) -> float:
    """The largest share of members found with at most a share ``fpr`` of the non-members accused, in [0, 1].

        max_t {share of members >= t : share of non-members >= t is <= fpr}

    A higher score means *member*. Equal scores are accepted or rejected together; nothing is interpolated.
    With fewer than 1/fpr non-members, none may be accused. Raises ValueError for ``fpr`` outside [0, 1].
    """
    if not 0.0 <= fpr <= 1.0:
        raise ValueError(f"fpr is {fpr}; it must be in [0, 1]: pass a rate such as 0.01.")
    members, nonmembers = _scores("member", members), _scores("non-member", nonmembers)
    thresholds = np.unique(np.concatenate([members, nonmembers]))
    allowed = _accepted(nonmembers, thresholds) / len(nonmembers) <= fpr
    true_positives = _accepted(members, thresholds)[allowed]
    return int(true_positives.max(initial=0)) / len(members)


def population(forget_logits, forget_labels, heldout_logits, heldout_labels) -> dict[str, float]:
    """The common audit: the forget set (members) against held-out data of the same classes (non-members).

    For two scores s, the ``confidence`` φ (:func:`~unlearnlib.metrics.logit_confidence`) and the negated
    ``loss``: ``auc_s``, ``balanced_accuracy_s`` of the best threshold, and ``tpr1_s``, the TPR at 1 % FPR.
    All are in [0, 1], and all are NaN if either side is empty.

    The loss log(1 + exp(−φ)) falls as φ grows, so both scores rank the samples alike: their values differ
    only through the clipping of φ. The retrained model's values are the reference, two-sided.
    """
    result = {}
    for name, score in (("confidence", logit_confidence), ("loss", _negated_loss)):
        members, nonmembers = score(forget_logits, forget_labels), score(heldout_logits, heldout_labels)
        empty = len(members) == 0 or len(nonmembers) == 0
        result[f"auc_{name}"] = math.nan if empty else auc(members, nonmembers)
        result[f"balanced_accuracy_{name}"] = math.nan if empty else best_threshold(members, nonmembers)[0]
        result[f"tpr1_{name}"] = math.nan if empty else tpr_at_fpr(members, nonmembers, 0.01)
    return result


def entropy_lr(member_logits, nonmember_logits, forget_logits, C: float = 2.0) -> float:
    """SSD's and LFSSD's attack: share of the forget set called MEMBER, in [0, 1]; lower = more forgotten.

    Class-balanced logistic regression on one feature, the entropy H of the prediction, fitted to members
    (retain set) against non-members (test set), all given by their logits ``(n, classes)``. It minimises

        ½ w² + C Σ_i n / (2 n_i) · log(1 + exp(∓(w H_i + b)))

    with − for members and + for non-members, n samples in all and n_i on the side of sample i; *member* is
    called where w H + b > 0. The retrained model's value is the reference, not 0.

    Source: ``get_membership_attack_prob`` of the official SSD code, after bad teaching (arXiv 2205.08096).
    *Differences from the paper*: none at the default C. The code leaves C at 1 but asks for *multinomial*
    regression (an argument that scikit-learn has since removed), whose two penalised rows of weights amount
    to C = 2 here; merely leaving that argument out is ``C=1``. The released code of bad teaching itself fits
    an RBF SVC in its place.
    """
    members = _scores("member", entropy(member_logits))
    nonmembers = _scores("non-member", entropy(nonmember_logits))
    forget = _scores("forget", entropy(forget_logits))
    attack = LogisticRegression(C=C, class_weight="balanced", solver="lbfgs")
    attack.fit(*_training_set(members, 1, nonmembers, 0))
    return float(attack.predict(forget[:, None]).mean())


def confidence_svc(members, nonmembers, forget, seed: int = 0) -> float:
    """Unlearn-Sparse's attack: share of the forget set called NON-member, in [0, 1]; higher = more forgotten.

    Support vector machine (RBF kernel, C = 3, γ = 1) on one feature, the probability p_y of the label
    (:func:`~unlearnlib.metrics.label_probability`), fitted to members (retain set, 1) against non-members
    (test set, 0):

        value = 1 − mean over the forget set of prediction(p_y)

    The longer of the two sides is cut to the length of the shorter one: a draw without replacement by
    ``seed``. Time is quadratic in that length. Infinite values raise ValueError.

    Source: MIA-Efficacy of Forget Vectors (arXiv 2412.16780), from Unlearn-Sparse (arXiv 2304.04934).
    *Differences from the paper*: none; the draw is that of the Forget Vectors code for the same seed.
    Unlearn-Sparse takes the first members instead.
    """
    members, nonmembers = _finite_scores("member", members), _finite_scores("non-member", nonmembers)
    forget = _finite_scores("forget", forget)
    size = min(len(members), len(nonmembers))
    attack = SVC(C=3, kernel="rbf", gamma="auto")
    attack.fit(*_training_set(_draw(members, size, seed), 1, _draw(nonmembers, size, seed), 0))
    return float(1.0 - attack.predict(forget[:, None]).mean())


def loss_lr(scores_forget, scores_test, seed: int = 0) -> float:
    """∇τ's attack: accuracy of telling the forget set from the test set, in [0, 1]; 0.5 = indistinguishable.

    Logistic regression on one feature (the loss for MIA_L, the entropy for MIA_E), forget set (1) against
    test set (0), fitted to 90 % and tested on 10 % of both in 10 stratified shuffle splits:

        value = mean over the splits of the accuracy on the 10 %

    The longer side is first shuffled and cut to the length of the shorter one; ``seed`` decides cut and
    splits. Raises ValueError for fewer than 6 scores on a side (no room for both in 10 %) and for infinite
    scores.

    Source: ``readout`` and ``simple_mia`` of the official code (arXiv 2403.14339).
    *Differences from the paper*: none; ``seed=0`` gives the code's cut (generator 1) and splits (random
    state 0).
    """
    forget, test = _finite_scores("forget", scores_forget), _finite_scores("test", scores_test)
    size = min(len(forget), len(test))
    if size < 6:
        raise ValueError(f"there are {len(forget)} forget and {len(test)} test scores; both must be 6 or "
                         "more: pass more samples.")
    generator = np.random.default_rng(seed + 1)
    if len(test) > size:
        test = generator.permutation(test)[:size]
    else:
        forget = generator.permutation(forget)[:size]
    features, labels = _training_set(test, 0, forget, 1)
    splits = StratifiedShuffleSplit(n_splits=10, random_state=seed)
    accuracies = cross_val_score(LogisticRegression(), features, labels, cv=splits, scoring="accuracy")
    return float(accuracies.mean())


def _scores(side: str, values) -> np.ndarray:
    """``(n,)`` float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"{side} scores have the shape {scores.shape}; it must be (n,) with n >= 1: "
                         "pass one score per sample, and leave out empty sets.")
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} {side} scores are NaN; all must be "
                         "numbers: check whether the model diverged.")
    return scores


def _finite_scores(side: str, values) -> np.ndarray:
    scores = _scores(side, values)
    if np.isinf(scores).any():
        raise ValueError(f"{np.isinf(scores).sum()} of {len(scores)} {side} scores are infinite; this attack "
                         "needs finite ones: clip them.")
    return scores


def _negated_loss(logits, labels) -> Tensor:
    return -cross_entropy(logits, labels)


def _accepted(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many scores are >= each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def _between(low: float, high: float) -> float:
    """The middle if it separates the two even in float32, which the caller's scores may be; else high."""
    middle = low / 2 + high / 2
    with np.errstate(over="ignore"):
        rounded = float(np.float32(middle))
    return middle if low < middle <= high and low < rounded <= high else high


def _draw(scores: np.ndarray, size: int, seed: int) -> np.ndarray:
    """``size`` of the scores by the generator of the Forget Vectors code, without replacement; or all."""
    if len(scores) == size:
        return scores
    return scores[np.random.RandomState(seed).choice(len(scores), size=size, replace=False)]


def _training_set(first: np.ndarray, first_label: int, second: np.ndarray, second_label: int):
    """One feature ``(n, 1)`` and labels ``(n,)``."""
    labels = np.repeat([first_label, second_label], [len(first), len(second)])
    return np.concatenate([first, second])[:, None], labels


def relearn(model: nn.Module, images: Tensor, labels: Tensor, *, generator: torch.Generator, batches: int = 60, lr: float = 1e-3,
            batch_size: int = 32) -> list[float]:
    """Accuracy on a set before relearning it and after each mini-batch: ``batches + 1`` numbers in [0, 1].

    Adam at ``lr`` on the set alone, epoch after epoch; the model itself is not changed. How fast a model relearns what it forgot, compared
    with a retrained model, shows what it still knows (GKT, arXiv 2201.05629, section "anamnesis index").

    *Differences from the paper*: GKT trains on all training data and watches unseen images of the class; this is the forget set alone, seen
    and shown. BatchNorm statistics stay frozen, so that the curve shows what the weights know.
    """
    learner = copy.deepcopy(model).eval()
    optimiser = torch.optim.Adam(learner.parameters(), lr=lr)
    device = next(learner.parameters()).device
    curve, queue = [accuracy(logits(learner, images), labels)], []
    for _ in range(batches):
        if not queue:
            queue = list(torch.randperm(len(images), generator=generator).split(batch_size))
        batch = queue.pop(0).to(images.device)
        loss = task_loss(learner(images[batch].to(device)), labels[batch].to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(accuracy(logits(learner, images), labels))
    return curve


def batches_until(curve: list[float], target: float) -> float:
    """First index of a relearning curve at or above ``target``; infinite if it never gets there."""
    return float(next((i for i, value in enumerate(curve) if value >= target), np.inf))


def anamnesis_index(unlearned: float, retrained: float) -> float:
    """Relearning batches of the unlearned model over those of the retrained one: 1 for the retrained model itself (also at 0 / 0).

    About 1 is good, far below 1: knowledge was left, far above 1: over-forgotten. Source: GKT, arXiv 2201.05629.
    """
    return 1.0 if unlearned == retrained else float(np.divide(unlearned, retrained)) if retrained else float("inf")
