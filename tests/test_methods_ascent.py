"""Gradient ascent, l1-sparse fine-tuning and influence unlearning against hand-written steps in float64."""

import copy
import math

import pytest
import torch
from conftest import g
from torch import nn

from unlearnlib.access import Access
from unlearnlib.methods import METHODS
from unlearnlib.train import fit

CLASSES, N_FORGET, N_RETAIN = 4, 9, 14


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3 * 3 * 3, CLASSES)

    def forward(self, x):
        return self.fc(torch.tanh(self.norm(self.conv(x))).flatten(1))


def network(frozen=False):
    net = Net().double()
    with torch.no_grad():
        for i, tensor in enumerate([*net.parameters(), net.norm.running_mean]):
            tensor.copy_(0.5 * torch.randn(tensor.shape, generator=g(i), dtype=torch.float64))
        net.norm.running_var.copy_(torch.rand(3, generator=g(50), dtype=torch.float64) + 0.5)
    if frozen:
        net.conv.weight.requires_grad_(False)
    return net.eval()


def sample(n, seed):
    return torch.randn(n, 2, 5, 5, generator=g(seed), dtype=torch.float64), torch.randint(CLASSES, (n,), generator=g(seed + 100))


@pytest.fixture
def access():
    return Access(forget=sample(N_FORGET, 1), retain=sample(N_RETAIN, 2))


def run(name, access, model=None, **settings):
    return METHODS[name].run(model or network(), access, generator=g(), **settings)


def cross_entropy(outputs, labels):
    """Sum over samples."""
    return sum(torch.logsumexp(row, 0) - row[y] for row, y in zip(outputs, labels.tolist(), strict=True))


def same(a, b, atol=1e-11):
    for (name, p), q in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def sgd(model, lr, momentum, decay):
    """A function that takes one step of v <- momentum v + g + decay p, p <- p - lr v."""
    weights = [p for p in model.parameters() if p.requires_grad]
    speed = [torch.zeros_like(p) for p in weights]

    def step(loss):
        for p, v, slope in zip(weights, speed, torch.autograd.grad(loss, weights), strict=True):
            v.mul_(momentum).add_(slope + decay * p.detach())
            p.data.sub_(lr * v)
    return step


# --- the penalty of the training loop

def test_fit_adds_a_penalty_of_the_epoch(access):
    heard, epochs = [], []

    def penalty(epoch):
        epochs.append(epoch)
        return torch.tensor(10.0 * epoch)

    for extra in ({}, {"penalty": penalty}):
        fit(network(), access.retain_images, access.retain_labels, generator=g(), epochs=3, lr=0.0, batch_size=8, batchnorm="eval",
            callback=lambda *, loss, **_: heard.append(float(loss)), **extra)
    assert epochs == [0, 0, 1, 1, 2, 2]
    assert [b - a for a, b in zip(heard[:6], heard[6:], strict=True)] == pytest.approx([0, 0, 10, 10, 20, 20])


# --- gradient ascent

@pytest.mark.parametrize("batchnorm", ["train", "eval"])
def test_ascent_is_descent_on_the_negative_loss(access, batchnorm):
    student, heard = network(), []
    student.train(batchnorm == "train")
    step, generator = sgd(student, 0.05, 0.9, 0.01), g()
    for _ in range(3):
        for batch in torch.randperm(N_FORGET, generator=generator).split(4):
            if len(batch) > 1:                          # nine samples: the last batch of one is left out
                step(-cross_entropy(student(access.forget_images[batch]), access.forget_labels[batch]) / len(batch))
    result = run("gradient_ascent", access, epochs=3, lr=0.05, batch_size=4, weight_decay=0.01, batchnorm=batchnorm,
                 callback=lambda *, images, loss, **_: heard.append((images, float(loss))))
    same(result, student)
    assert [n for n, _ in heard] == [4] * 6 and heard[-1][1] < heard[0][1] < 0 and not result.training


def test_ascent_has_the_official_settings(access):
    stated = run("gradient_ascent", access, epochs=5, lr=1e-4, batch_size=256, momentum=0.9, weight_decay=5e-4, batchnorm="train")
    same(run("gradient_ascent", access), stated, 0)


# --- l1-sparse

@pytest.mark.parametrize("alpha", [0.0, 0.003, 0.2])
@pytest.mark.parametrize("frozen", [False, True])
def test_l1_sparse_is_fine_tuning_with_a_fading_norm(access, alpha, frozen):
    student, heard = network(frozen).train(), []
    step, generator, wanted = sgd(student, 0.02, 0.9, 5e-4), g(), []
    for epoch in range(4):
        for batch in torch.randperm(N_RETAIN, generator=generator).split(5):
            norm = sum(p.abs().sum() for p in student.parameters() if p.requires_grad)
            ce = cross_entropy(student(access.retain_images[batch]), access.retain_labels[batch]) / len(batch)
            wanted.append(float((ce + alpha * (4 - epoch) / 4 * norm).detach()))
            step(ce + alpha * (4 - epoch) / 4 * norm)
    result = run("l1_sparse", access, network(frozen), epochs=4, lr=0.02, batch_size=5, alpha=alpha,
                 callback=lambda *, loss, **_: heard.append(float(loss)))
    same(result, student)
    assert heard == pytest.approx(wanted, rel=1e-10) and not result.training
    assert torch.equal(result.conv.weight, network().conv.weight) == frozen


