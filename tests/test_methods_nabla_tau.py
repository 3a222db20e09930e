"""∇τ against closed forms, the numbers of its official settings, and an own training loop in float64."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from conftest import close, cross_entropy, g, same, states
from torch import nn

from unlearnlib import data, train
from unlearnlib.access import Access
from unlearnlib.methods import METHODS
from unlearnlib.methods.nabla_tau import objective, schedule
from unlearnlib.train import batch_pairs

CLASSES = 5
FLOAT32 = 1e-6            # the target is a float32 number, hence this tolerance: the weights move by about 0.1


# --- the schedule

@pytest.mark.parametrize(("share", "alpha0", "epochs", "steps"), [(3, 0.05, 95, 570), (15, 0.25, 16, 480), (30, 0.5, 6, 354)])
def test_schedule_of_the_cifar_experiments(share, alpha0, epochs, steps):
    n_forget = 50_000 * share // 100
    result = schedule(n_forget, 50_000 - n_forget, batch_size=256)
    assert result == (pytest.approx(alpha0, rel=1e-15), epochs, steps)


@pytest.mark.parametrize(("n_forget", "n_retain", "epochs", "steps"), [
    (1302, 42108, 14, 154), (6511, 36899, 2, 102), (13023, 30387, 1, 102)])
def test_schedule_of_the_text_experiments(n_forget, n_retain, epochs, steps):
    assert schedule(n_forget, n_retain, batch_size=128, retain_epochs=1, alpha0=0.5) == (0.5, epochs, steps)


GRID = {1: 291, 2: 144, 3: 95, 5: 55, 10: 26, 15: 16, 20: 11, 25: 9, 30: 6, 35: 5, 40: 4, 45: 3, 50: 3}


@pytest.mark.parametrize(("share", "epochs"), GRID.items())
def test_schedule_of_the_grid_with_and_without_its_cap(share, epochs):
    n_forget = 500 * share
    for cap, expected in ((None, epochs), (80, min(epochs, 80)), (1, 1)):
        alpha0, e, steps = schedule(n_forget, 50_000 - n_forget, batch_size=256, max_epochs=cap)
        assert (e, steps) == (expected, expected * math.ceil(n_forget / 256))
        assert alpha0 == pytest.approx(share / 60, rel=1e-14)                   # 5/3 of share/100


@pytest.mark.parametrize("sizes", [(4000, 1000), (1000, 1000), (1, 1), (299, 1)])
def test_there_is_at_least_one_epoch(sizes):
    """Few retain samples or a small budget: int() of the rule would be 0."""
    assert schedule(*sizes, batch_size=64, retain_epochs=0.01, alpha0=0.1)[1:] == (1, math.ceil(sizes[0] / 64))


def test_the_budget_counts_forget_and_retain_batches():
    """2 E n_f batches are about retain_epochs passes over the n_r retain batches: never more, and less by under one epoch."""
    for n_forget, n_retain, batch, budget in itertools.product((10, 64, 100), (200, 333), (1, 16, 64), (1, 2.5, 6)):
        _, epochs, steps = schedule(n_forget, n_retain, batch_size=batch, retain_epochs=budget)
        n_f, n_r = math.ceil(n_forget / batch), math.ceil(n_retain / batch)
        assert steps == epochs * n_f
        assert 2 * steps <= budget * n_r < 2 * (steps + n_f) or epochs == 1


def test_the_rule_for_alpha0_ends_at_three_fifths(one_sentence):
    assert schedule(60, 40, batch_size=8)[0] == 1
    with pytest.raises(ValueError, match=r"alpha0 is 1\.02") as error:
        schedule(61, 39, batch_size=8)
    one_sentence(error)
    assert schedule(61, 39, batch_size=8, alpha0=0.3)[0] == 0.3                 # a weight of one's own goes on working
    assert schedule(61, 39, batch_size=8, alpha0=0)[0] == 0                     # 0 is a weight, not "none given"


@pytest.mark.parametrize(("n_forget", "n_retain", "kwargs", "text"), [
    (0, 10, {}, "0 forget"), (10, 0, {}, "0 retain"), (10, 10, {"batch_size": 0}, "batch_size=0"),
    (10, 10, {"retain_epochs": 0}, "retain_epochs=0"), (10, 10, {"retain_epochs": -1}, "retain_epochs=-1"),
    (10, 10, {"retain_epochs": float("nan")}, "retain_epochs=nan"), (10, 10, {"alpha0": 2}, "alpha0 is 2"),
    (10, 10, {"alpha0": -0.5}, "alpha0 is -0.5"), (10, 10, {"alpha0": float("nan")}, "alpha0 is nan")])
def test_bad_arguments_of_schedule(n_forget, n_retain, kwargs, text, one_sentence):
    with pytest.raises(ValueError, match=text) as error:
        schedule(n_forget, n_retain, **{"batch_size": 4} | kwargs)
    one_sentence(error)


# --- the objective

@pytest.mark.parametrize(("forget_loss", "value", "push"), [(0.2, 0.55, -0.5), (0.7, 0.3625, -0.25), (1.3, 0.30, 0.0)])
def test_the_worked_numbers(forget_loss, value, push):
    """tau 1.2, alpha 1/4, L_r 0.4: far below the target, nearer to it, and beyond it."""
    l_f, l_r = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (forget_loss, 0.4))
    result = objective(l_f, l_r, tau=1.2, alpha=0.25)
    result.backward()
    assert result.item() == pytest.approx(value, rel=1e-14)
    assert l_f.grad.item() == pytest.approx(push, rel=1e-14) and l_r.grad.item() == 0.75


@pytest.mark.parametrize("two_sided", [False, True])
def test_the_value_is_the_formula(two_sided):
    for l_f, l_r, tau, alpha in itertools.product((0.0, 0.3, 1.0, 4.0), (0.0, 0.5), (0.0, 0.3, 2.0), (0.0, 0.25, 1.0)):
        gap = tau - l_f if two_sided else max(0.0, tau - l_f)
        value = objective(*(torch.tensor(v, dtype=torch.float64) for v in (l_f, l_r)), tau=tau, alpha=alpha, two_sided=two_sided)
        assert value.shape == () and value.item() == pytest.approx(alpha * gap * gap + (1 - alpha) * l_r, rel=1e-14, abs=0)


def linear_problem():
    """Weights of a linear classifier, a forget and a retain batch, and loss and slope of each by hand."""
    w = torch.randn(4, 3, generator=g(3), dtype=torch.float64)
    batches, losses, slopes = [], [], []
    for i, n in enumerate((6, 9)):
        x, y = torch.randn(n, 3, generator=g(10 + i), dtype=torch.float64), torch.randint(4, (n,), generator=g(20 + i))
        p = torch.exp(x @ w.T)
        p = p / p.sum(1, keepdim=True)
        losses.append(-sum(math.log(row[c]) for row, c in zip(p.tolist(), y.tolist(), strict=True)) / n)
        p[range(n), y] -= 1
        slopes.append(p.T @ x / n)                                              # of the mean cross-entropy: (softmax - onehot)^T x / n
        batches.append((x, y))
    return w, batches, losses, slopes


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("gap", [2.0, 0.1, 0.0, -0.1, -1.0])
def test_the_gradient_is_the_closed_form(gap, two_sided):
    w, batches, (l_f, l_r), (slope_f, slope_r) = linear_problem()
    alpha, weights = 0.3, w.clone().requires_grad_()
    found = [cross_entropy(x @ weights.T, y) for x, y in batches]
    value = objective(*found, tau=l_f + gap, alpha=alpha, two_sided=two_sided)
    value.backward()
    push = gap if two_sided else max(gap, 0.0)
    assert value.item() == pytest.approx(alpha * push ** 2 + (1 - alpha) * l_r, rel=1e-12)
    torch.testing.assert_close(weights.grad, -2 * alpha * push * slope_f + (1 - alpha) * slope_r, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("excess", [0.0, 1e-9, 1.0])
def test_beyond_the_target_the_forget_batch_plays_no_part(excess):
    """Bit for bit: value and gradient are those of the retain term alone."""
    w, batches, _, _ = linear_problem()
    alpha, results = 0.3, []
    for alone in (False, True):
        weights = w.clone().requires_grad_()
        l_f, l_r = (cross_entropy(x @ weights.T, y) for x, y in batches)
        value = (1 - alpha) * l_r if alone else objective(l_f, l_r, tau=l_f.item() - excess, alpha=alpha)
        value.backward()
        results.append((value.detach(), weights.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# --- the batches

SIZES = [(13, 37, 4), (4, 100, 8), (20, 20, 8), (8, 64, 8), (30, 90, 16), (17, 8, 4), (40, 4, 4), (9, 1, 4), (1, 1, 1), (3, 50, 100)]


def by_epoch(n_forget, n_retain, batch, epochs, seed=0):
    pairs = list(batch_pairs(n_forget, n_retain, batch, epochs, g(seed)))
    return [[(f, r) for e, f, r in pairs if e == epoch] for epoch in range(epochs)], [e for e, _, _ in pairs]


@pytest.mark.parametrize(("n_forget", "n_retain", "batch"), SIZES)
def test_every_forget_sample_comes_once_an_epoch(n_forget, n_retain, batch):
    epochs, numbers = by_epoch(n_forget, n_retain, batch, 7)
    n_f = math.ceil(n_forget / batch)
    assert numbers == [e for e in range(7) for _ in range(n_f)]                 # so there is a retain batch for every one of them
    orders = [torch.cat([f for f, _ in pairs]).tolist() for pairs in epochs]
    assert all(sorted(order) == list(range(n_forget)) for order in orders)
    assert all(len(f) == batch for pairs in epochs for f, _ in pairs[:-1])
    assert n_forget < 4 or len(set(map(tuple, orders))) > 3                     # not one order for all


@pytest.mark.parametrize(("n_forget", "n_retain", "batch"), [s for s in SIZES if s[1] >= s[0]])
def test_a_retain_pass_starts_again_after_as_many_epochs_as_it_feeds(n_forget, n_retain, batch):
    n_f, n_r = math.ceil(n_forget / batch), math.ceil(n_retain / batch)
    feeds = n_r // n_f
    epochs, _ = by_epoch(n_forget, n_retain, batch, 3 * feeds)
    passes = [[r for pairs in epochs[i * feeds:(i + 1) * feeds] for _, r in pairs] for i in range(3)]
    for one in passes:
        indices = torch.cat(one).tolist()
        assert len(set(indices)) == len(indices) and set(indices) <= set(range(n_retain))
        # The rest of the pass is left out, and with it the short last batch; where there is no rest, every sample has come.
        sizes = [min(batch, n_retain - i * batch) for i in range(n_r)][:feeds * n_f]
        assert [len(r) for r in one] == sizes and len(indices) == (n_retain if feeds * n_f == n_r else feeds * n_f * batch)
    assert n_retain < 4 or len({tuple(torch.cat(one).tolist()) for one in passes}) == 3, "a new pass has a new order"


@pytest.mark.parametrize(("n_forget", "n_retain", "batch"), [s for s in SIZES if s[1] < s[0]])
def test_a_small_retain_set_starts_again_whenever_it_ends(n_forget, n_retain, batch):
    n_r = math.ceil(n_retain / batch)
    for pairs in by_epoch(n_forget, n_retain, batch, 4)[0]:
        retain = [r for _, r in pairs]
        for i in range(0, len(retain), n_r):
            one = torch.cat(retain[i:i + n_r]).tolist()
            assert len(set(one)) == len(one)
            assert len(retain) - i < n_r or sorted(one) == list(range(n_retain))


def test_the_generator_alone_decides_on_the_batches():
    first, again, other = (list(batch_pairs(13, 37, 4, 3, g(s))) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one[1:], two[1:], strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(first, other, strict=True))
    assert not all(torch.equal(a[2], b[2]) for a, b in zip(first, other, strict=True))
    assert list(batch_pairs(13, 37, 4, 0, g())) == []


# --- the whole method

class Net(nn.Module):
    """BatchNorm whose statistics differ from those of a batch, and dropout-free, so that only the mode of BatchNorm matters."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3 * 4 * 4, CLASSES)

    def forward(self, x):
        return self.fc(torch.tanh(self.norm(self.conv(x))).flatten(1))


