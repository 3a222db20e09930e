"""Specs, records and their store: what was asked, what came out, and files that keep it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch

from . import data, reference
from .files import DamagedFile, digest, locked, set_aside, write

ROOT = Path(__file__).resolve().parents[1]


def canonical(value) -> str:
    """JSON with sorted keys and no spaces; floats rounded to 6 significant digits, NaN and infinities as null."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value):
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):                   # numpy and torch scalars
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _numbers(values: dict) -> dict:
    """JSON's null is a number that does not exist: NaN."""
    return {k: math.nan if v is None else v for k, v in values.items()}


@dataclass(frozen=True)
class Spec:
    """One run, frozen: everything that its result depends on.

    ``recipe`` (of the reference models), ``params`` (of the method) and ``options`` (of the study itself) are canonical JSON objects.
    """

    paper: str
    study: str
    method: str
    scenario: str
    data: str
    model: str
    recipe: str
    seed: int
    params: str
    options: str
    version: str

    @property
    def key(self) -> str:
        return hashlib.sha256(canonical(asdict(self)).encode()).hexdigest()[:16]

    @property
    def hyper_parameters(self) -> dict:
        return json.loads(self.params)

    @property
    def settings(self) -> dict:
        return json.loads(self.options)

    @property
    def original(self) -> reference.Job:
        return reference.Job(self.data, self.model, self.recipe, self.seed)

    @property
    def retrained(self) -> reference.Job:
        return reference.Job(self.data, self.model, self.recipe, self.seed, self.scenario)

    def split(self) -> data.Split:
        return reference.split(self.data, self.scenario, self.seed)

    def generator(self) -> torch.Generator:
        """The randomness of the method: a different stream for each method and seed."""
        return torch.Generator().manual_seed(int(hashlib.sha256(f"{self.method} {self.seed}".encode()).hexdigest()[:8], 16))

    def __str__(self) -> str:
        return f"{self.study} {self.method} {self.data} {self.scenario} seed {self.seed}"


@dataclass(frozen=True)
class Record:
    """The tidy result of one run: scalar metrics, optional rows (curves, histograms), cost and environment."""

    spec: Spec
    metrics: dict
    rows: list = field(default_factory=list)
    timing: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)

    def line(self) -> str:
        content = {"key": self.spec.key, **asdict(self)}
        return canonical(content | {"sha": digest(canonical(content).encode())})

    @classmethod
    def parse(cls, line: str) -> Record:
        """Read one line; ValueError if it is truncated, or if its numbers are not those that were written."""
        content = json.loads(line)
        sha, _ = content.pop("sha"), content.get("key")
        if digest(canonical(content).encode()) != sha:
            raise ValueError("checksum")
        content.pop("key")
        metrics, rows, timing = (content.pop(name) for name in ("metrics", "rows", "timing"))
        return cls(Spec(**content.pop("spec")), _numbers(metrics), [_numbers(row) for row in rows], _numbers(timing), **content)


def figures_root() -> Path:
    """Where records and figures are written: ``UNLEARNLIB_FIGURES``, else ``figures/`` of the clone."""
    return Path(os.environ.get("UNLEARNLIB_FIGURES") or ROOT / "figures").expanduser()


class Store:
    """A file of records, one line each, sorted: the same records give the same bytes, in whatever order they were computed."""

    def __init__(self, path: Path, committed: bool = False):
        self.path, self.committed = Path(path), committed

    @classmethod
    def fresh(cls, preset: str, paper: str) -> Store:
        """The records that this machine computed."""
        return cls(figures_root() / preset / paper / "runs.jsonl")

    @classmethod
    def reference(cls, preset: str, paper: str) -> Store:
        """The records that the committed notebooks replay."""
        return cls(ROOT / "notebooks" / "records" / preset / f"{paper}.jsonl", committed=True)

    @property
    def lock(self) -> Path:
        return data.cache_root() / "locks" / (digest(str(self.path.resolve()).encode()) + ".lock")

    def read(self) -> dict[str, Record]:
        """All records by key.

        Raises DamagedFile, in one sentence, if a line is truncated or altered. A file that this machine computed is set aside and its
        sound records are kept, so the next call computes only what was damaged; a committed file is left for git to restore.
        """
        good, bad = self._lines()
        if not bad:
            return good
        seen = f"{self.path} is damaged in line {bad[0]} (its checksum or form is wrong); a record must be as it was written"
        if self.committed:
            raise DamagedFile(f"{seen}: restore the file with 'git checkout -- {self.path.name}' in its folder.")
        aside = set_aside(self.path)
        self._write(good)
        raise DamagedFile(f"{seen}, so the file was set aside as {aside.name} and its {len(good)} sound records were kept: run again, "
                          "and the rest is computed anew.")

    def _lines(self) -> tuple[dict[str, Record], list[int]]:
        good, bad = {}, []
        if not self.path.exists():
            return good, bad
        for number, line in enumerate(self.path.read_text(errors="replace").splitlines(), 1):
            try:
                record = Record.parse(line)
                good[record.spec.key] = record
            except (ValueError, KeyError, TypeError, AttributeError):
                bad.append(number)
        return good, bad

    def add(self, records: Iterable[Record]) -> None:
        """Merge records into the file, atomically and safe against other writers."""
        with locked(self.lock):
            self._write(self.read() | {r.spec.key: r for r in records})

    def _write(self, records: dict[str, Record]) -> None:
        ordered = sorted(records.values(), key=lambda r: canonical(asdict(r.spec)))
        write(self.path, "".join(r.line() + "\n" for r in ordered).encode())


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a record: spec, hyper-parameters (as ``hp_NAME``), metrics, ``seconds`` and ``epochs``."""
    return pd.DataFrame([_identity(r) | r.metrics | r.timing for r in records])


def rows(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each of the records' own rows, with the spec beside it."""
    return pd.DataFrame([_identity(r) | row for r in records for row in r.rows])


def _identity(record: Record) -> dict:
    spec = {k: v for k, v in asdict(record.spec).items() if k not in ("recipe", "params", "options", "version")}
    return spec | {f"hp_{k}": v for k, v in record.spec.hyper_parameters.items()} | {"commit": record.environment.get("commit")}
