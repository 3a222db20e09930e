"""Specs, records and their store: keys, round trips, damage, and writers side by side."""

import inspect
import json
import math
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from unlearnlib import papers, provenance, records, reference
from unlearnlib.files import DamagedFile, locked
from unlearnlib.methods import METHODS
from unlearnlib.records import Record, Spec, Store, canonical

ROOT = Path(__file__).resolve().parents[1]
VALUES = {"model": "allcnn-2", "recipe": {"epochs": 1, "lr": 0.1}, "scenarios": {"class:8": "digits", "random:0.1": "digits"}}


def spec(name="lfssd", scenario="class:8", seed=0, study="unlearn", **params) -> Spec:
    return papers.make("lfssd", study, name, scenario, VALUES, seed, params=params)


def record(seed=0, value=0.5, **changes) -> Record:
    return Record(spec(seed=seed), {"D_f": value, "D_r": 0.987654321, "js": float("nan")}, [{"step": 1, "x": value}], {"seconds": 1.25},
                  {"commit": "abc"}, **changes)


def lines(store) -> list[str]:
    return store.path.read_text().splitlines()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "records" / "runs.jsonl")


# --- canonical JSON

def test_canonical_json_is_sorted_compact_and_rounded():
    assert canonical({"b": 1, "a": [True, None, "x y", {"d": 2, "c": ()}]}) == '{"a":[true,null,"x y",{"c":[],"d":2}],"b":1}'
    assert canonical([1 / 3, 1234567.8, 1e-9 / 3, 2.0, -0.1, 100]) == "[0.333333,1234570.0,3.33333e-10,2.0,-0.1,100]"
    assert canonical([float("nan"), float("inf"), -math.inf, np.float64("nan")]) == "[null,null,null,null]"
    assert canonical([np.int64(3), np.float32(0.1), torch.tensor(2), torch.tensor(0.1), np.bool_(True)]) == "[3,0.1,2,0.1,true]"
    assert canonical({1: "a"}) == '{"1":"a"}' and canonical("é\u2028") == '"\\u00e9\\u2028"'


def test_canonical_json_is_stable_under_reading_it_back():
    generator = np.random.default_rng(0)
    values = [*(10.0 ** generator.uniform(-30, 30, 500)), *generator.normal(size=100), 0.0, 1e22, 123456.5, 999999.5]
    once = canonical({"values": values, "nothing": float("nan")})
    assert canonical(json.loads(once)) == once
    assert all(abs(a - b) <= 5.1e-6 * abs(a) for a, b in zip(values, json.loads(once)["values"], strict=True))


# --- keys

def test_the_key_changes_with_every_field():
    base = spec(alpha=2)
    other = {"paper": "p", "study": "s", "method": "m", "scenario": "class:1", "data": "d", "model": "allcnn-3", "recipe": "{}", "seed": 1,
             "params": "{}", "options": '{"a":1}', "version": "9.9"}
    assert set(other) == {f.name for f in fields(Spec)}
    keys = {base.key} | {replace(base, **{name: value}).key for name, value in other.items()}
    assert len(keys) == 1 + len(other) and all(len(k) == 16 for k in keys)


def test_the_key_does_not_depend_on_the_order_of_settings():
    def make(order=1, **changes):
        params, options = (dict(list(d.items())[::order]) for d in ({"alpha": 2, "lam": 1}, {"a": 1, "b": 2}))
        return papers.make("lfssd", "unlearn", "lfssd", "class:8", VALUES | changes, 0, params=params, options=options)
    assert make().key == make(order=-1).key == make(recipe={"lr": 0.1, "epochs": 1}).key
    assert make(recipe={"lr": 0.2, "epochs": 1}).key != make().key and make(model="allcnn-4").key != make().key


