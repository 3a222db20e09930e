"""LFSSD and SSD against brute force in float64, pen and paper, the official code's semantics, and their exact invariants."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import g
from torch import nn

from unlearnlib import data, models
from unlearnlib.access import Access, AccessError
from unlearnlib.methods import METHODS, lfssd
from unlearnlib.methods.lfssd import dampen, importance, importances, selected

KINDS, REDUCTIONS = ["l2", "fisher"], ["batch", "sample"]


class Net(nn.Module):
    """Everything that an importance must cope with: BatchNorm, biases, dropout, a frozen and an unused parameter."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
        self.unused = nn.Parameter(torch.ones(4))
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(3 * 4 * 4, 5)
        self.fail_at, self.calls = None, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyError("failure")
        return self.fc(self.drop(torch.tanh(self.norm(self.conv(x)))).flatten(1))


def network(frozen=True):
    net = Net().double()
    with torch.no_grad():
        for i, tensor in enumerate([*net.parameters(), net.norm.running_mean]):
            tensor.copy_(0.4 * torch.randn(tensor.shape, generator=g(i), dtype=torch.float64))
        net.norm.running_var.copy_(torch.rand(3, generator=g(50), dtype=torch.float64) + 0.5)
    net.conv.bias.requires_grad_(not frozen)
    return net.train()


def sample(n=11, seed=0):
    return torch.randn(n, 2, 6, 6, generator=g(seed), dtype=torch.float64), torch.randint(5, (n,), generator=g(seed + 100))


def objective(kind, outputs, labels):
    """Written with Python sums: the mean over the batch of the squared norm, or of minus the log-probability of the label."""
    if kind == "l2":
        return sum(sum(z * z for z in row) for row in outputs) / len(outputs)
    return sum(torch.logsumexp(row, 0) - row[y] for row, y in zip(outputs, labels, strict=True)) / len(outputs)


def brute_force(model, images, labels, kind, batch_size):
    """(1/B) sum over batches of |g| or g^2, one parameter at a time by autograd; batch_size=1 is the definition in the paper.

    A frozen parameter has no gradient and keeps importance 0, as in the official code.
    """
    model = copy.deepcopy(model).eval()
    names, parameters = zip(*model.named_parameters(), strict=True)
    total = {name: torch.zeros_like(p) for name, p in zip(names, parameters, strict=True)}
    batches = [slice(i, i + batch_size) for i in range(0, len(images), batch_size)]
    for batch in batches:
        value = objective(kind, model(images[batch]), labels[batch])
        for name, p in zip(names, parameters, strict=True):
            slope = torch.autograd.grad(value, p, retain_graph=True, allow_unused=True)[0] if p.requires_grad else None
            if slope is not None:
                total[name] += slope.abs() if kind == "l2" else slope ** 2
    return {name: value / len(batches) for name, value in total.items()}


def official(model, images, labels, kind, batch_size):
    """The semantics of the published code: backward() of the batch mean, p.grad, divided by the number of batches of a loader."""
    model = copy.deepcopy(model)
    model.eval()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=batch_size, shuffle=False)
    found = {k: torch.zeros_like(p) for k, p in model.named_parameters()}
    for x, y in loader:
        optimiser.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y) if kind == "fisher" else torch.norm(out, dim=1, p=2).pow(2).mean()
        loss.backward()
        for k, p in model.named_parameters():
            if p.grad is not None:
                found[k] += p.grad.data.clone().pow(2) if kind == "fisher" else p.grad.data.clone().abs()
    return {k: v / float(len(loader)) for k, v in found.items()}


def close(a, b, rtol=1e-10):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].shape == b[name].shape
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=1e-14)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def options(kind, labels):
    return {"kind": kind, "labels": labels if kind == "fisher" else None}


# --- importance: oracles

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [None, 1, 4, 100])
def test_sample_importance_is_the_definition(kind, chunk):
    net, (x, y) = network(), sample()
    mine = importance(net, x, reduction="sample", chunk=chunk, **options(kind, y))
    close(mine, brute_force(net, x, y, kind, 1))
    assert all(v.dtype == torch.float64 and not v.requires_grad and (v >= 0).all() for v in mine.values())
    assert (mine["conv.weight"] > 0).all() and (mine["norm.bias"] > 0).all() and (mine["unused"] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "batch_size"), [(11, 4), (9, 4), (8, 4), (11, 11), (11, 64), (3, 1)])
