"""Noise, elastic deformation and attacks against SciPy and against loops over pixels in float64."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import nn

from unlearnlib import data, shifts, train
from unlearnlib.methods.forget_vectors import ForgetVector


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def some(n=3, c=2, h=7, w=9, seed=5):
    return torch.rand(n, c, h, w, generator=g(seed), dtype=torch.float64)


# --- pixel space

def test_pixels_brings_bytes_to_0_1_and_leaves_floats(one_sentence):
    x = some()
    assert data.pixels(x) is x
    b = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert torch.equal(data.pixels(b), torch.tensor([0.0, 0.2, 1.0])) and data.pixels(b, torch.float64).dtype == torch.float64
    with pytest.raises(ValueError, match="inputs are int64.*floats.*or uint8: pass images") as error:
        data.pixels(torch.zeros(2, 3, dtype=torch.int64))
    one_sentence(error)


def test_clipping_stays_in_0_1_but_never_undoes_the_image_itself():
    x = torch.tensor([-0.5, -0.5, -0.5, 0.5, 0.5, 0.5, 1.5, 1.5, 1.5])
    changed = torch.tensor([-0.7, -0.2, 1.2, -0.1, 0.6, 1.1, 1.7, 1.2, -0.2])
    assert data.clip_pixels(changed, x).tolist() == pytest.approx([-0.5, -0.2, 1.0, 0.0, 0.6, 1.0, 1.5, 1.2, 0.0])
    assert torch.equal(data.clip_pixels(x, x), x)


# --- Gaussian noise

@pytest.mark.parametrize("sigma", [0.0, 0.08, 0.38])
def test_gaussian_noise_is_the_definition(sigma):
    x = some()
    noise = torch.randn(x.shape, generator=g(3), dtype=torch.float64)
    expected = np.clip(x.numpy() + sigma * noise.numpy(), 0, 1)
    result = shifts.gaussian_noise(x, sigma, generator=g(3))
    assert result.numpy() == pytest.approx(expected, abs=1e-14)
    assert (result == 0).any() == (result == 1).any() == (sigma > 0) and result.dtype == torch.float64


def test_bytes_become_floats_and_no_input_is_changed(digits):
    images = (digits.test_images[:6].clamp(0, 1) * 255).to(torch.uint8)
    before = images.clone()
    floats = images.float() / 255
    for shift in (lambda x: shifts.gaussian_noise(x, 0.1, generator=g()), lambda x: shifts.elastic(x, 1.0, 2.0, 0.3, generator=g())):
        assert torch.equal(shift(images), shift(floats)) and shift(images).dtype == torch.float32
    assert torch.equal(images, before)


@pytest.mark.parametrize("shift", [
    lambda x, s: shifts.gaussian_noise(x, 0.1, generator=g(s)), lambda x, s: shifts.elastic(x, 1.0, 2.0, 0.0, generator=g(s)),
    lambda x, s: shifts.elastic(x, 0.0, 0.0, 0.5, generator=g(s))])
def test_the_generator_alone_decides_and_images_differ(shift):
    x = some(1).expand(3, -1, -1, -1)
    state = torch.get_rng_state()
    first = shift(x, 1)
    assert torch.equal(first, shift(x, 1)) and not torch.equal(first, shift(x, 2)) and torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])


# --- elastic deformation

def draws(n, h, w, seed):
    """The generator's uniform numbers in the order in which they are used: anchors, then fields of columns and rows."""
    generator = g(seed)
    anchors = 2 * torch.rand(n, 3, 2, generator=generator, dtype=torch.float64) - 1
    fields = [2 * torch.rand(n, h, w, generator=generator, dtype=torch.float64) - 1 for _ in range(2)]
    return anchors.numpy(), *(f.numpy() for f in fields)


def reflected(i, n):
    """Index reflected at the centres of the border pixels: ... 2 1 | 0 1 2 ... n-1 | n-2 ..."""
    i = i % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


def bilinear(image, row, column):
    (r, fr), (c, fc) = ((math.floor(v), v - math.floor(v)) for v in (row, column))
    h, w = image.shape
    return sum(wr * wc * image[reflected(r + dr, h), reflected(c + dc, w)]
               for dr, wr in ((0, 1 - fr), (1, fr)) for dc, wc in ((0, 1 - fc), (1, fc)))


