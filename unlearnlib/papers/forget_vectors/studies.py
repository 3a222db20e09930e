"""The measurements of the Forget Vectors notebook: each study takes a spec and returns numbers, never a picture."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from ... import attacks, data, devices, evaluation, metrics, models, reference, saliency, shifts, train
from ...evaluation import Outcome
from ...files import once
from ...methods.forget_vectors import ForgetVector, compose
from ...records import Spec, canonical
from ..studies import Study, five, method_epochs, single_images

NOISE_SEED, SHIFT_SEED = 40_000, 50_000
UNCHANGED = ("original", "mask_logit", "random_output")     # no weight is trained
NOISE_DRAWS = 3                 # noise vectors of the same norm, averaged


def paper_metrics(z_train: Tensor, z_test: Tensor, s: data.Split) -> dict[str, float]:
    """TA and MIA-Efficacy as in the official code: both leave the test images of a forgotten class out.

    TA takes the place of ``acc_test`` (all test images), which it equals in the random scenario.
    """
    y, y_test, kept = s.data.train_labels.cpu(), s.data.test_labels.cpu(), ~s.test_forget.cpu()
    return {"acc_test": metrics.accuracy(z_test[kept], y_test[kept]),
            "mia_confidence": _attack(_p(z_train, y, s.retain.cpu()), _p(z_test, y_test, kept), _p(z_train, y, s.forget.cpu()))}


def _p(z: Tensor, labels: Tensor, which: Tensor) -> Tensor:
    return metrics.label_probability(z[which], labels[which])


def _attack(members: Tensor, nonmembers: Tensor, forget: Tensor) -> float:
    finite = all(bool(torch.isfinite(p).all()) for p in (members, nonmembers, forget))
    return attacks.confidence_svc(members, nonmembers, forget) if finite else float("nan")


def readout(z_train: Tensor, z_test: Tensor, s: data.Split) -> dict[str, float]:
    """What every study shows of a model: the paper's four numbers, accuracy on unseen images of the class, and the exact attack's AUC."""
    y, y_test, gone = s.data.train_labels.cpu(), s.data.test_labels.cpu(), s.test_forget.cpu()
    f, r = s.forget.cpu(), s.retain.cpu()
    unseen = gone if gone.any() else ~gone
    return {"acc_forget": metrics.accuracy(z_train[f], y[f]), "acc_retain": metrics.accuracy(z_train[r], y[r]),
            "acc_test_forget": metrics.accuracy(z_test[gone], y_test[gone]) if gone.any() else float("nan"),
            "auc_confidence": attacks.population(z_train[f], y[f], z_test[unseen], y_test[unseen])["auc_confidence"],
            **paper_metrics(z_train, z_test, s)}


def outputs(model: nn.Module, d: data.Data) -> tuple[Tensor, Tensor]:
    """Logits of the training and of the test images, on the CPU."""
    return train.logits(model, d.train_images).cpu(), train.logits(model, d.test_images).cpu()


@lru_cache(maxsize=64)
def _learned(spec: Spec) -> tuple[ForgetVector, dict]:
    def learn() -> bytes:
        model, timing = evaluation.apply(spec)
        buffer = io.BytesIO()
        torch.save({"delta": model.delta, "timing": timing}, buffer)
        return buffer.getvalue()
    saved = torch.load(io.BytesIO(once(spec.key, learn)), weights_only=True, map_location=devices.device())
    clamp = spec.hyper_parameters.get("clamp", False)
    return ForgetVector(reference.trained(spec.original)[0], saved["delta"], clamp=clamp).eval(), saved["timing"]


def learned(spec: Spec, scenario: str | None = None, **params) -> tuple[ForgetVector, dict]:
    """The forget vector of a scenario at the spec's data, network and seed, and its cost; learned once a run, for all studies."""
    return _learned(replace(spec, study="unlearn", method="forget_vector", scenario=scenario or spec.scenario, params=canonical(params),
                            options="{}", version=""))


def class_vectors(spec: Spec, settings: dict) -> tuple[Tensor, float]:
    """The vectors of all classes ``(K, *image)``, and what they cost together in training-epoch equivalents."""
    found = [learned(spec, f"class:{c}", **settings) for c in range(len(spec.split().data.class_names))]
    return torch.stack([model.delta for model, _ in found]), sum(timing["epochs"] for _, timing in found)


def applied(spec: Spec) -> tuple[nn.Module, dict]:
    """The unlearned model of any spec of the paper, and its cost; that of a composed vector is the search for its weights alone."""
    if spec.method == "forget_vector":
        return learned(spec, **spec.hyper_parameters)
    if spec.method != "forget_vector_composed":
        return evaluation.apply(spec)
    vectors, before = class_vectors(spec, spec.settings["class_settings"])
    model, timing = evaluation.apply(spec, vectors=vectors)
    return model, timing | {"epochs_vectors": before}


