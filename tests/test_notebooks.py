"""The notebooks: their form, their stored outputs, executed whole from an empty cache, and compared by nbval."""

import ast
import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from PIL import Image

from unlearnlib import notebooks, papers, records
from unlearnlib.__main__ import main
from unlearnlib.methods.ispf import STRATEGIES
from unlearnlib.records import ROOT, Store

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LINES, MOST_WORDS, MOST_DEFINITION, MOST_BYTES = 12, 150, 5, 900_000
CACHES = {".git", ".pytest_cache", ".ruff_cache", "__pycache__", ".ipynb_checkpoints"}


def cells(path, kind=None):
    found = nbformat.read(path, as_version=4).cells
    return [c for c in found if kind in (None, c.cell_type)]


def is_parameters(cell):
    return "parameters" in cell.metadata.get("tags", [])


def code_lines(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


def only_imports(cell):
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(cell.source).body)


def data_of(cell, mime):
    return [o.data[mime] for o in cell.get("outputs", []) if mime in o.get("data", {})]


def headings(path):
    return [line for c in cells(path, "markdown") for line in c.source.splitlines() if re.match(r"#{1,2} ", line)]


notebook = pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
each_paper = pytest.mark.parametrize("paper", papers.PAPERS)


# --- form

def test_every_paper_has_a_notebook():
    assert {p.stem for p in PATHS} >= set(papers.PAPERS)


@notebook
def test_it_is_a_valid_notebook_of_bounded_size(path):
    content = path.read_bytes()
    nbformat.validate(nbformat.reads(content.decode(), as_version=4))
    assert len(content) < MOST_BYTES and content.endswith(b"}\n")
    metadata = json.loads(content)["metadata"]
    assert metadata == {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                        "language_info": {"name": "python"}}, "the metadata name a machine"


@notebook
def test_it_was_executed_from_top_to_bottom(path):
    """nbval does not compare a cell without an execution count."""
    counts = [c.execution_count for c in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))
    assert not any("execution" in c.metadata for c in cells(path)), "cells carry times, which change with every execution"


@notebook
def test_what_a_cell_shows_is_stored(path):
    for c in cells(path, "code"):
        last = ast.parse(c.source).body[-1]
        if isinstance(last, ast.Expr) and not c.source.rstrip().endswith(";"):
            assert c.outputs, f"no output stored: {c.source}"
        for o in c.outputs:
            assert o.output_type != "error" and o.get("name") != "stderr", f"an error or stderr is stored: {c.source}"


@notebook
def test_every_figure_is_stored_as_a_picture_and_a_digest(path):
    calls = 0
    for c in cells(path, "code"):
        wanted = sum(isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "figure" for n in ast.walk(ast.parse(c.source)))
        pictures = data_of(c, "image/png")
        assert len(pictures) == wanted, c.source
        assert all(p.startswith("iVBORw0KGgo") for p in pictures)
        texts = [o.data["text/plain"] for o in c.outputs if "image/png" in o.get("data", {})]
        assert all(re.fullmatch(r"\w+: \d+ rows drawn, digest [0-9a-f]{16}", t) for t in texts)
        calls += wanted
    assert calls >= 3


@each_paper
def test_the_notebook_shows_every_figure_of_its_paper_once(paper):
    source = "\n".join(c.source for c in cells(notebooks.source(paper), "code"))
    assert sorted(re.findall(r'lab\.figure\("(\w+)"\)', source)) == sorted(papers.paper(paper).FIGURES)


@notebook
def test_no_absolute_path_anywhere(path):
    texts = [c.source for c in cells(path)]
    for c in cells(path, "code"):
        for o in c.outputs:
            texts += [str(v) for k, v in o.get("data", {}).items() if k.startswith("text/")] + [o.get("text", "")]
    for text in texts:
        found = re.search(r"(?<![\w.:/])/(home|root|work|tmp|usr|opt|var|mnt|srv|Users)\b|\b[A-Z]:\\|~/", text)
        assert not found, f"{found[0]} in: {text[:200]}"


