"""Membership attacks against brute force over pairs and thresholds, and against the papers' own recipes."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.svm import SVC
from torch import nn

from unlearnlib import attacks, metrics

EXACT = [attacks.best_threshold, attacks.auc, lambda m, n: attacks.tpr_at_fpr(m, n, 0.1)]


def cases():
    """(members, non-members) of many sizes, with and without ties."""
    generator = np.random.default_rng(0)
    for n, m in [(1, 1), (1, 5), (5, 1), (2, 3), (7, 7), (12, 30), (31, 9)]:
        for levels in (2, 4, 1000):                                         # few levels: many ties
            yield generator.integers(levels, size=n) / 8, generator.integers(levels, size=m) / 8
        yield generator.normal(1, 1, n), generator.normal(0, 1, m)
        yield generator.normal(-2, 3, n), generator.normal(0, 1, m)
    yield np.zeros(4), np.zeros(6)


def balanced_accuracy(members, nonmembers, t):
    """Of the rule ``score >= t``."""
    true_positive = sum(s >= t for s in members) / len(members)
    return (true_positive + sum(s < t for s in nonmembers) / len(nonmembers)) / 2


def cuts(members, nonmembers):
    """One threshold for every way to divide the scores, from accepting all to accepting none."""
    scores = sorted({*map(float, members), *map(float, nonmembers)})
    return [scores[0] - 1, *[(a + b) / 2 for a, b in zip(scores, scores[1:], strict=False)], scores[-1] + 1]


# --- exact attacks

@pytest.mark.parametrize("members, nonmembers", list(cases()))
def test_best_threshold_is_the_best_of_all(members, nonmembers):
    value, threshold = attacks.best_threshold(members, nonmembers)
    values = [balanced_accuracy(members, nonmembers, t) for t in cuts(members, nonmembers)]
    assert value == pytest.approx(max(max(v, 1 - v) for v in values), abs=1e-14)
    reached = balanced_accuracy(members, nonmembers, threshold)
    assert max(reached, 1 - reached) == pytest.approx(value, abs=1e-14)
    assert type(value) is float and type(threshold) is float


@pytest.mark.parametrize("members, nonmembers", list(cases()))
def test_auc_is_the_mann_whitney_count(members, nonmembers):
    count = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in members for b in nonmembers)
    value = attacks.auc(members, nonmembers)
    assert value == pytest.approx(count / (len(members) * len(nonmembers)), abs=1e-14)
    assert attacks.auc(nonmembers, members) == pytest.approx(1 - value, abs=1e-15)
    assert attacks.auc(-members, -nonmembers) == pytest.approx(1 - value, abs=1e-15)
    assert attacks.auc(np.exp(members), np.exp(nonmembers)) == value


@pytest.mark.parametrize("members, nonmembers", list(cases()))
@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.1, 0.2, 1 / 3, 0.5, 1.0])
def test_tpr_at_fpr_is_the_best_allowed(members, nonmembers, fpr):
    allowed = [sum(s >= t for s in members) / len(members) for t in cuts(members, nonmembers)
               if sum(s >= t for s in nonmembers) / len(nonmembers) <= fpr]
    assert attacks.tpr_at_fpr(members, nonmembers, fpr) == pytest.approx(max(allowed), abs=1e-15)


def test_best_threshold_lies_between_the_sides():
    assert attacks.best_threshold([2.0, 3.0], [0.0, 1.0]) == (1.0, 1.5)
    assert attacks.best_threshold([0.0, 1.0], [2.0, 3.0]) == (1.0, 1.5)     # the other direction
    assert attacks.best_threshold([1.0], [1.0]) == (0.5, 1.0)
    assert attacks.best_threshold([1.0, 4.0, 4.0], [0.0, 2.0]) == (0.8333333333333334, 3.0)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("low", [0.9999999, -1e-40, 1.0, -1e30, 0.0])
def test_threshold_between_adjacent_floats(kind, low):
    low = kind(low)
    high = np.nextafter(low, kind(np.inf))
    value, threshold = attacks.best_threshold(np.array([high]), np.array([low]))
    assert value == 1.0 and high >= threshold and not low >= threshold
    tensor = torch.from_numpy(np.array([low, high]))
    assert (tensor >= threshold).tolist() == [False, True]


def test_infinite_scores_are_ordered():
    inf = math.inf
    for members, nonmembers in [([inf, 1.0], [-inf, 0.0]), ([inf], [-inf]), ([inf], [1.0]), ([1.0], [-inf]),
                                ([1e308], [-1e308]), ([1.7e308], [1.6e308])]:
        value, threshold = attacks.best_threshold(members, nonmembers)
        assert value == 1.0 and min(members) >= threshold > max(nonmembers)
        assert attacks.auc(members, nonmembers) == 1.0
        assert attacks.tpr_at_fpr(members, nonmembers, 0.0) == 1.0
    assert attacks.auc([-inf], [-inf]) == 0.5
    assert attacks.best_threshold([-inf], [-inf]) == (0.5, -inf)


def test_tpr_at_one_percent_needs_a_hundred_nonmembers():
    nonmembers = np.arange(100.0)
    assert attacks.tpr_at_fpr([98.5, 50.0], nonmembers, 0.01) == 0.5        # accuses 99 only
    assert attacks.tpr_at_fpr([98.5, 50.0], nonmembers[1:], 0.01) == 0.0    # 1 of 99 is too many
    assert attacks.tpr_at_fpr([99.0, 99.0], nonmembers, 0.0) == 0.0         # tied with a non-member
    assert attacks.tpr_at_fpr([99.0, 100.0], nonmembers, 0.0) == 0.5
    for fpr in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"fpr is .*; it must be in \[0, 1\]: pass"):
            attacks.tpr_at_fpr([1.0], [0.0], fpr)


def test_gaussian_shift_gives_the_theoretical_values():
    generator = np.random.default_rng(1)
    nonmembers = generator.normal(size=200_000)

    def normal(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    for d in (-1.0, 0.0, 0.5, 1.0, 2.0):
        members = generator.normal(d, 1, size=200_000)
        assert attacks.auc(members, nonmembers) == pytest.approx(normal(d / math.sqrt(2)), abs=0.004)
        value, threshold = attacks.best_threshold(members, nonmembers)
        assert value == pytest.approx(normal(abs(d) / 2), abs=0.005)
        assert d == 0 or threshold == pytest.approx(d / 2, abs=0.1)
        assert attacks.tpr_at_fpr(members, nonmembers, 0.01) == pytest.approx(normal(d - 2.326348), abs=0.01)


@pytest.mark.parametrize("attack", [*EXACT, attacks.loss_lr,
                                    lambda m, n: attacks.confidence_svc(m, n, m),
                                    lambda m, n: attacks.confidence_svc(n, m, m)])
@pytest.mark.parametrize("scores, message", [
    ([], r"scores have the shape \(0,\); it must be \(n,\) with n >= 1: pass"),
    (np.zeros((3, 1)), r"scores have the shape \(3, 1\).*: pass"),
    (torch.tensor(1.0), r"scores have the shape \(\).*: pass"),
    ([0.0, math.nan, 1.0], "1 of 3 .*scores are NaN; all must be numbers: check"),
])
def test_unusable_scores_raise(attack, scores, message):
    good = np.arange(10.0)
    with pytest.raises(ValueError, match=message):
        attack(scores, good)
    with pytest.raises(ValueError, match=message):
        attack(good, scores)


@pytest.mark.parametrize("attack", EXACT)
def test_inputs_of_all_kinds_agree_and_stay_as_they_are(attack):
    members, nonmembers = np.array([3.0, 1.0, 2.0, 2.0]), np.array([2.0, 0.0, -1.0])
    expected = attack(members, nonmembers)
    assert attack(members.tolist(), tuple(nonmembers)) == expected
    assert attack([3, 1, 2, 2], [2, 0, -1]) == expected
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensor = torch.tensor(members, dtype=kind, requires_grad=True)
        assert attack(tensor, torch.tensor(nonmembers, dtype=kind)) == expected
    assert members.tolist() == [3.0, 1.0, 2.0, 2.0] and nonmembers.tolist() == [2.0, 0.0, -1.0]


# --- the common audit

def population_of(forget, heldout):
    """The audit of two-class logits with the given confidences."""
    first, second = (torch.tensor([[phi, 0.0] for phi in confidences]) for confidences in (forget, heldout))
    return attacks.population(first, [0] * len(forget), second, [0] * len(heldout))


def test_population_measures_both_scores():
    generator = torch.Generator().manual_seed(0)
    forget, heldout = (2 * torch.randn(n, 4, generator=generator) for n in (60, 150))
    forget_labels, heldout_labels = forget.argmax(dim=1), torch.randint(4, (150,), generator=generator)
    result = attacks.population(forget, forget_labels, heldout, heldout_labels)
    scores = {"confidence": metrics.logit_confidence, "loss": lambda z, y: -metrics.cross_entropy(z, y)}
    for name, score in scores.items():
        members, nonmembers = score(forget, forget_labels), score(heldout, heldout_labels)
        assert result.pop(f"auc_{name}") == attacks.auc(members, nonmembers) > 0.7
        assert result.pop(f"balanced_accuracy_{name}") == attacks.best_threshold(members, nonmembers)[0]
        assert result.pop(f"tpr1_{name}") == attacks.tpr_at_fpr(members, nonmembers, 0.01)
    assert result == {}


def test_population_scores_rank_alike_until_confidence_is_clipped():
    separate = population_of([60.0, 50.0], [40.0, 45.0])
    assert separate == dict.fromkeys(separate, 1.0)             # although p_y rounds to 1 for all four
    clipped = population_of([300.0, 200.0], [120.0, 150.0])
    assert clipped["auc_confidence"] == 0.5 and clipped["auc_loss"] == 1.0


def test_population_shows_overforgetting_below_one_half():
    result = population_of([-5.0, -6.0, -7.0], [1.0, 2.0, 3.0])
    assert result["auc_confidence"] == result["auc_loss"] == result["tpr1_loss"] == 0.0
    assert result["balanced_accuracy_confidence"] == result["balanced_accuracy_loss"] == 1.0


def test_population_of_an_empty_side_is_nan():
    some, labels = torch.randn(4, 3), torch.zeros(4, dtype=torch.long)
    none, no_labels = some[:0], labels[:0]
    for arguments in [(none, no_labels, some, labels), (some, labels, none, no_labels),
                      (none, no_labels, none, no_labels)]:
        result = attacks.population(*arguments)
        assert len(result) == 6 and all(math.isnan(value) for value in result.values())


def test_population_of_one_distribution_is_chance():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(20_000, 10, generator=generator)
    labels = torch.randint(10, (20_000,), generator=generator)
    result = attacks.population(logits[:10_000], labels[:10_000], logits[10_000:], labels[10_000:])
    for name in ("confidence", "loss"):
        assert result[f"auc_{name}"] == pytest.approx(0.5, abs=0.02)
        assert result[f"balanced_accuracy_{name}"] == pytest.approx(0.5, abs=0.02)
        assert result[f"tpr1_{name}"] == pytest.approx(0.01, abs=0.005)


def test_population_of_several_labels_compares_the_probabilities_of_all_of_them():
    generator = torch.Generator().manual_seed(0)
    sides = []
    for n, shift in ((40, 1.0), (150, 0.0)):
        labels = torch.rand(n, 6, generator=generator) < 0.3
        sides.append((torch.randn(n, 6, generator=generator) + shift * (2 * labels - 1.0), labels))
    probabilities = []
    for logits, labels in sides:
        rows = zip(logits.tolist(), labels.tolist(), strict=True)
        probabilities.append([math.prod(1 / (1 + math.exp(-z if y else z)) for z, y in zip(*row, strict=True)) for row in rows])
    result = attacks.population(*sides[0], *sides[1])
    members, nonmembers = probabilities
    pairs = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in members for b in nonmembers) / (40 * 150)
    best = max(balanced_accuracy(members, nonmembers, t) for t in cuts(members, nonmembers))
    found = max(sum(s >= t for s in members) / 40 for t in cuts(members, nonmembers) if sum(s >= t for s in nonmembers) <= 1)
    assert 0.6 < pairs < 1
    for name in ("confidence", "loss"):
        assert result[f"auc_{name}"] == pytest.approx(pairs, abs=1e-14)
        assert result[f"balanced_accuracy_{name}"] == pytest.approx(best, abs=1e-14)
        assert result[f"tpr1_{name}"] == pytest.approx(found, abs=1e-15)
    nothing = attacks.population(sides[0][0][:0], sides[0][1][:0], *sides[1])
    assert len(nothing) == 6 and all(math.isnan(value) for value in nothing.values())
    sure, wrong = torch.tensor([[60.0, -60.0]]), torch.tensor([[60.0, -50.0]])  # P rounds to 1 for both
    label = torch.tensor([[True, False]])
    assert attacks.population(sure, label, wrong, label)["auc_loss"] == attacks.population(sure, label, wrong, label)["auc_confidence"] == 1


# --- the papers' own attacks

def logits_of_sharpness(scale, n, seed):
    return scale * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax_regression(feature, labels):
    """Slope and offset of balanced softmax regression with two penalised rows, by Newton's method."""
    weight = len(labels) / (2 * np.where(labels == 1, (labels == 1).sum(), (labels == 0).sum()))
    design = np.stack([feature, np.ones_like(feature)], axis=1)
    row = np.zeros(2)                                           # member row; the other is its negative
    for _ in range(50):
        p = 1 / (1 + np.exp(-2 * design @ row))
        gradient = 2 * design.T @ (weight * (p - labels)) + [2 * row[0], 0]
        hessian = 4 * (design.T * (weight * p * (1 - p))) @ design + [[2, 0], [0, 0]]
        row = row - np.linalg.solve(hessian, gradient)
    return 2 * row


