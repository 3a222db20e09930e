"""The training loop against closed forms and hand-written steps; interruption changes no bit."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import g, same, states
from torch import nn

from unlearnlib import data, models, train
from unlearnlib.access import Access
from unlearnlib.methods import METHODS
from unlearnlib.train import fit, learning_rate, logits, mean_loss, task_loss

# --- learning rates

def test_onecycle_rises_for_three_tenths_and_falls_along_a_cosine():
    rates = [learning_rate(s, 100, 10, lr=0.4, schedule="onecycle") for s in range(100)]
    assert rates[0] == pytest.approx(0.4 / 30) and rates[14] == pytest.approx(0.2) and rates[29] == rates[30] == pytest.approx(0.4)
    assert rates[65] == pytest.approx(0.2)                                      # half-way down
    for s in range(30):
        assert rates[s] == pytest.approx(0.4 * (s + 1) / 30)
    for s in range(30, 100):
        assert rates[s] == pytest.approx(0.2 + 0.2 * math.cos(math.pi * (s - 30) / 70))
    assert 0 < rates[99] < 0.001


@pytest.mark.parametrize("steps", range(1, 30))
def test_onecycle_stays_in_bounds_and_reaches_its_peak(steps):
    rates = [learning_rate(s, steps, 1, lr=1.0, schedule="onecycle") for s in range(steps)]
    assert all(0 < r <= 1 for r in rates) and max(rates) > 0.9
    peak = rates.index(max(rates))
    assert rates[:peak + 1] == sorted(rates[:peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize(("epochs", "n"), [(24, 98), (8, 98), (5, 1), (1, 10), (3, 7)])
def test_triangle_is_the_line_through_its_three_corners(epochs, n):
    """Rates count from the end of a step: 0 before the first, the peak after a fifth of the steps, 0 one step after the last."""
    steps = epochs * n
    rates = [learning_rate(s, steps, n, lr=0.4, schedule="triangle") for s in range(steps)]
    peak = math.ceil(0.2 * steps)
    assert rates[:peak] == pytest.approx(np.interp(np.arange(1, peak + 1), [0, peak], [0, 0.4]), rel=1e-12)
    falling = np.interp(np.arange(peak, steps), [0.2 * steps, steps], [0.4, 0])
    assert rates[peak:] == pytest.approx(falling, rel=1e-12) and all(0 < r <= 0.4 for r in rates)
    assert max(rates) == 0.4 == rates[peak - 1]


def test_triangle_is_pages_schedule_of_24_epochs():
    """Linear from 0 to the peak at epoch 5 of 24, then to 0; ours peaks at 4.8."""
    for epoch in range(1, 24):
        wanted = np.interp(epoch, [0, 4.8, 24], [0, 0.4, 0])
        assert learning_rate(epoch * 98, 24 * 98, 98, lr=0.4, schedule="triangle") == pytest.approx(wanted, abs=0.4 / 98 / 4)


def test_multistep_is_the_published_recipe_of_cifar20():
    """Effective rates: epoch 1 from 0 to 0.1, 2-14 0.1, 15-29 0.02, 30-34 0.004, from 35 on 0.0008."""
    n = 8                                                                       # steps an epoch
    kwargs = {"lr": 0.1, "schedule": "multistep", "milestones": [15, 30, 35], "gamma": 0.2, "warmup_epochs": 1}
    rates = [learning_rate(s, 40 * n, n, **kwargs) for s in range(40 * n)]
    assert rates[:n] == pytest.approx([0.1 * k / n for k in range(1, n + 1)])
    for first, last, rate in [(2, 14, 0.1), (15, 29, 0.02), (30, 34, 0.004), (35, 40, 0.0008)]:
        assert rates[(first - 1) * n:last * n] == pytest.approx([rate] * (last - first + 1) * n)


def test_constant_with_and_without_warm_up():
    assert {learning_rate(s, 20, 4, lr=0.3, schedule="constant") for s in range(20)} == {0.3}
    warm = [learning_rate(s, 20, 4, lr=0.3, schedule="constant", warmup_epochs=2) for s in range(20)]
    assert warm == pytest.approx([0.3 * k / 8 for k in range(1, 9)] + [0.3] * 12)


@pytest.mark.parametrize(("epochs", "gamma"), [(6, 0.1), (1, 0.1), (50, 0.001), (4, 1.0), (3, 0.0)])
def test_linear_is_torchs_linear_schedule_stepped_per_epoch(epochs, gamma):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1.0, end_factor=gamma, total_iters=epochs)
    wanted = []
    for _ in range(epochs):
        wanted += 5 * [optimiser.param_groups[0]["lr"]]
        optimiser.step()
        scheduler.step()
    rates = [learning_rate(s, 5 * epochs, 5, lr=0.3, schedule="linear", gamma=gamma) for s in range(5 * epochs)]
    assert rates == pytest.approx(wanted, rel=1e-9) and rates[0] == 0.3
    # The last epoch is still one step short of gamma * lr: the scheduler gets there after it.
    assert rates[-1] == pytest.approx(0.3 * (gamma + (1 - gamma) / epochs), rel=1e-12)


def test_unknown_names(one_sentence):
    with pytest.raises(ValueError, match="schedule is 'cosine'") as error:
        learning_rate(0, 1, 1, lr=1, schedule="cosine")
    one_sentence(error)
    with pytest.raises(ValueError, match="optimizer is 'lion'") as error:
        fit(nn.Linear(1, 2), torch.zeros(2, 1), torch.zeros(2).long(), generator=g(), epochs=1, lr=1, optimizer="lion")
    one_sentence(error)


def test_the_schedule_reaches_the_optimiser(monkeypatch):
    used = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: (used.append(self.param_groups[0]["lr"]), step(self))[1])
    kwargs = {"schedule": "multistep", "milestones": [2], "warmup_epochs": 1, "gamma": 0.5}
    fit(nn.Linear(1, 2), torch.zeros(10, 1), torch.zeros(10).long(), generator=g(), epochs=3, lr=0.1, batch_size=4, **kwargs)
    assert used == [learning_rate(s, 9, 3, lr=0.1, **kwargs) for s in range(9)]


# --- single steps, by hand

def linear_problem(n=6, inputs=3, classes=4):
    x = torch.randn(n, inputs, generator=g(1), dtype=torch.float64)
    y = torch.randint(classes, (n,), generator=g(2))
    layer = nn.Linear(inputs, classes).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, inputs, generator=g(3), dtype=torch.float64))
        layer.bias.copy_(torch.randn(classes, generator=g(4), dtype=torch.float64))
    return layer, x, y


def gradient(w, b, x, y):
    """Of the mean cross-entropy of a linear model: (softmax - onehot)^T x / n."""
    p = torch.exp(x @ w.T + b)
    p = p / p.sum(1, keepdim=True)
    p[range(len(y)), y] -= 1
    return p.T @ x / len(y), p.mean(0)


def test_sgd_with_momentum_and_weight_decay_by_hand():
    layer, x, y = linear_problem()
    values = [layer.weight.detach().clone(), layer.bias.detach().clone()]
    speed = [torch.zeros_like(v) for v in values]
    for _ in range(3):                                                          # one batch holds all, so its order is irrelevant
        for i, gradient_i in enumerate(gradient(*values, x, y)):
            speed[i] = 0.9 * speed[i] + gradient_i + 0.01 * values[i]
        values = [v - 0.05 * s for v, s in zip(values, speed, strict=True)]
    fit(layer, x, y, generator=g(), epochs=3, lr=0.05, batch_size=6, momentum=0.9, weight_decay=0.01)
    torch.testing.assert_close(layer.weight.detach(), values[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(layer.bias.detach(), values[1], rtol=1e-12, atol=1e-14)


def test_nesterovs_momentum_is_torchs_and_another_path_than_the_usual_one():
    layer, x, y = linear_problem()
    theirs, usual = copy.deepcopy(layer), copy.deepcopy(layer)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)
    for _ in range(4):
        optimiser.zero_grad()
        task_loss(theirs(x), y).backward()
        optimiser.step()
    settings = {"epochs": 4, "lr": 0.05, "batch_size": 6, "weight_decay": 0.01}
    fit(layer, x, y, generator=g(), nesterov=True, **settings)
    fit(usual, x, y, generator=g(), **settings)
    torch.testing.assert_close(layer.weight, theirs.weight, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(layer.bias, theirs.bias, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(layer.weight, usual.weight, rtol=1e-3)


def test_nesterovs_momentum_by_hand():
    """v <- m v + g, then w <- w - lr (g + m v)."""
    layer, x, y = linear_problem()
    w, speed = [layer.weight.detach().clone(), layer.bias.detach().clone()], [0.0, 0.0]
    for _ in range(3):
        slopes = gradient(*w, x, y)
        speed = [0.8 * v + s for v, s in zip(speed, slopes, strict=True)]
        w = [p - 0.05 * (s + 0.8 * v) for p, s, v in zip(w, slopes, speed, strict=True)]
    fit(layer, x, y, generator=g(), epochs=3, lr=0.05, batch_size=6, momentum=0.8, nesterov=True)
    torch.testing.assert_close(layer.weight.detach(), w[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", [{"optimizer": "adam"}, {"optimizer": "adamw"}, {"momentum": 0.0}])
def test_nesterov_needs_sgd_with_momentum(settings, one_sentence):
    with pytest.raises(ValueError, match="nesterov is True with") as error:
        fit(nn.Linear(1, 2), torch.zeros(2, 1), torch.zeros(2).long(), generator=g(), epochs=1, lr=1, nesterov=True, **settings)
    assert settings.get("optimizer", "momentum 0;") in one_sentence(error)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_norms_and_biases_can_be_spared_the_decay(optimizer):
    """Without a gradient the decay is all that moves anything: by lr * decay of itself (sgd, adamw)."""
    def moved(decay_norms):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2)).double()
        for p in model.parameters():
            nn.init.constant_(p, 0.5)
        fit(model, torch.zeros(4, 1, 3, 3, dtype=torch.float64), torch.zeros(4).long(), generator=g(), epochs=1, lr=0.1, batch_size=4,
            optimizer=optimizer, weight_decay=0.1, decay_norms=decay_norms, loss=lambda z, y: z.sum() * 0)
        return {k: p.detach() for k, p in model.named_parameters()}
    everything, spared = moved(True), moved(False)
    assert all((p < 0.5).all() for p in everything.values())
    for name, p in spared.items():
        assert torch.equal(p, everything[name] if p.ndim > 1 else torch.full_like(p, 0.5)), name
    if optimizer != "adam":
        torch.testing.assert_close(spared["0.weight"], torch.full_like(spared["0.weight"], 0.5 * (1 - 0.1 * 0.1)))


@pytest.mark.parametrize(("name", "decayed"), [("adam", False), ("adamw", True)])
def test_first_adam_step_is_the_sign_of_the_gradient(name, decayed):
    layer, x, y = linear_problem()
    before = layer.weight.detach().clone()
    slope = gradient(before, layer.bias.detach(), x, y)[0]
    if not decayed:
        slope = slope + 0.1 * before                                            # Adam adds the decay to the gradient, AdamW to the step
    fit(layer, x, y, generator=g(), epochs=1, lr=0.01, batch_size=6, optimizer=name, weight_decay=0.1)
    wanted = before * (1 - 0.01 * 0.1 if decayed else 1) - 0.01 * slope / (slope.abs() + 1e-8)
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=1e-9, atol=1e-12)


def test_every_sample_is_used_once_an_epoch_in_an_order_of_the_generator():
    batches = []

    def loss(outputs, targets):
        batches.append(targets.clone())
        return outputs.sum() * 0

    fit(nn.Linear(1, 1), torch.zeros(10, 1), torch.arange(10), generator=g(7), epochs=2, lr=0.1, batch_size=4, loss=loss)
    assert [len(b) for b in batches] == [4, 4, 2] * 2
    epochs = [torch.cat(batches[:3]), torch.cat(batches[3:])]
    order = g(7)
    assert all(torch.equal(seen, torch.randperm(10, generator=order)) for seen in epochs)


def test_targets_reach_the_loss_as_they_are():
    targets = torch.rand(5, 3, generator=g(), dtype=torch.float64)
    seen = []

    def loss(outputs, t):
        seen.append(t)
        return (outputs - t).square().mean()

    fit(nn.Linear(2, 3).double(), torch.zeros(5, 2).double(), targets, generator=g(), epochs=1, lr=0.1, batch_size=5, loss=loss)
    assert seen[0].dtype == torch.float64 and sorted(map(tuple, seen[0].tolist())) == sorted(map(tuple, targets.tolist()))


# --- the loop

def small(digits, seed=0):
    return models.build("allcnn-2", digits, seed)


RECIPE = {"epochs": 4, "lr": 0.05, "batch_size": 32, "schedule": "multistep", "milestones": [3], "warmup_epochs": 1, "weight_decay": 5e-4,
          "augment": True}


def test_training_is_deterministic_given_the_generator(digits):
    x, y = digits.train_images[:100], digits.train_labels[:100]
    state = torch.get_rng_state()
    first, again, other = (states(fit(small(digits), x, y, generator=g(s), **RECIPE)) for s in (0, 0, 1))
    assert same(first, again) and not same(first, other) and torch.equal(torch.get_rng_state(), state)


def test_training_learns_and_reports_every_step(digits):
    model, heard = models.build("allcnn-8", digits, 0), []
    fit(model, digits.train_images[:300], digits.train_labels[:300], generator=g(), epochs=15, lr=0.1, schedule="onecycle",
        callback=lambda *, images, loss, step, model: heard.append((images, float(loss), step)))
    assert [s for _, _, s in heard] == list(range(75)) and [i for i, _, _ in heard] == [64, 64, 64, 64, 44] * 15
    first, last = (sum(v for _, v, _ in part) / 5 for part in (heard[:5], heard[-5:]))
    assert last < 0.3 * first


def test_fit_returns_the_same_model_in_evaluation_mode(digits):
    model = small(digits).train()
    assert fit(model, digits.train_images[:40], digits.train_labels[:40], generator=g(), epochs=1, lr=0.1) is model
    assert not any(m.training for m in model.modules())


def test_frozen_parameters_do_not_move(digits):
    model = small(digits)
    model.requires_grad_(False)
    model.fc.requires_grad_(True)
    before = states(model)
    fit(model, digits.train_images[:40], digits.train_labels[:40], generator=g(), epochs=2, lr=0.1, weight_decay=0.1)
    moved = {k for k, p in model.named_parameters() if not torch.equal(p, before[k])}
    assert moved == {"fc.weight", "fc.bias"}


def test_augmentation_is_that_of_each_batch_in_turn_and_only_on_request(digits):
    """41 images in batches of 20: the last one alone is left out, and nothing is drawn for it."""
    x, y = digits.train_images[:41], digits.train_labels[:41]
    plain, augmented = (fit(small(digits), x, y, generator=g(), epochs=2, lr=0.1, momentum=0.0, batch_size=20, augment=on)
                        for on in (False, True))
    model, generator = small(digits).train(), g()
    for _ in range(2):
        for batch in torch.randperm(41, generator=generator).split(20)[:2]:
            F.cross_entropy(model(data.augment(x[batch], generator)), y[batch]).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
                    p.grad = None
    for name, value in model.state_dict().items():
        torch.testing.assert_close(augmented.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert not same(states(plain), states(augmented))


@pytest.mark.parametrize(("n", "batch_size", "used"), [(9, 4, [4, 4]), (8, 4, [4, 4]), (10, 4, [4, 4, 2]), (1, 4, [1]), (1, 1, [1]),
                                                       (3, 1, [1, 1, 1])])
def test_a_last_batch_of_one_image_is_left_out_and_nothing_else(n, batch_size, used):
    seen = []
    fit(nn.Linear(2, 3), torch.zeros(n, 2), torch.zeros(n).long(), generator=g(), epochs=1, lr=0.1, batch_size=batch_size,
        callback=lambda *, images, **_: seen.append(images))
    assert seen == used


def test_a_last_batch_of_one_image_does_not_break_batch_norm():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))                   # refuses a batch of one in training mode
    fit(model, torch.randn(5, 2, generator=g()), torch.zeros(5).long(), generator=g(), epochs=1, lr=0.1, batch_size=4)


# --- BatchNorm's statistics

@pytest.mark.parametrize("batchnorm", ["train", "eval"])
def test_batchnorm_decides_whether_the_statistics_move(digits, batchnorm):
    model = small(digits)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "running" in name:                                               # not those of a new network, which nothing can tell apart
                buffer.add_(0.5)
    before = states(model)
    result = fit(model, digits.train_images[:40], digits.train_labels[:40], generator=g(), epochs=1, lr=0.1, batchnorm=batchnorm)
    for name, buffer in result.named_buffers():
        assert torch.equal(buffer, before[name]) == (batchnorm == "eval" or "normalise" in name), name
    assert not torch.equal(result.fc.bias, before["fc.bias"])
    assert not any(m.training for m in result.modules())


def test_batchnorm_in_evaluation_mode_is_an_affine_map():
    """Fixed statistics: the network is a linear map of the scaled inputs, and one SGD step can be taken by hand."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4)).double()
    with torch.no_grad():
        model[0].running_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
        model[0].running_var.copy_(torch.tensor([0.25, 4.0, 1.0]))
    layer, x, y = linear_problem()
    model[1].load_state_dict(layer.state_dict())
    scaled = (x - model[0].running_mean) / (model[0].running_var + 1e-5).sqrt()
    slope, _ = gradient(layer.weight.detach(), layer.bias.detach(), scaled, y)
    fit(model, x, y, generator=g(), epochs=1, lr=0.1, batch_size=6, momentum=0, batchnorm="eval")
    torch.testing.assert_close(model[1].weight.detach(), layer.weight.detach() - 0.1 * slope, rtol=1e-12, atol=1e-14)


