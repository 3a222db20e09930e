"""ISPF and its ablations against a naive loop in float64: everything with gradients, the teacher run twice, rows dropped one by one."""

import copy
import inspect
import math
from functools import lru_cache

import pytest
import torch
from conftest import close, g, same, states
from torch import nn

from unlearnlib import models
from unlearnlib.access import Access
from unlearnlib.methods import METHODS, ispf
from unlearnlib.methods.ispf import STRATEGIES, Strategy, distil
from unlearnlib.synthesis import Generator

CLASSES, SHAPE, LATENT, WIDTHS = 5, (1, 8, 8), 6, (6, 5, 4)
PASSES, SPREAD = 6, 4.0
TINY = {"image_shape": SHAPE, "latent": LATENT, "widths": WIDTHS, "epochs": 2, "warmup": 1, "rounds": 2, "generator_steps": 2,
        "student_steps": 3, "batch_size": 12, "threshold": 0.2, "lr": 0.05, "lr_end": 0.01, "generator_lr": 1e-2}


class Net(nn.Module):
    """A small network that notes who is asked how; copies share the notes and are numbered: 0 the caller's, 1 teacher, 2 student."""

    def __init__(self, notes=None, family=None):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, CLASSES)
        self.notes, self.family = [] if notes is None else notes, [] if family is None else family
        self.family.append(self)

    def forward(self, x):
        self.notes.append((next(i for i, m in enumerate(self.family) if m is self), {m.training for m in self.modules()},
                           {p.requires_grad for p in self.parameters()}, torch.is_grad_enabled(), len(x)))
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))

    def __deepcopy__(self, memo):
        with torch.random.fork_rng(devices=[]):
            other = Net(self.notes, self.family)
        other.load_state_dict(self.state_dict())
        for mine, its in zip(self.parameters(), other.parameters(), strict=True):
            its.requires_grad_(mine.requires_grad)
        for mine, its in zip(self.modules(), other.modules(), strict=True):
            its.training = mine.training
        return other


@lru_cache
def weights(dtype):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = Net()
        for i, (name, tensor) in enumerate(net.state_dict().items()):
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=g(i), dtype=torch.float64).to(tensor.dtype)
                tensor.copy_(drawn.abs() / 4 + 0.3 if "var" in name else drawn / 2)
        # Scaled so that of the images that the generator of seed 0 draws early on, each class is the answer to some.
        torch.manual_seed(torch.randint(2 ** 31, (2,), generator=g(0)).tolist()[1])
        synthesis = Generator(SHAPE, latent=LATENT, widths=WIDTHS)
        for _ in range(PASSES):
            synthesis.draw(100, g(1))
        x = synthesis.eval().draw(300, g(2))
        net.bn1.momentum = net.bn2.momentum = 1.0
        net.train()(x)
        net.bn1.momentum = net.bn2.momentum = 0.1
        spread, mean = torch.std_mean(net.eval()(x) - net.fc.bias, 0)
        net.fc.weight.mul_(SPREAD / spread.unsqueeze(1))
        net.fc.bias.copy_(-mean * SPREAD / spread)
    return states(net)


def network():
    with torch.random.fork_rng(devices=[]):
        net = Net()
    net.load_state_dict(weights(torch.get_default_dtype()))
    return net.train()                                  # so that a method must choose the modes of its networks itself


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def run(name="ispf", model=None, forget=(4,), seed=0, **changes):
    return METHODS[name].run(model or network(), Access(forget_classes=forget), generator=g(seed), **TINY | changes)


# --- the whole loop, written out again

def softmax(row):
    total = row.exp().sum()
    return [v.exp() / total for v in row]


