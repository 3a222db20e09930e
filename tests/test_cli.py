"""The command line: what it prints, what it writes, and every bad input refused in one sentence."""

import math
import re
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pandas as pd
import pytest
import torchvision.datasets
import yaml

from unlearnlib import bench, data, papers, records, reference, runs, verify
from unlearnlib.__main__ import main, parser
from unlearnlib.claims import HOLDS
from unlearnlib.files import digest
from unlearnlib.methods import METHODS
from unlearnlib.methods.ispf import STRATEGIES
from unlearnlib.records import Record, Store

TINY = ("lfssd", "--seeds", "1", "--scenario", "class:3", "--method", "original", "--set", "model=allcnn-2", "--set",
        "recipe={epochs: 1, lr: 0.1, batch_size: 64}")


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    """Figures, data and models in folders of the test; reference models that an earlier test has in memory are forgotten."""
    for name in ("FIGURES", "CACHE", "DATA"):
        monkeypatch.setenv(f"UNLEARNLIB_{name}", str(tmp_path / name.lower()))
    forget_models()
    yield
    forget_models()


def forget_models():
    for function in (reference.trained, reference.outputs):
        function.cache_clear()


@pytest.fixture
def refused(capsys, one_sentence):
    """Checks that a command says one sentence on stderr, exits with 2, and returns the sentence."""
    def check(*argv):
        code = main([str(a) for a in argv])
        err = capsys.readouterr().err
        assert code == 2 and err.startswith("unlearnlib: ") and err.endswith("\n") and "Traceback" not in err
        return one_sentence(err.removeprefix("unlearnlib: ").removesuffix("\n"))
    return check


@pytest.fixture
def prints(capsys):
    """Runs a command that must succeed; returns what it printed."""
    def check(*argv, code=0):
        assert main([str(a) for a in argv]) == code
        return capsys.readouterr().out
    return check


@pytest.fixture
def nothing_computed(monkeypatch):
    def refuse(spec):
        raise AssertionError(f"computed: {spec}")
    monkeypatch.setattr(runs, "compute", refuse)


# --- bad input

@pytest.mark.parametrize("argv, said", [
    (["run", "lfsdd"], "lfsdd"), (["status", "lfsdd"], "lfsdd"), (["notebook", "lfsdd"], "lfsdd"),
    (["run", "--preset", "digit"], "digit"), (["draw", "--preset", "digit"], "digit"), (["records", "--preset", "digit"], "digit"),
    (["verify", "--preset", "digit"], "digit"), (["tune", "--preset", "digit"], "digit"), (["notebook", "--preset", "digit"], "digit"),
    (["run", "--method", "lfsdd"], "lfsdd"), (["run", "--set", "alpah=3"], "alpah"), (["run", "--set", "alphas"], "KEY=VALUE"),
    (["run", "--set", "alphas=3"], "alphas"), (["run", "--set", "seeds=many"], "many"), (["run", "--seeds", "0"], "seeds"),
    (["notebook", "--seeds", "0"], "seeds"), (["run", "--set", "focus=class:7"], "class:7"),
    (["run", "--scenario", "klass:3"], "klass:3"), (["run", "--scenario", "class"], "class"),
    (["run", "--scenario", "class:-1"], "class:-1"), (["run", "--scenario", "class:10"], "class 10"),
    (["run", "lfssd", "--scenario", "subclass:12"], "subclass 12"),
    (["run", "--scenario", "class:0+1+2+3+4+5+6+7+8+9"], "1000 of 1000"), (["run", "lfssd", "--scenario", "random:0"], "fraction is 0;"),
    (["run", "lfssd", "--scenario", "random:1"], "fraction is 1;"), (["run", "lfssd", "--scenario", "random:1.5"], "1.5"),
    (["run", "lfssd", "--scenario", "random:0.0001"], "0.0001"),
    (["run", "ispf", "--scenario", "random:0.1"], "ispf has settings for class at this preset:"),
    (["run", "--set", "model=resnet99"], "resnet99"), (["run", "--set", "recipe=fats"], "recipe is 'fats'; it must be one of fast, "),
    (["run", "--scenario", "random:0.2"], "ispf has settings for class at this preset: choose one of these or another paper"),
    (["data", "fetch", "imagenet"], "imagenet")])
