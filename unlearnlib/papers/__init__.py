"""One package per paper: its protocol, its figures, its claims. Here: what they share, settings and sessions."""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from types import ModuleType

import pandas as pd
import yaml

from .. import claims, plots, records, reference, runs, tables
from ..data import DATASETS, DataError
from ..methods import method
from ..records import ROOT, Record, Spec, Store, canonical
from ..train import fit


class NotAvailable(RuntimeError):
    """A figure or sentence needs a study that the preset lacks, or images that are not on this machine."""


PAPERS = ("forget_vectors", "ispf", "lfssd", "nabla_tau")
PRESETS = ("digits", "cifar10", "full")
FOLDER = ROOT / "notebooks" / "presets"
LEAST = {"epochs": 1, "retain_epochs": 1, "max_epochs": 1, "rounds": 1, "warmup": 0, "student_steps": 1, "steps": 1, "batches": 1,
         "pseudo_batches": 1, "report_every": 1}


def paper(name: str) -> ModuleType:
    """The package of a paper, with ``TITLE``, ``plan``, ``STUDIES``, ``FIGURES`` and ``CLAIMS``."""
    if name not in PAPERS:
        raise ValueError(f"paper is {name!r}; it must be one of {', '.join(PAPERS)}: correct the name.")
    return importlib.import_module(f"{__name__}.{name}")


def settings(name: str, preset: str, **overrides) -> dict:
    """The numbers of a paper at a preset, with ``overrides`` put in (None: keep the preset's).

    A ``recipe`` may be given by its name in notebooks/presets/recipes.yaml, or for each data set: a mapping of their names to recipes.

    Raises ValueError, in one sentence, for an unknown paper, preset, key or recipe, and for a value of another type than the preset's.
    """
    paper(name)
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; it must be one of {', '.join(PRESETS)}: correct the name.")
    values = yaml.safe_load((FOLDER / f"{preset}.yaml").read_text()).get(name)
    if values is None:
        raise ValueError(f"preset {preset} has no settings for {name}; it must have a section of that name: choose another preset.")
    values["recipe"] = named_recipe(values["recipe"])
    for key, value in overrides.items():
        if key not in values:
            raise ValueError(f"parameter is {key!r}; it must be one of {', '.join(values)}: see notebooks/presets/{preset}.yaml.")
        if value is None:
            continue
        value = named_recipe(value) if key == "recipe" else value
        number = isinstance(value, int | float) and isinstance(values[key], int | float)
        if isinstance(value, bool) or not number and not isinstance(value, type(values[key])):
            kind = type(values[key]).__name__
            raise ValueError(f"{key} is {value!r}; it must be of type {kind}, like {values[key]!r}: correct the value.")
        values[key] = value
    if "recipe" in values.get("text", {}):
        values["text"]["recipe"] = named_recipe(values["text"]["recipe"])
    if not isinstance(values["seeds"], int) or values["seeds"] < 1:
        raise ValueError(f"seeds is {values['seeds']!r}; it must be a whole number of at least 1: 3 or more give intervals.")
    if overrides.get("seeds") is not None and "seeds" in values.get("text", {}):
        values["text"]["seeds"] = values["seeds"]                               # an override holds for both domains
    for domain in domains(values):
        for data in dict.fromkeys(domain["scenarios"].values()):
            check_recipe(recipe_of(domain, data))
        if domain["focus"] not in domain["scenarios"]:
            raise ValueError(f"focus is {domain['focus']!r}; it must be one of {', '.join(domain['scenarios'])}: choose one of them.")
    return values


def domains(values: dict) -> list[dict]:
    """The settings of each domain that a paper is tested on: its own, and with the values of its section ``text``, if it has one."""
    return [values, values | values["text"]] if "text" in values else [values]


def only_scenario(values: dict, scenario: str) -> dict:
    """The settings with this scenario alone, on the data of its kind; without texts where no method for texts has that kind."""
    kind = scenario.split(":")[0]

    def alone(section: dict) -> dict:
        sets = {name.split(":")[0]: data for name, data in reversed(section["scenarios"].items())}
        return section | {"scenarios": {scenario: sets.get(kind, next(iter(section["scenarios"].values())))}, "focus": scenario}
    out = alone(values)
    if "text" in out:
        known = any(kind in kinds for kinds in out["text"]["methods"].values())
        out = out | {"text": alone(out["text"])} if known else {k: v for k, v in out.items() if k != "text"}
    return out