def test_unknown_batchnorm(digits, one_sentence):
    with pytest.raises(ValueError, match="batchnorm is 'frozen'") as error:
        fit(small(digits), digits.train_images[:4], digits.train_labels[:4], generator=g(), epochs=1, lr=0.1, batchnorm="frozen")
    one_sentence(error)


def test_fine_tuning_as_the_baseline_of_nabla_tau(digits, trained):
    """AdamW with a linearly falling rate and fixed statistics, in a loop of torch's own parts."""
    model = copy.deepcopy(trained).double()
    x, y = digits.train_images[:90].double(), digits.train_labels[:90]
    result = METHODS["finetune"].run(model, Access(retain=(x, y)), generator=g(3), epochs=4, lr=1e-3, batch_size=32, optimizer="adamw",
                                     weight_decay=0.01, schedule="linear", gamma=0.1, batchnorm="eval")
    net, generator = copy.deepcopy(model).eval(), g(3)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)                    # torch's own defaults: weight decay 0.01
    scheduler = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1.0, end_factor=0.1, total_iters=4)
    for _ in range(4):
        for batch in torch.randperm(90, generator=generator).split(32):
            optimiser.zero_grad()
            z = net(x[batch])
            (torch.logsumexp(z, 1) - z[range(len(batch)), y[batch]]).mean().backward()
            optimiser.step()
        scheduler.step()
    for (name, a), b in zip(net.named_parameters(), result.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9, msg=name)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), result.buffers(), strict=True))
    assert not torch.equal(result.fc.weight, model.fc.weight)


