"""PostFilter, the gate and the block against loops over rows, and the algebra of PostFilter."""

import math

import pytest
import torch

from unlearnlib.filtering import block, forget_mask, gate, postfilter

CLASSES = 7
FORGOTTEN = [[2], [0], [6], [1, 4], [5, 0, 3], [0, 1, 2, 3, 4, 5]]


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(n=200, scale=2.0, dtype=torch.float64):
    return scale * torch.randn(n, CLASSES, generator=g(1), dtype=torch.float64).to(dtype)


def softmax(row):
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def filtered(row, forget, threshold):
    """PostFilter of one row, by its definition."""
    p, lowest = softmax(row), min(row)
    hit = [c for c in forget if p[c] > threshold]
    moved = sum(row[c] - lowest for c in hit) / (len(row) - len(forget))
    return [lowest if k in hit else row[k] if k in forget else row[k] + moved for k in range(len(row))]


# --- PostFilter

@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("forget", FORGOTTEN)
def test_postfilter_row_by_row(forget, threshold):
    t = logits()
    expected = torch.tensor([filtered(row, forget, threshold) for row in t.tolist()], dtype=torch.float64)
    out = postfilter(t, forget, threshold)
    assert out.dtype == t.dtype and out.shape == t.shape
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    hits = (t.softmax(1)[:, forget] > threshold).sum()
    assert hits > 0 and (threshold == 0 or hits < t[:, forget].numel())        # the sample shows rows of both kinds


@pytest.mark.parametrize("forget", FORGOTTEN)
def test_postfilter_moves_logits_and_changes_no_odds_among_the_retained_classes(forget):
    t = logits(dtype=torch.float32)
    out, kept = postfilter(t, forget), [k for k in range(CLASSES) if k not in forget]
    torch.testing.assert_close(out.sum(1), t.sum(1), rtol=0, atol=2e-5)
    torch.testing.assert_close(out[:, kept].softmax(1), t[:, kept].softmax(1), rtol=0, atol=1e-6)
    before, after = (x.softmax(1)[:, forget].sum(1) for x in (t, out))
    hit = (t.softmax(1)[:, forget] > 0.01).any(1)
    assert hit.any() and (after <= before).all() and after[hit].mean() < 0.2 * before[hit].mean()


@pytest.mark.parametrize("forget", [[2], [1, 4]])
def test_a_row_without_a_forget_class_comes_back_bit_for_bit(forget):
    t = logits(dtype=torch.float32)
    untouched = [all(p <= 0.1 for k, p in enumerate(softmax(row)) if k in forget) for row in t.double().tolist()]
    assert 20 < sum(untouched) < 180
    out = postfilter(t, forget, 0.1)
    for before, after, same in zip(t, out, untouched, strict=True):
        assert torch.equal(before, after) == same


def test_the_worked_example():
    assert postfilter(torch.tensor([[4.0, 1.0, 0.0]]), [0]).tolist() == [[0.0, 3.0, 2.0]]
    # Two forget classes of four: 5 and 3 fall to the minimum 1, and the 6 that they held are shared by the other two.
    assert postfilter(torch.tensor([[5.0, 1.0, 3.0, 2.0]]), [0, 2]).tolist() == [[1.0, 4.0, 1.0, 5.0]]
    # One of them below the threshold: it keeps its logit; the other's 9 are still shared by two.
    assert postfilter(torch.tensor([[9.0, 1.0, 0.0, 2.0]]), [0, 2]).tolist() == [[0.0, 5.5, 0.0, 6.5]]
    assert postfilter(torch.tensor([[9.0, 0.0, 1.0, 2.0]]), [0, 2]).tolist() == [[0.0, 4.5, 1.0, 6.5]]
    assert postfilter(torch.tensor([[9.0, 0.0, 1.0, 2.0]]), [0, 2], 1e-9).tolist() == [[0.0, 5.0, 0.0, 7.0]]


def test_the_default_threshold_is_a_hundredth():
    t = logits()
    assert torch.equal(postfilter(t, [2]), postfilter(t, [2], 0.01)) and not torch.equal(postfilter(t, [2]), postfilter(t, [2], 0.02))
    assert torch.equal(gate(t, [2]), gate(t, [2], 0.01)) and not torch.equal(gate(t, [2]), gate(t, [2], 0.02))


def test_thresholds_are_strict():
    """Two equal logits: probabilities of exactly one half, which neither PostFilter nor the gate takes for the other side."""
    t = torch.tensor([[1.0, 1.0]])
    assert t.softmax(1).tolist() == [[0.5, 0.5]]
    assert gate(t, [0], 0.5).tolist() == [False] and gate(t, [0], 0.5 + 1e-6).tolist() == [True]
    t = torch.tensor([[1.0, 1.0, -200.0]])                                      # so that the hit moves something
    assert t.softmax(1).tolist() == [[0.5, 0.5, 0.0]]
    assert torch.equal(postfilter(t, [0], 0.5), t) and not torch.equal(postfilter(t, [0], 0.5 - 1e-6), t)


def test_a_class_named_twice_counts_once():
    t = logits()
    assert torch.equal(postfilter(t, [2, 2]), postfilter(t, [2]))


def test_nothing_is_changed_in_place():
    t = logits()
    before = t.clone()
    postfilter(t, [1, 4]), gate(t, [1, 4]), block(t, [1, 4])
    assert torch.equal(t, before)


# --- rows that are kept

@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.2, 0.5, 1.1])
@pytest.mark.parametrize("forget", FORGOTTEN)
def test_the_gate_keeps_rows_in_which_no_forget_class_reaches_the_threshold(forget, threshold):
    t = logits()
    kept = gate(t, forget, threshold)
    assert kept.dtype == torch.bool
    assert kept.tolist() == [not any(softmax(row)[c] >= threshold for c in forget) for row in t.tolist()]
    assert kept.any() == (threshold > 0 and (threshold > 0.01 or len(forget) < 6)) and kept.all() == (threshold > 1)


@pytest.mark.parametrize("forget", FORGOTTEN)
def test_the_block_keeps_rows_that_the_teacher_takes_for_another_class(forget):
    t = logits()
    kept = block(t, forget)
    assert kept.dtype == torch.bool and kept.any() and not kept.all()
    assert kept.tolist() == [max(range(CLASSES), key=lambda k: row[k]) not in forget for row in t.tolist()]
    assert torch.equal(block(t, forget, 0.9), kept) and torch.equal(block(t, forget, 0.0), kept)


def test_the_mask():
    t = torch.zeros(3, 5)
    assert forget_mask(t, [1, 4]).tolist() == [False, True, False, False, True]
    assert forget_mask(t, []).tolist() == [False] * 5


@pytest.mark.parametrize("bad", [[CLASSES], [-1], [2, 99], [0, -3], list(range(CLASSES))])
@pytest.mark.parametrize("function", [postfilter, gate, block, forget_mask])
def test_classes_that_do_not_exist_or_leave_none(function, bad, one_sentence):
    with pytest.raises(ValueError, match=f"0 to {CLASSES - 1}") as error:
        function(logits(3), bad)
    assert str(bad) in one_sentence(error)