@pytest.mark.parametrize("n, m", [(4, 8), (25, 60), (90, 30)])
def test_entropy_lr_is_the_official_multinomial_regression(n, m):
    generator = torch.Generator().manual_seed(n)
    members, nonmembers = 6 * torch.randn(n, 2, generator=generator), torch.randn(m, 2, generator=generator)
    forget = torch.stack([torch.linspace(0, 8, 4001), torch.zeros(4001)], dim=1)  # locates the threshold
    entropies = [metrics.entropy(z).numpy() for z in (members, nonmembers, forget)]
    slope, offset = softmax_regression(np.concatenate(entropies[:2]), np.repeat([1, 0], [n, m]))
    expected = (slope * entropies[2] + offset > 0).mean()
    assert attacks.entropy_lr(members, nonmembers, forget) == pytest.approx(expected, abs=4e-4)
    assert attacks.entropy_lr(members, nonmembers, forget, C=1.0) != pytest.approx(expected, abs=4e-4)


def test_entropy_lr_without_the_multinomial_argument():
    members, nonmembers, forget = (logits_of_sharpness(*a) for a in ((4, 30, 0), (2, 50, 1), (3, 400, 2)))
    features = np.concatenate([metrics.entropy(members), metrics.entropy(nonmembers)])[:, None]
    plain = LogisticRegression(class_weight="balanced", solver="lbfgs")
    plain.fit(features, np.repeat([1, 0], [30, 50]))
    expected = plain.predict(metrics.entropy(forget).numpy()[:, None]).mean()
    assert attacks.entropy_lr(members, nonmembers, forget, C=1.0) == expected