def statistics_loss(net, run_teacher):
    """Of every BatchNorm layer, norms over channels of the differences of means and of biased variances."""
    inputs = []
    hooks = [m.register_forward_hook(lambda layer, args, out: inputs.append((layer, args[0])))
             for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    out = run_teacher()
    for hook in hooks:
        hook.remove()
    total = 0.0
    for layer, x in inputs:
        means = [x[:, c].mean() for c in range(x.shape[1])]
        variances = [((x[:, c] - means[c]) ** 2).mean() for c in range(x.shape[1])]
        total = total + sum((m - r) ** 2 for m, r in zip(means, layer.running_mean, strict=True)) ** 0.5
        total = total + sum((v - r) ** 2 for v, r in zip(variances, layer.running_var, strict=True)) ** 0.5
    return out, total


def disagreement(t, s, forget):
    total = 0.0
    for row_t, row_s in zip(t, s, strict=True):
        for k, (p, q) in enumerate(zip(softmax(row_t), softmax(row_s), strict=True)):
            total = total + (1 if k in forget else -1) * p * torch.log(p / q)
    return total / len(t)


def divergence(t, s):
    return sum(p * torch.log(p / q) for a, b in zip(t, s, strict=True) for p, q in zip(softmax(a), softmax(b), strict=True)) / len(t)


def filtered(row, forget, threshold):
    p, lowest, row = softmax(row), row.min(), row.clone()
    hit = [c for c in forget if p[c] > threshold]
    moved = sum(row[c] - lowest for c in hit) / (len(row) - len(forget))
    for k in range(len(row)):
        row[k] = lowest if k in hit else row[k] if k in forget else row[k] + moved
    return row


def passes(name, row, forget, threshold):
    if name == "blockf":
        return int(row.argmax()) not in forget
    return "gkt" not in name or all(softmax(row)[c] < threshold for c in forget)


def by_class(rows):
    return [sum(float(row[k].detach() if isinstance(row[k], torch.Tensor) else row[k]) for row in rows) / len(rows) for k in range(CLASSES)]


def naive(name, model, forget, seed, *, epochs, warmup, rounds, generator_steps, student_steps, batch_size, threshold, lr, lr_end,
          generator_lr, image_shape, latent, widths, momentum=0.9, weight_decay=1e-4, bn_weight=1.0, one_hot_weight=1.0,
          adversarial_weight=1.0, balance_weight=1.0):
    source, teacher, student = g(seed), copy.deepcopy(model).eval(), copy.deepcopy(model)
    seeds = torch.randint(2 ** 31, (2,), generator=source).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        for module in student.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        torch.manual_seed(seeds[1])
        synthesis = Generator(image_shape, latent=latent, widths=widths)
    adam = torch.optim.Adam(synthesis.parameters(), lr=generator_lr, betas=(0.5, 0.999))
    dummy = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(dummy, T_max=epochs, eta_min=lr_end)
    speed = [torch.zeros_like(p) for p in student.parameters()]
    inhibited = forget if name in ("ispf", "is_gkt") else ()
    history, trained = [], 0
    for epoch in range(warmup + epochs):
        log = {"kept": [], "updates": 0, "skipped": 0, "teacher": [], "predicted": [], "student": [], "bn": [], "one_hot": [],
               "balance": [], "adversarial": [], "loss": []}
        for _ in range(rounds):
            for _ in range(generator_steps):
                synthesis.train(), student.eval()
                x = synthesis(torch.randn(batch_size, latent, generator=source))
                t, bn = statistics_loss(teacher, lambda x=x: teacher(x))
                one_hot = -sum(torch.log(max(softmax(row))) for row in t) / len(t)
                mean = [sum(column) / len(t) for column in zip(*map(softmax, t), strict=True)]
                balance = sum(p * torch.log(p) for p in mean)
                adversarial = disagreement(t, student(x), inhibited)
                adam.zero_grad()
                (bn_weight * bn + one_hot_weight * one_hot + balance_weight * balance + adversarial_weight * adversarial).backward()
                adam.step()
                for key, value in (("bn", bn), ("one_hot", one_hot), ("balance", balance), ("adversarial", adversarial)):
                    log[key].append(value.item())
            for _ in range(student_steps if epoch >= warmup else 0):
                synthesis.eval(), student.train()
                x = synthesis(torch.randn(batch_size, latent, generator=source)).detach()
                t = teacher(x).detach()
                kept = [i for i, row in enumerate(t) if passes(name, row, forget, threshold)]
                log["kept"].append(len(kept) / batch_size)
                log["teacher"].append(by_class([softmax(row) for row in t]))
                log["predicted"].append([sum(int(row.argmax()) == k for row in t) / batch_size for k in range(CLASSES)])
                if len(kept) < 2:
                    log["skipped"] += 1
                    continue
                targets = teacher(torch.stack([x[i] for i in kept])).detach()
                if name in ("ispf", "pf"):
                    targets = torch.stack([filtered(row, forget, threshold) for row in targets])
                s = student(torch.stack([x[i] for i in kept]))
                loss = divergence(targets, s)
                slopes = torch.autograd.grad(loss, list(student.parameters()))
                for p, v, slope in zip(student.parameters(), speed, slopes, strict=True):
                    v.mul_(momentum).add_(slope + weight_decay * p.detach())
                    p.data.sub_(dummy.param_groups[0]["lr"] * v)
                log["updates"] += 1
                log["student"].append(by_class([softmax(row) for row in s]))
                log["loss"].append(loss.item())
                trained += len(kept)
        if epoch >= warmup:
            dummy.step(), cosine.step()
            history.append(log)
    return student.eval(), synthesis, history, trained


def averaged(log):
    """The log's lists as their means; lists of classes class by class."""
    out = {}
    for key, values in log.items():
        if not isinstance(values, list):
            out[key] = values
        elif values:
            out[key] = by_class(values) if isinstance(values[0], list) else sum(values) / len(values)
    return out


def macs_of_generator():
    return LATENT * 6 * 2 * 2 + 6 * 5 * 9 * 4 * 4 + 5 * 4 * 9 * 8 * 8 + 4 * 1 * 9 * 8 * 8


def macs_of_model():
    return 1 * 4 * 9 * 8 * 8 + 4 * 6 * 9 * 4 * 4 + 6 * CLASSES


CASES = [(name, (4,), {}) for name in STRATEGIES] + [
    ("ispf", (0, 4), {}), ("is_gkt", (0, 3), {"threshold": 0.3}), ("blockf", (4, 1), {}), ("pf", (2,), {"threshold": 0.01}),
    ("ispf", (4,), {"bn_weight": 0.3, "one_hot_weight": 2.0, "adversarial_weight": 0.7, "balance_weight": 5.0}),
    ("dfkd", (4,), {"adversarial_weight": 3.0, "bn_weight": 0.0}),
    ("gkt_dfq", (4,), {"momentum": 0.5, "weight_decay": 0.1, "epochs": 3, "rounds": 1, "warmup": 0}),
]


@pytest.mark.parametrize(("name", "forget", "changes"), CASES)
def test_the_whole_method(double, name, forget, changes):
    heard, settings = [], TINY | changes
    result = run(name, forget=forget, callback=lambda **k: heard.append(k), **changes)
    expected, synthesis, history, trained = naive(name, network(), forget, 0, **settings)
    close(states(result), states(expected), 1e-7)
    ends = [k for k in heard if "epoch" in k]
    close(states(ends[-1]["synthesis"]), states(synthesis), 1e-7)
    assert [k["epoch"] for k in ends] == list(range(1, settings["epochs"] + 1)) and all(k["model"] is result for k in ends)
    for end, log in zip(ends, history, strict=True):
        wanted = averaged(log)
        assert end["measured"].keys() == wanted.keys()
        for key, value in wanted.items():
            assert end["measured"][key] == pytest.approx(value, rel=1e-6, abs=1e-7), key
        assert end["measured"]["updates"] + end["measured"]["skipped"] == settings["rounds"] * settings["student_steps"]
    drops = name in ("blockf", "gkt_dfq", "is_gkt")
    shares = [share for log in history for share in log["kept"]]
    assert (0 < sum(shares) < len(shares)) if drops else shares == [1.0] * len(shares)              # the cases show what they should
    generator_steps = (settings["warmup"] + settings["epochs"]) * settings["rounds"] * settings["generator_steps"]
    student_steps = settings["epochs"] * settings["rounds"] * settings["student_steps"]
    relative = macs_of_generator() / macs_of_model()
    # Forward and back to the inputs through teacher and student, a third of a training step less; the generator's is a whole one.
    cost = generator_steps * 12 * (2 * 2 / 3 + relative) + student_steps * 12 * (1 + relative) / 3 + trained
    assert sum(k["images"] for k in heard) == pytest.approx(cost, rel=1e-12)


def test_strategies_differ(double):
    results = {name: states(run(name)) for name in STRATEGIES}
    names = list(results)
    assert not any(same(results[a], results[b]) for i, a in enumerate(names) for b in names[:i])


@pytest.mark.parametrize("name", STRATEGIES)
def test_defaults_are_the_published_ones(name):
    """And a method's own function is the loop with its strategy and nothing else."""
    parameters = inspect.signature(distil).parameters
    published = {"epochs": 200, "warmup": 2, "rounds": 5, "generator_steps": 1, "student_steps": 10, "batch_size": 256, "threshold": 0.01,
                 "lr": 0.05, "lr_end": 2e-4, "momentum": 0.9, "weight_decay": 1e-4, "generator_lr": 1e-3, "bn_weight": 1.0,
                 "one_hot_weight": 1.0, "adversarial_weight": 1.0, "balance_weight": 1.0, "image_shape": (3, 32, 32), "latent": 256,
                 "widths": (256, 128, 64), "callback": None}
    assert {k: p.default for k, p in parameters.items() if p.default is not p.empty} == published
    by_hand = distil(network(), Access(forget_classes=[4]), STRATEGIES[name], generator=g(0), **TINY | {"epochs": 1})
    assert same(states(run(name, epochs=1)), states(by_hand))


# --- who learns when, and in which mode

@pytest.fixture
def spied(monkeypatch):
    """Generators that were made, and what every optimiser's step finds: (kind, state and slopes of the networks before and after)."""
    made, steps = [], []

    class Spy(Generator):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append((self, states(self)))

    def slopes(net):
        return [None if p.grad is None else p.grad.clone() for p in net.parameters()]

    def watch(kind, name, model):
        original = kind.step

        def step(self):
            networks = [*model.family, made[0][0]]
            before = [(states(n), slopes(n), [m.training for m in n.modules()]) for n in networks]
            original(self)
            steps.append((name, self.param_groups[0]["lr"], before, [(states(n), slopes(n)) for n in networks]))
        monkeypatch.setattr(kind, "step", step)

    monkeypatch.setattr(ispf, "Generator", Spy)
    model = network()
    watch(torch.optim.Adam, "generator", model)
    watch(torch.optim.SGD, "student", model)
    return model, made, steps


def unchanged(a, b):
    return all(x is y is None or x is not None and y is not None and torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ["gkt_dfq", "ispf"])
def test_each_step_changes_one_network_alone(spied, name):
    model, made, steps = spied
    original = states(model)
    result = run(name, model)
    caller, teacher, student, synthesis = range(4)
    assert len(model.family) == 3 and result is model.family[student] and len(made) == 1
    generator, student_steps = (sum(step[0] == kind for step in steps) for kind in ("generator", "student"))
    assert generator == 3 * 2 * 2 and 1 < student_steps <= 2 * 2 * 3
    last = None
    for kind, _, before, after in steps:
        for who in (caller, teacher):                   # never changed, never given a slope
            assert same(before[who][0], original) and same(after[who][0], original)
            assert all(s is None for s in before[who][1])
        modes = before[student][2], before[synthesis][2]
        if kind == "generator":                         # the student is asked in evaluation mode: no statistics, no slopes
            assert not any(modes[0]) and all(modes[1])
            assert all(s is not None for s in before[synthesis][1]) and not same(before[synthesis][0], after[synthesis][0])
            if last:
                assert same(last[student][0], before[student][0]) and unchanged(last[student][1], before[student][1])
            else:
                assert all(s is None for s in before[student][1])
            assert same(before[student][0], after[student][0])
        else:
            assert all(modes[0]) and not any(modes[1])
            assert same(last[synthesis][0], before[synthesis][0]) and same(before[synthesis][0], after[synthesis][0])
            assert unchanged(last[synthesis][1], before[synthesis][1])
            assert not same(before[student][0], after[student][0]) and all(s is not None for s in before[student][1])
        last = after
    assert not any(before[teacher][2] != [False] * len(before[teacher][2]) for _, _, before, _ in steps)


def test_what_the_networks_are_asked(spied):
    model, _, _ = spied
    run("gkt_dfq", model, batch_size=12, warmup=0)
    asked = [note for note in model.notes if note[0] != 1 or note[-1] != 1]
    assert {note[0] for note in asked} == {1, 2}        # the caller's own model is asked nothing
    for who, training, wants, graph, _ in asked:
        if who == 1:
            assert training == {False} and wants == {False}
        else:                                           # in its own steps the student trains; in the generator's it is frozen
            assert training == wants and graph
    of_teacher = [graph for who, _, _, graph, _ in asked if who == 1]
    assert of_teacher.count(True) == 2 * 2 * 2 and of_teacher.count(False) == 2 * 2         # for the student: once a round, without a graph


def test_warm_up_teaches_the_generator_alone(spied):
    model, made, steps = spied
    result = run(model=model, epochs=0, warmup=3)
    assert [step[0] for step in steps] == ["generator"] * 3 * 2 * 2
    seed = torch.randint(2 ** 31, (2,), generator=g(0)).tolist()[0]
    assert same(states(result), states(models.reinitialise(network(), seed))) and all(p.requires_grad for p in result.parameters())
    assert not same(states(made[0][0]), made[0][1])


def test_the_cosine_goes_by_epochs_and_warm_up_does_not_count(spied):
    model, _, steps = spied
    run("dfkd", model, epochs=4, warmup=2, lr=0.08, lr_end=0.02)
    rates = [rate for kind, rate, _, _ in steps if kind == "student"]
    expected = [0.02 + 0.06 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4) for _ in range(2 * 3)]
    assert rates == pytest.approx(expected, rel=1e-12) and rates[0] == 0.08
    assert {rate for kind, rate, _, _ in steps if kind == "generator"} == {1e-2}


