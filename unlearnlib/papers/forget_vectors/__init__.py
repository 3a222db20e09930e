"""Forget Vectors at Play (arXiv 2412.16780): which runs, which tables, which figures, which claims."""

from __future__ import annotations

from itertools import product

from ...records import Spec
from .. import check_plan, make
from .claims import CLAIMS
from .figures import FIGURES
from .studies import STUDIES

__all__ = ["ATTACK", "CLAIMS", "FIGURES", "STUDIES", "TITLE", "plan", "tuning"]

TITLE = "Forget Vectors at Play"
ATTACK = "mia_confidence"       # MIA-Efficacy: in the tuning rule and in Avg.Gap
REFERENCES = ("original", "retrain")
FOCUS = ("controls", "beta", "tau", "shift", "arithmetic", "saliency")


def plan(values: dict) -> list[Spec]:
    """Every run of the paper at the given settings (see :func:`unlearnlib.papers.settings`).

    Baselines run in the classes of ``compared`` and in the random scenario, vectors in every class. Controls, sweeps and shifts are
    measured in the focus scenario and in one of the other kind, arithmetic and saliency in the focus scenario alone.
    """
    check_plan("forget_vectors", values, values["methods"].get("forget_vector", {}), FOCUS)
    out = []
    for seed in range(values["seeds"]):
        for scenario in values["scenarios"]:
            for name in _methods(values, scenario):
                images = {"images": True} if name == "forget_vector" and scenario == values["focus"] else {}
                out.append(_spec("unlearn", name, scenario, values, seed, images))
        for study in values["studies"]:
            out += _study(study, values, seed)
    return out


def _study(study: str, values: dict, seed: int) -> list[Spec]:
    if study in ("arithmetic", "saliency"):
        return [_spec(study, "forget_vector", values["focus"], values, seed, values[study])]
    both = _kinds(values).values()
    if study == "shift":
        options = {k: v for k, v in values["shift"].items() if k != "methods"}
        return [_spec(study, name, scenario, values, seed, options) for scenario in both for name in values["shift"]["methods"]]
    options = {} if study == "controls" else {study: values[study]}
    return [_spec(study, "forget_vector", scenario, values, seed, options) for scenario in both]


def _kinds(values: dict) -> dict[str, str]:
    """The focus scenario, and the first of every other kind, by kind."""
    out = {values["focus"].split(":")[0]: values["focus"]}
    for scenario in values["scenarios"]:
        out.setdefault(scenario.split(":")[0], scenario)
    return out


def _methods(values: dict, scenario: str) -> list[str]:
    kind = scenario.split(":")[0]
    there = [name for name, kinds in values["methods"].items() if kind in kinds]
    if "+" in scenario:
        there = [name for name in there if name in values["several"]]
    elif kind == "class":
        everything = scenario in values["compared"]
        there = [name for name in there if name == "forget_vector" or everything and name not in values["several"]]
    return [*REFERENCES, *there]


def _spec(study: str, name: str, scenario: str, values: dict, seed: int, options: dict | None = None, **changes) -> Spec:
    params = {} if name in REFERENCES else values["methods"][name][scenario.split(":")[0]]
    if name == "forget_vector_composed":
        options = (options or {}) | {"class_settings": values["methods"]["forget_vector"]["class"]}
    return make("forget_vectors", study, name, scenario, values, seed, params=params | changes, options=options)


def tuning(values: dict) -> list[tuple[str, str, dict, Spec]]:
    """The pilot runs of the tuning rule: (method, kind of scenario, the values tried, spec), with the retrained reference first.

    The class scenarios are tuned on the focus scenario alone, and all methods alike.
    """
    out = []
    for kind, scenario in _kinds(values).items():
        grids = {name: grid for name, grid in values["grids"].items() if kind in values["methods"].get(name, {})}
        if grids:
            out.append(("retrain", kind, {}, _spec("unlearn", "retrain", scenario, values, values["pilot_seed"])))
        for name, grid in grids.items():
            for tried in (dict(zip(grid, point, strict=True)) for point in product(*grid.values())):
                out.append((name, kind, tried, _spec("unlearn", name, scenario, values, values["pilot_seed"], **tried)))
    return out