@pytest.mark.parametrize("name", METHODS)
def test_a_new_version_of_a_method_makes_its_records_stale_and_no_others(name, monkeypatch):
    before = {n: spec(n).key for n in [*METHODS, "original"]}
    monkeypatch.setitem(METHODS, name, replace(METHODS[name], version=METHODS[name].version + 1))
    after = {n: spec(n).key for n in before}
    assert {n for n in before if before[n] != after[n]} == {name}


def test_a_new_version_of_a_study_makes_its_records_stale(monkeypatch):
    studies = papers.paper("lfssd").STUDIES
    before = spec(study="alpha").key, spec().key
    monkeypatch.setitem(studies, "alpha", replace(studies["alpha"], version=studies["alpha"].version + 1))
    assert spec(study="alpha").key != before[0] and spec().key == before[1]


def test_a_spec_names_its_reference_models_and_its_randomness():
    s = spec("finetune", seed=3, lr=0.1, epochs=2)
    assert s.original == reference.Job("digits", "allcnn-2", canonical(VALUES["recipe"]), 3)
    assert s.retrained == replace(s.original, scenario="class:8")
    assert s.hyper_parameters == {"lr": 0.1, "epochs": 2} and s.settings == {}
    draws = [torch.rand(1, generator=spec(n, seed=k).generator()).item() for n in METHODS for k in range(5)]
    assert len(set(draws)) == len(draws)
    assert torch.equal(s.generator().get_state(), spec("finetune", "random:0.1", seed=3).generator().get_state())


def test_reference_keys_name_data_model_recipe_seed_and_retained_set():
    job = spec().original
    jobs = [job, replace(job, data="digits5"), replace(job, model="allcnn-3"), replace(job, recipe='{"epochs":2}'), replace(job, seed=1),
            replace(job, scenario="class:8"), replace(job, scenario="class:3"), replace(job, scenario="random:0.1"),
            replace(job, scenario="random:0.1", seed=1)]
    assert len({j.key for j in jobs}) == len(jobs)
    assert replace(job, scenario="subclass:8").key == replace(job, scenario="class:8").key       # the same images are retained
    assert replace(job, scenario="class:3+8").key == replace(job, scenario="class:8+3").key


# --- records

def test_a_record_survives_its_line():
    first = record()
    line = first.line()
    again = Record.parse(line)
    assert "\n" not in line and again.line() == line and again.spec == first.spec and again.spec.key == first.spec.key
    assert again.metrics == pytest.approx({"D_f": 0.5, "D_r": 0.987654, "js": float("nan")}, nan_ok=True)
    assert again.rows == [{"step": 1, "x": 0.5}]
    assert again.timing == {"seconds": 1.25} and again.environment == {"commit": "abc"}


def test_every_altered_character_of_a_line_is_noticed():
    line = record().line()
    for i in range(0, len(line), 3):
        altered = line[:i] + ("7" if line[i] != "7" else "8") + line[i + 1:]
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
            Record.parse(altered)
    for i in range(0, len(line), 7):
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
            Record.parse(line[:i])


# --- the store

def test_an_empty_store(store):
    assert store.read() == {} and not store.path.exists()
    store.add([])
    assert store.read() == {}


def test_hit_and_miss(store):
    store.add([record(0), record(1)])
    found = store.read()
    assert set(found) == {spec(seed=0).key, spec(seed=1).key}
    assert found[spec(seed=1).key].line() == record(1).line()
    assert spec(seed=2).key not in found and spec(seed=0, alpha=3).key not in found


def test_a_record_replaces_its_predecessor(store):
    store.add([record(0, 0.1), record(1, 0.1)])
    store.add([record(0, 0.2)])
    assert [r.metrics["D_f"] for r in store.read().values()] == [0.2, 0.1] and len(lines(store)) == 2