def test_entropy_lr_has_the_papers_direction_and_range():
    certain, uncertain = logits_of_sharpness(20, 50, 0), logits_of_sharpness(0.1, 80, 1)
    assert attacks.entropy_lr(certain, uncertain, certain) == 1.0           # like members
    assert attacks.entropy_lr(certain, uncertain, uncertain) == 0.0         # forgotten
    assert attacks.entropy_lr(certain[:1], uncertain[:1], certain[:1]) in (0.0, 1.0)
    saturated = torch.full((10, 3), 0.0)
    saturated[:, 0] = 200
    assert attacks.entropy_lr(saturated, uncertain, saturated) == 1.0
    for arguments in ((certain[:0], uncertain, certain), (certain, uncertain[:0], certain),
                      (certain, uncertain, certain[:0]), (certain, uncertain * math.nan, certain)):
        with pytest.raises(ValueError, match="scores .* must be"):
            attacks.entropy_lr(*arguments)


def test_confidence_svc_is_the_official_fit():
    generator = np.random.default_rng(0)
    members, nonmembers = generator.beta(5, 1, 80), generator.beta(2, 1, 80)
    forget = generator.beta(3, 1, 200)
    official = SVC(C=3, kernel="rbf", gamma="auto")
    official.fit(np.concatenate([members, nonmembers])[:, None], np.repeat([1.0, 0.0], 80))
    value = attacks.confidence_svc(members, nonmembers, forget)
    assert value == 1 - official.predict(forget[:, None]).mean()
    assert 0.2 < value < 0.8


