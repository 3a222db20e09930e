"""ISPF: Toward Efficient Data-Free Unlearning (arXiv 2412.13790): which runs, which tables, which figures, which claims."""

from __future__ import annotations

from ...records import Spec
from .. import check_plan, make
from .claims import CLAIMS
from .figures import FIGURES
from .studies import STUDIES

__all__ = ["ATTACK", "CLAIMS", "FIGURES", "STUDIES", "TITLE", "plan", "tuning"]

TITLE = "ISPF: Toward Efficient Data-Free Unlearning"
ATTACK = "mia_confidence"       # in Avg.Gap; which attack the paper's tables use is not known
REFERENCES = ("original", "retrain")
RELEARNED = ("retrain", "gkt_dfq", "ispf", "dfkd")


def plan(values: dict) -> list[Spec]:
    """Every run of the paper at the given settings (see :func:`unlearnlib.papers.settings`).

    The ``extras`` (of relearn, images, snapshots) are measured in the focus scenario's runs of the methods that are drawn with them; the
    snapshots in its first seed alone.
    """
    check_plan("ispf", values, values["methods"].get("ispf", {}), ("longer", "threshold"))
    out = []
    for seed in range(values["seeds"]):
        for scenario in values["scenarios"]:
            for name in _methods(values, scenario):
                extras = [k for k in values["extras"] if scenario == values["focus"] and _wanted(k, name, seed)]
                out.append(_spec("unlearn", name, scenario, values, seed, {k: values[k] for k in extras}))
        for study in values["studies"]:
            if seed < values[study]["seeds"]:
                out += _focus(study, values, seed)
    return out


def _wanted(extra: str, name: str, seed: int) -> bool:
    if extra == "relearn":
        return name in RELEARNED
    return seed == 0 if extra == "snapshots" else name == "ispf"                # else: images


def _focus(study: str, values: dict, seed: int) -> list[Spec]:
    """One study of the focus scenario: methods run on for longer, or the gate's threshold turned."""
    focus, options = values["focus"], values[study]
    if study == "longer":
        return [_spec(study, name, focus, values, seed, **changes) for name, changes in options["methods"].items()]
    return [_spec(study, name, focus, values, seed, threshold=t) for name in options["methods"] for t in options["thresholds"]]


def _methods(values: dict, scenario: str) -> list[str]:
    """The references, then every method; where several classes are forgotten, those of ``several`` alone; controls in the focus alone."""
    if "+" in scenario:
        return [*REFERENCES, *values["several"]]
    return [*REFERENCES, *(name for name in values["methods"] if name not in values["focus_only"] or scenario == values["focus"])]


def _spec(study: str, name: str, scenario: str, values: dict, seed: int, options: dict | None = None, **changes) -> Spec:
    params = {} if name in REFERENCES else values["methods"].get(name, {"class": {}})["class"]
    return make("ispf", study, name, scenario, values, seed, params=params | changes, options=options)


def tuning(values: dict) -> list[tuple[str, str, dict, Spec]]:
    """Nothing is tuned: every strategy runs as published, with the preset's budget."""
    return []
