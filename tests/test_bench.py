"""The benchmark compares like with like: both forms of a row give the same result. No time is ever asserted."""

import copy
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from unlearnlib import attacks, bench, data, devices, provenance, records
from unlearnlib.access import Access
from unlearnlib.bench import cells, figures, flops, growth, measure, naive, ratios, retraining, throughput
from unlearnlib.methods import METHODS
from unlearnlib.methods.lfssd import importance

SIZE = {"rounds": 1, "batch_size": 16, "image_shape": (1, 8, 8), "latent": 8, "widths": (8, 8, 8)}
HERE = {"commit": "abc1234", "device": "a machine", "precision": "float32", "torch": "2.0", "python": "3.11", "threads": 1}


# --- both forms

def test_both_forms_of_an_ispf_epoch_give_the_same_student(digits, trained):
    """To float32's rounding: in one round it does not grow far."""
    access = data.split(digits, "class:8").access()
    ours = METHODS["ispf"].run(trained, access, generator=torch.Generator().manual_seed(0), epochs=1, warmup=0, **SIZE)
    theirs = naive.distillation_epoch(trained, [8], generator=torch.Generator().manual_seed(0), **SIZE)
    with torch.no_grad():
        answers = [model(digits.test_images) for model in (ours, theirs)]
    assert torch.allclose(*answers, atol=2e-3) and answers[0].std() > 0.01
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)


def test_both_forms_of_a_forget_vector_epoch_give_the_same_vector(digits, trained):
    access = data.split(digits, "class:8").access()
    ours = METHODS["forget_vector"].run(trained, access, generator=torch.Generator().manual_seed(0), epochs=1, beta=5.0, batch_size=64)
    theirs = naive.vector_epoch(trained, access, generator=torch.Generator().manual_seed(0), beta=5.0, batch_size=64)
    torch.testing.assert_close(ours.delta, theirs, rtol=1e-3, atol=1e-4)
    assert theirs.norm() > 0.1


@pytest.mark.parametrize("epochs", [5, 7])
def test_both_forms_of_nabla_tau_give_the_same_weights(digits, trained, epochs):
    """Seven epochs refresh the target twice. In float64, where AdamW does not blow up the rounding of a gradient near 0."""
    s = data.split(digits, "random:0.1")
    wide = {k: (getattr(s.access(), f"{k}_images").double(), getattr(s.access(), f"{k}_labels")) for k in ("forget", "retain")}
    access = Access(**wide, held_out=(digits.val_images.double(), digits.val_labels))
    model = copy.deepcopy(trained).double()
    settings = {"batch_size": 64, "max_epochs": epochs}
    ours = METHODS["nabla_tau"].run(model, access, generator=torch.Generator().manual_seed(0), **settings)
    theirs = naive.nabla_tau(model, access, generator=torch.Generator().manual_seed(0), **settings)
    for a, b, before in zip(ours.parameters(), theirs.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert not torch.equal(a, before)


def test_both_forms_of_an_importance_and_of_an_evaluation_agree(digits, trained):
    images, labels = digits.test_images[:96], digits.test_labels[:96]
    ours, plain = importance(trained, images, batch_size=32), naive.importance(trained, images, 32)
    for name, value in plain.items():
        assert torch.allclose(ours[name], value, rtol=1e-4, atol=1e-6), name
    one, four = ratios.one_pass(trained, images, labels), naive.evaluation(trained, images, labels)
    assert one[0] == pytest.approx(four[0]) and all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one[1:], four[1:], strict=True))


def test_the_svc_finds_no_more_than_a_threshold_where_a_threshold_is_all_there_is():
    """Two normal scores of one width: the likelihood ratio grows with the score."""
    rng = np.random.default_rng(0)
    members, others = rng.normal(1, 1, 400), rng.normal(0, 1, 200)
    exact, fitted = attacks.best_threshold(members, others)[0], naive.svc(members, others)
    assert 0.6 < fitted <= exact + 0.02 and exact < 0.75
    assert naive.svc(np.array([2.0, 2.1, 2.2]), np.array([-2.0, -2.1])) == 1.0


# --- measuring

def test_a_ratio_is_of_medians_and_scores_are_kept(monkeypatch):
    queue = [1.0, 4.0, 9.0, 6.0, 2.0, 5.0]

    def timed(call):
        call()
        return queue.pop(0)

    monkeypatch.setattr(measure, "seconds", timed)
    warmed = []
    row = measure.compare("row", lambda: 3, lambda: 4, "other", repeats=3, settings={"a": 1}, warm=lambda: warmed.append(1), score=float)
    assert (row["ours_seconds"], row["other_seconds"], row["ratio"], row["repeats"]) == (2.0, 5.0, 2.5, 3)
    assert (row["ours_score"], row["other_score"], row["settings"], warmed) == (3.0, 4.0, {"a": 1}, [1])


