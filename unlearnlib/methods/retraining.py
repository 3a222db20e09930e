"""Retraining from scratch: the reference that every other method is measured against."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ..access import Access
from ..models import head, reinitialise
from ..train import Callback, fit

VERSION = 1


def retrain(model: nn.Module, access: Access, *, generator: torch.Generator, build: Callable[[], nn.Module] | None = None,
            reset: str = "all", callback: Callback | None = None, resume: Path | None = None, **recipe) -> nn.Module:
    """A new model, newly initialised, trained on the retain set alone with the original's recipe.

    Parameters
    ----------
    build: returns a freshly initialised model; left out, a copy of ``model`` has every parameter drawn anew.
    reset: "all" (the reference) or "head": only the last linear layer is drawn anew and everything goes on training.
    recipe: keyword arguments of :func:`unlearnlib.train.fit`.

    *Differences from the paper*: the official SSD code's "retrain" is ``reset="head"``: 0.05 % of a ResNet-18's weights
    start anew, the rest keep what they learned from the forget set.
    """
    if reset not in ("all", "head"):
        raise ValueError(f"reset is {reset!r}; it must be 'all' or 'head': 'all' is a true retrain.")
    if reset == "head":
        fresh = copy.deepcopy(model)
        reinitialise(head(fresh), seed=generator.initial_seed())
    else:
        fresh = build() if build else reinitialise(copy.deepcopy(model), seed=generator.initial_seed())
    return fit(fresh, access.retain_images, access.retain_labels, generator=generator, callback=callback, resume=resume, **recipe)
