"""The paper on ∇τ: its plan, the command line, and whether the reference reproduces."""

import inspect

import pytest
from nabla import SMALL, WORDS, reference_session, small

from unlearnlib import data, papers, verify
from unlearnlib.__main__ import _plan, main, parser
from unlearnlib.methods import METHODS
from unlearnlib.papers import domains, settings
from unlearnlib.papers.nabla_tau import STUDIES, plan, studies, tuning
from unlearnlib.papers.nabla_tau.claims import fraction
from unlearnlib.records import Record, Store, canonical


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    yield from reference_session(tmp_path_factory)


# --- the plan

def planned(preset="digits", **overrides):
    values = settings("nabla_tau", preset, **overrides)
    return values, plan(values)


def test_the_papers_protocol_is_planned_at_digits():
    """Fractions of 3, 15 and 30 % and a class, images and text, at least three seeds, every baseline of the paper."""
    values, specs = planned()
    images, texts = domains(values)
    assert values["seeds"] >= 3 and images["recipe"] != texts["recipe"]
    assert {fraction(s) for s in images["scenarios"] if s.startswith("random")} == {0.03, 0.15, 0.3}
    assert any(s.startswith("class:") for s in images["scenarios"]) and {fraction(s) for s in texts["scenarios"]} == {0.03, 0.15, 0.3}
    assert set(values["studies"]) == set(STUDIES) - {"unlearn"} and {"curve", "variants"} <= set(texts["studies"])
    there = {(s.data, s.scenario, s.method) for s in specs if s.study == "unlearn"}
    baselines = {"original", "retrain", "finetune", "amnesiac", "scrub", "neggrad_plus", "ssd", "nabla_tau"}
    for scenario, name in images["scenarios"].items():
        ran = {m for d, s, m in there if (d, s) == (name, scenario)}
        assert baselines <= ran and ("scrub_r" in ran) == scenario.startswith("random"), scenario
    for scenario, name in texts["scenarios"].items():
        assert {m for d, s, m in there if (d, s) == (name, scenario)} == {"original", "retrain", "finetune", "neggrad_plus", "nabla_tau"}


def test_detailed_studies_run_on_the_focus_of_their_own_domain():
    values, specs = planned(seeds=2)
    for domain in domains(values):
        name = domain["scenarios"][domain["focus"]]
        mine = [s for s in specs if s.data == name and s.study != "unlearn"]
        assert {s.scenario for s in mine} == {domain["focus"]} and {s.study for s in mine} == set(domain["studies"])
        wrong = {"neggrad_plus"} if domain["wrong_way"] else set()
        assert {s.method for s in mine if s.study == "curve"} == {"nabla_tau", "finetune"} | wrong
        assert {s.method for s in mine if s.study in ("variants", "grid", "images")} == {"nabla_tau"}
        (variants,) = {s.options for s in mine if s.study == "variants"}
        assert variants == canonical({"variants": domain["variants"]})
    assert {s.method for s in specs if s.study == "relearn"} == {"nabla_tau", "finetune", "retrain"}


def test_neggrad_is_watched_twice_as_tuned_and_beyond():
    values, specs = planned(seeds=1)
    assert values["wrong_way"] and {"lr", "retain_weight"} >= set(values["wrong_way"])
    for domain in domains(values):
        mine = [s.hyper_parameters for s in specs if (s.study, s.method, s.data) ==
                ("curve", "neggrad_plus", domain["scenarios"][domain["focus"]])]
        if not domain["wrong_way"]:
            assert mine == []
            continue
        tuned = domain["methods"]["neggrad_plus"]["random"]
        assert mine == [tuned, tuned | domain["wrong_way"]] and mine[0] != mine[1]
        push = [(1 - p["retain_weight"]) * p["lr"] for p in mine]
        assert push[1] > push[0]                                                # the figure tells the two apart by this


