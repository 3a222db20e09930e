"""The measurements of the LFSSD notebook: each study takes a spec and returns numbers, never a picture."""

from __future__ import annotations

import copy

import numpy as np
import torch

from ... import evaluation, metrics, models, reference, train
from ...access import Access
from ...evaluation import Outcome
from ...methods import METHODS
from ...methods.lfssd import dampen, importance, importances, selected
from ...models import head
from ...records import Spec
from ..studies import Study, images, method_epochs, relearn

KIND = {"lfssd": "l2", "ssd": "fisher"}
BINS = 36                       # of the importance density, per axis


def _pair(spec: Spec, **overrides):
    """(importance on D_f, importance on D) of the spec's method with its hyper-parameters."""
    model, _ = reference.trained(spec.original)
    params = {k: v for k, v in spec.hyper_parameters.items() if k not in ("alpha", "lam")} | overrides
    return importances(model, spec.split().access(), kind=KIND[spec.method], generator=spec.generator(), **params)


def _short(model, spec: Spec) -> dict:
    """The paper's two accuracies: class scenarios on test images; random: whole test set and forget samples (official code)."""
    s, d = spec.split(), spec.split().data
    z = train.logits(model, d.test_images)
    if s.kind == "random":
        forget = metrics.accuracy(train.logits(model, d.train_images[s.forget]), d.train_labels[s.forget])
        return {"D_r": metrics.accuracy(z, d.test_labels), "D_f": forget}
    hit = s.test_forget
    return {"D_r": metrics.accuracy(z[~hit], d.test_labels[~hit]), "D_f": metrics.accuracy(z[hit], d.test_labels[hit])}


def _share(mask: dict) -> float:
    return sum(int(m.sum()) for m in mask.values()) / sum(m.numel() for m in mask.values())


def alpha_curve(spec: Spec) -> Outcome:
    """One pair of importances, then every (alpha, lambda): share of weights selected, D_r, D_f."""
    model, _ = reference.trained(spec.original)
    hp = spec.settings
    forget, full = _pair(spec)
    rows = []
    for alpha in hp["alphas"]:
        for lam in hp["lams"]:
            edited = dampen(model, forget, full, alpha=alpha, lam=lam)
            rows.append({"alpha": alpha, "lam": lam, "selected": _share(selected(forget, full, alpha)), **_short(edited, spec)})
    s = spec.split()
    bound = (len(s.forget) + len(s.retain)) / len(s.forget)
    return Outcome({"bound": bound, "largest_ratio": _largest_ratio(forget, full)}, rows)


def _largest_ratio(forget, full) -> float:
    return max(float((f / d)[d > 0].max()) for f, d in zip(forget.values(), full.values(), strict=True) if (d > 0).any())


def sensitivity(spec: Spec) -> Outcome:
    """The hidden hyper-parameters: batch size and order of D, at fixed alpha."""
    model, _ = reference.trained(spec.original)
    hp, lam = spec.settings, spec.hyper_parameters["lam"]
    rows = []
    for size in hp["batch_sizes"]:
        for order in ("given",) if size == 1 else ("given", "shuffled"):
            forget, full = _pair(spec, batch_size=size, order=order)
            for alpha in hp["alphas"]:
                edited = dampen(model, forget, full, alpha=alpha, lam=lam)
                rows.append({"batch_size": size, "order": order, "alpha": alpha,
                             "selected": _share(selected(forget, full, alpha)), **_short(edited, spec)})
    return Outcome({}, rows)


def anatomy(spec: Spec) -> Outcome:
    """Which weights are selected: per tensor (rows ``layer``), and a density of log10 importances (rows ``density``)."""
    forget, full = _pair(spec)
    mask = selected(forget, full, spec.hyper_parameters["alpha"])
    rows = [{"row": "layer", "position": i, "layer": name, "weights": m.numel(), "selected": int(m.sum())}
            for i, (name, m) in enumerate(mask.items())]
    f = torch.cat([v.flatten() for v in forget.values()]).double().cpu().numpy()
    d = torch.cat([v.flatten() for v in full.values()]).double().cpu().numpy()
    seen = (f > 0) & (d > 0)
    x, y = np.log10(d[seen]), np.log10(f[seen])
    low = [np.floor(np.quantile(v, 0.002)) for v in (x, y)]
    high = [np.ceil(v.max() * 2) / 2 for v in (x, y)]
    edges = [np.linspace(a, b, BINS + 1) for a, b in zip(low, high, strict=True)]
    counts, *_ = np.histogram2d(x, y, bins=edges)
    width = [e[1] - e[0] for e in edges]
    rows += [{"row": "density", "log_full": edges[0][i] + width[0] / 2, "log_forget": edges[1][j] + width[1] / 2,
              "width_full": width[0], "width_forget": width[1], "count": int(counts[i, j])} for i, j in np.argwhere(counts > 0)]
    return Outcome({"selected": _share(mask), "never_used": float(1 - seen.mean()), "weights": len(f)}, rows)


