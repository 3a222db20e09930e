"""Architectures against hand-counted parameters, written-out forward passes and torchvision."""

import copy
import math
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from unlearnlib import models, saliency, train

CIFAR_MEAN, CIFAR_STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def like(classes=10, channels=3, mean=CIFAR_MEAN, std=CIFAR_STD):
    """What :func:`models.build` reads of a data set."""
    return SimpleNamespace(name="images", class_names=tuple(map(str, range(classes))), train_images=torch.empty(1, channels, 1, 1),
                           mean=mean[:channels], std=std[:channels], words=())


def texts(words=30, length=12, classes=4):
    """The same for texts."""
    return SimpleNamespace(name="texts", class_names=tuple(map(str, range(classes))), words=tuple(f"w{i}" for i in range(words)),
                           train_images=torch.empty(1, length, dtype=torch.long), mean=(), std=())


def ids(n=6, length=8, words=30, seed=0):
    """Token ids without padding."""
    return torch.randint(1, words, (n, length), generator=torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize(("w", "channels", "classes"), [(64, 3, 10), (16, 3, 100), (4, 1, 2)])
def test_resnet9_parameters(w, channels, classes):
    """Kernel areas times channels in and out, two BatchNorm vectors for each output channel, and the linear layer without bias."""
    convolutions = 9 * (channels * w + w * 2 * w + 2 * (2 * w) ** 2 + 2 * w * 4 * w + 4 * w * 8 * w + 2 * (8 * w) ** 2)
    norms = 2 * (w + 3 * 2 * w + 4 * w + 3 * 8 * w)
    model = models.build(f"resnet9-{w}", like(classes, channels), 0)
    assert models.count_parameters(model) == convolutions + norms + 8 * w * classes
    assert w != 64 or models.count_parameters(model) == 6_573_120


@pytest.mark.parametrize(("w", "side"), [(64, 32), (16, 32), (8, 16)])
def test_resnet9_multiply_adds(w, side):
    """A convolution costs its weights once for each place of its output; pooling comes after the convolution of a stage."""
    places = [(side // 2 ** k) ** 2 for k in range(4)]
    wanted = 9 * (places[0] * (3 * w + 2 * w * w) + places[1] * (2 * 4 * w * w + 8 * w * w) + places[2] * 32 * w * w
                  + places[3] * 2 * 64 * w * w) + 8 * w * 10
    model = models.build(f"resnet9-{w}", like(), 0)
    assert train.multiply_adds(model, draw(1, 3, side, side)) == wanted
    assert (w, side) != (64, 32) or round(wanted / 1e9, 3) == 0.379


# --- forward passes

@torch.no_grad()
def test_resnet9_forward_written_out():
    model = lively(models.build("resnet9-3", like(5), 0)).double()
    weights = model.state_dict()
    x = draw(4, 3, 16, 16).double()

    def unit(h, name):
        h = F.conv2d(h, weights[f"{name}.0.weight"], padding=1)
        mean, var, scale, shift = (weights[f"{name}.1.{k}"].view(1, -1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias"))
        return ((h - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    def halved(h):
        return torch.stack([h[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)

    h = unit((x - weights["normalise.mean"]) / weights["normalise.std"], "stem")
    for stage, paired in ((1, True), (2, False), (3, True)):
        h = halved(unit(h, f"layer{stage}.0"))
        h = h + unit(unit(h, f"layer{stage}.2.0"), f"layer{stage}.2.1") if paired else h
    pooled = h.flatten(2).max(2).values
    torch.testing.assert_close(model(x), 0.125 * pooled @ weights["fc.weight"].T)
    torch.testing.assert_close(model.features(x), 0.125 * pooled)
    assert h.shape == (4, 24, 2, 2) and model(x).std() > 1e-3


def test_grad_cam_finds_the_stages_of_resnet9():
    model = lively(models.build("resnet9-2", like(), 0))
    maps = saliency.grad_cam(model, draw(2, 3, 32, 32), torch.tensor([1, 2]), side=4)
    assert saliency.blocks(model) == [model.layer1, model.layer2, model.layer3] and maps.shape == (2, 4, 4)


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


@pytest.mark.parametrize("name", ["allcnn-2", "resnet8-2", "resnet9-2", "resnet18-2", "resnet18im-2"])
def test_logits_are_the_head_of_the_features(name):
    model = lively(models.build(name, like(7), 0))
    x = draw(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), models.head(model)(model.features(x)))
        assert model(x).shape == (3, 7)


@pytest.mark.parametrize("name", ["allcnn-2", "resnet8-2", "resnet9-2", "resnet18-2", "resnet18im-2"])
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


# --- a pretrained model of images

def tiny(*, weights):
    """Stands for torchvision's ViT-B/16: the same modules in small, the same weights at every call."""
    assert weights is torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1
    with models.seeded(7):
        return torchvision.models.VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=20)


@pytest.fixture
def vit(monkeypatch):
    monkeypatch.setattr(torchvision.models, "vit_b_16", tiny)


def test_vit_is_torchvisions_with_the_normalisation_the_size_and_the_classes_of_the_data(vit):
    model = models.build("vitb16-768", like(7), 0).eval()
    theirs = tiny(weights=torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1).eval()
    theirs.heads = nn.Linear(12, 7)
    theirs.heads.load_state_dict(model.fc.state_dict())
    x = draw(3, 3, 8, 8)
    wide = F.interpolate((x - torch.tensor(CIFAR_MEAN).view(3, 1, 1)) / torch.tensor(CIFAR_STD).view(3, 1, 1), size=16, mode="bilinear")
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(wide))
        assert model.features(x).shape == (3, 12) and model(x).std() > 1e-3
        assert torch.equal(model(x), model.fc(model.features(x))) and models.head(model) is model.fc
        eight = (255 * x).to(torch.uint8)
        assert torch.equal(model(eight), model(eight.float() / 255))
        torch.testing.assert_close(model.train()(x), model.eval()(x))                       # no dropout
    again, other = models.build("vitb16-768", like(7), 0), models.build("vitb16-768", like(7), 1)
    assert torch.equal(again.fc.weight, model.fc.weight) and not torch.equal(other.fc.weight, model.fc.weight)
    assert torch.equal(other.vit.conv_proj.weight, model.vit.conv_proj.weight)             # the pretrained part


def test_vit_parameters_are_those_of_the_published_network(monkeypatch):
    real = torchvision.models.vit_b_16
    monkeypatch.setattr(torchvision.models, "vit_b_16", lambda *, weights: real())
    with torch.device("meta"):
        model = models.ViT(classes=10, channels=3, mean=CIFAR_MEAN, std=CIFAR_STD)
    assert models.count_parameters(model) == 85_806_346 and model.vit.image_size == 224


def test_every_part_of_vit_is_drawn_anew_and_trained(vit):
    model = models.build("vitb16-768", like(3), 0)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(7)
    models.reinitialise(model, 1)
    assert all(not (p == 7).any() for p in model.parameters())
    F.cross_entropy(model(draw(6, 3, 8, 8)), torch.arange(6) % 3).backward()
    assert all(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("error", [URLError("no route\nto host. At all."), RuntimeError('invalid hash value (expected "c8")'), EOFError()])
def test_weights_of_vit_that_cannot_be_had(monkeypatch, one_sentence, error):
    def refuse(*, weights):
        raise error
    monkeypatch.setattr(torchvision.models, "vit_b_16", refuse)
    with pytest.raises(ValueError, match=r"vit_b_16.*TORCH_HOME.*hub/checkpoints/vit_b_16-\w+\.pth") as raised:
        models.build("vitb16-768", like(), 0)
    assert type(error).__name__ in one_sentence(raised) and raised.value.__cause__ is error


@pytest.mark.parametrize(("name", "data", "said"), [("vitb16-64", like(), "width 64; it must be 768"),
                                                    ("vitb16-768", like(channels=1), "of 1 channel")])
def test_vit_has_one_width_and_three_channels(vit, one_sentence, name, data, said):
    with pytest.raises(ValueError, match=said) as error:
        models.build(name, data, 0)
    one_sentence(error)


# --- texts

@pytest.mark.parametrize(("w", "words", "length", "classes"), [(8, 30, 12, 4), (32, 500, 7, 28), (1, 2, 1, 2)])
def test_bag_parameters(w, words, length, classes):
    model = models.build(f"bag-{w}", texts(words, length, classes), 0)
    assert models.count_parameters(model) == words * w + (w * w + w) + (w * classes + classes)
    assert not list(model.buffers())


@pytest.mark.parametrize(("w", "words", "length", "classes"), [(16, 30, 12, 4), (64, 200, 5, 28), (8, 9, 3, 2)])
def test_encoder_parameters(w, words, length, classes):
    """Two layers, each of four square maps (query, key, value, out), two maps to and from four times the width, and two norms."""
    layer = 4 * (w * w + w) + (4 * w * w + 4 * w) + (4 * w * w + w) + 2 * 2 * w
    model = models.build(f"encoder-{w}", texts(words, length, classes), 0)
    assert models.count_parameters(model) == words * w + length * w + 2 * layer + 2 * w + w * classes + classes
    assert not list(model.buffers())


@torch.no_grad()
def test_bag_forward_written_out():
    model = lively(models.build("bag-5", texts(), 0)).double()
    model.hidden.bias *= torch.tensor([1, -1, 1, 0, -0.1])                      # some units on, some off
    weights = model.state_dict()
    x = torch.tensor([[3, 7, 7, 0], [9, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
    for row, features, z in zip(x.tolist(), model.features(x), model(x), strict=True):
        seen = [weights["embedding.weight"][i] for i in row if i != 0]
        mean = sum(seen) / len(seen) if seen else torch.zeros(5, dtype=torch.float64)
        hidden = (weights["hidden.weight"] @ mean + weights["hidden.bias"]).clamp(min=0)
        torch.testing.assert_close(features, hidden)
        torch.testing.assert_close(z, weights["fc.weight"] @ hidden + weights["fc.bias"])
        assert (hidden == 0).any() and (hidden > 0).any()


def attend(layer, x, seen, heads):
    """Softmax attention of one text ``(length, width)``, one head and one query at a time; only seen tokens are attended to."""
    weight, bias = layer.qkv.weight, layer.qkv.bias
    width = x.shape[1]
    size = width // heads
    q, k, v = (x @ weight[i * width:(i + 1) * width].T + bias[i * width:(i + 1) * width] for i in range(3))
    mixed = torch.zeros_like(x)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for i in range(len(x)):
            keys = [j for j in range(len(x)) if seen[j]]
            scores = [float(q[i, part] @ k[j, part]) / math.sqrt(size) for j in keys]
            exponentials = [math.exp(s - max(scores)) for s in scores]
            for j, e in zip(keys, exponentials, strict=True):
                mixed[i, part] += e / math.fsum(exponentials) * v[j, part]
    return mixed @ layer.out.weight.T + layer.out.bias


@pytest.mark.parametrize(("width", "heads"), [(16, 1), (48, 3), (8, 1)])
@torch.no_grad()
def test_attention_is_a_softmax_over_the_tokens_seen(width, heads):
    layer = lively(models.Attention(width)).double()
    for p in layer.parameters():                                                # so that the weights are far from equal
        p.mul_(3)
    x = torch.randn(3, 5, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = torch.tensor([[True] * 5, [True, False, True, True, False], [False, False, True, False, False]])
    out = layer(x, seen)
    for i in range(3):
        torch.testing.assert_close(out[i], attend(layer, x[i], seen[i].tolist(), heads))
    assert layer.heads == heads and out.std() > 1e-2


@torch.no_grad()
def test_encoder_forward_written_out():
    model = lively(models.build("encoder-32", texts(), 0)).double()
    x = ids(3, 7)
    x[1, 4:], x[2, 1:] = 0, 0

    def norm(h, layer):
        centred = h - h.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias

    def linear(h, layer):
        return h @ layer.weight.T + layer.bias

    for row, features in zip(x.tolist(), model.features(x), strict=True):
        h = torch.stack([model.embedding.weight[i] + model.position.weight[place] for place, i in enumerate(row)])
        seen = [i != 0 for i in row]
        for layer in model.layers:
            h = h + attend(layer["attention"], norm(h, layer["norm1"]), seen, 2)
            up = linear(norm(h, layer["norm2"]), layer["up"])
            h = h + linear(up * (1 + torch.erf(up / math.sqrt(2))) / 2, layer["down"])
        pooled = sum(h[i] for i in range(7) if seen[i]) / sum(seen)
        torch.testing.assert_close(features, norm(pooled[None], model.norm)[0])
    assert len(model.layers) == 2 and model.features(x).std(0).min() > 1e-3


@pytest.mark.parametrize("name", ["bag-8", "encoder-16", "encoder-32"])
@torch.no_grad()
def test_padding_does_not_matter(name):
    model = lively(models.build(name, texts(length=12), 0)).double()
    x = ids(length=8)
    z = model(x)
    for more in (1, 4):
        longer = torch.cat([x, torch.zeros(len(x), more, dtype=torch.long)], 1)
        torch.testing.assert_close(model(longer), z)
    model.embedding.weight[0] += 100
    torch.testing.assert_close(model(longer), z)
    torch.testing.assert_close(model(x), z, rtol=0, atol=0)
    alone = torch.cat([model(row[None]) for row in longer])                     # nor do the other texts of a batch
    torch.testing.assert_close(alone, z)
    model.embedding.weight[x[0, 3]] *= 2                                        # but every word does
    assert not torch.allclose(model(x)[0], z[0])


@torch.no_grad()
def test_the_bag_ignores_the_order_of_words_and_the_encoder_does_not():
    x = ids(length=8)
    turned, swapped = x.flip(1), x.clone()
    swapped[:, [2, 3]] = x[:, [3, 2]]
    bag, encoder = (lively(models.build(name, texts(length=8), 0)).double() for name in ("bag-8", "encoder-16"))
    for other in (turned, swapped):
        different = (other != x).any(1)
        assert different.any()
        torch.testing.assert_close(bag(other), bag(x))
        assert ((encoder(other) - encoder(x)).abs().amax(1) > 1e-6)[different].all()
    twice = torch.cat([x, x], 1)                                                # a mean, not a sum
    torch.testing.assert_close(bag(twice), bag(x))


@pytest.mark.parametrize("name", ["bag-1", "bag-7", "encoder-8", "encoder-16", "encoder-32", "encoder-48"])
def test_logits_are_the_head_of_the_features_of_texts(name):
    width = int(name.split("-")[1])
    model = lively(models.build(name, texts(classes=28), 0))
    x = ids(3, 12)
    with torch.no_grad():
        assert model.features(x).shape == (3, width) and model(x).shape == (3, 28)
        assert torch.equal(model(x), model.fc(model.features(x))) and models.head(model) is model.fc
        assert torch.equal(model.train()(x), model.eval()(x))                  # no dropout, no statistics


@pytest.mark.parametrize("name", ["bag-8", "encoder-16"])
def test_every_parameter_of_a_text_model_is_trained(name):
    model = lively(models.build(name, texts(words=9), 0))
    x = torch.cat([torch.arange(9).repeat(4)[i:i + 12][None] for i in range(6)])
    F.cross_entropy(model(x), torch.arange(6) % 4).backward()
    for key, p in model.named_parameters():
        gradient = p.grad.clone()
        if key == "embedding.weight":
            assert not gradient[0].any()                                        # but that of padding
            gradient = gradient[1:]
        assert gradient.any(), key
        assert key != "embedding.weight" or gradient.any(1).all()


@pytest.mark.parametrize("name", ["bag-8", "encoder-16"])
def test_build_of_a_text_model_depends_on_the_seed_alone(name):
    state = torch.get_rng_state()
    a, b, c = (models.build(name, texts(), s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a) and torch.equal(torch.get_rng_state(), state)
    assert all("norm" in k or not torch.equal(a[k], c[k]) for k in a)


# RoBERTa takes its own tokens alone.
WORD_LEVEL = {name: kind for name, kind in models.TEXT_ARCHITECTURES.items() if name != "roberta"}


@pytest.mark.parametrize(("name", "data", "known", "example"), [
    ("allcnn-8", texts(), WORD_LEVEL, "bag-32"), ("resnet18-8", texts(), WORD_LEVEL, "bag-32"),
    ("bag-0", texts(), WORD_LEVEL, "bag-32"), ("bag", texts(), WORD_LEVEL, "bag-32"),
    ("bag-8", like(), models.ARCHITECTURES, "allcnn-24"), ("encoder-16", like(), models.ARCHITECTURES, "allcnn-24"),
    ("roberta-768", like(), models.ARCHITECTURES, "allcnn-24")])
def test_architectures_of_the_other_domain_are_refused(name, data, known, example, one_sentence):
    with pytest.raises(ValueError, match=f"for {data.name} it must be NAME-WIDTH") as error:
        models.build(name, data, 0)
    other = (models.ARCHITECTURES.keys() | models.TEXT_ARCHITECTURES.keys()) - known.keys()
    listed = one_sentence(error).split("NAME one of ")[1].split(":")[0].split(", ")
    assert listed == list(known) and not other & set(listed) and str(error.value).endswith(f"for example {example}.")
    models.build(example, data, 0)


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

@pytest.mark.parametrize(("name", "data"), [("allcnn-3", like()), ("resnet8-2", like()), ("resnet9-2", like()),
                                            ("resnet18im-2", like()), ("bag-8", texts()), ("encoder-16", texts())])
def test_reinitialise_changes_every_single_weight_and_statistic(name, data):
    model = models.build(name, data, 0)
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for n, b in model.named_buffers() if "normalise" not in n)]:
            tensor.fill_(7)
    assert models.reinitialise(model, seed=1) is model
    for key, value in model.state_dict().items():
        assert "normalise" in key or not (value == 7).any(), key
    fresh = models.build(name, data, 0).state_dict()
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


@pytest.mark.parametrize("width", [17, 24, 50])
def test_an_encoder_divides_into_heads(width, one_sentence):
    with pytest.raises(ValueError, match=f"width {width}; it must be a multiple of 16") as error:
        models.build(f"encoder-{width}", texts(), 0)
    one_sentence(error)
