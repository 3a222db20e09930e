"""Specs in, records out: hits, interruptions (also kill -9), several processes, reference models from the cache."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from unlearnlib import data, evaluation, papers, provenance, records, reference, runs, train
from unlearnlib.data import DataError
from unlearnlib.files import SHARED, DamagedFile, once
from unlearnlib.methods import METHODS
from unlearnlib.records import Record, Store, canonical

ROOT = Path(__file__).resolve().parents[1]
VALUES = {"model": "allcnn-2", "recipe": {"epochs": 2, "lr": 0.1, "batch_size": 64},
          "scenarios": {"class:8": "digits", "random:0.1": "digits"}}
N, N_8 = 1000, 99                                       # training images; of them eights


def spec(name, scenario="class:8", seed=0, study="unlearn", options=None, **params):
    return papers.make("lfssd", study, name, scenario, VALUES, seed, params=params, options=options)


def plan():
    """Seven runs, four reference models, one study with rows."""
    return [spec("original"), spec("retrain"), spec("lfssd", alpha=1.5), spec("finetune", epochs=1), spec("lfssd", "random:0.1", alpha=1.2),
            spec("lfssd", study="alpha", options={"alphas": [1.5, 3], "lams": [1]}), spec("amnesiac", epochs=1, lr=0.001)]


def clear():
    """What a new process does not have: everything but the files."""
    for function in (reference.dataset, reference.fingerprint, reference.split, reference.trained, reference.outputs):
        function.cache_clear()


def content(found):
    """What must not depend on when, where and in which process a record was computed."""
    return [(r.spec, canonical(r.metrics), canonical(r.rows)) for r in found]


def settle(monkeypatch, folder):
    monkeypatch.setenv("UNLEARNLIB_CACHE", str(folder))
    monkeypatch.setenv("UNLEARNLIB_DEVICE", "cpu")
    clear()


@pytest.fixture
def place(monkeypatch, tmp_path):
    """An empty cache, and a folder for stores."""
    settle(monkeypatch, tmp_path / "cache")
    yield tmp_path
    clear()


@pytest.fixture
def store(place):
    return Store(place / "runs.jsonl")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The records of the plan, from one call in one process."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle(monkeypatch, folder)
        found = runs.runs(plan(), Store(folder / "runs.jsonl"), progress=False)
        clear()
    return content(found)


@pytest.fixture
def fake(monkeypatch):
    """Runs that cost nothing; returns the specs that were computed, in their order."""
    computed = []

    def compute(spec):
        computed.append(spec)
        return Record(spec, {"x": spec.seed}, [{"i": 0}])

    monkeypatch.setattr(runs, "compute", compute)
    monkeypatch.setattr(runs, "_prepare", lambda job: None)
    return computed


def model_files(place):
    return sorted((place / "cache" / "models").glob("*.pt"))


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- reading and computing

def test_records_come_in_the_order_of_the_specs_and_say_what_they_are(uninterrupted):
    assert [s for s, *_ in uninterrupted] == plan()
    by_method = {s.method: json.loads(m) for s, m, _ in uninterrupted if s.study == "unlearn" and s.scenario == "class:8"}
    assert by_method["original"]["changed"] == 0 and by_method["retrain"]["changed"] == 1 and 0 < by_method["lfssd"]["changed"] < 1
    assert by_method["retrain"]["acc_forget"] == 0 and len(json.loads(uninterrupted[5][2])) == 2


def test_hits_are_not_computed_again(store, fake):
    first = runs.runs(plan(), store, progress=False)
    assert fake == plan()
    before = store.path.read_bytes()
    assert content(runs.runs(plan()[::-1], store, progress=False)) == content(first)[::-1]
    assert fake == plan() and store.path.read_bytes() == before


def test_only_what_is_missing_is_computed(store, fake):
    runs.runs(plan()[2:4], store, progress=False)
    runs.runs(plan(), store, progress=False)
    assert fake == plan()[2:4] + plan()[:2] + plan()[4:] and len(store.read()) == len(plan())


def test_a_second_store_is_read_and_never_written(place, store, fake):
    committed = Store(place / "committed.jsonl", committed=True)
    runs.runs(plan()[:4], Store(committed.path), progress=False)
    before = committed.path.read_bytes()
    found = runs.runs(plan(), store, reuse=committed, progress=False)
    assert fake == plan() and [r.spec for r in found] == plan()
    assert committed.path.read_bytes() == before and set(store.read()) == {s.key for s in plan()[4:]}
    assert runs.runs(plan()[:4], Store(place / "empty.jsonl"), reuse=committed, progress=False) and not (place / "empty.jsonl").exists()


def test_any_executor_will_do_and_order_of_completion_does_not_matter(store, monkeypatch, fake):
    instant = runs.compute
    monkeypatch.setattr(runs, "compute", lambda s: (time.sleep(0.1 if s == plan()[0] else 0), instant(s))[1])
    with ThreadPoolExecutor(3) as executor:
        found = runs.runs(plan(), store, executor=executor, progress=False)
    assert [r.spec for r in found] == plan() and fake[0] != plan()[0] and len(store.read()) == len(plan())


def test_two_callers_at_once_do_the_work_once(store, fake, monkeypatch):
    instant = runs.compute
    monkeypatch.setattr(runs, "compute", lambda s: (time.sleep(0.02), instant(s))[1])
    results = []
    callers = [threading.Thread(target=lambda: results.append(content(runs.runs(plan(), store, progress=False)))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert fake == plan() and len(results) == 3 and results[0] == results[1] == results[2]


def test_what_was_computed_reads_back_the_same(store, monkeypatch):
    """Tables made right after computing and from the file agree to the last digit and column."""
    monkeypatch.setattr(runs, "_prepare", lambda job: None)
    monkeypatch.setattr(runs, "compute", lambda s: Record(s, {"z": 1 / 3, "a": float("nan")}, [{"y": 2 / 3, "b": s.seed}]))
    specs = [spec("lfssd", seed=k) for k in range(3)]
    computed, read = (runs.runs(specs, store, progress=False) for _ in range(2))
    assert computed == read
    assert records.frame(computed).equals(records.frame(read)) and records.rows(computed).equals(records.rows(read))
    assert list(records.frame(computed)) == list(records.frame(read))


def test_compute_says_where_and_what_it_cost(place):
    """Cost in training epochs, counted in images: forward and backward 1, forward alone a third."""
    share = (N - N_8) / N
    expected = {spec("original"): 2, spec("retrain"): 2 * share, spec("lfssd", alpha=1.5): 1 + N_8 / N, spec("ssd", alpha=3): 1 + N_8 / N,
                spec("finetune", epochs=1): share, spec("amnesiac", epochs=1): 1, spec("mask_logit"): 0,
                spec("bad_teacher", epochs=3, retain_share=0.3): (3 + 1 / 3) * (N_8 + 270) / N}
    for s, epochs in expected.items():
        record = runs.compute(s)
        assert record.spec == s and record.environment == provenance.environment()
        assert record.timing["epochs"] == pytest.approx(epochs, abs=0.002) and record.timing["seconds"] >= 0, s.method


def test_progress_within_a_run_is_what_its_method_spends(place, monkeypatch):
    told = []

    class Bar(runs.tqdm):
        def update(self, n=1):
            told.append(n)
    monkeypatch.setattr(runs, "tqdm", Bar)
    record = runs.compute(spec("finetune", epochs=2))
    assert len(told) > 10 and sum(told) == pytest.approx(record.timing["epochs"]) and evaluation.PROGRESS.get() is None


# --- interruption

@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("threads", [0, 2])
def test_an_interrupted_call_keeps_what_was_done(store, fake, monkeypatch, error, threads):
    instant, broken = runs.compute, plan()[3]

    def compute(s):
        if s == broken and error:
            time.sleep(0.05)
            raise error("stop")
        return instant(s)

    monkeypatch.setattr(runs, "compute", compute)
    with pytest.raises(error):
        with ThreadPoolExecutor(2) if threads else pytest.MonkeyPatch.context() as executor:
            runs.runs(plan(), store, executor=executor if threads else None, progress=False)
    kept = set(store.read())
    assert {s.key for s in plan()[:3]} <= kept and broken.key not in kept
    error = None
    done = len(fake)
    runs.runs(plan(), store, progress=False)
    assert set(store.read()) == {s.key for s in plan()} and {s.key for s in fake[done:]} == {s.key for s in plan()} - kept


KILLED = """
import itertools, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_runs as t
from unlearnlib import runs, train
compute, save, calls = runs.compute, train._save, itertools.count(1)