def test_what_does_not_exist_is_refused_before_anything_is_computed(refused, nothing_computed, tmp_path, argv, said):
    assert said in refused(*argv)
    assert not (tmp_path / "figures").exists() and not list((tmp_path / "cache").rglob("*.pt"))


def test_the_sentence_names_what_there_is(refused):
    assert "digits, cifar10" in refused("run", "--preset", "x")
    assert ", ".join(METHODS) in refused("run", "--method", "x")
    assert "sensitivity_alphas" in refused("run", "lfssd", "--set", "x=1")
    assert "class, subclass, random" in refused("run", "lfssd", "--scenario", "x")
    assert ", ".join(papers.PAPERS) in refused("run", "x") and "wrong_way" in refused("run", "nabla_tau", "--set", "x=1")


@pytest.mark.parametrize("argv, asked, there", [
    (["lfssd", "--data", "scipy_docs"], "--data scipy_docs leaves no run of lfssd at", "among digits, digits5, and"),
    (["lfssd", "--method", "nabla_tau"], "--method nabla_tau leaves no run of lfssd at", "bad_teacher"),
    (["nabla_tau", "--data", "scipy_docs", "--method", "ssd"], "--data scipy_docs --method ssd leaves no run of nabla_tau",
     "among digits, scipy_docs, and"),
    (["lfssd", "--scenario", "class:3", "--data", "digits5"], "--scenario class:3 --data digits5 leaves", "among digits, and"),
    (["--data", "cifar100"], "leaves no run of forget_vectors, ispf, lfssd, nabla_tau at", "among digits, digits5, scipy_docs, and"),
    (["--preset", "cifar10", "--data", "digits"], "at preset cifar10", "among cifar10")])
def test_a_choice_that_leaves_nothing_to_run_is_refused(refused, nothing_computed, argv, asked, there):
    for dry in ([], ["--dry-run"]):
        said = refused("run", *argv, *dry)
        assert asked in said and there in said


def test_one_of_two_papers_may_have_nothing_to_run(prints, nothing_computed):
    said = prints("run", "--data", "scipy_docs", "--seeds", "1")
    assert "lfssd at preset digits: 0 runs" in said and re.search(r"nabla_tau at preset digits: [1-9]\d* runs", said)


@pytest.mark.parametrize("preset", papers.PRESETS)
def test_where_nothing_is_tuned_tuning_says_so(prints, nothing_computed, tmp_path, preset):
    said = prints("tune", "ispf", "--preset", preset)
    assert said == f"ispf at preset {preset}: nothing is tuned, every method runs at the preset's settings.\n"
    assert not list((tmp_path / "cache").rglob("*.jsonl"))


@pytest.mark.parametrize("argv", [["run", "--preset", "cifar10", "--recompute", *dry] for dry in ([], ["--dry-run"])])
def test_a_missing_data_set(refused, tmp_path, argv):
    said = refused(*argv)
    assert "cifar10" in said and str(tmp_path / "data") in said and "data fetch cifar10" in said


@pytest.mark.parametrize("paper, missing", [("forget_vectors", "cifar10"), ("ispf", "cifar10"),
                                            ("lfssd", "cifar100"), ("nabla_tau", "cifar10")])
def test_the_full_preset_without_data_and_records(refused, prints, nothing_computed, paper, missing):
    """What cannot be computed is said; what has no records has none to count, draw or compare with."""
    said = refused("run", paper, "--preset", "full", "--dry-run")
    assert said.startswith(f"{missing} was not found") and f"data fetch {missing}" in said
    assert "records" in (said := refused("draw", paper, "--preset", "full")) and f"run {paper} --preset full" in said
    assert "no reference records" in refused("verify", paper, "--preset", "full")
    planned = len(papers.paper(paper).plan(papers.settings(paper, "full")))
    assert f"{paper} full    reference: 0 computed, {planned} missing, 0 stale" in prints("status", paper)


