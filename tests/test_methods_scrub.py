"""SCRUB, its rewind and NegGrad+ against hand-written losses and SGD steps in float64."""

import copy
import math

import pytest
import torch
from conftest import close, cross_entropy, g, same, states
from torch import nn

from unlearnlib.access import Access
from unlearnlib.methods import METHODS, scrub
from unlearnlib.methods.scrub import distillation
from unlearnlib.train import batch_pairs, logits

CLASSES = 5
N_FORGET, N_RETAIN, N_HELD_OUT = 13, 37, 21


class Net(nn.Module):
    """A small network with BatchNorm that notes who was asked about which images; copies share the notes."""

    def __init__(self, notes):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3 * 4 * 4, CLASSES)
        self.notes = notes

    def forward(self, x):
        self.notes.append((self.training, torch.is_grad_enabled(), x[:, 0, 0, 0].tolist()))
        return self.fc(torch.tanh(self.norm(self.conv(x))).flatten(1))

    def __deepcopy__(self, memo):
        other = Net(self.notes).double()
        other.load_state_dict(self.state_dict())
        for mine, its in zip(self.parameters(), other.parameters(), strict=True):
            its.requires_grad_(mine.requires_grad)
        return other.train(self.training)


def network():
    net = Net([]).double()
    with torch.no_grad():
        for i, tensor in enumerate([*net.parameters(), net.norm.running_mean]):
            tensor.copy_(0.4 * torch.randn(tensor.shape, generator=g(i), dtype=torch.float64))
        net.norm.running_var.copy_(torch.rand(3, generator=g(50), dtype=torch.float64) + 0.5)
    return net.eval()                                   # so that a method must choose the mode of its student itself


def sample(n, seed):
    return torch.randn(n, 2, 6, 6, generator=g(seed), dtype=torch.float64), torch.randint(CLASSES, (n,), generator=g(seed + 100))


@pytest.fixture
def access():
    return Access(forget=sample(N_FORGET, 1), retain=sample(N_RETAIN, 2), held_out=sample(N_HELD_OUT, 3))


