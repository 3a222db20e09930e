"""Loss-Free Machine Unlearning (arXiv 2402.19308): which runs, which tables, which figures, which claims."""

from __future__ import annotations

from ...records import Spec
from .. import check_plan, make
from .claims import CLAIMS
from .figures import FIGURES
from .studies import STUDIES

__all__ = ["CLAIMS", "FIGURES", "STUDIES", "TITLE", "plan", "tuning"]

TITLE = "Loss-Free Machine Unlearning"
REFERENCES = ("original", "retrain")
FOCUS = ("alpha_ssd", "alpha_sample", "anatomy", "images", "exact", "sensitivity", "relearn")


def plan(values: dict) -> list[Spec]:
    """Every run of the paper at the given settings (see :func:`unlearnlib.papers.settings`)."""
    check_plan("lfssd", values, values["methods"].get("lfssd", {}), FOCUS)
    out = []
    for seed in range(values["seeds"]):
        for scenario in values["scenarios"]:
            out += [_spec("unlearn", name, scenario, values, seed) for name in _methods(values, scenario)]
            out.append(_spec("alpha", "lfssd", scenario, values, seed, {"alphas": values["alphas"], "lams": values["lams"]}))
        for study in values["studies"]:
            out += _focus(study, values, seed)
    return out


def _focus(study: str, values: dict, seed: int) -> list[Spec]:
    """One study of the scenario that the single-scenario figures show."""
    focus = values["focus"]
    curve = {"alphas": values["alphas"], "lams": values["lams"]}
    sizes = {"alphas": values["sensitivity_alphas"], "batch_sizes": values["batch_sizes"]}
    checks = {"alphas": values["alphas"], "per_sample_images": values["per_sample_images"]}
    if study == "alpha_ssd":
        return [_spec("alpha", "ssd", focus, values, seed, curve)]
    if study == "alpha_sample":
        return [_spec("alpha", "lfssd", focus, values, seed, curve, reduction="sample")]
    if study == "sensitivity":
        return [_spec(study, name, focus, values, seed, sizes) for name in ("lfssd", "ssd")]
    if study == "relearn":
        return [_spec(study, name, focus, values, seed, values["relearn"]) for name in ("retrain", "lfssd", "ssd")]
    return [_spec(study, "lfssd", focus, values, seed, checks if study == "exact" else None)]      # anatomy, images, exact


def _methods(values: dict, scenario: str) -> list[str]:
    kind = scenario.split(":")[0]
    return [*REFERENCES, *(name for name, by_kind in values["methods"].items() if kind in by_kind)]


def _spec(study: str, name: str, scenario: str, values: dict, seed: int, options: dict | None = None, **changes) -> Spec:
    kind = scenario.split(":")[0]
    params = {} if name in REFERENCES else values["methods"][name][kind]
    if params == "lfssd":                                                       # a control that follows LFSSD's settings
        params = values["methods"]["lfssd"][kind]
    return make("lfssd", study, name, scenario, values, seed, params=params | changes, options=options)


def tuning(values: dict) -> list[tuple[str, str, dict, Spec]]:
    """The pilot runs of the tuning rule: (method, kind of scenario, the values tried, spec), with the retrained reference first."""
    out = []
    first = {scenario.split(":")[0]: scenario for scenario in reversed(values["scenarios"])}
    for kind, scenario in first.items():
        out.append(("retrain", kind, {}, _spec("unlearn", "retrain", scenario, values, values["pilot_seed"])))
        for name, grid in values["grids"].items():
            if kind in values["methods"][name]:
                (key, tried), = grid.items()
                out += [(name, kind, {key: v}, _spec("unlearn", name, scenario, values, values["pilot_seed"], **{key: v}))
                        for v in tried]
    return out