def test_batch_importance_is_the_batch_definition(kind, n, batch_size):
    net, (x, y) = network(), sample(n)
    close(importance(net, x, batch_size=batch_size, **options(kind, y)), brute_force(net, x, y, kind, batch_size))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batch_importance_is_the_official_codes(kind, batch_size):
    net, (x, y) = network(frozen=False), sample()
    close(importance(net, x, batch_size=batch_size, **options(kind, y)), official(net, x, y, kind, batch_size), rtol=1e-9)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_linear_model_by_pen_and_paper(reduction):
    """z = W x + b:  d|z|^2 / dW = 2 z x^T,  d CE / dW = (softmax(z) - onehot) x^T,  and the same without x^T for b."""
    generator = np.random.default_rng(0)
    w, b, x, y = generator.normal(size=(4, 3)), generator.normal(size=4), generator.normal(size=(7, 3)), generator.integers(4, size=7)
    layer = nn.Linear(3, 4).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        layer.bias.copy_(torch.from_numpy(b))
    z = x @ w.T + b
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    slopes = {"l2": 2 * z, "fisher": p - np.eye(4)[y]}
    for kind, slope in slopes.items():
        power = 1 if kind == "l2" else 2
        size = 3 if reduction == "batch" else 1                                 # batches of 3, 3 and 1
        cuts = [range(i, min(i + size, 7)) for i in range(0, 7, size)]
        weight = sum(abs(sum(np.outer(slope[k], x[k]) for k in c) / len(c)) ** power for c in cuts) / len(cuts)
        bias = sum(abs(sum(slope[k] for k in c) / len(c)) ** power for c in cuts) / len(cuts)
        mine = importance(layer, torch.from_numpy(x), torch.from_numpy(y), kind=kind, reduction=reduction, batch_size=3)
        close(mine, {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})


def test_opposite_gradients_cancel_within_a_batch_only():
    """z = w x with x = 1, -1: d|z|^2/dw = 2 w x^2 adds up; for the bias, 2 z = +2w and -2w cancel in one batch."""
    layer = nn.Linear(1, 1).double()
    nn.init.constant_(layer.weight, 3.0)
    nn.init.zeros_(layer.bias)
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    together, apart = (importance(layer, x, batch_size=size) for size in (2, 1))
    assert together["weight"].item() == apart["weight"].item() == 6 and together["bias"].item() == 0 and apart["bias"].item() == 6


def test_a_short_last_batch_weighs_as_much_as_a_full_one():
    net, (x, y) = network(), sample(9)
    parts = [brute_force(net, x[a:b], y[a:b], "l2", b - a) for a, b in ((0, 4), (4, 8), (8, 9))]
    close(importance(net, x, batch_size=4), {k: (parts[0][k] + parts[1][k] + parts[2][k]) / 3 for k in parts[0]})


def test_the_defaults_are_the_official_codes():
    net, (x, _) = network(), sample(100)
    assert equal(importance(net, x), importance(net, x, kind="l2", reduction="batch", batch_size=64))
    assert not equal(importance(net, x), importance(net, x, reduction="sample"))


def test_float32_images_in_uint8(trained):
    x = torch.randint(0, 256, (5, 1, 8, 8), generator=g(), dtype=torch.uint8)
    assert equal(importance(trained, x), importance(trained, x.float() / 255))


# --- importance: invariants

@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_one_are_samples_bit_for_bit(kind):
    net, (x, y) = network(), sample()
    assert equal(importance(net, x, batch_size=1, **options(kind, y)), importance(net, x, reduction="sample", **options(kind, y)))