@pytest.mark.parametrize("size", [(7, 9), (12, 12)])
@pytest.mark.parametrize("jitter", [0.0, 0.4, 0.9])
def test_the_affine_map_takes_the_anchors_where_they_are_jittered(size, jitter):
    h, w = size
    x = some(2, 2, h, w)
    result = shifts.elastic(x, 0.0, 3.0, jitter, generator=g(4)).numpy()
    anchors, *_ = draws(2, h, w, 4)
    for k in range(2):
        centre, side = np.array([w // 2, h // 2], float), min(h, w) // 3
        before = np.array([centre + side, [centre[0] + side, centre[1] - side], centre - side])
        after = before + jitter * anchors[k]
        forward = np.linalg.solve(np.hstack([before, np.ones((3, 1))]), after).T             # (2, 3): after = forward (before, 1)
        linear, offset = forward[:, :2], forward[:, 2]
        for channel in range(2):
            for row in range(h):
                for column in range(w):
                    sx, sy = np.linalg.solve(linear, np.array([column, row]) - offset)
                    assert result[k, channel, row, column] == pytest.approx(bilinear(x[k, channel].numpy(), sy, sx), abs=1e-9)


@pytest.mark.parametrize(("scale", "smoothing"), [(3.2, 1.28), (1.6, 6.4), (2.0, 0.0), (20.0, 30.0)])
def test_the_displacement_is_scipys(scale, smoothing):
    """Also where the filter is wider than the image."""
    n, h, w = 2, 7, 9
    x = some(n, 2, h, w)
    result = shifts.elastic(x, scale, smoothing, 0.0, generator=g(6)).numpy()
    _, dx, dy = draws(n, h, w, 6)
    rows, columns = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    for k in range(n):
        by, bx = (scale * gaussian_filter(f[k], smoothing, mode="reflect", truncate=3) for f in (dy, dx))
        for channel in range(2):
            expected = map_coordinates(x[k, channel].numpy(), [rows + by, columns + bx], order=1, mode="reflect")
            assert result[k, channel] == pytest.approx(expected, abs=1e-9)


def test_both_maps_follow_each_other():
    x = some()
    both = shifts.elastic(x, 2.0, 1.5, 0.6, generator=g(8))
    first = shifts.elastic(x, 0.0, 1.5, 0.6, generator=g(8))
    assert not torch.equal(both, first)
    _, dx, dy = draws(3, 7, 9, 8)
    rows, columns = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    by, bx = (2 * gaussian_filter(f[1], 1.5, mode="reflect", truncate=3) for f in (dy, dx))
    expected = map_coordinates(first[1, 0].numpy(), [rows + by, columns + bx], order=1, mode="reflect")
    assert both[1, 0].numpy() == pytest.approx(expected, abs=1e-9)


def test_no_deformation_is_the_identity_and_values_stay_in_range():
    x = some()
    torch.testing.assert_close(shifts.elastic(x, 0.0, 0.0, 0.0, generator=g()), x, rtol=0, atol=1e-12)
    y = shifts.elastic(x, 5.0, 1.0, 1.0, generator=g())
    assert y.min() >= x.min() - 1e-12 and y.max() <= x.max() + 1e-12 and y.shape == x.shape


def test_the_published_strengths():
    """ImageNet-C writes them as shares of 244, CIFAR-C of 32 pixels."""
    assert [tuple(round(v / 244, 6) for v in row) for row in shifts.ELASTIC[224]] == \
        [(2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)]
    assert [tuple(round(v / 32, 6) for v in row) for row in shifts.ELASTIC[32]] == \
        [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)]
    assert shifts.GAUSSIAN == {32: (0.04, 0.06, 0.08, 0.09, 0.1), 224: (0.08, 0.12, 0.18, 0.26, 0.38)}


# --- PGD

class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.BatchNorm2d(2), nn.Linear(2 * 7 * 9, 4)
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(torch.randn(p.shape, generator=g(i)))

    def forward(self, x):
        return self.fc(torch.tanh(self.norm(x)).flatten(1))


def attacked_by_hand(model, x0, labels, epsilon, step, steps, seed):
    x = (x0 + epsilon * (2 * torch.rand(x0.shape, generator=g(seed), dtype=x0.dtype) - 1)).clamp(0, 1)
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        loss = -model(x).log_softmax(1)[torch.arange(len(x)), labels].sum()
        loss.backward()
        x = (x + step * torch.sign(x.grad)).detach()
        x = torch.stack([torch.stack([x, x0 - epsilon]).amax(0), x0 + epsilon]).amin(0).clamp(0, 1)
    return x.detach()


@pytest.mark.parametrize(("epsilon", "step", "steps"), [(8 / 255, 2 / 255, 7), (0.3, 0.1, 10), (0.1, 0.0, 3), (0.1, 0.02, 0)])
def test_pgd_is_the_loop_by_hand(epsilon, step, steps):
    model, x = Toy().double().train(), some(5)
    labels = torch.tensor([0, 3, 1, 2, 0])
    before = copy.deepcopy(model.state_dict())
    result = shifts.pgd(model, x, labels, generator=g(2), epsilon=epsilon, step=step, steps=steps)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters()) and not result.requires_grad
    expected = attacked_by_hand(copy.deepcopy(model).eval(), x, labels, epsilon, step, steps, 2)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    assert (result - x).abs().max() <= epsilon + 1e-12 and result.min() >= 0 and result.max() <= 1


