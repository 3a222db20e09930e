"""Measurements that more than one paper makes: single images, relearning. Each takes a spec and returns numbers, never a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .. import attacks, evaluation, metrics, reference, train
from ..evaluation import Outcome
from ..records import Spec


@dataclass(frozen=True)
class Study:
    """One kind of measurement: its function, what it is likely to cost in training epochs, and the version of its results."""

    function: object
    epochs: object
    version: int = 1


def method_epochs(spec: Spec) -> float:
    if spec.method in ("original", "retrain", "mask_logit", "random_output"):
        return 0.0
    hp = spec.hyper_parameters
    return float(hp.get("epochs", 1)) if "alpha" not in hp else 1.1


def images(spec: Spec) -> Outcome:
    """Apply the spec's method, then :func:`single_images`."""
    return Outcome({}, single_images(spec, evaluation.apply(spec)[0]))


def single_images(spec: Spec, unlearned: nn.Module) -> list[dict]:
    """Single images under original, unlearned and retrained: all forgotten ones (``forgotten``), and five by rule (``strip``).

    Texts are kept with their words, which depend on the installed corpus: a replayed notebook shows what was computed.
    """
    s, d = spec.split(), spec.split().data
    named = {"original": reference.trained(spec.original)[0], spec.method: unlearned,
             "retrain": reference.trained(spec.retrained)[0]}
    chosen = five(spec)
    rows = []
    for name, model in named.items():
        z_train, z_test = train.logits(model, d.train_images), train.logits(model, d.test_images)
        z, y = z_train[s.forget], d.train_labels[s.forget]
        for i, p, phi, guess in zip(s.forget.tolist(), metrics.label_probability(z, y).tolist(), metrics.logit_confidence(z, y).tolist(),
                                    z.argmax(1).tolist(), strict=True):
            rows.append({"row": "forgotten", "model": name, "image": i, "p_label": p, "confidence": phi, "predicted": guess})
        for role, part, index in chosen:
            z, y = (z_train, d.train_labels) if part == "train" else (z_test, d.test_labels)
            q = z[index].softmax(0)
            rows.append({"row": "strip", "model": name, "role": role, "part": part, "image": index, "label": int(y[index]),
                         "p_label": float(q[y[index]]), "predicted": int(q.argmax()), "p_predicted": float(q.max())})
            if d.words:
                x = (d.train_images if part == "train" else d.test_images)[index]
                rows[-1] |= {"text": d.read(x), "name": d.class_names[int(y[index])]}
    return rows


def role_shown(role: str) -> str:
    """A role of :func:`five` in words: "held out" there is the test half, which no method sees, not the half that ∇τ may use."""
    return role.replace("held out", "test")


def five(spec: Spec) -> list[tuple[str, str, int]]:
    """Five images, chosen by rule on the original model alone: (role, "train" or "test", index)."""
    s, job = spec.split(), spec.original
    z_train, z_test = (reference.outputs(job, part).cpu() for part in ("train", "test"))
    y, y_test, forget, retain = (v.cpu() for v in (s.data.train_labels, s.data.test_labels, s.forget, s.retain))
    p, unseen = metrics.label_probability(z_train, y), metrics.label_probability(z_test, y_test)
    out = [("forget, surest", "train", int(forget[p[forget].argmax()])), ("forget, least sure", "train", int(forget[p[forget].argmin()]))]
    if s.kind == "random":
        return out + [("held out, surest", "test", int(unseen.argmax())), ("kept, surest", "train", int(retain[p[retain].argmax()])),
                      ("kept, least sure", "train", int(retain[p[retain].argmin()]))]
    held_out = s.test_forget.cpu().nonzero().flatten()
    out.append(("held out, same class", "test", int(held_out[unseen[held_out].argmax()])))
    mass = z_train[forget].softmax(1).mean(0)                                   # where the forget class's probability leaks to
    others = [c for c in range(len(mass)) if c not in s.forget_classes]
    for role, c in (("kept, most confused class", max(others, key=lambda c: mass[c])),
                    ("kept, least confused class", min(others, key=lambda c: mass[c]))):
        members = retain[y[retain] == c]
        out.append((role, "train", int(members[p[members].argmax()])))
    return out


def relearn(spec: Spec) -> Outcome:
    """Apply the spec's method, then :func:`relearning` with the spec's settings."""
    return Outcome(*relearning(spec, evaluation.apply(spec)[0], spec.settings))


def relearning(spec: Spec, model: nn.Module, settings: dict) -> tuple[dict, list[dict]]:
    """Try to undo it: forget accuracy after each mini-batch of relearning D_f; ``batches`` until 95 % of the original's."""
    s, d = spec.split(), spec.split().data
    x, y = d.train_images[s.forget], d.train_labels[s.forget]
    target = 0.95 * metrics.accuracy(reference.outputs(spec.original, "train")[s.forget], y)
    curve = attacks.relearn(model, x, y, generator=torch.Generator().manual_seed(spec.seed), **settings)
    rows = [{"batch": i, "acc_forget": a} for i, a in enumerate(curve)]
    return {"batches": attacks.batches_until(curve, target), "target": target}, rows
