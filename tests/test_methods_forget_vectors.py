"""Forget vectors against loops over single samples in float64."""

import copy
import inspect
import math

import pytest
import torch
from conftest import g
from torch import nn

from unlearnlib import attacks, data, evaluation, metrics, models, train
from unlearnlib.access import Access
from unlearnlib.methods import METHODS
from unlearnlib.methods.forget_vectors import ForgetVector, class_vectors, compose, forget_vector, margin_loss, perturb

CLASSES, SHAPE = 4, (2, 5, 5)
N_FORGET, N_RETAIN = 5, 12


class Net(nn.Module):
    """A small network with BatchNorm and a second path whose parameter is frozen."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3 * 3 * 3, CLASSES)

    def features(self, x):
        return torch.tanh(self.norm(self.conv(x))).flatten(1)

    def forward(self, x):
        return self.fc(self.features(x))


def network():
    net = Net().double()
    with torch.no_grad():
        for i, tensor in enumerate([*net.parameters(), net.norm.running_mean]):
            tensor.copy_(0.7 * torch.randn(tensor.shape, generator=g(i), dtype=torch.float64))
        net.norm.running_var.copy_(torch.rand(3, generator=g(50), dtype=torch.float64) + 0.5)
    net.conv.bias.requires_grad_(False)
    return net.train()                                  # so that the method must choose the mode itself


def sample(n, seed):
    return torch.rand(n, *SHAPE, generator=g(seed), dtype=torch.float64), torch.randint(CLASSES, (n,), generator=g(seed + 100))


@pytest.fixture
def access():
    return Access(forget=sample(N_FORGET, 1), retain=sample(N_RETAIN, 2))


def run(access, name="forget_vector", model=None, seed=0, **settings):
    return METHODS[name].run(model or network(), access, generator=g(seed), **settings)


# --- the margin

def margin_by_hand(row, label, margin):
    others = [float(z) for k, z in enumerate(row) if k != label]
    return max(float(row[label]) - max(others), -margin)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0, 3.0])
def test_the_margin_is_its_definition(margin):
    z = 2 * torch.randn(60, CLASSES, generator=g(1), dtype=torch.float64)
    y = torch.randint(CLASSES, (60,), generator=g(2))
    value = margin_loss(z, y, margin)
    assert value.tolist() == [margin_by_hand(row, label, margin) for row, label in zip(z, y.tolist(), strict=True)]
    assert (value == -margin).sum() > 5 and (value > -margin).sum() > 5 and value.shape == (60,)


def test_the_margin_is_floored_exactly_and_has_no_slope_there():
    z = torch.tensor([[0.1, 1.3, -2.0], [0.1, 1.0, 1.0], [5.0, 1.0, 2.0], [0.0, 0.9999, 0.0]], requires_grad=True)
    value = margin_loss(z, torch.tensor([0, 0, 0, 0]), 1.0)
    assert value[0] == -1.0 and value[1] == torch.tensor(0.1) - 1 and value[2] == 3.0 and value[3] > -1
    value.sum().backward()
    assert z.grad[0].tolist() == [0, 0, 0] and z.grad[2].tolist() == [1, 0, -1] and z.grad[3].tolist() == [1, -1, 0]
    assert z.grad[1, 0] == 1 and z.grad[1].sum() == 0


def test_the_logits_of_the_margin_stay_as_they_are():
    z = torch.randn(3, 4, generator=g())
    before = z.clone()
    margin_loss(z, torch.tensor([0, 1, 2]), 1.0)
    assert torch.equal(z, before)


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_negative_margin_is_refused(margin, one_sentence):
    with pytest.raises(ValueError, match=f"margin is {margin}; it must be at least 0") as error:
        margin_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), margin)
    one_sentence(error)


def test_a_margin_needs_one_label_each(one_sentence):
    with pytest.raises(ValueError, match=r"labels have the shape \(2, 3\)") as error:
        margin_loss(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), 1.0)
    one_sentence(error)


# --- the perturbation and the model behind it

@pytest.mark.parametrize("clamp", [False, True])
def test_no_vector_is_the_identity_bit_for_bit(clamp, trained, digits):
    """Digits have pixels outside [0, 1]; bytes have not."""
    floats = digits.test_images[:40]
    assert floats.min() < 0 and floats.max() > 1
    wrapped = ForgetVector(trained, torch.zeros(1, 8, 8), clamp=clamp).eval()
    for images in (floats, (255 * floats.clamp(0, 1)).to(torch.uint8)):
        assert torch.equal(wrapped(images), trained(images)) and torch.equal(wrapped.features(images), trained.features(images))


def test_the_sum_is_in_pixel_space_before_the_models_normalisation(trained, digits):
    delta = 0.3 * torch.randn(1, 8, 8, generator=g())
    x = digits.test_images[:40]
    wrapped = ForgetVector(trained, delta)
    assert torch.equal(wrapped(x), trained(x + delta)) and not torch.equal(wrapped(x), trained(x))
    assert torch.equal(wrapped.features(x), trained.features(x + delta))
    bytes_ = (255 * x.clamp(0, 1)).to(torch.uint8)
    assert torch.equal(wrapped(bytes_), trained(bytes_.float() / 255 + delta))


def test_clamping_keeps_the_sum_in_0_1():
    x = torch.tensor([[-0.2, 0.4, 0.9, 1.2]])
    delta = torch.tensor([-0.5, -0.5, 0.5, 0.5])
    assert perturb(x, delta, clamp=True).tolist() == [pytest.approx([-0.2, 0.0, 1.0, 1.2])]
    assert perturb(x, delta).tolist() == [pytest.approx([-0.7, -0.1, 1.4, 1.7])]
    assert torch.equal(ForgetVector(nn.Identity(), delta, clamp=True)(x), perturb(x, delta, clamp=True))
    model, images = network().eval(), sample(4, 1)[0]
    wrapped, moved = ForgetVector(model, torch.ones(SHAPE), clamp=True), torch.ones(4, *SHAPE, dtype=torch.float64)
    assert torch.equal(wrapped.features(images), model.features(moved)) and torch.equal(wrapped(images), model(moved))


def test_bytes_take_the_vectors_precision():
    x, delta = torch.tensor([[7]], dtype=torch.uint8), torch.tensor([0.1], dtype=torch.float64)
    assert perturb(x, delta).dtype == torch.float64 and perturb(x, delta).item() == 7 / 255 + 0.1


def test_what_metrics_and_attacks_need(trained, digits):
    wrapped = ForgetVector(trained, 0.2 * torch.ones(1, 8, 8)).eval()
    assert [n.removeprefix("model.") for n, _ in wrapped.named_parameters()] == [n for n, _ in trained.named_parameters()]
    assert models.head(wrapped) is trained.fc and models.count_parameters(wrapped) == models.count_parameters(trained)
    assert evaluation.changed_share(trained, wrapped) == 0.0
    other = ForgetVector(copy.deepcopy(trained), torch.zeros(1, 8, 8))
    other.load_state_dict(wrapped.state_dict())
    x, y = digits.test_images[:30], digits.test_labels[:30]
    assert torch.equal(other(x), wrapped(x)) and torch.equal(copy.deepcopy(wrapped)(x), wrapped(x))
    assert torch.equal(train.logits(wrapped, x), wrapped(x)) and not wrapped.delta.requires_grad
    curve = attacks.relearn(wrapped, x, y, generator=g(), batches=3)
    assert len(curve) == 4


def test_the_wrapper_keeps_its_own_copy_of_the_vector():
    delta = torch.ones(3)
    wrapped = ForgetVector(nn.Identity(), delta)
    delta.zero_()
    assert wrapped(torch.zeros(1, 3)).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(("call", "message"), [
    (lambda: ForgetVector(nn.Linear(3, 2), torch.zeros(3)).features(torch.zeros(1, 3)), r"Linear has no features\(\)"),
    (lambda: perturb(torch.zeros(2, 3, 8, 8), torch.zeros(1, 8, 8)), r"delta has the shape \(1, 8, 8\).*\(3, 8, 8\)"),
    (lambda: perturb(torch.zeros(2, 8, dtype=torch.int64), torch.zeros(8)), "inputs are int64"),
    (lambda: compose(torch.zeros(3, 2, 2), torch.zeros(4)), r"there are 3 vectors and weights of shape \(4,\)")])
def test_bad_vectors_are_one_sentence(call, message, one_sentence):
    with pytest.raises(ValueError, match=message) as error:
        call()
    one_sentence(error)


def test_composition_is_linear():
    deltas = torch.randn(3, *SHAPE, generator=g(), dtype=torch.float64)
    v, w = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.0, 3.0, -1.0]).double()
    by_hand = torch.zeros(SHAPE, dtype=torch.float64)
    for k in range(3):
        by_hand += v[k] * deltas[k]
    torch.testing.assert_close(compose(deltas, v), by_hand, rtol=0, atol=1e-14)
    torch.testing.assert_close(compose(deltas, 2 * v + w), 2 * compose(deltas, v) + compose(deltas, w), rtol=0, atol=1e-13)
    assert torch.equal(compose(list(deltas), v), compose(deltas, v))
    assert torch.equal(compose(deltas, torch.eye(3).double()[1]), deltas[1])


# --- learning

PLAIN = {"epochs": 3, "lr": 0.1, "batch_size": 7, "tau": 0.5, "alpha": 1.0, "beta": 2.0, "lam": 0.3, "momentum": 0.9, "weight_decay": 0.02,
         "gamma": 0.8}


def reference(access, model, *, vectors=None, epochs, lr, batch_size, tau, alpha, beta, lam, momentum, weight_decay, gamma,
              reg="l2_over_batch", averaging="batch", init="zeros", clamp=False):
    """SGD with momentum, the loss summed sample by sample; returns delta, the weights if there are vectors, and the losses."""
    model = copy.deepcopy(model).eval()
    samples = [(x, y, True) for x, y in zip(access.forget_images, access.forget_labels.tolist(), strict=True)]
    samples += [(x, y, False) for x, y in zip(access.retain_images, access.retain_labels.tolist(), strict=True)]
    n, n_f, n_r = len(samples), len(access.forget_images), len(access.retain_images)
    generator = g()
    shape = SHAPE if vectors is None else (len(vectors),)
    value = {"zeros": lambda: torch.zeros(shape), "ones": lambda: torch.ones(shape),
             "normal": lambda: torch.randn(shape, generator=generator)}[init]().double()
    speed, losses = torch.zeros_like(value), []
    for epoch in range(epochs):
        order = torch.randperm(n, generator=generator).tolist()
        for start in range(0, n, batch_size):
            batch = [samples[i] for i in order[start:start + batch_size]]
            v = value.clone().requires_grad_(True)
            delta = v if vectors is None else sum(v[k] * vectors[k] for k in range(len(vectors)))
            loss = 0.0
            for x, y, forget in batch:
                z = model(((x + delta).clamp(0, 1) if clamp else x + delta)[None])[0]
                if forget:
                    rivals = torch.stack([z[k] for k in range(CLASSES) if k != y])
                    term = beta * torch.maximum(z[y] - rivals.max(), torch.tensor(-tau).double())
                    share = n / n_f
                else:
                    term = alpha * (torch.logsumexp(z, 0) - z[y])
                    share = n / n_r
                loss = loss + term / len(batch) * (share if averaging == "per_set" else 1)
            square = (v ** 2).sum()
            size = square.sqrt() if square > 0 else 0 * square                  # at the kink, the slope 0
            loss = loss + lam * {"l2_over_batch": size / len(batch), "l2": size, "l2sq": square}[reg]
            losses.append(loss.item())
            slope, = torch.autograd.grad(loss, v)
            speed = momentum * speed + slope + weight_decay * value
            value = value - lr * gamma ** epoch * speed
    return value, losses


SWITCHES = [{}, {"averaging": "per_set"}, {"reg": "l2sq"}, {"reg": "l2"}, {"init": "normal"}, {"init": "ones"}, {"clamp": True, "lr": 0.5},
            {"alpha": 0.0}, {"beta": 0.0, "init": "ones"}, {"lam": 5.0}, {"tau": 0.0}, {"tau": 4.0}, {"gamma": 1.0},
            {"momentum": 0.0}, {"weight_decay": 0.0}, {"batch_size": 100}, {"batch_size": 1, "epochs": 1, "lr": 0.02},
            {"clamp": True, "averaging": "per_set", "reg": "l2sq"}]


@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_learning_is_the_published_algorithm(access, changes):
    settings, heard = PLAIN | changes, []
    result = run(access, **settings, callback=lambda *, loss, **_: heard.append(float(loss)))
    delta, losses = reference(access, network(), **settings)
    torch.testing.assert_close(result.delta, delta, rtol=0, atol=1e-10)
    assert heard == pytest.approx(losses, abs=1e-10) and delta.norm() > 0.02
    assert not result.training and not hasattr(result, "weights")


def test_switches_decide(access):
    """Without this, two switches could both be ignored by method and reference."""
    found = {str(c): run(access, **PLAIN | c).delta for c in SWITCHES}
    pairs = [(a, b) for i, a in enumerate(found) for b in list(found)[:i] if torch.equal(found[a], found[b])]
    assert pairs == []


VECTORS = torch.randn(3, *SHAPE, generator=g(9), dtype=torch.float64)


@pytest.mark.parametrize("changes", [{}, {"reg": "l2sq"}, {"reg": "l2_over_batch"}, {"init": "ones"}, {"init": "normal"}, {"lam": 0.0},
                                     {"averaging": "per_set", "clamp": True}], ids=str)
def test_composition_learns_the_weights_alone(access, changes):
    settings = PLAIN | {"reg": "l2", "lr": 0.02} | changes
    before = VECTORS.clone()
    result = run(access, "forget_vector_composed", vectors=VECTORS, **settings)
    weights, _ = reference(access, network(), vectors=VECTORS, **settings)
    torch.testing.assert_close(result.weights, weights, rtol=0, atol=1e-10)
    assert torch.equal(result.delta, compose(VECTORS, result.weights)) and torch.equal(VECTORS, before) and result.weights.shape == (3,)
    assert torch.equal(run(access, vectors=VECTORS, **settings).weights, result.weights)        # the same function
    assert set(dict(result.named_buffers())) - set(dict(network().named_buffers(prefix="model"))) == {"delta", "weights"}


@pytest.mark.parametrize("vectors", [None, VECTORS])
@pytest.mark.parametrize("batch_size", [4, 7, 100])
def test_the_two_averagings_differ_by_a_factor_in_alpha_and_beta(access, vectors, batch_size):
    """In every batch: sums over |B| with alpha |D| / |D_r| and beta |D| / |D_f| are the estimates of both means."""
    n = N_FORGET + N_RETAIN
    scaled = {"alpha": 0.7 * n / N_RETAIN, "beta": 1.9 * n / N_FORGET}
    settings = PLAIN | {"batch_size": batch_size, "vectors": vectors, "lr": 0.02}
    per_set = run(access, averaging="per_set", **settings | {"alpha": 0.7, "beta": 1.9})
    torch.testing.assert_close(run(access, averaging="batch", **settings | scaled).delta, per_set.delta, rtol=0, atol=1e-12)
    assert not torch.allclose(run(access, averaging="batch", **settings | {"alpha": 0.7, "beta": 1.9}).delta, per_set.delta)


def test_in_one_batch_per_set_is_the_mean_over_each_set(access):
    """The text's objective, alpha E[CE] + beta E[margin] + lam ||delta||^2, at the first step."""
    heard = []
    start = {"epochs": 1, "batch_size": 100, "init": "ones"}
    run(access, averaging="per_set", reg="l2sq", alpha=0.7, beta=1.9, lam=0.1, tau=0.5, **start, callback=lambda **k: heard.append(k))
    model = network().eval()
    z_f, z_r = (model(x + 1).detach() for x in (access.forget_images, access.retain_images))
    margin = sum(margin_by_hand(z, y, 0.5) for z, y in zip(z_f, access.forget_labels.tolist(), strict=True)) / N_FORGET
    ce = float(metrics.cross_entropy(z_r, access.retain_labels).mean())
    assert float(heard[0]["loss"]) == pytest.approx(0.7 * ce + 1.9 * margin + 0.1 * math.prod(SHAPE), rel=1e-12)