@pytest.mark.parametrize("preset", papers.PRESETS)
def test_on_images_the_method_runs_as_published(preset):
    """AdamW at 1e-3 falling to a tenth, 6 passes, BatchNorm frozen: the function's own defaults; only batches follow the data's size."""
    defaults = {k: p.default for k, p in inspect.signature(METHODS["nabla_tau"].function).parameters.items()}
    assert (defaults["lr"], defaults["gamma"], defaults["retain_epochs"], defaults["bn_mode"]) == (1e-3, 0.1, 6, "eval")
    values, specs = planned(preset, seeds=1)
    mine = [s for s in specs if (s.study, s.method) == ("unlearn", "nabla_tau") and s.data in values["scenarios"].values()]
    assert mine and all(set(s.hyper_parameters) == {"batch_size"} for s in mine) and len({s.params for s in mine}) == 1
    assert "nabla_tau" not in values["grids"]


@pytest.mark.parametrize("preset", papers.PRESETS)
def test_options_are_what_the_studies_read(preset):
    values, _ = planned(preset)
    watched = set(inspect.signature(studies._Watch).parameters) - {"s"}
    changes = set(inspect.signature(METHODS["nabla_tau"].function).parameters) - {"model", "access", "generator", "callback"}
    for domain in domains(values):
        assert set(domain["curve"]) == watched
        assert all(set(change) <= changes | {"held_out"} for change in domain["variants"].values())
        assert {change["held_out"] for change in domain["variants"].values() if "held_out" in change} <= {"retain"}
        if "grid" in domain["studies"]:
            assert set(domain["grid"]) == {"fractions", "alphas", "bn_mode", "max_epochs"}
        assert set(domain["wrong_way"]) <= set(inspect.signature(METHODS["neggrad_plus"].function).parameters)


def test_the_method_is_tuned_on_text_alone():
    values, _ = planned()
    tried = {(spec.data, name) for name, _, _, spec in tuning(values)}
    texts = domains(values)[1]["scenarios"]
    assert ("digits", "nabla_tau") not in tried and {d for d, name in tried if name == "nabla_tau"} == set(texts.values())
    assert {spec.scenario for name, kind, _, spec in tuning(values) if kind == "random"} == {values["focus"]}
    assert not any(name in ("ssd", "finetune") for _, name in tried)            # they run as published


@pytest.mark.parametrize("change, said", [
    ({"studies": ["curve", "curves"]}, "curves"), ({"scenarios": {"subclass:1": "digits5"}, "focus": "subclass:1"}, "subclass:1")])
def test_what_the_paper_cannot_run_is_refused_in_one_sentence(change, said, one_sentence):
    with pytest.raises(ValueError) as error:
        planned(**change)
    assert said in one_sentence(error)


def test_what_the_text_cannot_run_is_refused_in_one_sentence(one_sentence):
    texts = settings("nabla_tau", "digits")["text"]
    for change, said in (({"studies": ["ruler"]}, "ruler"), ({"focus": "random:0.5"}, "random:0.5"),
                         ({"recipe": {"epochs": 1, "lr": 0.1, "speed": 2}}, "speed")):
        with pytest.raises(ValueError) as error:
            planned(text=texts | change)
        assert said in one_sentence(error)


# --- the command line

def asked(*argv):
    return _plan("nabla_tau", parser().parse_args(["run", "nabla_tau", *argv]))


def test_only_one_data_set():
    whole = asked()
    parts = [asked("--data", name) for name in ("digits", "scipy_docs")]
    assert [s for s in whole if s.data == "scipy_docs"] == parts[1] and sum(map(len, parts)) == len(whole)
    assert {s.data for s in parts[0]} == {"digits"} and asked("--data", "cifar10") == []
    with pytest.raises(SystemExit):
        asked("--data", "nothing")


def test_a_scenario_is_run_on_both_kinds_of_data():
    specs = asked("--scenario", "random:0.2", "--seeds", "1")
    assert {(s.data, s.scenario) for s in specs} == {("digits", "random:0.2"), ("scipy_docs", "random:0.2")}
    assert {s.study for s in specs if s.data == "digits"} == set(STUDIES)       # it is the scenario of the detailed studies, too
    alone = asked("--scenario", "random:0.2", "--seeds", "1", "--data", "scipy_docs")
    assert alone == [s for s in specs if s.data == "scipy_docs"]


