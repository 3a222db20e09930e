"""Metrics against closed forms and against the definitions, written out as loops over Python floats."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest
import torch

from unlearnlib import metrics

PER_SAMPLE = [metrics.cross_entropy, metrics.label_probability, metrics.logit_confidence,
              metrics.modified_entropy]
LN2 = math.log(2)


def sample(n=40, classes=5, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (n,), generator=generator)


def softmax(row):
    """Probabilities of one row of logits, as a list."""
    exponentials = [math.exp(z - max(row)) for z in row]
    return [e / math.fsum(exponentials) for e in exponentials]


def oracle(name, row, y):
    """One per-sample metric, from its definition in probabilities."""
    p = softmax(row)
    return {
        "cross_entropy": lambda: -math.log(p[y]),
        "label_probability": lambda: p[y],
        "logit_confidence": lambda: math.log(p[y]) - math.log(math.fsum(p[:y] + p[y + 1:])),
        "modified_entropy": lambda: -(1 - p[y]) * math.log(p[y]) - math.fsum(
            p[c] * math.log(1 - p[c]) for c in range(len(p)) if c != y),
    }[name]()


# --- accuracy

def test_accuracy_counts_samples():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 2.0], [5.0, 1.0, 2.0]])
    assert metrics.accuracy(logits, torch.tensor([0, 2, 1, 1])) == 0.75
    assert metrics.accuracy(logits[:1], torch.tensor([0])) == 1.0
    assert metrics.accuracy(logits[:1], torch.tensor([2])) == 0.0


@pytest.mark.parametrize("labels", [torch.empty(0, dtype=torch.long), torch.empty(0), []])
def test_accuracy_of_an_empty_set_is_nan(labels):
    assert math.isnan(metrics.accuracy(torch.empty(0, 3), labels))
    assert math.isnan(metrics.batch_mean_accuracy(torch.empty(0, 3), labels, 64))


def test_batch_mean_weighs_a_short_batch_like_a_full_one():
    labels = torch.zeros(100, dtype=torch.long)
    logits = torch.tensor([[1.0, 0.0]]).repeat(100, 1)
    logits[:5] = logits[64:65] = torch.tensor([0.0, 1.0])       # 59 of 64 and 35 of 36 are right
    assert metrics.accuracy(logits, labels) == 0.94
    expected = (59 / 64 + 35 / 36) / 2
    assert metrics.batch_mean_accuracy(logits, labels, 64) == pytest.approx(expected, abs=1e-15)
    assert metrics.batch_mean_accuracy(logits, labels, 1000) == 0.94
    for divisor in (1, 20, 50, 100):
        assert metrics.batch_mean_accuracy(logits, labels, divisor) == pytest.approx(0.94, abs=1e-15)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, None])
def test_batch_size_must_be_a_positive_integer(batch_size):
    with pytest.raises(ValueError, match="batch_size is .*must be an integer of at least 1: pass"):
        metrics.batch_mean_accuracy(*sample(), batch_size)


# --- per sample

@pytest.mark.parametrize("metric", PER_SAMPLE)
def test_matches_the_definition(metric):
    logits, labels = sample()
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    expected = [oracle(metric.__name__, row, y) for row, y in rows]
    np.testing.assert_allclose(metric(logits, labels).numpy(), expected, rtol=1e-11, atol=1e-13)


def test_cross_entropy_is_that_of_torch():
    logits, labels = sample(scale=10)
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(metrics.cross_entropy(logits, labels), expected, rtol=1e-12, atol=1e-12)


def test_entropy_matches_the_definition():
    logits, _ = sample()
    expected = [-math.fsum(p * math.log(p) for p in softmax(row)) for row in logits.tolist()]
    np.testing.assert_allclose(metrics.entropy(logits).numpy(), expected, rtol=1e-12)


def test_closed_forms():
    three, two = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.25, 3.5]])
    assert metrics.logit_confidence(three, torch.tensor([0])).item() == pytest.approx(1.3068528, abs=1e-7)
    assert metrics.logit_confidence(two, torch.tensor([1])).item() == 3.25
    uniform, label = torch.zeros(1, 10), torch.tensor([3])
    assert metrics.entropy(uniform).item() == pytest.approx(math.log(10), abs=1e-15)
    assert metrics.cross_entropy(uniform, label).item() == pytest.approx(math.log(10), abs=1e-15)
    assert metrics.label_probability(uniform, label).item() == pytest.approx(0.1, abs=1e-16)
    assert metrics.modified_entropy(uniform, label).item() == pytest.approx(
        0.9 * math.log(10) - 0.9 * math.log(0.9), abs=1e-14)
    # p = (3/4, 1/4): label 0 gives -1/4 ln 3/4 - 1/4 ln 3/4, label 1 gives -3/4 ln 1/4 - 3/4 ln 1/4
    logits = torch.tensor([[math.log(3), 0.0]] * 2, dtype=torch.float64)
    value = metrics.modified_entropy(logits, torch.tensor([0, 1]))
    np.testing.assert_allclose(value.numpy(), [-0.5 * math.log(0.75), -1.5 * math.log(0.25)], rtol=1e-14)


def test_saturated_logits_stay_exact_and_finite():
    logits, labels = torch.tensor([[200.0, 0.0, 0.0]] * 2), torch.tensor([0, 1])
    loss = metrics.cross_entropy(logits, labels)
    assert loss[0].item() == pytest.approx(2 * math.exp(-200), rel=1e-12)     # where log-softmax gives 0
    assert loss[1].item() == 200.0
    probability = metrics.label_probability(logits, labels)
    assert probability.tolist() == pytest.approx([1.0, math.exp(-200)], rel=1e-12)
    assert metrics.logit_confidence(logits, labels).tolist() == [100.0, -100.0]
    assert metrics._margin(logits.double(), labels)[0].item() == pytest.approx(200 - LN2, abs=1e-12)
    # label 1: −(1 − p_1) log p_1 = 200 and −p_0 log(1 − p_0) = 200 − ln 2
    modified = metrics.modified_entropy(logits, labels)
    assert modified[0].item() == pytest.approx(0.0, abs=1e-80)
    assert modified[1].item() == pytest.approx(400 - LN2, abs=1e-10)
    assert metrics.entropy(logits).tolist() == pytest.approx([0.0, 0.0], abs=1e-80)
    huge = torch.tensor([[1e30, -1e30, 0.0], [-1e30, 1e30, 0.0]])
    for metric in PER_SAMPLE:
        assert torch.isfinite(metric(huge, torch.tensor([0, 0]))).all()
    assert torch.isfinite(metrics.entropy(huge)).all()


def test_a_masked_logit_is_probability_zero():
    logits = torch.tensor([[-math.inf, 0.0, 0.0]] * 2)
    labels = torch.tensor([0, 1])
    assert metrics.label_probability(logits, labels).tolist() == pytest.approx([0.0, 0.5])
    assert metrics.cross_entropy(logits, labels).tolist() == pytest.approx([math.inf, LN2])
    assert metrics.logit_confidence(logits, labels).tolist() == pytest.approx([-100.0, 0.0])
    assert metrics.entropy(logits).tolist() == pytest.approx([LN2, LN2])
    assert metrics.modified_entropy(logits, labels).tolist() == pytest.approx([math.inf, LN2])
    assert metrics.js_divergence(logits[:1], torch.tensor([[0.0, -math.inf, -math.inf]])).item() == LN2


def test_one_class_is_certain():
    logits, labels = torch.tensor([[3.0]]), torch.tensor([0])
    assert metrics.accuracy(logits, labels) == 1.0
    assert metrics.logit_confidence(logits, labels).item() == 100.0
    for metric in (metrics.cross_entropy, metrics.modified_entropy):
        assert metric(logits, labels).item() == 0.0
    assert metrics.entropy(logits).item() == 0.0
    assert metrics.js_divergence(logits, -logits).item() == 0.0


@pytest.mark.parametrize("metric", PER_SAMPLE)
def test_shifting_all_logits_of_a_sample_changes_nothing(metric):
    logits, labels = sample(n=8)
    shift = torch.linspace(-50, 50, 8, dtype=torch.float64)[:, None]
    shifted = logits + shift
    torch.testing.assert_close(metric(shifted, labels), metric(logits, labels), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(metrics.entropy(shifted), metrics.entropy(logits), rtol=1e-11, atol=1e-12)


def test_modified_entropy_depends_on_the_samples_own_label():
    logits, labels = sample(n=12)
    permuted = labels.roll(1)
    first, second = metrics.modified_entropy(logits, labels), metrics.modified_entropy(logits, permuted)
    changed = labels != permuted
    assert changed.any() and (first != second)[changed].all()
    torch.testing.assert_close(first[~changed], second[~changed], rtol=0, atol=0)
    for i in range(12):                                         # and not on the labels of the others
        alone = metrics.modified_entropy(logits[i:i + 1], labels[i:i + 1])
        torch.testing.assert_close(alone, first[i:i + 1], rtol=1e-14, atol=1e-14)


def test_results_are_float64_of_any_input_type_and_inputs_stay_as_they_are():
    logits, labels = sample(n=6)
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        given = logits.to(kind, copy=True).requires_grad_()
        kept, kept_labels = given.detach().clone(), labels.clone()
        for metric in PER_SAMPLE:
            value = metric(given, labels)
            assert (value.dtype, value.shape, value.requires_grad) == (torch.float64, (6,), False)
            torch.testing.assert_close(value, metric(kept.double(), labels.int()), rtol=0, atol=0)
        metrics.entropy(given)
        metrics.js_divergence(given, given)
        metrics.accuracy(given, labels)
        assert torch.equal(given, kept) and torch.equal(labels, kept_labels)
    frozen = logits.numpy().copy()
    frozen.flags.writeable = False
    torch.testing.assert_close(metrics.cross_entropy(frozen, labels.tolist()),
                               metrics.cross_entropy(logits, labels), rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_inputs_may_lie_on_a_gpu():
    logits, labels = sample(n=6)
    for metric in PER_SAMPLE:
        torch.testing.assert_close(metric(logits.cuda(), labels), metric(logits, labels), rtol=0, atol=0)
    assert metrics.accuracy(logits.cuda(), labels.cuda()) == metrics.accuracy(logits, labels)


@pytest.mark.parametrize("metric", [*PER_SAMPLE, metrics.accuracy])
@pytest.mark.parametrize("logits, labels, message", [
    (torch.zeros(3), torch.zeros(3, dtype=torch.long), r"logits have the shape \(3,\).*: pass"),
    (torch.zeros(3, 0), torch.zeros(3, dtype=torch.long), r"logits have the shape \(3, 0\).*: pass"),
    (torch.zeros(3, 4), torch.zeros(3, 1).long(), r"labels have the shape \(3, 1\).*\(3,\).*: pass"),
    (torch.zeros(3, 4), torch.tensor([0, 1]), r"labels have the shape \(2,\).*: pass"),
    (torch.zeros(2, 4), torch.tensor([0, 4]), "labels are torch.int64 from 0 to 4.*from 0 to 3: pass"),
    (torch.zeros(2, 4), torch.tensor([0, -1]), "from -1 to 0.*: pass"),
    (torch.zeros(2, 4), torch.tensor([0.0, 1.0]), "labels are torch.float32.*integers.*: pass"),
])
def test_wrong_shapes_and_labels_raise(metric, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(logits, labels)


# --- several labels a sample

SEVERAL = [metrics.cross_entropy, metrics.label_probability, metrics.logit_confidence]


def several(n=40, classes=5, scale=3.0, seed=0):
    """Logits, and labels (n, classes) bool with none to all of a row set."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.rand(n, classes, generator=generator) < 0.4


