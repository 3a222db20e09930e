"""The measurements of the ∇τ notebook: each study takes a spec and returns numbers, never a picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ... import attacks, data, evaluation, metrics, reference, train
from ...access import Access
from ...evaluation import Outcome
from ...methods import method
from ...methods.nabla_tau import schedule
from ...records import Spec
from ..studies import Study, images, method_epochs, relearn

BINS = np.linspace(0, 8, 41)    # of the loss histograms, in nats; what lies above goes into the last one


def _attack(forget: Tensor, unseen: Tensor) -> float:
    """The paper's attack on one score; NaN where a score is not finite (a model that diverged)."""
    return attacks.loss_lr(forget, unseen) if bool(torch.isfinite(torch.cat([forget, unseen])).all()) else float("nan")


def paper_metrics(z_train: Tensor, z_test: Tensor, s: data.Split) -> dict[str, float]:
    """MIA_L and MIA_E: accuracy of telling the forget set from the test half by loss and by entropy (0.5 = indistinguishable).

    In the class scenario also with the forgotten class's own test images as non-members: ``mia_l_class``, ``mia_e_class``.
    """
    forget, y_f, y_test = z_train[s.forget.cpu()], s.data.train_labels[s.forget].cpu(), s.data.test_labels.cpu()
    loss, entropy = metrics.cross_entropy(forget, y_f), metrics.entropy(forget)
    test_loss, test_entropy = metrics.cross_entropy(z_test, y_test), metrics.entropy(z_test)
    own = s.test_forget.cpu()
    return {"mia_l": _attack(loss, test_loss), "mia_e": _attack(entropy, test_entropy),
            "mia_l_class": _attack(loss, test_loss[own]) if own.any() else float("nan"),
            "mia_e_class": _attack(entropy, test_entropy[own]) if own.any() else float("nan")}


def unlearn(spec: Spec) -> Outcome:
    """The standard run with the paper's two attacks beside the common audit."""
    return evaluation.unlearn(spec, also=paper_metrics)


def _outputs(model, s: data.Split) -> tuple[Tensor, Tensor]:
    """Logits of the forget and of the test samples."""
    return train.logits(model, s.data.train_images[s.forget]).cpu(), train.logits(model, s.data.test_images).cpu()


