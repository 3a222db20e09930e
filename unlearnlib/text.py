"""Texts as tensors: two corpora, the words that they are made of, and token ids of a fixed length."""

from __future__ import annotations

import ast
import gzip
import hashlib
import importlib.util
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

PAD, UNKNOWN = 0, 1             # token ids; every other id is the place of a word in the vocabulary
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[!?:;)(]|[^\x00-\x7f]")     # words, the marks that carry mood, emoji

PACKAGES = ("interpolate", "linalg", "optimize", "signal", "sparse", "spatial", "special", "stats")
PER_PACKAGE = 280               # paragraphs of each: as many as the smallest has
CANDIDATES = 400                # of each, from which those that occur once are taken
WORDS_WANTED, WORDS_KEPT = 10, 32    # a shorter paragraph says too little; of a longer one, the beginning

EMOTIONS = ("admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
            "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy", "love",
            "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral")
GOEMOTIONS = {   # part: (MD5 of the published file, its samples); Demszky et al. 2020 (arXiv 2005.00547), Apache-2.0
    "train": ("83a206cc5aa2fa9749ee45675f866d03", 43_410), "dev": ("8820aa4fd13c5dee1b55c2893aad1232", 5_426),
    "test": ("8c3482a12f52ff56429a5d178257be09", 5_427)}
GOEMOTIONS_URL = "https://raw.githubusercontent.com/google-research/google-research/master/goemotions/data/"


def split_words(text: str) -> list[str]:
    """Lower-case words, moods' punctuation and emoji, in order."""
    return WORD.findall(text.lower())


def documentation(package: str = "scipy", parts: tuple[str, ...] = PACKAGES, each: int = PER_PACKAGE) -> tuple[list[str], list[int]]:
    """Paragraphs of an installed package's docstrings and the number of the sub-package that each comes from.

    The source files are parsed, never imported. Candidates are each sub-package's first paragraphs of prose with at least ten words
    (cut to 32), in the order of its files; kept are the first ``each`` that occur once. The names of the sub-packages are cut out,
    so no text names its label.
    The texts depend on the installed version (constraints.txt pins it). Raises ValueError if a sub-package has too few.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the package {package} was not found; it must be installed: run make install.")
    root = Path(spec.submodule_search_locations[0])
    named = {part: list(islice(_paragraphs(root / part, parts), CANDIDATES)) for part in parts}
    seen = Counter(p for found in named.values() for p in found)
    texts, labels = [], []
    for label, part in enumerate(parts):
        once = [p for p in named[part] if seen[p] == 1][:each]
        if len(once) < each:
            raise ValueError(f"{package}.{part} has {len(once)} paragraphs; it must have at least {each}: install the version that "
                             "constraints.txt names.")
        texts += once
        labels += [label] * each
    return texts, labels


def _paragraphs(folder: Path, banned: tuple[str, ...]) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        nodes = [] if "tests" in path.relative_to(folder).parts else ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for node in nodes:
            doc = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) else None
            for paragraph in re.split(r"\n\s*\n", doc or ""):
                if not any(mark in paragraph for mark in (">>>", ".. ", "----")):           # examples, directives, headings
                    words = [w for w in re.findall(r"[a-z]{2,}", paragraph.lower()) if w not in banned]
                    if len(words) >= WORDS_WANTED:
                        yield " ".join(words[:WORDS_KEPT])


def goemotions(root: Path) -> dict[str, tuple[list[str], list[list[int]]]]:
    """The three published parts as (texts, label ids of each), from ``root/goemotions/{train,dev,test}.tsv`` or ``.tsv.gz``.

    Raises OSError for a missing file and ValueError for a damaged one: its checksum is not the published one.
    """
    out = {}
    for part, (checksum, _) in GOEMOTIONS.items():
        plain = root / "goemotions" / f"{part}.tsv"
        packed = plain.with_suffix(".tsv.gz")
        try:
            content = gzip.decompress(packed.read_bytes()) if packed.exists() and not plain.exists() else plain.read_bytes()
        except (EOFError, zlib.error) as error:
            raise ValueError(f"{packed.name} is damaged") from error
        if hashlib.md5(content).hexdigest() != checksum:
            raise ValueError(f"{part}.tsv has another checksum than the published file")
        rows = [line.split("\t") for line in content.decode().split("\n") if line]
        out[part] = [r[0] for r in rows], [[int(i) for i in r[1].split(",")] for r in rows]
    return out


def vocabulary(texts: list[str], at_least: int = 2, most: int = 8_000) -> tuple[str, ...]:
    """Padding, unknown, and the words that occur ``at_least`` so often, most frequent first (ties by alphabet)."""
    counts = Counter(w for t in texts for w in split_words(t))
    ranked = sorted((w for w, n in counts.items() if n >= at_least), key=lambda w: (-counts[w], w))
    return ("<pad>", "<unknown>", *ranked[: most - 2])


def tokens(texts: list[str], words: tuple[str, ...], length: int) -> Tensor:
    """Token ids ``(n, length)`` int64: the first ``length`` words of each text, padded at the end."""
    ids = {w: i for i, w in enumerate(words)}
    out = torch.full((len(texts), length), PAD)
    for row, text in enumerate(texts):
        known = [ids.get(w, UNKNOWN) for w in split_words(text)[:length]] or [UNKNOWN]      # never a row of padding alone
        out[row, : len(known)] = torch.tensor(known)
    return out


def multi_hot(labels: list[list[int]], classes: int) -> Tensor:
    """``(n, classes)`` bool: True for each of a sample's labels."""
    out = torch.zeros(len(labels), classes, dtype=torch.bool)
    for row, mine in enumerate(labels):
        out[row, mine] = True
    return out


def roberta_tokens(texts: list[str], length: int) -> tuple[Tensor, tuple[str, ...]]:
    """Token ids ``(n, length)`` and the vocabulary of RoBERTa's own tokeniser. Raises ValueError, in one sentence, without it."""
    tokenizer = pretrained("AutoTokenizer")
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")["input_ids"]
    return ids, tuple(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))


def pretrained(kind: str, name: str = "roberta-base"):
    """``transformers.KIND.from_pretrained(name)``; ValueError, in one sentence, without the package or its files."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError(f"{name} needs the package transformers, which is not installed; it must be: "
                         "run pip install -e '.[roberta]'.") from error
    try:
        return getattr(transformers, kind).from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"the files of {name} were not found and could not be downloaded ({type(error).__name__}); they must be in the "
                         "cache of transformers: connect once, or set HF_HOME to a folder that holds them.") from error