def exact(row, labels):
    """Loss, probability and log-odds of one row of labels, as a product of decimals of 200 digits."""
    with localcontext() as context:
        context.prec = 200
        p = Decimal(1)
        for z, y in zip(row, labels, strict=True):
            p /= 1 + (-Decimal(z) if y else Decimal(z)).exp()
        return float(-p.ln()), float(p), float(p.ln() - (1 - p).ln())


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("classes", [1, 2, 5, 28])
def test_several_labels_match_the_product_of_their_probabilities(classes, scale):
    logits, labels = several(30, classes, scale)
    expected = list(zip(*(exact(*pair) for pair in zip(logits.tolist(), labels.tolist(), strict=True)), strict=True))
    for metric, values in zip(SEVERAL, expected, strict=True):
        if metric is metrics.logit_confidence:
            values = [min(max(v, -100.0), 100.0) for v in values]
        value = metric(logits, labels)
        assert value.dtype == torch.float64 and value.shape == (30,)
        np.testing.assert_allclose(value.numpy(), values, rtol=1e-11, atol=1e-13 if metric is metrics.logit_confidence else 0)


def test_several_labels_loss_is_the_sum_of_binary_cross_entropies():
    logits, labels = several()
    expected = []
    for row, mine in zip(logits.tolist(), labels.tolist(), strict=True):
        p = [1 / (1 + math.exp(-z)) for z in row]
        expected.append(math.fsum(-math.log(q if y else 1 - q) for q, y in zip(p, mine, strict=True)))
    np.testing.assert_allclose(metrics.cross_entropy(logits, labels).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(metrics.label_probability(logits, labels).numpy(), np.exp(-np.array(expected)), rtol=1e-11)


def test_several_labels_closed_forms():
    labels = torch.tensor([[True, False, True]])
    even = torch.zeros(1, 3)
    assert metrics.cross_entropy(even, labels).item() == pytest.approx(3 * LN2, abs=1e-15)
    assert metrics.label_probability(even, labels).item() == pytest.approx(1 / 8, abs=1e-16)
    assert metrics.logit_confidence(even, labels).item() == pytest.approx(-math.log(7), abs=1e-14)
    assert metrics.label_probability(even, ~labels).item() == pytest.approx(1 / 8, abs=1e-16)
    # odds 1 : 3, 3 : 1 and 3 : 1 of the labels: 1/4 * 3/4 * 3/4 = 9/64
    logits = math.log(3) * torch.tensor([[-1.0, -1.0, 1.0]], dtype=torch.float64)
    assert metrics.label_probability(logits, labels).item() == pytest.approx(9 / 64, abs=1e-15)
    assert metrics.logit_confidence(logits, labels).item() == pytest.approx(math.log(9 / 55), abs=1e-14)
    one = torch.tensor([[2.5], [-2.5]])                                        # of one label, phi is the logit itself
    assert metrics.logit_confidence(one, torch.tensor([[True], [True]])).tolist() == pytest.approx([2.5, -2.5], abs=1e-14)
    assert metrics.logit_confidence(one, torch.tensor([[False], [False]])).tolist() == pytest.approx([-2.5, 2.5], abs=1e-14)


def test_several_labels_in_another_order_change_nothing():
    logits, labels = several()
    for metric in SEVERAL:
        torch.testing.assert_close(metric(logits.flip(1), labels.flip(1)), metric(logits, labels), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(metric(-logits, ~labels), metric(logits, labels), rtol=1e-14, atol=0)


def test_saturated_logits_of_several_labels_stay_exact_and_finite():
    labels = torch.tensor([[True, False]])
    # P = 1 - 2 exp(-40) rounds to 1; the loss and phi keep its distance from 1
    sure = torch.tensor([[40.0, -40.0]])
    assert metrics.label_probability(sure, labels).item() == 1.0
    assert metrics.cross_entropy(sure, labels).item() == pytest.approx(2 * math.exp(-40), rel=1e-12)
    assert metrics.logit_confidence(sure, labels).item() == pytest.approx(40 - LN2, rel=1e-14)
    assert metrics.cross_entropy(5 * sure, labels).item() == pytest.approx(2 * math.exp(-200), rel=1e-12)
    assert metrics.logit_confidence(5 * sure, labels).item() == 100.0
    assert metrics.cross_entropy(-5 * sure, labels).item() == 400.0
    assert metrics.logit_confidence(-5 * sure, labels).item() == -100.0
    assert metrics.label_probability(-5 * sure, labels).item() == pytest.approx(math.exp(-400), rel=1e-12)
    for size in (800.0, 1e30):                                                  # exp(-800) is 0 in float64
        assert [metric(size / 40 * sure, labels).item() for metric in SEVERAL] == [0.0, 1.0, 100.0]
        assert [metric(size / -40 * sure, labels).item() for metric in SEVERAL[1:]] == [0.0, -100.0]
        assert metrics.cross_entropy(size / -40 * sure, labels).item() == pytest.approx(2 * size, rel=1e-6)
    mixed = torch.tensor([[1e30, 1e30], [-1e30, -1e30]])
    for metric in SEVERAL:
        assert torch.isfinite(metric(mixed, labels.repeat(2, 1))).all()


def test_a_masked_logit_of_several_labels_is_probability_zero():
    logits = torch.tensor([[-math.inf, 0.0]] * 2 + [[-math.inf, -math.inf]])
    labels = torch.tensor([[True, False], [False, True], [False, False]])
    assert metrics.label_probability(logits, labels).tolist() == [0.0, 0.5, 1.0]
    assert metrics.cross_entropy(logits, labels).tolist() == pytest.approx([math.inf, LN2, 0.0])
    assert metrics.logit_confidence(logits, labels).tolist() == pytest.approx([-100.0, 0.0, 100.0], abs=1e-15)


def test_accuracy_counts_the_first_label_alone():
    logits, labels = several(200, seed=4)
    labels[~labels.any(1), 2] = True
    right = []
    for row, mine in zip(logits.tolist(), labels.tolist(), strict=True):
        right.append(row.index(max(row)) == mine.index(True))
    assert metrics.accuracy(logits, labels) == pytest.approx(sum(right) / 200, abs=1e-15) and 0 < sum(right) < 200
    batches = [right[i:i + 64] for i in range(0, 200, 64)]
    assert metrics.batch_mean_accuracy(logits, labels, 64) == pytest.approx(sum(sum(b) / len(b) for b in batches) / 4, abs=1e-15)
    assert metrics.accuracy(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[False, True, True]])) == 1.0
    assert metrics.accuracy(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[False, True, True]])) == 0.0     # the second is no hit
    assert math.isnan(metrics.accuracy(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.bool)))