def test_a_gradient_is_computed_for_the_vector_alone(access, monkeypatch):
    given, real, seen = [], torch.optim.SGD, []

    def spy(parameters, **settings):
        given.append(list(parameters))
        return real(parameters, **settings)

    def look(*, model, **_):
        seen.append([(p.requires_grad, p.grad) for p in model.parameters()])

    monkeypatch.setattr(torch.optim, "SGD", spy)
    for settings, shape in (({}, SHAPE), ({"vectors": VECTORS}, (3,))):
        run(access, epochs=1, callback=look, **settings)
        (learned,), = given[-1:]
        assert learned.shape == shape and learned.grad is not None and learned.is_leaf
    assert seen and all(pair == (False, None) for row in seen for pair in row)


@pytest.mark.parametrize("settings", [{}, {"vectors": VECTORS}, {"clamp": True}])
def test_the_model_is_not_touched_and_the_result_has_its_flags(access, settings):
    model = network()
    model.norm.eval()
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before, modes = {k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    result = run(access, model=model, epochs=2, **settings)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags == [p.requires_grad for p in result.parameters()]
    assert torch.equal(model.fc.weight.grad, torch.ones_like(model.fc.weight)) and model.conv.weight.grad is None
    assert all(torch.equal(v, before[k]) for k, v in result.model.state_dict().items()) and not any(m.training for m in result.modules())
    assert result.model is not model and result.clamp == settings.get("clamp", False)


def test_the_learning_rate_falls_by_the_epoch(access, monkeypatch):
    rates, step = [], torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1])
    run(access, epochs=3, batch_size=10)
    assert rates == pytest.approx([0.2] * 2 + [0.18] * 2 + [0.162] * 2, rel=1e-12)
    rates.clear()
    run(access, epochs=2, batch_size=10, vectors=VECTORS, lr=0.5, gamma=0.1)
    assert rates == pytest.approx([0.5] * 2 + [0.05] * 2, rel=1e-12)


