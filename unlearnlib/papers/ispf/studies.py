"""The measurements of the ISPF notebook: each study takes a spec and returns numbers, never a picture."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from ... import attacks, data, evaluation, metrics, reference, train
from ...evaluation import Outcome
from ...filtering import postfilter
from ...methods.ispf import STRATEGIES
from ...records import Spec
from ...synthesis import Generator
from ..studies import Study, method_epochs, relearning, single_images

NOISE_SEED = 30_000             # of the noise behind the synthetic images that are shown: the same at every epoch
REAL_POINTS = 1_000             # real test images in the embedding, at most
IMAGES = {"digits": 1_000, "digits5": 1_000, "svhn": 73_257}     # training images; 50,000 elsewhere
EPOCH = ("kept", "updates", "skipped", "loss", "bn", "one_hot", "balance", "adversarial")


def paper_metrics(z_train: Tensor, z_test: Tensor, s: data.Split) -> dict[str, float]:
    """The confidence attack of the official code's file: share of the forget training images called non-members (it has no caller)."""
    y, test = s.data.train_labels.cpu(), s.data.test_labels.cpu()
    members, forget = (metrics.label_probability(z_train[i.cpu()], y[i.cpu()]) for i in (s.retain, s.forget))
    return {"mia_confidence": attacks.confidence_svc(members, metrics.label_probability(z_test, test), forget)}


class Watch:
    """A method's callback that measures the student after every epoch, and the generator at the epochs of ``snapshots``."""

    def __init__(self, spec: Spec):
        self.split, self.forget = spec.split(), list(spec.split().forget_classes)
        self.teacher, self.snapshots = reference.trained(spec.original)[0], spec.settings.get("snapshots")
        self.rows: list[dict] = []
        self.last: dict = {}

    def __call__(self, *, epoch: int = 0, **values) -> None:
        if not epoch:
            return
        d, hit, measured = self.split.data, self.split.test_forget, values["measured"]
        z = train.logits(values["model"], d.test_images)
        of_forget = {f"{name}_forget": sum(measured[name][c] for c in self.forget) for name in ("predicted", "teacher")}
        self.rows.append({"row": "epoch", "epoch": epoch, "acc_test_retain": metrics.accuracy(z[~hit], d.test_labels[~hit]),
                          "acc_test_forget": metrics.accuracy(z[hit], d.test_labels[hit]), **of_forget}
                         | {k: measured.get(k, float("nan")) for k in EPOCH})
        self.last = values
        if self.snapshots and epoch in self.snapshots["epochs"]:
            self.rows += self.points(epoch, values["synthesis"])

    def classes(self) -> list[dict]:
        """Mean probability of each class under teacher and student in the last epoch, and the share of the images predicted as it."""
        measured = self.last["measured"]
        student = measured.get("student", [float("nan")] * len(measured["teacher"]))        # no row was ever kept
        return [{"row": "class", "class": k, "teacher": t, "student": s, "predicted": p}
                for k, (t, s, p) in enumerate(zip(measured["teacher"], student, measured["predicted"], strict=True))]

    def points(self, epoch: int, synthesis: Generator) -> list[dict]:
        """Where synthetic images lie in the plane of the real ones, and what the teacher says of them."""
        x = drawn(synthesis, self.snapshots["points"])
        z = train.logits(self.teacher, x)
        at = self.plane(features(self.teacher, x))
        p = z.softmax(1)[:, self.forget].max(1).values
        return [{"row": "point", "epoch": epoch, "x": float(a), "y": float(b), "predicted": int(k), "p_forget": float(q)}
                for (a, b), k, q in zip(at, z.argmax(1), p, strict=True)]

    def real(self) -> list[dict]:
        """The real test images in the same plane."""
        return [{"row": "real", "x": float(a), "y": float(b), "label": int(y)}
                for (a, b), y in zip(self.plane(self.real_features), self.split.data.test_labels, strict=False)]

    def plane(self, of: Tensor):
        """Features in the first two principal components of the real test images' features."""
        return self.fitted.transform(of.numpy())

    @cached_property
    def real_features(self) -> Tensor:
        return features(self.teacher, self.split.data.test_images[:REAL_POINTS])

    @cached_property
    def fitted(self):
        from sklearn.decomposition import PCA
        return PCA(2, random_state=0).fit(self.real_features.numpy())

    def pictures(self) -> list[dict]:
        """Synthetic images of the last generator, as hexadecimal bytes (c, h, w), with the teacher's answer."""
        x = drawn(self.last["synthesis"], self.snapshots["pictures"])
        z = train.logits(self.teacher, x)
        pixels = (x * 255).round().clamp(0, 255).to(torch.uint8).cpu()
        return [{"row": "picture", "image": i, "pixels": bytes(image.flatten().tolist()).hex(), "shape": "x".join(map(str, image.shape)),
                 "predicted": int(q.argmax()), "p_predicted": float(q.max())}
                for i, (image, q) in enumerate(zip(pixels, z.softmax(1), strict=True))]


