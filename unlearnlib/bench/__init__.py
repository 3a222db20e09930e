"""How fast, against what a user would run instead: ratios within one run, medians of repeats, committed with their environment."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from ..train import check_choice
from .measure import machine

PARTS = ("throughput", "flops", "retraining", "growth", "ratios")      # the longest last; each is a module


def main(parts: Sequence[str] = ()) -> None:
    """Measure the named parts (default: all) and write ``figures/bench/PART.*``: records (JSON lines), table, figure and its CSV.

    A part has ``measure()``, which yields one record a row, ``tables(frame)``, ``draw(frame)`` and, where it needs one, a ``NOTE``. Records
    are written after every row, tables and figure when the part ends, also where it is interrupted. Raises ValueError for a part that does
    not exist.
    """
    from .. import records  # here: a cell of the growth table needs no pandas
    from ..provenance import environment
    for name in parts:
        check_choice("part", name, PARTS)
    for name in dict.fromkeys(parts or PARTS):
        part, done = import_module(f".{name}", __name__), []
        print(f"{name}: {part.__doc__.splitlines()[0]}", flush=True)
        try:
            for row in part.measure():
                done.append({"environment": environment() | machine()} | row)
                content = "".join(records.canonical(r) + "\n" for r in done)
                records.write(records.figures_root() / "bench" / f"{name}.jsonl", content.encode())
                print(f"  {row['row']}", flush=True)
        finally:
            if done:
                publish(name, part, done)


def publish(name: str, part, done: list[dict]) -> None:
    """Write the tables and the figure of a part's records, and print the tables."""
    import pandas as pd

    from .. import records
    frame = pd.DataFrame(done)
    folder = records.figures_root() / "bench"
    shown = [t.to_markdown(index=False, disable_numparse=True) for t in part.tables(frame)]
    text = "\n\n".join([*shown, *([part.NOTE] if hasattr(part, "NOTE") else [])])
    print(text, flush=True)
    records.write(folder / f"{name}.md", (text + "\n").encode())
    part.draw(frame).save(folder)
