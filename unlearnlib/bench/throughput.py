"""Training throughput: images a second, and the share of the rate that this machine reaches in one large product."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import pandas as pd
import torch
from torch import nn

from .. import devices, models, plots, train
from .cells import random_data
from .figures import bars, provenance
from .measure import REPEATS, flop, in_turn, matmul

MODELS = {"resnet18-64": 64, "resnet18-16": 256, "allcnn-96": 64, "resnet18im-64": 256}     # images a measurement on a CPU
CPU_BATCH, GPU_IMAGES, GPU_BATCH = 64, 16_384, 512
COMPILED = "bf16 + channels_last + torch.compile"
NOTE = ("The matmul rate is that of one large product in the same precision, so percentages of float32 and of bf16 have different "
        "yardsticks. It is no upper limit: a convolution can be done with fewer operations than are counted, and faster than the product.")
NOT_COMPILED = "not measured without a GPU: on a CPU, 25-47 s of compiling gained 0-10 %"


def forms(model: nn.Module, gpu: bool) -> dict[str, tuple[nn.Module, bool]]:
    """The network in each form, and whether it trains in bfloat16 (which :func:`unlearnlib.train.fit` does channels last)."""
    out = {"float32": (copy.deepcopy(model), False),
           "channels_last": (copy.deepcopy(model).to(memory_format=torch.channels_last), False),
           "bf16 + channels_last": (copy.deepcopy(model), True)}
    return out | ({COMPILED: (torch.compile(copy.deepcopy(model)), True)} if gpu else {})


def measure(networks: dict[str, int] | None = None, repeats: int = REPEATS) -> Iterator[dict]:
    """One record for each network (default: ``MODELS``) and form; the forms of a network are measured in turn, and products with them."""
    gpu = devices.on_gpu()
    products = {bf16: matmul(torch.bfloat16 if bf16 else torch.float32) for bf16 in (False, True)}
    for architecture, images in (networks or MODELS).items():
        images, batch = (GPU_IMAGES, GPU_BATCH) if gpu else (images, CPU_BATCH)
        d = random_data(images).to(devices.device())
        model = models.build(architecture, d, 0).to(devices.device())

        def epoch(network: nn.Module, bf16: bool, d=d, batch=batch) -> None:
            train.fit(network, d.train_images, d.train_labels, generator=torch.Generator().manual_seed(0), epochs=1, lr=0.01,
                      batch_size=batch, bf16=bf16)

        there = forms(model, gpu)
        operations = flop(partial(epoch, copy.deepcopy(model), False)) / images
        calls = {name: partial(epoch, *form) for name, form in there.items()}
        times = in_turn(calls | {bf16: call for bf16, (call, _) in products.items()}, repeats)
        for name, (_, bf16) in there.items():
            elapsed, rate = times[name], products[bf16][1] / times[bf16]
            yield _record(architecture, name, images, batch, repeats) | {
                "seconds": elapsed, "images_per_second": images / elapsed, "ratio": times["float32"] / elapsed,
                "flop_per_image": operations, "flop_per_second": operations * images / elapsed, "matmul_flop_per_second": rate,
                "fraction": operations * images / elapsed / rate, "note": ""}
        if not gpu:
            yield _record(architecture, COMPILED, images, batch, repeats) | {"note": NOT_COMPILED}


def _record(architecture: str, form: str, images: int, batch: int, repeats: int) -> dict:
    return {"row": f"{architecture}, {form}", "repeats": repeats,
            "settings": {"model": architecture, "form": form, "images": images, "batch_size": batch, "data": "random uint8 (3, 32, 32)"}}


def tables(frame: pd.DataFrame) -> list[pd.DataFrame]:
    out = []
    for r in frame.to_dict("records"):
        measured = pd.notna(r.get("seconds"))
        cells = (f"{r['images_per_second']:,.0f}", f"{r['ratio']:.2f}", f"{r['flop_per_second'] / 1e9:,.1f}",
                 f"{100 * r['fraction']:.0f} %", str(r["repeats"])) if measured else ("–",) * 5
        out.append({"network": r["settings"]["model"], "form": r["settings"]["form"]} | dict(zip(
            ("images/s", "times float32", "GFLOP/s", "of the matmul rate", "repeats"), cells, strict=True)) | {"note": r["note"]})
    return [pd.DataFrame(out)]


def draw(frame: pd.DataFrame) -> plots.Drawn:
    """One bar for each network and form: images a second, and how that compares with a product of the same precision."""
    drawn = frame[frame.images_per_second.notna()][["row", "images_per_second", "ratio", "fraction", "repeats"]]
    notes = [f"{r.images_per_second:,.0f} images/s, {r.ratio:.2f} times float32, {100 * r.fraction:.0f} % of the matmul rate"
             for r in drawn.itertuples()]
    left_out = "" if frame.images_per_second.notna().all() else " | torch.compile is not measured without a GPU"
    return bars("throughput", drawn, drawn.row, "images_per_second", notes, origin=provenance(frame) + left_out,
                xlabel="training images a second", title="Training throughput", ratio=False)