def network():
    net = Net().double()
    with torch.no_grad():
        for i, tensor in enumerate([*net.parameters(), net.norm.running_mean]):
            tensor.copy_(0.4 * torch.randn(tensor.shape, generator=g(i), dtype=torch.float64))
        net.norm.running_var.copy_(torch.rand(3, generator=g(50), dtype=torch.float64) + 0.5)
    return net


def sample(n, seed):
    return torch.randn(n, 2, 6, 6, generator=g(seed), dtype=torch.float64), torch.randint(CLASSES, (n,), generator=g(seed + 100))


N_FORGET, N_RETAIN, N_HELD_OUT, BATCH = 14, 38, 21, 4
E, STEPS_AN_EPOCH, ALPHA0 = 7, 4, 5 / 3 * 14 / 52                               # int(6 * 10 / (2 * 4)) epochs of 4 forget batches


@pytest.fixture
def access():
    return Access(forget=sample(N_FORGET, 1), retain=sample(N_RETAIN, 2), held_out=sample(N_HELD_OUT, 3))


def run(model, access, seed=0, **kwargs):
    return METHODS["nabla_tau"].run(model, access, generator=g(seed), **{"batch_size": BATCH, "lr": 0.01} | kwargs)


def held_out_loss(model, access):
    """Of the logits in float32, in which the library hands them out."""
    images, labels = access.held_out
    with torch.no_grad():
        return float(cross_entropy(copy.deepcopy(model).eval()(images).float().double(), labels))


