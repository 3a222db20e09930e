"""Architectures against hand-counted parameters, written-out forward passes and torchvision."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from unlearnlib import models

CIFAR_MEAN, CIFAR_STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def like(classes=10, channels=3, mean=CIFAR_MEAN, std=CIFAR_STD):
    """What :func:`models.build` reads of a data set."""
    return SimpleNamespace(class_names=tuple(map(str, range(classes))), train_images=torch.empty(1, channels, 1, 1), mean=mean[:channels],
                           std=std[:channels])


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def lively(model, seed=0):
    """Give every parameter and statistic a value that no initialisation has, so that nothing is hidden by a 0 or a 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3 / max(1, p[0].numel()) ** 0.5 + (0.7 if p.dim() == 1 else 0))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


# --- parameter counts

def allcnn_count(w, channels, classes):
    """Kernel areas times channels in and out, two BatchNorm vectors for each output channel, and the linear layer."""
    convolutions = 9 * channels * w + 9 * w * w + 9 * w * 2 * w + 4 * 9 * (2 * w) ** 2 + (2 * w) ** 2
    norms = 2 * (2 * w + 6 * 2 * w)
    return convolutions + norms + 2 * w * classes + classes


@pytest.mark.parametrize(("w", "channels", "classes"), [(96, 3, 10), (24, 3, 100), (16, 1, 10), (1, 1, 2)])
def test_allcnn_parameters(w, channels, classes):
    model = models.build(f"allcnn-{w}", like(classes, channels), 0)
    assert models.count_parameters(model) == allcnn_count(w, channels, classes)
    assert (w, channels, classes) != (96, 3, 10) or round(models.count_parameters(model) / 1e6, 2) == 1.62


@pytest.mark.parametrize(("name", "classes", "count"), [("resnet18-64", 10, 11_173_962), ("resnet18-64", 20, 11_179_092),
                                                        ("resnet18-64", 100, 11_220_132), ("resnet18im-64", 10, 11_181_642)])
def test_resnet18_parameters(name, classes, count):
    assert models.count_parameters(models.build(name, like(classes), 0)) == count


def test_digits_model_of_the_preset(digits):
    assert models.count_parameters(models.build("allcnn-16", digits, 0)) == allcnn_count(16, 1, 10) < 100_000


def test_resnet8_has_three_blocks():
    model = models.build("resnet8-8", like(), 0)
    assert sum(isinstance(m, models.BasicBlock) for m in model.modules()) == 3
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in model.modules()) == 7       # and one linear layer: 8
    assert model.fc.in_features == 32


# --- forward passes

