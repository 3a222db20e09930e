"""How fast, against what a user would run instead: ratios within one run, medians of repeats, committed with their environment."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from sklearn.svm import SVC

from . import attacks, data, metrics, models, plots, records, train
from .filtering import postfilter
from .methods import METHODS
from .methods.forget_vectors import margin_loss
from .methods.lfssd import importance, importances
from .synthesis import Generator, adversarial_loss, balance_loss, batchnorm_statistics_loss, one_hot_loss, taps

REPEATS = 5
SCORES = (40_000, 10_000)       # members and non-members of the attack row


def plain_importance(model: torch.nn.Module, images: torch.Tensor, batch_size: int) -> dict:
    """The form of the published code: backward into .grad, a clone of every gradient, one dictionary more."""
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = images.split(batch_size)
    for x in batches:
        optimiser.zero_grad()
        (torch.norm(model(x), p=2, dim=1) ** 2).mean().backward()
        for n, p in model.named_parameters():
            total[n] += p.grad.detach().clone().abs()
    return {n: v / len(batches) for n, v in total.items()}


def one_metric_at_a_time(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple:
    """The form of the published evaluations: a pass at batch size 1 for each metric."""
    out = []
    for metric in (metrics.accuracy, lambda z, y: metrics.entropy(z), metrics.cross_entropy, metrics.logit_confidence):
        z = torch.cat([train.logits(model, x[None]) for x in images])
        out.append(metric(z, labels))
    return tuple(out)


def one_pass(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple:
    z = train.logits(model, images)
    return metrics.accuracy(z, labels), metrics.entropy(z), metrics.cross_entropy(z, labels), metrics.logit_confidence(z, labels)


def naive_distillation(model: torch.nn.Module, classes: list[int], *, generator: torch.Generator, rounds: int, batch_size: int,
                       image_shape: tuple, latent: int, widths: tuple) -> torch.nn.Module:
    """One epoch of ISPF in the form of the published code: nothing is frozen, the teacher runs twice a student step, hooks always."""
    teacher = copy.deepcopy(model).eval()
    first, second = torch.randint(2 ** 31, (2,), generator=generator).tolist()
    student = models.reinitialise(copy.deepcopy(model), first)
    with models.seeded(second):
        synthesis = Generator(image_shape, latent=latent, widths=widths)
    adam = torch.optim.Adam(synthesis.parameters(), lr=1e-3, betas=(0.5, 0.999))
    sgd = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for _ in range(rounds):
        synthesis.train(), student.eval()
        with taps(teacher, torch.nn.BatchNorm2d) as seen:
            x = synthesis.draw(batch_size, generator)
            t = teacher(x)
        loss = batchnorm_statistics_loss(seen) + one_hot_loss(t) + balance_loss(t) + adversarial_loss(t, student(x), classes)
        adam.zero_grad()
        loss.backward()
        adam.step()
        synthesis.eval(), student.train()
        for _ in range(10):
            with torch.no_grad(), taps(teacher, torch.nn.BatchNorm2d):
                x = synthesis.draw(batch_size, generator)
                kept = teacher(x).isfinite().all(1)                             # the pass that selects rows; ISPF keeps all
                t = postfilter(teacher(x[kept]), classes)
            loss = train.distillation(student(x[kept]), t)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
    return student.eval()


def naive_vector(model: torch.nn.Module, access, *, generator: torch.Generator, beta: float, batch_size: int) -> torch.Tensor:
    """One epoch of a forget vector with a gradient for every weight too, and a pass for each of the two losses."""
    model = copy.deepcopy(model).eval()
    images = torch.cat([access.forget_images, access.retain_images])
    labels = torch.cat([access.forget_labels, access.retain_labels])
    delta = torch.zeros(images.shape[1:], requires_grad=True)
    sgd = torch.optim.SGD([delta], lr=0.2, momentum=0.9, weight_decay=5e-4)
    for batch in torch.randperm(len(images), generator=generator).split(batch_size):
        forget = batch < len(access.forget_images)
        f, r = batch[forget], batch[~forget]
        loss = torch.nn.functional.cross_entropy(model(images[r] + delta), labels[r], reduction="sum")
        loss = (loss + beta * margin_loss(model(images[f] + delta), labels[f], 1.0).sum() + delta.norm()) / len(batch)
        model.zero_grad(set_to_none=True), sgd.zero_grad()
        loss.backward()
        sgd.step()
    return delta.detach()


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def compare(row: str, ours: Callable, other: Callable, against: str, repeats: int = REPEATS) -> dict:
    """Both forms in turn, after one unmeasured call each; the ratio is of medians: above 1 means that ours is faster."""
    ours(), other()
    times = np.array([[seconds(ours), seconds(other)] for _ in range(repeats)])
    mine, theirs = np.median(times, axis=0)
    return {"row": row, "against": against, "ours_seconds": mine, "other_seconds": theirs, "ratio": theirs / mine, "repeats": repeats}


def rows(repeats: int = REPEATS, scores: tuple[int, int] = SCORES) -> list[dict]:
    d = data.load("digits")
    s = data.split(d, "class:8")
    model = models.build("allcnn-16", d, 0).eval()
    access = s.access()
    everything = torch.cat([access.retain_images, access.forget_images])
    full = importance(model, everything)
    few = everything[:256]
    rng = np.random.default_rng(0)
    distil = {"rounds": 5, "batch_size": 64, "image_shape": (1, 8, 8), "latent": 64, "widths": (64, 32, 16)}

    def ispf_epoch() -> torch.nn.Module:
        return METHODS["ispf"].run(model, access, generator=torch.Generator().manual_seed(0), epochs=1, warmup=0, **distil)

    def naive_epoch() -> torch.nn.Module:
        return naive_distillation(model, access.forget_classes, generator=torch.Generator().manual_seed(0), **distil)

    vector = {"beta": 5.0, "batch_size": 64}
    members, others = rng.normal(1.0, 1.0, scores[0]), rng.normal(0.0, 1.0, scores[1])

    def svc() -> float:
        classifier = SVC(C=3, gamma="auto", kernel="rbf", class_weight="balanced")
        x, y = np.concatenate([members, others])[:, None], np.repeat([1, 0], scores)
        return classifier.fit(x, y).score(x, y)

    return [
        compare("LFSSD importances, both passes", lambda: importances(model, access, kind="l2"),
                lambda: [plain_importance(model, x, 64) for x in (access.forget_images, everything)], "plain loop", repeats),
        compare("LFSSD with the importance of D kept", lambda: importances(model, access, kind="l2", full_importance=full),
                lambda: importances(model, access, kind="l2"), "both passes", repeats),
        compare("per-sample importance", lambda: importance(model, few, reduction="sample", chunk=32),
                lambda: importance(model, few, reduction="sample"), "one backward per image", repeats),
        compare(f"membership attack on {scores[0]:,} + {scores[1]:,} scores", lambda: attacks.best_threshold(members, others),
                svc, "RBF SVC", repeats),
        compare("evaluation, four metrics", lambda: one_pass(model, d.test_images, d.test_labels),
                lambda: one_metric_at_a_time(model, d.test_images, d.test_labels), "one pass per metric at batch size 1", repeats),
        compare("ISPF, an epoch", ispf_epoch, naive_epoch, "nothing frozen, teacher twice", repeats),
        compare("forget vector, an epoch",
                lambda: METHODS["forget_vector"].run(model, access, generator=torch.Generator().manual_seed(0), epochs=1, **vector),
                lambda: naive_vector(model, access, generator=torch.Generator().manual_seed(0), **vector),
                "nothing frozen, two passes", repeats),
    ]


def main() -> None:
    """Measure every row and write ``figures/bench/``: records (JSON lines with the environment), table and figure."""
    print("Timing seven rows; the attack's SVC alone takes several minutes.", flush=True)
    done = rows()
    table = pd.DataFrame(done)
    print(table.to_markdown(index=False, floatfmt=".4g"))
    folder = records.figures_root() / "bench"
    lines = [records.canonical(row | {"environment": records.environment()}) for row in done]
    records.write(folder / "bench.jsonl", "".join(line + "\n" for line in lines).encode())
    records.write(folder / "bench.md", (table.to_markdown(index=False, floatfmt=".4g") + "\n").encode())
    draw(table).save(folder)


def draw(table: pd.DataFrame) -> plots.Drawn:
    """One bar a row: how many times faster ours is (left of 1: slower)."""
    figure, axes = plots.panels(1, width=9, height=3.4)
    ax = axes[0, 0]
    ax.barh(range(len(table)), table.ratio, color=plots.STYLE["lfssd"][1], alpha=0.85)
    for y, row in enumerate(table.itertuples()):
        times = f"{row.ratio:,.{0 if row.ratio > 100 else 2}f}"
        ax.text(max(row.ratio, 1) * 1.15, y, f"{times} times, against {row.against}", va="center", fontsize=9)
    ax.set_yticks(range(len(table)), table.row, fontsize=9)
    ax.invert_yaxis()
    ax.set(xscale="log", xlim=(0.3, table.ratio.max() * 3000), xlabel="times faster (1 = equal)", title="Ours against the usual form")
    ax.axvline(1, color="black", linewidth=1)
    e = records.environment()
    plots.stamp(figure, f"medians of {table.repeats.iloc[0]} | {e['device']} | torch {e['torch']} | commit {e['commit']}")
    return plots.Drawn("bench", figure, table)