def reference(model, access, *, seed=0, epochs=E, batch=BATCH, alpha0=ALPHA0, lr=0.01, gamma=0.1, weight_decay=0.01, tau_every=5,
              bn_mode="eval", two_sided=False, forget_term=True):
    """The published algorithm with torch's optimiser and scheduler, in plain steps. Returns the model and what each step saw.

    ``forget_term=False`` leaves the forget batch out of the loss.
    """
    net = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1.0, end_factor=gamma, total_iters=epochs)
    pairs = batch_pairs(len(access.forget_images), len(access.retain_images), batch, epochs, g(seed))
    alpha, log = alpha0, []
    for epoch, steps in itertools.groupby(pairs, key=lambda pair: pair[0]):
        if epoch % tau_every == 0:
            tau = held_out_loss(net, access)
        net.train(bn_mode == "train")
        for _, forget, retain in steps:
            # Two passes, the forget batch first: BatchNorm's running statistics depend on it, in train mode.
            forget_loss = cross_entropy(net(access.forget_images[forget]), access.forget_labels[forget])
            retain_loss = cross_entropy(net(access.retain_images[retain]), access.retain_labels[retain])
            gap = tau - forget_loss
            pushed = forget_term and (two_sided or gap.item() > 0)
            loss = (1 - alpha) * retain_loss + (alpha * gap ** 2 if pushed else 0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            log.append({"epoch": epoch, "alpha": alpha, "tau": tau, "forget_loss": forget_loss.item(), "retain_loss": retain_loss.item(),
                        "loss": loss.item(), "active": float(gap.item() > 0)})
        alpha -= alpha0 / epochs
        scheduler.step()
    return net.eval(), log


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_the_method_is_the_published_algorithm(access, bn_mode, two_sided):
    model, heard = network(), []
    result = run(model, access, bn_mode=bn_mode, two_sided=two_sided, callback=lambda **k: heard.append(k) if "step" in k else None)
    expected, log = reference(model, access, bn_mode=bn_mode, two_sided=two_sided)
    close(states(result), states(expected), FLOAT32)
    assert [k["step"] for k in heard] == list(range(E * STEPS_AN_EPOCH))
    for mine, wanted in zip(heard, log, strict=True):
        assert {k: float(mine[k]) for k in wanted} == pytest.approx(wanted, rel=1e-5, abs=1e-12)
    assert {k["active"] for k in log} == {0.0, 1.0}                             # both sides of the target have been seen
    statistics = ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert all(torch.equal(result.state_dict()[k], model.state_dict()[k]) == (bn_mode == "eval") for k in statistics)
    assert not any(m.training for m in result.modules())


@pytest.mark.parametrize("settings", [{"gamma": 1.0}, {"weight_decay": 0.3}, {"tau_every": 1}, {"tau_every": 3}, {"alpha0": 0.9},
                                      {"alpha0": 1.0}])
def test_settings_reach_the_algorithm(access, settings):
    model = network()
    result = states(run(model, access, **settings))
    close(result, states(reference(model, access, **settings)[0]), FLOAT32)
    assert not same(result, states(run(model, access)))


@pytest.mark.parametrize(("settings", "epochs", "batch"), [({"max_epochs": 3}, 3, 4), ({"retain_epochs": 2}, 2, 4),
                                                           ({"batch_size": 7}, 9, 7), ({"batch_size": 64}, 3, 64)])
def test_the_budget_is_that_of_the_schedule(access, settings, epochs, batch):
    model, steps = network(), []
    result = run(model, access, callback=lambda *, step=None, **_: steps.append(step), **settings)
    assert len([s for s in steps if s is not None]) == epochs * math.ceil(N_FORGET / batch)
    close(states(result), states(reference(model, access, epochs=epochs, batch=batch)[0]), FLOAT32)


def test_defaults_are_the_papers(access):
    model, n = network(), N_FORGET
    stated = METHODS["nabla_tau"].run(model, access, generator=g(), lr=1e-3, batch_size=256, alpha0=5 * n / (3 * 52), retain_epochs=6,
                                      max_epochs=None, tau_every=5, bn_mode="eval", two_sided=False, gamma=0.1, weight_decay=0.01)
    result = METHODS["nabla_tau"].run(model, access, generator=g())
    assert same(states(result), states(stated))
    close(states(result), states(reference(model, access, epochs=3, batch=256, lr=1e-3)[0]), FLOAT32)


def test_weight_and_rate_fade_epoch_by_epoch(access, monkeypatch):
    rates, weights, step = [], [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1])
    run(network(), access, lr=0.02, gamma=0.1, alpha0=0.6, callback=lambda *, alpha=None, **_: weights.append(alpha))
    weights = [w for w in weights if w is not None]
    of_epoch = [e for e in range(E) for _ in range(STEPS_AN_EPOCH)]
    assert weights == pytest.approx([0.6 * (1 - e / E) for e in of_epoch], rel=1e-14)
    assert rates == pytest.approx([0.02 * (1 - 0.9 * e / E) for e in of_epoch], rel=1e-14)