def test_calls_are_measured_in_turn(monkeypatch):
    said = []
    monkeypatch.setattr(measure, "seconds", lambda call: (call(), len(said))[1])
    times = measure.in_turn({"a": lambda: said.append("a"), "b": lambda: said.append("b")}, repeats=3)
    assert said == list("abababab") and times == {"a": 5.0, "b": 6.0}


def test_flop_are_those_of_the_products_forward_and_backward():
    layer, x = torch.nn.Linear(5, 3, bias=False), torch.randn(4, 5)
    assert measure.flop(lambda: layer(x)) == 2 * 4 * 5 * 3
    assert measure.flop(lambda: layer(x).sum().backward()) == 2 * 2 * 4 * 5 * 3    # the input needs no gradient


def test_a_product_has_the_flop_that_torch_counts():
    call, operations = measure.matmul(torch.bfloat16, size=10)
    assert operations == measure.flop(call) and call().dtype == torch.bfloat16


def test_the_floor_holds_for_a_gpu_alone(monkeypatch):
    assert np.isnan(measure.against_floor(276e12, 3.0))
    monkeypatch.setattr(measure.devices, "device", lambda: torch.device("cuda"))
    assert measure.against_floor(276e12, 3.0) == pytest.approx(3.0)


def test_a_form_of_a_network_trains_to_the_same_function(digits):
    model = throughput.models.build("allcnn-8", digits, 0)
    there = throughput.forms(model, gpu=False)
    assert {name: bf16 for name, (_, bf16) in there.items()} == {"float32": False, "channels_last": False, "bf16 + channels_last": True}
    with torch.no_grad():
        answers = [network.eval()(digits.test_images[:8]) for network, _ in there.values()]
    assert all(torch.allclose(answers[0], a, atol=1e-5) for a in answers)
    assert there["channels_last"][0].body[1][0].weight.is_contiguous(memory_format=torch.channels_last)


# --- parts

def test_throughput_has_a_row_for_every_form_and_says_what_it_leaves_out():
    rows = list(throughput.measure({"allcnn-2": 8}, repeats=1))
    assert [r["settings"]["form"] for r in rows] == ["float32", "channels_last", "bf16 + channels_last", throughput.COMPILED]
    for r in rows[:3]:
        assert r["images_per_second"] == pytest.approx(8 / r["seconds"])
        assert r["fraction"] == pytest.approx(r["flop_per_image"] * r["images_per_second"] / r["matmul_flop_per_second"])
    frame = pd.DataFrame(rows).assign(environment=[HERE] * 4)
    table, = throughput.tables(frame)
    assert table["times float32"].tolist()[0] == "1.00" and table["images/s"].tolist()[3] == "–"
    assert "without a GPU" in table.note[3] and len(throughput.draw(frame).drawn) == 3


def test_flop_rates_follow_from_counts_and_seconds(monkeypatch):
    row = flops.record("lfssd", 6e9, 2.0, 12e9)
    assert (row["flop_per_second"], row["fraction"]) == (3e9, 0.25) and np.isnan(row["times_floor"])
    monkeypatch.setattr(measure.devices, "device", lambda: torch.device("cuda"))
    there = flops.record("ssd", 276e12, 5.0, 400e12)
    assert there["times_floor"] == pytest.approx(5.0)
    frame = pd.DataFrame([r | {"repeats": 5, "settings": {"model": "n-1", "images": 1000}, "environment": HERE} for r in (row, there)])
    table, = flops.tables(frame)
    assert table["times the floor (276 TFLOP/s)"].tolist() == ["not available", "5.0"]
    assert table["of the matmul rate"].tolist() == ["25 %", "14 %"]
    assert flops.draw(frame).drawn.percent.tolist() == pytest.approx([25, 13.8])


def test_flop_are_counted_for_every_method(monkeypatch):
    monkeypatch.setattr(flops, "matmul", lambda dtype: (lambda: None, 1e10))
    monkeypatch.setitem(cells.SMALL, "ispf", cells.SMALL["ispf"] | {"batch_size": 4})
    rows = list(flops.measure("allcnn-2", 16, repeats=1))
    assert [r["method"] for r in rows] == list(cells.EPOCH) and all(r["flop"] > 0 and r["seconds"] > 0 for r in rows)