def drawn(synthesis: Generator, n: int) -> Tensor:
    """``n`` synthetic images from a fixed noise, in evaluation mode."""
    with torch.no_grad(), train.evaluating(synthesis):
        return synthesis.draw(n, torch.Generator().manual_seed(NOISE_SEED))


@torch.no_grad()
def features(model: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """Penultimate features (n, d) on the CPU, in evaluation mode."""
    device = next(model.parameters()).device
    with train.evaluating(model):
        return torch.cat([model.features(x.to(device)).float().cpu() for x in images.split(batch_size)])


def unlearn(spec: Spec) -> Outcome:
    """The standard run with the curve by epoch; what the options ask for (``relearn``, ``images``, ``snapshots``) from the same model."""
    watch, options = Watch(spec), spec.settings
    model, timing = evaluation.apply(spec, watch)
    out, rows = evaluation.measure(model, spec, also=paper_metrics), watch.rows
    if spec.method == "original":
        return Outcome(out, watch.real() if watch.snapshots else [], timing)
    if watch.last:
        rows += watch.classes() + (watch.pictures() if watch.snapshots else [])
        kept = [row["kept"] for row in rows if row["row"] == "epoch"]
        out["kept"] = sum(kept) / len(kept)                                     # of all epochs
        out |= filter_error(spec, watch)
    if options.get("relearn"):
        measured, curve = relearning(spec, model, options["relearn"])
        out |= measured
        rows += [{"row": "relearn"} | row for row in curve]
    if options.get("images"):
        rows += single_images(spec, model)
    return Outcome(out, rows, timing)


def filter_error(spec: Spec, watch: Watch) -> dict[str, float]:
    """Of PostFilter on this run's own synthetic images: the largest change of a retained class's conditional probability, and of a sum."""
    if spec.method not in STRATEGIES or not STRATEGIES[spec.method].target:
        return {}
    z = train.logits(watch.teacher, drawn(watch.last["synthesis"], 256))
    filtered = postfilter(z, watch.forget, spec.hyper_parameters.get("threshold", 0.01))
    kept = [k for k in range(z.shape[1]) if k not in watch.forget]
    moved = (filtered[:, kept].softmax(1) - z[:, kept].softmax(1)).abs().max()
    return {"filter_conditional": float(moved), "filter_sum": float((filtered.sum(1) - z.sum(1)).abs().max())}


def _budget(spec: Spec) -> float:
    """Training-epoch equivalents: student steps, and as much again for generator and teacher; without reading the data."""
    if spec.method not in (*STRATEGIES, "gkt"):
        return method_epochs(spec)
    hp = spec.hyper_parameters
    steps = hp.get("epochs", 200) * hp.get("rounds", 5) * hp.get("student_steps", 10)
    if spec.method == "gkt":
        steps = hp.get("pseudo_batches", 4000) * hp.get("student_steps", 10)
    return 2.0 * steps * hp.get("batch_size", 256) / IMAGES.get(spec.data, 50_000)


STUDIES = {
    "unlearn": Study(unlearn, _budget),
    "longer": Study(unlearn, _budget),
    "threshold": Study(unlearn, _budget),
}
