"""Presets, plans, sessions and sentences of the papers, and the notebook's parameters against all of them."""

import ast
import inspect
import itertools
import json
import math
import re
from dataclasses import replace

import nbformat
import pandas as pd
import papermill
import pytest
import torch
import yaml

from unlearnlib import attacks, data, metrics, models, notebooks, papers, plots, records, reference, runs, tables, train
from unlearnlib.claims import interval, paired
from unlearnlib.data import DATASETS, IMAGES
from unlearnlib.files import digest
from unlearnlib.methods import METHODS
from unlearnlib.methods.ispf import STRATEGIES, distil
from unlearnlib.papers import NotAvailable, Session, settings
from unlearnlib.papers.lfssd import CLAIMS, FIGURES, STUDIES, text
from unlearnlib.records import ROOT, Store

EVERY = [(name, preset) for name in papers.PAPERS for preset in papers.PRESETS]
REPLAYABLE = [(name, preset) for name, preset in EVERY if Store.reference(preset, name).path.exists()]
OUTER = ("preset", "recompute", "write", "bands", "stops", "worked")     # parameters of notebooks that are not the preset's


def leaves(value, path=()):
    if isinstance(value, dict):
        for k, v in value.items():
            yield from leaves(v, (*path, k))
    elif isinstance(value, list):
        for i, v in enumerate(value):
            yield from leaves(v, (*path, i))
    else:
        yield path, value


def keyword_only(function):
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}


HANDED_ON = {"scrub_r": METHODS["scrub"].function, "forget_vector_composed": METHODS["forget_vector"].function,
             **dict.fromkeys(STRATEGIES, distil)}       # who takes the ``**settings`` of a method


def accepted(method):
    """The hyper-parameters of a method; one that hands ``**settings`` on, as SCRUB+R does to SCRUB, takes the other's too."""
    function = METHODS[method].function
    assert (method in HANDED_ON) == any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
    return keyword_only(function) | (keyword_only(HANDED_ON[method]) if method in HANDED_ON else set()) - {"epoch_end"}


def file(preset):
    return yaml.safe_load((papers.FOLDER / f"{preset}.yaml").read_text())