def test_several_labels_of_any_float_type_and_inputs_stay_as_they_are():
    logits, labels = several(6)
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        given = logits.to(kind, copy=True).requires_grad_()
        kept, kept_labels = given.detach().clone(), labels.clone()
        for metric in SEVERAL:
            value = metric(given, labels)
            assert (value.dtype, value.shape, value.requires_grad) == (torch.float64, (6,), False)
            torch.testing.assert_close(value, metric(kept.double().numpy(), labels.numpy()), rtol=0, atol=0)
            torch.testing.assert_close(value, metric(kept.double().tolist(), labels.tolist()), rtol=0, atol=0)
        assert torch.equal(given, kept) and torch.equal(labels, kept_labels)


def test_modified_entropy_needs_one_label_each(one_sentence):
    with pytest.raises(ValueError, match="several a sample; modified entropy needs one") as error:
        metrics.modified_entropy(*several())
    one_sentence(error)


@pytest.mark.parametrize("metric", [*PER_SAMPLE, metrics.accuracy])
@pytest.mark.parametrize("labels", [torch.zeros(3, 5, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool),
                                    torch.zeros(4, 3, dtype=torch.bool), torch.zeros(3, 4, 1, dtype=torch.bool),
                                    torch.zeros(3, 4, dtype=torch.long), torch.zeros(3, 4), torch.zeros(3, 1, dtype=torch.bool)])