def test_confidence_svc_draws_equal_sides_as_the_forget_vectors_code_does():
    generator = np.random.default_rng(0)
    long, short, forget = generator.beta(5, 1, 400), generator.beta(2, 1, 50), generator.beta(3, 1, 300)
    for seed in (0, 7):
        drawn = long[np.random.RandomState(seed).choice(range(400), size=50, replace=False)]
        for unequal, equal in [((long, short), (drawn, short)), ((short, long), (short, drawn))]:
            value = attacks.confidence_svc(*unequal, forget, seed=seed)
            assert value == attacks.confidence_svc(*equal, forget)
    assert attacks.confidence_svc(long, short, forget, 0) != attacks.confidence_svc(long, short, forget, 7)


@pytest.mark.parametrize(("n_retain", "n_test"), [(300, 120), (90, 150), (100, 100)])
def test_confidence_svc_from_logits_is_the_official_attack(n_retain, n_test):
    """As the code goes from logits to the score: softmax in float32, both sides drawn, each from a fresh generator."""
    generator = torch.Generator().manual_seed(n_retain)
    z, y = {}, {}
    for name, n, lead in (("retain", n_retain, 4.0), ("test", n_test, 1.5), ("forget", 150, 2.5)):
        y[name] = torch.randint(10, (n,), generator=generator)
        z[name] = torch.randn(n, 10, generator=generator) + lead * F.one_hot(y[name], 10)
    feature = {k: torch.gather(F.softmax(z[k], dim=-1), 1, y[k][:, None]).numpy() for k in z}
    size, seed = min(n_retain, n_test), 2
    drawn = {k: feature[k][np.random.RandomState(seed).choice(range(len(z[k])), size=size, replace=False)] for k in ("retain", "test")}
    official = SVC(C=3, gamma="auto", kernel="rbf")
    official.fit(np.concatenate([drawn["retain"], drawn["test"]]), np.concatenate([np.ones(size), np.zeros(size)]))
    value = attacks.confidence_svc(*(metrics.label_probability(z[k], y[k]) for k in ("retain", "test", "forget")), seed=seed)
    assert value == pytest.approx(1 - official.predict(feature["forget"]).mean(), abs=1e-12) and 0.1 < value < 0.9