def test_the_callback_hears_the_terms_of_each_step(access):
    heard, norms = [], []

    def listen(**k):
        heard.append(k)
        norms.append(float(k["model"].delta.square().sum().sqrt()))

    result = run(access, **PLAIN | {"epochs": 2}, callback=listen)
    assert [(k["images"], k["step"], k["epoch"]) for k in heard] == [(7, 0, 0), (7, 1, 0), (3, 2, 0), (7, 3, 1), (7, 4, 1), (3, 5, 1)]
    assert all(k["model"] is result and not k["loss"].requires_grad for k in heard)
    assert [float(k["norm"]) for k in heard] == pytest.approx(norms, rel=1e-12)
    before = [0.0, *norms]
    for k, norm in zip(heard, before, strict=False):
        terms = float(k["retain_loss"]) + 2 * float(k["forget_loss"]) + 0.3 * norm / k["images"]
        assert float(k["loss"]) == pytest.approx(terms, rel=1e-12)
    assert heard[0].keys() == {"images", "step", "epoch", "model", "loss", "forget_loss", "retain_loss", "norm"}


def test_the_norm_is_that_of_the_perturbation_also_where_weights_are_learned(access):
    heard = []
    run(access, epochs=1, vectors=VECTORS, callback=lambda *, norm, model, **_: heard.append((float(norm), float(model.delta.norm()))))
    assert all(norm == size > 0 for norm, size in heard)


