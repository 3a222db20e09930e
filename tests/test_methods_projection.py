"""Class-F against singular value decompositions and patches cut by loops, in float64."""

import copy
import math

import pytest
import torch
from torch import nn

from unlearnlib import data, metrics, train
from unlearnlib.access import Access
from unlearnlib.methods import METHODS
from unlearnlib.methods.projection import importance_matrix, layer_grams


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=g(seed), dtype=torch.float64)


class Net(nn.Module):
    """Strides, padding, dilation and a bias; images 2 x 7 x 6."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.second = nn.Conv2d(3, 4, (2, 3), dilation=(2, 1), bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.second(torch.relu(self.first(x))))).flatten(1))


def network():
    net = Net().double()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(0.6 * randn(*p.shape, seed=i))
    return net.eval()


def patches(layer, x):
    """The inputs of a layer as columns, one at a time: (d, columns)."""
    if isinstance(layer, nn.Linear):
        return x.T
    columns = []
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    for image in x:
        c, h, w = image.shape
        padded = torch.zeros(c, h + 2 * ph, w + 2 * pw, dtype=x.dtype)
        padded[:, ph:ph + h, pw:pw + w] = image
        for top in range(0, padded.shape[1] - dh * (kh - 1), sh):
            for left in range(0, padded.shape[2] - dw * (kw - 1), sw):
                columns.append(torch.stack([padded[k, top + dh * i, left + dw * j] for k in range(c) for i in range(kh)
                                            for j in range(kw)]))
    return torch.stack(columns, dim=1)


def inputs(net, x):
    """What each layer of Net sees."""
    a = torch.relu(net.first(x))
    return {"first": x, "second": a, "fc": torch.relu(net.norm(net.second(a))).flatten(1)}


def by_svd(columns, alpha):
    u, sigma, _ = torch.linalg.svd(columns, full_matrices=False)
    share = sigma ** 2 / (sigma ** 2).sum()
    return u @ torch.diag(alpha * share / ((alpha - 1) * share + 1)) @ u.T


@pytest.mark.parametrize("alpha", [0.3, 1.0, 3.0, 100.0, 1e4])
@pytest.mark.parametrize("shape", [(6, 40), (6, 4), (6, 1)])
def test_the_importance_is_that_of_the_singular_values(alpha, shape):
    """More columns than rows, fewer, and a single one."""
    x = randn(*shape) * torch.linspace(0.1, 3, shape[0])[:, None]
    m = importance_matrix(x @ x.T, alpha)
    torch.testing.assert_close(m, by_svd(x, alpha), rtol=0, atol=1e-10)
    assert torch.linalg.eigvalsh(m).min() > -1e-10 and torch.linalg.eigvalsh(m).max() < 1 + 1e-10


def test_inputs_that_are_all_zero_have_no_space():
    assert not importance_matrix(torch.zeros(4, 4, dtype=torch.float64), 3.0).any()


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_alpha_is_one_sentence(alpha, one_sentence):
    with pytest.raises(ValueError, match=f"alpha is {alpha}; it must be positive") as error:
        importance_matrix(torch.eye(2), alpha)
    one_sentence(error)


def test_grams_are_those_of_the_patches():
    net, x, heard = network().train(), randn(5, 2, 7, 6, seed=3), []
    grams = layer_grams(net, x, generator=g(), batch_size=2, callback=lambda **k: heard.append((k["images"], k["backward"])))
    assert all(m.training for m in net.modules()) and heard == [(2, False), (2, False), (1, False)]
    seen = inputs(network(), x)
    assert list(grams) == ["first", "second", "fc"]
    for name, gram in grams.items():
        columns = patches(getattr(net, name), seen[name])
        torch.testing.assert_close(gram, (columns @ columns.T).detach(), rtol=0, atol=1e-10)
        assert not gram.requires_grad
    assert not net.first._forward_pre_hooks


def test_columns_are_drawn_where_there_are_too_many(monkeypatch):
    """Of each batch, int(max_columns * batch / n) + 1, without replacement, from the generator."""
    net, x = network(), randn(5, 2, 7, 6, seed=3)
    grams = layer_grams(net, x, generator=g(4), batch_size=3, max_columns=20)
    generator, seen = g(4), [inputs(net, x[:3]), inputs(net, x[3:])]
    expected = {}
    for part, n in zip(seen, (3, 2), strict=True):
        for name in ("first", "second", "fc"):
            columns, limit = patches(getattr(net, name), part[name]).detach(), 4 * n + 1
            if columns.shape[1] > limit:
                columns = columns[:, torch.randperm(columns.shape[1], generator=generator)[:limit]]
            expected[name] = expected.get(name, 0) + columns @ columns.T
    for name, gram in grams.items():
        torch.testing.assert_close(gram, expected[name], rtol=0, atol=1e-10)


def test_linear_layers_of_sequences_see_one_vector_for_each_place():
    layer, x = nn.Sequential(nn.Linear(3, 2)).double(), randn(4, 5, 3)
    gram, = layer_grams(layer, x, generator=g()).values()
    torch.testing.assert_close(gram, torch.einsum("nti,ntj->ij", x, x), rtol=0, atol=1e-12)


def test_a_failing_model_is_left_without_hooks():
    net = network()
    with pytest.raises(RuntimeError):
        layer_grams(net, randn(2, 3, 7, 6), generator=g())
    assert not net.first._forward_pre_hooks and not net.fc._forward_pre_hooks


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(2, 4, 3, padding="same")])
def test_other_convolutions_are_one_sentence(layer, one_sentence):
    with pytest.raises(ValueError, match="has groups=. and padding=.*use another method") as error:
        layer_grams(nn.Sequential(layer), torch.zeros(1, 2, 7, 6), generator=g())
    one_sentence(error)


# --- the method

LABELS = torch.tensor([0, 2, 0, 1, 2, 2, 0, 1, 0, 2])


@pytest.fixture
def access():
    return Access(forget=(randn(6, 2, 7, 6, seed=1) + 0.5, None), retain=(randn(10, 2, 7, 6, seed=2), LABELS))


def projected(net, retain, forget, alpha_retain, alpha_forget):
    seen_r, seen_f, out = inputs(net, retain), inputs(net, forget), {}
    for name in ("first", "second", "fc"):
        layer = getattr(net, name)
        m_r, m_f = by_svd(patches(layer, seen_r[name]), alpha_retain), by_svd(patches(layer, seen_f[name]), alpha_forget)
        p = torch.eye(len(m_r), dtype=torch.float64) - (m_f - m_f @ m_r)
        out[name] = (layer.weight.flatten(1) @ p.T).reshape(layer.weight.shape).detach()
    return out


@pytest.mark.parametrize("alphas", [(100.0, 3.0), (3.0, 100.0), (1.0, 1.0)])
def test_every_weight_is_projected_once_and_nothing_else_changes(access, alphas):
    net = network()
    result = METHODS["class_f"].run(net.train(), access, generator=g(), alpha_retain=alphas[0], alpha_forget=alphas[1])
    expected = projected(network(), access.retain_images, access.forget_images, *alphas)
    for name, value in result.state_dict().items():
        wanted = expected.get(name.removesuffix(".weight"), net.state_dict()[name])
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-9)
    assert not result.training and (result.fc.weight - net.fc.weight).norm() > 1e-3


def test_samples_are_drawn_evenly_from_the_classes(access):
    """Six: two of each of the three retained classes, and all six of the forget set; the draws come in this order."""
    generator, chosen = g(5), []
    for c in range(3):
        group = (LABELS == c).nonzero().flatten()
        chosen.append(group[torch.randperm(len(group), generator=generator)[:2]])
    forgotten = torch.randperm(6, generator=generator)[:6]
    assert [len(c) for c in chosen] == [2, 2, 2]
    result = METHODS["class_f"].run(network(), access, generator=g(5), samples=6)
    expected = projected(network(), access.retain_images[torch.cat(chosen)], access.forget_images[forgotten], 100.0, 3.0)
    torch.testing.assert_close(result.second.weight.detach(), expected["second"], rtol=0, atol=1e-9)
    heard = []
    for samples in (4, 5, 1):                           # of each class round(samples / 3), but at least one
        METHODS["class_f"].run(network(), access, generator=g(5), samples=samples, callback=lambda **k: heard.append(k["images"]))
    assert heard == [3, 4, 6, 5, 3, 1]


def test_the_official_settings(access):
    a, b = (METHODS["class_f"].run(network(), access, generator=g(), **s) for s in (
        {}, {"alpha_retain": 100.0, "alpha_forget": 3.0, "samples": 900, "batch_size": 150, "max_columns": 10_000}))
    assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_class_of_digits_is_forgotten(trained, digits):
    s = data.split(digits, "class:0")
    before = copy.deepcopy(trained.state_dict())
    result = METHODS["class_f"].run(trained, s.access(), generator=g(), alpha_forget=30.0)
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    z, old = (train.logits(m, digits.train_images) for m in (result, trained))
    y, lost = digits.train_labels, {}
    for part in ("forget", "retain"):
        i = getattr(s, part)
        lost[part] = metrics.accuracy(old[i], y[i]) - metrics.accuracy(z[i], y[i])
    assert lost["forget"] > 0.2 and lost["forget"] > 2 * lost["retain"]


@pytest.mark.parametrize("settings", [{"samples": 0}, {"batch_size": 0}, {"max_columns": 0}])
def test_bad_settings_are_one_sentence(access, settings, one_sentence):
    with pytest.raises(ValueError, match="class_f got samples=.*all must be at least 1") as error:
        METHODS["class_f"].run(network(), access, **settings)
    one_sentence(error)