# --- the target

@pytest.mark.parametrize(("tau_every", "refreshes"), [(5, [0, 5, 10]), (1, list(range(12))), (4, [0, 4, 8]), (100, [0])])
def test_the_target_is_refreshed_at_the_start_of_every_so_many_epochs(access, tau_every, refreshes):
    events, snapshots = [], []

    def callback(**k):
        if "step" in k:
            events.append(k["epoch"])
            snapshots.append((k["epoch"], k["tau"], copy.deepcopy(k["model"])))
        else:
            assert k == {"images": N_HELD_OUT, "backward": False}
            events.append("refresh")

    model = network()
    run(model, access, tau_every=tau_every, retain_epochs=10, bn_mode="train", callback=callback)
    # int(10 * 10 / 8) = 12 epochs; a refresh comes right before the first step of its epoch
    assert events == [x for e in range(12) for x in (["refresh"] if e in refreshes else []) + [e] * STEPS_AN_EPOCH]
    taus = {epoch: tau for epoch, tau, _ in snapshots}
    assert all(tau == taus[epoch] for epoch, tau, _ in snapshots)
    for epoch in range(12):
        last = max(r for r in refreshes if r <= epoch)
        at_that_time = snapshots[last * STEPS_AN_EPOCH - 1][2] if last else model
        assert taus[epoch] == pytest.approx(held_out_loss(at_that_time, access), rel=1e-6)
    assert len(set(taus.values())) == len(refreshes)


