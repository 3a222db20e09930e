"""Has anything changed since figures were drawn? The question of make, asked of contents instead of times."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import distributions
from pathlib import Path

from . import papers
from .data import cache_root, data_root
from .files import digest, write
from .records import ROOT, figures_root


def unless_current(kind: str, paper: str, preset: str, given: dict, work: Callable[[], object], leaves: Iterable[Path] = ()) -> bool:
    """Do ``work``, which draws the figures of a paper at a preset, unless that would change nothing; returns whether it was done.

    It would, if since the last time something is different in what it depends on (code, notebook, presets, records, versions, the data sets
    that are there, the values ``given``) or in what it left (the figures, and the files that ``leaves`` names). What changes while the work
    is done counts as changed afterwards.
    """
    stamp = cache_root() / "stamps" / preset / f"{paper}.{kind}"

    def inputs() -> list:
        code = [p for p in (ROOT / "unlearnlib").rglob("*") if p.suffix != ".pyc"]
        there = sorted(p.name for p in data_root().iterdir()) if data_root().is_dir() else []
        versions = sorted(f"{d.name} {d.version}" for d in distributions())
        return [str(figures_root()), sys.version, versions, there, given,
                _contents([*code, *papers.FOLDER.glob("*.yaml"), ROOT / "constraints.txt", ROOT / "notebooks" / f"{paper}.ipynb"])]

    def results() -> list:
        """Records among them: the work may compute some."""
        runs = [*(ROOT / "notebooks" / "records").rglob(f"{paper}.jsonl"), *figures_root().glob(f"*/{paper}/runs.jsonl")]
        return _contents([*runs, *(figures_root() / preset / paper).rglob("*"), *leaves])

    def state(before: list) -> bytes:
        return digest(json.dumps([before, results()]).encode()).encode()

    before = inputs()
    if stamp.exists() and stamp.read_bytes() == state(before):
        return False
    work()
    write(stamp, state(before))
    return True


def _contents(paths: Iterable[Path]) -> list:
    return [[str(p), digest(p.read_bytes())] for p in sorted(set(paths)) if p.is_file()]
