"""Controls: things that are *not* unlearning, to show which metrics they fool."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..access import Access
from ..models import head, reinitialise
from ..train import Callback, fit

VERSION = 1


class MaskedLogits(nn.Module):
    """A frozen model whose logits of the forgotten classes are pushed far below all others."""

    def __init__(self, model: nn.Module, classes: list[int]):
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x).clone()
        z[:, self.classes] = z.min(dim=1, keepdim=True).values - 30.0           # e^-30: as good as minus infinity, but finite
        return z


class RandomisedOutput(nn.Module):
    """A frozen model that answers with noise, another for each image, wherever it would have predicted a forgotten class.

    The noise is ``3 sin(50 W z)`` of the logits z with a fixed random matrix W: it looks random and needs no state.
    """

    def __init__(self, model: nn.Module, classes: list[int], weights: Tensor):
        super().__init__()
        self.model, self.classes = model, classes
        self.register_buffer("weights", weights)                                # (outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        forgotten = torch.isin(z.argmax(1), torch.tensor(self.classes, device=z.device))
        return torch.where(forgotten[:, None], 3 * torch.sin(50 * z @ self.weights), z)


def mask_logit(model: nn.Module, access: Access, *, generator: torch.Generator, callback: Callback | None = None) -> nn.Module:
    """The original with the forgotten classes' logits masked: nothing is unlearned at all."""
    return MaskedLogits(copy.deepcopy(model).eval(), access.forget_classes).eval()


def random_output(model: nn.Module, access: Access, *, generator: torch.Generator, callback: Callback | None = None) -> nn.Module:
    """The original, answering at random wherever it recognises a forgotten class: it still recognises it."""
    outputs = head(model).out_features
    weights = torch.randn(outputs, outputs, generator=generator) / outputs ** 0.5
    return RandomisedOutput(copy.deepcopy(model).eval(), access.forget_classes, weights.to(next(model.parameters()).device)).eval()


def head_only(model: nn.Module, access: Access, *, generator: torch.Generator, epochs: int = 5, lr: float = 0.05,
              batch_size: int = 64, callback: Callback | None = None) -> nn.Module:
    """Draw the last linear layer anew and fit it alone on the retain set; the features keep all they know."""
    copied = copy.deepcopy(model)
    new = head(copied)
    reinitialise(new, seed=generator.initial_seed())
    copied.requires_grad_(False)
    new.requires_grad_(True)
    statistics = {k: v.clone() for k, v in copied.named_buffers()}
    fitted = fit(copied, access.retain_images, access.retain_labels, generator=generator, epochs=epochs, lr=lr,
                 batch_size=batch_size, callback=callback)
    for name, buffer in fitted.named_buffers():                                 # running statistics are features too
        buffer.copy_(statistics[name])
    return fitted.requires_grad_(True)
