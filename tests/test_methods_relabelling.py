"""Random labels and SalUn against a loop over batches, and the mask against a sort of all gradients."""

import math

import pytest
import torch
from conftest import g
from torch import nn

from unlearnlib.access import Access
from unlearnlib.methods import METHODS
from unlearnlib.methods.relabelling import saliency_mask

CLASSES, N_FORGET, N_RETAIN = 4, 9, 14


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3 * 3 * 3, CLASSES)

    def forward(self, x):
        return self.fc(torch.tanh(self.norm(self.conv(x))).flatten(1))


def network():
    net = Net().double()
    with torch.no_grad():
        for i, tensor in enumerate([*net.parameters(), net.norm.running_mean]):
            tensor.copy_(0.5 * torch.randn(tensor.shape, generator=g(i), dtype=torch.float64))
        net.norm.running_var.copy_(torch.rand(3, generator=g(50), dtype=torch.float64) + 0.5)
    return net.eval()


def sample(n, seed):
    return torch.randn(n, 2, 5, 5, generator=g(seed), dtype=torch.float64), torch.randint(CLASSES, (n,), generator=g(seed + 100))


@pytest.fixture
def access():
    return Access(forget=sample(N_FORGET, 1), retain=sample(N_RETAIN, 2))


def run(name, access, model=None, seed=0, **settings):
    return METHODS[name].run(model or network(), access, generator=g(seed), **settings)


def weights(model):
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def cross_entropy(outputs, labels):
    return sum(torch.logsumexp(row, 0) - row[y] for row, y in zip(outputs, labels.tolist(), strict=True)) / len(labels)


def reference(access, *, epochs, lr, batch_size, momentum, weight_decay, batchnorm, mask=None, restore=True):
    """Plain loops; the momentum of a masked weight is masked too, as in the official code."""
    student, generator = network(), g()
    student.train(batchnorm == "train")
    start = weights(student)
    named = dict(student.named_parameters())
    speed = {n: torch.zeros_like(p) for n, p in named.items()}
    for _ in range(epochs):
        drawn = torch.randint(CLASSES, (N_FORGET,), generator=generator)
        for images, labels in ((access.forget_images, drawn), (access.retain_images, access.retain_labels)):
            for batch in torch.randperm(len(images), generator=generator).split(batch_size):
                if batchnorm == "train" and batch_size > 1 == len(batch):
                    continue
                slopes = torch.autograd.grad(cross_entropy(student(images[batch]), labels[batch]), list(named.values()))
                for (n, p), slope in zip(named.items(), slopes, strict=True):
                    keep = torch.ones_like(p) if mask is None else mask[n].double()
                    speed[n] = momentum * speed[n] + keep * slope + weight_decay * p.detach()
                    p.data = p.data - lr * speed[n]
                    if restore:
                        p.data = keep * p.data + (1 - keep) * start[n]
                        speed[n] = speed[n] * keep
    return student


PLAIN = {"epochs": 3, "lr": 0.05, "batch_size": 4, "momentum": 0.9, "weight_decay": 0.01, "batchnorm": "train"}


def close(a, b):
    for (name, p), q in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("changes", [{}, {"batchnorm": "eval"}, {"batch_size": 100}, {"momentum": 0.0}, {"batch_size": 13}], ids=str)
def test_random_labels_are_a_pass_over_each_set_in_turn(access, changes):
    """Batches of 4 and 13 leave one sample over, in one set or the other."""
    settings, heard = PLAIN | changes, []
    result = run("random_labels", access, **settings, callback=lambda **k: heard.append(k))
    close(result, reference(access, **settings))
    assert not result.training and all(k["model"] is result for k in heard)
    assert {k["epoch"] for k in heard} == {0, 1, 2} and [k["epoch"] for k in heard] == sorted(k["epoch"] for k in heard)
    odd = {4: N_FORGET, 13: N_RETAIN}.get(settings["batch_size"])
    left_out = 3 if settings["batchnorm"] == "train" and odd else 0
    assert sum(k["images"] for k in heard) == 3 * (N_FORGET + N_RETAIN) - left_out