@notebook
def test_code_cells_are_short_and_define_little(path):
    for c in cells(path, "code"):
        assert len(code_lines(c)) <= MOST_LINES, c.source
        for node in ast.walk(ast.parse(c.source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                assert node.end_lineno - node.lineno + 1 <= MOST_DEFINITION, f"{node.name} belongs into the library"
            assert not isinstance(node, ast.While), "loops that train belong into the library"


@notebook
def test_text_stands_between_code_cells(path):
    for first, second in itertools.pairwise(cells(path)):
        if first.cell_type == second.cell_type == "code":
            assert is_parameters(first) or only_imports(first), f"nothing is said between\n{first.source}\nand\n{second.source}"


@notebook
def test_text_cells_are_short(path):
    section = ""
    for c in cells(path, "markdown"):
        section = ([section] + re.findall(r"^## (.*)$", c.source, re.M))[-1]
        if not section.startswith("Exercises"):
            assert len(c.source.split()) <= MOST_WORDS, f"{len(c.source.split())} words: {c.source[:60]}"


@notebook
def test_it_has_the_ten_sections_in_order(path):
    found = headings(path)
    assert found[0].startswith("# ") and sum(h.startswith("# ") for h in found) == 1
    numbers = [int(m[1]) for h in found if (m := re.match(r"## (\d+)\b", h))]
    assert numbers == list(range(1, 11))


@notebook
def test_it_opens_with_a_question_and_closes_with_the_answer(path):
    first, *_, last = cells(path)
    assert "?" in first.source.splitlines()[0] and len(first.source.split()) <= 125
    assert re.search(r"arxiv\.org/abs/\d{4}\.\d{5}", first.source)
    assert any(h.startswith("## Exercises") for h in headings(path)) and "answer" in headings(path)[-1].lower()
    assert last.cell_type == "code" and last.outputs, "the answer is computed"


@notebook
def test_it_has_one_parameters_cell_right_after_its_section(path):
    (index,) = [i for i, c in enumerate(cells(path)) if is_parameters(c)]
    assert cells(path)[index].cell_type == "code" and cells(path)[index - 1].source.startswith("## 2")


@notebook
def test_no_styling_and_no_progress_bar_in_the_notebook(path):
    for c in cells(path, "code"):
        assert not re.search(r"\b(matplotlib|seaborn|plt|tqdm)\b", c.source), c.source


# --- executed whole

def reduced():
    """The digits preset at a scale for tests: everything that the notebook shows, in a few seconds."""
    values = yaml.safe_load((papers.FOLDER / "digits.yaml").read_text())
    mine = values["lfssd"]
    keep = {"finetune": {"lr": 0.05, "epochs": 1}, "ssd": {"alpha": 2, "lam": 1, "batch_size": 64},
            "lfssd": {"alpha": 2, "lam": 1, "batch_size": 64}, "random_dampening": "lfssd"}
    mine |= {"seeds": 2, "model": "allcnn-4", "scenarios": {"class:8": "digits", "random:0.1": "digits"}, "focus": "class:8", "grids": {},
             "alphas": [1, 2, 4, 16], "lams": [1], "batch_sizes": [16, 64], "sensitivity_alphas": [2], "per_sample_images": 40,
             "methods": {name: {"class": p, "random": p} for name, p in keep.items()} | {"mask_logit": {"class": {}}}}
    mine["recipe"]["epochs"], mine["relearn"]["batches"] = 2, 6
    drawn = values["ispf"]
    drawn |= {"seeds": 2, "model": "allcnn-4"}
    drawn["recipe"]["epochs"], drawn["relearn"]["batches"] = 2, 6
    tiny = {"epochs": 2, "rounds": 1, "student_steps": 2, "batch_size": 16, "image_shape": [1, 8, 8], "latent": 8, "widths": [8, 8, 8]}
    drawn["methods"] = {name: {"class": tiny if name in STRATEGIES else {}} for name in drawn["methods"]}
    drawn["snapshots"] = {"epochs": [1, 2], "points": 16, "pictures": 3}
    drawn["longer"]["methods"] = {"gkt_dfq": {"epochs": 3}, "gkt": {"pseudo_batches": 4, "report_every": 2, "batch_size": 16,
                                                                    "image_shape": [1, 8, 8], "latent": 8, "widths": [8, 8, 8]}}
    drawn["threshold"]["seeds"] = 2
    vectors = values["forget_vectors"]
    vectors |= {"seeds": 2, "model": "allcnn-4", "grids": {}, "beta": [1, 5], "tau": [0, 1], "compared": ["class:3"],
                "scenarios": dict.fromkeys(("class:3", "class:7", "class:3+7", "random:0.1"), "digits")}
    kept = ("forget_vector", "forget_vector_composed", "finetune", "ssd")
    vectors["methods"] = {name: {kind: shorter(p) if "epochs" in p else p for kind, p in vectors["methods"][name].items()} for name in kept}
    vectors["recipe"]["epochs"], vectors["saliency"]["images"], vectors["arithmetic"]["weights"] = 2, 20, [0, 1]
    vectors["shift"] |= {"methods": ["retrain", "forget_vector"], "gaussian": [0.2], "elastic": [[0.64, 0.48, 0.48]], "steps": 1}
    second = values["nabla_tau"]
    for domain in (second, second["text"]):
        domain["recipe"]["epochs"] = 2
        domain["methods"] = {name: {kind: shorter(p) for kind, p in kinds.items()} for name, kinds in domain["methods"].items()
                             if name in ("finetune", "neggrad_plus", "ssd", "nabla_tau")}
    second |= {"seeds": 2, "model": "allcnn-4", "scenarios": {"random:0.1": "digits", "class:8": "digits"}, "focus": "random:0.1",
               "grids": {}, "grid": {"fractions": [0.1, 0.3], "alphas": [0.2, 0.5], "bn_mode": "train", "max_epochs": 1}}
    second["relearn"]["batches"], second["variants"]["alpha0 = 0 (off)"] = 6, {"alpha0": 0, "retain_epochs": 1}
    second["text"] |= {"model": "bag-8", "scenarios": {"random:0.1": "scipy_docs"}, "focus": "random:0.1", "grids": {}}
    return values


def shorter(params):
    """Hyper-parameters at a fraction of the budget."""
    budget = {"epochs": 1} if "epochs" in params else {} if "alpha" in params else {"retain_epochs": 1}
    return params | budget | {"batch_size": 64}


def contents(folder):
    """The bytes of every file beneath a folder; of a clone without git's own files, caches and virtual environments."""
    found = {}
    for here, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if f not in CACHES and not f.endswith(".egg-info") and not (Path(here, f) / "pyvenv.cfg").exists()]
        found |= {str((Path(here) / name).relative_to(folder)): (Path(here) / name).read_bytes() for name in names}
    return found


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """Kernels that a test starts find no personal settings, and write to folders of the test. Returns the start-up folder."""
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("UNLEARNLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("UNLEARNLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNLEARNLIB_DATA", str(tmp_path / "data"))               # no real data: nothing of theirs can be computed
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    return startup


@each_paper
def test_papermill_makes_everything_from_an_empty_cache_and_a_second_run_changes_no_byte(kernel, monkeypatch, tmp_path, capfd, paper):
    module = papers.paper(paper)
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / "digits.yaml").write_text(yaml.safe_dump(reduced()))
    for name in ("cifar10", "full", "recipes"):
        (presets / f"{name}.yaml").write_bytes((papers.FOLDER / f"{name}.yaml").read_bytes())
    # The kernel is another process: IPython runs this in it before the first cell.
    (kernel / "presets.py").write_text(f"import pathlib, unlearnlib.papers\nunlearnlib.papers.FOLDER = pathlib.Path({str(presets)!r})\n"
                                       "del pathlib, unlearnlib\n")
    monkeypatch.setattr(papers, "FOLDER", presets)
    monkeypatch.chdir(tmp_path)
    before = contents(ROOT)

    assert main(["notebook", paper, "--recompute"]) == 0
    folder = tmp_path / "figures" / "digits" / paper
    first = contents(tmp_path / "figures")
    wanted = {f"{name}.{kind}" for name in module.FIGURES for kind in ("png", "csv")} | {"claims.md", "runs.jsonl"}
    assert set(first) == {f"digits/{paper}/{name}" for name in wanted}
    for name in module.FIGURES:
        picture = Image.open(io.BytesIO(first[f"digits/{paper}/{name}.png"]))
        assert picture.format == "PNG" and min(picture.size) > 200 and first[f"digits/{paper}/{name}.csv"].count(b"\n") > 2
    assert all(f" {claim.number} |" in first[f"digits/{paper}/claims.md"].decode() for claim in module.CLAIMS)
    made_with = {"nabla_tau": "digits, scipy_docs | allcnn-4, bag-8"}.get(paper, "digits | allcnn-4")
    assert f"preset digits | {made_with} | n = 2".encode() in first[f"digits/{paper}/claims.md"]
    planned = {s.key for s in papers.paper(paper).plan(papers.settings(paper, "digits"))}
    assert set(Store.fresh("digits", paper).read()) == planned

    executed = tmp_path / "cache" / "notebooks" / "digits" / f"{paper}.ipynb"
    assert not executed.with_suffix(".failed.ipynb").exists()
    assert sum(len(data_of(c, "image/png")) for c in cells(executed, "code")) == len(module.FIGURES)
    (injected,) = [c for c in cells(executed, "code") if "injected-parameters" in c.metadata.get("tags", [])]
    assert "recompute = True" in injected.source and "write = True" in injected.source
    assert not any(o.output_type == "error" for c in cells(executed, "code") for o in c.outputs)

    stamp, models = (folder / "runs.jsonl").stat().st_mtime_ns, contents(tmp_path / "cache" / "models")
    assert main(["notebook", paper, "--recompute"]) == 0
    assert capfd.readouterr().out.endswith(f"executed: {executed}\nnothing has changed since: {executed}\n")
    (folder / "claims.md").unlink()
    assert main(["notebook", paper, "--recompute"]) == 0
    assert contents(tmp_path / "figures") == first
    assert (folder / "runs.jsonl").stat().st_mtime_ns == stamp and contents(tmp_path / "cache" / "models") == models
    assert capfd.readouterr().out.endswith(f"executed: {executed}\n")
    after = contents(ROOT)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set(), "the clone was changed"


def test_a_failed_execution_leaves_the_previous_copy_and_its_own_beside_it(kernel, monkeypatch, tmp_path):
    def fails(source, target, **_):
        with open(target, "w") as file:
            file.write("up to the failing cell")
        raise RuntimeError("a cell failed")
    folder = tmp_path / "cache" / "notebooks" / "digits"
    folder.mkdir(parents=True)
    (folder / "lfssd.ipynb").write_text("the previous copy")
    monkeypatch.setattr(papermill, "execute_notebook", fails)
    with pytest.raises(RuntimeError):
        notebooks.execute("lfssd", "digits", recompute=False)
    assert contents(folder) == {"lfssd.ipynb": b"the previous copy", "lfssd.failed.ipynb": b"up to the failing cell"}


def test_in_place_stores_the_outputs_and_gives_the_same_bytes_twice(kernel, monkeypatch, tmp_path):
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("A sum.", id="a"), nbformat.v4.new_code_cell("1 + 1", id="b"),
                                            nbformat.v4.new_code_cell("import os\nos.path.basename(os.getcwd())", id="c")])
    small.metadata = {"kernelspec": {"display_name": "mine", "language": "python", "name": "python3"}, "elsewhere": "/home/me"}
    small.cells[1].metadata["execution"] = {"iopub.execute_input": "2020-01-01T00:00:00Z"}
    path = tmp_path / "notebooks" / "small.ipynb"
    path.parent.mkdir()
    nbformat.write(small, path)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    written = []
    for _ in range(2):
        assert notebooks.in_place("small") == path
        written.append(path.read_bytes())
    assert written[0] == written[1] and b"elsewhere" not in written[0]
    first, second = cells(path, "code")
    assert (first.execution_count, second.execution_count) == (1, 2)
    assert data_of(first, "text/plain") == ["2"] and data_of(second, "text/plain") == ["'notebooks'"]    # it runs beside itself
    assert set(first.metadata) == set()