def test_several_labels_of_wrong_shape_or_type_raise(metric, labels, one_sentence):
    with pytest.raises(ValueError, match="labels have the shape") as error:
        metric(torch.zeros(3, 4), labels)
    assert str(tuple(labels.shape)) in one_sentence(error)


# --- Jensen-Shannon

def test_js_matches_the_definition_and_is_symmetric():
    first, _ = sample(seed=1)
    second, _ = sample(seed=2)
    expected = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        p, q = softmax(a), softmax(b)
        m = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
        kl_p = math.fsum(x * math.log(x / y) for x, y in zip(p, m, strict=True))
        kl_q = math.fsum(x * math.log(x / y) for x, y in zip(q, m, strict=True))
        expected.append((kl_p + kl_q) / 2)
    value = metrics.js_divergence(first, second)
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-11)
    assert torch.equal(value, metrics.js_divergence(second, first))


def test_js_is_zero_for_equal_and_ln2_for_disjoint_predictions():
    logits, _ = sample(scale=100)
    assert torch.equal(metrics.js_divergence(logits, logits), torch.zeros(40, dtype=torch.float64))
    one, other = torch.tensor([[1000.0, 0.0, 0.0]]), torch.tensor([[0.0, 1000.0, 0.0]])
    assert metrics.js_divergence(one, other).item() == LN2
    for first in (logits, logits / 100):
        for second in (logits.roll(1, dims=0), first + 1e-9 * logits.roll(1, dims=0)):
            value = metrics.js_divergence(first, second)
            assert (value >= 0).all() and (value <= LN2).all()
    # p = (1, 0), q = (1/2, 1/2): JS = ½ ln 4/3 + ½ (½ ln 2/3 + ½ ln 2)
    half = metrics.js_divergence(torch.tensor([[0.0, -math.inf]]), torch.zeros(1, 2)).item()
    assert half == pytest.approx(0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * LN2, abs=1e-15)
    with pytest.raises(ValueError, match=r"shapes \(1, 3\) and \(1, 2\).*: pass"):
        metrics.js_divergence(one, torch.zeros(1, 2))