def run(method, epochs, seconds, *, scenario="class:3", seed=0, paper="lfssd", **place):
    return {"preset": "digits", "paper": paper, "study": "unlearn", "method": method, "data": "digits", "model": "n-1",
            "scenario": scenario, "seed": seed, "epochs": epochs, "seconds": seconds} | HERE | place


def test_speedups_are_medians_over_pairs_of_scenario_and_seed():
    runs = [run("original", 20, 10.0)]
    for seed, (epochs, seconds) in enumerate([(2.0, 1.0), (4.0, 2.0), (1.0, 0.5)]):
        runs += [run("retrain", 16, 8.0, seed=seed), run("lfssd", epochs, seconds, seed=seed), run("ssd", 0.1, 0.1, seed=seed)]
    row, = retraining.speedups(pd.DataFrame(runs + [run("lfssd", 1.0, 1.0, seed=9)]))       # the last has no retrained model
    assert (row["ratio"], row["seconds_ratio"], row["repeats"], row["note"]) == (8.0, 8.0, 3, "")
    assert (row["seconds_low"], row["seconds_high"]) == (4.0, 16.0)
    assert (row["epochs"], row["retrain_epochs"], row["settings"]["seeds"]) == (2.0, 16, [0, 1, 2])
    assert retraining.tables(pd.DataFrame([row]))[0]["times faster"].tolist() == ["8.00 (4 to 16)"]


@pytest.mark.parametrize(("change", "why"), [({"commit": "fff0000"}, "another commit"), ({"device": "GPU"}, "another device"),
                                             ({"threads": 2, "torch": "9"}, "another torch, threads"),
                                             ({"precision": "tf32"}, "another precision")])
def test_seconds_of_another_environment_are_not_compared(change, why):
    row, = retraining.speedups(pd.DataFrame([run("retrain", 16, 8.0), run("lfssd", 2.0, 1.0, **change)]))
    assert row["ratio"] == 8.0 and np.isnan(row["seconds_ratio"]) and why in row["note"]


def test_the_environment_of_a_reference_model_is_that_of_its_training(monkeypatch, tmp_path):
    """Its record says where it was evaluated, too, but its seconds are not from there."""
    found = [r for r in records.Store.reference("digits", "lfssd").read().values() if r.spec.method in ("original", "retrain", "lfssd")]
    assert retraining.committed().commit.notna().all()
    monkeypatch.setattr(records, "ROOT", tmp_path)
    records.Store.reference("digits", "lfssd").add(
        replace(r, environment=HERE | ({"commit": "fff0000", "training": HERE} if r.spec.method != "lfssd" else {})) for r in found)
    assert set(retraining.committed().commit) == {HERE["commit"]}


def test_seconds_of_a_machine_whose_load_changed_are_not_compared():
    row, = retraining.speedups(pd.DataFrame([run("original", 20, 10.0), run("retrain", 16, 13.0), run("lfssd", 2.0, 1.0)]))
    assert np.isnan(row["seconds_ratio"]) and "uneven load" in row["note"] and "0.5 s (original)" in row["note"]


def test_seconds_of_an_interrupted_training_are_not_compared():
    row, = retraining.speedups(pd.DataFrame([run("original", 20, 10.0), run("retrain", 16, np.nan), run("lfssd", 2.0, 1.0)]))
    assert row["ratio"] == 8.0 and np.isnan(row["seconds_ratio"]) and "interrupted" in row["note"]
    assert retraining.tables(pd.DataFrame([row]))[0]["retrain (s)"].tolist() == ["–"]


def test_the_table_of_retraining_shows_ratios_below_one_and_reasons():
    runs = [run("retrain", 10, 5.0, paper="ispf"), run("ispf", 20, 10.0, paper="ispf"), run("retrain", 16, 8.0),
            run("lfssd", 2.0, 1.0, commit="fff0000"), run("lfssd", 2.0, 1.0, scenario="random:0.1"),
            run("retrain", 9, 4.5, scenario="random:0.1")]
    frame = pd.DataFrame(list(retraining.speedups(pd.DataFrame(runs))))
    table = retraining.tables(frame)[0].set_index(["paper", "scenarios"])
    assert table.loc[("ispf", "class (1 run)"), "times fewer epochs"] == "0.50"
    assert table.loc[("lfssd", "class (1 run)"), "times faster"] == "not available: records of another commit"
    assert table.loc[("lfssd", "random (1 run)"), "times faster"] == "4.50"
    assert retraining.draw(frame).drawn.ratio.tolist() == [0.5, 8.0, 4.5]


