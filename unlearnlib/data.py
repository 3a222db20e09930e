"""Data sets as tensors in memory, images or texts, their splits, and what a scenario forgets."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import text
from .access import Access

# CIFAR-20: the 20 superclasses of CIFAR-100, as the fine classes that each holds (official SSD code and data set).
CIFAR20 = ((4, 30, 55, 72, 95), (1, 32, 67, 73, 91), (54, 62, 70, 82, 92), (9, 10, 16, 28, 61), (0, 51, 53, 57, 83),
           (22, 39, 40, 86, 87), (5, 20, 25, 84, 94), (6, 7, 14, 18, 24), (3, 42, 43, 88, 97), (12, 17, 37, 68, 76),
           (23, 33, 49, 60, 71), (15, 19, 21, 31, 38), (34, 63, 64, 66, 75), (26, 45, 77, 79, 99), (2, 11, 35, 46, 98),
           (27, 29, 44, 78, 93), (36, 50, 65, 74, 80), (47, 52, 56, 59, 96), (8, 13, 48, 58, 90), (41, 69, 81, 85, 89))
CIFAR20_NAMES = ("aquatic mammals", "fish", "flowers", "food containers", "fruit and vegetables", "electrical devices",
                 "furniture", "insects", "large carnivores", "man-made outdoor", "natural scenes", "large herbivores",
                 "medium mammals", "invertebrates", "people", "reptiles", "small mammals", "trees", "vehicles 1", "vehicles 2")
CIFAR_MEAN, CIFAR_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)      # the official code's, for all CIFAR sets

DIGITS_NOISE = 0.35       # standard deviation on the [0, 1] scale: part of the data set, like a file
SCIPY_DOCS_ORDER = 1_200, 520    # training, validation; the rest is the test set
GOEMOTIONS_LENGTH = 40          # tokens of a comment (official code of Nabla-tau)
IMAGES = ("digits", "digits5", "cifar10", "cifar100", "cifar20", "svhn")
TEXTS = ("scipy_docs", "goemotions", "goemotions_bpe")
DATASETS = IMAGES + TEXTS
FETCHED = ("cifar10", "cifar100", "goemotions", "svhn")     # by name, from their publishers; cifar20 reads cifar100


class DataError(RuntimeError):
    """A data set is missing, damaged or unknown, or a scenario does not fit it."""


@dataclass(frozen=True)
class Data:
    """One data set: ``images`` are the inputs of a model, whatever they are, with one row a sample.

    Images ``(n, c, h, w)`` float32 in [0, 1] or uint8. Texts: token ids ``(n, length)`` int64, with ``words`` their vocabulary.
    Labels ``(n,)`` int64; where a sample has several labels, ``(n, classes)`` bool.

    ``fine`` labels are the finer classes that a sub-class scenario forgets (equal to the labels where there are none).
    Held-out data come in two disjoint halves: ``val`` for methods that may look at held-out data, ``test`` for reporting.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    train_fine: Tensor
    val_images: Tensor
    val_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    test_fine: Tensor
    class_names: tuple[str, ...]
    fine_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash of the training and test images and labels."""
        digest = hashlib.sha256(self.name.encode())
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def read(self, row: Tensor) -> str:
        """The text of one row of token ids, as the model sees it."""
        shown = (self.words[i].replace("<unknown>", "[rare]") for i in row.tolist())
        return " ".join(w for w in shown if w not in ("<pad>", "<s>", "</s>"))

    def to(self, device) -> Data:
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def data_root() -> Path:
    """Where real data sets are looked for: ``UNLEARNLIB_DATA``, else ``data`` in the cache folder."""
    return Path(os.environ.get("UNLEARNLIB_DATA") or cache_root() / "data").expanduser()


def cache_root() -> Path:
    """Where models and executed notebooks are kept: ``UNLEARNLIB_CACHE``, else ``~/.cache/unlearnlib``."""
    return Path(os.environ.get("UNLEARNLIB_CACHE") or "~/.cache/unlearnlib").expanduser()


@lru_cache(maxsize=4)
def load(name: str, *, noise: float = DIGITS_NOISE) -> Data:
    """Read a data set into memory.

    Parameters
    ----------
    name: ``digits`` (scikit-learn's 1,797 handwritten digits, 8x8, 10 classes, with seeded noise), ``digits5`` (the same
        images with five superclasses 0-1, 2-3, ..., 8-9), ``cifar10``, ``cifar100``, ``cifar20``, ``svhn`` (street-view house
        numbers; all from :func:`data_root`, through torchvision's own classes and their checksums); texts: ``scipy_docs``
        (paragraphs of SciPy's documentation, label = sub-package; see :func:`unlearnlib.text.documentation`), ``goemotions`` (27
        emotions and neutral, several labels a comment; from :func:`data_root`), ``goemotions_bpe`` (the same with RoBERTa's tokens;
        needs the extra ``roberta``).
        Any of them with a number behind, ``cifar10-256``: at most so many of its training, validation and test samples, the first
        of each (fine) class in turn; to try something out.
    noise: standard deviation of the Gaussian noise that is added once to the digits, on the [0, 1] scale; 0 for clean ones.

    Raises
    ------
    DataError: unknown name, or files that are missing or damaged; the message says how to get them.
    """
    whole, dash, number = name.partition("-")
    if whole not in DATASETS or dash and not re.fullmatch(r"[1-9]\d*", number):
        raise DataError(f"data set is {name!r}; it must be one of {', '.join(DATASETS)}, or one with a number behind, like "
                        f"{DATASETS[0]}-256: correct the name.")
    if dash:
        return _few(load(whole, noise=noise), name, int(number))
    if name.startswith("digits"):
        return _digits(name, noise)
    if name in IMAGES:
        return _svhn(name) if name == "svhn" else _cifar(name)
    return _scipy_docs(name) if name == "scipy_docs" else _goemotions(name)


def _few(data: Data, name: str, n: int) -> Data:
    parts = {part: _in_turn(getattr(data, labels))[:n] for part, labels in
             (("train", "train_fine"), ("val", "val_labels"), ("test", "test_fine"))}
    tensors = {key: value for key, value in vars(data).items() if isinstance(value, Tensor)}
    return replace(data, name=name, **{key: value[parts[key.split("_")[0]]] for key, value in tensors.items()})


def _in_turn(labels: Tensor) -> Tensor:
    """Indices: the first sample of every class, then the second of every class, and so on; as they are for several labels a sample."""
    if labels.ndim == 2:
        return torch.arange(len(labels))
    by_class = labels.argsort(stable=True)
    sizes = labels.bincount()
    rank = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)      # within its class
    return by_class[rank.argsort(stable=True)]


def _digits(name: str, noise: float) -> Data:
    from sklearn.datasets import load_digits
    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))             # RandomState: frozen across numpy versions
    clean = torch.from_numpy((bunch.images / 16)[order][:, None]).float()       # (1797, 1, 8, 8)
    fine = torch.from_numpy(bunch.target[order]).long()
    gaussian = torch.from_numpy(np.random.RandomState(1).standard_normal(clean.shape)).float()
    images = clean + noise * gaussian
    labels = fine // 2 if name == "digits5" else fine
    digits = tuple(str(d) for d in range(10))
    names = tuple(f"{d}-{d + 1}" for d in range(0, 10, 2)) if name == "digits5" else digits
    train, val, test = slice(0, 1000), slice(1000, 1398), slice(1398, None)
    return Data(name, images[train], labels[train], fine[train], images[val], labels[val], images[test], labels[test],
                fine[test], names, digits, mean=(0.305,), std=(0.5,))


def _cifar(name: str) -> Data:
    from torchvision.datasets import CIFAR10, CIFAR100
    kind = CIFAR10 if name == "cifar10" else CIFAR100
    source = "cifar10" if name == "cifar10" else "cifar100"
    sets = _torchvision(source, kind.base_folder, lambda root: [kind(root, train=train) for train in (True, False)])
    images = [torch.from_numpy(s.data).permute(0, 3, 1, 2).contiguous() for s in sets]      # uint8 (n, 3, 32, 32)
    fine = [torch.tensor(s.targets) for s in sets]
    names = fine_names = tuple(sets[0].classes)
    labels = fine
    if name == "cifar20":
        superclass = torch.empty(100, dtype=torch.long)
        for coarse, members in enumerate(CIFAR20):
            superclass[list(members)] = coarse
        labels, names = [superclass[f] for f in fine], CIFAR20_NAMES
    return _halved(name, images, labels, fine, names, fine_names, CIFAR_MEAN, CIFAR_STD)


def _svhn(name: str) -> Data:
    """73,257 training and 26,032 test images; the additional training images are not used."""
    from torchvision.datasets import SVHN
    sets = _torchvision(name, "train_32x32.mat and test_32x32.mat", lambda root: [SVHN(root, split=part) for part in ("train", "test")])
    labels = [torch.from_numpy(s.labels).long() for s in sets]
    digits = tuple(str(d) for d in range(10))
    return _halved(name, [torch.from_numpy(s.data).contiguous() for s in sets], labels, labels, digits, digits, (0.5,) * 3, (0.5,) * 3)


def _torchvision(name: str, files: str, read):
    """What ``read`` returns of the data root; DataError, in one sentence, for missing, truncated or altered files."""
    root = data_root()
    try:
        return read(str(root))
    except Exception as error:
        raise DataError(f"{name} was not found, or is damaged, in {root} ({type(error).__name__}); it must be torchvision's {files}: set "
                        f"UNLEARNLIB_DATA to its folder, or run 'python -m unlearnlib data fetch {name}'.") from error


def _halved(name: str, images, labels, fine, names, fine_names, mean, std) -> Data:
    """A data set from its (training, test) pairs; the test images are halved into validation and test."""
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(labels[1])))
    val, test = order[: len(order) // 2], order[len(order) // 2:]
    return Data(name, images[0], labels[0], fine[0], images[1][val], labels[1][val], images[1][test], labels[1][test],
                fine[1][test], names, fine_names, mean, std)


def _scipy_docs(name: str) -> Data:
    try:
        texts, numbers = text.documentation()
    except ValueError as error:
        raise DataError(str(error)) from error
    order = np.random.RandomState(0).permutation(len(texts))
    texts, labels = [texts[i] for i in order], torch.tensor(numbers)[torch.from_numpy(order)]
    train, val = SCIPY_DOCS_ORDER
    words = text.vocabulary(texts[:train])
    ids = text.tokens(texts, words, text.WORDS_KEPT)
    parts = slice(0, train), slice(train, train + val), slice(train + val, None)
    (x, y), (x_val, y_val), (x_test, y_test) = ((ids[p], labels[p]) for p in parts)
    return Data(name, x, y, y, x_val, y_val, x_test, y_test, y_test, text.PACKAGES, text.PACKAGES, words=words)


def _goemotions(name: str) -> Data:
    root = data_root()
    try:
        parts = text.goemotions(root)
    except (OSError, ValueError) as error:
        raise DataError(f"goemotions was not found, or is damaged, in {root / 'goemotions'} ({error}); it must be "
                        "the three published .tsv files: set UNLEARNLIB_DATA to the folder above, or run "
                        "'python -m unlearnlib data fetch goemotions'.") from error
    texts = [parts[part][0] for part in text.GOEMOTIONS]                        # in the order train, dev, test
    if name == "goemotions_bpe":
        try:
            encoded, words = zip(*(text.roberta_tokens(t, GOEMOTIONS_LENGTH) for t in texts), strict=True)
        except ValueError as error:
            raise DataError(str(error)) from error
        words = words[0]
    else:
        words = text.vocabulary(texts[0])
        encoded = [text.tokens(t, words, GOEMOTIONS_LENGTH) for t in texts]
    x, x_val, x_test = encoded
    y, y_val, y_test = (text.multi_hot(parts[part][1], len(text.EMOTIONS)) for part in text.GOEMOTIONS)
    return Data(name, x, y, y, x_val, y_val, x_test, y_test, y_test, text.EMOTIONS, text.EMOTIONS, words=words)


def fetch(name: str) -> None:
    """Download a data set of ``FETCHED`` into :func:`data_root`, with a progress bar, and check it."""
    from torchvision.datasets import CIFAR10, CIFAR100, SVHN
    from torchvision.datasets.utils import download_url
    if name == "goemotions":
        for part, (checksum, _) in text.GOEMOTIONS.items():
            download_url(f"{text.GOEMOTIONS_URL}{part}.tsv", str(data_root() / name), md5=checksum)
    elif name == "svhn":
        for part in ("train", "test"):
            SVHN(str(data_root()), split=part, download=True)
    else:
        {"cifar10": CIFAR10, "cifar100": CIFAR100}[name](str(data_root()), download=True)


@dataclass(frozen=True)
class Split:
    """What a scenario forgets: index tensors into the training images, and masks over the test images.

    ``forget`` and ``retain`` index the training set, disjoint and together all of it. ``test_forget`` is the boolean mask of
    the test images of the forgotten (sub)class; it is empty in the random scenario, where no test image is forgotten.
    """

    data: Data
    scenario: str
    kind: str
    forget: Tensor
    retain: Tensor
    test_forget: Tensor
    forget_classes: tuple[int, ...]

    def access(self) -> Access:
        """Forget, retain and held-out (validation) data in the order in which the official loaders present them."""
        d = self.data
        return Access(forget=(d.train_images[self.forget], d.train_labels[self.forget]),
                      retain=(d.train_images[self.retain], d.train_labels[self.retain]),
                      held_out=(d.val_images, d.val_labels), forget_classes=self.forget_classes)

    @property
    def retain_hash(self) -> str:
        """Identifies the retained set, whatever its order."""
        return hashlib.sha256(self.retain.sort().values.cpu().numpy().tobytes()).hexdigest()[:16]


def split(data: Data, scenario: str, seed: int = 0) -> Split:
    """Divide the training set into forget and retain sets.

    Parameters
    ----------
    scenario: ``class:3`` or ``class:3+8`` (every image with these labels), ``subclass:8`` (every image with this *fine* label,
        where the labels are superclasses), ``random:0.1`` (a fraction of all images, drawn with ``seed``).

    The retain set is sorted by class (by fine class for sub-classes) in the class scenarios and randomly permuted in the random one,
    as in the official SSD code: the importance pass sees it in this order (see :mod:`unlearnlib.methods.lfssd`).

    Raises
    ------
    DataError: unknown scenario, class that does not exist, fraction outside (0, 1), an empty forget or retain set.
    """
    match = re.fullmatch(r"(class|subclass):(\d+(?:\+\d+)*)|(random):([\d.eE+-]+)", scenario)
    if not match:
        raise DataError(f"scenario is {scenario!r}; it must be class:ID, class:ID+ID, subclass:ID or random:FRACTION: "
                        "for example class:3 or random:0.1.")
    n = len(data.train_labels)
    if match[3]:
        return _random_split(data, scenario, match[4], n, seed)
    if data.train_labels.dtype == torch.bool:
        raise DataError(f"scenario is {scenario!r}, but a sample of {data.name} has several labels; it must be random:FRACTION there: "
                        "for example random:0.1.")
    kind, wanted = match[1], sorted({int(c) for c in match[2].split("+")})
    train, test, names = ((data.train_labels, None, data.class_names) if kind == "class"
                          else (data.train_fine, data.test_fine, data.fine_names))
    test = data.test_labels if test is None else test
    unknown = [c for c in wanted if c >= len(names)]
    if unknown:
        raise DataError(f"{kind} {unknown[0]} does not exist in {data.name}; it must be 0 to {len(names) - 1}: correct the scenario.")
    hit = torch.isin(train, torch.tensor(wanted, device=train.device))
    if hit.all() or not hit.any():
        raise DataError(f"scenario {scenario!r} forgets {int(hit.sum())} of {n} images; at least one must be forgotten and one "
                        "retained: name fewer or other classes.")
    every = torch.arange(n, device=train.device)
    retain = every[~hit]
    retain = retain[torch.argsort(train[retain], stable=True)]
    classes = wanted if kind == "class" else sorted(set(data.train_labels[hit].tolist()))
    test_hit = torch.isin(test, torch.tensor(wanted, device=test.device))
    return Split(data, scenario, kind, every[hit], retain, test_hit, tuple(classes))


def _random_split(data: Data, scenario: str, text: str, n: int, seed: int) -> Split:
    try:
        fraction = float(text)
    except ValueError:
        fraction = -1.0
    if not 0 < fraction < 1 or not 1 <= (count := round(fraction * n)) < n:
        raise DataError(f"forget fraction is {text}; it must lie strictly between 0 and 1 and leave at least one of the {n} images "
                        "on each side: choose, for example, random:0.1.")
    order = torch.from_numpy(np.random.RandomState(1000 + seed).permutation(n)).to(data.train_labels.device)
    return Split(data, scenario, "random", order[:count], order[count:],
                 torch.zeros(len(data.test_labels), dtype=torch.bool, device=data.test_labels.device), ())


def moves(n: int, generator: torch.Generator, padding: int = 4) -> Tensor:
    """What :func:`augment` draws for ``n`` images: ``(n, 3)`` int64 on the CPU, (rows down, columns right, mirrored or not)."""
    shifts = [torch.randint(0, 2 * padding + 1, (n,), generator=generator) for _ in range(2)]
    return torch.stack([*shifts, (torch.rand(n, generator=generator) < 0.5).long()], 1)


def move(images: Tensor, drawn: Tensor, padding: int = 4) -> Tensor:
    """Crops of the zero-padded images, mirrored where asked, as ``drawn`` says ``(n, 3)``: ``(n, c, h, w)`` in and out, any dtype."""
    if images.ndim != 4:
        raise ValueError(f"augment got inputs of shape {tuple(images.shape)}; it crops and flips images (n, c, h, w): leave augment out "
                         "of the recipe.")
    n, _, h, w = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    down, right, mirrored = drawn.view(n, 3, 1, 1).unbind(1)                    # each (n, 1, 1)
    rows = down + torch.arange(h, device=images.device).view(1, h, 1)           # (n, h, 1)
    columns = torch.arange(w, device=images.device).view(1, 1, w)
    columns = right + torch.where(mirrored == 1, w - 1 - columns, columns)      # (n, 1, w)
    batch = torch.arange(n, device=images.device).view(n, 1, 1)
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2).contiguous()


def augment(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Random crop (zero padding) and horizontal flip, for a whole batch at once: ``(n, c, h, w)`` in and out, any dtype."""
    return move(images, moves(len(images), generator, padding).to(images.device, non_blocking=True), padding)


def pixels(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images in pixel space: uint8 brought from 0..255 to [0, 1] in ``dtype``, floats as they are; ValueError for token ids (int64)."""
    if images.is_floating_point():
        return images
    if images.dtype != torch.uint8:
        raise ValueError(f"inputs are {str(images.dtype).removeprefix('torch.')}, which cannot be perturbed; they must be floats in [0, 1] "
                         "or uint8: pass images.")
    return images.to(dtype) / 255


def clip_pixels(changed: Tensor, images: Tensor) -> Tensor:
    """``changed`` clipped to [0, 1], or as far outside as the pixel of ``images`` itself lies: an unchanged image stays as it is."""
    return torch.maximum(torch.minimum(changed, images.clamp(min=1)), images.clamp(max=0))
