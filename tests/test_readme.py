"""The README: its example runs as pasted, and what it names exists."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from unlearnlib.__main__ import parser
from unlearnlib.methods import METHODS
from unlearnlib.papers import PAPERS, paper
from unlearnlib.records import ROOT

README = (ROOT / "README.md").read_text()
FOLDERS = ("unlearnlib", "notebooks", "tests", "figures")


def blocks(language):
    return [text for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S) if kind == language]


def commands():
    """Every command line of the README: of the shell blocks, and quoted in the text."""
    lines = [line for block in blocks("sh") for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", README)
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(make|\.venv/bin/python|python|export|conda)\b", line.strip())]


def test_the_example_runs_as_pasted_and_forgets(tmp_path):
    """Only its randomness is fixed: it starts from a network of its own."""
    code = f"import torch; torch.manual_seed(0)\n{blocks('python')[0]}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UNLEARNLIB")}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and not done.stderr, done.stderr
    shown = {name: (float(before), float(after)) for name, before, after in re.findall(r"^(\w+) (\d\.\d+) (\d\.\d+)$", done.stdout, re.M)}
    assert set(shown) == {"forget", "retain"}, done.stdout
    assert shown["forget"][0] > 0.9 and shown["retain"][0] > 0.9, "the original has not learned"
    assert shown["forget"][1] < shown["forget"][0] - 0.3 and shown["retain"][1] > shown["forget"][1], "nothing is forgotten"
    assert not list(tmp_path.iterdir())


def test_the_example_uses_the_readers_own_network_and_no_label_of_the_forget_set():
    code = blocks("python")[0]
    assert "torch.nn" in code and "models" not in code and "(x[forget], None)" in code
    assert any(f'METHODS["{name}"]' in code for name in METHODS)


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z_]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    named = {word for c in commands() if c[0] == "make" for word in c[1:] if "=" not in word}
    assert {"figures", "test", "verify"} <= named <= targets, named - targets


def test_every_linked_file_exists():
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    local = [link for link in links if not re.match(r"https?://", link)]
    assert local
    for link in local:
        assert (ROOT / link).exists(), link


def test_every_named_path_exists():
    """Words in capitals stand for the reader's own choice."""
    named = re.findall(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./-]*)", README)
    named = [path.rstrip(".") for path in named if not re.search(r"[A-Z]{2}", path)]
    assert len(named) >= 5
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_tree_of_folders_is_the_real_one():
    (tree,) = [b for b in blocks("") if "unlearnlib/" in b]
    lines = dict(line.split(None, 1) for line in tree.splitlines() if line.strip() and not line.startswith(" "))
    assert set(lines) == {f"{folder}/" for folder in FOLDERS}
    for word in re.findall(r"\b([a-z]+)\b(?=[/,]|\s\s|$)", re.sub(r"\(.*?\)", "", lines["unlearnlib/"])):
        assert (ROOT / "unlearnlib" / word).is_dir() or (ROOT / "unlearnlib" / f"{word}.py").exists(), word


@pytest.mark.parametrize("command", [c for c in commands() if "unlearnlib" in c], ids=" ".join)
def test_every_command_line_can_be_read(command):
    assert command[:3] == [command[0], "-m", "unlearnlib"]
    arguments = command[3:]
    if arguments == ["--help"]:
        with pytest.raises(SystemExit) as stopped:
            parser().parse_args(arguments)
        assert stopped.value.code == 0
    else:
        assert callable(parser().parse_args(arguments).function)


def test_every_option_and_every_variable_exists():
    source = "".join(p.read_text() for p in (ROOT / "unlearnlib").rglob("*.py"))
    for option in re.findall(r"`(--[a-z-]+)", README):
        assert f'"{option}"' in source, option
    variables = set(re.findall(r"UNLEARNLIB_[A-Z]+", README))
    assert {"UNLEARNLIB_DATA", "UNLEARNLIB_CACHE"} <= variables
    for variable in variables:
        assert variable in source, variable


def test_the_table_of_papers_has_a_notebook_and_the_number_of_verdicts_for_what_is_done():
    rows = {m[1]: m[0] for m in re.finditer(r"^\| `(\w+)` \|.*$", README, re.M)}
    assert list(sorted(rows)) == ["forget_vectors", "ispf", "lfssd", "nabla_tau"]
    for word, row in rows.items():
        assert "arxiv.org/abs/" in row and (f"notebooks/{word}.ipynb" in row if word in PAPERS else "planned" in row)
    for name in PAPERS:
        assert re.search(rf"\b{len(paper(name).CLAIMS)} \[verdicts\]\(figures/digits/{name}/claims\.md\)", rows[name]), name


def test_two_commands_come_first():
    first = blocks("sh")[0]
    assert [line.split()[:2] for line in first.splitlines()] == [["make", "figures"], ["make", "test"]]


def test_the_first_picture_is_a_figure_of_the_library():
    picture = re.search(r"!\[[^\]]+\]\(([^)]+\.png)\)", README)[1]
    assert picture.startswith("figures/") and (ROOT / picture).with_suffix(".csv").exists()
