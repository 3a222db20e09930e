"""The environment files agree, and `make` sets up what they say: once, completely, where it should."""

import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"pytorch": "torch"}
TARGETS = "help install figures forget_vectors ispf lfssd nabla_tau verify records test nbval notebooks lint bench lab clean".split()

project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
makefile = (ROOT / "Makefile").read_text()


def requirements():
    """All requirements of pyproject.toml, extras included, by canonical name."""
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    parsed = [Requirement(line) for line in project["dependencies"] + extras]
    return {canonicalize_name(r.name): r for r in parsed}


def pins():
    """The lines of constraints.txt as name -> version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "constraints.txt holds lines that are not NAME==VERSION"
    return {canonicalize_name(name): version for name, version in pairs}


# --- pyproject.toml, constraints.txt, environment.yml ---


def test_constraints_pin_every_requirement_within_its_bounds():
    for name, requirement in requirements().items():
        assert name in pins(), f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pins()[name]), f"{name}=={pins()[name]} is not {requirement}"


def test_constraints_serve_every_platform():
    for name, version in pins().items():
        assert not re.match(r"nvidia|cuda|triton|pip$|setuptools$", name), f"{name}: one platform only"
        assert Version(version).local is None, f"{name}=={version}: one package index only"


def test_torch_2_13_0_is_never_chosen():
    assert pins()["torch"] != "2.13.0"
    assert not requirements()["torch"].specifier.contains("2.13.0")
    assert requirements()["torch"].specifier.contains("2.11.0")


def test_environment_yml_repeats_the_bounds_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    packages = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    for line in packages:
        name, bounds = re.fullmatch(r"([a-z0-9_-]+)(.*)", line).groups()
        if name == "pip":
            continue
        name = CONDA_NAMES.get(name, name)
        wanted = project["requires-python"] if name == "python" else requirements()[name].specifier
        assert SpecifierSet(bounds) == SpecifierSet(str(wanted)), f"{line}, but pyproject.toml: {wanted}"


def test_environment_yml_leaves_the_rest_to_pip_with_all_extras_but_the_pretrained_model():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    (line,) = pip
    extras = re.fullmatch(r"-e \.\[(.*)\]", line).group(1).split(",")
    assert {*extras, "roberta"} == set(project["optional-dependencies"]) and "roberta" not in extras
    assert f"-e '.[{','.join(extras)}]'" in makefile


def test_torch_and_torchvision_match():
    wanted = {Requirement(r).name: Requirement(r) for r in importlib.metadata.requires("torchvision")}
    assert wanted["torch"].specifier.contains(Version(importlib.metadata.version("torch")).base_version)
    import torch
    import torchvision

    # A compiled operator: it is missing when the two were built against different versions.
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]])
    assert torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]


def test_citation_names_the_four_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    cited = {i["value"] for paper in citation["references"] for i in paper["identifiers"]}
    assert cited == {f"arXiv:{i}" for i in ("2412.13790", "2402.19308", "2403.14339", "2412.16780")}


# --- the Makefile ---

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


def make(*arguments, folder=ROOT, **variables):
    """Run make as from a fresh shell, not as a child of the make that runs the tests."""
    ours = ("MAKE", "MFLAGS", "CONDA_", "VENV", "PYTHON", "PRESET", "SEEDS", "JOBS", "PAPERS")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | variables
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


@needs_make
def test_make_alone_lists_every_target_with_its_help():
    rules = re.findall(r"^([a-z_]+):(.*)$", makefile, re.MULTILINE)
    rules = [(name, rest) for name, rest in rules if not rest.startswith("=")]
    assert [name for name, rest in rules if "## " not in rest] == []
    assert sorted(name for name, _ in rules) == sorted(TARGETS)
    shown = make().stdout
    for name in TARGETS:
        assert re.search(rf"^  {name} +\S+", shown, re.MULTILINE), f"`make` does not list {name}"


def test_ci_only_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line.strip() for line in script.read_text().splitlines()]
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test < /dev/null"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]


def test_makefile_fixes_the_threads_and_leaves_the_backend_to_the_notebook():
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        assert f"export {name} := 1" in makefile
    assert re.findall(r".*MPLBACKEND.*", makefile) == ["unexport MPLBACKEND"]


STUB = """#!/bin/sh
# Stands in for Python: creates a "venv" of itself, logs what pip is asked, fails if a file `fail` is there.
case "$*" in
    -V) echo "Python 3.11.0" ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip "*) echo "$0 $*" >> pip.log; test ! -e fail ;;
    "-m ruff"*) echo "linted with $0" ;;
    *fcntl*) exec REAL "$@" ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """The files that an installation reads, and a stub for Python: (folder, make, list of pip calls)."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    stub = tmp_path / "python3"
    stub.write_text(STUB.replace("REAL", sys.executable))
    stub.chmod(0o755)

    def run(*arguments, **variables):
        return make(*arguments, folder=folder, PYTHON=str(stub), **variables)

    def calls():
        log = folder / "pip.log"
        return log.read_text().splitlines() if log.exists() else []

    return folder, run, calls


@needs_make
def test_make_installs_once(clone):
    folder, run, calls = clone
    assert run("lint").returncode == 0
    assert calls() == [".venv/bin/python -m pip install -c constraints.txt -e .[notebooks,tests]"]
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        os.utime(folder / name)  # a checkout changes the time, not the content
    assert run("lint").stdout.splitlines()[-1] == "linted with .venv/bin/python"
    assert len(calls()) == 1


@needs_make
def test_make_repeats_an_interrupted_installation_from_an_empty_folder(clone):
    folder, run, calls = clone
    (folder / "fail").touch()
    assert run("lint").returncode != 0
    assert len(calls()) == 2  # a second try, because package indexes fail now and then
    (folder / ".venv" / "half-written").touch()
    (folder / "fail").unlink()
    assert run("lint").returncode == 0
    assert len(calls()) == 3
    assert not (folder / ".venv" / "half-written").exists()


@needs_make
def test_make_waits_for_another_make_that_is_installing(clone):
    folder, run, calls = clone
    with ThreadPoolExecutor(1) as pool, open(folder / "pyproject.toml", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = pool.submit(run, "lint")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        assert calls() == []
        fcntl.flock(file, fcntl.LOCK_UN)
        assert "waiting" in second.result(timeout=30).stdout
    assert len(calls()) == 1


@needs_make
@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_into_the_same_environment(clone, name):
    folder, run, calls = clone
    run("lint")
    (folder / ".venv" / "kept").touch()
    with open(folder / name, "a") as file:
        file.write("# changed\n")
    assert run("lint").returncode == 0
    assert len(calls()) == 2 and (folder / ".venv" / "kept").exists()


@needs_make
def test_a_moved_folder_is_installed_again(clone):
    folder, run, calls = clone
    run("lint")
    moved = folder.rename(folder.with_name("moved"))
    make("lint", folder=moved, PYTHON=str(folder.parent / "python3"))
    assert len((moved / "pip.log").read_text().splitlines()) == 2


@needs_make
def test_make_refuses_to_fill_or_remove_a_folder_that_is_not_its_own(clone):
    folder, run, calls = clone
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").touch()
    refused = run("lint", VENV="mine")
    assert refused.returncode != 0 and "mine is not a virtual environment" in refused.stderr
    run("clean", VENV="mine")
    assert (folder / "mine" / "thesis.txt").exists() and calls() == []


@needs_make
def test_clean_removes_the_environment_and_never_figures(clone):
    folder, run, calls = clone
    run("lint")
    figure = folder / "figures" / "digits" / "lfssd" / "runs.jsonl"
    figure.parent.mkdir(parents=True)
    figure.touch()
    run("clean")
    assert not (folder / ".venv").exists() and figure.exists()


@needs_make
def test_an_activated_conda_environment_is_used_but_not_base(clone, tmp_path):
    folder, run, calls = clone
    conda = tmp_path / "conda"
    (conda / "bin").mkdir(parents=True)
    shutil.copy(tmp_path / "python3", conda / "bin" / "python")
    for _ in range(2):
        done = run("lint", CONDA_PREFIX=str(conda), CONDA_DEFAULT_ENV="unlearnlib")
        assert done.stdout.splitlines()[-1] == f"linted with {conda}/bin/python"
    # conda's own binaries are kept: the bounds of pyproject.toml hold, the exact versions do not
    assert calls() == [f"{conda}/bin/python -m pip install -e .[notebooks,tests]"]
    assert not (folder / ".venv").exists()
    base = run("lint", CONDA_PREFIX=str(conda), CONDA_DEFAULT_ENV="base")
    assert "linted with .venv/bin/python" in base.stdout
    given = run("lint", CONDA_PREFIX=str(conda), CONDA_DEFAULT_ENV="unlearnlib", VENV="other")
    assert "linted with other/bin/python" in given.stdout


@needs_make
def test_an_old_python_is_refused_in_one_sentence(clone, tmp_path):
    folder, run, calls = clone
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = make("lint", folder=folder, PYTHON=str(old))
    assert refused.returncode != 0 and "Python 3.11 or later is needed" in refused.stderr
    assert not (folder / ".venv").exists()


@needs_make
def test_figures_compute_first_then_draw(clone):
    _, run, _ = clone
    run("install")
    papers = re.search(r"^PAPERS := (.*)$", makefile, re.MULTILINE)[1].split()
    every = [[f"unlearnlib run {' '.join(papers)} --preset digits --seeds 2 --jobs 2 --recompute"],
             [f"unlearnlib notebook {paper} --preset digits --recompute" for paper in papers], ["unlearnlib draw --committed"]]
    steps = run("-n", "figures", "SEEDS=2").stdout
    assert [steps.count(step) for group in every for step in group] == [1] * (2 + len(papers))
    places = [[steps.index(step) for step in group] for group in every]
    assert max(places[0]) < min(places[1]) and max(places[1]) < min(places[2])
    for paper in papers:
        steps = run("-n", paper).stdout
        assert f"run {paper} --preset" in steps and not any(f"notebook {other} " in steps for other in papers if other != paper)