def test_the_epoch_with_the_lowest_score_is_taken(access):
    for vectors in (None, VECTORS):
        for scores, chosen in [([3.0, 1.0, 2.0], 1), ([1.0, 1.0, 2.0], 0), ([None, 2.0, None], 1), ([None] * 3, 2), ([5.0, 4.0, 3.0], 2),
                               ([math.nan, 7.0, 8.0], 1)]:
            kept, wanted = [], iter(scores)

            def note(model, kept=kept, wanted=wanted):
                kept.append(model.delta.clone())
                return next(wanted)

            result = run(access, **PLAIN, vectors=vectors, epoch_end=note)
            assert len(kept) == 3 and not torch.equal(kept[0], kept[1])
            assert torch.equal(result.delta, kept[chosen])
            if vectors is not None:
                assert torch.equal(compose(vectors, result.weights), result.delta)


def test_augmentation_comes_before_the_vector(access):
    """One batch: the images are cropped and flipped by the same generator, after the order of the samples is drawn."""
    heard = []
    run(access, epochs=1, batch_size=100, init="ones", augment=True, tau=0.5, callback=lambda **k: heard.append(k))
    generator = g()
    order = torch.randperm(N_FORGET + N_RETAIN, generator=generator)
    images = data.augment(torch.cat([access.forget_images, access.retain_images])[order], generator) + 1
    z, forget = network().eval()(images).detach(), order < N_FORGET
    y = torch.cat([access.forget_labels, access.retain_labels])[order]
    assert float(heard[0]["retain_loss"]) == pytest.approx(float(metrics.cross_entropy(z, y)[~forget].sum()) / 17, rel=1e-12)
    margins = [margin_by_hand(row, label, 0.5) for row, label in zip(z[forget], y[forget].tolist(), strict=True)]
    assert float(heard[0]["forget_loss"]) == pytest.approx(sum(margins) / 17, rel=1e-12)


