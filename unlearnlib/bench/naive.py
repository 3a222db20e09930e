"""The forms that a user would otherwise run, after the published notebooks and scripts: same results, written for this benchmark."""

from __future__ import annotations

import copy

import numpy as np
import torch
from sklearn.svm import SVC
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from .. import metrics, models, train
from ..access import Access
from ..filtering import postfilter
from ..methods.forget_vectors import margin_loss
from ..methods.nabla_tau import schedule
from ..synthesis import Generator, adversarial_loss, balance_loss, batchnorm_statistics_loss, one_hot_loss, taps


def importance(model: nn.Module, images: Tensor, batch_size: int) -> dict:
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


def evaluation(model: nn.Module, images: Tensor, labels: Tensor) -> tuple:
    """The form of the published evaluations: a pass at batch size 1 for each metric."""
    out = []
    for metric in (metrics.accuracy, lambda z, y: metrics.entropy(z), metrics.cross_entropy, metrics.logit_confidence):
        z = torch.cat([train.logits(model, x[None]) for x in images])
        out.append(metric(z, labels))
    return tuple(out)


def distillation_epoch(model: nn.Module, classes: list[int], *, generator: torch.Generator, rounds: int, batch_size: int,
                       image_shape: tuple, latent: int, widths: tuple) -> nn.Module:
    """One epoch of ISPF in the form of the published code: nothing is frozen, the teacher runs twice a student step, hooks always."""
    teacher = copy.deepcopy(model).eval()
    first, second = torch.randint(2 ** 31, (2,), generator=generator).tolist()
    student = models.reinitialise(copy.deepcopy(model), first)
    with models.seeded(second):
        synthesis = Generator(image_shape, latent=latent, widths=widths).to(next(model.parameters()).device)
    adam = torch.optim.Adam(synthesis.parameters(), lr=1e-3, betas=(0.5, 0.999))
    sgd = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for _ in range(rounds):
        synthesis.train(), student.eval()
        with taps(teacher, nn.BatchNorm2d) as seen:
            x = synthesis.draw(batch_size, generator)
            t = teacher(x)
        loss = batchnorm_statistics_loss(seen) + one_hot_loss(t) + balance_loss(t) + adversarial_loss(t, student(x), classes)
        adam.zero_grad()
        loss.backward()
        adam.step()
        synthesis.eval(), student.train()
        for _ in range(10):
            with torch.no_grad(), taps(teacher, nn.BatchNorm2d):
                x = synthesis.draw(batch_size, generator)
                kept = teacher(x).isfinite().all(1)                             # the pass that selects rows; ISPF keeps all
                t = postfilter(teacher(x[kept]), classes)
            loss = train.distillation(student(x[kept]), t)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
    return student.eval()


def vector_epoch(model: nn.Module, access: Access, *, generator: torch.Generator, beta: float, batch_size: int) -> Tensor:
    """One epoch of a forget vector with a gradient for every weight too, and a pass for each of the two losses."""
    model = copy.deepcopy(model).eval()
    images = torch.cat([access.forget_images, access.retain_images])
    labels = torch.cat([access.forget_labels, access.retain_labels])
    delta = torch.zeros(images.shape[1:], device=images.device, requires_grad=True)
    sgd = torch.optim.SGD([delta], lr=0.2, momentum=0.9, weight_decay=5e-4)
    for batch in torch.randperm(len(images), generator=generator).split(batch_size):
        forget = batch < len(access.forget_images)
        f, r = batch[forget], batch[~forget]
        loss = nn.functional.cross_entropy(model(images[r] + delta), labels[r], reduction="sum")
        loss = (loss + beta * margin_loss(model(images[f] + delta), labels[f], 1.0).sum() + delta.norm()) / len(batch)
        model.zero_grad(set_to_none=True), sgd.zero_grad()
        loss.backward()
        sgd.step()
    return delta.detach()


def nabla_tau(model: nn.Module, access: Access, *, generator: torch.Generator, batch_size: int, max_epochs: int) -> nn.Module:
    """∇τ in the form of the published notebooks: loaders that collate image by image, every fifth epoch three passes over the held-out
    data (mean, variance and skewness of the loss; the mean alone is used), the same moments of every forget batch.

    Left out, as it is evaluation: their readouts of attack and accuracy before every epoch. Batches come in our order, from main memory.
    """
    student = copy.deepcopy(model).eval()
    device = next(student.parameters()).device
    forget, retain, unseen = ([part.cpu() for part in pair] for pair in (
        (access.forget_images, access.forget_labels), (access.retain_images, access.retain_labels), access.held_out))
    alpha, epochs, _ = schedule(len(forget[0]), len(retain[0]), batch_size=batch_size, max_epochs=max_epochs)
    pairs = list(train.batch_pairs(len(forget[0]), len(retain[0]), batch_size, epochs, generator))
    batches = zip(_loader(*forget, [f for _, f, _ in pairs]), _loader(*retain, [r for _, _, r in pairs]), strict=True)
    held_out = DataLoader(TensorDataset(*unseen), batch_size=batch_size)
    criterion = nn.CrossEntropyLoss(reduction="none")
    adam = torch.optim.AdamW(student.parameters(), lr=1e-3)
    falling = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.1, total_iters=epochs)

    def average(power: float, mean: float) -> float:
        total = 0.0
        with torch.no_grad():
            for x, y in held_out:
                total += float(((criterion(student(x.to(device)), y.to(device)) - mean) ** power).sum())
        return total / len(held_out.dataset)

    for epoch in range(epochs):
        if epoch % 5 == 0:
            tau = average(1, 0.0)
            variance = average(2, tau)
            skewness = average(3, tau) / variance ** 1.5
        for _ in range(len(pairs) // epochs):
            (x_f, y_f), (x_r, y_r) = next(batches)
            student.zero_grad()
            losses = criterion(student(x_f.to(device)), y_f.to(device))
            kept = criterion(student(x_r.to(device)), y_r.to(device)).mean()
            mean = losses.mean()
            spread = ((losses - mean) ** 2).mean()
            _ = variance - spread, skewness - ((losses - mean) ** 3).mean() / spread ** 1.5
            (alpha * (1 - epoch / epochs) * nn.functional.relu(tau - mean) ** 2 + (1 - alpha * (1 - epoch / epochs)) * kept).backward()
            adam.step()
        falling.step()
    return student


def _loader(images: Tensor, labels: Tensor, batches: list[Tensor]) -> DataLoader:
    return DataLoader(TensorDataset(images, labels), batch_sampler=[batch.tolist() for batch in batches])


def svc(members: np.ndarray, others: np.ndarray) -> float:
    """Balanced accuracy, in [0, 1], of a support vector machine on one score, on the scores that it was fitted to."""
    classifier = SVC(C=3, gamma="auto", kernel="rbf", class_weight="balanced")
    x, y = np.concatenate([members, others])[:, None], np.repeat([1, 0], [len(members), len(others)])
    called = classifier.fit(x, y).predict(x)
    return float((called[y == 1].mean() + 1 - called[y == 0].mean()) / 2)