def test_every_paper_has_committed_records_to_compare():
    frame = retraining.committed()
    rows = list(retraining.speedups(frame))
    assert {(r["preset"], r["paper"]) for r in rows} >= {("digits", p) for p in retraining.OWN}
    assert all(r["ratio"] > 0 and r["environment"]["commit"] for r in rows)
    assert not any(np.isnan(r["seconds_ratio"]) for r in rows if (r["preset"], r["paper"]) == ("digits", "lfssd"))      # all of one commit
    assert not any("precision" in r["note"] for r in rows)                      # which the first records do not say
    assert not frame[frame.study != "unlearn"].size


def grown():
    rows = []
    for method, power in (("lfssd", 1.0), ("ispf", 0.0)):
        for axis, sizes in (("images", (1000, 4000, 16000)), ("width", (8, 16))):
            rows += [{"row": f"{method} {axis} {n}", "method": method, "axis": axis, "images": n if axis == "images" else 1000,
                      "width": n if axis == "width" else 8, "seconds": (n / 1000) ** power, "repeats": 1, "epochs": 1.0, "idle_mib": 500.0,
                      "peak_mib": 500.0 + n / 100, "environment": HERE, "settings": {"rounds": 1} if power == 0 else {}} for n in sizes]
    return pd.DataFrame(rows)


def test_growth_is_an_exponent_between_the_two_largest_sizes():
    assert growth.exponents(grown(), "images", "seconds") == pytest.approx({"lfssd": 1.0, "ispf": 0.0})
    assert np.isnan(growth.exponents(grown()[lambda f: f.images == 1000], "images", "seconds")["lfssd"])
    every, rates = growth.tables(grown())
    assert len(every) == 10 and every["of it data, network, method (MiB)"].tolist()[:3] == ["10", "40", "160"]
    assert rates.loc[0, "seconds over the training images |D|"] == "1.00" and rates.loc[1, "seconds over the training images |D|"] == "0.00"


def test_the_growth_figure_has_time_and_memory_over_both_axes():
    drawn = growth.draw(grown())
    assert drawn.drawn.memory_mib.tolist()[:3] == [10, 40, 160] and len(drawn.drawn) == 10


def test_growth_measures_a_shared_cell_once_in_a_process_of_its_own(monkeypatch):
    started = []

    def pretend(command, **_):
        started.append(command[-3:])
        return type("Done", (), {"stdout": json.dumps({"seconds": 1.0, "repeats": 1, "epochs": 1.0, "peak_mib": 2.0, "idle_mib": 1.0})})

    monkeypatch.setattr(growth.subprocess, "run", pretend)
    rows = list(growth.measure((100, 200), (8, 16)))
    assert len(rows) == 4 * len(cells.EPOCH) and len(started) == 3 * len(cells.EPOCH)
    assert len({tuple(s) for s in started}) == len(started) and ["lfssd", "200", "resnet18im-8"] in started


@pytest.mark.parametrize("method", cells.EPOCH)
def test_a_cell_runs_an_epoch_of_the_method_and_counts_its_work(method):
    assert 0.5 < cells.job(method, 40, "allcnn-2", **{"batch_size": 4} if method == "ispf" else {})() < 10


def test_a_cell_as_a_program_prints_its_numbers_and_does_not_inherit_its_parents_memory():
    import subprocess
    import sys
    kept = torch.ones(400_000_000, dtype=torch.uint8)                           # this process has held more
    done = subprocess.run([sys.executable, "-m", "unlearnlib.bench.cells", "lfssd", "64", "allcnn-2"], capture_output=True, text=True,
                          check=True, cwd=records.ROOT)
    cell = json.loads(done.stdout)
    assert set(cell) == {"seconds", "repeats", "epochs", "peak_mib", "idle_mib"} and cell["epochs"] == pytest.approx(1.1, abs=0.02)
    assert cell["repeats"] == measure.REPEATS
    assert cell["idle_mib"] <= cell["peak_mib"] < devices.peak_memory() and len(kept)


def test_ispf_is_cut_short_without_a_gpu_alone_and_its_record_says_so(monkeypatch):
    assert cells.settings_of("ispf") == {"epochs": 1, "warmup": 0, "rounds": 1, "batch_size": 64, "widths": (32, 16, 8), "latent": 64}
    assert cells.settings_of("nabla_tau") == {"retain_epochs": 1}
    monkeypatch.setattr(cells.devices, "device", lambda: torch.device("cuda"))
    assert cells.settings_of("ispf") == {"epochs": 1, "warmup": 0}


# --- tables and figures

def frame_of_ratios():
    rows = [{"row": f"r{i}", "against": "SVC", "ours_seconds": 1.0, "other_seconds": r, "ratio": r, "repeats": 5, "environment": HERE,
             "ours_score": a, "other_score": b} for i, (r, a, b) in enumerate([(0.5, np.nan, np.nan), (2.0, 0.7, 0.6), (2000.0, 0.6, 0.7)])]
    return pd.DataFrame(rows)