def test_both_networks_answers_teach_the_generator(monkeypatch):
    """Slopes flow to the images through the teacher's and through the student's logits in the adversarial loss."""
    seen, loss = [], ispf.adversarial_loss

    def spy(t, s, forget):
        seen.append([torch.autograd.grad(loss(*pair, forget), made[0].linear.weight, retain_graph=True)[0].abs().sum().item()
                     for pair in ((t, s.detach()), (t.detach(), s))])
        return loss(t, s, forget)

    made = []
    monkeypatch.setattr(ispf, "adversarial_loss", spy)
    monkeypatch.setattr(ispf, "Generator", lambda *a, **k: made.append(Generator(*a, **k)) or made[0])
    run("ispf", warmup=0)
    assert len(seen) == 2 * 2 * 2 and all(a > 0 and b > 0 for a, b in seen)


# --- rows that are dropped

@pytest.mark.parametrize("name", ["gkt_dfq", "is_gkt"])
def test_where_the_gate_lets_nothing_through_nothing_is_learnt(name):
    ends = []
    result = run(name, threshold=0.0, callback=lambda *, measured=None, **_: ends.append(measured))
    ends = [m for m in ends if m]
    assert [(m["kept"], m["updates"], m["skipped"]) for m in ends] == [(0.0, 0, 6)] * 2
    assert all("loss" not in m and "student" not in m and len(m["teacher"]) == CLASSES for m in ends)
    seed = torch.randint(2 ** 31, (2,), generator=g(0)).tolist()[0]
    assert same(states(result), states(models.reinitialise(network(), seed)))