def test_l1_makes_weights_small(access):
    sizes = [sum(float(p.detach().abs().sum()) for p in run("l1_sparse", access, alpha=a, epochs=30, batch_size=7).parameters())
             for a in (0.0, 0.01, 0.1)]
    assert sizes[0] > sizes[1] > 1.5 * sizes[2]


def test_l1_has_the_official_settings(access):
    stated = run("l1_sparse", access, epochs=10, lr=0.01, batch_size=256, alpha=0.2, momentum=0.9, weight_decay=5e-4, batchnorm="train")
    same(run("l1_sparse", access), stated, 0)


@pytest.mark.parametrize("alpha", [-1e-4, math.inf, math.nan])
def test_a_bad_weight_of_the_norm_is_refused(access, alpha, one_sentence):
    with pytest.raises(ValueError, match=f"alpha is {alpha}; it must be at least 0 and finite") as error:
        run("l1_sparse", access, alpha=alpha)
    one_sentence(error)


# --- influence

def slopes(model, x, y):
    weights = [p for p in model.parameters() if p.requires_grad]
    return torch.cat([s.flatten() for s in torch.autograd.grad(cross_entropy(model(x), y), weights)])


@pytest.mark.parametrize(("samples", "alpha", "frozen"), [(6, 1.0, False), (100, 3.0, False), (1, -0.5, False), (6, 1.0, True)])
def test_influence_is_the_published_recursion(access, samples, alpha, frozen):
    """100: more than there are; N in the denominator stays 100."""
    model = network(frozen)
    x_f, y_f, x_r, y_r = access.forget_images, access.forget_labels, access.retain_images, access.retain_labels
    g_f = sum(slopes(model, x_f[i:i + 1], y_f[i:i + 1]) for i in range(N_FORGET)) / 23
    g_r = sum(slopes(model, x_r[i:i + 1], y_r[i:i + 1]) for i in range(N_RETAIN)) * 9 / (23 * 14)
    drawn = torch.randperm(N_RETAIN, generator=g()).tolist()[:samples + 1]
    k, o = g_f - g_r, slopes(model, x_r[drawn[0]][None], y_r[drawn[0]][None])
    for i in drawn[1:]:
        slope = slopes(model, x_r[i][None], y_r[i][None])
        below = samples + torch.dot(o, slope)
        k, o = k - torch.dot(k, slope) / below * o, o - torch.dot(o, slope) / below * o
    start = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    heard = []
    result = run("influence", access, network(frozen).train(), alpha=alpha, samples=samples, batch_size=4,
                 callback=lambda *, images: heard.append(images))
    moved = torch.cat([p.detach().flatten() for p in result.parameters() if p.requires_grad])
    torch.testing.assert_close(moved, start + alpha * k, rtol=0, atol=1e-12)
    assert sum(heard) == 23 + len(drawn) and (moved - start).norm() > 1e-3
    assert all(torch.equal(b, c) for b, c in zip(result.buffers(), model.buffers(), strict=True)) and not result.training
    assert torch.equal(result.conv.weight, model.conv.weight) == frozen


def test_a_step_against_the_forget_set(access):
    """Its loss rises, that of the retain set hardly."""
    model = network()
    result = run("influence", access, model, samples=10, alpha=0.5)
    rises = [float((cross_entropy(result(x), y) - cross_entropy(model(x), y)).detach()) / len(x) for x, y in
             ((access.forget_images, access.forget_labels), (access.retain_images, access.retain_labels))]
    assert rises[0] > 0.01 and rises[0] > 3 * abs(rises[1])


def test_influence_has_the_official_settings(access):
    same(run("influence", access), run("influence", access, alpha=1.0, samples=1000, batch_size=256), 0)


@pytest.mark.parametrize("settings", [{"samples": 0}, {"alpha": math.inf}, {"alpha": math.nan}])
def test_bad_settings_of_influence_are_refused(access, settings, one_sentence):
    with pytest.raises(ValueError, match="influence got samples=.* alpha=") as error:
        run("influence", access, **settings)
    one_sentence(error)


@pytest.mark.parametrize("name", ["influence", "random_labels", "salun", "class_f"])
def test_empty_sets_are_refused(access, name, one_sentence):
    full = {"forget": (access.forget_images, access.forget_labels), "retain": (access.retain_images, access.retain_labels)}
    for part, (x, y) in full.items():
        with pytest.raises(ValueError, match="there are .*0 .*at least 1: pass (a )?non-empty set") as error:
            run(name, Access(**full | {part: (x[:0], y[:0])}))
        one_sentence(error)


@pytest.mark.parametrize("name", ["gradient_ascent", "l1_sparse", "influence", "random_labels", "salun", "class_f"])
def test_the_callers_model_stays_as_it_is(access, name):
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    result = run(name, access, model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and all(m.training for m in model.modules())
    assert any(not torch.equal(v, before[k]) for k, v in result.state_dict().items())
