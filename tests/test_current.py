"""Figures are drawn again if, and only if, something that they come from, or they themselves, have changed."""

import pytest

from unlearnlib import current, papers
from unlearnlib.current import unless_current


@pytest.fixture
def place(monkeypatch, tmp_path):
    """A clone, a data folder, a cache and a figures folder of the test's own. Work draws one figure and leaves a copy."""
    root = tmp_path / "clone"
    files = ("unlearnlib/methods/a.py", "notebooks/p.ipynb", "notebooks/other.ipynb", "notebooks/presets/digits.yaml", "constraints.txt",
             "notebooks/records/cifar10/p.jsonl", "notebooks/records/digits/other.jsonl", "README.md")
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("as it was")
    monkeypatch.setattr(current, "ROOT", root)
    monkeypatch.setattr(papers, "FOLDER", root / "notebooks" / "presets")
    for name in ("figures", "cache", "data"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"UNLEARNLIB_{name.upper()}", str(tmp_path / name))
    return tmp_path


def run(place, kind="notebook", paper="p", preset="digits", given=None):
    """Whether the work was done; what it writes is always the same."""
    figure, copy = place / "figures" / preset / paper / "f.png", place / "copy.ipynb"
    calls = []

    def work():
        calls.append(1)
        figure.parent.mkdir(parents=True, exist_ok=True)
        figure.write_text("drawn")
        copy.write_text("executed")
    done = unless_current(kind, paper, preset, given or {}, work, [copy])
    assert done == bool(calls)
    return done


def test_work_is_done_once_and_what_it_draws_is_not_a_change(place):
    assert [run(place) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("path", ["clone/unlearnlib/methods/a.py", "clone/unlearnlib/new.py", "clone/unlearnlib/published.csv",
                                  "clone/notebooks/p.ipynb",
                                  "clone/notebooks/presets/digits.yaml", "clone/constraints.txt", "clone/notebooks/records/cifar10/p.jsonl",
                                  "clone/notebooks/records/digits/p.jsonl", "figures/cifar10/p/runs.jsonl", "figures/digits/p/f.png",
                                  "figures/digits/p/g.png", "copy.ipynb", "data/cifar-10-batches-py"])
def test_it_is_done_again_for_each_thing_that_counts(place, path):
    assert run(place) and not run(place)
    (place / path).parent.mkdir(parents=True, exist_ok=True)
    (place / path).write_text("changed")
    assert run(place) and not run(place)


@pytest.mark.parametrize("path", ["figures/digits/p/f.png", "copy.ipynb", "clone/notebooks/records/cifar10/p.jsonl"])
def test_it_is_done_again_for_what_is_gone(place, path):
    assert run(place) and not run(place)
    (place / path).unlink()
    assert run(place) and not run(place)


@pytest.mark.parametrize("path", ["clone/README.md", "clone/notebooks/other.ipynb", "clone/notebooks/records/digits/other.jsonl",
                                  "figures/digits/other/runs.jsonl", "figures/cifar10/p/f.png"])
def test_it_is_not_done_again_for_anything_else(place, path):
    assert run(place)
    (place / path).parent.mkdir(parents=True, exist_ok=True)
    (place / path).write_text("changed")
    assert not run(place)


def test_it_is_done_again_for_another_version_of_a_library(place, monkeypatch):
    assert run(place) and not run(place)
    monkeypatch.setattr(current, "distributions", lambda: [])
    assert run(place) and not run(place)


def test_what_changes_while_the_work_is_done_counts(place):
    """The figure is of the code as it was."""
    code = place / "clone/unlearnlib/methods/a.py"
    assert unless_current("notebook", "p", "digits", {}, lambda: code.write_text("changed meanwhile"))
    assert unless_current("notebook", "p", "digits", {}, lambda: None)
    assert not unless_current("notebook", "p", "digits", {}, lambda: None)


def test_kinds_papers_presets_and_values_are_apart(place):
    assert run(place) and run(place, kind="draw") and run(place, preset="cifar10") and run(place, paper="other")
    assert not run(place) and not run(place, kind="draw")
    assert run(place, given={"seeds": 2}) and not run(place, given={"seeds": 2}) and run(place)


def test_work_that_fails_is_done_again(place):
    def fails():
        raise RuntimeError("no")
    assert run(place)
    (place / "copy.ipynb").unlink()
    with pytest.raises(RuntimeError):
        unless_current("notebook", "p", "digits", {}, fails, [place / "copy.ipynb"])
    assert run(place)
