"""The one training loop, and the one way to get logits."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .data import move, moves
from .devices import compiled, layout
from .files import DamagedFile, set_aside, write

Callback = Callable[..., None]
BATCH_SIZE = 64             # where neither method nor recipe names one
SAVE_EVERY = 30.0           # seconds between two resume points of a long training


def learning_rate(step: int, steps: int, epoch_steps: int, *, lr: float, schedule: str, milestones=(), gamma: float = 0.2,
                  warmup_epochs: int = 0) -> float:
    """Learning rate of optimiser step ``step`` (0-based).

    ``constant``; ``onecycle``: linear up over the first 30 % of the steps, then cosine to 0; ``triangle``: linear up over the first
    20 %, then linear to 0, which the step after the last would have; ``multistep``: times ``gamma`` at each epoch (1-based) of
    ``milestones``; ``linear``: epoch by epoch towards ``gamma`` times ``lr``, which the epoch after the last would have. Linear
    warm-up from 0 over ``warmup_epochs`` precedes all but onecycle and triangle.
    """
    if schedule == "triangle":
        rise = 0.2 * steps
        return lr * ((step + 1) / math.ceil(rise) if step < rise else (steps - step) / (steps - rise))
    if schedule == "onecycle":
        rise = 0.3 * steps
        if step < rise:
            return lr * (step + 1) / math.ceil(rise)
        return lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))
    if schedule not in ("constant", "linear", "multistep"):
        raise ValueError(f"schedule is {schedule!r}; it must be constant, linear, multistep, onecycle or triangle: correct the recipe.")
    warm = warmup_epochs * epoch_steps
    if step < warm:
        return lr * (step + 1) / warm
    epoch = step // epoch_steps + 1
    if schedule == "linear":
        return lr * (1 + (gamma - 1) * (epoch - 1) * epoch_steps / steps)
    return lr * gamma ** sum(epoch >= m for m in milestones) if schedule == "multistep" else lr


def task_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of logits ``(n, classes)``: cross-entropy for class ids or probabilities; for several labels a sample
    (``(n, classes)`` bool) binary cross-entropy, averaged over the labels too."""
    if targets.dtype == torch.bool:
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))
    return F.cross_entropy(outputs, targets)


def distillation(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``T**2 KL(teacher || student)`` of softened predictions, mean over the batch: logits ``(n, classes)`` in, a scalar out."""
    return temperature ** 2 * F.kl_div((student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1), log_target=True,
                                       reduction="batchmean")


def optimizer_of(name: str, parameters, lr: float, momentum: float, weight_decay: float, nesterov: bool = False) -> torch.optim.Optimizer:
    if nesterov and (name != "sgd" or momentum <= 0):
        raise ValueError(f"nesterov is True with {name} and momentum {momentum:g}; it must be False, or go with sgd and a momentum above "
                         "0: correct the recipe.")
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    raise ValueError(f"optimizer is {name!r}; it must be sgd, adam or adamw: correct the recipe.")


def check_choice(name: str, value, allowed: tuple[str, ...]) -> None:
    """Raise ValueError, in one sentence, for a value that is none of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}: choose, for example, {name}={allowed[0]!r}.")


def check_mode(name: str, mode: str) -> None:
    """Raise ValueError, in one sentence, for a mode of BatchNorm that is neither train nor eval."""
    if mode not in ("train", "eval"):
        raise ValueError(f"{name} is {mode!r}; it must be train or eval: eval keeps the running statistics as they are.")


def check_sets(n_forget: int, n_retain: int) -> None:
    """Raise ValueError, in one sentence, for an empty forget or retain set."""
    if min(n_forget, n_retain) < 1:
        raise ValueError(f"there are {n_forget} forget and {n_retain} retain samples; both must be at least 1: pass non-empty sets.")