@pytest.mark.parametrize("kind", KINDS)
def test_order_matters_to_batches_and_not_to_samples(kind):
    net, (x, y) = network(), sample()
    turned = torch.randperm(11, generator=g(3))

    def both(**kwargs):
        return (importance(net, images, **options(kind, labels), **kwargs) for images, labels in ((x, y), (x[turned], y[turned])))

    for kwargs in ({"reduction": "sample"}, {"batch_size": 1}, {"batch_size": 11}):
        close(*both(**kwargs), rtol=1e-11)
    given, permuted = both(batch_size=4)
    assert not any(torch.allclose(given[k], permuted[k], rtol=1e-3) for k in ("conv.weight", "fc.weight", "norm.bias"))
    assert equal(*(importance(net, x, reduction="sample", batch_size=size, **options(kind, y)) for size in (1, 64)))


def test_l2_never_looks_at_the_labels_and_fisher_does():
    net, (x, y) = network(), sample()
    for reduction in REDUCTIONS:
        plain = importance(net, x, reduction=reduction)
        for poison in (y, (y + 1) % 5, y.float() * float("nan"), object()):
            assert equal(importance(net, x, poison, reduction=reduction), plain)
        assert not equal(*(importance(net, x, labels, kind="fisher", reduction=reduction) for labels in (y, (y + 1) % 5)))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("reduction", "chunk"), [("batch", None), ("sample", None), ("sample", 4)])
def test_the_model_is_left_as_it_was(reduction, chunk, fails):
    net, (x, y) = network(), sample()
    net.norm.eval()                                                             # a mixture of modes
    net.fc.bias.grad = torch.ones(5, dtype=torch.float64)
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    if fails:
        net.fail_at = 2
        with pytest.raises(KeyError):
            importance(net, x, reduction=reduction, chunk=chunk, batch_size=4)
    else:
        importance(net, x, y, kind="fisher", reduction=reduction, chunk=chunk, batch_size=4)
    assert equal(before, net.state_dict()) and [m.training for m in net.modules()] == modes
    assert not net.conv.bias.requires_grad and net.conv.weight.requires_grad
    assert (net.fc.bias.grad == 1).all() and net.conv.weight.grad is None


@pytest.mark.parametrize("how", [{}, {"reduction": "sample"}, {"reduction": "sample", "chunk": 4}])
def test_a_frozen_parameter_has_no_importance_and_changes_no_other(how):
    x, _ = sample()
    frozen, free = (importance(network(frozen=f), x, **how) for f in (True, False))
    assert (frozen.pop("conv.bias") == 0).all() and (free.pop("conv.bias") > 0).all() and equal(frozen, free)


def test_a_model_without_gradients_is_refused(one_sentence):
    with pytest.raises(ValueError, match="requires gradients") as error:
        importance(network().requires_grad_(False), sample()[0])
    one_sentence(error)


def test_importance_needs_no_gradients_to_be_enabled_outside():
    x, _ = sample()
    with torch.no_grad():
        inside = importance(network(), x)
    assert equal(inside, importance(network(), x))


@pytest.mark.parametrize(("kwargs", "calls"), [({"batch_size": 4}, [4, 4, 3]), ({"reduction": "sample"}, [1] * 11),
                                               ({"reduction": "sample", "chunk": 8}, [8, 3])])
def test_the_callback_counts_images(kwargs, calls):
    heard = []
    importance(network(), sample()[0], callback=lambda *, images: heard.append(images), **kwargs)
    assert heard == calls


@pytest.mark.parametrize(("kwargs", "text"), [({"kind": "l1"}, "kind is 'l1'"), ({"reduction": "mean"}, "reduction is 'mean'"),
                                              ({"batch_size": 0}, "batch_size=0"), ({"images": sample(0)[0]}, "0 images"),
                                              ({"kind": "fisher"}, "labels=None")])
def test_bad_arguments_of_importance(kwargs, text, one_sentence):
    with pytest.raises(ValueError, match=text) as error:
        importance(network(), **{"images": sample()[0]} | kwargs)
    one_sentence(error)


# --- dampen

class Weights(nn.Module):
    """Named tensors and a buffer, nothing else."""

    def __init__(self, **values):
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(torch.as_tensor(value)))
        self.register_buffer("statistic", torch.tensor([1.5, float("nan")]))


