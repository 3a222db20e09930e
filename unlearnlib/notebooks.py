"""Execute the notebooks: a copy at any preset with papermill, or in place with their own defaults."""

from __future__ import annotations

from pathlib import Path

from .data import cache_root
from .files import write
from .records import ROOT


def source(paper: str) -> Path:
    return ROOT / "notebooks" / f"{paper}.ipynb"


def copy(paper: str, preset: str) -> Path:
    """Where :func:`execute` leaves the executed copy: in the cache folder."""
    return cache_root() / "notebooks" / preset / f"{paper}.ipynb"


def execute(paper: str, preset: str, *, recompute: bool, seeds: int | None = None) -> Path:
    """Run the notebook of a paper at a preset; figures and verdicts are written; returns the executed copy.

    A failed run leaves the previous copy alone and its own, up to the failing cell, beside it as ``.failed.ipynb``.
    """
    import papermill
    target = copy(paper, preset)
    target.parent.mkdir(parents=True, exist_ok=True)
    running = target.with_suffix(".failed.ipynb")
    parameters = {"preset": preset, "recompute": recompute, "write": True}
    if seeds:
        parameters["seeds"] = seeds
    papermill.execute_notebook(str(source(paper)), str(running), parameters=parameters, progress_bar=False, log_output=False)
    running.replace(target)
    return target


def in_place(paper: str) -> Path:
    """Run the notebook with its own defaults and store its outputs in it; the same outputs give the same bytes."""
    import nbformat
    from nbclient import NotebookClient
    path = source(paper)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=1800, record_timing=False, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}
    write(path, nbformat.writes(notebook).rstrip("\n").encode() + b"\n")
    return path