def test_a_corrupted_data_set(refused, tmp_path):
    folder = tmp_path / "data" / torchvision.datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    for name, _ in torchvision.datasets.CIFAR10.train_list + torchvision.datasets.CIFAR10.test_list:
        (folder / name).write_bytes(b"not a batch")
    said = refused("run", "--preset", "cifar10", "--recompute", "--dry-run")
    assert "damaged" in said and str(tmp_path / "data") in said


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("File not found or corrupted.")])
def test_a_data_set_that_cannot_be_fetched(refused, monkeypatch, error):
    def offline(root, download):
        raise error
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", offline)
    assert "could not be fetched" in refused("data", "fetch", "cifar10")


def test_a_damaged_checkpoint(refused, prints, tmp_path):
    prints("run", *TINY)
    first = (tmp_path / "figures/digits/lfssd/runs.jsonl").read_bytes()
    checkpoints = sorted((tmp_path / "cache" / "models").glob("*.pt"))
    assert checkpoints
    for path in checkpoints:
        content = path.read_bytes()
        path.write_bytes(content[:len(content) // 2])
    (tmp_path / "figures/digits/lfssd/runs.jsonl").unlink()
    forget_models()
    for _ in checkpoints:                                                       # each is met, reported and set aside once
        said = refused("run", *TINY)
        assert "checkpoint" in said and "damaged" in said
    prints("run", *TINY)
    again = (tmp_path / "figures/digits/lfssd/runs.jsonl").read_bytes()
    parsed = [Record.parse(text.decode()) for text in (first, again)]
    assert parsed[0].spec == parsed[1].spec and parsed[0].metrics == parsed[1].metrics


def test_a_damaged_record(refused, prints, tmp_path, small):
    lines = small.path.read_text().splitlines()
    index = next(i for i, line in enumerate(lines) if '"acc_retain":0.' in line)
    lines[index] = lines[index].replace('"acc_retain":0.', '"acc_retain":0.1', 1)
    small.path.write_text("".join(f"{line}\n" for line in lines))
    said = refused("run", "lfssd")
    assert str(small.path) in said and f"line {index + 1} " in said
    assert small.path.with_name("runs.jsonl.damaged").read_text().splitlines() == lines
    assert "1 to compute" in prints("run", "lfssd", "--recompute", "--dry-run")  # the others were kept


def test_a_truncated_record(refused, small):
    small.path.write_bytes(small.path.read_bytes()[:-20])
    assert "damaged" in refused("status")


def test_a_damaged_reference_record_is_left_for_git(refused, small):
    path = Store.reference("digits", "lfssd").path
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    for command in (["run", "lfssd"], ["verify", "lfssd"], ["draw", "lfssd"], ["status"]):
        assert "git checkout" in refused(*command)
    assert path.read_bytes() == content[:-20]


@pytest.mark.parametrize("argv", [["run", *TINY], ["draw", "lfssd"]])
def test_a_figures_folder_that_cannot_be_written(refused, tmp_path, small, monkeypatch, argv):
    monkeypatch.setenv("UNLEARNLIB_FIGURES", str(tmp_path / "taken"))
    (tmp_path / "taken").write_text("a file")
    said = refused(*argv)
    assert str(tmp_path / "taken") in said and "UNLEARNLIB_FIGURES" in said
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_cache_folder_that_cannot_be_written(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("UNLEARNLIB_CACHE", str(tmp_path / "taken"))
    (tmp_path / "taken").write_text("a file")
    assert "UNLEARNLIB_CACHE" in refused("run", *TINY)


def test_an_interruption_is_no_error_of_the_program(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
    monkeypatch.setattr(runs, "runs", interrupted)
    assert main(["run", *TINY]) == 130
    assert re.fullmatch(r"unlearnlib: interrupted; .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("argv, said", [(["rehearse", "lfssd"], "keeps nothing"), (["bench"], "anew"),
                                        (["tune", "lfssd"], "goes on there")])
def test_an_interruption_says_what_is_kept(monkeypatch, capsys, argv, said):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
    for place, name in ((papers, "settings"), (bench, "main")):
        monkeypatch.setattr(place, name, interrupted)
    assert main(argv) == 130 and said in capsys.readouterr().err


def test_a_process_that_was_killed_is_one_sentence(monkeypatch, refused):
    def killed(*_, **__):
        raise BrokenProcessPool
    monkeypatch.setattr(runs, "runs", killed)
    assert "--jobs 1" in refused("run", *TINY)


def test_in_a_process_of_its_own_there_is_a_sentence_and_a_status_and_no_traceback():
    done = subprocess.run([sys.executable, "-m", "unlearnlib", "run", "--preset", "digit"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"unlearnlib: preset is 'digit'; [^\n]*\.\n", done.stderr)


@pytest.mark.parametrize("argv", [[], ["fly"], ["run", "--seeds", "three"], ["data", "eat"]])
def test_a_command_line_that_cannot_be_read_shows_the_usage(capsys, argv):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2 and "usage:" in capsys.readouterr().err


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    for command in "run rehearse status verify records notebook draw tune data bench".split():
        assert re.search(rf"^    {command} +\w", said, re.M), command
        with pytest.raises(SystemExit) as stopped:
            parser().parse_args([command, "--help"])
        assert stopped.value.code == 0


# --- run

def test_a_dry_run_says_what_it_would_do_and_how_long_it_takes(prints, nothing_computed, tmp_path):
    planned = len(papers.paper("lfssd").plan(papers.settings("lfssd", "digits", seeds=3)))
    said = prints("run", "lfssd", "--seeds", "3", "--recompute", "--dry-run", "--jobs", "2")
    assert f"{planned} runs, 0 already there, {planned} to compute" in said
    assert re.search(r"\d+ reference models .* about [\d,]+ training-epoch equivalents, likely \d+(\.\d)? (s|min|h) with 2 process", said)
    assert not (tmp_path / "figures").exists()


def test_nothing_is_computed_where_the_reference_has_everything(prints, nothing_computed, tmp_path):
    said = prints("run", "all", "--seeds", "2")
    assert " 0 to compute." in said and "epoch" not in said and not (tmp_path / "figures").exists()


def test_where_nothing_is_to_be_computed_no_data_are_needed(prints, nothing_computed):
    assert prints("run", "all", "--preset", "cifar10").count(" 0 to compute.") == len(papers.PAPERS)


def test_a_run_is_computed_once(prints, tmp_path):
    path = tmp_path / "figures/digits/lfssd/runs.jsonl"
    said = prints("run", *TINY)
    assert "1 runs, 0 already there, 1 to compute." in said and f"done: {path}" in said
    content = path.read_bytes()
    record = Record.parse(content.decode())
    assert (record.spec.method, record.spec.scenario, record.spec.model) == ("original", "class:3", "allcnn-2")
    assert 0 <= record.metrics["acc_forget"] <= 1 and record.timing["epochs"] == 1
    said = prints("run", *TINY)
    assert "1 runs, 1 already there, 0 to compute." in said and path.read_bytes() == content


def test_a_run_on_digits_takes_less_than_a_gigabyte(tmp_path):
    """In a process of its own: libraries, data, network and measurements."""
    subprocess.run([sys.executable, "-m", "unlearnlib", "run", *TINY], check=True, capture_output=True)
    record = Record.parse((tmp_path / "figures/digits/lfssd/runs.jsonl").read_text())
    assert 50 < record.timing["memory"] < 1000                                  # MiB


# --- rehearse

def test_a_rehearsal_runs_everything_once_and_keeps_nothing(prints, tmp_path):
    said = prints("rehearse", "lfssd", "--samples", "60", "--set", "model=allcnn-2", "--method", "retrain", "--scenario", "class:3")
    values = papers.only_scenario(papers.settings("lfssd", "digits", seeds=1), "class:3")
    planned = [s for s in papers.paper("lfssd").plan(values) if s.method == "retrain"]
    assert f"lfssd at preset digits: {len(planned)} runs, 1 seed, 60 samples" in said
    table = [line.split("|")[1:-1] for line in said.splitlines() if line.startswith("| digits")]
    assert {tuple(row[i].strip() for i in (0, 1, 3)) for row in table} == {("digits-60", "allcnn-2", "retrain")}
    assert {row[2].strip() for row in table} == {s.study for s in planned} and all(float(row[5]) > 50 for row in table)
    assert not (tmp_path / "figures").exists() and not (tmp_path / "cache" / "models").exists()


@pytest.mark.parametrize("argv, said", [(["--method", "typo"], "--method typo leaves no run"),
                                        (["--scenario", "random:0"], "fraction is 0"), (["--scenario", "random:x"], "is 'random:x'")])
def test_a_rehearsal_that_tests_nothing_fails(capsys, argv, said):
    assert main(["rehearse", "nabla_tau", "--samples", "60", "--set", "studies=[]", *argv]) > 0
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_a_rehearsal_without_the_data_says_so_and_goes_on(capsys):
    assert main(["rehearse", "ispf", "--preset", "cifar10", "--samples", "60"]) == 1
    said = capsys.readouterr().out
    planned = papers.paper("ispf").plan(papers.settings("ispf", "cifar10"))
    assert f"{len(planned)} run(s) failed, the first of them unlearn" in said
    assert said.count("cifar10 was not found") == 1 and "data fetch cifar10" in said


def test_the_least_budget_changes_no_network_no_batch_and_no_scenario():
    for name in papers.PAPERS:
        values = papers.settings(name, "digits")
        least = papers.rehearsal(values, 100)
        assert values == papers.settings(name, "digits") and least["seeds"] == 1 and least["recipe"]["epochs"] == 1
        assert least["scenarios"] == {s: f"{d}-100" for s, d in values["scenarios"].items()} and least["model"] == values["model"]
        assert least["recipe"] | {"epochs": 0} == values["recipe"] | {"epochs": 0} and least["methods"].keys() == values["methods"].keys()
        specs = papers.paper(name).plan(least)
        assert {(s.study, s.method) for s in specs} == {(s.study, s.method) for s in papers.paper(name).plan(values)}
        budgets = {k: v for s in specs for k, v in s.hyper_parameters.items() if k in papers.LEAST and not isinstance(v, str)}
        assert set(budgets.values()) <= {0, 1}, name


def test_a_rehearsal_at_full_shortens_every_budget_of_ispf():
    """Also those that distil would otherwise take from its defaults: an epoch of 5 rounds of 10 student steps is no rehearsal."""
    specs = papers.paper("ispf").plan(papers.rehearsal(papers.settings("ispf", "full"), 512))
    budgets = [{k: s.hyper_parameters.get(k) for k in ("epochs", "rounds", "student_steps", "warmup")} for s in specs
               if s.method in STRATEGIES]
    assert budgets and all(b == {"epochs": 1, "rounds": 1, "student_steps": 1, "warmup": 0} for b in budgets)


def test_a_scenario_that_the_preset_lacks_takes_the_data_of_its_kind(prints, nothing_computed):
    for scenario, name in (("class:5", "digits"), ("subclass:3", "digits5"), ("random:0.25", "digits"), ("class:1+2", "digits")):
        specs = len(papers.paper("lfssd").plan(papers.settings("lfssd", "digits", seeds=1, scenarios={scenario: name}, focus=scenario)))
        assert f"{specs} runs, 0 already there" in prints("run", "lfssd", "--seeds", "1", "--scenario", scenario, "--dry-run")


def test_only_one_method(prints, nothing_computed):
    said = prints("run", "--seeds", "1", "--method", "finetune", "--dry-run", "--recompute")
    for name in papers.PAPERS:
        wanted = sum(s.method == "finetune" for s in papers.paper(name).plan(papers.settings(name, "digits", seeds=1)))
        assert f"{name} at preset digits: {wanted} runs, 0 already there" in said


# --- small stores: the reference and this machine's records in folders of the test

@pytest.fixture
def small(monkeypatch, tmp_path):
    """The digits preset with two seeds and one scenario; its records as reference and as this machine's. Returns the latter."""
    whole = Store.reference("digits", "lfssd").read()
    values = {"lfssd": yaml.safe_load((papers.FOLDER / "digits.yaml").read_text())["lfssd"]}       # no other paper has this preset
    values["lfssd"] |= {"seeds": 2, "scenarios": {"class:8": "digits"}, "focus": "class:8", "studies": ["exact"]}
    presets = tmp_path / "presets"
    presets.mkdir()
    for preset in papers.PRESETS:
        (presets / f"{preset}.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(papers, "FOLDER", presets)
    monkeypatch.setattr(records, "ROOT", tmp_path / "clone")
    mine = [whole[s.key] for s in papers.paper("lfssd").plan(papers.settings("lfssd", "digits"))]
    for store in (Store.reference("digits", "lfssd"), Store.fresh("digits", "lfssd")):
        store.add(mine)
    return Store.fresh("digits", "lfssd")


def alter(store, change, *, study="unlearn"):
    """Rewrite a store with ``change(metrics)`` put into every record of a study, soundly signed."""
    changed = [Record(r.spec, r.metrics | change(r.metrics), r.rows, r.timing, r.environment) if r.spec.study == study else r
               for r in store.read().values()]
    store.path.unlink()
    store.add(changed)


def test_identical_records_reproduce(prints, small, nothing_computed):
    said = prints("verify", "lfssd")
    numbers = sum(not math.isnan(v) for r in small.read().values() for v in verify.measured(r).values())
    assert f"{numbers} numbers compared, 0.0 % outside their tolerance, 0 reference records not computed here" in said
    assert said.splitlines()[-1] == "reproduced"


def test_differences_within_the_tolerance_reproduce(prints, small, nothing_computed):
    alter(small, lambda m: {k: v + 0.9 * verify.FLOOR for k, v in m.items()})
    said = prints("verify", "lfssd")
    assert said.splitlines()[-1] == "reproduced" and " 0.0 % outside" in said


def test_records_beyond_their_tolerance_do_not_reproduce(prints, small, nothing_computed):
    alter(small, lambda m: {k: v + 3.0 for k, v in m.items() if k.startswith(("auc", "tpr", "js"))})
    said = prints("verify", "lfssd", code=1)
    assert said.splitlines()[-1] == "NOT reproduced" and "largest differences outside" in said and "auc_loss" in said


def test_a_verdict_turned_into_its_opposite_does_not_reproduce(prints, small, nothing_computed):
    """Although it is one number among many."""
    alter(small, lambda m: {"label_free": 0.0}, study="exact")
    report = verify.verify("lfssd", "digits")
    assert report.outside < verify.ALLOWED and report.verdicts[report.verdicts.opposite].claim.tolist() == [1, 10]
    assert prints("verify", "lfssd", code=1).splitlines()[-1] == "NOT reproduced"


def test_one_broken_method_does_not_reproduce_although_it_has_few_of_the_numbers(small, nothing_computed):
    found = list(small.read().values())
    small.path.unlink()
    small.add(replace(r, metrics=r.metrics | {k: 9.0 for k in r.metrics if k.startswith("acc")}) if r.spec.method == "random_output" else r
              for r in found)
    report = verify.verify("lfssd", "digits")
    assert 0 < report.outside <= verify.ALLOWED and not report.verdicts.opposite.any() and not report.passed
    assert report.by[report.by.failed].method.tolist() == ["random_output"]


def test_rows_are_compared_by_their_means_kind_by_kind():
    spec = next(iter(Store.reference("digits", "lfssd").read().values())).spec
    rows = [{"row": "a", "x": 1.0, "y": 2}, {"row": "a", "x": 3.0, "y": math.nan}, {"row": "b", "x": 5.0}]
    assert verify.measured(Record(spec, {"m": 0.5}, rows)) == pytest.approx(
        {"m": 0.5, "x of a rows": 2.0, "y of a rows": 2.0, "x of b rows": 5.0, "y of b rows": math.nan}, nan_ok=True)
    assert verify.measured(Record(spec, {}, [{"x": 1.0}, {"x": 2.0}])) == {"x of all rows": 1.5}


def test_fewer_seeds_are_compared_with_as_many(prints, small, nothing_computed):
    first = [r for r in small.read().values() if r.spec.seed == 0]
    small.path.unlink()
    small.add(first)
    said = prints("verify", "lfssd", code=1)
    assert "run lfssd --preset digits --recompute" in said and f"{len(first)} reference records not computed here" in said
    assert prints("verify", "lfssd", "--seeds", "1").splitlines()[-1] == "reproduced"


def test_records_of_another_version_are_none_to_compare(refused, small, nothing_computed):
    found = list(small.read().values())
    small.path.unlink()
    small.add(replace(r, spec=runs_spec(r, version="0.0")) for r in found)
    assert "none of them of a run of the reference" in refused("verify", "lfssd")


def test_draw_computes_nothing(refused, small, nothing_computed):
    for store in (small, Store.reference("digits", "lfssd")):
        found = list(store.read().values())
        store.path.unlink()
        store.add(found[1:])
    assert refused("draw", "lfssd").startswith(f"1 of {len(found)} records of lfssd")


def test_a_number_that_only_one_of_the_two_has_is_outside(small, nothing_computed):
    alter(small, lambda m: {"zrf": math.nan})
    values = verify.verify("lfssd", "digits").values
    assert values[values.metric == "zrf"].outside.all() and not values[values.metric != "zrf"].outside.any()
    both = values[values.metric == "acc_test_forget"]
    assert len(both) and (both.difference == 0).all()


def test_tolerances_come_from_the_spread_of_the_reference_seeds(small, nothing_computed):
    alter(small, lambda m: {"loss_forget": m["loss_forget"] + 0.5})             # here only: the tolerance is the reference's
    values = verify.verify("lfssd", "digits").values
    mine = values[(values.metric == "loss_forget") & (values.method == "lfssd")]
    reference_values = [r.metrics["loss_forget"] for r in Store.reference("digits", "lfssd").read().values()
                        if (r.spec.study, r.spec.method) == ("unlearn", "lfssd")]
    a, b = reference_values
    wanted = max(verify.FLOOR, verify.SPREADS * abs(a - b) / 2 ** 0.5)
    assert mine.tolerance.tolist() == pytest.approx([wanted] * 2) and mine.difference.tolist() == pytest.approx([0.5] * 2)
    assert mine.outside.tolist() == [wanted < 0.5] * 2


@pytest.mark.parametrize("outside, opposite, missing, passed", [
    (5, False, 0, True), (6, False, 0, False), (0, True, 0, False), (0, False, 1, False), (0, False, 0, True)])
def test_what_reproduced_means(outside, opposite, missing, passed):
    values = pd.DataFrame({"study": "s", "method": "m", "difference": 0.0, "outside": [True] * outside + [False] * (100 - outside)})
    report = verify.Report(values, pd.DataFrame({"opposite": [False, opposite]}), missing)
    assert report.passed is passed and report.outside == outside / 100


def test_verify_needs_a_reference(refused, small):
    Store.reference("digits", "lfssd").path.unlink()
    assert "no reference records" in refused("verify", "lfssd")


def test_status_counts_computed_missing_and_stale(prints, small):
    planned = len(small.read())
    said = prints("status")
    for title in ("reference", "this machine"):
        assert re.search(rf"lfssd digits +{title}: {planned} computed, 0 missing, 0 stale", said)
        assert re.search(rf"lfssd cifar10 +{title}: 0 computed, {planned} missing, 0 stale", said)
    kept = list(small.read().values())
    small.path.unlink()
    other = Record(runs_spec(kept[0], version="0.0"), {}, [], {}, {})
    small.add([*kept[:-3], other])
    assert re.search(rf"this machine: {planned - 3} computed, 3 missing, 1 stale", prints("status"))


def runs_spec(record, **changes):
    return replace(record.spec, **changes)


def test_records_takes_this_machines_as_the_reference(prints, small):
    alter(small, lambda m: {"zrf": 0.25})
    prints("records", "lfssd")
    assert Store.reference("digits", "lfssd").path.read_bytes() == small.path.read_bytes()


def test_records_drops_what_is_stale_and_refuses_what_is_incomplete(refused, prints, small):
    reference_store = Store.reference("digits", "lfssd")
    kept, before = list(small.read().values()), reference_store.path.read_bytes()
    small.add([Record(runs_spec(kept[0], version="0.0"), {}, [], {}, {})])
    prints("records", "lfssd")
    assert reference_store.path.read_bytes() == before
    small.path.unlink()
    small.add(kept[1:])
    said = refused("records", "lfssd")
    assert f"1 of {len(kept)}" in said and "run lfssd --preset digits --recompute" in said
    assert reference_store.path.read_bytes() == before


def test_draw_writes_figures_and_verdicts_from_the_reference(prints, small, nothing_computed, tmp_path, monkeypatch):
    module = papers.paper("lfssd")
    monkeypatch.setattr(module, "FIGURES", {k: module.FIGURES[k] for k in ("data", "wrong_way", "relearn")})
    said = prints("draw", "lfssd")
    folder = tmp_path / "figures/digits/lfssd"
    assert sorted(p.name for p in folder.iterdir()) == ["claims.md", "data.csv", "data.png", "runs.jsonl", "wrong_way.csv", "wrong_way.png"]
    assert said.count("lfssd digits: ") == 4 and HOLDS in (folder / "claims.md").read_text()
    written = {p.name: digest(p.read_bytes()) for p in folder.iterdir()}
    prints("draw", "lfssd")
    assert {p.name: digest(p.read_bytes()) for p in folder.iterdir()} == written


def test_draw_committed_leaves_digits_to_the_notebook(prints, small, nothing_computed, tmp_path):
    for requested in (["lfssd"], []):
        assert prints("draw", *requested, "--committed") == ""


def test_data_lists_every_data_set_or_how_to_get_it(prints, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", data.load.__wrapped__)                    # another test may have read the real CIFAR
    said = prints("data")
    lines = dict(line.strip().split(": ", 1) for line in said.splitlines())
    assert list(lines) == list(data.DATASETS)
    assert lines["digits"].startswith("1,000 training, 398 validation, 399 test images, 10 classes")
    assert lines["digits5"].endswith("5 classes") and "data fetch cifar100" in lines["cifar20"]
    assert "data fetch svhn" in lines["svhn"]


@pytest.mark.parametrize("name", data.FETCHED)
def test_what_can_be_fetched(monkeypatch, prints, refused, name):
    fetched = []
    monkeypatch.setattr(data, "fetch", fetched.append)
    monkeypatch.setattr(data, "DATASETS", ())                                   # the list afterwards need not read anything
    prints("data", "fetch", name)
    assert fetched == [name] and name in refused("data", "fetch", "cifar20")


@pytest.mark.parametrize("arguments, word", [
    (["--set", "studies=[nope]"], "study is 'nope'"), (["--set", "methods={}"], "scenario is"), (["--set", "seeds=true"], "seeds is True"),
    (["--set", "recipe={epochs: 1, lr: 1e-3}"], "lr is '1e-3'"), (["--set", "recipe={lr: 0.1}"], "at least epochs and lr"),
    (["--set", "recipe={epochs: 1, lr: 0.1, speed: 2}"], "recipe has 'speed'"), (["--set", "alphas=[1, 2"], "YAML value")])
def test_values_inside_a_parameter_are_checked_before_anything_runs(arguments, word, capsys):
    assert main(["run", "lfssd", "--dry-run", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("unlearnlib: ") and word in said and said.count("\n") == 1


def test_verify_needs_this_machines_records(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNLEARNLIB_FIGURES", str(tmp_path))
    assert main(["verify", "lfssd"]) == 2 and "holds no records" in capsys.readouterr().err
    assert main(["verify", "lfssd", "--preset", "nope"]) == 2 and "preset is 'nope'" in capsys.readouterr().err