def test_the_worked_example():
    model = Weights(w=torch.tensor([0.9, -0.6, 0.4], dtype=torch.float64))
    full, forget = {"w": torch.tensor([4.0, 2.0, 1.0]).double()}, {"w": torch.tensor([4.0, 12.0, 8.0]).double()}
    assert selected(forget, full, 5)["w"].tolist() == [False, True, True]
    result = dampen(model, forget, full, alpha=5, lam=1)
    torch.testing.assert_close(result.w.detach(), torch.tensor([0.9, -0.1, 0.05], dtype=torch.float64), rtol=1e-15, atol=0)


def scalar_dampen(p, forget, full, alpha, lam):
    if not forget > alpha * full:
        return p
    return p * min(lam * full / forget, 1.0)


@pytest.mark.parametrize(("alpha", "lam"), [(0, 1), (0.5, 0.1), (1, 1), (2, 1), (2, 0), (2, 2), (2, 7.5), (0, 100), (1e9, 1),
                                            (float("inf"), 1)])
def test_dampen_is_the_scalar_rule_everywhere(alpha, lam):
    values = torch.tensor([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 1e-30], dtype=torch.float64)       # ties, zeros, 0/0
    forget, full = (t.contiguous() for t in torch.meshgrid(values, values, indexing="ij"))
    more = torch.rand(2, 300, generator=g(), dtype=torch.float64) ** 3
    model = Weights(grid=torch.randn(8, 8, generator=g(1), dtype=torch.float64), line=torch.randn(300, generator=g(2), dtype=torch.float64))
    model.grid.data[0, 0] = -0.0
    a, b = {"grid": forget, "line": more[0]}, {"grid": full, "line": more[1]}
    result = dampen(model, a, b, alpha=alpha, lam=lam)
    for name, p in model.named_parameters():
        expected = [scalar_dampen(*t, alpha, lam) for t in zip(*(v.flatten().tolist() for v in (p, a[name], b[name])), strict=True)]
        assert [v.hex() for v in getattr(result, name).flatten().tolist()] == [v.hex() for v in expected]     # bit for bit, -0.0 included


@pytest.mark.parametrize(("forget", "full", "alpha", "lam", "result"), [
    (3.0, 1.0, 3.0, 1.0, 7.0),                      # a tie is not selected: strictly greater
    (3.0, 1.0, 2.999, 1.0, 7.0 / 3.0),
    (1.0, 0.0, 100.0, 1.0, 0.0),                    # matters to the forget set alone
    (0.0, 0.0, 0.0, 1.0, 7.0),                      # 0/0: matters to nothing
    (0.0, 1.0, 0.0, 1.0, 7.0),
    (2.0, 1.0, 1.0, 5.0, 7.0),                      # lam above alpha: the minimum with 1 keeps the weight
    (2.0, 1.0, 1.0, 1.0, 3.5),
])
def test_single_weights(forget, full, alpha, lam, result):
    one = [{"w": torch.tensor([v], dtype=torch.float64)} for v in (forget, full)]
    assert dampen(Weights(w=torch.tensor([7.0]).double()), *one, alpha=alpha, lam=lam).w.item() == pytest.approx(result, rel=1e-15)


def test_dampen_returns_a_new_model_with_the_same_buffers():
    model = Weights(w=torch.ones(3))
    result = dampen(model, {"w": torch.ones(3)}, {"w": torch.zeros(3)}, alpha=1, lam=1)
    assert result is not model and result.w.tolist() == [0, 0, 0] and model.w.tolist() == [1, 1, 1]
    assert result.statistic.data_ptr() != model.statistic.data_ptr() and result.w.requires_grad
    assert result.statistic.view(torch.int32).tolist() == model.statistic.view(torch.int32).tolist()


def test_one_importance_dampens_many_models_alike():
    forget, full = ({"w": torch.tensor([2.0, 1.0])} for _ in range(2))
    full["w"] = torch.tensor([1.0, 1.0])
    before = copy.deepcopy((forget, full))
    results = [dampen(Weights(w=torch.ones(2)), forget, full, alpha=1, lam=1).w.tolist() for _ in range(2)]
    assert results[0] == results[1] == [0.5, 1.0]
    assert equal(before[0], forget) and equal(before[1], full)