# --- resume

class Interruption(Exception):
    pass


def interrupt_after(step):
    def callback(*, step: int, **_):
        if step == last:
            raise Interruption
    last = step
    return callback


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("step", [4, 7, 8, 13])                                 # 4 steps an epoch
def test_an_interrupted_training_resumes_bit_identically(digits, tmp_path, monkeypatch, step, optimizer):
    x, y, recipe = digits.train_images[:120], digits.train_labels[:120], RECIPE | {"optimizer": optimizer, "lr": 0.01}
    whole_generator = g()
    whole = states(fit(small(digits), x, y, generator=whole_generator, **recipe))
    monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    file = tmp_path / "point.resume"
    with pytest.raises(Interruption):
        fit(small(digits), x, y, generator=g(), resume=file, callback=interrupt_after(step), **recipe)
    assert [f.name for f in tmp_path.iterdir()] == ["point.resume"]
    steps, generator = [], g(99)                                                # another model, another generator: the file decides
    resumed = fit(small(digits, seed=5), x, y, generator=generator, resume=file, callback=lambda *, step, **_: steps.append(step), **recipe)
    assert same(states(resumed), whole) and torch.equal(generator.get_state(), whole_generator.get_state())
    assert steps == list(range(step // 4 * 4, 16))                              # whole epochs only, none before the saved one
    assert not file.exists()


def test_interrupted_twice(digits, tmp_path, monkeypatch):
    x, y = digits.train_images[:120], digits.train_labels[:120]
    whole = states(fit(small(digits), x, y, generator=g(), **RECIPE))
    monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    for step in (5, 10):
        with pytest.raises(Interruption):
            fit(small(digits), x, y, generator=g(), resume=tmp_path / "r", callback=interrupt_after(step), **RECIPE)
    assert same(states(fit(small(digits), x, y, generator=g(), resume=tmp_path / "r", **RECIPE)), whole)


def test_seconds_add_up_over_interruptions(digits, tmp_path, monkeypatch):
    x, y, file = digits.train_images[:120], digits.train_labels[:120], tmp_path / "r"
    monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    assert train.spent(file) == 0
    for step, before in ((5, 0), (10, 1000)):
        with pytest.raises(Interruption):
            fit(small(digits), x, y, generator=g(), resume=file, callback=interrupt_after(step), **RECIPE)
        assert before < train.spent(file) < before + 100
        torch.save(torch.load(file, weights_only=True) | {"seconds": 1000.0}, file)     # as if it had taken so long
    file.write_bytes(b"PK damaged")
    assert train.spent(file) == 0


def test_a_short_training_keeps_no_state_and_an_early_interruption_starts_over(digits, tmp_path):
    x, y = digits.train_images[:120], digits.train_labels[:120]
    with pytest.raises(Interruption):
        fit(small(digits), x, y, generator=g(), resume=tmp_path / "r", callback=interrupt_after(9), **RECIPE)
    assert not list(tmp_path.iterdir())                                         # 30 seconds have not passed
    a = fit(small(digits), x, y, generator=g(), resume=tmp_path / "r", **RECIPE)
    assert same(states(a), states(fit(small(digits), x, y, generator=g(), **RECIPE)))


def test_an_interruption_while_saving_leaves_the_earlier_state(digits, tmp_path, monkeypatch):
    x, y = digits.train_images[:120], digits.train_labels[:120]
    whole = states(fit(small(digits), x, y, generator=g(), **RECIPE))
    monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    saves, write = [], Path.write_bytes

    def fails_the_second_time(path, content):
        saves.append(path)
        if len(saves) == 2:
            write(path, content[: len(content) // 2])
            raise Interruption
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fails_the_second_time)
    with pytest.raises(Interruption):
        fit(small(digits), x, y, generator=g(), resume=tmp_path / "r", **RECIPE)
    steps = []
    resumed = fit(small(digits, 3), x, y, generator=g(), resume=tmp_path / "r", callback=lambda *, step, **_: steps.append(step), **RECIPE)
    assert steps[0] == 4 and same(states(resumed), whole)


def test_a_damaged_state_is_one_sentence(digits, tmp_path, one_sentence):
    file = tmp_path / "r"
    file.write_bytes(b"PK damaged")
    with pytest.raises(RuntimeError, match="resume point .* is damaged") as error:
        fit(small(digits), digits.train_images[:40], digits.train_labels[:40], generator=g(), resume=file, **RECIPE)
    assert str(file) in one_sentence(error)


# --- logits

@torch.no_grad()
def test_logits_are_the_models_answers_in_evaluation_mode(digits, trained):
    x = digits.test_images[:23]
    one_by_one = torch.cat([copy.deepcopy(trained).eval()(image[None]) for image in x])
    for size in (1, 5, 23, 500):
        torch.testing.assert_close(logits(trained, x, size), one_by_one)


@pytest.mark.parametrize("training", [True, False])
def test_logits_restore_the_mode_and_move_no_statistic(digits, trained, training):
    model = copy.deepcopy(trained).train(training)
    before = states(model)
    z = logits(model, digits.test_images[:50])
    assert all(m.training == training for m in model.modules()) and same(before, states(model))
    assert not z.requires_grad and z.dtype == torch.float32


def test_logits_restore_the_mode_of_every_module(digits, trained):
    model = copy.deepcopy(trained).train()
    model.body[0][1].eval()
    modes = [m.training for m in model.modules()]
    logits(model, digits.test_images[:5])
    assert [m.training for m in model.modules()] == modes


def test_logits_of_half_precision_and_of_nothing(trained, digits):
    layer = nn.Linear(2, 3).to(torch.bfloat16)
    assert logits(layer, torch.zeros(4, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert len(logits(trained, digits.test_images[:0])) == 0


# --- losses

def by_hand(z, targets):
    """Mean loss in Python sums: ids and probabilities by the softmax, several labels by one logistic function each."""
    total = 0.0
    for row, target in zip(z.tolist(), targets.tolist(), strict=True):
        if targets.dtype == torch.bool:
            total += sum(math.log1p(math.exp(-v if t else v)) for v, t in zip(row, target, strict=True)) / len(row)
        else:
            normaliser = math.log(sum(math.exp(v) for v in row))
            total += normaliser - (row[target] if isinstance(target, int) else sum(v * t for v, t in zip(row, target, strict=True)))
    return total / len(z)


def targets_of(kind, n=9, classes=4):
    if kind == "ids":
        return torch.randint(classes, (n,), generator=g(5))
    scores = torch.rand(n, classes, generator=g(6), dtype=torch.float64)
    return scores / scores.sum(1, keepdim=True) if kind == "probabilities" else scores < 0.4


@pytest.mark.parametrize("kind", ["ids", "probabilities", "several"])
def test_task_loss_by_hand(kind):
    z, targets = 2 * torch.randn(9, 4, generator=g(4), dtype=torch.float64), targets_of(kind)
    value = task_loss(z, targets)
    assert value.shape == () and value.item() == pytest.approx(by_hand(z, targets), rel=1e-12)
    assert task_loss(z.float(), targets if kind != "probabilities" else targets.float()).dtype == torch.float32


@pytest.mark.parametrize("kind", ["ids", "several"])
def test_training_minimises_the_task_loss(kind):
    layer, x, _ = linear_problem(n=9)
    targets, heard = targets_of(kind), []
    before = by_hand(layer(x).detach(), targets)
    fit(layer, x, targets, generator=g(), epochs=30, lr=0.1, batch_size=9, callback=lambda *, loss, **_: heard.append(float(loss)))
    assert heard[0] == pytest.approx(before, rel=1e-12) and by_hand(layer(x).detach(), targets) < 0.8 * before


@pytest.mark.parametrize("kind", ["ids", "several"])
def test_mean_loss_is_that_of_the_whole_set_in_evaluation_mode(kind):
    """More samples than one evaluation batch, whose mean losses must not be averaged with equal weight."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(torch.randn(p.shape, generator=g(i)))
    x = torch.randn(701, 3, generator=g(1))
    x[500:] *= 5                                                                # the second batch is unlike the first
    before = states(model)
    value = mean_loss(model, x, targets_of(kind, n=701))
    assert isinstance(value, float) and same(before, states(model)) and all(m.training for m in model.modules())
    assert value == pytest.approx(by_hand(copy.deepcopy(model).eval()(x).detach(), targets_of(kind, n=701)), rel=1e-5)


def test_bf16_learns_as_well_with_float32_weights_and_is_off_unless_asked(digits):
    plain, fast, again = (fit(models.build("allcnn-8", digits, 0), digits.train_images, digits.train_labels, generator=g(), epochs=4,
                              lr=0.05, schedule="onecycle", **kwargs) for kwargs in ({}, {"bf16": True}, {"bf16": False}))
    assert same(states(plain), states(again)) and not same(states(plain), states(fast))
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in fast.parameters())
    right = [float((logits(m, digits.test_images).argmax(1) == digits.test_labels).float().mean()) for m in (plain, fast)]
    assert min(right) > 0.5 and abs(right[0] - right[1]) < 0.1
