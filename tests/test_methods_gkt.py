"""GKT as published against a naive loop in float64: gate, attention transfer, clipping, plateaus and the way back to older copies."""

import copy
import inspect
import math
from functools import lru_cache
from types import SimpleNamespace

import pytest
import torch
from conftest import close, g, same, states
from torch import nn

from unlearnlib import models
from unlearnlib.access import Access
from unlearnlib.methods import METHODS, gkt
from unlearnlib.methods.gkt import attention_distance
from unlearnlib.models import Normalise
from unlearnlib.synthesis import Generator

CLASSES, SHAPE, LATENT, WIDTHS = 4, (2, 8, 8), 6, (6, 5, 4)
TINY = {"image_shape": SHAPE, "latent": LATENT, "widths": WIDTHS, "pseudo_batches": 4, "student_steps": 3, "batch_size": 12,
        "threshold": 0.3, "lr": 1e-2, "attention_weight": 2.0, "report_every": 2}


class Net(nn.Module):
    """A small network, with its own normalisation or without."""

    def __init__(self, normalised):
        super().__init__()
        self.normalise = Normalise((0.3, 0.6), (0.2, 0.4)) if normalised else nn.Identity()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.fc = nn.Linear(6, CLASSES)

    def activations(self, x):
        first = self.relu1(self.bn1(self.conv1(self.normalise(x))))
        second = self.relu2(self.bn2(self.conv2(first)))
        return self.fc(second.mean((2, 3))), [first, second]

    def forward(self, x):
        return self.activations(x)[0]


