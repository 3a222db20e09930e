"""The plan of Forget Vectors at Play: which runs, with which settings, and at what cost."""

import pytest
from fvectors import BOTH, CLASS, EXTRA, MINE, MIXED, OTHER, RANDOM, SHARED, UNION, preset, small

from unlearnlib import runs
from unlearnlib.papers import settings
from unlearnlib.papers.forget_vectors import FOCUS, STUDIES, plan, tuning
from unlearnlib.papers.forget_vectors.claims import BASELINES, VECTORS
from unlearnlib.tables import NOTHING_UNLEARNED

# --- the plan


def planned(**changes):
    return plan(preset() | {"seeds": 1} | changes)


def methods_of(specs, scenario):
    found = [s.method for s in specs if (s.study, s.scenario) == ("unlearn", scenario)]
    assert len(found) == len(set(found)), found
    return set(found)


def test_the_papers_protocol_is_planned_at_digits():
    """A vector for every class, two classes at once, random samples, every baseline; each run once."""
    values = settings("forget_vectors", "digits")
    specs = plan(values)
    assert {s.scenario for s in specs} >= {f"class:{c}" for c in range(10)} | {RANDOM} and any("+" in s.scenario for s in specs)
    assert values["seeds"] >= 3 and len({s.key for s in specs}) == len(specs) == values["seeds"] * len([s for s in specs if s.seed == 0])
    assert set(values["studies"]) == set(STUDIES) - {"unlearn"} == set(FOCUS)
    assert {s.method for s in specs} == {"original", "retrain", *VECTORS, *BASELINES, *NOTHING_UNLEARNED}
    assert {s.scenario for s in specs if s.method in NOTHING_UNLEARNED} == set(values["compared"])


def test_baselines_run_in_the_compared_classes_and_in_random_samples_vectors_everywhere():
    specs = planned()
    for scenario in SHARED:
        assert methods_of(specs, scenario) == {"original", "retrain", MINE, *BASELINES}
    assert methods_of(specs, EXTRA) == {"original", "retrain", MINE}
    assert methods_of(specs, UNION) == {"original", "retrain", *VECTORS}
    assert methods_of(specs, RANDOM) == {"original", "retrain", *VECTORS, *BASELINES} - {"class_f"}       # it removes classes
    assert methods_of(planned(compared=[EXTRA]), EXTRA) == methods_of(specs, CLASS) > methods_of(planned(compared=[EXTRA]), CLASS)
    assert methods_of(planned(several=["ssd"]), UNION) == {"original", "retrain", "ssd"}


def test_single_images_are_kept_of_the_vector_in_the_focus_alone():
    for focus in (CLASS, RANDOM):
        kept = {(s.method, s.scenario) for s in planned(focus=focus) if "images" in s.settings and s.study == "unlearn"}
        assert kept == {(MINE, focus)}


def test_studies_run_in_the_focus_and_the_first_scenario_of_the_other_kind():
    values = preset()
    for study in FOCUS:
        own = [s for s in planned() if s.study == study]
        scenarios = {CLASS} if study in ("arithmetic", "saliency") else set(BOTH)
        assert {s.scenario for s in own} == scenarios
        assert {s.method for s in own} == (set(values["shift"]["methods"]) if study == "shift" else {MINE})
        assert len(own) == len(scenarios) * (len(values["shift"]["methods"]) if study == "shift" else 1)
    turned = planned(focus=OTHER, scenarios=dict.fromkeys((CLASS, "random:0.2", OTHER, RANDOM), "digits"))
    assert {s.scenario for s in turned if s.study == "controls"} == {OTHER, "random:0.2"}
    assert {s.study for s in planned(studies=["tau"])} == {"unlearn", "tau"}


def test_runs_have_the_settings_of_their_kind_and_studies_their_own():
    values, specs = preset(), planned()
    for s in specs:
        kind = s.scenario.split(":")[0]
        assert s.hyper_parameters == ({} if s.method in ("original", "retrain") else values["methods"][s.method][kind]), str(s)
        wanted = {"beta": {"beta": [1, 5, 10]}, "tau": {"tau": [0, 1, 5]}, "controls": {}, "arithmetic": values["arithmetic"],
                  "saliency": values["saliency"], "shift": {k: v for k, v in values["shift"].items() if k != "methods"}}
        if s.method == MIXED:
            assert s.settings == {"class_settings": values["methods"][MINE]["class"]}
        elif s.study != "unlearn":
            assert s.settings == wanted[s.study]


def test_tuning_tries_every_point_of_the_grids_on_the_pilot_seed_with_the_reference_first():
    grids = {MINE: {"beta": [1, 3]}, "scrub": {"lr": [0.1, 0.2], "epochs": [1, 2]}, "class_f": {"alpha_forget": [1]}}
    values = preset() | {"grids": grids}
    tried = tuning(values)
    assert [(name, kind) for name, kind, _, _ in tried] == (
        [("retrain", "class")] + [(MINE, "class")] * 2 + [("scrub", "class")] * 4 + [("class_f", "class")]
        + [("retrain", "random")] + [(MINE, "random")] * 2 + [("scrub", "random")] * 4)
    for name, kind, point, spec in tried:
        assert (spec.scenario, spec.seed, spec.study) == ({"class": CLASS, "random": RANDOM}[kind], values["pilot_seed"], "unlearn")
        assert spec.hyper_parameters == ({} if name == "retrain" else values["methods"][name][kind] | point)
    assert len({spec.key for *_, spec in tried}) == len(tried) and tuning(values | {"grids": {}}) == []
    points = [p for name, kind, p, _ in tried if (name, kind) == ("scrub", "class")]
    assert points == [{"lr": a, "epochs": b} for a in (0.1, 0.2) for b in (1, 2)]


@pytest.mark.parametrize("change, said", [({"studies": ["controls", "gamma"]}, "gamma"),
                                          ({"scenarios": {"subclass:1": "digits5"}, "focus": "subclass:1"}, "subclass:1")])
def test_what_the_paper_cannot_run_is_refused_in_one_sentence(change, said, one_sentence):
    with pytest.raises(ValueError) as error:
        planned(**change)
    assert said in one_sentence(error)


def test_what_a_study_is_likely_to_cost():
    more = runs.EVALUATION_EPOCHS
    options = {"unlearn": {}, "controls": {}, "beta": {"beta": [1, 2, 3, 4]}, "tau": {"tau": [1, 2]}, "arithmetic": {}, "saliency": {}}
    cost = {study: runs.run_epochs(small(study, options=o, epochs=3)) - more for study, o in options.items()}
    assert cost == {"unlearn": 3, "controls": 6, "beta": 12, "tau": 6, "arithmetic": 36, "saliency": 5}
    composed = small(name=MIXED, scenario=RANDOM, options={"class_settings": {"epochs": 4}}, epochs=2)
    assert runs.run_epochs(composed) - more == 2 + 40 and runs.run_epochs(small(name="retrain")) == more