def divergence(student, teacher, temperature):
    """KL(teacher || student) of softened predictions, mean over the batch, times the temperature squared; by definition."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        q, p = (torch.exp(row / temperature) / torch.exp(row / temperature).sum() for row in (s, t))
        total = total + sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature ** 2 * total / len(student)


class Sgd:
    """v <- momentum v + (gradient + decay p); p <- p - lr v."""

    def __init__(self, parameters, momentum, weight_decay):
        self.parameters, self.momentum, self.decay = [p for p in parameters if p.requires_grad], momentum, weight_decay
        self.speed = [torch.zeros_like(p) for p in self.parameters]

    def step(self, loss, lr):
        for p, v, slope in zip(self.parameters, self.speed, torch.autograd.grad(loss, self.parameters), strict=True):
            v.mul_(self.momentum).add_(slope + self.decay * p.detach())
            p.data.sub_(lr * v)


# --- distillation

@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
def test_distillation_is_the_divergence_of_softened_predictions(temperature):
    student, teacher = (3 * torch.randn(7, 4, generator=g(s), dtype=torch.float64) for s in (1, 2))
    value = distillation(student, teacher, temperature)
    assert value.shape == () and value.item() == pytest.approx(divergence(student, teacher, temperature).item(), rel=1e-12)
    assert distillation(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-14)
    # Not symmetric: it is the teacher's probabilities that weigh the differences.
    assert value.item() != pytest.approx(divergence(teacher, student, temperature).item(), rel=1e-2)


def test_the_slope_of_distillation():
    """d/dstudent = T (softmax(student/T) - softmax(teacher/T)) / n: about independent of T for small logits."""
    student, teacher = (torch.randn(6, 4, generator=g(s), dtype=torch.float64).requires_grad_() for s in (1, 2))
    distillation(student, teacher.detach(), 4.0).backward()
    expected = 4 * ((student / 4).softmax(1) - (teacher / 4).softmax(1)) / 6
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-10, atol=1e-14)


# --- scrub

def run(model, access, name="scrub", seed=0, **kwargs):
    return METHODS[name].run(model, access, generator=g(seed), **kwargs)


def reference(model, access, *, epochs, max_epochs, lr, rates, temperature, distil_weight, anchor_weight, momentum, weight_decay):
    """SCRUB with all samples in one batch, where their order is irrelevant. Returns the student and the loss of each step."""
    student, teacher = copy.deepcopy(model).train(), copy.deepcopy(model).eval()
    optimiser, losses = Sgd(student.parameters(), momentum, weight_decay), []
    pairs = [(p, q.detach().clone()) for p, q in zip(student.parameters(), model.parameters(), strict=True) if p.requires_grad]
    for epoch in range(epochs):
        for part in (["forget"] if epoch < max_epochs else []) + ["retain"]:
            images = getattr(access, f"{part}_images")
            outputs = student(images)
            kd = divergence(outputs, teacher(images).detach(), temperature)
            anchor = 0.0
            for p, a in pairs:
                distance = (p - a).square().sum()
                anchor = anchor + (distance.sqrt() if distance > 0 else 0 * distance)           # at the kink, the slope 0
            loss = (-kd if part == "forget" else cross_entropy(outputs, access.retain_labels) + distil_weight * kd) + anchor_weight * anchor
            losses.append(loss.item())
            optimiser.step(loss, lr * rates[epoch])
    return student.eval(), losses


PLAIN = {"lr": 0.1, "temperature": 4.0, "distil_weight": 0.5, "anchor_weight": 0.5, "momentum": 0.9, "weight_decay": 5e-4}
FALLING = [1, 1, 0.1, 0.01]                             # of decay_after=(2, 3)


@pytest.mark.parametrize("settings", [
    {}, {"temperature": 1.0}, {"distil_weight": 2.0}, {"anchor_weight": 0.0}, {"anchor_weight": 3.0}, {"momentum": 0.0},
    {"weight_decay": 0.1}, {"lr": 0.02}])
def test_scrub_is_the_published_algorithm(access, settings):
    model, settings, losses = network(), PLAIN | settings, []
    result = run(model, access, epochs=4, max_epochs=2, batch_size=64, decay_after=(2, 3),
                 callback=lambda *, loss=None, **_: losses.append(loss), **settings)
    expected, wanted = reference(model, access, epochs=4, max_epochs=2, rates=FALLING, **settings)
    close(states(result), states(expected), 1e-9)
    assert [float(v) for v in losses if v is not None] == pytest.approx(wanted, rel=1e-9)
    assert len(wanted) == 6 and not any(m.training for m in result.modules())


@pytest.mark.parametrize("max_epochs", [0, 1])
def test_one_step_by_hand(access, max_epochs):
    """The first step starts at the original: the anchor is 0 there and so is its slope."""
    model, settings = network(), PLAIN | {"anchor_weight": 7.0}
    seen = []
    run(model, access, epochs=1, max_epochs=max_epochs, batch_size=64, **settings,
        callback=lambda *, model=None, loss=None, **_: seen.append((model and copy.deepcopy(model), loss)))
    stepped, loss = seen[0]
    student, teacher = copy.deepcopy(model).train(), copy.deepcopy(model).eval()
    images = access.forget_images if max_epochs else access.retain_images
    outputs = student(images)
    kd = divergence(outputs, teacher(images).detach(), 4.0)
    value = -kd if max_epochs else cross_entropy(outputs, access.retain_labels) + 0.5 * kd
    assert float(loss) == pytest.approx(value.item(), rel=1e-12) and kd.item() > 1e-3       # BatchNorm: students see batch statistics
    slopes = torch.autograd.grad(value, list(student.parameters()))
    for p, q, slope in zip(stepped.parameters(), model.parameters(), slopes, strict=True):
        torch.testing.assert_close(p.detach(), (q - 0.1 * (slope + 5e-4 * q)).detach(), rtol=0, atol=1e-12)


def rates_of(monkeypatch, model, access, **kwargs):
    rates, step = [], torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1])
    run(model, access, **kwargs)
    return rates


def test_the_published_learning_rates(access, monkeypatch):
    """Defaults, all in one batch: three epochs with a max and a min step, three with a min step."""
    rates = rates_of(monkeypatch, network(), access)
    assert rates == pytest.approx([5e-4] * 6 + [5e-5] * 2 + [5e-6], rel=1e-12)


def test_rates_fall_after_the_epochs_named(access, monkeypatch):
    rates = rates_of(monkeypatch, network(), access, epochs=4, max_epochs=0, lr=0.2, batch_size=20, decay_after=(1,))
    assert rates == pytest.approx([0.2] * 2 + [0.02] * 6, rel=1e-12)


@pytest.mark.parametrize(("epochs", "max_epochs"), [(6, 3), (3, 0), (2, 2), (2, 5)])
def test_max_passes_come_first_in_the_first_epochs_only(access, epochs, max_epochs):
    model, ends = network(), []
    forget, retain = (sorted(x[:, 0, 0, 0].tolist()) for x in (access.forget_images, access.retain_images))
    run(model, access, epochs=epochs, max_epochs=max_epochs, batch_size=5, epoch_end=lambda student: ends.append(len(model.notes)))
    assert len(ends) == epochs
    orders = set()
    for epoch, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        for who in (True, False):                       # the student in training mode, the teacher in evaluation mode and without a graph
            batches = [images for training, graph, images in model.notes[start:end] if training == who == graph]
            n_f = math.ceil(N_FORGET / 5) if epoch < max_epochs else 0
            assert all(len(b) <= 5 for b in batches) and len(batches) == n_f + math.ceil(N_RETAIN / 5)
            passes = [sum(batches[:n_f], []), sum(batches[n_f:], [])]
            assert sorted(passes[0]) == (forget if n_f else []) and sorted(passes[1]) == retain
            orders.add(tuple(passes[1]))
    assert len(orders) == epochs                        # a new order each epoch, the same for student and teacher


def test_the_callback_counts_student_and_teacher(access):
    heard = []
    result = run(network(), access, epochs=2, max_epochs=1, batch_size=64, callback=lambda **k: heard.append(k))
    assert [k["images"] for k in heard] == [13, 13, 37, 37, 37, 37]
    assert [k.get("backward", True) for k in heard] == [True, False] * 3
    assert all(k["model"] is result and not k["loss"].requires_grad for k in heard[::2])


def test_frozen_parameters_stay_and_the_callers_model_too(access):
    model = network()
    model.conv.weight.requires_grad_(False)
    before = states(model)
    result = run(model, access, **PLAIN, batch_size=8)
    moved = {k for k, p in result.named_parameters() if not torch.equal(p, before[k])}
    assert same(before, states(model)) and not model.training
    assert moved == {k for k, _ in model.named_parameters()} - {"conv.weight"}


def test_max_passes_go_away_from_the_original(access):
    """The divergence from the original on D_f is larger than after the min passes alone."""
    model = network()
    result = run(model, access, epochs=3, max_epochs=3, batch_size=8, **PLAIN | {"lr": 0.02, "weight_decay": 0.0})
    cautious = run(model, access, epochs=3, max_epochs=0, batch_size=8, **PLAIN | {"lr": 0.02, "weight_decay": 0.0})
    away, stays = (divergence(m(access.forget_images), model(access.forget_images), 4.0).item() for m in (result, cautious))
    assert away > 1.2 * stays


def test_defaults_are_those_of_the_official_code(access):
    stated = run(network(), access, epochs=6, max_epochs=3, lr=5e-4, batch_size=256, temperature=4.0, distil_weight=0.5,
                 anchor_weight=0.5, momentum=0.9, weight_decay=5e-4, decay_after=(3, 5))
    assert same(states(run(network(), access)), states(stated))


# --- scrub_r

def share_correct(model, images, labels):
    return sum(int(row.argmax()) == y for row, y in zip(logits(model, images), labels.tolist(), strict=True)) / len(labels)


SCENES = [{"lr": 0.2, "batch_size": 8}, {"lr": 0.5, "batch_size": 8}, {"lr": 0.1, "batch_size": 64}, {"lr": 0.05, "batch_size": 5},
          {"lr": 0.3, "batch_size": 64, "max_epochs": 5}, {"lr": 1.0, "batch_size": 8}]


def checkpoints(access, **settings):
    kept = []
    final = run(network(), access, epochs=6, epoch_end=lambda student: kept.append(states(student)), **settings)
    model, accuracies = network(), []
    for state in kept:
        model.load_state_dict(state)
        accuracies.append(share_correct(model.eval(), access.forget_images, access.forget_labels))
    return final, kept, accuracies


def test_the_rewind_takes_the_epoch_nearest_to_the_held_out_accuracy(access):
    chosen = []
    for settings in SCENES:
        final, kept, accuracies = checkpoints(access, **settings)
        assert same(states(final), kept[-1])
        reference = share_correct(final, *access.held_out)
        nearest = min(abs(a - reference) for a in accuracies)
        best = max(i for i, a in enumerate(accuracies) if abs(a - reference) == nearest)        # of equally near ones, the last
        result = run(network(), access, "scrub_r", epochs=6, **settings)
        assert same(states(result), kept[best]) and not result.training
        chosen.append(best)
    assert len(set(chosen)) > 2 and min(chosen) < 5, "the scenes decide nothing"


@pytest.mark.parametrize(("forget", "held_out", "best"), [
    ([0.5, 0.25, 0.75, 0.125], 0.5, 0), ([0.25, 0.75, 1.0], 0.5, 1), ([0.75, 0.25, 1.0], 0.5, 1), ([0.5, 0.5, 0.5], 0.5, 2),
    ([0.9, 0.1, 0.2], 1.0, 0), ([0.0, 0.5, 0.25], 0.0, 0), ([0.3], 0.9, 0)])
def test_the_choice_by_given_accuracies(access, monkeypatch, forget, held_out, best):
    """Equally near epochs on both sides of the reference included; and the accuracies are those of the forget and held-out samples."""
    asked, scripted = [], iter([*forget, held_out])

    def accuracy(outputs, labels):
        asked.append(labels)
        assert len(outputs) == len(labels) and outputs.dtype == torch.float32
        return next(scripted)

    monkeypatch.setattr(scrub, "accuracy", accuracy)
    kept = []
    run(network(), access, epochs=len(forget), lr=0.1, epoch_end=lambda student: kept.append(states(student)))
    result = run(network(), access, "scrub_r", epochs=len(forget), lr=0.1)
    assert same(states(result), kept[best])
    assert all(labels is access.forget_labels for labels in asked[:-1]) and asked[-1] is access.held_out[1]
    assert next(scripted, None) is None


def test_of_equally_near_epochs_the_last(access):
    """A rate of 0 changes nothing but BatchNorm's statistics; made irrelevant to the answers, all epochs are as good."""
    model = network()
    with torch.no_grad():
        model.norm.weight.zero_()
    kept = []
    run(model, access, lr=0.0, epoch_end=lambda student: kept.append(states(student)))
    result = states(run(model, access, "scrub_r", lr=0.0))
    assert same(result, kept[-1]) and not any(same(result, state) for state in kept[:-1])