def test_the_target_is_the_mean_over_all_held_out_samples(access):
    """Equal logits cost log(5) each; a bias towards class 0 makes samples of class 0 cheap, and their share sets the mean."""
    model = network()
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.zero_()
    labels = torch.tensor([0] * 300 + [1] * 301)                                # more than one batch of the evaluation
    view = Access(forget=sample(N_FORGET, 1), retain=sample(N_RETAIN, 2), held_out=(sample(601, 3)[0], labels))

    def first_target():
        heard = []
        run(model, view, max_epochs=1, callback=lambda *, tau=None, **_: heard.append(tau))
        return heard[1]                                                         # after the refresh, which brings none

    assert first_target() == pytest.approx(math.log(5), rel=1e-6)
    with torch.no_grad():
        model.fc.bias[0] = math.log(4)                                          # probability 1/2 of class 0, 1/8 of the others
    assert first_target() == pytest.approx((300 * math.log(2) + 301 * math.log(8)) / 601, rel=1e-6)


def test_a_target_below_the_forget_loss_leaves_the_retain_term_alone(access):
    """Held-out data that the model knows: the ReLU never opens, and the forget set plays no part."""
    images, labels = access.forget_images, network().eval()(access.forget_images).argmin(1)
    held_out = access.retain_images
    model = network().eval()
    with torch.no_grad():
        model.fc.weight.mul_(10)                                                # confident: right on one set, wrong on the other
        known = model(held_out).argmax(1)
    easy = Access(forget=(images, labels), retain=(access.retain_images, known), held_out=(held_out, known))
    heard = []
    result = run(model, easy, callback=lambda **k: heard.append(k) if "step" in k else None)
    assert len(heard) == E * STEPS_AN_EPOCH and all(k["active"] == 0 and k["forget_loss"] > k["tau"] for k in heard)
    close(states(result), states(reference(model, easy, forget_term=False)[0]), atol=1e-12)
    assert not same(states(result), states(run(model, easy, two_sided=True)))   # which would pull the forget loss down