def rehearsal(values: dict, samples: int) -> dict:
    """The same plan at the least budget: one seed, one epoch or step of everything, so many samples; networks and batches stay."""
    def least(key: str, value):
        if isinstance(value, dict):
            return {k: least(k, v) for k, v in value.items()}
        if key == "epochs" and isinstance(value, list):
            return [LEAST[key]]
        return LEAST[key] if key in LEAST and not isinstance(value, str) else value

    def enough(scenario: str) -> int:
        """At least two samples to forget. A fraction that makes no sense is refused with its data."""
        fraction = re.fullmatch(r"random:(0?\.\d*[1-9]\d*)", scenario)
        return max(samples, math.ceil(2 / float(fraction[1]))) if fraction else samples

    def one(section: dict) -> dict:
        few = {scenario: f"{data}-{enough(scenario)}" for scenario, data in section["scenarios"].items()}
        return least("", section) | {"seeds": 1, "scenarios": few}
    out = one(values)
    return out | {"text": one(values["text"])} if "text" in values else out


def named_recipe(value):
    """The recipe of a name in recipes.yaml; of a mapping, with every name in it replaced; anything else as it is."""
    if isinstance(value, dict):
        return {k: named_recipe(v) if k in DATASETS else v for k, v in value.items()}
    if not isinstance(value, str):
        return value
    known = yaml.safe_load((FOLDER / "recipes.yaml").read_text())
    if value not in known:
        raise ValueError(f"recipe is {value!r}; it must be one of {', '.join(known)}, or a mapping with at least epochs and lr: see "
                         "notebooks/presets/recipes.yaml.")
    return known[value]


def recipe_of(values: dict, data: str) -> dict:
    """The recipe of a data set, or of a part of one (``cifar10-500``): its own, where there is one for each, else the only one."""
    recipe, whole = values["recipe"], data.partition("-")[0]
    if not recipe or not set(recipe) <= set(DATASETS):
        return recipe
    if whole not in recipe:
        raise ValueError(f"recipe has {', '.join(recipe)}; it must have one for {whole}, too: add it, or give one recipe for all.")
    return recipe[whole]


def check_recipe(recipe: dict) -> None:
    """Raise ValueError, in one sentence, for a key that training does not know or a value of another type."""
    if not isinstance(recipe, dict):
        raise ValueError(f"recipe is {recipe!r}; it must be a mapping with at least epochs and lr, or a name: correct the value.")
    allowed = {k: v for k, v in inspect.signature(fit).parameters.items() if k not in
               ("model", "images", "targets", "generator", "loss", "callback", "resume")}
    for key, value in recipe.items():
        if key not in allowed:
            raise ValueError(f"recipe has {key!r}; its keys must be among {', '.join(allowed)}: correct the name.")
        kinds = {"int": int, "float": (int, float), "str": str, "bool": bool}.get(allowed[key].annotation, (list, tuple))
        if not isinstance(value, kinds):
            raise ValueError(f"recipe's {key} is {value!r}; it must be of type {allowed[key].annotation or 'list'}: in YAML, write 1.0e-3.")
    if not {"epochs", "lr"} <= set(recipe):
        raise ValueError(f"recipe has {', '.join(recipe) or 'nothing'}; it must have at least epochs and lr: add them.")


def check_plan(name: str, values: dict, kinds, studies) -> None:
    """Raise ValueError, in one sentence, for a scenario whose kind has no settings of this paper, or a study that does not exist."""
    for scenario in values["scenarios"]:
        if scenario.split(":")[0] not in kinds:
            raise ValueError(f"scenario is {scenario!r}; {name} has settings for {', '.join(kinds) or 'no scenario'} at this preset: "
                             "choose one of these or another paper, or add the methods' settings to the preset.")
    unknown = [study for study in values["studies"] if study not in studies]
    if unknown:
        raise ValueError(f"study is {unknown[0]!r}; it must be one of {', '.join(studies)}: correct the name.")


def make(name: str, study: str, method_name: str, scenario: str, values: dict, seed: int, *, params: dict | None = None,
         options: dict | None = None) -> Spec:
    """A spec of a paper's study at the given settings. Its version names the results of the study, the method and, from the second on, the
    training of reference models."""
    study_version = paper(name).STUDIES[study].version
    method_version = 0 if method_name == "original" else method(method_name).version
    training = f".{reference.VERSION}" if reference.VERSION > 1 else ""
    data = values["scenarios"][scenario]
    return Spec(name, study, method_name, scenario, data, values["model"], canonical(recipe_of(values, data)), seed,
                canonical(params or {}), canonical(options or {}), f"{study_version}.{method_version}{training}")