def test_the_same_records_give_the_same_bytes_in_any_order(tmp_path):
    every = [Record(spec(n, s, k), {"x": k}) for n in ("lfssd", "ssd") for s in VALUES["scenarios"] for k in range(4)]
    contents = set()
    for i in range(6):
        store = Store(tmp_path / f"{i}.jsonl")
        order = np.random.default_rng(i).permutation(len(every))
        for part in np.array_split(order, i + 1):
            store.add(every[j] for j in part)
        contents.add(store.path.read_bytes())
    assert len(contents) == 1 and contents.pop().count(b"\n") == len(every)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"{i}.jsonl" for i in range(6)]      # nothing else is left behind


def damage(store, how):
    """Returns the keys whose lines are still sound."""
    text = store.path.read_text()
    keys = [json.loads(line)["key"] for line in text.splitlines()]
    if how == "truncated":
        store.path.write_text(text[:-40])
        return keys[:-1]
    if how == "altered":
        assert text.count('"D_f":0.25') == 1
        store.path.write_text(text.replace('"D_f":0.25', '"D_f":0.26'))
        return keys[:1] + keys[2:]
    if how == "altered timing":
        store.path.write_text(text.replace('"seconds":1.25', '"seconds":1.26', 1))
        return keys[1:]
    if how == "not JSON":
        store.path.write_text("\n".join(["[1]", "3", *text.splitlines(), "{}", "", "null"]) + "\n")
        return keys
    store.path.write_bytes(b"\xff\xfe\x00" + text.encode())
    return keys[1:]


@pytest.mark.parametrize("how", ["truncated", "altered", "altered timing", "not JSON", "not text"])
def test_a_damaged_file_is_set_aside_and_its_sound_records_are_kept(store, how, one_sentence):
    store.add([record(0, 0.125), record(1, 0.25), record(2, 0.5)])
    sound = damage(store, how)
    content = store.path.read_bytes()
    with pytest.raises(DamagedFile, match=r"is damaged in line \d") as error:
        store.read()
    text = one_sentence(error)
    assert str(store.path) in text and f"{len(sound)} sound records" in text
    assert sorted(p.name for p in store.path.parent.iterdir()) == ["runs.jsonl", "runs.jsonl.damaged"]
    assert store.path.with_name("runs.jsonl.damaged").read_bytes() == content
    assert sorted(store.read()) == sorted(sound)                                # the next start goes on with them
    store.add([record(0, 0.125), record(1, 0.25), record(2, 0.5)])
    assert len(store.read()) == 3


@pytest.mark.parametrize("how", ["truncated", "altered", "not JSON"])
def test_a_committed_file_is_never_modified(tmp_path, how, one_sentence):
    Store(tmp_path / "paper.jsonl").add([record(0, 0.125), record(1, 0.25), record(2, 0.5)])
    store = Store(tmp_path / "paper.jsonl", committed=True)
    damage(store, how)
    before = store.path.read_bytes()
    with pytest.raises(DamagedFile, match="git checkout -- paper.jsonl") as error:
        store.read()
    one_sentence(error)
    assert store.path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["paper.jsonl"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, one_sentence):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PermissionError, match="could not be written") as error:
        Store(tmp_path / "file" / "runs.jsonl").add([record()])
    assert "UNLEARNLIB_FIGURES" in one_sentence(error)
    with pytest.raises(PermissionError, match="could not be opened") as error:
        with locked(tmp_path / "file" / "x.lock"):
            pass
    one_sentence(error)