# --- alpha0 = 0

def test_without_weight_no_forget_and_no_held_out_sample_is_used(access):
    model, heard = network(), []
    clean = run(model, access, alpha0=0, bn_mode="train")
    nonsense = torch.full_like(access.forget_images, float("nan")), torch.full_like(access.forget_labels, -7)
    retain = access.retain_images, access.retain_labels
    held_out = torch.full_like(access.held_out[0], float("nan")), access.held_out[1] * 0 - 7
    for poisoned in (Access(forget=nonsense, retain=retain, held_out=held_out), Access(forget=nonsense, retain=retain)):
        result = run(model, poisoned, alpha0=0, bn_mode="train", callback=lambda **k: heard.append(k))
        assert same(states(result), states(clean)) and all(torch.isfinite(p).all() for p in result.parameters())
    retained = [len(r) for _, _, r in batch_pairs(N_FORGET, N_RETAIN, BATCH, E, g())]
    assert [k["images"] for k in heard] == 2 * retained                         # forget samples are not counted as seen either
    assert {float(k["active"]) for k in heard} == {float(k["forget_loss"]) for k in heard} == {0.0}


@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_without_weight_it_is_fine_tuning(access, bn_mode):
    model = network()
    net = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01)                    # torch's own weight decay
    net.train(bn_mode == "train")
    for epoch, _, retain in batch_pairs(N_FORGET, N_RETAIN, BATCH, E, g()):
        optimiser.param_groups[0]["lr"] = 0.01 * (1 - 0.9 * epoch / E)
        optimiser.zero_grad()
        cross_entropy(net(access.retain_images[retain]), access.retain_labels[retain]).backward()
        optimiser.step()
    close(states(run(model, access, alpha0=0, bn_mode=bn_mode)), states(net), atol=1e-9)