@pytest.fixture
def nothing_computed(monkeypatch, tmp_path):
    """Any computation is an error; figures go to a folder of their own."""
    def refuse(*arguments, **_):
        raise AssertionError(f"computed: {arguments}")
    monkeypatch.setenv("UNLEARNLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(runs, "compute", refuse)
    monkeypatch.setattr(reference, "trained", refuse)
    monkeypatch.setattr(train, "fit", refuse)
    return tmp_path / "figures"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNLEARNLIB_FIGURES", str(tmp_path_factory.mktemp("figures")))
        return Session("lfssd", "digits")


# --- presets

def test_every_preset_file_is_named_and_every_name_has_its_file():
    assert sorted(p.stem for p in papers.FOLDER.glob("*.yaml")) == sorted([*papers.PRESETS, "recipes"])
    for preset in papers.PRESETS:
        assert set(file(preset)) <= set(papers.PAPERS)


@pytest.mark.parametrize("name", papers.PAPERS)
def test_all_presets_of_a_paper_have_the_same_keys_and_types(name):
    first = settings(name, "digits")
    for preset in papers.PRESETS:
        values = settings(name, preset)
        assert list(values) == list(first)
        for mine, wanted in zip(papers.domains(values), papers.domains(first), strict=True):
            assert list(mine) == list(wanted) == list(first)                    # a second domain has no keys of its own
            for key in mine:
                assert type(mine[key]) is type(wanted[key]), f"{preset}: {key}"


def test_the_second_domain_overrides_the_first_and_leaves_it_as_it_is():
    values = settings("nabla_tau", "digits")
    images, texts = papers.domains(values)
    assert images is values and texts["model"] == values["text"]["model"] != values["model"]
    assert texts["seeds"] == values["text"].get("seeds", values["seeds"]) and texts["curve"] == values["curve"]
    own = file("cifar10")["nabla_tau"]["text"]["seeds"]
    for seeds, wanted in ((None, own), (own + 1, own + 1)):                     # its own number of seeds, unless one is asked for
        assert papers.domains(settings("nabla_tau", "cifar10", seeds=seeds))[1]["seeds"] == wanted
    assert papers.domains(settings("lfssd", "digits")) == [settings("lfssd", "digits")]


@pytest.mark.parametrize("preset", papers.PRESETS)
def test_no_number_of_a_preset_is_a_text(preset):
    """YAML reads 1e-4 as a string."""
    for path, value in leaves(file(preset)):
        if isinstance(value, str):
            with pytest.raises(ValueError):
                print(path, float(value))
        else:
            assert isinstance(value, bool) or math.isfinite(value), path


@pytest.mark.parametrize("name, preset", EVERY)
def test_what_a_preset_names_exists(name, preset):
    studies = {*papers.paper(name).STUDIES, "alpha_ssd", "alpha_sample"}
    for values in papers.domains(settings(name, preset)):
        assert values["focus"] in values["scenarios"] and set(values["scenarios"].values()) <= set(DATASETS)
        assert set(values["methods"]) <= set(METHODS) and set(values["studies"]) <= studies
        assert len(set(values["studies"])) == len(values["studies"])
        assert set(values["relearn"]) <= keyword_only(attacks.relearn)
        for dataset in values["scenarios"].values():
            recipe = papers.recipe_of(values, dataset)
            assert set(recipe) <= keyword_only(train.fit) - {"generator", "callback", "resume", "loss"}
            assert recipe["epochs"] >= 1 and recipe["lr"] > 0


@pytest.mark.parametrize("name, preset", EVERY)
def test_hyper_parameters_are_keywords_of_their_method(name, preset):
    for domain in papers.domains(settings(name, preset)):
        for method, kinds in domain["methods"].items():
            assert set(kinds) <= set(METHODS[method].scenarios)
            for kind, values in kinds.items():
                if isinstance(values, dict):
                    assert set(values) <= accepted(method) - {"generator", "callback"}, f"{method} {kind}"
                else:                                                           # a control that follows the paper's own method
                    assert values == name and METHODS[method].control and kind in domain["methods"][name]


def test_what_is_no_hyper_parameter_is_not_accepted():
    assert accepted("scrub") - {"epoch_end"} <= accepted("scrub_r")
    assert not {"settings", "epoch_end", "retain_weight"} & accepted("scrub_r") and "epochs" not in accepted("ssd")


@pytest.mark.parametrize("name, preset", EVERY)
def test_tuned_values_lie_on_the_declared_grids(name, preset):
    for values in papers.domains(settings(name, preset)):
        for method, grid in values.get("grids", {}).items():
            assert grid and values["methods"][method], method
            for key, tried in grid.items():
                assert len(set(tried)) == len(tried) > 1
                for kind, chosen in values["methods"][method].items():
                    assert chosen[key] in tried, f"{method} {kind}: {key} = {chosen[key]} was not tried"


def test_at_digits_every_method_that_has_a_knob_is_tuned():
    values = settings("lfssd", "digits")
    fixed = {m for m, kinds in values["methods"].items() if all(v in ({}, "lfssd") for v in kinds.values())}
    assert set(values["methods"]) == set(values["grids"]) | fixed
    assert fixed and all(METHODS[m].control for m in fixed)


# --- named recipes

NAMED = yaml.safe_load((papers.FOLDER / "recipes.yaml").read_text())


@pytest.mark.parametrize("name", NAMED)
def test_every_named_recipe_is_one_of_training(name):
    papers.check_recipe(NAMED[name])
    assert settings("lfssd", "digits", recipe=name)["recipe"] == settings("lfssd", "digits", recipe=NAMED[name])["recipe"] == NAMED[name]
    (recipe,) = {s.recipe for s in papers.paper("lfssd").plan(settings("lfssd", "digits", recipe=name))}
    assert recipe == records.canonical(NAMED[name])


def test_the_full_preset_names_every_published_recipe():
    text = (papers.FOLDER / "full.yaml").read_text()
    used = {word for value in re.findall(r"recipe[:=] ?(.*)", text) for word in re.findall(r"\w+", value)}
    assert set(NAMED) - used == {"fast"}


def test_a_recipe_for_each_data_set_is_taken_by_its_runs():
    values = settings("lfssd", "full")
    assert {s.data: json.loads(s.recipe)["epochs"] for s in papers.paper("lfssd").plan(values)} == \
        {"cifar10": 20, "cifar20": 40, "cifar100": 200}
    both = settings("lfssd", "digits", recipe={"digits": "fast", "digits5": {"epochs": 1, "lr": 0.5}})
    assert papers.recipe_of(both, "digits") == NAMED["fast"] and papers.recipe_of(both, "digits5") == {"epochs": 1, "lr": 0.5}
    texts = settings("nabla_tau", "digits", recipe="fast")
    assert texts["recipe"] == NAMED["fast"] and texts["text"] == settings("nabla_tau", "digits")["text"]     # an override is of images


def test_a_part_of_a_data_set_has_its_recipe():
    specs = papers.paper("lfssd").plan(papers.rehearsal(settings("lfssd", "full"), 500))
    assert {(s.data.split("-")[0], json.loads(s.recipe)["epochs"], json.loads(s.recipe)["milestones"][0]) for s in specs} == \
        {("cifar10", 1, 8), ("cifar20", 1, 15), ("cifar100", 1, 60)} and all(re.search(r"-\d+$", s.data) for s in specs)


def test_the_papers_other_data_sets_run_as_the_full_preset_says():
    digit = settings("ispf", "full", scenarios={"class:7": "svhn"}, focus="class:7")
    assert {s.recipe for s in papers.paper("ispf").plan(digit)} == {records.canonical(NAMED["ispf_svhn"])}
    superclass = settings("lfssd", "full", scenarios={"class:19": "cifar20"}, focus="class:19", recipe="vit", model="vitb16-768")
    assert {(s.data, s.model, s.recipe) for s in papers.paper("lfssd").plan(superclass)} == \
        {("cifar20", "vitb16-768", records.canonical(NAMED["vit"]))}


@pytest.mark.parametrize("recipe, said", [
    ("fats", "recipe is 'fats'; it must be one of fast, lfssd_cifar10"),
    ({"digits": "fast"}, "recipe has digits; it must have one for digits5"),
    ({"digits": "fast", "digits5": "fats"}, "recipe is 'fats'"), ({"digits": "fast", "digits5": 3}, "recipe is 3; it must be a mapping"),
    ({"digits": "fast", "epochs": 3}, "recipe has 'digits'; its keys must be among"), ({}, "recipe has nothing"),
    ({"digits": "fast", "digits5": {"epochs": 3}}, "must have at least epochs and lr"), (["fast"], "must be of type dict"),
    ({"epochs": 3, "lr": 0.1, "nesterov": 1}, "nesterov is 1; it must be of type bool")])
def test_a_recipe_that_does_not_exist_is_refused_in_one_sentence(recipe, said, one_sentence):
    with pytest.raises(ValueError) as error:
        settings("lfssd", "digits", recipe=recipe)
    assert said in one_sentence(error)


def test_the_fast_recipe_leaves_out_what_an_attack_on_members_must_not_meet_and_learns(digits):
    """No smoothing, no averaged weights, no mixed images: training has no key for them. Members are seen once an epoch, as they are."""
    assert not [k for k in keyword_only(train.fit) if re.search("smooth|ema|average|mix|cut|filter", k)]
    model = models.build("resnet9-4", digits, 0)
    train.fit(model, digits.train_images, digits.train_labels, generator=torch.Generator().manual_seed(0),
              **NAMED["fast"] | {"epochs": 8, "batch_size": 32, "lr": 0.1, "augment": False})
    assert metrics.accuracy(train.logits(model, digits.test_images), digits.test_labels) > 0.7
    assert {p.dtype for p in model.parameters()} == {torch.float32} == {train.logits(model, digits.test_images[:2]).dtype}


# --- the papers' own scale

@pytest.mark.parametrize("name, preset", EVERY)
def test_the_costs_that_a_preset_states_are_those_of_its_plan(name, preset):
    section = re.split(r"\n(?=\w)", (papers.FOLDER / f"{preset}.yaml").read_text().split(f"\n{name}:")[1])[0]
    stated = re.findall(r"# ([\d,]+) training-epoch equivalents, ([\d,]+) of them for (\d+) originals? and (\d+) retrained", section)
    for domain, numbers in zip(papers.domains(settings(name, preset)), stated, strict=True):
        specs = [s for s in papers.paper(name).plan(settings(name, preset)) if s.data in domain["scenarios"].values()]
        jobs = runs.jobs_of(specs)
        references, kinds = sum(map(runs.training_epochs, jobs)), [sum((j.scenario is None) == k for j in jobs) for k in (True, False)]
        total = references + sum(map(runs.run_epochs, specs))
        assert [int(n.replace(",", "")) for n in numbers] == [round(total), round(references), *kinds]


def rates(name, n=4):
    recipe = NAMED[name]
    keys = ("lr", "schedule", "milestones", "gamma", "warmup_epochs")
    steps = recipe["epochs"] * n
    return [train.learning_rate(s, steps, n, **{k: recipe[k] for k in keys if k in recipe}) for s in range(steps)][n - 1::n]


@pytest.mark.parametrize("name, lr, epochs, milestones, gamma", [
    ("lfssd_cifar10", 0.1, 20, [7, 11, 15], 0.2), ("lfssd_cifar20", 0.1, 40, [14, 29, 34], 0.2),
    ("lfssd_cifar100", 0.1, 200, [59, 119, 159], 0.2), ("ispf", 0.1, 50, [30], 0.1), ("optml", 0.1, 182, [91, 136], 0.1)])
def test_published_recipes_with_steps_are_torchs_schedule(name, lr, epochs, milestones, gamma):
    """Milestones here count finished epochs, as torch does; LFSSD's are the first epochs, from 1, with the smaller rate."""
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser := torch.optim.SGD([torch.zeros(1)], lr=lr), milestones, gamma)
    wanted = []
    for _ in range(epochs):
        wanted.append(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()
    assert rates(name) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name, lr, epochs, end", [("nabla_tau", 0.1, 50, 0.001), ("nabla_tau_text", 5e-5, 10, 0.1)])
def test_published_recipes_with_a_line_fall_to_its_end(name, lr, epochs, end):
    assert rates(name) == pytest.approx([lr * (1 - (1 - end) * e / epochs) for e in range(epochs)], rel=1e-12)


def test_the_full_preset_has_the_papers_own_numbers():
    lfssd, ispf, vectors, tau = (settings(n, "full") for n in ("lfssd", "ispf", "forget_vectors", "nabla_tau"))
    assert [v["class"]["alpha"] for v in (lfssd["methods"]["lfssd"], lfssd["methods"]["ssd"])] == [10, 10]
    assert lfssd["methods"]["lfssd"]["random"]["alpha"] == 3.5 and round(50_000 * float("0.00166")) == 83
    assert {s.split(":")[1] for s in lfssd["scenarios"]} == {"69", "51", "2", "40", "71", "0.00166"}
    fine = {69: 19, 51: 4, 2: 14, 40: 5, 71: 10}                                # and the superclasses of the official table
    assert all(k in data.CIFAR20[v] for k, v in fine.items())
    defaults = {p.name: p.default for p in inspect.signature(distil).parameters.values()}
    published = {k: defaults[k] for k in ("epochs", "rounds", "student_steps", "warmup", "batch_size", "latent")}
    published |= {"image_shape": [3, 32, 32], "widths": [256, 128, 64]}
    assert all(ispf["methods"][m]["class"] == published for m in STRATEGIES)
    assert {s for s in vectors["scenarios"] if s.startswith("class")} == {f"class:{c}" for c in range(10)} == set(vectors["compared"])
    assert tau["methods"]["nabla_tau"] == {"random": {"batch_size": 256}, "class": {"batch_size": 256}}
    assert all(values["seeds"] == 3 for values in (lfssd, ispf, vectors, tau))


# --- refusals

@pytest.mark.parametrize("call, said", [
    (lambda: settings("lfsdd", "digits"), "lfsdd"), (lambda: settings("lfssd", "digit"), "digit"),
    (lambda: settings("lfssd", "digits", aplha=3), "aplha"), (lambda: settings("lfssd", "digits", seeds=0), "seeds"),
    (lambda: settings("lfssd", "digits", seeds=2.5), "seeds"), (lambda: settings("lfssd", "digits", seeds="3"), "seeds"),
    (lambda: settings("lfssd", "digits", alphas=5), "alphas"), (lambda: settings("lfssd", "digits", model=["a"]), "model"),
    (lambda: settings("lfssd", "digits", focus="class:7"), "class:7"), (lambda: papers.paper("nothing"), "nothing"),
    (lambda: Session("lfssd", "huge"), "huge"), (lambda: Session("lfssd", "digits", nothing=1), "nothing")])
def test_bad_input_is_refused_in_one_sentence(call, said, one_sentence):
    with pytest.raises(ValueError) as error:
        call()
    assert said in one_sentence(error)


def test_an_unknown_figure_is_refused_in_one_sentence(lab, one_sentence):
    with pytest.raises(ValueError) as error:
        lab.figure("rular")
    assert "rular" in one_sentence(error) and "ruler" in str(error.value)


def test_none_keeps_the_presets_value_and_another_value_replaces_it():
    first = settings("lfssd", "digits")
    assert settings("lfssd", "digits", seeds=None, focus=None) == first
    changed = settings("lfssd", "digits", seeds=2, alphas=[1], focus="class:3")
    assert (changed["seeds"], changed["alphas"], changed["focus"]) == (2, [1], "class:3")
    assert settings("lfssd", "digits") == first                                # the file's values are read anew each time


# --- plans

@pytest.mark.parametrize("name, preset", EVERY)
def test_a_plan_has_each_run_once(name, preset):
    specs = papers.paper(name).plan(settings(name, preset))
    assert len({s.key for s in specs}) == len({(str(s), s.data, s.params, s.options) for s in specs}) == len(specs) > 0


@pytest.mark.parametrize("name, preset", EVERY)
def test_every_run_has_its_references_and_a_method_that_knows_the_scenario(name, preset):
    values = settings(name, preset)
    specs = papers.paper(name).plan(values)
    at = {(scenario, dataset): domain for domain in papers.domains(values) for scenario, dataset in domain["scenarios"].items()}
    assert {(s.scenario, s.data, s.seed) for s in specs} == {(*where, seed) for where, d in at.items() for seed in range(d["seeds"])}
    there = {(s.study, s.method, s.scenario, s.data, s.seed) for s in specs}
    for s in specs:
        domain = at[s.scenario, s.data]
        recipe = records.canonical(papers.recipe_of(domain, s.data))
        assert s.study in papers.paper(name).STUDIES and (s.model, s.recipe) == (domain["model"], recipe)
        assert s.method == "original" or s.scenario.split(":")[0] in METHODS[s.method].scenarios
        assert {("unlearn", m, s.scenario, s.data, s.seed) for m in ("original", "retrain")} <= there
        assert runs.run_epochs(s) > 0 and (s.method in METHODS or s.method == "original")


@pytest.mark.parametrize("name", papers.PAPERS)
def test_more_seeds_add_runs_and_change_none(name):
    module = papers.paper(name)
    few, many = ({s.key: s.study for s in module.plan(settings(name, "digits", seeds=n))} for n in (2, 3))
    own = {k for k, v in settings(name, "digits").items() if isinstance(v, dict) and "seeds" in v}      # studies with seeds of their own
    assert few.items() < many.items()
    assert 2 * sum(study not in own for study in many.values()) == 3 * sum(study not in own for study in few.values()) > 0


def test_the_paper_s_minimum_is_planned_at_digits():
    """At least three seeds of the whole pipeline, two scenarios, and every method of the comparison."""
    values = settings("lfssd", "digits")
    assert values["seeds"] >= 3 and len(values["scenarios"]) >= 2
    assert {"finetune", "amnesiac", "bad_teacher", "unsir", "ssd", "lfssd"} <= set(values["methods"])
    assert {"exact", "sensitivity", "anatomy", "images", "relearn"} <= set(values["studies"])


def test_a_control_runs_at_the_settings_of_the_method_that_it_controls():
    specs = [s for s in papers.paper("lfssd").plan(settings("lfssd", "digits")) if s.study == "unlearn" and s.seed == 0]
    params = {(s.method, s.scenario): s.params for s in specs}
    for scenario in settings("lfssd", "digits")["scenarios"]:
        assert params["random_dampening", scenario] == params["lfssd", scenario]


@pytest.mark.parametrize("name, change", [
    ("lfssd", {"model": "allcnn-8"}), ("lfssd", {"alphas": [1]}), ("lfssd", {"recipe": {"epochs": 1, "lr": 0.1}}),
    ("nabla_tau", {"model": "allcnn-8"}), ("nabla_tau", {"variants": {"as published": {}}}), ("nabla_tau", {"curve": {"points": 1}}),
    ("nabla_tau", {"wrong_way": {"lr": 0.5}}), ("ispf", {"model": "allcnn-8"}), ("ispf", {"relearn": {"lr": 0.01, "batches": 5}}),
    ("ispf", {"snapshots": {"epochs": [1], "points": 4, "pictures": 2}}), ("ispf", {"extras": []})])
def test_another_setting_is_another_run(name, change):
    module = papers.paper(name)
    before, after = ({s.key for s in module.plan(settings(name, "digits", seeds=1, **c))} for c in ({}, change))
    assert after - before


@pytest.mark.parametrize("name, method, study", [("lfssd", "ssd", "anatomy"), ("nabla_tau", "scrub", "grid"),
                                                 ("ispf", "is_gkt", "longer")])
def test_a_changed_method_or_study_version_is_another_run(monkeypatch, name, method, study):
    values = settings(name, "digits", seeds=1)
    module = papers.paper(name)
    before = {s.key: s for s in module.plan(values)}
    monkeypatch.setitem(METHODS, method, replace(METHODS[method], version=99))
    assert {s.method for s in module.plan(values) if s.key not in before} == {method}
    monkeypatch.undo()
    monkeypatch.setitem(module.STUDIES, study, replace(module.STUDIES[study], version=99))
    assert {s.study for s in module.plan(values) if s.key not in before} == {study}


@pytest.mark.parametrize("name", papers.PAPERS)
def test_tuning_tries_every_point_of_every_grid_at_a_seed_that_is_not_reported(name):
    """In each domain and kind of scenario, all on one scenario, beside the retrained model that the distance is measured to."""
    values = settings(name, "digits")
    trials = papers.paper(name).tuning(values)
    if "grids" not in values:                                                   # every method at the preset's settings
        assert trials == [] and "pilot_seed" not in values
        return
    assert values["pilot_seed"] not in range(values["seeds"]) and {t[3].seed for t in trials} == {values["pilot_seed"]}
    assert len({t[3].key for t in trials}) == len(trials)
    tried, scenarios = {}, {}
    for method, kind, change, spec in trials:
        assert spec.method == method and spec.scenario.startswith(f"{kind}:")
        assert change.items() <= spec.hyper_parameters.items()
        tried.setdefault((spec.data, method, kind), []).append(tuple(change.values()))
        scenarios.setdefault((spec.data, kind), set()).add(spec.scenario)
    assert all(len(one) == 1 for one in scenarios.values())
    for domain in papers.domains(values):
        sets = {s.split(":")[0]: d for s, d in domain["scenarios"].items()}
        for method, grid in domain["grids"].items():
            for kind in domain["methods"][method]:
                assert tried.pop((sets[kind], method, kind)) == list(itertools.product(*grid.values())), f"{method} {kind}"
    assert tried == {(d, "retrain", kind): [()] for d, kind in scenarios}


# --- the notebook's parameters

def cells(name):
    return [c for c in nbformat.read(notebooks.source(name), as_version=4).cells if c.cell_type == "code"]


def parameters(name):
    """{name: (annotation, default)} of the cell that papermill replaces."""
    (cell,) = [c for c in cells(name) if "parameters" in c.metadata.get("tags", [])]
    out = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.AnnAssign), "a parameter needs an annotation: papermill --help-notebook shows it"
        out[node.target.id] = (ast.unparse(node.annotation), ast.literal_eval(node.value))
    return out


