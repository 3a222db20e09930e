"""The papers' architectures, scalable in width: image models take [0, 1] (or uint8) and normalise it themselves, text models token ids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .devices import layout
from .text import PAD, pretrained


class Normalise(nn.Module):
    """``(x - mean) / std`` per channel; uint8 images are brought to [0, 1] first. Holds buffers, no parameters.

    Because the normalisation is a part of the model, pixel space is [0, 1] everywhere else in the library.
    """

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:                                     # (n, c, h, w) -> (n, c, h, w)
        if x.dtype == torch.uint8:
            x = x.to(self.mean.dtype) / 255
        return (x - self.mean) / self.std


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


class AllCNN(nn.Module):
    """All-convolutional network (8 convolutions, BatchNorm, one linear layer), as in the official ISPF code.

    At ``width=96``, 3 channels and 10 classes: 1.62 M parameters. ``features`` are the ``2 * width`` pooled activations.
    """

    def __init__(self, width: int = 96, classes: int = 10, channels: int = 3, mean=(0.5,), std=(0.5,)):
        super().__init__()
        w, ww = width, 2 * width
        plan = [(channels, w, 3, 1), (w, w, 3, 1), (w, ww, 3, 2), (ww, ww, 3, 1), (ww, ww, 3, 1), (ww, ww, 3, 2),
                (ww, ww, 3, 1), (ww, ww, 1, 1)]
        self.normalise = Normalise(mean, std)
        self.body = nn.Sequential(*(nn.Sequential(*_conv_bn(*p), nn.ReLU(inplace=True)) for p in plan))
        self.fc = nn.Linear(ww, classes)

    def features(self, x: Tensor) -> Tensor:                                    # (n, c, h, w) -> (n, 2 * width)
        return self.body(self.normalise(x)).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:                                     # (n, c, h, w) -> (n, classes)
        return self.fc(self.features(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv_bn(inputs, outputs, 3, stride)
        self.conv2, self.bn2 = _conv_bn(outputs, outputs, 3)
        self.relu = nn.ReLU(inplace=True)
        same = stride == 1 and inputs == outputs
        self.downsample = None if same else nn.Sequential(*_conv_bn(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + skip)


class ResNet(nn.Module):
    """ResNet of basic blocks; parameter names are torchvision's.

    ``stem="cifar"``: one 3x3 convolution, no pooling (11,173,962 parameters at width 64, blocks (2, 2, 2, 2), 10 classes);
    ``stem="imagenet"``: 7x7 convolution of stride 2 and max-pooling (torchvision's ``resnet18``: 11,181,642 parameters).
    """

    def __init__(self, width: int = 64, classes: int = 10, channels: int = 3, blocks=(2, 2, 2, 2), stem: str = "cifar",
                 mean=(0.5,), std=(0.5,)):
        super().__init__()
        if stem not in ("cifar", "imagenet"):
            raise ValueError(f"stem is {stem!r}; it must be 'cifar' or 'imagenet': correct the architecture's name.")
        self.normalise = Normalise(mean, std)
        kernel, stride = (3, 1) if stem == "cifar" else (7, 2)
        self.conv1, self.bn1 = _conv_bn(channels, width, kernel, stride)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if stem == "cifar" else nn.MaxPool2d(3, 2, 1)
        self.stages = len(blocks)
        inputs = width
        for stage, count in enumerate(blocks):
            outputs, steps = width * 2 ** stage, []
            for block in range(count):
                steps.append(BasicBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*steps))
        self.fc = nn.Linear(inputs, classes)

    def features(self, x: Tensor) -> Tensor:                                    # (n, c, h, w) -> (n, d)
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.normalise(x)))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:                                     # (n, c, h, w) -> (n, classes)
        return self.fc(self.features(x))


class Residual(nn.Sequential):
    """Layers whose input is added to their output."""

    def forward(self, x: Tensor) -> Tensor:                                     # (n, c, h, w) -> (n, c, h, w)
        return x + super().forward(x)


class ResNet9(nn.Module):
    """Eight convolutions and a linear layer without bias, made to train fast (D. Page, "How to train your ResNet", 2018: ``dawn.py``).

    Channels ``width`` to ``8 * width``; three stages with max-pooling after their first convolution, the first and the last with a
    residual pair behind it. At ``width=64``, 3 channels and 10 classes: 6,573,120 parameters, 379 million multiply-adds an image of
    32 x 32 pixels. ``features`` are the ``8 * width`` largest activations, times 1/8: the published scale of the logits.
    """

    stages = 3

    def __init__(self, width: int = 64, classes: int = 10, channels: int = 3, mean=(0.5,), std=(0.5,)):
        super().__init__()
        def unit(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(*_conv_bn(inputs, outputs, 3), nn.ReLU(inplace=True))
        def pair(w: int) -> Residual:
            return Residual(unit(w, w), unit(w, w))
        w = width
        self.normalise = Normalise(mean, std)
        self.stem = unit(channels, w)
        self.layer1 = nn.Sequential(unit(w, 2 * w), nn.MaxPool2d(2), pair(2 * w))
        self.layer2 = nn.Sequential(unit(2 * w, 4 * w), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(unit(4 * w, 8 * w), nn.MaxPool2d(2), pair(8 * w))
        self.fc = nn.Linear(8 * w, classes, bias=False)

    def features(self, x: Tensor) -> Tensor:                                    # (n, c, h, w) -> (n, 8 * width)
        return self.layer3(self.layer2(self.layer1(self.stem(self.normalise(x))))).amax(dim=(2, 3)) / 8

    def forward(self, x: Tensor) -> Tensor:                                     # (n, c, h, w) -> (n, classes)
        return self.fc(self.features(x))


class ViT(nn.Module):
    """ViT-B/16 with torchvision's ImageNet weights and a new linear layer on the class token (Dosovitskiy et al. 2021).

    ``width`` must be 768, and images must have 3 channels; they are enlarged to 224 x 224 pixels in here, after the data's own
    normalisation (official code of LFSSD). 85,806,346 parameters at 10 classes. ValueError, in one sentence, without the weights. A
    network that is retrained starts from the same weights: what they know of a forgotten class stays.
    """

    def __init__(self, width: int = 768, classes: int = 10, channels: int = 3, mean=(0.5,), std=(0.5,)):
        super().__init__()
        if width != 768:
            raise ValueError(f"vitb16 has the width {width}; it must be 768: write vitb16-768.")
        if channels != 3:
            raise ValueError(f"vitb16 got images of {channels} channel(s); its weights take 3: choose another model for these data.")
        import torchvision  # takes a second, which the other models save
        self.normalise = Normalise(mean, std)
        weights = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1
        try:
            self.vit = torchvision.models.vit_b_16(weights=weights)
        except Exception as error:
            raise ValueError("the weights of torchvision's vit_b_16 were not found and could not be downloaded, or are damaged "
                             f"({type(error).__name__}); they must be in the cache of torch.hub: connect once, or set TORCH_HOME to a "
                             f"folder that holds hub/checkpoints/{weights.url.rsplit('/', 1)[1]}.") from error
        self.vit.heads = nn.Identity()
        self.fc = nn.Linear(self.vit.hidden_dim, classes)

    def features(self, x: Tensor) -> Tensor:                                    # (n, 3, h, w) -> (n, 768)
        return self.vit(F.interpolate(self.normalise(x), size=(self.vit.image_size,) * 2, mode="bilinear"))

    def forward(self, x: Tensor) -> Tensor:                                     # (n, 3, h, w) -> (n, classes)
        return self.fc(self.features(x))

    def reset_parameters(self) -> None:
        """Draw anew what torchvision's layers do not draw by themselves, from the distributions of its constructor."""
        nn.init.zeros_(self.vit.class_token)
        nn.init.normal_(self.vit.encoder.pos_embedding, std=0.02)
        for module in self.vit.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(module.in_proj_weight)
                nn.init.zeros_(module.in_proj_bias)


class BagOfEmbeddings(nn.Module):
    """Mean of the word embeddings, one hidden layer: word order is lost. Takes token ids ``(n, length)``."""

    def __init__(self, width: int, classes: int, words: int, length: int):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.hidden = nn.Linear(width, width)
        self.fc = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:                                    # (n, length) -> (n, width)
        return F.relu(self.hidden(_mean(self.embedding(x), x != PAD)))

    def forward(self, x: Tensor) -> Tensor:                                     # (n, length) -> (n, classes)
        return self.fc(self.features(x))


def _mean(values: Tensor, seen: Tensor) -> Tensor:
    """Mean over the tokens that are no padding: (n, length, width), (n, length) -> (n, width)."""
    weight = seen.unsqueeze(2).to(values.dtype)
    return (values * weight).sum(1) / weight.sum(1).clamp(min=1)


class Attention(nn.Module):
    """Multi-head self-attention that skips padding; the heads are 16 wide (one head where the width is less)."""

    def __init__(self, width: int):
        super().__init__()
        if width > 16 and width % 16:
            raise ValueError(f"encoder has the width {width}; it must be a multiple of 16, or less: write encoder-32.")
        self.heads = max(1, width // 16)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:                       # (n, length, width), (n, length) -> (n, length, width)
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)      # each (n, heads, length, 16)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :])
        return self.out(mixed.transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """A small transformer encoder (two pre-norm layers, learned positions, mean pooling, no dropout). Takes token ids ``(n, length)``."""

    def __init__(self, width: int, classes: int, words: int, length: int, layers: int = 2):
        super().__init__()
        self.embedding, self.position = nn.Embedding(words, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(nn.ModuleDict({
            "norm1": nn.LayerNorm(width), "attention": Attention(width), "norm2": nn.LayerNorm(width),
            "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width)}) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:                                    # (n, length) -> (n, width)
        x = x[:, : int((x != PAD).sum(1).max().clamp(min=1))]                   # columns of padding alone change nothing
        seen = x != PAD
        h = self.embedding(x) + self.position.weight[: x.shape[1]]
        for layer in self.layers:
            h = h + layer["attention"](layer["norm1"](h), seen)
            h = h + layer["down"](F.gelu(layer["up"](layer["norm2"](h))))
        return self.norm(_mean(h, seen))

    def forward(self, x: Tensor) -> Tensor:                                     # (n, length) -> (n, classes)
        return self.fc(self.features(x))


class Roberta(nn.Module):
    """Pretrained RoBERTa-base with a linear layer on its pooled output, without dropout (official code of Nabla-tau, when it unlearns).

    ``width`` must be 768. Needs the extra ``roberta`` and its weights; ValueError, in one sentence, where they are not there.
    """

    PADDING = 1                                                                 # RoBERTa's own id

    def __init__(self, width: int, classes: int, words: int, length: int):
        super().__init__()
        if width != 768:
            raise ValueError(f"roberta has the width {width}; it must be 768: write roberta-768.")
        self.body = pretrained("RobertaModel")
        for module in self.body.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.fc = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:                                    # (n, length) -> (n, 768)
        return self.body(input_ids=x, attention_mask=(x != self.PADDING).long()).pooler_output

    def forward(self, x: Tensor) -> Tensor:                                     # (n, length) -> (n, classes)
        return self.fc(self.features(x))


TEXT_ARCHITECTURES = {"bag": BagOfEmbeddings, "encoder": Encoder, "roberta": Roberta}
ARCHITECTURES = {
    "allcnn": AllCNN,
    "resnet8": lambda **k: ResNet(blocks=(1, 1, 1), **k),
    "resnet9": ResNet9,
    "resnet18": ResNet,
    "resnet18im": lambda **k: ResNet(stem="imagenet", **k),
    "vitb16": ViT,
}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The CPU's global random state, seeded; afterwards as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def build(architecture: str, data, seed: int) -> nn.Module:
    """A freshly initialised model for a data set, e.g. ``build("resnet18im-64", data, seed=0)``.

    Parameters
    ----------
    architecture: ``NAME-WIDTH``; for images NAME is in ``ARCHITECTURES`` (``resnet18`` has the CIFAR stem, ``resnet18im`` the
        ImageNet stem, ``vitb16`` is pretrained) and WIDTH the channels of the first stage, for texts in ``TEXT_ARCHITECTURES`` and
        WIDTH that of the embeddings.
    data: gives the shape of the inputs and the number of classes (see :class:`unlearnlib.data.Data`).
    seed: of the initialisation. The global random state is left as it was.
    """
    known = ARCHITECTURES
    if data.words:                                                              # RoBERTa alone takes its own tokens
        bpe = data.words[0] == "<s>"
        known = {name: kind for name, kind in TEXT_ARCHITECTURES.items() if (kind is Roberta) == bpe}
    match = re.fullmatch(r"([a-z0-9]+)-(\d+)", architecture)
    if not match or match[1] not in known or int(match[2]) < 1:
        raise ValueError(f"model is {architecture!r}; for {data.name} it must be NAME-WIDTH with NAME one of {', '.join(known)}: "
                         f"for example {next(iter(known))}-{768 if 'roberta' in known else 32 if data.words else 24}.")
    shape = {"words": len(data.words), "length": data.train_images.shape[1]} if data.words else \
        {"channels": data.train_images.shape[1], "mean": data.mean, "std": data.std}
    with seeded(seed):
        return known[match[1]](width=int(match[2]), classes=len(data.class_names), **shape)


def reinitialise(model: nn.Module, seed: int) -> nn.Module:
    """Draw every parameter and buffer of ``model`` anew, in place, through the modules' own ``reset_parameters``.

    They are drawn on the CPU, so that a seed means the same network wherever the model is.

    Raises ValueError if some parameter belongs to a module without ``reset_parameters``: it would keep what it has learned.
    """
    reset = {id(p) for m in model.modules() if hasattr(m, "reset_parameters") for p in m.parameters(recurse=isinstance(m, ViT))}
    kept = [name for name, p in model.named_parameters() if id(p) not in reset]
    if kept:
        raise ValueError(f"parameters {', '.join(kept[:3])} belong to modules without reset_parameters() and would survive; "
                         "every parameter must be drawn anew: pass build=, a function that returns a new model.")
    device = next(model.parameters()).device
    model.to("cpu", memory_format=torch.contiguous_format)
    with seeded(seed):
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return model.to(device, memory_format=layout())


def head(model: nn.Module) -> nn.Linear:
    """The last linear layer: the map from penultimate features to logits."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ValueError("the model has no nn.Linear layer; head-only methods need one: use another method.")
    return layers[-1]


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