def unlearn(spec: Spec) -> Outcome:
    """The standard run; of a vector also its norm, its pixels, and of a composed one its weights and two mixes that nobody learned."""
    model, timing = applied(spec)
    before = timing.get("epochs_vectors", 0.0)
    out, rows = evaluation.measure(model, spec, also=paper_metrics), []
    trained = None if spec.method in UNCHANGED else models.head(model) if spec.method == "head_only" else model
    out["trainables"] = models.count_parameters(trained) if trained else 0
    if isinstance(model, ForgetVector):
        weights = getattr(model, "weights", None)
        out |= {"norm": float(model.delta.norm()), "largest": float(model.delta.abs().max()), "epochs_vectors": before,
                "trainables": model.delta.numel() if weights is None else len(weights)}
        rows.append({"row": "delta", "pixels": json.dumps([round(v, 3) for v in model.delta.flatten().tolist()]),
                     "shape": "x".join(map(str, model.delta.shape))})
        if weights is not None:
            rows += [{"row": "weight", "class": k, "w": float(w)} for k, w in enumerate(weights)] + _mixes(spec)
    if spec.settings.get("images"):
        rows += single_images(spec, model)
    return Outcome(out, rows, {k: v for k, v in timing.items() if k != "epochs_vectors"})


def _mixes(spec: Spec) -> list[dict]:
    """Equal weights, without any search: their mean (1/K) and their sum (1)."""
    vectors, _ = class_vectors(spec, spec.settings["class_settings"])
    out = []
    for name, w in (("mean (w = 1/K)", 1 / len(vectors)), ("sum (w = 1)", 1.0)):
        mixed = ForgetVector(reference.trained(spec.original)[0], compose(vectors, torch.full((len(vectors),), w).to(vectors)))
        out.append({"row": "mix", "mix": name, **readout(*outputs(mixed, spec.split().data), spec.split())})
    return out


def controls(spec: Spec) -> Outcome:
    """The answer to the critics: the same vector removed, replaced by noise, on fewer inputs, clamped, and learned without D_r."""
    s, d, f = spec.split(), spec.split().data, spec.split().forget.cpu()
    vector, original = learned(spec, **spec.hyper_parameters)[0], reference.trained(spec.original)[0]
    with_it, clean = outputs(vector, d), outputs(original, d)
    rows = {"as in the paper": readout(*with_it, s), "vector removed": readout(*clean, s)}
    g = torch.Generator().manual_seed(NOISE_SEED + spec.seed)
    draws = [torch.randn(vector.delta.shape, generator=g).to(vector.delta) for _ in range(NOISE_DRAWS)]
    noisy = [readout(*outputs(ForgetVector(original, n * vector.delta.norm() / n.norm()), d), s) for n in draws]
    rows["noise of the same norm"] = {k: sum(v[k] for v in noisy) / len(noisy) for k in noisy[0]}
    only = clean[0].clone()
    only[f] = with_it[0][f]
    rows["on the forget set alone"] = readout(only, clean[1], s)
    rows["attack fitted to clean images"] = rows["as in the paper"] | {
        k: rows["on the forget set alone"][k] for k in ("mia_confidence", "auc_confidence")}
    rows["pixels clamped to [0, 1]"] = readout(*outputs(ForgetVector(original, vector.delta, clamp=True), d), s)
    rows["learned without retain loss"] = readout(*outputs(learned(spec, **spec.hyper_parameters | {"alpha": 0})[0], d), s)
    return Outcome({"norm": float(vector.delta.norm())}, [{"row": "control", "control": k, **v} for k, v in rows.items()])


def sweep(spec: Spec) -> Outcome:
    """One hyper-parameter of the vector turned, all others as tuned."""
    s, (name, values) = spec.split(), next(iter(spec.settings.items()))
    rows = []
    for value in values:
        model, _ = learned(spec, **spec.hyper_parameters | {name: value})
        rows.append({"row": "sweep", "value": value, "norm": float(model.delta.norm()), **readout(*outputs(model, s.data), s)})
    return Outcome({}, rows)


def shift(spec: Spec) -> Outcome:
    """A model on shifted images, training and test alike: the attack is fitted to shifted ones, too. Strengths from the options."""
    s, d, o = spec.split(), spec.split().data, spec.settings
    model = applied(spec)[0]
    g = torch.Generator().manual_seed(SHIFT_SEED + spec.seed)
    kinds = [("none", "", lambda x, y: x)]
    kinds += [("Gaussian noise", f"σ {v:g}", lambda x, y, v=v: shifts.gaussian_noise(x, v, generator=g)) for v in o["gaussian"]]
    kinds += [("elastic", f"jitter {v[2]:g}", lambda x, y, v=v: shifts.elastic(x, *v, generator=g)) for v in o["elastic"]]
    kinds += [("PGD", f"ε {v:g}", lambda x, y, v=v: shifts.pgd(model, x, y, generator=g, epsilon=v, step=v / 4, steps=o["steps"]))
              for v in o["pgd"]]
    rows = []
    for kind, strength, moved in kinds:
        shifted = replace(d, train_images=moved(d.train_images, d.train_labels), test_images=moved(d.test_images, d.test_labels))
        rows.append({"row": "shift", "shift": kind, "strength": strength, **readout(*outputs(model, shifted), s)})
    return Outcome({}, rows)