def test_labels_are_drawn_anew_each_epoch_over_all_classes(monkeypatch):
    """Each class as often as the others, the right one included; the labels of the forget set are not needed."""
    given, real = [], torch.nn.functional.cross_entropy

    def spy(outputs, targets, **options):
        given.append(targets)
        return real(outputs, targets, **options)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", spy)
    images, _ = sample(200, 5)
    view = Access(forget=(images, None), retain=sample(N_RETAIN, 2))
    run("random_labels", view, epochs=6, batch_size=500)
    drawn = torch.stack(given[::2])                     # (6, 200)
    counts = torch.stack([(drawn == c).sum() for c in range(CLASSES)])
    assert counts.sum() == 1200 and (counts - 300).abs().max() < 60 and len({tuple(row.tolist()) for row in drawn}) == 6


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_mask_takes_the_largest_gradients_of_all_weights(access, share):
    model = network().train()
    mask = saliency_mask(model, access.forget_images, access.forget_labels, share, batch_size=4)
    assert model.training and all(p.grad is None for p in model.parameters())
    judge = network().eval()
    slopes = torch.autograd.grad(cross_entropy(judge(access.forget_images), access.forget_labels), list(judge.parameters()))
    ranked = sorted(((abs(float(v)), n, i) for (n, _), s in zip(judge.named_parameters(), slopes, strict=True)
                     for i, v in enumerate(s.flatten())), reverse=True)
    chosen = {(n, i) for _, n, i in ranked[:int(share * len(ranked))]}
    found = {(n, i) for n, m in mask.items() for i, v in enumerate(m.flatten().tolist()) if v}
    assert found == chosen and len(found) == int(share * len(ranked))
    assert all(m.shape == p.shape and m.dtype == torch.bool for m, p in zip(mask.values(), model.parameters(), strict=True))


def test_the_mask_names_trainable_weights_and_counts_images(access):
    model, heard = network(), []
    model.conv.weight.requires_grad_(False)
    with torch.no_grad():                               # as inside an evaluation
        mask = saliency_mask(model, access.forget_images, access.forget_labels, 0.5, batch_size=4, callback=lambda **k: heard.append(k))
    trainable = [n for n, p in model.named_parameters() if p.requires_grad]
    assert list(mask) == trainable and sum(int(m.sum()) for m in mask.values()) == sum(m.numel() for m in mask.values()) // 2
    assert [k["images"] for k in heard] == [4, 4, 1]


def test_equal_gradients_are_taken_in_order():
    model = nn.Linear(6, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    mask = saliency_mask(model, torch.ones(4, 6), torch.tensor([0, 0, 0, 0]), 0.5)
    assert mask["weight"].flatten().tolist() == [True] * 7 + [False] * 5 and not mask["bias"].any()


@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_salun_moves_the_salient_weights_alone(access, share, restore):
    mask = saliency_mask(network(), access.forget_images, access.forget_labels, share)
    result = run("salun", access, mask_share=share, restore=restore, **PLAIN)
    close(result, reference(access, mask=mask, restore=restore, **PLAIN))
    start, end = weights(network()), weights(result)
    moved = {n: end[n] != start[n] for n in start}
    if restore:
        assert all(not moved[n][~mask[n]].any() for n in start)
    elif share < 1:
        assert any(moved[n][~mask[n]].any() for n in start)
        for n in start:                                 # by weight decay alone: towards zero
            assert (end[n].abs()[~mask[n]] <= start[n].abs()[~mask[n]]).all()
    assert all(moved[n][mask[n]].all() for n in start) and not torch.equal(result.norm.running_mean, network().norm.running_mean)


def test_salun_with_all_weights_is_random_labels(access):
    close(run("salun", access, mask_share=1.0, **PLAIN), run("random_labels", access, **PLAIN))


def test_frozen_weights_stay(access):
    for name in ("random_labels", "salun"):
        model = network()
        model.conv.weight.requires_grad_(False)
        result = run(name, access, model, **PLAIN)
        assert torch.equal(result.conv.weight, model.conv.weight) and not torch.equal(result.fc.weight, model.fc.weight)


def test_the_official_settings(access):
    common = {"epochs": 10, "batch_size": 256, "momentum": 0.9, "weight_decay": 5e-4, "batchnorm": "train"}
    for name, stated in (("random_labels", {"lr": 0.01}), ("salun", {"lr": 0.013, "mask_share": 0.5, "restore": True})):
        a, b = run(name, access), run(name, access, **common, **stated)
        assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(("name", "settings", "message"), [
    ("salun", {"mask_share": -0.1}, "mask_share is -0.1; it must be in"), ("salun", {"mask_share": 1.1}, "mask_share is 1.1"),
    ("salun", {"mask_share": math.nan}, "mask_share is nan"),
    ("salun", {"batchnorm": "off"}, "batchnorm is 'off'; it must be train or eval"),
    ("random_labels", {"batchnorm": "x"}, "batchnorm is 'x'")])
def test_bad_settings_are_one_sentence(access, name, settings, message, one_sentence):
    with pytest.raises(ValueError, match=message) as error:
        run(name, access, **settings)
    one_sentence(error)
