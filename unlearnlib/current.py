"""Has anything changed since figures were drawn? The question of make, asked of contents instead of times."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import papers
from .data import cache_root, data_root
from .files import digest, write
from .records import ROOT, figures_root


def unless_current(kind: str, paper: str, preset: str, given: dict, work: Callable[[], object], leaves: Iterable[Path] = ()) -> bool:
    """Do ``work``, which draws the figures of a paper at a preset, unless that would change nothing; returns whether it was done.

    It would, if since the last time something is different in what it depends on (code, notebook, presets, records, versions, the data sets
    that are there, the values ``given``) or in what it left (the figures, and the files that ``leaves`` names).
    """
    stamp = cache_root() / "stamps" / preset / f"{paper}.{kind}"

    def state() -> bytes:
        code = [*(ROOT / "unlearnlib").rglob("*.py"), *papers.FOLDER.glob("*.yaml"), ROOT / "constraints.txt"]
        runs = [*(ROOT / "notebooks" / "records").rglob(f"{paper}.jsonl"), *figures_root().glob(f"*/{paper}/runs.jsonl")]
        drawn = (figures_root() / preset / paper).rglob("*")
        files = {p for p in [*code, ROOT / "notebooks" / f"{paper}.ipynb", *runs, *drawn, *leaves] if p.is_file()}
        there = sorted(p.name for p in data_root().iterdir()) if data_root().is_dir() else []
        content = [str(figures_root()), sys.version, there, given, [[str(p), digest(p.read_bytes())] for p in sorted(files)]]
        return digest(json.dumps(content).encode()).encode()
    if stamp.exists() and stamp.read_bytes() == state():
        return False
    work()
    write(stamp, state())
    return True