def test_a_class_is_run_on_images_alone():
    specs = asked("--scenario", "class:3", "--seeds", "1")
    assert {(s.data, s.scenario) for s in specs} == {("digits", "class:3")} and {"nabla_tau", "retrain"} <= {s.method for s in specs}
    assert asked("--scenario", "class:3", "--seeds", "1", "--data", "digits") == specs


def test_one_method_of_one_data_set():
    specs = asked("--method", "ssd")
    assert {s.data for s in specs} == {"digits"} and {s.method for s in specs} == {"ssd"}
    assert asked("--method", "ssd", "--data", "scipy_docs") == []


def test_the_emotions_are_fetched_from_their_source(monkeypatch, tmp_path, capsys):
    from torchvision.datasets import utils

    from unlearnlib.text import GOEMOTIONS, GOEMOTIONS_URL
    fetched = []
    monkeypatch.setenv("UNLEARNLIB_DATA", str(tmp_path))
    monkeypatch.setattr(data, "load", data.load.__wrapped__)                    # another test may have read the real ones
    monkeypatch.setattr(data, "DATASETS", ("goemotions",))                      # the list afterwards need not read the others
    monkeypatch.setattr(utils, "download_url", lambda url, root, md5: fetched.append((url, root, md5)))
    assert main(["data", "fetch", "goemotions"]) == 0
    assert fetched == [(f"{GOEMOTIONS_URL}{part}.tsv", str(tmp_path / "goemotions"), GOEMOTIONS[part][0]) for part in GOEMOTIONS]
    assert "data fetch goemotions" in capsys.readouterr().out                   # nothing came, and the list says so


def test_emotions_that_cannot_be_fetched_are_one_sentence(monkeypatch, tmp_path, capsys, one_sentence):
    from torchvision.datasets import utils

    def offline(*_, **__):
        raise OSError("no route")
    monkeypatch.setenv("UNLEARNLIB_DATA", str(tmp_path))
    monkeypatch.setattr(utils, "download_url", offline)
    assert main(["data", "fetch", "goemotions"]) == 2
    assert "goemotions could not be fetched (no route)" in one_sentence(capsys.readouterr().err.removeprefix("unlearnlib: ").rstrip("\n"))


# --- does it reproduce?

def test_the_reference_reproduces_itself_and_a_moved_number_does_not(lab, monkeypatch, tmp_path):
    monkeypatch.setenv("UNLEARNLIB_FIGURES", str(tmp_path))
    fresh = Store.fresh("digits", "nabla_tau")
    fresh.add(lab.records)
    report = verify.verify("nabla_tau", "digits")
    assert report.passed and report.outside == 0 and len(report.values) > 1000 and len(report.verdicts) == 12
    moved = [Record(r.spec, r.metrics | {k: v + 2.0 for k, v in r.metrics.items()}, r.rows, r.timing, r.environment)
             if r.spec.data == "scipy_docs" else r for r in lab.records]
    fresh.path.unlink()
    fresh.add(moved)
    report = verify.verify("nabla_tau", "digits")
    assert not report.passed and report.outside > verify.ALLOWED
    fresh.path.unlink()
    fresh.add(Record(r.spec, r.metrics, [{k: v + 2.0 if isinstance(v, float) else v for k, v in row.items()} for row in r.rows]
                     if r.spec.study == "variants" else r.rows, r.timing, r.environment) for r in lab.records)
    report = verify.verify("nabla_tau", "digits")
    assert not report.passed and set(report.by[report.by.failed].study) == {"variants"}


def test_tolerances_are_those_of_one_data_set():
    """Original and retrained models of both kinds of data have the same method, scenario and parameters."""
    made = [Record(small(name="original", values=values, seed=seed), {"acc_test": level + 0.01 * seed}, [], {}, {})
            for values, level in ((SMALL, 0.9), (WORDS, 0.5)) for seed in range(3)]
    assert list(verify.spreads(made).values()) == pytest.approx([0.01, 0.01])