@pytest.mark.parametrize(("rows", "updates"), [(0, 0), (1, 0), (2, 6), (12, 6)])
def test_one_row_alone_is_skipped(rows, updates):
    """BatchNorm has no variance there; the steps' forward passes count, and the kept rows too."""
    heard = []
    strategy = Strategy(keep=lambda t, forget, threshold: torch.arange(len(t)) % 12 < rows)
    distil(network(), Access(forget_classes=[4]), strategy, generator=g(), callback=lambda **k: heard.append(k), **TINY | {"warmup": 0})
    measured = [k["measured"] for k in heard if "measured" in k]
    assert [(m["kept"], m["updates"], m["skipped"]) for m in measured] == [(rows / 12, updates, 6 - updates)] * 2
    relative = macs_of_generator() / macs_of_model()
    assert sum(k["images"] for k in heard) == \
        pytest.approx(8 * 12 * (4 / 3 + relative) + 12 * 12 * (1 + relative) / 3 + 2 * updates * rows, rel=1e-12)


def test_filters_get_the_teachers_logits_the_classes_and_the_threshold():
    seen = []

    def keep(t, forget, threshold):
        seen.append(("keep", t.shape, list(forget), threshold, t.requires_grad))
        return torch.arange(len(t)) % 3 > 0

    def target(t, forget, threshold):
        seen.append(("target", t.shape, list(forget), threshold, t.requires_grad))
        return t

    distil(network(), Access(forget_classes=[3, 0]), Strategy(keep=keep, target=target), generator=g(), **TINY | {"threshold": 0.125})
    expected = [("keep", (36, CLASSES), [3, 0], 0.125, False), ("target", (36, CLASSES), [3, 0], 0.125, False)]
    assert seen == expected * 4                             # once a round: 2 epochs of 2


