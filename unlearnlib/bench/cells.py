"""One epoch of a method on random images of CIFAR's shape; as a program, one cell of the growth table in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
import torch

from .. import data, devices, models
from ..access import Access
from ..methods import METHODS
from ..methods.ispf import FORWARD
from .measure import REPEATS, seconds

EPOCH = {"ssd": {}, "lfssd": {}, "nabla_tau": {"retain_epochs": 1}, "forget_vector": {"epochs": 1}, "ispf": {"epochs": 1, "warmup": 0}}
SMALL = {"ispf": {"rounds": 1, "batch_size": 64, "widths": (32, 16, 8), "latent": 64}}      # without a GPU: a twentieth of the work
FORGET, HELD_OUT = 0.1, 0.1     # shares of |D|


def random_data(images: int) -> data.Data:
    """Random uint8 images ``(images, 3, 32, 32)`` with random labels of 10 classes, and a tenth as many held out."""
    def part(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        g = torch.Generator().manual_seed(seed)
        return torch.randint(256, (n, 3, 32, 32), generator=g, dtype=torch.uint8), torch.randint(10, (n,), generator=g)
    (x, y), (x_val, y_val) = part(images, 0), part(max(1, int(HELD_OUT * images)), 1)
    classes = tuple("0123456789")
    return data.Data("random", x, y, y, x_val, y_val, x_val, y_val, y_val, classes, classes, data.CIFAR_MEAN, data.CIFAR_STD)


def settings_of(method: str) -> dict:
    """The settings of one pass or epoch on the project's device; all else is as the method has it."""
    return EPOCH[method] | (SMALL.get(method, {}) if not devices.on_gpu() else {})


def job(method: str, images: int, architecture: str, **settings) -> Callable[[], float]:
    """One epoch of ``method``, ready to run, on random images and a fresh network of ``architecture`` on the project's device.

    The call returns its work in passes of training over D, as the records count it. ``settings`` go before :func:`settings_of`'s.
    """
    d = random_data(images).to(devices.device())
    model = models.build(architecture, d, 0).to(devices.device(), memory_format=devices.layout()).eval()
    n = max(1, int(FORGET * images))
    access = Access(forget=(d.train_images[:n], d.train_labels[:n]), retain=(d.train_images[n:], d.train_labels[n:]),
                    held_out=(d.val_images, d.val_labels), forget_classes=[0])

    def call() -> float:
        spent = []
        METHODS[method].run(model, access, generator=torch.Generator().manual_seed(0), **settings_of(method) | settings,
                            callback=lambda images, backward=True, **_: spent.append(images * (1 if backward else FORWARD)))
        return sum(spent) / len(d.train_images)
    return call


def cell(method: str, images: int, architecture: str) -> dict:
    """Median seconds of an epoch and peak memory (MiB); ``idle_mib`` is what the process held before it had data, network or method.

    Medians of ``REPEATS``. ``epochs``: the work done, in passes of training over D.
    """
    devices.reset_peak()
    idle = devices.peak_memory()
    job(method, 64, architecture, **{"batch_size": 8} if method == "ispf" else {})()      # unmeasured: kernels and libraries are loaded
    call, work, times = job(method, images, architecture), [], []
    for _ in range(REPEATS):
        times.append(seconds(lambda: work.append(call())))
    return {"seconds": float(np.median(times)), "repeats": len(times), "epochs": work[0], "peak_mib": devices.peak_memory(),
            "idle_mib": idle}


if __name__ == "__main__":
    devices.prepare()
    print(json.dumps(cell(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