def _readout(model, s: data.Split, retain_at_most: int = 10 ** 9, outputs: tuple[Tensor, Tensor] | None = None) -> dict[str, float]:
    """What the curves, the grid and the variants show of a model: the two attacks, three accuracies, mean losses."""
    d = s.data
    retain = s.retain[:: -(-len(s.retain) // retain_at_most)]                   # evenly spread, so all classes are in it
    y_f, y_r, y_test = d.train_labels[s.forget].cpu(), d.train_labels[retain].cpu(), d.test_labels.cpu()
    (z_f, z_test), z_r = outputs or _outputs(model, s), train.logits(model, d.train_images[retain]).cpu()
    loss, test_loss = metrics.cross_entropy(z_f, y_f), metrics.cross_entropy(z_test, y_test)
    return {"mia_l": _attack(loss, test_loss), "mia_e": _attack(metrics.entropy(z_f), metrics.entropy(z_test)),
            "acc_forget": metrics.accuracy(z_f, y_f), "acc_retain": metrics.accuracy(z_r, y_r),
            "acc_test": metrics.accuracy(z_test, y_test), "loss_forget": float(loss.mean()),
            "loss_forget_sd": float(loss.std()), "loss_test": float(test_loss.mean())}


class _Watch:
    """A method's callback that measures the model ``points`` times a pass over the retain set, and keeps ∇τ's own quantities by epoch."""

    def __init__(self, s: data.Split, points: int, retain_at_most: int):
        self.split, self.retain_at_most, self.seen, self.points, self.epochs = s, retain_at_most, 0, [], {}
        self.step = len(s.retain) / points

    def __call__(self, *, images: int, backward: bool = True, model=None, **values) -> None:
        if not backward:
            return
        self.seen += images
        if "tau" in values:
            kept = self.epochs.setdefault(values["epoch"], [])
            kept.append({k: float(values[k]) for k in ("tau", "alpha", "active", "forget_loss")})
        if self.seen >= self.step * (len(self.points) + 1):
            self.points.append({"row": "curve", "passes": self.passes, **_readout(model, self.split, self.retain_at_most)})

    @property
    def passes(self) -> float:
        return self.seen / len(self.split.retain)

    def rows(self, start: dict, end: dict) -> list[dict]:
        """The curve from before to after, and the means of each forget epoch."""
        points = [p for p in self.points if p["passes"] < self.passes]
        per_epoch = [{"row": "epoch", "epoch": e} | {k: float(np.mean([v[k] for v in values])) for k in values[0]}
                     for e, values in self.epochs.items()]
        return [{"row": "curve", "passes": 0.0, **start}, *points, {"row": "curve", "passes": self.passes, **end}, *per_epoch]


def curve(spec: Spec) -> Outcome:
    """A method as it goes: attacks, accuracies and losses against passes over the retain set; ∇τ's target, weight and ReLU by forget epoch.

    At the end also the densities of the losses of forget and test samples, under original, unlearned and retrained.
    """
    s, original = spec.split(), reference.trained(spec.original)[0]
    watch = _Watch(s, **spec.settings)
    model = method(spec.method).run(original, s.access(), generator=spec.generator(), callback=watch, **spec.hyper_parameters)
    named = {"original": original, spec.method: model, "retrain": reference.trained(spec.retrained)[0]}
    outputs = {name: _outputs(m, s) for name, m in named.items()}
    start, end = (_readout(named[name], s, watch.retain_at_most, outputs[name]) for name in ("original", spec.method))
    return Outcome({}, watch.rows(start, end) + [row for name in named for row in _densities(name, outputs[name], s)])


def _densities(name: str, outputs: tuple[Tensor, Tensor], s: data.Split) -> list[dict]:
    rows = []
    for part, z, y in zip(("forget", "test"), outputs, (s.data.train_labels[s.forget], s.data.test_labels), strict=True):
        loss = metrics.cross_entropy(z, y.cpu()).nan_to_num(BINS[-1]).clamp(max=BINS[-1] - 1e-9).numpy()
        density, _ = np.histogram(loss, BINS, density=True)
        rows += [{"row": "density", "model": name, "part": part, "loss": float(b), "density": float(v)}
                 for b, v in zip(BINS[:-1], density, strict=True) if v]
    return rows


def variants(spec: Spec) -> Outcome:
    """∇τ with one thing changed at a time. Options: ``{"name": {parameter: value}}``; ``held_out: "retain"`` takes τ from seen data."""
    s, original = spec.split(), reference.trained(spec.original)[0]
    rows = []
    for name, changes in spec.settings["variants"].items():
        access, changes = s.access(), dict(changes)
        if changes.pop("held_out", None) == "retain":
            seen = len(s.data.val_labels)
            access = Access(forget=(access.forget_images, access.forget_labels), retain=(access.retain_images, access.retain_labels),
                            held_out=(access.retain_images[:seen], access.retain_labels[:seen]))
        steps: list[dict] = []

        def note(*, steps=steps, **values) -> None:
            if "tau" in values:
                steps.append({k: float(values[k]) for k in ("tau", "active")})

        model = method(spec.method).run(original, access, generator=spec.generator(), callback=note, **spec.hyper_parameters | changes)
        rows.append({"variant": name, "tau": steps[0]["tau"], "active": float(np.mean([v["active"] for v in steps])), **_readout(model, s)})
    return Outcome({}, rows)


def grid(spec: Spec) -> Outcome:
    """Forgotten fraction x starting weight α0 (the paper's split x alpha grid, reduced); ``rule`` is 5/3 of the fraction."""
    original, options, rows = reference.trained(spec.original)[0], spec.settings, []
    for fraction in options["fractions"]:
        s = reference.split(spec.data, f"random:{fraction}", spec.seed)
        rule, *_ = schedule(len(s.forget), len(s.retain), batch_size=spec.hyper_parameters["batch_size"])
        for alpha0 in options["alphas"]:
            changes = {"alpha0": alpha0, "bn_mode": options["bn_mode"], "max_epochs": options["max_epochs"]}
            model = method(spec.method).run(original, s.access(), generator=spec.generator(), **spec.hyper_parameters | changes)
            rows.append({"fraction": fraction, "alpha0": alpha0, "rule": rule, **_readout(model, s)})
    return Outcome({}, rows)


def _budget(spec: Spec) -> float:
    """Training-epoch equivalents of the spec's method: ∇τ's own budget, else what the settings say."""
    if spec.method != "nabla_tau":
        return method_epochs(spec)
    return float(spec.hyper_parameters.get("retain_epochs", 6))


STUDIES = {
    "unlearn": Study(unlearn, _budget),
    "curve": Study(curve, lambda s: 2 * _budget(s)),
    "variants": Study(variants, lambda s: len(s.settings["variants"]) * _budget(s)),
    "grid": Study(grid, lambda s: len(s.settings["fractions"]) * len(s.settings["alphas"]) * _budget(s)),
    "images": Study(images, lambda s: 2 + _budget(s), version=2),
    "relearn": Study(relearn, lambda s: 3 + _budget(s)),
}