# --- compared with what is stored

def nbval(path):
    """The command of `make nbval` on another notebook."""
    command = re.search(r"^NBVAL +:= +\$\(PY\) (.*) notebooks$", (ROOT / "Makefile").read_text(), re.M)[1]
    command = [*shlex.split(command), "-c", ROOT / "pyproject.toml", "--rootdir", path.parent, path]
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, cwd=path.parent)


@each_paper
def test_a_stored_output_that_disagrees_with_the_code_makes_nbval_red(kernel, tmp_path, paper):
    """The quick cells of the committed notebook; one word of one stored output is altered, and only that cell is red."""
    part = nbformat.read(notebooks.source(paper), as_version=4)
    part.cells = [c for c in part.cells if c.cell_type == "code" and ".figure(" not in c.source and '"cifar10"' not in c.source][:6]
    outputs = [(i, o.data) for i, c in enumerate(part.cells) for o in c.outputs if "text/plain" in o.get("data", {})]
    assert len(outputs) >= 2, "nothing is stored"
    position, shown = outputs[-1]
    shown["text/plain"] = re.sub(r"\w+", "altered", shown["text/plain"], count=1)
    nbformat.write(part, tmp_path / "altered.ipynb")
    done = nbval(tmp_path / "altered.ipynb")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.findall(r"^FAILED (\S+ \d+)", done.stdout, re.M) == [f"altered.ipynb::Cell {position}"], done.stdout
    assert f"1 failed, {position} passed" in done.stdout, done.stdout


def test_a_replayed_notebook_is_compared_with_the_committed_records():
    """The defaults of the parameters cell are what nbval runs: they must read the reference, and write nothing."""
    for path in PATHS:
        (cell,) = [c for c in cells(path, "code") if is_parameters(c)]
        defaults = {n.target.id: ast.literal_eval(n.value) for n in ast.parse(cell.source).body}
        assert (defaults["preset"], defaults["recompute"], defaults["write"]) == ("digits", False, False)
        assert records.Store.reference("digits", path.stem).path.exists()