def test_confidence_svc_has_the_papers_direction():
    sure, unsure = torch.linspace(0.9, 1.0, 30), torch.linspace(0.0, 0.2, 20)
    assert attacks.confidence_svc(sure, unsure, sure) == 0.0                # like members
    assert attacks.confidence_svc(sure, unsure, unsure) == 1.0              # forgotten
    assert attacks.confidence_svc([1.0], [0.0], [0.1]) == 1.0
    with pytest.raises(ValueError, match="1 of 1 forget scores are infinite.*: clip"):
        attacks.confidence_svc(sure, unsure, [math.inf])


def official_loss_attack(forget, test):
    """The published readout: longer side cut with generator 1, test samples first, splits with state 0."""
    forget, test = forget.copy(), test.copy()
    generator = np.random.default_rng(1)
    if len(test) > len(forget):
        generator.shuffle(test)
    else:
        generator.shuffle(forget)
    size = min(len(test), len(forget))
    features = np.concatenate([test[:size], forget[:size]])[:, None]
    labels = np.array([0] * size + [1] * size)
    scores = []
    for fitted, held_out in StratifiedShuffleSplit(n_splits=10, random_state=0).split(features, labels):
        classifier = LogisticRegression().fit(features[fitted], labels[fitted])
        scores.append((classifier.predict(features[held_out]) == labels[held_out]).mean())
    return float(np.mean(scores))


