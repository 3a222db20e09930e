r"""Projection: take the directions that only the forgotten class uses out of every layer's weights, without training (Class-F).

1. input space    :math:`G = X X^\top / \mathrm{tr}(X X^\top)`, X the inputs of a layer as columns: its eigenvalues are the shares s
2. importance     :math:`M = U\,\mathrm{diag}(\alpha s / ((\alpha - 1) s + 1))\,U^\top = \alpha G\,((\alpha - 1) G + I)^{-1}`
3. projection     :math:`P = I - (M_f - M_f M_r)`, :math:`W \leftarrow W P^\top`
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..access import Access
from ..train import Callback, check_sets, evaluating

VERSION = 1


def importance_matrix(gram: Tensor, alpha: float) -> Tensor:
    """Steps 1 and 2: M of a layer, ``(d, d)`` symmetric with eigenvalues in [0, 1], from ``X X^T`` of its inputs X (d, columns).

    Every direction of the input space is scaled by ``alpha s / ((alpha - 1) s + 1)``, where s is its share of the energy. This is a
    rational function of the shares, so that a linear system takes the place of the singular value decomposition. M = 0 for X = 0.
    Raises ValueError for an alpha that is not positive.
    """
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha is {alpha}; it must be positive and finite: the official code has 100 for retain and 3 for forget inputs.")
    shares = gram / gram.trace().clamp(min=torch.finfo(gram.dtype).tiny)                # step 1: input space
    return alpha * torch.linalg.solve((alpha - 1) * shares + torch.eye(len(gram)).to(gram), shares)     # step 2: importance


def layer_grams(model: nn.Module, images: Tensor, *, generator: torch.Generator, batch_size: int = 150, max_columns: int = 10_000,
                callback: Callback | None = None) -> dict[str, Tensor]:
    """``X X^T`` in float64, ``(d, d)``, of the inputs of every linear and convolutional layer, by the layer's name; evaluation mode.

    Columns of X: the input vectors of a linear layer; the patches (channels x height x width) that a convolution sees. Of each batch at
    most ``max_columns * batch / n + 1`` columns are drawn. Raises ValueError for convolutions in groups or with padding by name.
    """
    grams: dict[str, Tensor] = {}
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}

    def note(name: str, layer: nn.Module, x: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            x = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(1, 2)
        rows = x.flatten(0, -2)
        limit = int(max_columns * len(x) / len(images)) + 1
        if len(rows) > limit:
            rows = rows[torch.randperm(len(rows), generator=generator)[:limit].to(rows.device)]
        rows = rows.double()
        grams[name] = grams.get(name, 0) + rows.T @ rows

    for name, layer in layers.items():
        if isinstance(layer, nn.Conv2d) and (layer.groups > 1 or isinstance(layer.padding, str)):
            raise ValueError(f"{name} has groups={layer.groups} and padding={layer.padding!r}; groups must be 1 and padding numbers: use "
                             "another method.")
    hooks = [layer.register_forward_pre_hook(lambda layer, args, name=name: note(name, layer, args[0])) for name, layer in layers.items()]
    device = next(model.parameters()).device
    try:
        with evaluating(model), torch.no_grad():
            for x in images.split(batch_size):
                model(x.to(device))
                if callback:
                    callback(images=len(x), backward=False)
    finally:
        for hook in hooks:
            hook.remove()
    return grams


def class_f(model: nn.Module, access: Access, *, generator: torch.Generator, alpha_retain: float = 100.0, alpha_forget: float = 3.0,
            samples: int = 900, batch_size: int = 150, max_columns: int = 10_000, callback: Callback | None = None) -> nn.Module:
    """Class-F: a new model, each of whose linear and convolutional weights is projected once (steps 1 to 3); biases stay.

    Parameters
    ----------
    alpha_retain, alpha_forget: scale of the importance; more keeps more of D_r, or removes more of D_f. Official code: 100 and 3 for
        CIFAR-10, 1000 and 30 for CIFAR-100, 100 and 10 for ImageNet.
    samples: drawn from D_f, and from D_r in equal numbers for each class (900, 990, 999 there). max_columns: see :func:`layer_grams`.

    Every layer is projected by the inputs that the original model gives it. For whole classes: random samples have no space of their own.

    Source: Kodge et al. 2024 (arXiv 2312.00761), official code. *Differences from the paper*: the code grid-searches both alphas on the
    data that it reports.
    """
    if min(samples, batch_size, max_columns) < 1:
        raise ValueError(f"class_f got samples={samples}, batch_size={batch_size}, max_columns={max_columns}; all must be at least 1: "
                         "leave them out for the defaults.")
    x_f, x_r, labels = access.forget_images, access.retain_images, access.retain_labels
    check_sets(len(x_f), len(x_r))
    if labels.ndim != 1:
        raise ValueError(f"labels have the shape {tuple(labels.shape)}, several a sample; Class-F needs one each: use another method.")
    groups = [(labels == c).nonzero().flatten().cpu() for c in labels.unique()]
    each = max(1, round(samples / len(groups)))
    chosen = torch.cat([group[torch.randperm(len(group), generator=generator)[:each]] for group in groups]).to(x_r.device)
    forgotten = torch.randperm(len(x_f), generator=generator)[:samples].to(x_f.device)
    original = copy.deepcopy(model)
    settings = {"generator": generator, "batch_size": batch_size, "max_columns": max_columns, "callback": callback}
    retain, forget = layer_grams(original, x_r[chosen], **settings), layer_grams(original, x_f[forgotten], **settings)
    layers = dict(original.named_modules())
    for name in retain:
        m_r, m_f = importance_matrix(retain[name], alpha_retain), importance_matrix(forget[name], alpha_forget)
        projection = torch.eye(len(m_f)).to(m_f) - (m_f - m_f @ m_r)            # step 3: projection
        weight = layers[name].weight
        weight.data.copy_((weight.detach().double().flatten(1) @ projection.T).view_as(weight))
    return original.eval()