def test_zrf():
    first, _ = sample(seed=1)
    second, _ = sample(seed=2)
    assert metrics.zrf(first, first) == 1.0
    assert metrics.zrf(torch.tensor([[1000.0, 0.0]]), torch.tensor([[0.0, 1000.0]])) == pytest.approx(1 - LN2)
    mean = sum(metrics.js_divergence(first, second).tolist()) / 40
    assert metrics.zrf(first, second) == pytest.approx(1 - mean, abs=1e-14)
    assert math.isnan(metrics.zrf(torch.empty(0, 3), torch.empty(0, 3)))


# --- comparisons with the retrained model

def test_tow_is_one_for_the_retrained_model_and_the_product_else():
    assert metrics.tow([0.3, 0.99, 0.8], [0.3, 0.99, 0.8]) == 1.0
    unlearned = {"forget": 0.5, "retain": 1.0, "test": 0.8}
    retrained = {"test": 0.9, "forget": 0.25, "retain": 0.9}    # in another order
    expected = 0.75 * 0.9 * 0.9
    assert metrics.tow(unlearned, retrained) == pytest.approx(expected, abs=1e-15)
    assert metrics.tow(retrained, unlearned) == pytest.approx(expected, abs=1e-15)
    assert metrics.tow(pd.Series(unlearned), pd.Series(retrained)) == pytest.approx(expected, abs=1e-15)
    tensor, array = torch.tensor([0.5, 1.0, 0.8]), np.array([0.25, 0.9, 0.9])
    assert metrics.tow(tensor, array) == pytest.approx(expected, abs=1e-7)
    assert metrics.tow([0.0, 0.5, 0.5], [1.0, 0.5, 0.5]) == 0.0