@lru_cache
def weights(dtype):
    """Such that of the images that the generator of seed 0 draws at first each class is the answer to some."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = Net(False)
        torch.manual_seed(torch.randint(2 ** 31, (2,), generator=g(0)).tolist()[1])
        synthesis = Generator(SHAPE, latent=LATENT, widths=WIDTHS, squash=False)
        x = synthesis.draw(300, g(2))
        net.bn1.momentum = net.bn2.momentum = 1.0
        net.train()(x)
        spread, mean = torch.std_mean(net.eval()(x) - net.fc.bias, 0)
        net.fc.weight.mul_(4 / spread.unsqueeze(1))
        net.fc.bias.copy_(-mean * 4 / spread)
    return states(net)


def network(normalised=True):
    with torch.random.fork_rng(devices=[]):
        net = Net(normalised)
    net.load_state_dict(weights(torch.get_default_dtype()), strict=False)
    return net.train()                                  # so that a method must choose the modes of its networks itself


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def run(model=None, forget=(1,), seed=0, **changes):
    return METHODS["gkt"].run(network() if model is None else model, Access(forget_classes=forget), generator=g(seed), **TINY | changes)


# --- attention transfer

def attention_by_hand(x):
    """(n, c, h, w) -> n lists: the channel mean of the squares, over the norm of its row."""
    out = []
    for image in x:
        flat = [sum(image[c, i, j] ** 2 for c in range(x.shape[1])) / x.shape[1] for i in range(x.shape[2]) for j in range(x.shape[3])]
        norm = sum(v ** 2 for v in flat) ** 0.5
        out.append([v / norm for v in flat])
    return out


def test_the_distance_of_attentions():
    shapes, total = [(3, 4, 2, 3), (3, 2, 1, 1), (3, 5, 4, 2)], 0.0
    student, teacher = ([torch.randn(s, generator=g(i + k), dtype=torch.float64) for i, s in enumerate(shapes)] for k in (0, 10))
    for s, t in zip(student, teacher, strict=True):
        pairs = [(a, b) for x, y in zip(attention_by_hand(s), attention_by_hand(t), strict=True) for a, b in zip(x, y, strict=True)]
        total += sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    value = attention_distance(student, teacher)
    assert value.shape == () and value.item() == pytest.approx(float(total), rel=1e-12) and total > 0.01
    assert attention_distance(student, [-3 * x for x in student]).item() == pytest.approx(0, abs=1e-15)       # neither sign nor scale
    with pytest.raises(ValueError):
        attention_distance(student, teacher[:2])


# --- the whole method, written out again

class Plateau:
    """Halves a rate when the value has not fallen, by more than a ten-thousandth, for more than two steps."""

    def __init__(self, optimiser):
        self.optimiser, self.best, self.waited = optimiser, math.inf, 0

    def step(self, value):
        self.waited = 0 if value < self.best * (1 - 1e-4) else self.waited + 1
        self.best = min(self.best, value) if self.waited == 0 else self.best
        if self.waited > 2:
            self.optimiser.param_groups[0]["lr"] *= 0.5
            self.waited = 0


def softmax(row):
    total = row.exp().sum()
    return [v.exp() / total for v in row]


def divergence(t, s):
    """KL, averaged over batch and classes."""
    return sum(p * torch.log(p / q) for a, b in zip(t, s, strict=True) for p, q in zip(softmax(a), softmax(b), strict=True)) / t.numel()


def attention_loss(student, teacher):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        a, b = (x.pow(2).mean(1).flatten(1) for x in (s, t))
        total = total + ((a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)) ** 2).mean()
    return total


def naive(forget, seed, normalised, *, check_every, patience, pseudo_batches, student_steps, batch_size, threshold, lr, attention_weight,
          image_shape, latent, widths, report_every, clip=5.0):
    source, teacher, student = g(seed), network(normalised).eval(), network(normalised)
    seeds = torch.randint(2 ** 31, (2,), generator=source).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        for module in student.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        torch.manual_seed(seeds[1])
        synthesis = Generator(image_shape, latent=latent, widths=widths, squash=False)
    networks = [synthesis, student]
    adams = [torch.optim.Adam(n.parameters(), lr=lr) for n in networks]
    plateaus, spans, copies, empty = [Plateau(a) for a in adams], [[], []], [], 0
    facts = {"steps": [], "rates": [], "clipped": [], "restored": [], "kept": [], "losses": [[], []], "skipped": 0}
    for batch in range(pseudo_batches):
        if batch % check_every == 0:
            copies.append(states(synthesis))
            for plateau, span in zip(plateaus, spans, strict=True):
                if span:
                    plateau.step(sum(span) / len(span))
                    span.clear()
        z = torch.randn(batch_size, latent, generator=source)
        for step in range(1 + student_steps):
            who = int(step > 0)                                     # 0: the generator learns, 1: the student
            synthesis.train(), student.train(bool(who))
            x = synthesis(z)
            if normalised:
                std, mean = (torch.tensor(v, dtype=torch.float32).view(1, 2, 1, 1) for v in ((0.2, 0.4), (0.3, 0.6)))
                x = x * std + mean
            t, of_teacher = teacher.activations(x)
            kept = [i for i, row in enumerate(t) if all(softmax(row)[c] < threshold for c in forget)]
            facts["steps"].append((who, len(kept)))
            if len(kept) < 2:
                empty, facts["skipped"] = empty + 1, facts["skipped"] + who
                continue
            empty = 0
            s, of_student = student.activations(x[kept])
            if who:
                loss = divergence(t[kept], s) + attention_weight * attention_loss(of_student, [a[kept] for a in of_teacher])
            else:
                loss = -divergence(t[kept], s)
            for n in (synthesis, student, teacher):
                n.zero_grad()
            loss.backward()
            norm = sum((p.grad ** 2).sum() for p in networks[who].parameters()) ** 0.5
            facts["clipped"].append(bool(norm > clip))
            for p in networks[who].parameters():
                p.grad.mul_(min(1.0, clip / (norm + 1e-6)))
            facts["rates"].append((who, adams[who].param_groups[0]["lr"]))
            adams[who].step()
            spans[who].append(loss.item())
            facts["losses"][who].append(loss.item())
        if empty > patience:
            synthesis.load_state_dict(copies[-2] if len(copies) > 1 else copies[0])
            facts["restored"].append(batch)
            empty = 0
    return student.eval(), synthesis, facts


MACS = LATENT * 6 * 2 * 2 + 6 * 5 * 9 * 4 * 4 + 5 * 4 * 9 * 8 * 8 + 4 * 2 * 9 * 8 * 8
RELATIVE = MACS / (2 * 4 * 9 * 8 * 8 + 4 * 6 * 9 * 4 * 4 + 6 * 4)


@pytest.mark.parametrize(("forget", "normalised", "check_every", "patience", "changes", "shown"), [
    ((1,), True, 50, 100, {}, "some rows"),
    ((1,), False, 50, 100, {"attention_weight": 0.0}, "some rows"),
    ((0, 3), True, 2, 100, {"threshold": 0.5, "clip": 2.2, "attention_weight": 40.0}, "clipped"),
    ((2,), True, 1, 100, {"pseudo_batches": 9, "student_steps": 1, "lr": 0.1}, "halved"),
    ((0, 1, 2), True, 2, 3, {"pseudo_batches": 7, "threshold": 0.02, "lr": 0.1}, "restored"),
])
def test_the_whole_method(double, monkeypatch, forget, normalised, check_every, patience, changes, shown):
    monkeypatch.setattr(gkt, "CHECK_EVERY", check_every)
    monkeypatch.setattr(gkt, "PATIENCE", patience)
    heard, settings = [], TINY | changes
    result = run(network(normalised), forget, callback=lambda **k: heard.append(k), **changes)
    expected, synthesis, facts = naive(forget, 0, normalised, check_every=check_every, patience=patience, **settings)
    close(states(result), states(expected), 1e-7)
    ends = [k for k in heard if "epoch" in k]
    if settings["pseudo_batches"] % settings["report_every"] == 0:      # else the generator has gone on since the last report
        close(states(ends[-1]["synthesis"]), states(synthesis), 1e-7)
    batch = settings["batch_size"]
    cost = sum(batch * (1 + RELATIVE) / 3 + (0 if n < 2 else n if who else (2 * n + batch * (1 + 2 * RELATIVE)) / 3)
               for who, n in facts["steps"])
    assert sum(k["images"] for k in heard) == pytest.approx(cost, rel=1e-12)
    of_student = [n for who, n in facts["steps"] if who]
    rates = [rate for _, rate in facts["rates"]]
    assert {"some rows": 0 < sum(of_student) < batch * len(of_student), "clipped": any(facts["clipped"]) and not all(facts["clipped"]),
            "halved": min(rates) < max(rates) == settings["lr"], "restored": bool(facts["restored"]) and facts["losses"][1]}[shown]


def test_reports(double):
    """One for every two pseudo-batches, each of what happened since the last."""
    ends = []
    result = run(callback=lambda **k: ends.append(k) if "epoch" in k else None, pseudo_batches=7, threshold=0.1)
    assert [k["epoch"] for k in ends] == [1, 2, 3] and all(k["model"] is result for k in ends)
    _, _, facts = naive((1,), 0, True, check_every=50, patience=100, **TINY | {"pseudo_batches": 7, "threshold": 0.1})
    steps = facts["steps"]
    losses = [iter(values) for values in facts["losses"]]
    for i, end in enumerate(ends):
        span, measured = steps[8 * i:8 * i + 8], end["measured"]
        of_student = [n for who, n in span if who]
        assert measured["kept"] == pytest.approx(sum(of_student) / 12 / 6)
        assert (measured["updates"], measured["skipped"]) == (sum(n > 1 for n in of_student), sum(n < 2 for n in of_student))
        for who, key in enumerate(("adversarial", "loss")):
            values = [next(losses[who]) for w, n in span if w == who and n > 1]
            assert (key in measured) == bool(values)
            assert not values or measured[key] == pytest.approx(sum(values) / len(values), rel=1e-6)
        assert sum(measured["teacher"]) == pytest.approx(1) and sum(measured["predicted"]) == pytest.approx(1)


def test_the_published_settings():
    parameters = inspect.signature(gkt.gkt).parameters
    published = {"pseudo_batches": 4000, "student_steps": 10, "batch_size": 256, "threshold": 0.01, "lr": 1e-3, "attention_weight": 250.0,
                 "clip": 5.0, "image_shape": (3, 32, 32), "latent": 128, "widths": (128, 128, 64), "report_every": 50, "callback": None}
    assert {k: p.default for k, p in parameters.items() if p.default is not p.empty} == published
    assert (gkt.CHECK_EVERY, gkt.PATIENCE) == (50, 100)


# --- steps

@pytest.fixture
def spied(monkeypatch):
    """The generator that is made, the noises that it gets, and every step of an optimiser: (states before, modes, states after)."""
    made, noises, steps = [], [], []

    class Spy(Generator):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

        def forward(self, z):
            if len(z) > 1:                                              # not the one image of which the cost is counted
                noises.append((z.clone(), {m.training for m in self.modules()}, torch.is_grad_enabled()))
            return super().forward(z)

    original = torch.optim.Adam.step
    monkeypatch.setattr(gkt, "Generator", Spy)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (steps.append(self), original(self))[1])
    return made, noises, steps


def test_one_noise_serves_the_generator_and_all_steps_of_the_student(spied):
    _, noises, _ = spied
    run(threshold=1.1)
    source = g(0)
    torch.randint(2 ** 31, (2,), generator=source)
    assert len(noises) == 4 * 4
    for i in range(4):
        z = torch.randn(12, LATENT, generator=source)
        assert all(torch.equal(z, noise) for noise, _, _ in noises[4 * i:4 * i + 4])
    assert all(modes == {True} for _, modes, _ in noises) and [graph for _, _, graph in noises] == [True, False, False, False] * 4


def test_each_step_changes_one_network_alone(monkeypatch, spied):
    made, _, _ = spied
    seen, models_seen = [], []

    def noted(thing):
        copied = copy.deepcopy(thing)
        if isinstance(thing, nn.Module):
            models_seen.append(copied)
        return copied

    spy = torch.optim.Adam.step

    def step(self):
        teacher, student = models_seen
        before, modes = [states(n) for n in (teacher, student, made[0])], [{m.training for m in n.modules()} for n in models_seen]
        spy(self)
        moved = [not same(a, states(n)) for a, n in zip(before, (teacher, student, made[0]), strict=True)]
        seen.append((moved, modes, [p.grad is not None for p in teacher.parameters()], [p.requires_grad for p in student.parameters()]))

    monkeypatch.setattr(gkt, "copy", SimpleNamespace(deepcopy=noted))
    monkeypatch.setattr(torch.optim.Adam, "step", step)
    model = network()
    result = run(model, threshold=1.1)
    assert result is models_seen[1] and same(states(model), states(models_seen[0]))
    for i, (moved, modes, of_teacher, wants) in enumerate(seen):
        learns_student = i % 4 > 0
        assert moved == [False, learns_student, not learns_student] and modes == [{False}, {learns_student}]
        assert not any(of_teacher) and set(wants) == {learns_student}
    assert len(seen) == 16


def passing(monkeypatch, script):
    """The gate lets everything or nothing through, call by call."""
    calls = iter(script)
    monkeypatch.setattr(gkt, "gate", lambda t, forget, threshold: torch.full((len(t),), next(calls)))


def passes(made):
    return int(made[0].body[0].num_batches_tracked)


@pytest.mark.parametrize(("pseudo_batches", "check_every", "left"), [
    (9, 50, 99),            # 99 empty batches in a row: not yet
    (10, 50, 0),            # 110: back to the first copy, of the start
    (15, 50, 55),           # and on from there
    (20, 50, 0),
    (15, 4, 44 + 55),       # copies are made before the batches 0, 4 and 8; two are kept
    (15, 9, 0 + 55)])
def test_where_nothing_passes_the_generator_goes_back(spied, monkeypatch, pseudo_batches, check_every, left):
    monkeypatch.setattr(gkt, "CHECK_EVERY", check_every)
    made, _, steps = spied
    ends = []
    result = run(threshold=0.0, pseudo_batches=pseudo_batches, student_steps=10, report_every=1,
                 callback=lambda *, measured=None, **_: ends.append(measured) if measured else None)
    assert passes(made) == left and not steps
    assert [(m["kept"], m["updates"], m["skipped"]) for m in ends] == [(0.0, 0, 10)] * pseudo_batches
    seed = torch.randint(2 ** 31, (2,), generator=g(0)).tolist()[0]
    assert same(states(result), states(models.reinitialise(network(), seed)))


@pytest.mark.parametrize(("full", "back"), [(None, True), (30, False), (80, True)])
def test_only_empty_batches_in_a_row_count(spied, monkeypatch, full, back):
    """110 batches, of which the one numbered ``full`` passes; patience 60."""
    made, _, _ = spied
    monkeypatch.setattr(gkt, "PATIENCE", 60)
    passing(monkeypatch, [i == full for i in range(88)])
    run(pseudo_batches=8, student_steps=10)
    assert (passes(made) < 88) == back


@pytest.mark.parametrize(("rows", "updates"), [(0, 0), (1, 0), (2, 6)])
def test_one_row_alone_is_skipped(monkeypatch, rows, updates):
    ends = []
    monkeypatch.setattr(gkt, "gate", lambda t, forget, threshold: torch.arange(len(t)) < rows)
    run(callback=lambda *, measured=None, **_: ends.append(measured) if measured else None)
    assert [(m["kept"], m["updates"], m["skipped"]) for m in ends] == [(pytest.approx(rows / 12), updates, 6 - updates)] * 2


def test_the_gate_gets_classes_and_threshold(monkeypatch):
    seen = []
    monkeypatch.setattr(gkt, "gate", lambda t, forget, threshold: seen.append((t.shape, forget, threshold)) or torch.ones(12).bool())
    run(forget=[3, 0], threshold=0.125)
    assert seen == [((12, CLASSES), [3, 0], 0.125)] * 16


# --- the world around

def test_the_generator_alone_decides():
    before = torch.get_rng_state()
    first, again, other = run(), run(), run(seed=1)
    assert same(states(first), states(again)) and not same(states(first), states(other))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(states(first), states(run(callback=lambda **_: None)))
    assert not same(states(first), states(run(forget=(2,))))


def test_the_callers_model_stays_and_the_student_learns_whole():
    model = network().eval()
    model.bn1.train()
    model.conv1.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(CLASSES)
    before, modes = states(model), [m.training for m in model.modules()]
    result = run(model)
    assert same(before, states(model)) and modes == [m.training for m in model.modules()]
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert [n for n, p in model.named_parameters() if p.grad is not None] == ["fc.bias"] and (model.fc.bias.grad == 1).all()
    assert not any(m.training for m in result.modules()) and all(p.requires_grad for p in result.parameters())
    assert not any(torch.equal(p, before[n]) for n, p in result.named_parameters())


def test_a_student_that_was_taught_nothing_can_still_be_trained():
    result = run(student_steps=0)
    assert all(p.requires_grad for p in result.parameters()) and not any(m.training for m in result.modules())


@pytest.mark.parametrize("model", [nn.Sequential(nn.Flatten(), nn.Linear(128, 5)), nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5))])
def test_a_model_without_relu_layers(model, one_sentence):
    with pytest.raises(ValueError, match="0 ReLU layers") as error:
        run(model)
    one_sentence(error)


@pytest.mark.parametrize("bad", [[4], [-1], [0, 7], [0, 1, 2, 3]])
def test_forget_classes_that_do_not_exist(bad, one_sentence):
    with pytest.raises(ValueError, match="forget classes") as error:
        run(forget=bad)
    one_sentence(error)