def arithmetic(spec: Spec) -> Outcome:
    """Vectors of all classes: accuracy of class j under vector i (training and test), and the plane of two of them."""
    s, d, o = spec.split(), spec.split().data, spec.settings
    vectors, _ = class_vectors(spec, spec.hyper_parameters)
    original = reference.trained(spec.original)[0]
    rows = []
    for i, delta in enumerate([torch.zeros_like(vectors[0]), *vectors], start=-1):      # -1: no vector
        z_train, z_test = outputs(ForgetVector(original, delta), d)
        rows += [{"row": "cross", "vector": i, "class": c, "acc_train": _of_class(z_train, d.train_labels, c),
                  "acc_test": _of_class(z_test, d.test_labels, c)} for c in range(len(vectors))]
    a, b = o["pair"]
    y = d.train_labels.cpu()
    for w1 in o["weights"]:
        for w2 in o["weights"]:
            z = train.logits(ForgetVector(original, w1 * vectors[a] + w2 * vectors[b]), d.train_images).cpu()
            rest = (y != a) & (y != b)
            rows.append({"row": "plane", "w1": w1, "w2": w2, "acc_1": _of_class(z, y, a), "acc_2": _of_class(z, y, b),
                         "acc_rest": metrics.accuracy(z[rest], y[rest])})
    cosine = torch.nn.functional.normalize(vectors.flatten(1), dim=1)
    rows += [{"row": "angle", "vector": i, "class": j, "cosine": float(v)} for i, line in enumerate(cosine @ cosine.T)
             for j, v in enumerate(line)]
    return Outcome({"n_forget": len(s.forget)}, rows)


def _of_class(z: Tensor, labels: Tensor, c: int) -> float:
    hit = labels.cpu() == c
    return metrics.accuracy(z[hit], labels.cpu()[hit])


def cam(spec: Spec) -> Outcome:
    """Grad-CAM of the true label under original, retrained and with the vector: correlation with the original's map, and five maps."""
    s, d, o = spec.split(), spec.split().data, spec.settings
    named = {"original": reference.trained(spec.original)[0], "forget_vector": learned(spec, **spec.hyper_parameters)[0],
             "retrain": reference.trained(spec.retrained)[0]}
    rows = []
    for part, index in (("forget", s.forget), ("retain", s.retain)):
        index = index[:: -(-len(index) // o["images"])]
        maps = {n: saliency.grad_cam(m, d.train_images[index], d.train_labels[index], side=o["side"]) for n, m in named.items()}
        for name in ("forget_vector", "retrain"):
            r = saliency.map_correlation(maps["original"], maps[name])
            rows.append({"row": "correlation", "model": name, "part": part, "correlation": float(r.nanmean()), "images": len(index)})
    for role, part, index in five(spec):
        x, y = ((d.train_images, d.train_labels) if part == "train" else (d.test_images, d.test_labels))
        for name, model in named.items():
            one = saliency.grad_cam(model, x[index:index + 1], y[index:index + 1], side=o["side"])[0].clamp(min=0)
            guess = int(train.logits(model, x[index:index + 1]).argmax())
            rows.append({"row": "map", "model": name, "role": role, "part": part, "image": index, "label": int(y[index]),
                         "predicted": guess, "map": json.dumps([[round(v, 3) for v in line] for line in one.tolist()])})
    return Outcome({}, rows)


def _budget(spec: Spec) -> float:
    """Training-epoch equivalents, the vectors of all classes included where they are needed first."""
    hp = spec.hyper_parameters
    if spec.method == "forget_vector_composed":
        return hp.get("epochs", 10) + 10.0 * spec.settings["class_settings"]["epochs"]
    return float(hp["epochs"]) if "epochs" in hp else method_epochs(spec)


STUDIES = {
    "unlearn": Study(unlearn, _budget),
    "controls": Study(controls, lambda s: 2 * _budget(s)),
    "beta": Study(sweep, lambda s: len(s.settings["beta"]) * _budget(s)),
    "tau": Study(sweep, lambda s: len(s.settings["tau"]) * _budget(s)),
    "shift": Study(shift, lambda s: 12 + _budget(s)),
    "arithmetic": Study(arithmetic, lambda s: 12 * _budget(s)),
    "saliency": Study(cam, lambda s: 2 + _budget(s)),
}