@pytest.mark.parametrize("value", [93.5, -0.01, math.nan, math.inf])
def test_tow_refuses_what_is_no_accuracy(value):
    for pair in (([value, 0.5], [0.5, 0.5]), ({"a": 0.5}, {"a": value})):
        with pytest.raises(ValueError, match=rf"accuracy is {value:g}; it must be in \[0, 1\]: divide"):
            metrics.tow(*pair)


def test_avg_gap():
    assert metrics.avg_gap([100, 98, 90, 50], [100, 98, 90, 50]) == 0.0
    assert metrics.avg_gap([100, 98, 90, 50], [99, 100, 90, 49]) == pytest.approx(1.0)
    assert metrics.avg_gap({"UA": 1.0, "RA": 0.5}, {"RA": 0.25, "UA": 0.0}) == pytest.approx(0.625)
    assert math.isnan(metrics.avg_gap([math.nan, 1.0], [1.0, 1.0]))


@pytest.mark.parametrize("metric", [metrics.tow, metrics.avg_gap])
@pytest.mark.parametrize("first, second, message", [
    ([0.5, 0.5], [0.5], r"values for \[0, 1\] and for \[0\]; both must have the same: leave"),
    ({"a": 0.5}, {"b": 0.5}, r"values for \['a'\] and for \['b'\]; both must have the same: leave"),
    ([0.5], {"a": 0.5}, "one argument has keys.*: convert"),
    ([], [], "there are 0 values.*: pass"),
    ({}, {}, "there are 0 values.*: pass"),
])
def test_what_does_not_match_raises(metric, first, second, message):
    with pytest.raises(ValueError, match=message):
        metric(first, second)