def test_a_write_that_fails_half_way_leaves_the_old_file(store, monkeypatch, one_sentence):
    store.add([record(0)])
    before, write = store.path.read_bytes(), Path.write_bytes

    def full(path, content):
        write(path, content[:len(content) // 3])                                # in the middle of a line
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PermissionError, match="No space left") as error:
        store.add([record(1)])
    one_sentence(error)
    monkeypatch.undo()
    assert store.path.read_bytes() == before and list(store.read()) == [spec(seed=0).key]
    store.add([record(1)])
    assert len(store.read()) == 2


def test_places(monkeypatch, tmp_path):
    monkeypatch.setenv("UNLEARNLIB_FIGURES", str(tmp_path / "f"))
    assert Store.fresh("digits", "lfssd").path == tmp_path / "f" / "digits" / "lfssd" / "runs.jsonl"
    monkeypatch.delenv("UNLEARNLIB_FIGURES")
    assert Store.fresh("digits", "lfssd").path == ROOT / "figures" / "digits" / "lfssd" / "runs.jsonl"
    committed = Store.reference("digits", "lfssd")
    assert committed.path == ROOT / "notebooks" / "records" / "digits" / "lfssd.jsonl" and committed.committed
    monkeypatch.setenv("UNLEARNLIB_CACHE", str(tmp_path / "c"))
    assert Store(tmp_path / "a").lock != Store(tmp_path / "b").lock and tmp_path / "c" in Store(tmp_path / "a").lock.parents
    assert Store(tmp_path / "x" / ".." / "a").lock == Store(tmp_path / "a").lock          # one file, one lock


def plain(seed):
    return Record(Spec("paper", "study", "method", "class:8", "digits", "allcnn-2", "{}", seed, "{}", "{}", "1.1"), {"x": seed / 7})


WRITER = f"""
import sys, time
from pathlib import Path
from unlearnlib.records import Record, Spec, Store
{inspect.getsource(plain)}
store, go, first = Store(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
Path(f"{{go}}.{{first}}").touch()
while not go.exists():
    time.sleep(0.001)
for seed in range(first, first + 30):
    store.add([plain(seed)])
"""


def test_two_writers_lose_nothing(tmp_path):
    store, go = Store(tmp_path / "store" / "runs.jsonl"), tmp_path / "go"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(store.path), str(go), str(first)], cwd=ROOT)
               for first in (0, 20)]                                            # ten records are written by both
    while not all(Path(f"{go}.{first}").exists() for first in (0, 20)):
        assert all(w.poll() is None for w in writers)
        time.sleep(0.01)
    go.touch()                                                                  # both are ready: now they meet
    assert [w.wait(60) for w in writers] == [0, 0]
    alone = Store(tmp_path / "alone.jsonl")
    alone.add(plain(seed) for seed in range(50))
    assert len(store.read()) == 50 and store.path.read_bytes() == alone.path.read_bytes()
    assert [p.name for p in store.path.parent.iterdir()] == ["runs.jsonl"]


# --- tables

def test_frame_and_rows_are_tidy():
    mine = [Record(spec("lfssd", "class:8", k, alpha=2), {"D_f": 0.1 * k}, [{"step": i, "x": i} for i in range(2)], {"seconds": 3.0})
            for k in range(3)] + [Record(spec("finetune", lr=0.1), {"D_f": 1.0})]
    table, rows = records.frame(mine), records.rows(mine)
    assert table.D_f.tolist() == pytest.approx([0, 0.1, 0.2, 1]) and table.method.tolist() == ["lfssd"] * 3 + ["finetune"]
    assert table.hp_alpha.tolist()[:3] == [2, 2, 2] and pd.isna(table.hp_alpha[3]) and table.hp_lr[3] == 0.1 and table.seconds[0] == 3
    assert len(rows) == 6 and rows.step.tolist() == [0, 1] * 3 and rows.seed.tolist() == [0, 0, 1, 1, 2, 2]
    assert not {"recipe", "params", "options", "version"} & {*table.columns, *rows.columns}
    assert len(records.frame([])) == len(records.rows(mine[3:])) == 0


def test_a_number_that_is_missing_everywhere_is_still_a_number():
    """What was computed and what was read back must give the same table."""
    computed = [record(k) for k in range(2)]
    read = [Record.parse(r.line()) for r in computed]
    assert records.frame(read).dtypes.equals(records.frame(computed).dtypes)


def test_the_environment_says_where_it_was_computed():
    found = provenance.environment()
    assert set(found) >= {"commit", "torch", "python", "device", "threads"} and found["threads"] == torch.get_num_threads()
    assert json.loads(canonical(found)) == found and asdict(record())["environment"] == {"commit": "abc"}