def test_a_retain_set_that_stays_clean_is_alpha_0(access):
    """Its term is then a constant of delta: the loop beside perturbs the forget samples of a batch alone."""
    model, samples = network().eval(), torch.cat([access.forget_images, access.retain_images])
    labels, generator = torch.cat([access.forget_labels, access.retain_labels]), g()
    delta = torch.zeros(SHAPE, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([delta], lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(2):
        for batch in torch.randperm(len(samples), generator=generator).split(7):
            forget = batch < N_FORGET
            z = model(samples[batch] + forget[:, None, None, None] * delta)
            loss = nn.functional.cross_entropy(z[~forget], labels[batch][~forget], reduction="sum") / len(batch)
            loss = loss + 2 * margin_loss(z[forget], labels[batch][forget], 1.0).sum() / len(batch) + delta.norm() / len(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    result = run(access, epochs=2, lr=0.1, batch_size=7, beta=2.0, gamma=1.0, alpha=0.0)
    torch.testing.assert_close(result.delta, delta.detach(), rtol=0, atol=1e-12)


def test_without_a_retain_term_only_the_forget_set_is_passed(access):
    """Batches are drawn, and losses divided, as ever; one without forget samples moves the vector by penalty and momentum alone."""
    heard = []
    run(access, epochs=2, batch_size=1, alpha=0.0, callback=lambda *, images, retain_loss, **_: heard.append((images, float(retain_loss))))
    assert sorted(heard) == [(0, 0.0)] * 2 * N_RETAIN + [(1, 0.0)] * 2 * N_FORGET


# --- class vectors

def test_class_vectors_are_the_vectors_of_each_class(access):
    """In the order of the ids, one after the other from one generator; forget and retain samples of a class count alike."""
    generator, settings = g(), {"epochs": 2, "batch_size": 6, "beta": 4.0}
    images = torch.cat([access.forget_images, access.retain_images])
    labels = torch.cat([access.forget_labels, access.retain_labels])
    expected = []
    for c in range(CLASSES):
        own = [i for i in range(len(labels)) if labels[i] == c]
        rest = [i for i in range(len(labels)) if labels[i] != c]
        part = Access(forget=(images[own], labels[own]), retain=(images[rest], labels[rest]))
        expected.append(forget_vector(network(), part, generator=generator, **settings).delta)
    vectors = class_vectors(network(), access, generator=g(), **settings)
    assert torch.equal(vectors, torch.stack(expected)) and vectors.shape == (CLASSES, *SHAPE)
    generator = g()
    by_hand = forget_vector(network(), access, vectors=class_vectors(network(), access, generator=generator, **settings),
                            generator=generator, epochs=10, lr=0.01, reg="l2", tau=0.2)
    whole = run(access, "forget_vector_composed", class_settings=settings, tau=0.2)
    assert torch.equal(whole.delta, by_hand.delta) and torch.equal(whole.weights, by_hand.weights) and whole.weights.any()


# --- what it is for

@pytest.mark.parametrize("scenario", ["class:0", "class:1+7", "random:0.1"])
def test_a_vector_forgets(scenario, trained, digits):
    s = data.split(digits, scenario)
    result = METHODS["forget_vector"].run(trained, s.access(), generator=g(), epochs=15, batch_size=64)
    before, after = (train.logits(m, digits.train_images) for m in (trained, result))
    y = digits.train_labels
    if s.kind == "class":
        assert metrics.accuracy(before[s.forget], y[s.forget]) > 0.9 > 0.3 > metrics.accuracy(after[s.forget], y[s.forget])
        assert metrics.accuracy(after[s.retain], y[s.retain]) > 0.75
    else:
        assert metrics.accuracy(after[s.forget], y[s.forget]) < metrics.accuracy(before[s.forget], y[s.forget]) - 0.1
    assert torch.equal(result.model(digits.test_images), trained(digits.test_images))           # the vector off: all is back


def test_bytes_and_floats_learn_the_same(trained, digits):
    s = data.split(digits, "class:3")
    x = (255 * digits.train_images.clamp(0, 1)).to(torch.uint8)
    y = digits.train_labels
    results = [METHODS["forget_vector"].run(trained, Access(forget=(i[s.forget], y[s.forget]), retain=(i[s.retain], y[s.retain])),
                                            generator=g(), epochs=1, clamp=clamp) for clamp in (False, True) for i in (x, x.float() / 255)]
    assert torch.equal(results[0].delta, results[1].delta) and torch.equal(results[2].delta, results[3].delta)


@pytest.mark.parametrize(("settings", "message"), [
    ({"reg": "l1"}, "reg is 'l1'; it must be one of l2_over_batch, l2, l2sq"),
    ({"averaging": "mean"}, "averaging is 'mean'; it must be one of batch, per_set"),
    ({"init": "0"}, "init is '0'; it must be one of zeros, ones, normal"),
    ({"epochs": 0}, "epochs is 0; it must be at least 1"), ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    ({"lr": -0.1}, "lr is -0.1; it must be at least 0"), ({"alpha": math.nan}, "alpha is nan; it must be at least 0"),
    ({"beta": -1}, "beta is -1; it must be at least 0"), ({"lam": math.inf}, "lam is inf; it must be at least 0 and finite"),
    ({"tau": -1}, "margin is -1; it must be at least 0"), ({"weight_decay": -1}, "weight_decay is -1"), ({"gamma": -1}, "gamma is -1"),
    ({"vectors": torch.zeros(3, 1, 5, 5)}, r"delta has the shape \(1, 5, 5\); it must be that of one image, \(2, 5, 5\)")])
def test_bad_settings_are_one_sentence(access, settings, message, one_sentence):
    with pytest.raises(ValueError, match=message) as error:
        run(access, **settings)
    one_sentence(error)


def test_empty_sets_and_several_labels_are_refused(access, one_sentence):
    forget, retain = (access.forget_images, access.forget_labels), (access.retain_images, access.retain_labels)
    none = forget[0][:0], forget[1][:0]
    for part in (Access(forget=none, retain=retain), Access(forget=forget, retain=none)):
        with pytest.raises(ValueError, match="forget and .* retain samples; both must be at least 1") as error:
            run(part)
        one_sentence(error)
    tags = Access(*((x, torch.zeros(len(x), CLASSES, dtype=torch.bool)) for x in (forget[0], retain[0])))
    for name in ("forget_vector", "forget_vector_composed"):
        with pytest.raises(ValueError, match=r"labels have the shape .*one label each, \(n,\)") as error:
            run(tags, name)
        one_sentence(error)


def test_defaults_are_those_of_the_official_code():
    def defaults(name):
        return {k: p.default for k, p in inspect.signature(METHODS[name].function).parameters.items() if p.default is not p.empty}

    assert defaults("forget_vector") == {
        "vectors": None, "epochs": 60, "lr": 0.2, "batch_size": 256, "tau": 1.0, "alpha": 1.0, "beta": 3.0, "lam": 1.0,
        "reg": "l2_over_batch", "averaging": "batch", "momentum": 0.9, "weight_decay": 5e-4, "gamma": 0.9, "init": "zeros",
        "clamp": False, "augment": False, "callback": None, "epoch_end": None}
    assert defaults("forget_vector_composed") == {"vectors": None, "class_settings": None, "epochs": 10, "lr": 0.01, "reg": "l2",
                                                  "callback": None}