def test_pgd_has_the_usual_strength():
    model, x, labels = Toy().double().eval(), some(2), torch.tensor([1, 2])
    stated = shifts.pgd(model, x, labels, generator=g(), epsilon=8 / 255, step=2 / 255, steps=7, batch_size=500)
    assert torch.equal(shifts.pgd(model, x, labels, generator=g()), stated)


def test_pgd_in_batches_and_in_the_dark(trained, digits):
    """The noise of a batch comes from the generator in order; an outer no_grad does not stop it."""
    x, y = digits.test_images[:7], digits.test_labels[:7]
    generator = g(1)
    with torch.no_grad():
        whole = torch.cat([shifts.pgd(trained, a, b, generator=generator) for a, b in zip(x.split(3), y.split(3), strict=True)])
        assert torch.equal(shifts.pgd(trained, x, y, generator=g(1), batch_size=3), whole)


def test_pgd_hurts_and_attacks_through_a_forget_vector(trained, digits):
    x, y = digits.test_images[:100], digits.test_labels[:100]
    wrapped = ForgetVector(trained, 0.1 * torch.ones(1, 8, 8))
    for model in (trained, wrapped):
        clean = train.mean_loss(model, x, y)
        noisy = train.mean_loss(model, shifts.pgd(model, x, y, generator=g(), epsilon=0.1, step=0.02, steps=0), y)
        attacked = train.mean_loss(model, shifts.pgd(model, x, y, generator=g(), epsilon=0.1, step=0.02), y)
        assert attacked > 2 * max(clean, noisy)
    assert not torch.equal(shifts.pgd(trained, x, y, generator=g()), shifts.pgd(wrapped, x, y, generator=g()))


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: shifts.gaussian_noise(x, -0.1, generator=g()), "sigma is -0.1"),
    (lambda x: shifts.gaussian_noise(x, math.nan, generator=g()), "sigma is nan"),
    (lambda x: shifts.elastic(x, math.inf, 1.0, 1.0, generator=g()), "scale is inf"),
    (lambda x: shifts.elastic(x, 1.0, -1.0, 1.0, generator=g()), "smoothing is -1.0"),
    (lambda x: shifts.elastic(x, 1.0, 1.0, -2.0, generator=g()), "jitter is -2.0"),
    (lambda x: shifts.elastic(x[0], 1.0, 1.0, 1.0, generator=g()), r"images have the shape \(2, 7, 9\)"),
    (lambda x: shifts.gaussian_noise(x.long(), 0.1, generator=g()), "inputs are int64"),
    (lambda x: shifts.pgd(Toy(), x, x, generator=g(), epsilon=-1.0), "epsilon is -1.0"),
    (lambda x: shifts.pgd(Toy(), x, x, generator=g(), step=math.nan), "step is nan"),
    (lambda x: shifts.pgd(Toy(), x, x, generator=g(), steps=-1), "steps is -1")])
def test_bad_input_is_one_sentence(call, message, one_sentence):
    with pytest.raises(ValueError, match=message) as error:
        call(some())
    one_sentence(error)