# --- several labels a sample

def test_several_labels_a_sample(access):
    """Boolean labels: binary cross-entropy, averaged over samples and labels, in all three losses."""
    labels = {n: torch.rand(n, CLASSES, generator=g(n)) < 0.3 for n in (N_FORGET, N_RETAIN, N_HELD_OUT)}
    parts = {"forget": access.forget_images, "retain": access.retain_images, "held_out": access.held_out[0]}
    view = Access(**{k: (x, labels[len(x)]) for k, x in parts.items()})

    def bce(x, y):
        p = torch.sigmoid(model.eval()(x)).detach()
        return float(-(torch.where(y, p, 1 - p)).log().mean())

    model, heard = network(), []
    run(model, view, batch_size=64, retain_epochs=1, callback=lambda **k: heard.append(k))      # one step
    step, = (k for k in heard if "step" in k)
    assert float(step["forget_loss"]) == pytest.approx(bce(parts["forget"], labels[N_FORGET]), rel=1e-12)
    assert float(step["retain_loss"]) == pytest.approx(bce(parts["retain"], labels[N_RETAIN]), rel=1e-12)
    assert step["tau"] == pytest.approx(bce(parts["held_out"], labels[N_HELD_OUT]), rel=1e-6)


# --- manners

def test_the_callback_hears_of_every_step(access):
    heard = []
    result = run(network(), access, callback=lambda **k: heard.append(k))
    steps = [k for k in heard if "step" in k]
    keys = {"images", "step", "epoch", "model", "alpha", "tau", "forget_loss", "retain_loss", "loss", "active"}
    assert all(k.keys() == keys for k in steps) and all(k["model"] is result for k in steps)
    assert not any(k[name].requires_grad for k in steps for name in ("forget_loss", "retain_loss", "loss", "active"))
    for k, (epoch, forget, retain) in zip(steps, batch_pairs(N_FORGET, N_RETAIN, BATCH, E, g()), strict=True):
        assert k["epoch"] == epoch and k["images"] == len(forget) + len(retain)
        gap = max(0.0, k["tau"] - float(k["forget_loss"]))
        assert float(k["loss"]) == pytest.approx(k["alpha"] * gap ** 2 + (1 - k["alpha"]) * float(k["retain_loss"]), rel=1e-12)
        assert float(k["active"]) == (gap > 0)


def test_the_callback_changes_nothing(access):
    assert same(states(run(network(), access)), states(run(network(), access, callback=lambda **_: None)))


def test_the_callers_model_and_frozen_parameters_stay(access):
    model = network().train()
    model.conv.weight.requires_grad_(False)
    before = states(model)
    result = run(model, access, bn_mode="train")
    assert same(before, states(model)) and model.training and model.norm.training
    moved = {k for k, p in result.named_parameters() if not torch.equal(p, before[k])}
    assert moved == {k for k, _ in model.named_parameters()} - {"conv.weight"}