def test_the_threshold_decides():
    everything = states(run("dfkd", epochs=1))
    for name in ("gkt_dfq", "pf"):
        assert same(states(run(name, threshold=1.1, epochs=1)), everything) and not same(states(run(name, epochs=1)), everything)


# --- the world around

def test_the_generator_alone_decides():
    before = torch.get_rng_state()
    first, again, other = run(), run(), run(seed=1)
    assert same(states(first), states(again)) and not same(states(first), states(other))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(states(first), states(run(callback=lambda **_: None)))


def test_teacher_and_forget_classes_decide_too():
    other = network()
    with torch.no_grad():
        other.fc.bias.add_(torch.arange(CLASSES))
    assert not same(states(run()), states(run(model=other))) and not same(states(run()), states(run(forget=(2,))))


@pytest.mark.parametrize("name", ["is_gkt", "ispf"])
def test_the_callers_model_stays_and_the_student_learns_whole(name):
    model = network().eval()
    model.bn1.train()
    model.conv1.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(CLASSES)
    before, modes = states(model), [m.training for m in model.modules()]
    result = run(name, model)
    assert same(before, states(model)) and modes == [m.training for m in model.modules()]
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert [n for n, p in model.named_parameters() if p.grad is not None] == ["fc.bias"] and (model.fc.bias.grad == 1).all()
    assert not any(m.training for m in result.modules()) and all(p.requires_grad for p in result.parameters())
    seed = torch.randint(2 ** 31, (2,), generator=g(0)).tolist()[0]
    initial = states(models.reinitialise(network(), seed))
    assert not any(torch.equal(p, initial[n]) for n, p in result.named_parameters())
    assert not any(torch.equal(p, before[n]) for n, p in result.named_parameters())


@pytest.mark.parametrize("model", [nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5))])
def test_a_model_without_batchnorm(model, one_sentence):
    with pytest.raises(ValueError, match="0 BatchNorm2d layers") as error:
        run(model=model)
    one_sentence(error)


@pytest.mark.parametrize("bad", [[5], [-1], [0, 7], [0, 1, 2, 3, 4]])
def test_forget_classes_that_do_not_exist(bad, one_sentence):
    def refuse(**_):
        raise AssertionError("it went on")
    with pytest.raises(ValueError, match="forget classes") as error:
        run(forget=bad, callback=refuse)
    one_sentence(error)


def test_sizes_the_generator_cannot_draw(one_sentence):
    with pytest.raises(ValueError, match="multiples of 4") as error:
        run(image_shape=(1, 10, 8))
    one_sentence(error)