def fit(model: nn.Module, images: Tensor, targets: Tensor, *, generator: torch.Generator, epochs: int, lr: float,
        batch_size: int = BATCH_SIZE, optimizer: str = "sgd", momentum: float = 0.9, weight_decay: float = 0.0,
        schedule: str = "constant", milestones=(), gamma: float = 0.2, warmup_epochs: int = 0, augment: bool = False,
        batchnorm: str = "train", bf16: bool = False, nesterov: bool = False, decay_norms: bool = True,
        loss: Callable[[Tensor, Tensor], Tensor] = task_loss, penalty: Callable[[int], Tensor] | None = None,
        callback: Callback | None = None, resume: Path | None = None) -> nn.Module:
    """Train ``model`` in place by mini-batch descent on ``loss(model(images), targets)`` and return it in evaluation mode.

    Parameters
    ----------
    images, targets: ``(n, ...)`` tensors; a batch of targets is handed to ``loss`` as it is (class ids, probabilities, ...).
    generator: a CPU generator; it alone decides the order of the samples and the augmentation.
    schedule, milestones, gamma, warmup_epochs: see :func:`learning_rate`.
    batchnorm: "train", or "eval": the running statistics stay as they are (fine-tuning), and dropout is off.
    bf16: products in bfloat16, channels last (weights stay float32): faster where the device has units for it, but results differ more
        between devices.
    nesterov: Nesterov's momentum, as torch's SGD has it; with no other optimizer.
    decay_norms: False keeps ``weight_decay`` off parameters of one dimension: biases, and the scale and shift of a norm.
    penalty: ``penalty(epoch)``, a scalar that is added to the loss; epochs count from 0.
    callback: called after each step as ``callback(images=batch size, loss=tensor, step=int, model=model)``.
    resume: a file in which a long training keeps its state, so that it goes on there after an interruption, bit-identically.

    A last batch of one image is left out (BatchNorm has no variance there). Only parameters that require gradients change.
    """
    check_mode("batchnorm", batchnorm)
    device = next(model.parameters()).device
    n, epoch_steps = len(images), math.ceil(len(images) / batch_size)
    least = 2 if min(n, batch_size) > 1 else 1                                  # BatchNorm has no variance for one
    weights = [p for p in model.parameters() if p.requires_grad]
    if not decay_norms:
        weights = [{"params": [p for p in weights if p.ndim > 1]}, {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0}]
    optimiser = optimizer_of(optimizer, weights, lr, momentum, weight_decay, nesterov)
    start, earlier = _resume(resume, model, optimiser, generator)
    started = saved = time.monotonic()
    model.train(batchnorm == "train")
    if bf16:
        model.to(memory_format=torch.channels_last)
    forward = compiled(model)
    for epoch in range(start, epochs):
        batches = torch.randperm(n, generator=generator).to(images.device).split(batch_size)
        batches = [b for b in batches if len(b) >= least]
        drawn = [moves(len(b), generator) for b in batches] if augment else []
        drawn = torch.cat(drawn).to(images.device).split(batch_size) if drawn else [None] * len(batches)
        for i, (batch, shifts) in enumerate(zip(batches, drawn, strict=True)):
            step = epoch * epoch_steps + i
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, epochs * epoch_steps, epoch_steps, lr=lr, schedule=schedule,
                                            milestones=milestones, gamma=gamma, warmup_epochs=warmup_epochs)
            x = move(images[batch], shifts) if augment else images[batch]
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                outputs = forward(x.to(device))
            value = loss(outputs.float() if bf16 else outputs, targets[batch].to(device))
            if penalty:
                value = value + penalty(epoch)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            if callback:
                callback(images=len(batch), loss=value.detach(), step=step, model=model)
        if resume and epoch + 1 < epochs and time.monotonic() - saved > SAVE_EVERY:
            _save(resume, model, optimiser, generator, epoch + 1, earlier + time.monotonic() - started)
            saved = time.monotonic()
    if resume:
        resume.unlink(missing_ok=True)
    return model.to(memory_format=layout()).eval() if bf16 else model.eval()


def spent(resume: Path) -> float:
    """Seconds of training that a resume point stands for; 0 without one, or with a damaged one (which :func:`fit` refuses); NaN where an
    earlier version, which did not count them, has saved it."""
    try:
        return float(torch.load(resume, weights_only=True, map_location="cpu").get("seconds", math.nan))
    except Exception:
        return 0.0


def _save(path: Path, model, optimiser, generator, epoch: int, seconds: float) -> None:
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "generator": generator.get_state(), "epoch": epoch,
             "seconds": seconds}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write(path, buffer.getvalue())


def _resume(path: Path | None, model, optimiser, generator) -> tuple[int, float]:
    """Load the state that an interrupted training left; return the epoch to go on with and the seconds until there. A damaged file is
    started over."""
    if path is None or not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        return int(state["epoch"]), float(state.get("seconds", math.nan))
    except Exception as error:
        raise DamagedFile(f"the resume point {path} is damaged ({type(error).__name__}); it must be as training saved it, so it was set "
                          f"aside as {set_aside(path).name}: run again, and this training starts over.") from error


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; afterwards every module is back in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.eval()
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """Logits ``(n, classes)`` in evaluation mode, float32, on the images' device; the modules' modes are restored."""
    device = next(model.parameters()).device
    with evaluating(model):
        out = [model(images[i:i + batch_size].to(device)).float().to(images.device) for i in range(0, len(images), batch_size)]
    return torch.cat(out) if out else torch.empty(0, 0)


def multiply_adds(model: nn.Module, x: Tensor) -> int:
    """Multiply-adds of one forward pass in evaluation mode, for the whole batch ``x``."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), evaluating(model):
        model(x)
    return counter.get_total_flops() // 2


def mean_loss(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """:func:`task_loss` over a whole set, in evaluation mode."""
    return float(task_loss(logits(model, images), labels))


def batch_pairs(n_forget: int, n_retain: int, batch_size: int, epochs: int,
                generator: torch.Generator) -> Iterator[tuple[int, Tensor, Tensor]]:
    """``(forget epoch, forget indices, retain indices)`` of every step of an unlearning that interleaves the two sets.

    Each forget epoch takes every forget batch once, in a new order, each beside the next batch of a running pass over the retain set.
    That pass starts again, in a new order, every ``max(1, retain batches // forget batches)`` forget epochs, so it never runs dry
    (where there are fewer retain than forget batches it starts again whenever it ends).

    Source: ∇τ (arXiv 2403.14339), official code.
    """
    check_sets(n_forget, n_retain)
    forget_batches, retain_batches = math.ceil(n_forget / batch_size), math.ceil(n_retain / batch_size)
    restart = max(1, retain_batches // forget_batches)
    retain: list[Tensor] = []
    for epoch in range(epochs):
        if epoch % restart == 0:
            retain = []
        for forget in torch.randperm(n_forget, generator=generator).split(batch_size):
            if not retain:
                retain = list(torch.randperm(n_retain, generator=generator).split(batch_size))
            yield epoch, forget, retain.pop(0)