OTHER = {"v": torch.ones(1)}


@pytest.mark.parametrize(("kwargs", "text"), [
    ({"alpha": -1}, "alpha is -1"), ({"alpha": float("nan")}, "alpha is nan"), ({"lam": -0.1}, "lam is -0.1"),
    ({"lam": float("nan")}, "lam is nan"), ({"forget_importance": OTHER}, "different parameters"),
    ({"forget_importance": OTHER, "full_importance": OTHER}, "do not fit"),
])
def test_bad_arguments_of_dampen(kwargs, text, one_sentence):
    good = {"forget_importance": {"w": torch.ones(1)}, "full_importance": {"w": torch.ones(1)}, "alpha": 1, "lam": 1}
    with pytest.raises(ValueError, match=text) as error:
        dampen(Weights(w=torch.ones(1)), **good | kwargs)
    one_sentence(error)


# --- the methods, end to end

@pytest.fixture(scope="module")
def task(digits, trained):
    """A float64 network that was trained on the digits, and what it must forget."""
    d = data.Data(**{k: v[:120] if k.startswith("train") else v for k, v in vars(digits).items()})
    split = data.split(d, "class:3")
    forget, retain = (d.train_images[i].double() for i in (split.forget, split.retain))
    y_f, y_r = (d.train_labels[i] for i in (split.forget, split.retain))
    return copy.deepcopy(trained).double(), Access(forget=(forget, y_f), retain=(retain, y_r))


def relabelled(access):
    return Access(forget=(access.forget_images, (access.forget_labels + 4) % 10),
                  retain=(access.retain_images, access.retain_labels[torch.randperm(len(access.retain_labels), generator=g())]))


def parameters(model):
    return {k: p.detach() for k, p in model.named_parameters()}


@pytest.mark.parametrize(("name", "alpha", "lam", "batch_size"), [
    ("lfssd", 1.5, 1, 64), ("lfssd", 2.0, 0.1, 16), ("lfssd", 1.0, 3, 64), ("ssd", 3.0, 1, 64), ("ssd", 2.0, 0.5, 16)])
def test_method_is_the_official_pipeline(task, name, alpha, lam, batch_size):
    """Importance on D_f, importance on D = D_r then D_f, selection, dampening: all re-implemented."""
    model, access = task
    kind = {"lfssd": "l2", "ssd": "fisher"}[name]
    x_f, y_f = access.forget_images, access.forget_labels
    x, y = torch.cat([access.retain_images, x_f]), torch.cat([access.retain_labels, y_f])
    forget, full = official(model, x_f, y_f, kind, batch_size), official(model, x, y, kind, batch_size)
    result = METHODS[name].run(model, access, alpha=alpha, lam=lam, batch_size=batch_size)
    changed = 0
    for key, p in parameters(model).items():
        wanted = p.clone()
        place = torch.where(forget[key] > alpha * full[key])
        weight = (full[key] * lam / forget[key])[place]
        wanted[place] = p[place] * torch.where(weight > 1, 1, weight)
        torch.testing.assert_close(parameters(result)[key], wanted, rtol=1e-9, atol=1e-13)
        changed += len(place[0])
    assert 20 < changed < models.count_parameters(model)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), result.buffers(), strict=True))


def test_defaults_are_the_papers(task):
    model, access = task
    for name in ("lfssd", "ssd"):
        stated = METHODS[name].run(model, access, alpha=10, lam=1, reduction="batch", order="given", batch_size=64)
        assert equal(METHODS[name].run(model, access).state_dict(), stated.state_dict())
        assert not equal(METHODS[name].run(model, access, alpha=1.5).state_dict(), stated.state_dict())


