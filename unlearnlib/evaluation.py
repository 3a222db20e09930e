"""The standard run: apply a method, then measure the model once and derive every metric from the same logits."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from . import attacks, data, devices, metrics, models, reference, train
from .methods import method
from .records import Spec
from .train import Callback

FORWARD_SHARE = 1 / 3       # a forward pass costs a third of a forward and backward pass
Also = Callable[[Tensor, Tensor, data.Split], dict[str, float]]
FRESH_SEED = 20_000         # the randomly initialised network of ZRF
PROGRESS: ContextVar[Callable[[float], object] | None] = ContextVar("progress", default=None)  # told the epochs as methods spend them


@dataclass(frozen=True)
class Outcome:
    """What a study returns; :mod:`unlearnlib.runs` makes a record of it."""

    metrics: dict
    rows: list = field(default_factory=list)
    timing: dict = field(default_factory=dict)


class Cost:
    """Counts images through a method's callback. ``epochs`` = images forward and backward / |D| (a forward pass alone: a third).

    ``watch``, if given, is called with the same arguments, and the seconds that it takes are kept apart in ``watching``.
    """

    def __init__(self, training_images: int, watch: Callback | None = None):
        self.training_images, self.images, self.watch, self.watching = training_images, 0.0, watch, 0.0

    def __call__(self, *, images: float, backward: bool = True, **values) -> None:
        spent = images * (1 if backward else FORWARD_SHARE)
        self.images += spent
        if progress := PROGRESS.get():
            progress(spent / self.training_images)
        if self.watch:
            devices.synchronise()
            started = time.perf_counter()
            self.watch(images=images, backward=backward, **values)
            self.watching += time.perf_counter() - started

    @property
    def epochs(self) -> float:
        return self.images / self.training_images


def apply(spec: Spec, watch: Callback | None = None, **given) -> tuple[nn.Module, dict]:
    """The unlearned model of a spec and what it cost: ``{"seconds", "epochs"}``, evaluation excluded, device synchronised.

    A reference model has its training's, and ``training``, the environment in which that took place; empty where it is not known.
    ``watch`` follows the method's steps through its callback (a reference model has none). ``given`` goes to the method beside its
    hyper-parameters: what it would otherwise compute first.
    """
    if spec.method in ("original", "retrain"):
        model, meta = reference.trained(spec.original if spec.method == "original" else spec.retrained)
        share = 1 if spec.method == "original" else len(spec.split().retain) / len(spec.split().data.train_labels)
        return model, {"seconds": meta["seconds"], "epochs": meta["epochs"] * share, "training": meta.get("environment", {})}
    original, _ = reference.trained(spec.original)
    access = spec.split().access()
    cost = Cost(len(spec.split().data.train_labels), watch)
    devices.synchronise()
    started = time.perf_counter()
    model = method(spec.method).run(original, access, generator=spec.generator(), callback=cost, **spec.hyper_parameters, **given)
    devices.synchronise()
    return model, {"seconds": time.perf_counter() - started - cost.watching, "epochs": cost.epochs}


def unlearn(spec: Spec, also: Also | None = None) -> Outcome:
    """Apply the spec's method and measure the result with :func:`measure`."""
    model, timing = apply(spec)
    return Outcome(measure(model, spec, also), timing=timing)


def measure(model: nn.Module, spec: Spec, also: Also | None = None) -> dict[str, float]:
    """Every metric of a model, from one forward pass over the training images and one over the test images.

    ``also(training logits, test logits, split)`` adds a paper's own metrics from the same two passes.

    Accuracies are in [0, 1]; ``acc_test_retain`` and ``acc_test_forget`` are NaN in the random scenario. Attacks have the direction
    that :mod:`unlearnlib.attacks` states. Jensen-Shannon divergences (nats) are to the retrained model of the same seed; for the
    retrained model itself, to the retrained model of the previous seed: how far apart two retrains are. Every number of a model
    that diverged is NaN.
    """
    s, d = spec.split(), spec.split().data
    z_train = train.logits(model, d.train_images).cpu()
    z_test = train.logits(model, d.test_images).cpu()
    diverged = not (torch.isfinite(z_train).all() and torch.isfinite(z_test).all())
    if diverged:                                                                # nothing can be measured: every number is NaN
        z_train, z_test = torch.zeros_like(z_train), torch.zeros_like(z_test)
    forget, retain, y_train, y_test = s.forget.cpu(), s.retain.cpu(), d.train_labels.cpu(), d.test_labels.cpu()
    held_out = s.test_forget.cpu() if s.kind != "random" else torch.ones(len(y_test), dtype=torch.bool)
    kept = ~s.test_forget.cpu()
    out = {
        "acc_forget": metrics.accuracy(z_train[forget], y_train[forget]),
        "acc_retain": metrics.accuracy(z_train[retain], y_train[retain]),
        "acc_test": metrics.accuracy(z_test, y_test),
        "acc_test_retain": metrics.accuracy(z_test[kept], y_test[kept]) if s.kind != "random" else float("nan"),
        "acc_test_forget": metrics.accuracy(z_test[~kept], y_test[~kept]) if s.kind != "random" else float("nan"),
        "mia_entropy": attacks.entropy_lr(z_train[retain], z_test, z_train[forget]),
        "loss_forget": float(metrics.cross_entropy(z_train[forget], y_train[forget]).mean()),
        "loss_test": float(metrics.cross_entropy(z_test[held_out], y_test[held_out]).mean()),
    }
    out |= attacks.population(z_train[forget], y_train[forget], z_test[held_out], y_test[held_out])
    fresh = models.build(spec.model, d, spec.seed + FRESH_SEED).to(devices.device())
    out["zrf"] = metrics.zrf(z_train[forget], train.logits(fresh, d.train_images[s.forget]).cpu())
    out |= _divergences(z_train, z_test, spec, forget, retain)
    out["changed"] = changed_share(reference.trained(spec.original)[0], model)
    out |= also(z_train, z_test, s) if also else {}
    return dict.fromkeys(out, float("nan")) if diverged else out


def _divergences(z_train: Tensor, z_test: Tensor, spec: Spec, forget: Tensor, retain: Tensor) -> dict[str, float]:
    nothing = {"js_forget": float("nan"), "js_retain": float("nan"), "js_test": float("nan")}
    other = spec.retrained
    if spec.method == "retrain":
        if spec.seed == 0 or spec.split().kind == "random":                     # no other model with the same retained set
            return nothing
        other = reference.Job(other.data, other.model, other.recipe, spec.seed - 1, other.scenario)
    r_train, r_test = reference.outputs(other, "train").cpu(), reference.outputs(other, "test").cpu()
    return {"js_forget": float(metrics.js_divergence(z_train[forget], r_train[forget]).mean()),
            "js_retain": float(metrics.js_divergence(z_train[retain], r_train[retain]).mean()),
            "js_test": float(metrics.js_divergence(z_test, r_test).mean())}


def changed_share(original: nn.Module, model: nn.Module) -> float:
    """Share of the parameters whose value differs between two models of the same shapes; NaN for other shapes."""
    pairs = list(zip(original.parameters(), model.parameters(), strict=False))
    if any(a.shape != b.shape for a, b in pairs):
        return float("nan")
    return sum(int((a != b).sum()) for a, b in pairs) / models.count_parameters(original)