def test_imagenet_stem_is_torchvisions_resnet18():
    theirs = lively(torchvision.models.resnet18(num_classes=10))
    mine = models.build("resnet18im-64", like(mean=(0.0,) * 3, std=(1.0,) * 3), 0).eval()
    missing, unexpected = mine.load_state_dict(theirs.state_dict(), strict=False)
    assert set(missing) == {"normalise.mean", "normalise.std"} and not unexpected
    x = draw(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(mine(x), theirs(x))
        assert theirs(x).std() > 1e-3                                           # not a trivial answer
        theirs.train()
        mine.train()
        torch.testing.assert_close(mine(x), theirs(x))


def test_cifar_stem_is_torchvisions_with_another_stem():
    theirs = torchvision.models.resnet18(num_classes=20)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    mine = models.build("resnet18-64", like(20, mean=(0.0,) * 3, std=(1.0,) * 3), 0).eval()
    mine.load_state_dict(lively(theirs).state_dict(), strict=False)
    with torch.no_grad():
        x = draw(2, 3, 32, 32)
        torch.testing.assert_close(mine(x), theirs(x))
        assert mine.conv1(x).shape == (2, 64, 32, 32)


@torch.no_grad()
def test_allcnn_forward_written_out():
    model = lively(models.build("allcnn-3", like(5), 0)).double()
    weights = {k: v for k, v in model.state_dict().items()}
    x = draw(4, 3, 9, 9).double()
    h = torch.stack([(x[:, c] - weights["normalise.mean"].flatten()[c]) / weights["normalise.std"].flatten()[c] for c in range(3)], 1)
    for i, (kernel, stride) in enumerate([(3, 1), (3, 1), (3, 2), (3, 1), (3, 1), (3, 2), (3, 1), (1, 1)]):
        h = F.conv2d(h, weights[f"body.{i}.0.weight"], stride=stride, padding=kernel // 2)
        mean, var, scale, shift = (weights[f"body.{i}.1.{k}"].view(1, -1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias"))
        h = ((h - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)
    pooled = h.flatten(2).mean(2)
    torch.testing.assert_close(model.features(x), pooled)
    torch.testing.assert_close(model(x), pooled @ weights["fc.weight"].T + weights["fc.bias"])
    assert pooled.shape == (4, 6) and model(x).std() > 1e-3


@pytest.mark.parametrize("name", ["allcnn-2", "resnet8-2", "resnet18-2", "resnet18im-2"])
def test_logits_are_the_head_of_the_features(name):
    model = lively(models.build(name, like(7), 0))
    x = draw(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), models.head(model)(model.features(x)))
        assert model(x).shape == (3, 7)


@pytest.mark.parametrize("name", ["allcnn-2", "resnet8-2", "resnet18-2", "resnet18im-2"])
def test_uint8_images_are_the_same_in_0_to_1(name):
    model = lively(models.build(name, like(), 0))
    x = (255 * draw(3, 3, 32, 32)).to(torch.uint8)
    with torch.no_grad():
        assert torch.equal(model(x), model(x.float() / 255))


def test_normalisation_is_per_channel():
    out = models.Normalise((0.1, 0.2), (0.5, 0.25))(torch.full((1, 2, 1, 1), 0.6))
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, 1.6]))
    assert not list(models.Normalise((0.1,), (0.5,)).parameters())


def test_a_block_adds_its_input():
    block = models.BasicBlock(4, 4, 1).eval()
    nn.init.zeros_(block.bn2.weight)                                            # the branch gives nothing
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert block.downsample is None and torch.equal(block(x), x.clamp(min=0))
    assert models.BasicBlock(4, 8, 1).downsample is not None and models.BasicBlock(4, 4, 2).downsample is not None


# --- build

def test_build_depends_on_the_seed_and_leaves_the_global_random_state(digits):
    state = torch.get_rng_state()
    a, b, c = (models.build("allcnn-2", digits, s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["fc.weight"], c["fc.weight"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["allcnn", "allcnn-", "allcnn-0", "allcnn--4", "vgg-16", "resnet18-x", "AllCNN-4", "allcnn-4 ", ""])
def test_unknown_architectures(name, digits, one_sentence):
    with pytest.raises(ValueError, match="it must be NAME-WIDTH") as error:
        models.build(name, digits, 0)
    assert all(known in one_sentence(error) for known in models.ARCHITECTURES)


def test_unknown_stem(one_sentence):
    with pytest.raises(ValueError, match="stem is 'brain'") as error:
        models.ResNet(stem="brain")
    one_sentence(error)


# --- reinitialise

@pytest.mark.parametrize("name", ["allcnn-3", "resnet8-2", "resnet18im-2"])
def test_reinitialise_changes_every_single_weight_and_statistic(name):
    model = models.build(name, like(), 0)
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for n, b in model.named_buffers() if "normalise" not in n)]:
            tensor.fill_(7)
    assert models.reinitialise(model, seed=1) is model
    for key, value in model.state_dict().items():
        assert "normalise" in key or not (value == 7).any(), key
    fresh = models.build(name, like(), 0).state_dict()
    for key, value in model.state_dict().items():
        if "running" in key or "batches" in key or "normalise" in key:
            assert torch.equal(value, fresh[key]), key
        elif value.dim() > 1:                                                   # drawn like a new model: same spread, other values
            assert value.std() / fresh[key].std() == pytest.approx(1, abs=0.5) and not (value == fresh[key]).any()


def test_reinitialise_depends_on_the_seed_and_leaves_the_global_random_state(digits):
    model = models.build("allcnn-2", digits, 0)
    state = torch.get_rng_state()
    a, b, c = (models.reinitialise(copy.deepcopy(model), s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["fc.weight"], c["fc.weight"])
    assert torch.equal(torch.get_rng_state(), state)


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.ones(3)), nn.Linear(3, 2)


def test_reinitialise_refuses_what_would_survive(one_sentence):
    model = nn.Sequential(Bare())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="0.scale") as error:
        models.reinitialise(model, 0)
    assert "build=" in one_sentence(error)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())        # refused before anything was drawn


# --- head, count

def test_head_is_the_last_linear_layer():
    model = nn.Sequential(nn.Linear(2, 3), nn.Conv2d(1, 1, 1), nn.Sequential(nn.Linear(3, 4)), nn.ReLU())
    assert models.head(model) is model[2][0]
    with pytest.raises(ValueError, match="no nn.Linear"):
        models.head(nn.Conv2d(1, 1, 1))


def test_count_includes_frozen_parameters_and_no_buffers():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).requires_grad_(False)
    assert models.count_parameters(model) == 3 * 2 + 2 + 2 + 2