def test_order_shuffles_the_full_set_by_the_generator(task):
    model, access = task
    x = torch.cat([access.retain_images, access.forget_images])
    _, full = importances(model, access, kind="l2", order="shuffled", batch_size=16, generator=g(5))
    assert equal(full, importance(model, x[torch.randperm(len(x), generator=g(5))], batch_size=16))
    assert not equal(full, importance(model, x, batch_size=16))
    y = torch.cat([access.retain_labels, access.forget_labels])
    turned = torch.randperm(len(x), generator=g(5))
    _, full = importances(model, access, kind="fisher", order="shuffled", batch_size=16, generator=g(5))
    assert equal(full, importance(model, x[turned], y[turned], kind="fisher", batch_size=16))
    a, b = (importances(model, access, kind="l2", order=order, reduction="sample", generator=g())[1] for order in ("given", "shuffled"))
    close(a, b, rtol=1e-9)


def test_unknown_order(task, one_sentence):
    with pytest.raises(ValueError, match="order is 'sorted'") as error:
        METHODS["lfssd"].run(*task, order="sorted")
    one_sentence(error)


# --- the exact claims (numbers as in the specification of the paper)

@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("order", ["given", "shuffled"])
def test_1_label_free(task, reduction, order):
    model, access = task
    for name in ("lfssd", "ssd"):
        clean, poisoned = (METHODS[name].run(model, a, alpha=1.5, reduction=reduction, order=order, generator=g()).state_dict()
                           for a in (access, relabelled(access)))
        assert equal(clean, poisoned) == (name == "lfssd")


