"""Every method and its access row, in plain sight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..access import Access, Row
from . import (
    ascent,
    controls,
    distillation,
    finetuning,
    forget_vectors,
    gkt,
    influence,
    ispf,
    lfssd,
    nabla_tau,
    noise,
    projection,
    relabelling,
    retraining,
    scrub,
    sparsity,
)

DEFAULT_SEED = 1_000_003     # where no generator is given: not one that a model was likely built with


@dataclass(frozen=True)
class Method:
    """One entry of :data:`METHODS`: the function, what it may see, the paper it comes from, the version of its results."""

    function: Callable[..., nn.Module]
    access: Row
    paper: str
    version: int
    scenarios: tuple[str, ...] = ("class", "subclass", "random")
    control: bool = False

    def run(self, model: nn.Module, access: Access, *, generator: torch.Generator | None = None, **hyper_parameters) -> nn.Module:
        """The unlearned model. ``model`` is not changed; ``access`` is narrowed to the method's own row first."""
        generator = generator or torch.Generator().manual_seed(DEFAULT_SEED)
        return self.function(model, access.restricted(self.function.__name__, self.access), generator=generator, **hyper_parameters)


CLASSES = ("class", "subclass")
DATA_FREE = Row(forget_classes=True, changes="a new network")

METHODS = {
    "retrain": Method(retraining.retrain, Row(retain_images=True, retain_labels=True, changes="new weights"),
                      "reference", retraining.VERSION),
    "finetune": Method(finetuning.finetune, Row(retain_images=True, retain_labels=True, changes="trains the weights"),
                       "baseline", finetuning.VERSION),
    "amnesiac": Method(finetuning.amnesiac, Row(True, True, False, True, True, False, "trains the weights"),
                       "arXiv 2010.10981", finetuning.VERSION),
    "bad_teacher": Method(distillation.bad_teacher, Row(forget_images=True, retain_images=True, changes="trains the weights"),
                          "arXiv 2205.08096", distillation.VERSION),
    "unsir": Method(noise.unsir, Row(forget_classes=True, retain_images=True, retain_labels=True, changes="trains the weights"),
                    "arXiv 2111.08947", noise.VERSION, CLASSES),
    "ssd": Method(lfssd.ssd, Row(True, True, False, True, True, False, "dampens weights"), "arXiv 2308.07707", lfssd.VERSION),
    "lfssd": Method(lfssd.lfssd, Row(forget_images=True, retain_images=True, changes="dampens weights"),
                    "arXiv 2402.19308", lfssd.VERSION),
    "scrub": Method(scrub.scrub, Row(True, False, False, True, True, False, "trains the weights"), "arXiv 2302.09880", scrub.VERSION),
    "scrub_r": Method(scrub.scrub_r, Row(True, True, False, True, True, True, "trains the weights"), "arXiv 2302.09880", scrub.VERSION),
    "neggrad_plus": Method(scrub.neggrad_plus, Row(True, True, False, True, True, False, "trains the weights"), "arXiv 2302.09880",
                           scrub.VERSION),
    "nabla_tau": Method(nabla_tau.nabla_tau, Row(True, True, False, True, True, True, "trains the weights"), "arXiv 2403.14339",
                        nabla_tau.VERSION),
    "ispf": Method(ispf.ispf, DATA_FREE, "arXiv 2412.13790", ispf.VERSION, ("class",)),
    "pf": Method(ispf.pf, DATA_FREE, "arXiv 2412.13790", ispf.VERSION, ("class",)),
    "is_gkt": Method(ispf.is_gkt, DATA_FREE, "arXiv 2412.13790", ispf.VERSION, ("class",)),
    "gkt_dfq": Method(ispf.gkt_dfq, DATA_FREE, "arXiv 2412.13790", ispf.VERSION, ("class",)),
    "blockf": Method(ispf.blockf, DATA_FREE, "arXiv 2412.13790", ispf.VERSION, ("class",)),
    "gkt": Method(gkt.gkt, DATA_FREE, "arXiv 2201.05629", gkt.VERSION, ("class",)),
    "forget_vector": Method(forget_vectors.forget_vector, Row(True, True, False, True, True, False, "no weight: one input perturbation"),
                            "arXiv 2412.16780", forget_vectors.VERSION),
    "forget_vector_composed": Method(forget_vectors.forget_vector_composed,
                                     Row(True, True, False, True, True, False, "no weight: a mix of perturbations"), "arXiv 2412.16780",
                                     forget_vectors.VERSION),
    "gradient_ascent": Method(ascent.gradient_ascent, Row(forget_images=True, forget_labels=True, changes="trains the weights"),
                              "arXiv 2304.04934", ascent.VERSION),
    "random_labels": Method(relabelling.random_labels, Row(True, False, False, True, True, False, "trains the weights"),
                            "arXiv 2304.04934", relabelling.VERSION),
    "salun": Method(relabelling.salun, Row(True, True, False, True, True, False, "trains salient weights"), "arXiv 2310.12508",
                    relabelling.VERSION),
    "l1_sparse": Method(sparsity.l1_sparse, Row(retain_images=True, retain_labels=True, changes="trains the weights"),
                        "arXiv 2304.04934", sparsity.VERSION),
    "class_f": Method(projection.class_f, Row(True, False, False, True, True, False, "projects weights"), "arXiv 2312.00761",
                      projection.VERSION, CLASSES),
    "influence": Method(influence.influence, Row(True, True, False, True, True, False, "one step of the weights"), "arXiv 2304.04934",
                        influence.VERSION),
    "random_dampening": Method(lfssd.random_dampening, Row(forget_images=True, retain_images=True, changes="dampens random weights"),
                               "control", lfssd.VERSION, control=True),
    "dfkd": Method(ispf.dfkd, DATA_FREE, "control", ispf.VERSION, ("class",), True),
    "mask_logit": Method(controls.mask_logit, Row(forget_classes=True, changes="no weight"), "control", controls.VERSION, ("class",), True),
    "head_only": Method(controls.head_only, Row(retain_images=True, retain_labels=True, changes="the last layer"),
                        "control", controls.VERSION, CLASSES, True),
    "random_output": Method(controls.random_output, Row(forget_classes=True, changes="no weight"), "control", 2, ("class",), True),
}


def method(name: str) -> Method:
    """The registry's entry, or one sentence that names the methods there are."""
    if name not in METHODS:
        raise ValueError(f"method is {name!r}; it must be one of {', '.join(METHODS)}: correct the name.")
    return METHODS[name]