def exact(spec: Spec) -> Outcome:
    """The claims that hold exactly or not at all, each tested on this seed's trained model. 1.0 = holds; differences as they are."""
    model, _ = reference.trained(spec.original)
    s, hp, options = spec.split(), spec.hyper_parameters, spec.settings
    alpha, lam, size = hp["alpha"], hp["lam"], hp["batch_size"]
    access, d = s.access(), s.data
    x_f, y_f, x_r, y_r = access.forget_images, access.forget_labels, access.retain_images, access.retain_labels
    everything, labels = torch.cat([x_r, x_f]), torch.cat([y_r, y_f])
    poison = (labels + 1) % len(d.class_names)
    forget, full = importances(model, access, kind="l2", batch_size=size)
    edited = dampen(model, forget, full, alpha=alpha, lam=lam)
    mask = selected(forget, full, alpha)
    before, after = dict(model.named_parameters()), dict(edited.named_parameters())
    few = options["per_sample_images"]                                               # per-sample passes are slow: on a part, D_f included
    part = torch.cat([x_r[:: max(1, len(x_r) // few)], x_f])
    f1, d1 = (importance(model, v, reduction="sample") for v in (x_f, part))
    bound = len(part) / len(x_f)
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for p in head(scaled).parameters():
            p.mul_(3.0)
    f3, d3 = importance(scaled, x_f, batch_size=size), importance(scaled, everything, batch_size=size)
    masks = [selected(forget, full, a) for a in sorted(options["alphas"])]
    out = {
        "label_free": _same(importance(model, everything, poison, batch_size=size), full),
        "ssd_reads_labels": 1.0 - _same(*(importance(model, everything, y, kind="fisher", batch_size=size) for y in (labels, poison))),
        "only_selected_change": float(all(torch.equal(before[n][~mask[n]], after[n][~mask[n]]) for n in mask)),
        "no_weight_grows": float(all((after[n].abs() <= before[n].abs()).all() for n in mask)),
        "no_sign_changes": float(all((after[n] * before[n] >= 0).all() for n in mask)),
        "bound_selects_nothing": 1.0 - float(_share(selected(f1, d1, bound * (1 + 1e-5))) > 0),
        "largest_ratio_over_bound": _largest_ratio(f1, d1) / bound,
        "nested": float(all((b[n] <= a[n]).all() for a, b in zip(masks, masks[1:], strict=False) for n in a)),
        "clamp_inert": _same(dict(dampen(model, forget, full, alpha=alpha, lam=alpha).named_parameters()),
                             {n: torch.where(mask[n], p * (alpha * full[n] / forget[n]), p) for n, p in before.items()}),
        "batch_of_one_difference": _relative(importance(model, x_f, batch_size=1), f1),
        "precomputed": _same(after, dict(_forget_later(model, x_f, full, alpha, lam, size).named_parameters())),
        "scale_changes_mask": sum(int((selected(f3, d3, alpha)[n] != mask[n]).sum()) for n in mask) / models.count_parameters(model),
        "repeat_identical": _same(importance(model, everything, batch_size=size), full),
    }
    return Outcome(out)


def _forget_later(model, forget_images, full, alpha, lam, size):
    """LFSSD when the retain data are gone and only their importance was kept."""
    return METHODS["lfssd"].run(model, Access(forget=(forget_images, None)), alpha=alpha, lam=lam, batch_size=size, full_importance=full)


def _same(a: dict, b: dict) -> float:
    return float(all(torch.equal(a[n], torch.nan_to_num(b[n])) for n in a))


def _relative(a: dict, b: dict) -> float:
    """Largest difference of two importances, relative to the largest importance of the tensor."""
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max().clamp(min=1e-30)) for n in a)


STUDIES = {
    "unlearn": Study(evaluation.unlearn, method_epochs),
    "alpha": Study(alpha_curve, lambda s: 1.1 + 0.1 * len(s.settings["alphas"]) * len(s.settings["lams"])),
    "sensitivity": Study(sensitivity, lambda s: 2.2 * len(s.settings["batch_sizes"])),
    "anatomy": Study(anatomy, lambda s: 1.1),
    "images": Study(images, lambda s: 2.0),
    "relearn": Study(relearn, lambda s: 3.0),
    "exact": Study(exact, lambda s: 10.0),
}