@pytest.mark.parametrize("name", ["lfssd", "ssd"])
def test_2_no_training(task, name, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("an optimiser was made")
    monkeypatch.setattr(torch.optim.Optimizer, "__init__", refuse)
    model, access = task
    result = METHODS[name].run(model, access, alpha=1.5, lam=0.9)
    mask = selected(*importances(model, access, kind={"lfssd": "l2", "ssd": "fisher"}[name]), 1.5)
    for key, before in parameters(model).items():
        after = parameters(result)[key]
        assert torch.equal(before != after, mask[key] & (before != 0))
        assert (after.abs() <= before.abs()).all() and (after * before >= 0).all()
    assert sum(m.sum() for m in mask.values()) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_3_no_ratio_exceeds_the_bound(task, kind):
    model, access = task
    forget, full = importances(model, access, kind=kind, reduction="sample")
    n_f = len(access.forget_images)
    bound = (n_f + len(access.retain_images)) / n_f
    assert not any(m.any() for m in selected(forget, full, bound * (1 + 1e-9)).values())
    assert any(m.any() for m in selected(forget, full, 1).values())
    name = {"l2": "lfssd", "fisher": "ssd"}[kind]
    for alpha in (bound * (1 + 1e-9), 1e6, float("inf")):
        result = METHODS[name].run(model, access, alpha=alpha, reduction="sample")
        assert equal(result.state_dict(), model.state_dict())


def test_3_the_bound_is_reached_by_what_only_the_forget_set_uses():
    layer = nn.Linear(2, 1, bias=False).double()
    nn.init.ones_(layer.weight)
    forget = torch.tensor([[0.0, 1.0]]).double().repeat(4, 1)                    # the second input is lit by forget images alone
    access = Access(forget=(forget, None), retain=(forget.flip(1).repeat(4, 1), None))
    pair = importances(layer, access, kind="l2", reduction="sample")
    assert (pair[0]["weight"] / pair[1]["weight"]).tolist() == [[0.0, 5.0]]      # |D| / |D_f| = 20 / 4
    assert selected(*pair, 4.999)["weight"].tolist() == [[False, True]] and not selected(*pair, 5)["weight"].any()


@pytest.mark.parametrize("kind", KINDS)
def test_4_masks_are_nested(task, kind):
    pair = importances(*task, kind=kind)
    masks = [selected(*pair, alpha) for alpha in (0, 0.5, 1, 1.5, 2, 4, 8, 16)]
    sizes = [sum(int(m.sum()) for m in mask.values()) for mask in masks]
    assert sizes[0] > sizes[2] > sizes[4] > 0 and sizes == sorted(sizes, reverse=True)
    assert all((large[k] >= small[k]).all() for large, small in zip(masks, masks[1:], strict=False) for k in large)


@pytest.mark.parametrize(("alpha", "lam"), [(1.5, 1.5), (1.5, 1.0), (2.0, 0.1)])
def test_5_the_minimum_is_inert_up_to_alpha(task, alpha, lam):
    model, access = task
    forget, full = importances(model, access, kind="l2")
    result, mask = dampen(model, forget, full, alpha=alpha, lam=lam), selected(forget, full, alpha)
    for key, p in parameters(model).items():
        unclamped = torch.where(mask[key], p * lam * full[key] / forget[key], p)
        torch.testing.assert_close(parameters(result)[key], unclamped, rtol=1e-12, atol=0)
    beta = torch.cat([(lam * full[k] / forget[k])[mask[k]] for k in mask])
    assert (beta < lam / alpha * (1 + 1e-12)).all()


def test_5_above_alpha_it_acts(task):
    forget, full = importances(*task, kind="l2")
    mask = selected(forget, full, 1.0)
    assert any((3 * full[k] / forget[k])[mask[k]].max() > 1 for k in mask if mask[k].any())
    result = dampen(task[0], forget, full, alpha=1.0, lam=3.0)
    assert all((parameters(result)[k].abs() <= p.abs()).all() for k, p in parameters(task[0]).items())


@pytest.mark.parametrize("kind", KINDS)
def test_6_batches_of_one_give_the_same_model(task, kind):
    model, access = task
    name = {"l2": "lfssd", "fisher": "ssd"}[kind]
    assert equal(*(METHODS[name].run(model, access, alpha=1.5, **o).state_dict() for o in ({"batch_size": 1}, {"reduction": "sample"})))


@pytest.mark.parametrize("kind", KINDS)
def test_7_the_full_importance_can_be_kept_and_the_data_dropped(task, kind):
    model, access = task
    name = {"l2": "lfssd", "fisher": "ssd"}[kind]
    _, full = importances(model, access, kind=kind)
    later = Access(forget=(access.forget_images, access.forget_labels if kind == "fisher" else None))
    with pytest.raises(AccessError, match="retain_images"):
        METHODS[name].run(model, later, alpha=1.5)
    result = METHODS[name].run(model, later, alpha=1.5, full_importance=full)
    assert equal(result.state_dict(), METHODS[name].run(model, access, alpha=1.5).state_dict())


@pytest.mark.parametrize("c", [2.0, 0.25, 3.0])
def test_8_scaling_the_last_layer_changes_no_selection(task, c):
    model, access = task
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        models.head(scaled).weight.mul_(c)
        models.head(scaled).bias.mul_(c)
    pairs = [importances(m, access, kind="l2") for m in (model, scaled)]
    for before, after in zip(*pairs, strict=True):
        close({k: v * (c if k.startswith("fc.") else c * c) for k, v in before.items()}, after)
    assert equal(*(selected(*pair, 1.5) for pair in pairs))
    a, b = (parameters(METHODS["lfssd"].run(m, access, alpha=1.5)) for m in (model, scaled))
    close({k: v * (c if k.startswith("fc.") else 1) for k, v in a.items()}, b)


# --- the control

@pytest.mark.parametrize("order", ["given", "shuffled"])
def test_random_dampening_changes_as_many_weights_by_the_same_factors(task, order):
    model, access = task
    kwargs = {"alpha": 1.5, "lam": 0.8, "order": order}
    random, real = (METHODS[n].run(model, access, generator=g(1), **kwargs) for n in ("random_dampening", "lfssd"))
    elsewhere = 0
    for key, p in parameters(model).items():
        assert (p != 0).all()
        a, b = parameters(random)[key] / p, parameters(real)[key] / p
        torch.testing.assert_close(a.flatten().sort().values, b.flatten().sort().values, rtol=1e-9, atol=1e-12)
        assert (parameters(random)[key] != p).sum() == (parameters(real)[key] != p).sum()
        elsewhere += int(((a != 1) != (b != 1)).sum())
    assert elsewhere > 20


def test_version_and_rows():
    assert {METHODS[n].version for n in ("ssd", "lfssd", "random_dampening")} == {lfssd.VERSION}
    assert METHODS["lfssd"].access.granted() == ["forget_images", "retain_images"]