def test_held_out_data_that_are_the_forget_set_ask_for_no_rewind(access):
    forget = access.forget_images, access.forget_labels
    view = Access(forget=forget, retain=(access.retain_images, access.retain_labels), held_out=forget)
    for settings in SCENES:
        assert same(*(states(run(network(), view, name, **settings)) for name in ("scrub", "scrub_r")))


def test_the_rewind_counts_its_evaluations(access):
    heard = []
    run(network(), access, "scrub_r", epochs=2, max_epochs=0, batch_size=64, callback=lambda **k: heard.append(k))
    assert [(k["images"], k.get("backward", True)) for k in heard] == \
        [(N_RETAIN, True), (N_RETAIN, False), (N_FORGET, False)] * 2 + [(N_HELD_OUT, False)]


# --- NegGrad+

@pytest.mark.parametrize("weight", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_one_neggrad_step_by_hand(access, bn_mode, weight):
    model, heard = network(), []
    result = run(model, access, "neggrad_plus", epochs=1, batch_size=64, lr=0.05, retain_weight=weight, weight_decay=0.01, bn_mode=bn_mode,
                 callback=lambda **k: heard.append(k))
    student = copy.deepcopy(model).train(bn_mode == "train")
    retain_loss = cross_entropy(student(access.retain_images), access.retain_labels)
    forget_loss = cross_entropy(student(access.forget_images), access.forget_labels)
    value = weight * retain_loss - (1 - weight) * forget_loss
    Sgd(student.parameters(), 0.9, 0.01).step(value, 0.05)
    close(states(result), states(student), 1e-12)
    step, = heard
    assert step.keys() == {"images", "step", "epoch", "model", "loss", "forget_loss", "retain_loss"} and step["model"] is result
    assert (step["images"], step["step"], step["epoch"]) == (N_FORGET + N_RETAIN, 0, 0)
    assert [float(step[k]) for k in ("loss", "forget_loss", "retain_loss")] == \
        pytest.approx([value.item(), forget_loss.item(), retain_loss.item()], rel=1e-12)
    statistics = ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert all(torch.equal(result.state_dict()[k], model.state_dict()[k]) == (bn_mode == "eval") for k in statistics)
    assert not result.training


@pytest.mark.parametrize("weight", [0.7, 1.0])
def test_neggrad_over_several_epochs(access, weight):
    """With a weight of 1 it is SGD fine-tuning on the same batches: the forget set plays no part in the loop beside."""
    model = network()
    student = copy.deepcopy(model).eval()
    optimiser = torch.optim.SGD(student.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    for _, forget, retain in batch_pairs(N_FORGET, N_RETAIN, 4, 3, g()):
        loss = weight * cross_entropy(student(access.retain_images[retain]), access.retain_labels[retain])
        if weight < 1:
            loss = loss - (1 - weight) * cross_entropy(student(access.forget_images[forget]), access.forget_labels[forget])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    close(states(run(model, access, "neggrad_plus", epochs=3, batch_size=4, lr=0.02, retain_weight=weight)), states(student))


@pytest.mark.parametrize("batch_size", [7, 16])                                 # 50 samples: a last batch of one, which is left out, or two
def test_mixed_neggrad_counts_the_samples_of_each_batch(access, batch_size):
    """Against a loop that adds up single samples, in one forward pass a batch, some of them without forgotten samples."""
    model, heard, weight = network(), [], 0.7
    images = torch.cat([access.forget_images, access.retain_images])
    labels = torch.cat([access.forget_labels, access.retain_labels])
    student, sgd, generator, kinds = copy.deepcopy(model).train(), None, g(), []
    sgd = Sgd(student.parameters(), 0.9, 0.01)
    for epoch in range(3):
        order = torch.randperm(N_FORGET + N_RETAIN, generator=generator).tolist()
        for start in range(0, len(order), batch_size):
            batch = order[start:start + batch_size]
            if len(batch) < 2:
                continue
            each = [torch.logsumexp(row, 0) - row[y] for row, y in zip(student(images[batch]), labels[batch].tolist(), strict=True)]
            forgotten = [i < N_FORGET for i in batch]
            n = sum(forgotten)
            kinds.append((epoch, n, len(batch) - n))
            value = weight * sum(v for v, f in zip(each, forgotten, strict=True) if not f) / max(1, len(batch) - n)
            if n:
                value = value - (1 - weight) * sum(v for v, f in zip(each, forgotten, strict=True) if f) / n
            sgd.step(value, 0.05)
    result = run(model, access, "neggrad_plus", epochs=3, batch_size=batch_size, lr=0.05, retain_weight=weight, weight_decay=0.01,
                 bn_mode="train", mixed=True, callback=lambda **k: heard.append(k))
    close(states(result), states(student), 1e-10)
    assert [(k["epoch"], k["images"]) for k in heard] == [(e, f + r) for e, f, r in kinds]
    assert batch_size > 7 or any(f == 0 for _, f, _ in kinds)


def test_neggrad_forgets_without_a_limit(access):
    """What a target is for: the forget loss goes on rising, far beyond the loss on unseen samples."""
    model, heard = network().eval(), []
    run(model, access, "neggrad_plus", epochs=60, lr=0.05, retain_weight=0.5,
        callback=lambda *, forget_loss, **_: heard.append(forget_loss))
    unseen = cross_entropy(model(access.held_out[0]), access.held_out[1]).item()
    assert heard[0] < heard[20] < heard[40] < heard[-1] and heard[-1] > 3 * unseen


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_retain_weight_outside_0_to_1_is_refused(access, weight, one_sentence):
    with pytest.raises(ValueError, match=f"retain_weight is {weight}") as error:
        run(network(), access, "neggrad_plus", retain_weight=weight)
    one_sentence(error)


def test_defaults_of_neggrad(access):
    stated = run(network(), access, "neggrad_plus", epochs=6, lr=0.01, batch_size=256, retain_weight=0.95, momentum=0.9,
                 weight_decay=5e-4, bn_mode="eval")
    assert same(states(run(network(), access, "neggrad_plus")), states(stated))


# --- several labels a sample

@pytest.mark.parametrize("name", ["scrub", "neggrad_plus"])
def test_several_labels_a_sample(access, name):
    """Boolean labels: the label term is the binary cross-entropy, averaged over samples and labels."""
    labels = [torch.rand(n, CLASSES, generator=g(n)) < 0.3 for n in (N_FORGET, N_RETAIN)]
    view = Access(forget=(access.forget_images, labels[0]), retain=(access.retain_images, labels[1]))
    model, heard = network().eval(), []
    settings = {"max_epochs": 0, "distil_weight": 0.0} if name == "scrub" else {"retain_weight": 1.0, "bn_mode": "train"}
    run(model, view, name, epochs=1, callback=lambda *, loss=None, **_: heard.append(loss), **settings)
    p = torch.sigmoid(copy.deepcopy(model).train()(access.retain_images)).detach()
    assert float(heard[0]) == pytest.approx(float(-torch.where(labels[1], p, 1 - p).log().mean()), rel=1e-12)
