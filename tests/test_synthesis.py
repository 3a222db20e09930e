"""The generator of data-free distillation and its losses, against loops in float64."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlearnlib.models import AllCNN, ResNet, count_parameters
from unlearnlib.synthesis import (
    Generator,
    Log,
    adversarial_loss,
    balance_loss,
    batchnorm_statistics_loss,
    one_hot_loss,
    relative_cost,
    taps,
)
from unlearnlib.train import multiply_adds


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(seed, n=40, classes=6, scale=2.0):
    return scale * torch.randn(n, classes, generator=g(seed), dtype=torch.float64)


def softmax(row):
    top = max(row)
    total = sum(math.exp(v - top) for v in row)
    return [math.exp(v - top) / total for v in row]


@pytest.fixture(scope="module")
def large():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Generator(), AllCNN(96)


def small(**kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Generator((2, 8, 12), latent=5, widths=(6, 4, 3), **kwargs)


# --- the generator

def test_the_published_sizes(large):
    generator, allcnn = large
    by_hand = (256 + 1) * 256 * 64 + 2 * 256 + 256 * 128 * 9 + 2 * 128 + 128 * 64 * 9 + 2 * 64 + (64 * 9 + 1) * 3
    assert count_parameters(generator) == by_hand == 4_581_955
    assert round(count_parameters(allcnn) / 1e6, 2) == 1.62
    with torch.random.fork_rng(devices=[]):
        of_gkt = Generator(latent=128, widths=(128, 128, 64), squash=False)
    assert count_parameters(of_gkt) == 129 * 128 * 64 + 256 + 128 * 128 * 9 + 256 + 128 * 64 * 9 + 128 + 577 * 3 + 6


def test_the_published_costs(large):
    generator, allcnn = large
    z, x = torch.zeros(1, 256), torch.zeros(1, 3, 32, 32)
    assert multiply_adds(generator, z) == 256 * 256 * 64 + 256 * 128 * 9 * 16 ** 2 + 128 * 64 * 9 * 32 ** 2 + 64 * 3 * 9 * 32 ** 2
    assert round(multiply_adds(generator, z) / 1e6, 1) == 157.0 and round(multiply_adds(allcnn, x) / 1e6, 1) == 344.8
    assert relative_cost(generator, allcnn) == multiply_adds(generator, z) / multiply_adds(allcnn, x)


def test_costs_count_every_image_of_the_batch_and_change_nothing():
    model = AllCNN(4, channels=2, mean=(0.5,) * 2, std=(0.5,) * 2).train()
    model.body[0][1].eval()
    before, modes = {k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()]
    x = torch.rand(3, 2, 8, 12, generator=g())
    assert multiply_adds(model, x) == 3 * multiply_adds(model, x[:1]) > 0
    synthesis = small().train()
    buffers = {k: v.clone() for k, v in synthesis.state_dict().items()}
    relative_cost(synthesis, model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, buffers[k]) for k, v in synthesis.state_dict().items()) and all(m.training for m in synthesis.modules())


def test_images_have_the_shape_asked_for_and_are_between_0_and_1():
    synthesis = small()
    with torch.no_grad():
        synthesis.body[-2].weight.mul_(10)
    x = synthesis(torch.randn(50, 5, generator=g()))
    assert x.shape == (50, 2, 8, 12) and 0 <= x.min() < 0.01 and 0.99 < x.max() <= 1


def test_without_squashing_images_end_in_batchnorm():
    synthesis = small(squash=False)
    x = synthesis(torch.randn(50, 5, generator=g()))
    assert x.shape == (50, 2, 8, 12) and x.min() < -0.5 and x.max() > 1
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.var((0, 2, 3), correction=0), torch.ones(2), rtol=0, atol=1e-2)
    assert isinstance(synthesis.body[-1], nn.BatchNorm2d) and len(synthesis.body) == len(small().body)


def test_the_layers_in_order():
    """The published network written out with functions."""
    synthesis = small().eval()
    with torch.no_grad():
        for i, tensor in enumerate(t for t in synthesis.state_dict().values() if t.is_floating_point()):
            tensor.add_(0.3 * torch.rand(tensor.shape, generator=g(i)))
    state, z = synthesis.state_dict(), torch.randn(4, 5, generator=g())
    names = list(state)

    def norm(x, prefix):
        mean, var, weight, bias = (state[f"{prefix}.{k}"].view(1, -1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def double(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    convolutions = [n for n in names if state[n].ndim == 4]
    norms = [n.removesuffix(".running_mean") for n in names if n.endswith("running_mean")]
    x = (z @ state["linear.weight"].T + state["linear.bias"]).view(4, 6, 2, 3)
    x = norm(x, norms[0])
    for convolution, bn in zip(convolutions[:2], norms[1:], strict=True):
        x = norm(F.conv2d(double(x), state[convolution], padding=1), bn)
        x = torch.where(x > 0, x, 0.2 * x)
    x = F.conv2d(x, state[convolutions[2]], state[names[-1]], padding=1)
    torch.testing.assert_close(synthesis(z), 1 / (1 + torch.exp(-x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 28, 30), (1, 10, 8), (3, 7, 7)])
def test_sizes_that_cannot_be_halved_twice(shape, one_sentence):
    with pytest.raises(ValueError, match="multiples of 4") as error:
        Generator(shape)
    assert str(shape) in one_sentence(error)


def test_draws_depend_on_their_generator_alone():
    synthesis = small().eval()
    state = torch.get_rng_state()
    a, b, c = (synthesis.draw(3, g(s)) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(a, synthesis(torch.randn(3, 5, generator=g(0))), rtol=0, atol=0)
    generator = g(0)
    assert not torch.equal(synthesis.draw(3, generator), synthesis.draw(3, generator))


# --- what enters and leaves layers

def test_taps_note_inputs_or_outputs_in_order_and_leave_no_hook():
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()
    x = torch.randn(4, 1, 8, 8, generator=g())
    with taps(net, nn.BatchNorm2d) as seen:
        net(x)
    expected = [(net[1], net[0](x)), (net[4], net[3](net[2](net[1](net[0](x)))))]
    assert [layer for layer, _ in seen] == [layer for layer, _ in expected]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(seen, expected, strict=True))
    with taps(net, nn.ReLU, outputs=True) as left:
        net(x)
    assert [layer for layer, _ in left] == [net[2], net[5]] and torch.equal(left[1][1], net(x)) and left[0][1].min() == 0
    net(x)
    assert len(seen) == len(left) == 2
    with pytest.raises(ZeroDivisionError), taps(net, nn.ReLU):
        1 / 0  # noqa: B018
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_taps_follow_the_order_of_the_pass_and_count_a_layer_as_often_as_it_runs():
    with torch.random.fork_rng(devices=[]):
        net = ResNet(4, channels=1, blocks=(1, 1)).eval()
    with taps(net, nn.ReLU, outputs=True) as seen:
        net(torch.rand(2, 1, 8, 8, generator=g()))
    assert [layer for layer, _ in seen] == [net.relu, *[net.layer1[0].relu] * 2, *[net.layer2[0].relu] * 2]
    assert [x.shape[1] for _, x in seen] == [4, 4, 4, 8, 8]


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.ReLU])
def test_a_model_without_such_layers(kind, one_sentence):
    with pytest.raises(ValueError, match=f"0 {kind.__name__} layers") as error, taps(nn.Linear(2, 2), kind):
        pass
    one_sentence(error)


def layers():
    inputs = []
    for i, (channels, size) in enumerate([(3, 4), (5, 2), (2, 1)]):
        layer = nn.BatchNorm2d(channels).double()
        layer.running_mean.copy_(torch.randn(channels, generator=g(i)))
        layer.running_var.copy_(torch.rand(channels, generator=g(i)) + 0.5)
        inputs.append((layer, 2 * torch.randn(7, channels, size, size + 1, generator=g(i + 9), dtype=torch.float64) + 0.3))
    return inputs


def test_the_statistics_loss_channel_by_channel():
    inputs, total = layers(), 0.0
    for layer, x in inputs:
        of_means = of_variances = 0.0
        for c in range(x.shape[1]):
            values = [v for image in x for v in image[c].flatten().tolist()]
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values)       # biased
            of_means += (layer.running_mean[c].item() - mean) ** 2
            of_variances += (layer.running_var[c].item() - variance) ** 2
        total += math.sqrt(of_means) + math.sqrt(of_variances)
    assert batchnorm_statistics_loss(inputs).item() == pytest.approx(total, rel=1e-12)
    parts = [batchnorm_statistics_loss([i]).item() for i in inputs]
    assert sum(parts) == pytest.approx(total, rel=1e-12) and min(parts) > 0.1


def test_the_statistics_loss_is_0_where_the_statistics_agree_and_changes_no_layer():
    layer, x = layers()[0]
    before = copy.deepcopy(layer.state_dict())
    assert batchnorm_statistics_loss([(layer, x)]) > 0
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    layer.running_mean.copy_(x.mean((0, 2, 3)))
    layer.running_var.copy_(x.var((0, 2, 3), correction=0))
    assert batchnorm_statistics_loss([(layer, x)]).item() == pytest.approx(0, abs=1e-12)


# --- losses of logits

def test_the_one_hot_loss():
    t = logits(1)
    by_hand = -sum(math.log(max(softmax(row))) for row in t.tolist()) / len(t)
    assert one_hot_loss(t).item() == pytest.approx(by_hand, rel=1e-12)
    assert one_hot_loss(10 * t) < one_hot_loss(t)


def test_the_balance_loss():
    t = logits(1)
    mean = [sum(column) / len(t) for column in zip(*map(softmax, t.tolist()), strict=True)]
    assert balance_loss(t).item() == pytest.approx(sum(p * math.log(p) for p in mean), rel=1e-12)


def test_bounds_of_the_balance_loss():
    assert balance_loss(50 * torch.eye(6)).item() == pytest.approx(-math.log(6), abs=1e-6)         # each class once
    assert balance_loss(torch.zeros(3, 6)).item() == pytest.approx(-math.log(6), abs=1e-6)
    assert balance_loss(torch.tensor([[80.0, 0, 0]] * 4)).item() == pytest.approx(0, abs=1e-6)     # one class alone
    for seed in range(20):
        assert -math.log(6) - 1e-9 <= balance_loss(logits(seed, scale=8.0)).item() <= 0


@pytest.mark.parametrize("scale", [1e3, 1e5, 1e30])
def test_saturated_logits_give_no_nan(scale):
    t, s = (torch.randn(8, 5, generator=g(i)).mul(scale).requires_grad_() for i in (1, 2))
    for loss in (one_hot_loss(t), balance_loss(t), adversarial_loss(t, s), adversarial_loss(t, s, [1])):
        assert torch.isfinite(loss)
        assert all(torch.isfinite(x).all() for x in torch.autograd.grad(loss, [t, s], allow_unused=True) if x is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_forget_classes_the_adversarial_loss_is_minus_kl(dtype):
    t, s = logits(1).to(dtype), logits(2).to(dtype)
    kl = F.kl_div(s.log_softmax(1), t.softmax(1), reduction="batchmean")
    assert adversarial_loss(t, s).item() == pytest.approx(-kl.item(), rel=1e-6) and kl > 0.5
    assert adversarial_loss(t, t).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("forget", [[2], [0, 5], [1, 2, 3, 4, 5]])
def test_inhibited_synthetic_row_by_row(forget):
    t, s = logits(1), logits(2)
    total = 0.0
    for row_t, row_s in zip(t.tolist(), s.tolist(), strict=True):
        for k, (p, q) in enumerate(zip(softmax(row_t), softmax(row_s), strict=True)):
            term = p * (math.log(p) - math.log(q))
            total += term if k in forget else -term
    assert adversarial_loss(t, s, forget).item() == pytest.approx(total / len(t), rel=1e-11)


def test_inhibited_synthetic_may_have_either_sign():
    values = [adversarial_loss(logits(i, n=3), logits(i + 50, n=3), [0, 1, 2]).item() for i in range(20)]
    assert min(values) < -0.1 and max(values) > 0.1


def test_a_forget_class_is_drawn_to_the_students_probability_over_e():
    """At p_f = q_f / e the forget term is at its minimum, -q_f / e: the slope of the loss along p_f vanishes but for the other terms."""
    q = torch.tensor([0.3, 0.6, 0.1], dtype=torch.float64)

    def forget_term(p):
        """Of class 0 alone: the loss with it as forget class, plus the loss without, is twice its term."""
        rest = (1 - p) * q[1:] / q[1:].sum()
        t = torch.cat([p.view(1), rest]).log().unsqueeze(0)
        return (adversarial_loss(t, q.log().unsqueeze(0), [0]) - adversarial_loss(t, q.log().unsqueeze(0))) / 2

    p = torch.tensor(0.3 / math.e, dtype=torch.float64, requires_grad=True)
    value = forget_term(p)
    value.backward()
    assert value.item() == pytest.approx(-0.3 / math.e, rel=1e-12) and p.grad.item() == pytest.approx(0, abs=1e-12)
    for other in (0.9, 1.1):
        assert forget_term(p.detach() * other) > value.detach()


@pytest.mark.parametrize("forget", [(), (1, 3)])
def test_the_adversarial_gradient_flows_through_both(forget):
    t, s = (logits(i, n=4).requires_grad_() for i in (1, 2))
    gradients = torch.autograd.grad(adversarial_loss(t, s, forget), [t, s])
    for x, gradient in zip((t, s), gradients, strict=True):
        numeric = torch.zeros_like(x)
        for i in range(x.shape[0]):
            for k in range(x.shape[1]):
                shift = torch.zeros_like(x)
                shift[i, k] = 1e-6
                up, down = (adversarial_loss(*(v + d if v is x else v for v in (t, s)), forget) for d in (shift, -shift))
                numeric[i, k] = (up - down).item() / 2e-6
        torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)
        assert gradient.abs().max() > 1e-2


# --- the log

def test_the_log_counts_rows_and_means_losses():
    log, t = Log(), torch.tensor([[2.0, 0, 0], [0, 1.0, 0], [0, 3.0, 0], [0, 0, 0.5]])
    log.drew(t, torch.tensor([True, False, True, False]))
    log.drew(t[:2], torch.tensor([True, True]))
    s = torch.tensor([[1.0, 0, 0], [0, 0, 4.0]], requires_grad=True)
    log.updated(s, s.sum())
    log.updated(3 * s, 3 * s.sum())
    log.add(other=torch.tensor(7.0))
    log.skipped += 2
    means = log.means()
    assert {"kept", "updates", "skipped", "teacher", "predicted", "student", "loss", "other"} == means.keys()
    assert means["kept"] == 4 / 6 and (means["updates"], means["skipped"]) == (2, 2)
    assert means["predicted"] == pytest.approx([(1 / 4 + 1 / 2) / 2, (2 / 4 + 1 / 2) / 2, 1 / 8])
    torch.testing.assert_close(torch.tensor(means["teacher"]), (t.softmax(1).mean(0) + t[:2].softmax(1).mean(0)) / 2)
    torch.testing.assert_close(torch.tensor(means["student"]), ((s.softmax(1).mean(0) + (3 * s).softmax(1).mean(0)) / 2).detach())
    assert means["loss"] == 10 and means["other"] == 7
    assert not any(v.requires_grad for v in log.sums.values())


def test_an_empty_log():
    assert Log().means() == {"kept": 0.0, "updates": 0, "skipped": 0}