@pytest.mark.parametrize("name", papers.PAPERS)
def test_parameters_are_literals_of_their_type_and_all_are_used(name):
    used = {n.id for c in cells(name) if "parameters" not in c.metadata.get("tags", []) for n in ast.walk(ast.parse(c.source))
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    for parameter, (annotation, default) in parameters(name).items():
        assert parameter in used, f"{parameter} changes nothing"
        assert default is None or annotation == type(default).__name__


@pytest.mark.parametrize("name", papers.PAPERS)
def test_every_parameter_has_a_comment(name):
    (cell,) = [c for c in cells(name) if "parameters" in c.metadata.get("tags", [])]
    for parameter in set(parameters(name)) - {"bands"}:                         # it has the text above
        (line,) = [li for li in cell.source.splitlines() if li.startswith(f"{parameter}:")]
        assert "#" in line, parameter


@pytest.mark.parametrize("name", papers.PAPERS)
def test_parameters_fit_the_settings(name, nothing_computed):
    values = settings(name, "digits")
    given = parameters(name)
    assert given["preset"][1] == "digits" and given["recompute"][1] is False and given["write"][1] is False
    for parameter, (annotation, default) in given.items():
        if parameter not in OUTER:
            assert annotation == type(values[parameter]).__name__, parameter
            assert settings(name, "digits", **{parameter: default})


@pytest.mark.parametrize("name", papers.PAPERS)
@pytest.mark.parametrize("seeds", [None, 2])
def test_papermill_gets_only_parameters_that_the_notebook_has(monkeypatch, tmp_path, name, seeds):
    """It would log an unknown one and go on."""
    passed = {}

    def fake(source, target, parameters, **_):
        assert source == str(notebooks.source(name))
        passed.update(parameters)
        open(target, "w").close()
    monkeypatch.setenv("UNLEARNLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(papermill, "execute_notebook", fake)
    target = notebooks.execute(name, "digits", recompute=True, seeds=seeds)
    assert target.is_relative_to(tmp_path) and target.exists()
    assert passed == {"preset": "digits", "recompute": True, "write": True} | ({"seeds": 2} if seeds else {})
    given = parameters(name)
    for key, value in passed.items():
        assert given[key][0] == type(value).__name__


def test_the_notebook_predicts_quantities_that_are_measured(lab):
    bands = parameters("lfssd")["bands"][1]
    assert set(bands) == set(text.QUANTITIES) == set(text.measured(lab))
    assert all(low < high for low, high in bands.values())
    assert len(text.box(bands).frame) == len(text.predictions(lab, bands).frame) == len(bands)


def test_the_stops_of_the_notebook_lie_on_the_curve():
    stops = parameters("lfssd")["stops"][1]
    assert set(stops) <= set(settings("lfssd", "digits")["alphas"]) and len(stops) == 3


# --- sessions

@pytest.mark.parametrize("name, preset", REPLAYABLE)
def test_a_session_replays_the_reference_without_computing_or_writing(name, preset, nothing_computed):
    session = Session(name, preset)
    assert [r.spec.key for r in session.records] == [s.key for s in session.specs]
    assert session.frame().paper.unique().tolist() == [name] and not nothing_computed.exists()


@pytest.mark.parametrize("name", papers.PAPERS)
def test_the_digits_reference_is_committed_complete_and_holds_nothing_else(name):
    keys = {s.key for s in papers.paper(name).plan(settings(name, "digits"))}
    assert set(Store.reference("digits", name).read()) == keys


def test_recompute_does_not_look_at_the_reference(nothing_computed):
    with pytest.raises(AssertionError, match="computed"):
        Session("lfssd", "digits", recompute=True, seeds=1)


def test_recompute_reads_this_machine_s_own_records(nothing_computed, lab):
    Store.fresh("digits", "lfssd").add(lab.records)
    session = Session("lfssd", "digits", recompute=True)
    assert session.records == lab.records


def test_fewer_seeds_replay_a_part(nothing_computed):
    session = Session("lfssd", "digits", seeds=2)
    assert {r.spec.seed for r in session.records} == {0, 1} and "n = 2" in session.provenance()


def test_frames_have_one_row_a_run_and_rows_belong_to_their_run(lab):
    for study in STUDIES:
        of = [r for r in lab.records if r.spec.study == study]
        assert len(lab.frame(study)) == len(of) > 0
        if any(r.rows for r in of):
            assert len(lab.rows(study)) == sum(len(r.rows) for r in of)
    one = next(r for r in lab.records if (r.spec.study, r.spec.method, r.spec.seed) == ("unlearn", "lfssd", 1))
    row = lab.frame().query("method == 'lfssd' and seed == 1 and scenario == @one.spec.scenario").iloc[0]
    assert row.acc_forget == one.metrics["acc_forget"] and row.epochs == one.timing["epochs"]
    assert row.hp_alpha == one.spec.hyper_parameters["alpha"]


def test_one_scenario_alone_takes_the_data_of_its_kind_and_leaves_the_settings_as_they_are():
    images, both = settings("lfssd", "digits"), settings("nabla_tau", "digits")
    for scenario, name in (("subclass:3", "digits5"), ("random:0.2", "digits"), ("class:1+2", "digits")):
        alone = papers.only_scenario(images, scenario)
        assert (alone["scenarios"], alone["focus"]) == ({scenario: name}, scenario) and "text" not in alone
    alone = papers.domains(papers.only_scenario(both, "random:0.2"))
    assert [d["scenarios"] for d in alone] == [{"random:0.2": "digits"}, {"random:0.2": "scipy_docs"}]
    assert {d["focus"] for d in alone} == {"random:0.2"}
    assert "text" not in papers.only_scenario(both, "class:3")
    assert images == settings("lfssd", "digits") and both == settings("nabla_tau", "digits")


def test_a_session_knows_which_studies_it_has(nothing_computed, lab):
    assert all(map(lab.has, STUDIES)) and not lab.has("curve")
    assert [s for s in STUDIES if Session("lfssd", "digits", studies=["exact"]).has(s)] == ["unlearn", "alpha", "exact"]


def test_a_study_that_the_preset_lacks_is_said_to_be_missing(nothing_computed, one_sentence):
    session = Session("lfssd", "digits", seeds=2, studies=["alpha_ssd"])
    with pytest.raises(NotAvailable) as error:
        session.rows("relearn")
    assert "relearn" in one_sentence(error)
    for name in ("relearn", "importance", "strip"):
        shown = session.figure(name)
        assert isinstance(shown, tables.Markdown) and "ot available" in repr(shown) and "\n" not in repr(shown)
    assert isinstance(session.figure("alpha_curve"), plots.Drawn)
    for name in text.READINGS:
        assert repr(text.reading(session, name))
    assert text.measured(session)["relearning"].n == 0 and "nan" not in repr(text.answer(session))
    table = session.verdicts()
    assert len(table) == len(CLAIMS) and "not testable at this preset" in set(table.verdict)


def test_verdicts_of_other_presets_are_columns_and_are_not_written(nothing_computed):
    here, there = Session("lfssd", "digits", write=True), Session("lfssd", "cifar10")
    table = here.verdicts(there)
    assert list(table.columns[-2:]) == ["evidence", "at cifar10"] and table["at cifar10"].tolist() == there.verdicts().verdict.tolist()
    assert table.verdict.tolist() == here.verdicts().verdict.tolist() != table["at cifar10"].tolist()
    assert "at cifar10" not in (nothing_computed / "digits" / "lfssd" / "claims.md").read_text()


def test_verdicts_are_written_only_where_asked(nothing_computed):
    quiet = Session("lfssd", "digits")
    table = quiet.verdicts()
    quiet.figure("wrong_way")
    assert not nothing_computed.exists()
    loud = Session("lfssd", "digits", write=True)
    loud.verdicts()
    written = (nothing_computed / "digits" / "lfssd" / "claims.md").read_text()
    assert loud.provenance() in written and all(e in written for e in table.evidence)


def test_draw_makes_every_figure_and_the_verdicts(nothing_computed, monkeypatch):
    session = Session("lfssd", "digits", write=True)
    monkeypatch.setattr(session.module, "FIGURES", {k: FIGURES[k] for k in ("wrong_way", "cost")})
    done = list(papers.draw(session))
    assert len(done) == 3 and done[0].startswith("wrong_way") and done[-1] == "claims"
    assert sorted(p.name for p in (nothing_computed / "digits" / "lfssd").iterdir()) == [
        "claims.md", "cost.csv", "cost.png", "wrong_way.csv", "wrong_way.png"]


# --- a changed reference record

@pytest.fixture
def copied_reference(monkeypatch, tmp_path, nothing_computed):
    """The reference records in a folder of the test, to be altered."""
    store = Store.reference("digits", "lfssd")
    copy = tmp_path / "notebooks" / "records" / "digits" / "lfssd.jsonl"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(store.path.read_bytes())
    monkeypatch.setattr(records, "ROOT", tmp_path)
    return copy


def altered(line, signed):
    """The line with one accuracy changed; with its own checksum if ``signed``."""
    content = json.loads(line)
    content["metrics"]["acc_test_retain"] -= 0.25
    if signed:
        content.pop("sha")
        content["sha"] = digest(records.canonical(content).encode())
    return records.canonical(content)


@pytest.mark.parametrize("signed", [False, True])
def test_a_changed_number_is_refused_or_with_a_new_checksum_shown(copied_reference, lab, signed, one_sentence):
    lines = copied_reference.read_text().splitlines()
    (index,) = [i for i, line in enumerate(lines) if '"study":"unlearn"' in line and '"method":"lfssd"' in line
                and '"seed":0' in line and '"scenario":"class:8"' in line]
    lines[index] = altered(lines[index], signed)
    copied_reference.write_text("".join(f"{line}\n" for line in lines))
    if not signed:
        with pytest.raises(records.DamagedFile) as error:
            Session("lfssd", "digits")
        assert f"line {index + 1}" in one_sentence(error) and copied_reference.read_text().splitlines() == lines
        return
    session = Session("lfssd", "digits")
    for show in (text.paper_table, lambda s: text.reading(s, "wrong_way"), lambda s: s.figure("cost")):
        assert repr(show(session)) != repr(show(lab))


# --- sentences and tables of the LFSSD notebook

@pytest.mark.parametrize("name", text.READINGS)
def test_every_reading_is_a_sentence_with_numbers(lab, name):
    said = repr(text.reading(lab, name))
    assert said.startswith("*We measured:* ") and said.endswith(".") and re.search(r"\d", said) and "\n" not in said
    assert "nan" not in said and "not available" not in said


def test_every_figure_with_numbers_has_its_reading():
    assert set(text.READINGS) == set(FIGURES) - {"data", "strip"}


def of(lab, method, key, scenario=None):
    rows = [r for r in lab.records if (r.spec.study, r.spec.method, r.spec.scenario) ==
            ("unlearn", method, scenario or lab.settings["focus"])]
    return interval([r.metrics[key] for r in rows])


def test_readings_quote_the_records(lab):
    wrong, cost, ruler = (repr(text.reading(lab, n)) for n in ("wrong_way", "cost", "ruler"))
    for method in ("lfssd", "random_dampening"):
        assert f"{of(lab, method, 'acc_test_forget').text()} %" in wrong and f"{of(lab, method, 'acc_test_retain').text()} %" in wrong
    focus = text.focus(lab)
    assert paired(focus, "D_r", "lfssd", "retrain").text() in cost
    assert of(lab, "lfssd", "loss_forget").text(2, 1) in ruler and of(lab, "retrain", "mia_entropy").text() in ruler
    scenarios, rows = repr(text.reading(lab, "scenarios")), text.windows(lab).frame.set_index("scenario")
    for scenario in lab.settings["scenarios"]:
        key = "acc_forget" if scenario.startswith("random") else "acc_test_forget"
        assert rows["acc D_f (%): LFSSD (retrained)"][scenario] == \
            f"{of(lab, 'lfssd', key, scenario).text()} ({of(lab, 'retrain', key, scenario).text()})"
        assert f"{scenario} at alpha {lab.settings['methods']['lfssd'][scenario.split(':')[0]]['alpha']:g}: " in scenarios


def test_a_reading_says_higher_only_of_an_interval_without_zero(lab, monkeypatch):
    rows = text.focus(lab)
    for shift, word in ((10.0, "higher"), (-10.0, "lower")):
        moved = rows.assign(loss_forget=rows.loss_forget.where(rows.method != "lfssd", rows.loss_forget + shift))
        monkeypatch.setattr(text, "focus", lambda session, study="unlearn", moved=moved: moved)
        assert f"LFSSD is {word} than retrained" in repr(text.reading(lab, "ruler"))


def test_tables_have_ours_beside_retrained_and_n(lab):
    table = text.paper_table(lab).frame
    for scenario, part in table.groupby("scenario"):
        assert {"original", "retrained", "LFSSD", "SSD"} <= set(part.method), scenario
        assert set(part.n) == {lab.settings["seeds"]}
    ours = table[(table.method == "LFSSD") & (table.scenario == lab.settings["focus"])].iloc[0]
    assert ours["acc D_r (%)"] == of(lab, "lfssd", "acc_test_retain").text()
    assert ours["acc D_f (%)"] == of(lab, "lfssd", "acc_test_forget").text()
    assert set(table.iloc[:, -1]) == {tables.MISSING}                           # nobody has published numbers on digits


def test_the_audit_has_the_controls_and_a_perfect_retrained_row(lab):
    table = text.audit_table(lab).frame.set_index("method")
    assert {"control: mask logit", "control: head only", "random dampening"} <= set(table.index)
    assert table["Avg.Gap (0 is best)"]["retrained"] == "0.0 ± 0.0" and table["ToW (1 is best)"]["retrained"] == "1.00 ± 0.00"
    assert table["Avg.Gap (0 is best)"]["original"] != "0.0 ± 0.0"


def test_costs_are_those_of_the_recipe(lab):
    table = text.cost_table(lab).frame.set_index("method")
    epochs = lab.settings["recipe"]["epochs"]
    assert table["training-epoch equivalents"]["original"] == f"{epochs:.2f} ± 0.00"
    assert table["training-epoch equivalents"]["control: mask logit"] == "0.00 ± 0.00"
    assert table["weights changed (%)"]["original"] == "0.0 ± 0.0"
    assert float(table["training-epoch equivalents"]["retrained"].split()[0]) < epochs


def test_beyond_the_bound_the_first_stop_is_the_original_model(lab):
    table = text.stops(lab, [16, 2, 1]).frame.set_index("model")
    assert list(table.index) == ["LFSSD, alpha = 16", "LFSSD, alpha = 2", "LFSSD, alpha = 1", "original", "retrained"]
    for key in ("acc D_r (%)", "acc D_f (%)"):
        assert table[key]["LFSSD, alpha = 16"] == table[key]["original"]
    assert table["weights selected (%)"]["LFSSD, alpha = 16"] == "0.0 ± 0.0"
    shares = [float(table["weights selected (%)"][f"LFSSD, alpha = {a}"].split()[0]) for a in (16, 2, 1)]
    assert shares == sorted(shares) and shares[-1] > 0


def test_a_stop_between_two_values_takes_the_nearest(lab):
    assert text.stops(lab, [15.4]).frame.model[0] == "LFSSD, alpha = 16"


def test_the_window_is_where_both_accuracies_are_near_the_retrained_models(lab):
    for scenario in lab.settings["scenarios"]:
        d_r, d_f = ("acc_test", "acc_forget") if scenario.startswith("random") else ("acc_test_retain", "acc_test_forget")
        kept, gone = of(lab, "retrain", d_r, scenario).mean, of(lab, "retrain", d_f, scenario).mean
        rows = [row for r in lab.records if (r.spec.study, r.spec.method, r.spec.scenario) == ("alpha", "lfssd", scenario)
                and "reduction" not in r.spec.hyper_parameters for row in r.rows if row["lam"] == 1]
        means = {alpha: {key: interval([row[key] for row in rows if row["alpha"] == alpha]).mean for key in ("D_r", "D_f")}
                 for alpha in lab.settings["alphas"]}
        for points in (0.005, 0.02, 0.08, 0.3):
            wanted = [a for a, mean in means.items() if mean["D_r"] >= kept - points and abs(mean["D_f"] - gone) <= points]
            assert text.window(lab, scenario, points) == wanted


def test_a_control_fools_the_columns_in_which_it_is_nearer_to_retrained(lab, monkeypatch):
    rows = text.focus(lab)
    as_retrained = rows[rows.method == "retrain"].assign(method="mask_logit", js_test=0.0, js_forget=0.0)
    for control, fooled in ((as_retrained, ["acc D_f", "acc D_r", "MIA", "ToW", "AUC confidence", "TPR", "JS test", "JS forget"]),
                            (rows[:0], ["no column"])):
        changed = pd.concat([rows[rows.method != "mask_logit"], control])
        monkeypatch.setattr(text, "focus", lambda session, study="unlearn", changed=changed: changed)
        said = repr(text.fooled(lab))
        assert all(name in said for name in fooled)


def test_each_missed_band_is_discussed_and_no_other(lab):
    values = text.measured(lab)
    assert set(text.MISSED) == {(quantity, side) for quantity in text.QUANTITIES for side in ("below", "above")}
    wide = {k: [v.mean - 1, v.mean + 1] for k, v in values.items()}
    assert repr(text.misses(lab, wide)) == "No mean missed its band this time."
    for key, value in values.items():
        for side, sign in (("below", 1), ("above", -1)):
            shift = sign * (5 + value.half)                                     # beyond chance
            said = repr(text.misses(lab, wide | {key: [value.mean + shift - 1, value.mean + shift + 1]}))
            assert text.MISSED[key, side] in said and said.count(" the band: ") == 1


def test_the_measured_quantities_are_means_over_seeds(lab):
    values = text.measured(lab)
    assert all(v.n == lab.settings["seeds"] for v in values.values())
    assert values["D_f"].mean == pytest.approx(100 * of(lab, "lfssd", "acc_test_forget").mean)
    lost = of(lab, "original", "acc_test_retain").mean - of(lab, "lfssd", "acc_test_retain").mean
    assert values["D_r lost"].mean == pytest.approx(100 * lost)
    assert values["attack"].mean == pytest.approx(100 * (of(lab, "lfssd", "mia_entropy").mean - of(lab, "retrain", "mia_entropy").mean))
    assert values["selected"].mean == pytest.approx(100 * of(lab, "lfssd", "changed").mean, rel=0.01)    # what is selected is changed


def test_the_answer_is_made_of_measured_numbers(lab):
    said = repr(text.answer(lab))
    assert f"preset digits, n = {lab.settings['seeds']}" in said and "*We measured*" in said
    for method in ("original", "lfssd", "retrain"):
        assert of(lab, method, "acc_test_forget").text() in said
    assert f"{text.measured(lab)['cost'].mean:.1f} %" in said


@pytest.mark.parametrize("name, preset", EVERY)
def test_the_models_of_the_presets_can_be_built(digits, name, preset):
    for domain in papers.domains(settings(name, preset)):
        if domain["model"] == "roberta-768":                                    # it needs weights: see the tests of texts
            assert set(domain["scenarios"].values()) == {"goemotions_bpe"}
            continue
        images = set(domain["scenarios"].values()) <= set(IMAGES)
        d = digits if images else data.load("scipy_docs")                       # any data of that domain will do
        assert models.count_parameters(models.build(domain["model"], d, 0)) > 1000


def test_the_presets_count_of_the_parameters_is_right(digits):
    assert f"{models.count_parameters(models.build('allcnn-16', digits, 0)):,} parameters" in (papers.FOLDER / "digits.yaml").read_text()


def test_every_paper_has_a_notebook_and_a_make_target():
    assert {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")} >= set(papers.PAPERS)
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^PAPERS := (.*)$", makefile, re.M)[1].split() == list(papers.PAPERS)
    for name in papers.PAPERS:
        assert re.search(rf"^{name}: .*\n\t.*\bfigures PAPERS={name}$", makefile, re.M), name