def killed_in_the_third_run(spec):
    if next(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute(spec)

def killed_after_saving(*arguments):
    save(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "training":
    train.SAVE_EVERY, train._save = -1.0, killed_after_saving
runs.compute = killed_in_the_third_run
runs.runs(t.plan(), t.Store(Path(sys.argv[2])), progress=False)
"""


def kill(store, when):
    process = subprocess.run([sys.executable, "-c", KILLED, str(ROOT / "tests"), str(store.path), when], cwd=ROOT, timeout=120,
                             env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert process.returncode == -signal.SIGKILL


def test_kill_9_in_a_run_loses_that_run_alone(place, store, uninterrupted, monkeypatch):
    kill(store, "third run")
    found = store.read()
    assert set(found) == {s.key for s in plan()[:2]}
    before = {f: f.read_bytes() for f in model_files(place)}
    assert len(before) == 3
    computed, compute = [], runs.compute
    monkeypatch.setattr(runs, "compute", lambda s: computed.append(s) or compute(s))
    again = runs.runs(plan(), store, progress=False)
    assert computed == plan()[2:]
    assert content(again) == uninterrupted and content(store.read()[s.key] for s in plan()) == uninterrupted
    assert {f: f.read_bytes() for f in model_files(place)} == before            # models were read, not trained again


def test_kill_9_in_a_training_resumes_there(place, store, uninterrupted, monkeypatch):
    kill(store, "training")
    assert not store.path.exists() and not model_files(place)
    assert len(list((place / "cache" / "models").glob("*.resume"))) == 1
    starts, resume = [], train._resume
    monkeypatch.setattr(train, "_resume", lambda *a: starts.append(resume(*a)) or starts[-1])
    assert content(runs.runs(plan(), store, progress=False)) == uninterrupted
    assert starts[0][0] == 1 and starts[0][1] > 0 and set(starts[1:]) == {(0, 0.0)}
    assert not list((place / "cache" / "models").glob("*.resume*"))


def test_a_resume_point_of_a_version_that_counted_no_seconds_is_used(place, store):
    kill(store, "training")
    file, = (place / "cache" / "models").glob("*.resume")
    torch.save({k: v for k, v in torch.load(file, weights_only=True).items() if k != "seconds"}, file)
    found = runs.runs(plan()[:2], store, progress=False)
    assert math.isnan(found[0].timing["seconds"]) and found[1].timing["seconds"] > 0
    assert records.frame(found).seconds.dtype == float


def test_a_reference_model_keeps_the_environment_of_its_training(place, store, monkeypatch):
    first, = runs.runs(plan()[:1], store, progress=False)
    assert first.environment == provenance.environment() and "training" not in first.environment
    clear()
    there = provenance.environment()
    monkeypatch.setattr(runs, "environment", lambda: there | {"commit": "fff0000"})
    again, method = runs.runs([plan()[0], plan()[3]], Store(place / "other"), progress=False)
    assert again.environment == there | {"commit": "fff0000", "training": there} and method.environment == there | {"commit": "fff0000"}
    assert Record.parse(again.line()).environment == again.environment


# --- processes

INTERRUPTED = """
import sys, time
from unlearnlib import data, papers, records, reference, runs
from pathlib import Path

def slow(job):
    (Path(sys.argv[1]) / str(job)).touch()
    time.sleep(60)

if __name__ == "__main__":
    runs._prepare, runs.jobs_of, runs.training_epochs = slow, lambda specs: range(6), lambda job: 1.0
    with runs.pool(2) as executor:
        list(runs._computed([], executor, False))
"""


def test_an_interruption_stops_all_processes_at_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    begun = tmp_path / "begun"
    begun.mkdir()
    process = subprocess.Popen([sys.executable, str(script), str(begun)], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})
    for _ in range(600):
        if len(list(begun.iterdir())) == 2:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)                                       # as a terminal does
    assert b"KeyboardInterrupt" in process.communicate(timeout=20)[1]
    assert len(list(begun.iterdir())) == 2


def test_a_process_pool_gives_the_same_records(place, store, uninterrupted):
    with runs.pool(2) as executor:
        found = runs.runs(plan(), store, executor=executor, progress=False)
        threads = [r.environment["threads"] for r in found]
    assert content(found) == uninterrupted and threads == [1] * len(plan())
    assert len(model_files(place)) == 3 and not list(place.rglob("*.part"))


ORPHANED = """
import os, signal, sys
from unlearnlib import runs
with runs.pool(2) as executor:
    print(executor.submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_leaves_no_workers_behind():
    process = subprocess.Popen([sys.executable, "-c", ORPHANED], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    assert process.wait(60) == -signal.SIGKILL
    try:
        process.communicate(timeout=5)                                          # the pipe ends with its last holder
        worker = None
    except subprocess.TimeoutExpired:
        pytest.fail("a worker is still there")
    finally:
        if worker:
            os.kill(worker, signal.SIGKILL)
        process.stdout.close()


def test_processes_of_one_run_share_what_is_made_once():
    """Among them, not beyond: another pool, and a process on its own, make it anew."""
    make, found = partial(os.urandom, 8), []
    for _ in range(2):
        with runs.pool(2) as executor:
            answers = {executor.submit(once, name, make).result() for _ in range(6) for name in ("a", "b")}
            folder = executor.submit(os.getenv, SHARED).result()
        assert len(answers) == 2 and not Path(folder).exists()
        found += answers
    assert len(set(found)) == 4 and once("a", make) != once("a", make) and SHARED not in os.environ


def test_one_job_needs_no_pool():
    for jobs in (1, 0):
        with runs.pool(jobs) as executor:
            assert executor is None


# --- reference models

def test_another_version_of_training_makes_every_model_and_every_record_anew(place, monkeypatch):
    before = plan()
    keys = [s.key for s in before], before[0].original.key, before[1].retrained.key
    monkeypatch.setitem(METHODS, "retrain", replace(METHODS["retrain"], version=2))
    changed = plan()
    assert [a != b.key for a, b in zip(keys[0], changed, strict=True)] == [s.method == "retrain" for s in changed]
    assert changed[0].original.key == keys[1] and changed[1].retrained.key != keys[2]
    monkeypatch.setattr(reference, "VERSION", 2)
    changed = plan()
    assert not set(keys[0]) & {s.key for s in changed} and changed[0].original.key != keys[1]


def test_reference_models_are_trained_once_and_shared(place, store, monkeypatch):
    trainings, really = [], reference._train
    monkeypatch.setattr(reference, "_train", lambda job, *a: trainings.append(job) or really(job, *a))
    specs = plan() + [spec("lfssd", seed=1, alpha=1.5)]
    runs.runs(specs, store, progress=False)
    wanted = runs.jobs_of(specs)
    assert trainings == wanted and len(wanted) == len(model_files(place)) == 5
    assert [j.scenario for j in wanted] == [None, None, "class:8", "random:0.1", "class:8"]       # originals first
    kept = {job: reference.trained(job)[0] for job in wanted}
    clear()
    for job in wanted:
        model, meta = reference.trained(job)
        assert model is not kept[job] and same(model, kept[job]) and not model.training
        assert meta["epochs"] == 2 and meta["seconds"] > 0 and meta["seed"] == job.seed
    assert len(trainings) == 5


def test_the_original_is_the_training_loop_on_everything_and_the_retrained_on_what_is_retained(place, digits):
    job = spec("lfssd").original
    from unlearnlib import models
    by_hand = train.fit(models.build("allcnn-2", digits, 0), digits.train_images, digits.train_labels,
                        generator=torch.Generator().manual_seed(0), **VALUES["recipe"])
    assert same(reference.trained(job)[0], by_hand)
    kept = data.split(digits, "class:8").retain
    retrained = reference.trained(spec("lfssd").retrained)[0]
    seed = reference.RETRAINED_SEED
    by_hand = train.fit(models.build("allcnn-2", digits, seed), digits.train_images[kept], digits.train_labels[kept],
                        generator=torch.Generator().manual_seed(seed), **VALUES["recipe"])
    assert same(retrained, by_hand)
    assert not any(torch.isin(a, b).any() for a, b in zip(retrained.parameters(), reference.trained(job)[0].parameters(), strict=True))


def test_two_threads_that_want_a_model_train_it_once(place, monkeypatch):
    count, really = itertools.count(), reference._train
    trained = []
    monkeypatch.setattr(reference, "_train", lambda *a: (next(count), time.sleep(0.1), really(*a))[-1])
    threads = [threading.Thread(target=lambda: trained.append(reference.trained(spec("lfssd").original)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert next(count) == 1 and len(trained) == 2 and same(*trained)


@pytest.mark.parametrize("how", ["a bit", "truncated", "empty"])
def test_a_damaged_checkpoint_is_set_aside_and_trained_anew(place, one_sentence, how):
    job = spec("lfssd").original
    model, _ = reference.trained(job)
    file, = model_files(place)
    sound = file.read_bytes()
    file.write_bytes({"a bit": sound[:3000] + bytes([sound[3000] ^ 1]) + sound[3001:], "truncated": sound[:-1], "empty": b""}[how])
    clear()
    with pytest.raises(DamagedFile, match="checkpoint .* is damaged") as error:
        reference.trained(job)
    assert str(file) in one_sentence(error) and file.name + ".damaged" in str(error.value)
    assert not file.exists() and file.with_name(file.name + ".damaged").exists()
    again, _ = reference.trained(job)
    assert same(model, again) and file.exists()


def test_a_damaged_resume_point_is_set_aside_like_a_checkpoint(place, one_sentence):
    job = spec("lfssd").original
    file = place / "cache" / "models" / f"{job.key}.resume"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a file")
    with pytest.raises(DamagedFile, match="resume point .* is damaged") as error:
        reference.trained(job)
    one_sentence(error)
    assert not reference.trained(job)[0].training


def test_seconds_of_a_resumed_training_include_those_before_the_interruption(place, store):
    kill(store, "training")
    file, = (place / "cache" / "models").glob("*.resume")
    state = torch.load(file, weights_only=True)
    assert 0 < state["seconds"] < 100
    torch.save(state | {"seconds": 1000.0}, file)
    seconds = [r.timing["seconds"] for r in runs.runs(plan()[:2], store, progress=False)]
    assert 1000 < max(seconds) < 1100 and min(seconds) < 100


def test_a_damaged_checkpoint_stops_a_call_once(place, store, uninterrupted):
    reference.trained(spec("lfssd").original)
    file, = model_files(place)
    file.write_bytes(file.read_bytes()[:-5])
    clear()
    with pytest.raises(DamagedFile):
        runs.runs(plan(), store, progress=False)
    assert content(runs.runs(plan(), store, progress=False)) == uninterrupted


def test_a_scenario_that_does_not_fit_stops_before_anything_is_trained(place, store):
    with pytest.raises(DataError, match="class 12 does not exist"):
        runs.runs([papers.make("lfssd", "unlearn", "lfssd", "class:12", VALUES | {"scenarios": {"class:12": "digits"}}, 0)], store,
                  progress=False)
    assert not store.path.exists()


# --- estimates

def test_an_estimate_is_positive_and_falls_with_what_is_cached(place, monkeypatch):
    specs = plan()
    epochs, seconds = runs.estimate(specs, 1)
    trainings = sum(map(runs.training_epochs, runs.jobs_of(specs)))
    assert trainings == 3 * 2 and epochs == pytest.approx(trainings + sum(map(runs.run_epochs, specs))) and seconds > 0
    assert all(runs.run_epochs(s) >= runs.EVALUATION_EPOCHS for s in specs)
    reference.trained(specs[0].original)
    assert runs.estimate(specs, 1)[0] == pytest.approx(epochs - 2)
    monkeypatch.setattr(runs, "_images_per_second", lambda *_: 500.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    alone, two, many = (runs.estimate(specs, jobs)[1] for jobs in (1, 2, 100))
    assert alone == pytest.approx((epochs - 2) * N / 500) and two == alone / 2 and many == alone / 4
    assert runs.estimate([], 2) == (0, 0)