class Session:
    """A paper at a preset: its records (read or computed), tables, figures and verdicts. The notebooks' one object.

    Parameters
    ----------
    recompute: False replays the committed reference records and computes only what they lack; True looks at this machine's own
        records alone and computes whatever is missing there.
    write: save each figure (PNG and CSV) and the verdicts under ``figures/<preset>/<paper>/``.
    executor: see :func:`unlearnlib.runs.runs`.
    found: records by key: of these, the plan's are taken, and nothing is read or computed.
    """

    def __init__(self, name: str, preset: str = "digits", *, recompute: bool = False, write: bool = False, executor=None,
                 found: Mapping[str, Record] | None = None, **overrides):
        self.module, self.name, self.preset, self.write = paper(name), name, preset, write
        self.settings = settings(name, preset, **overrides)
        runs.single_thread()
        self.specs = self.module.plan(self.settings)
        if found is not None:
            self.records = [found[s.key] for s in self.specs if s.key in found]
            return
        reuse = None if recompute else Store.reference(preset, name)
        self.records = runs.runs(self.specs, Store.fresh(preset, name), reuse=reuse, executor=executor)

    def frame(self, study: str = "unlearn") -> pd.DataFrame:
        """One row a run of a study."""
        return records.frame(self._of(study))

    def rows(self, study: str) -> pd.DataFrame:
        """The rows (curves, histograms, single images) of a study's runs. Raises NotAvailable where there are none."""
        return records.rows(self.need(study))

    def need(self, study: str) -> list[Record]:
        """The records of a study; raises NotAvailable where the preset has none."""
        found = self._of(study)
        if not found:
            raise NotAvailable(f"preset {self.preset} has no runs of the study {study!r}.")
        return found

    def has(self, study: str) -> bool:
        """Is there any run of a study?"""
        return bool(self._of(study))

    def _of(self, study: str) -> list[Record]:
        return [r for r in self.records if r.spec.study == study]

    def provenance(self, drawn: pd.DataFrame | None = None) -> str:
        """Scale and origin of all records, or of what a figure has drawn: the domains in its column ``data``, else the first; as many seeds
        as its column ``seed`` has."""
        of = domains(self.settings)
        if drawn is not None:
            of = [d for d in of if set(drawn.data) & set(d["scenarios"].values())] if "data" in drawn else of[:1]
        names = {name for d in of for name in d["scenarios"].values()}
        specs = [r.spec for r in self.records if r.spec.data in names]
        commits = sorted({r.environment["commit"] for r in self.records if r.spec.data in names})
        sets, models = ", ".join(sorted({s.data for s in specs})), ", ".join(dict.fromkeys(s.model for s in specs))
        seeds = ", ".join(dict.fromkeys(str(d["seeds"]) for d in of))
        if drawn is not None and "seed" in drawn and len(of) == 1:
            seeds = str(drawn.seed.nunique())
        return f"preset {self.preset} | {sets} | {models} | n = {seeds} | commit {', '.join(commits)}"

    def figure(self, name: str) -> plots.Drawn | tables.Markdown:
        """Draw a figure of the paper; saves it, and exactly what was drawn, where the session writes.

        Where the preset lacks the study, or this machine the images, a sentence says so, and a figure drawn before is left as it is.
        """
        if name not in self.module.FIGURES:
            raise ValueError(f"figure is {name!r}; it must be one of {', '.join(self.module.FIGURES)}: correct the name.")
        try:
            figure, drawn = self.module.FIGURES[name](self)
        except (NotAvailable, DataError) as error:
            return tables.Markdown(f"*Not available* ({name}): {error}")
        plots.stamp(figure, self.provenance(drawn))
        result = plots.Drawn(name, figure, drawn)
        if self.write:
            result.save(records.figures_root() / self.preset / self.name)
        return result

    def verdicts(self, *others: Session) -> pd.DataFrame:
        """One row a claim: what it says, the verdict, its evidence; then the verdicts of other presets' sessions, a column each."""
        table = claims.judge(self.module.CLAIMS, self)
        if self.write:
            claims.save(table, self.provenance(), records.figures_root() / self.preset / self.name / "claims.md")
        return table.assign(**{f"at {other.preset}": other.verdicts().verdict for other in others})


def draw(session: Session) -> Iterator[str]:
    """Draw every figure that the session's records allow, and its verdicts; yields a line for each."""
    for name in session.module.FIGURES:
        yield repr(session.figure(name))
    session.verdicts()
    yield "claims"