@pytest.mark.parametrize("n, m", [(6, 6), (40, 40), (90, 200), (200, 70)])
def test_loss_lr_is_the_official_attack(n, m):
    generator = np.random.default_rng(n)
    forget, test = generator.exponential(0.3, n), generator.exponential(1.0, m)
    kept = forget.copy(), test.copy()
    assert attacks.loss_lr(forget, test) == pytest.approx(official_loss_attack(forget, test), abs=1e-15)
    assert np.array_equal(forget, kept[0]) and np.array_equal(test, kept[1])


def test_loss_lr_by_seed_and_at_its_limits():
    generator = np.random.default_rng(5)
    same, other = generator.exponential(1.0, 5000), generator.exponential(1.0, 3000)
    assert attacks.loss_lr(same, other) == pytest.approx(0.5, abs=0.03)
    assert attacks.loss_lr(same, other, seed=1) == attacks.loss_lr(same, other, seed=1)
    assert attacks.loss_lr(same, other, seed=1) != attacks.loss_lr(same, other, seed=2)
    assert attacks.loss_lr(torch.zeros(20), torch.full((30,), 9.0)) == 1.0
    assert attacks.loss_lr(np.ones(50), np.ones(50)) == 0.5
    with pytest.raises(ValueError, match="there are 5 forget and 30 test scores; .*6 or more: pass"):
        attacks.loss_lr(np.arange(5.0), np.arange(30.0))
    with pytest.raises(ValueError, match="1 of 10 test scores are infinite.*: clip"):
        attacks.loss_lr(np.arange(10.0), [math.inf, *range(9)])


# --- relearning

@pytest.mark.parametrize("several", [False, True])
def test_relearning_is_adam_on_the_set_alone(several):
    """Against a written-out loop: the loss from probabilities, the accuracy by the first label."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator)
    first = (x @ torch.randn(6, 4, generator=generator)).argmax(1)
    labels = first
    if several:
        labels = (torch.rand(40, 4, generator=generator) < 0.3) & (torch.arange(4) > first[:, None])     # others after the first
        labels[torch.arange(40), first] = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
    before = copy.deepcopy(model.state_dict())
    curve = attacks.relearn(model, x, labels, generator=torch.Generator().manual_seed(7), batches=11, lr=0.05, batch_size=12)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and model.training

    twin, order, expected = copy.deepcopy(model).eval(), torch.Generator().manual_seed(7), []
    adam, batches = torch.optim.Adam(twin.parameters(), lr=0.05), []
    for _ in range(3):                                                          # 4 batches an epoch
        shuffled = torch.randperm(40, generator=order)
        batches += [shuffled[i:i + 12] for i in range(0, 40, 12)]
    for batch in [None, *batches[:11]]:
        if batch is not None:
            z, y = twin(x[batch]), labels[batch]
            p = torch.sigmoid(z) if several else torch.softmax(z, 1)
            loss = -torch.where(y, p, 1 - p).log().mean() if several else -(p * F.one_hot(y, 4)).sum(1).log().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            expected.append((twin(x).argmax(1) == first).double().mean().item())
    assert curve == pytest.approx(expected, abs=1e-12) and len(curve) == 12
    assert curve[-1] > curve[0] and len(set(curve)) > 4
