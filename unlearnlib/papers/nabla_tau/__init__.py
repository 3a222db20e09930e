"""∇τ: Gradient-based and Task-Agnostic Machine Unlearning (arXiv 2403.14339): which runs, which tables, which figures, which claims."""

from __future__ import annotations

from itertools import product

from ...records import Spec
from .. import check_plan, domains, make
from .claims import CLAIMS
from .figures import FIGURES
from .studies import STUDIES

__all__ = ["ATTACK", "CLAIMS", "FIGURES", "STUDIES", "TITLE", "plan", "tuning"]

TITLE = "∇τ: Gradient-based and Task-Agnostic Machine Unlearning"
ATTACK = "mia_l"                # the paper's attack, in the tuning rule and in Avg.Gap
REFERENCES = ("original", "retrain")
WATCHED = {"curve": ("nabla_tau", "finetune"), "relearn": ("retrain", "nabla_tau", "finetune")}
FOCUS = ("curve", "variants", "grid", "images", "relearn")


def plan(values: dict) -> list[Spec]:
    """Every run of the paper at the given settings, images and texts (see :func:`unlearnlib.papers.settings`)."""
    out = []
    for domain in domains(values):
        check_plan("nabla_tau", domain, domain["methods"].get("nabla_tau", {}), FOCUS)
        for seed in range(domain["seeds"]):
            for scenario in domain["scenarios"]:
                out += [_spec("unlearn", name, scenario, domain, seed) for name in _methods(domain, scenario)]
            for study in domain["studies"]:
                out += _focus(study, domain, seed)
    return out


def _focus(study: str, domain: dict, seed: int) -> list[Spec]:
    """One study of the scenario that the detailed figures show."""
    focus = domain["focus"]
    there = _methods(domain, focus)
    options = {"variants": domain["variants"]} if study == "variants" else {} if study == "images" else domain[study]
    specs = [_spec(study, name, focus, domain, seed, options) for name in WATCHED.get(study, ("nabla_tau",)) if name in there]
    if study == "curve" and domain["wrong_way"]:                                # ascent without a target, as tuned and beyond
        specs += [_spec(study, "neggrad_plus", focus, domain, seed, options, **change) for change in ({}, domain["wrong_way"])]
    return specs


def _methods(domain: dict, scenario: str) -> list[str]:
    kind = scenario.split(":")[0]
    return [*REFERENCES, *(name for name, by_kind in domain["methods"].items() if kind in by_kind)]


def _spec(study: str, name: str, scenario: str, domain: dict, seed: int, options: dict | None = None, **changes) -> Spec:
    params = {} if name in REFERENCES else domain["methods"][name][scenario.split(":")[0]]
    return make("nabla_tau", study, name, scenario, domain, seed, params=params | changes, options=options)


def tuning(values: dict) -> list[tuple[str, str, dict, Spec]]:
    """The pilot runs of the tuning rule: (method, kind of scenario, the values tried, spec), with the retrained reference first.

    Each kind is tuned on one scenario, random forgetting on that of the detailed figures. On images ∇τ itself is not tuned.
    """
    out = []
    for domain in domains(values):
        scenarios = {s.split(":")[0]: s for s in [*reversed(domain["scenarios"]), domain["focus"]]}
        for kind, scenario in scenarios.items():
            grids = {name: grid for name, grid in domain["grids"].items() if kind in domain["methods"].get(name, {})}
            if grids:
                out.append(("retrain", kind, {}, _spec("unlearn", "retrain", scenario, domain, domain["pilot_seed"])))
            for name, grid in grids.items():
                for tried in (dict(zip(grid, point, strict=True)) for point in product(*grid.values())):
                    out.append((name, kind, tried, _spec("unlearn", name, scenario, domain, domain["pilot_seed"], **tried)))
    return out