def test_the_table_says_where_ours_is_slower_and_which_attack_is_stronger():
    table, = ratios.tables(frame_of_ratios())
    assert table["times faster"].tolist() == ["0.5 (ours is slower)", "2", "2,000"]
    assert table["balanced accuracy, ours / other"].tolist() == ["–", "70.00 % / 60.00 %: ours is stronger",
                                                                 "60.00 % / 70.00 %: SVC is stronger"]
    even = pd.concat([frame_of_ratios().iloc[:1].assign(ratio=r) for r in (0.9988, 1, 1.004)])
    said = ratios.tables(even)[0]["times faster"].tolist()
    assert said == ["0.999 (ours is slower)", "1", "1"]
    assert "equal" in ratios.stronger({"ours_score": 0.5, "other_score": 0.5})
    assert ratios.stronger({}) == "–"


def test_the_figure_has_a_bar_for_each_row_from_1_to_its_ratio(monkeypatch):
    seen = []
    monkeypatch.setattr(figures.plots, "Drawn", lambda name, figure, drawn: seen.append(figure) or drawn)
    assert ratios.draw(frame_of_ratios()).ratio.tolist() == [0.5, 2.0, 2000.0]
    ax = seen[0].axes[0]
    ends = [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]
    assert ends == [(1, 0.5), (1, 2.0), (1, 2000.0)]
    assert [t.get_text() for t in ax.texts] == ["0.5 times, against SVC", "2 times, against SVC", "2,000 times, against SVC"]
    assert ax.get_xlim()[0] < 0.5 and ax.get_xlim()[1] > 2000


def test_the_provenance_names_every_environment():
    frame = pd.DataFrame([{"repeats": 5, "environment": HERE}, {"repeats": 1, "environment": HERE | {"commit": "fff0000", "threads": 2}}])
    said = figures.provenance(frame)
    assert "load" not in said
    frame.environment = [e | {"load": load} for e, load in zip(frame.environment, (1.0, 5.74), strict=True)]
    assert figures.provenance(frame).endswith(" | load 1.0 to 5.7") and figures.provenance(frame[1:]).endswith(" | load 5.7")
    assert "medians of 1 to 5" in said and "abc1234" in said and "fff0000" in said and ", 1 thread |" in said and "2 threads" in said


# --- the command

class Part:
    """a part"""

    @staticmethod
    def measure():
        yield {"row": "one", "repeats": 1, "value": 1.0}
        raise KeyboardInterrupt

    @staticmethod
    def tables(frame):
        return [frame[["row", "value"]]]

    @staticmethod
    def draw(frame):
        return figures.bars("growth", frame[["row", "value"]], frame.row, "value", ["x"], origin="o", xlabel="v", title="t", ratio=False)


def test_an_interrupted_part_keeps_what_it_has_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("UNLEARNLIB_FIGURES", str(tmp_path))
    monkeypatch.setattr(bench, "import_module", lambda *_: Part)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["growth"])
    line, = (tmp_path / "bench" / "growth.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["row"] == "one" and record["environment"].items() >= json.loads(records.canonical(provenance.environment())).items()
    assert record["environment"]["processor"] and record["environment"]["load"] >= 0
    assert {p.name for p in (tmp_path / "bench").iterdir()} == {"growth.jsonl", "growth.md", "growth.png", "growth.csv"}
    table = (tmp_path / "bench" / "growth.md").read_text()
    monkeypatch.setattr(Part, "NOTE", "mind this", raising=False)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["growth"])
    assert (tmp_path / "bench" / "growth.md").read_text() == f"{table}\nmind this\n"


def test_an_unknown_part_is_refused_in_one_sentence_before_anything_runs(one_sentence, monkeypatch):
    monkeypatch.setattr(bench, "import_module", lambda *_: pytest.fail("a part was imported"))
    with pytest.raises(ValueError) as error:
        bench.main(["growth", "speed"])
    assert "speed" in one_sentence(error) and all(p in str(error.value) for p in bench.PARTS)


def test_the_rows_of_ratios_are_there_with_their_settings(monkeypatch):
    monkeypatch.setattr(ratios, "compare", lambda row, ours, other, against, repeats, *, settings, **_: {"row": row, "settings": settings})
    rows = list(ratios.measure())
    assert len(rows) == 8 and "attack" in rows[-1]["row"] and all(r["settings"] for r in rows)
    assert sum(r["row"].split(",")[0] in ("ISPF", "forget vector", "∇τ") for r in rows) == 3
