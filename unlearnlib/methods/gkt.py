"""GKT, gated knowledge transfer, as first published: the gate in the generator's steps too, and attention transfer."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..access import Access
from ..filtering import forget_mask, gate
from ..models import Normalise, head, reinitialise, seeded
from ..synthesis import Generator, Log, adversarial_loss, relative_cost, taps
from ..train import Callback, distillation

VERSION = 1
CHECK_EVERY = 50            # pseudo-batches between two looks at the learning rates, and two copies of the generator
PATIENCE = 100              # empty batches in a row until the generator goes back to an earlier copy


def attention_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """``sum over layers of mean (a_s - a_t)^2``: ``a`` is the channel mean of the squared activations ``(n, c, h, w)``, flattened, with
    L2 norm 1 in each row. A scalar. Source: attention transfer (arXiv 1612.03928), as in the official GKT code.
    """
    def attention(x: Tensor) -> Tensor:
        return F.normalize(x.square().mean(1).flatten(1))

    return sum((attention(s) - attention(t)).square().mean() for s, t in zip(student, teacher, strict=True))


def gkt(model: nn.Module, access: Access, *, generator: torch.Generator, pseudo_batches: int = 4000, student_steps: int = 10,
        batch_size: int = 256, threshold: float = 0.01, lr: float = 1e-3, attention_weight: float = 250.0, clip: float = 5.0,
        image_shape: Sequence[int] = (3, 32, 32), latent: int = 128, widths: Sequence[int] = (128, 128, 64), report_every: int = 50,
        callback: Callback | None = None) -> nn.Module:
    """GKT: a new student learns from the teacher ``model`` on generated images, none of which the teacher takes for a forget class.

    Each of ``pseudo_batches`` noises z serves one step of the generator on ``-KL(p || q)`` and ``student_steps`` of the student on
    ``KL(p || q) + attention_weight * attention_distance`` (over the outputs of all ReLU layers), always on the rows of ``G(z)`` that pass
    :func:`unlearnlib.filtering.gate`. KL is averaged over batch and classes. Both by Adam; gradients are clipped to norm ``clip``, rates
    halved where the mean loss of 50 pseudo-batches has not fallen for more than two such spans. After more than 100 empty batches in a
    row the generator goes back to a copy that is 50 to 100 pseudo-batches old.

    Parameters
    ----------
    image_shape, latent, widths: of the :class:`unlearnlib.synthesis.Generator`; (channels, height, width).
    callback: as in :func:`unlearnlib.methods.ispf.distil`, with one ``epoch`` for every ``report_every`` pseudo-batches.

    Raises ValueError for a model without ReLU layers, and for forget classes that do not exist or leave none.

    Source: Chundawat et al. 2023 (arXiv 2201.05629) through its official notebook. *Differences from the paper*: the student is put back
    into training mode (there, it stays in evaluation mode after the first look at its accuracy). The generator ends in BatchNorm there,
    in the space of normalised images; here the model's own normalisation, if it has one, is undone first.
    """
    forget = access.forget_classes
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    classes = head(teacher).out_features
    forget_mask(torch.zeros(1, classes), forget)                                # refuses classes that do not exist
    seed_student, seed_synthesis = torch.randint(2 ** 31, (2,), generator=generator).tolist()
    student = reinitialise(copy.deepcopy(model), seed_student)
    with seeded(seed_synthesis):
        synthesis = Generator(image_shape, latent=latent, widths=widths, squash=False).to(next(teacher.parameters()).device)
    with taps(teacher, nn.ReLU):                                                # refuses a model without, before anything runs
        relative = relative_cost(synthesis, teacher)
    networks = {"student": student, "generator": synthesis}
    adam = {k: torch.optim.Adam(net.parameters(), lr=lr) for k, net in networks.items()}
    plateau = {k: torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2) for k, optimiser in adam.items()}
    normalise = next((m for m in teacher.modules() if isinstance(m, Normalise)), None)
    copies: deque[dict] = deque(maxlen=2)
    empty, losses, log = 0, {"student": [], "generator": []}, Log()

    def images(z: Tensor) -> Tensor:
        x = synthesis(z)
        return x * normalise.std + normalise.mean if normalise is not None else x

    def step(name: str, z: Tensor) -> None:
        """One step of the student or the generator on the rows of ``G(z)`` that pass the gate."""
        nonlocal empty
        learns_student = name == "student"
        student.train(learns_student).requires_grad_(learns_student)
        with torch.set_grad_enabled(not learns_student), taps(teacher, nn.ReLU, outputs=True) as of_teacher:
            x = images(z)
            t = teacher(x)
        kept = gate(t, forget, threshold)
        if learns_student:
            log.drew(t, kept)
        x, t = x[kept], t[kept]
        _spend(callback, batch_size * (1 + relative) / 3)                       # forward
        if len(x) < 2:                                                          # BatchNorm has no variance for one
            empty, log.skipped = empty + 1, log.skipped + learns_student
            return
        empty = 0
        with taps(student, nn.ReLU, outputs=True) as of_student:
            s = student(x)
        if learns_student:
            attention = attention_distance([a for _, a in of_student], [a[kept] for _, a in of_teacher])
            loss = distillation(s, t) / classes + attention_weight * attention
            log.updated(s, loss)
        else:
            loss = adversarial_loss(t, s) / classes
            log.add(adversarial=loss)
        adam[name].zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(networks[name].parameters(), clip)
        adam[name].step()
        losses[name].append(loss.detach())
        # The student's training step; or forward and back to the inputs through it, and back through the teacher and the generator.
        _spend(callback, len(x) if learns_student else (2 * len(x) + batch_size * (1 + 2 * relative)) / 3)

    synthesis.train()
    for pseudo_batch in range(pseudo_batches):
        if pseudo_batch % CHECK_EVERY == 0:
            copies.append(copy.deepcopy(synthesis.state_dict()))
            for name, values in losses.items():
                if values:
                    plateau[name].step(float(torch.stack(values).mean()))
                    values.clear()
        z = torch.randn(batch_size, latent, generator=generator).to(next(teacher.parameters()).device)
        step("generator", z)
        for _ in range(student_steps):
            step("student", z)
        if empty > PATIENCE:
            synthesis.load_state_dict(copies[0])
            empty = 0
        if callback and (pseudo_batch + 1) % report_every == 0:
            callback(images=0, epoch=(pseudo_batch + 1) // report_every, model=student, synthesis=synthesis, measured=log.means())
            log = Log()
    return student.eval().requires_grad_(True)


def _spend(callback: Callback | None, images: float) -> None:
    if callback:
        callback(images=images)