@pytest.mark.parametrize(("settings", "text"), [
    ({"bn_mode": "freeze"}, "bn_mode is 'freeze'"), ({"tau_every": 0}, "tau_every is 0"), ({"alpha0": 2}, "alpha0 is 2"),
    ({"alpha0": -0.1}, "alpha0 is -0.1"), ({"retain_epochs": 0}, "retain_epochs=0"), ({"batch_size": 0}, "batch_size=0")])
def test_bad_arguments(access, settings, text, one_sentence):
    with pytest.raises(ValueError, match=text) as error:
        run(network(), access, **settings)
    one_sentence(error)


# --- what it is for

def test_forgetting_goes_towards_the_unseen_loss(digits, trained):
    """A random 30 % of the training images: their loss rises, more than by fine-tuning, and stays below that of unseen images."""
    order = torch.randperm(len(digits.train_labels), generator=g())
    forget, retain = ((digits.train_images[i], digits.train_labels[i]) for i in order.split([300, len(order) - 300]))
    unseen = digits.val_images, digits.val_labels
    view = Access(forget=forget, retain=retain, held_out=unseen)
    results = {a: METHODS["nabla_tau"].run(trained, view, generator=g(1), lr=3e-3, batch_size=64, alpha0=a) for a in (0.5, 0.0)}
    before, after, tuned = (train.mean_loss(m, *forget) for m in (trained, results[0.5], results[0.0]))
    assert before + 0.05 < after < train.mean_loss(results[0.5], *unseen) and after > tuned + 0.05
    assert train.mean_loss(results[0.5], *retain) < train.mean_loss(trained, *retain)
    seen = Access(forget=forget, retain=retain, held_out=retain)                # a target that was trained on: nothing is forgotten
    fooled = METHODS["nabla_tau"].run(trained, seen, generator=g(1), lr=3e-3, batch_size=64, alpha0=0.5)
    assert train.mean_loss(fooled, *forget) < after - 0.05


def test_a_step_with_one_sample_is_left_out_where_batchnorm_needs_two():
    """5 = 4 + 1 forget and 9 = 4 + 4 + 1 retain samples: BatchNorm over the batch alone has no variance of one sample."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    view = Access(forget=(torch.randn(5, 3, generator=g(1)), torch.arange(5) % 2),
                  retain=(torch.randn(9, 3, generator=g(2)), torch.arange(9) % 2),
                  held_out=(torch.randn(6, 3, generator=g(3)), torch.arange(6) % 2))
    for bn_mode, left_out in (("eval", False), ("train", True)):
        sizes = []
        for name in ("nabla_tau", "neggrad_plus"):
            METHODS[name].run(net, view, generator=g(), batch_size=4, bn_mode=bn_mode,
                              callback=lambda *, images, step=None, sizes=sizes, **_: sizes.append(images if step is not None else 8))
        assert (min(sizes) == 8) == left_out


def test_the_test_half_is_never_read(digits, trained):
    """A split's access holds the validation half alone: with every test image NaN and every test label wrong, nothing changes."""
    poisoned = replace(digits, test_images=torch.full_like(digits.test_images, math.nan), test_labels=(digits.test_labels + 1) % 10,
                       test_fine=(digits.test_fine + 1) % 10)
    results = [METHODS["nabla_tau"].run(trained, data.split(d, "random:0.3", 0).access(), generator=g(), batch_size=128, retain_epochs=2)
               for d in (digits, poisoned)]
    assert same(*map(states, results)) and not same(states(results[0]), states(trained))
    other = replace(digits, val_images=digits.val_images.flip(0))               # which the target does come from
    changed = METHODS["nabla_tau"].run(trained, data.split(other, "random:0.3", 0).access(), generator=g(), batch_size=128, retain_epochs=2)
    assert not same(states(changed), states(results[0]))
