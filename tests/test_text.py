"""Texts against simple loops, the text data sets from small files of the real format, and every method on texts and on several labels."""

import copy
import gzip
import hashlib
import random
import sys
from collections import Counter
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from unlearnlib import data, methods, models, text, train
from unlearnlib.access import Access
from unlearnlib.data import Data, DataError, load, split

MARKS = "!?:;)("


# --- words, against a scan of one character after another

def scan(string):
    """Runs of a-z, with one apostrophe inside, the marks, and every character beyond ASCII, of the lower-cased text."""
    s, out, i = string.lower(), [], 0

    def letter(j):
        return j < len(s) and "a" <= s[j] <= "z"

    while i < len(s):
        start = i
        while letter(i):
            i += 1
        if i > start and i < len(s) and s[i] == "'" and letter(i + 1):
            i += 1
            while letter(i):
                i += 1
        if i == start:
            i += 1
            if s[start] not in MARKS and ord(s[start]) < 128:
                continue
        out.append(s[start:i])
    return out


def test_split_words_by_hand():
    assert text.split_words("Don't STOP!! it's 3 o'clock, 'tis :) naïve \U0001f600\n a1b") == [
        "don't", "stop", "!", "!", "it's", "o'clock", "tis", ":", ")", "na", "ï", "ve", "\U0001f600", "a", "b"]
    assert text.split_words("") == text.split_words("12.5, [3]-{4} ''' ") == []
    assert text.split_words("rock'n'roll dogs'") == ["rock'n", "roll", "dogs"]


def test_split_words_of_random_strings_is_the_scan():
    draw = random.Random(0)
    for _ in range(300):
        string = "".join(draw.choice("abZ'' !?:;)(.,12-_\n\té😀€") for _ in range(draw.randrange(40)))
        assert text.split_words(string) == scan(string), string


def corpus(n=60, seed=0, words="a bb cc dd ee ff gg hh'h ! ? é"):
    """Texts of 0 to 12 words, some words often and some seldom."""
    draw = random.Random(seed)
    known = words.split()
    return [" ".join(draw.choices(known, weights=range(len(known)), k=draw.randrange(13))) for _ in range(n)]


@pytest.mark.parametrize(("at_least", "most"), [(1, 100), (2, 100), (30, 100), (1, 5), (2, 3), (1, 2), (10 ** 6, 10)])
def test_vocabulary_is_the_ranked_count(at_least, most):
    texts = corpus() + ["zz yy zz yy once"]                                     # two of one count: a tie
    counts = {}
    for t in texts:
        for w in scan(t):
            counts[w] = counts.get(w, 0) + 1
    expected = []
    for n in range(max(counts.values()), at_least - 1, -1):
        expected += sorted(w for w in counts if counts[w] == n)
    assert text.vocabulary(texts, at_least, most) == ("<pad>", "<unknown>", *expected[:most - 2])


def test_vocabulary_of_itself_wants_a_word_twice():
    assert text.vocabulary(["b a a", "b once"]) == ("<pad>", "<unknown>", "a", "b")
    assert text.vocabulary([f"w{chr(97 + i // 26)}{chr(97 + i % 26)} " * 2 for i in range(600)], most=8_000)[2] == "waa"


@pytest.mark.parametrize("length", [1, 3, 12, 20])
def test_tokens_against_a_loop(length):
    texts = corpus(seed=1) + ["", "123 ...", "never seen"]
    words = text.vocabulary(corpus(seed=2)[:5], at_least=1)
    out = text.tokens(texts, words, length)
    assert out.shape == (len(texts), length) and out.dtype == torch.int64
    for t, row in zip(texts, out.tolist(), strict=True):
        expected = []
        for w in scan(t)[:length]:
            expected.append(words.index(w) if w in words else 1)
        expected = expected or [1]                                              # nothing that could be read: unknown
        assert row == expected + [0] * (length - len(expected))
    assert padded_at_the_end(out)


def padded_at_the_end(ids):
    """No padding before a word, and a word in each row."""
    for row in ids.tolist():
        seen = [i != 0 for i in row]
        if not seen[0] or seen != sorted(seen, reverse=True):
            return False
    return True


def test_a_text_cannot_name_the_special_tokens():
    words = text.vocabulary(["pad unknown pad unknown"])
    assert text.tokens(["<pad> <unknown>"], words, 3).tolist() == [[words.index("pad"), words.index("unknown"), 0]]
    assert (text.PAD, text.UNKNOWN) == (0, 1) and words[:2] == ("<pad>", "<unknown>")


def test_multi_hot_against_a_loop():
    labels = [[0], [3, 1], [2, 2], [4, 0, 1], []]
    out = text.multi_hot(labels, 5)
    assert out.dtype == torch.bool and out.tolist() == [[c in mine for c in range(5)] for mine in labels]
    assert text.multi_hot([], 3).shape == (0, 3)


def test_data_are_read_back():
    words = text.vocabulary(["to be or not", "to be or not"])
    d = SimpleNamespace(words=words)
    ids = text.tokens(["To be, or NOT to be", "that is to be", ""], words, 8)
    assert [Data.read(d, row) for row in ids] == ["to be or not to be", "[rare] [rare] to be", "[rare]"]
    for sentence in ("be not", "or or or to"):
        assert Data.read(d, text.tokens([sentence], words, 6)[0]) == sentence


# --- documentation of an installed package

TEN = "one two three four five six seven eight nine {}"         # a paragraph's worth: ten words


def source(*paragraphs, kind="def f():"):
    return f'{kind}\n    """' + "\n\n    ".join(paragraphs) + '\n    """\n'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package ``fakedocs`` of the given files; nothing of it can be imported."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    root = tmp_path / "site" / "fakedocs"

    def write(files):
        for name, content in {"__init__.py": "", "alpha/__init__.py": "", "beta/__init__.py": "", **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\nraise RuntimeError('imported')\n", encoding="utf-8")
        return root

    write({})
    yield write
    assert not [m for m in sys.modules if m.startswith("fakedocs")]


def test_documentation_is_every_paragraph_of_prose_in_the_order_of_the_files(package):
    package({"alpha/b.py": f'"""{TEN.format("module")}"""\n' + source(TEN.format("function")),
             "alpha/a.py": source(TEN.format("klass"), TEN.format("second"), kind="class A:") + "    def m(self):\n        '''"
             + TEN.format("method") + "'''\n        s = '''" + TEN.format("string") + "'''\n",
             "alpha/deep/c.py": source(TEN.format("deep")),
             "beta/only.py": source(*(TEN.format(w) for w in ("ba", "bb", "bc", "bd", "be", "bf"))),
             "gamma/no.py": source(TEN.format("other"))})
    texts, labels = text.documentation("fakedocs", ("alpha", "beta"), each=6)
    assert texts == [TEN.format(w) for w in ("klass", "second", "method", "module", "function", "deep",
                                             "ba", "bb", "bc", "bd", "be", "bf")]
    assert labels == [0] * 6 + [1] * 6
    assert text.documentation("fakedocs", ("alpha", "beta"), each=6) == (texts, labels)
    assert text.documentation("fakedocs", ("beta", "alpha"), each=2) == ([texts[6], texts[7], texts[0], texts[1]], [0, 0, 1, 1])


def test_documentation_leaves_out_tests_examples_and_short_paragraphs(package):
    package({"alpha/a.py": source("nine words are too few for a paragraph here", TEN.format(">>> x"), ".. note:: " + TEN.format("x"),
                                  "Notes\n    -----\n    " + TEN.format("heading"), TEN.format("kept")),
             "alpha/tests/t.py": source(TEN.format("tested")),
             "alpha/deep/tests/more/t.py": source(TEN.format("tested too")),
             "beta/a.py": source(TEN.format("beta"), TEN.format("two")), "beta/z.txt": source(TEN.format("text"))})
    assert text.documentation("fakedocs", ("alpha", "beta"), each=1) == ([TEN.format("kept"), TEN.format("two")], [0, 1])
    with pytest.raises(ValueError, match="alpha has 1 paragraphs"):             # and no other
        text.documentation("fakedocs", ("alpha",), each=2)


def test_documentation_is_lower_case_words_without_the_names_of_the_parts(package):
    package({"alpha/a.py": source("See `fakedocs.alpha.Solver`, ALPHA and beta: x_1 is 3.5 times the two-fold BETA\n    value of "
                                  "alphas, or so we say; 'tis true.")})
    package({"beta/a.py": source(TEN.format("ok"))})
    texts, _ = text.documentation("fakedocs", ("alpha", "beta"), each=1)
    assert texts[0] == "see fakedocs solver and is times the two fold value of alphas or so we say tis true"


def test_documentation_drops_every_copy_of_what_occurs_twice(package):
    package({"alpha/a.py": source(*(TEN.format(w) for w in ("mine", "twice", "shared", "twice", "last"))),
             "beta/a.py": source(*(TEN.format(w) for w in ("SHARED", "yours", "end")))})
    texts, _ = text.documentation("fakedocs", ("alpha", "beta"), each=2)
    assert texts == [TEN.format(w) for w in ("mine", "last", "yours", "end")]


def test_documentation_looks_at_a_limited_number_of_candidates(package, monkeypatch):
    monkeypatch.setattr(text, "CANDIDATES", 3)
    package({"alpha/a.py": source(*(TEN.format(w) for w in ("ax", "bx", "cx", "dx"))),
             "beta/a.py": source(*(TEN.format(w) for w in ("ay", "by", "cy", "ax")))})
    texts, _ = text.documentation("fakedocs", ("alpha", "beta"), each=3)        # the second ax is beyond the limit: no duplicate
    assert texts == [TEN.format(w) for w in ("ax", "bx", "cx", "ay", "by", "cy")]
    with pytest.raises(ValueError, match="alpha has 3 paragraphs"):
        text.documentation("fakedocs", ("alpha", "beta"), each=4)


def test_too_few_paragraphs(package, one_sentence):
    package({"alpha/a.py": source(TEN.format("aa"), TEN.format("bb")), "beta/a.py": source(TEN.format("cc"))})
    with pytest.raises(ValueError, match="fakedocs.beta has 1 paragraphs; it must have at least 2") as error:
        text.documentation("fakedocs", ("alpha", "beta"), each=2)
    assert "constraints.txt" in one_sentence(error)


# --- scipy_docs

@pytest.fixture(scope="module")
def read():
    """The data set, and the paragraphs and labels that it was made of; do not change them."""
    load.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        paragraphs = text.documentation()
        patch.setattr(text, "documentation", lambda: paragraphs)
        return load("scipy_docs"), paragraphs


@pytest.fixture(scope="module")
def docs(read):
    return read[0]


@pytest.fixture(scope="module")
def paragraphs(read):
    return read[1]


def parts(d):
    return ((d.train_images, d.train_labels), (d.val_images, d.val_labels), (d.test_images, d.test_labels))


def test_scipy_docs_sizes_types_and_names(docs):
    assert [tuple(x.shape) for x, _ in parts(docs)] == [(1200, 32), (520, 32), (520, 32)]
    for x, y in parts(docs):
        assert x.dtype == y.dtype == torch.int64 and y.shape == x.shape[:1]
        assert x.min() == 0 and x.max() < len(docs.words) and padded_at_the_end(x)
    assert docs.name == "scipy_docs" and docs.class_names == docs.fine_names == text.PACKAGES and docs.mean == docs.std == ()
    assert docs.train_fine is docs.train_labels and docs.test_fine is docs.test_labels
    assert docs.words[:2] == ("<pad>", "<unknown>") and len(set(docs.words)) == len(docs.words) <= 8_000


def test_scipy_docs_are_balanced(docs):
    n = len(text.PACKAGES)
    assert torch.cat([y for _, y in parts(docs)]).bincount().tolist() == [280] * n
    for _, y in parts(docs):                                                    # a random draw: within five standard deviations
        expected = len(y) / n
        assert (y.bincount(minlength=n) - expected).abs().max() < 5 * (expected * (1 - 1 / n)) ** 0.5
        assert y.tolist() != sorted(y.tolist())


def test_scipy_paragraphs_are_distinct_prose_without_their_label(paragraphs, docs):
    texts, labels = paragraphs
    assert len(texts) == len(set(texts)) == 280 * 8 and Counter(labels) == dict.fromkeys(range(8), 280)
    for t in texts:
        words = t.split()
        assert len(words) >= 10 and not set(words) & set(text.PACKAGES) and t == " ".join(scan(t))
    assert not set(docs.words) & set(text.PACKAGES)


def test_every_scipy_paragraph_is_in_exactly_one_part(paragraphs, docs):
    """Each of the distinct texts once in all three parts together: none can be in two."""
    ids = text.tokens(paragraphs[0], docs.words, 32)
    wanted = Counter((*row, y) for row, y in zip(ids.tolist(), paragraphs[1], strict=True))
    got = Counter((*row, y) for x, labels in parts(docs) for row, y in zip(x.tolist(), labels.tolist(), strict=True))
    assert wanted == got and got.total() == 2240


def test_the_vocabulary_comes_from_the_training_texts_alone(monkeypatch):
    """Each text has a word of its own, twice, which the vocabulary has for training texts alone."""
    names = [chr(97 + i) * 2 for i in range(12)]
    monkeypatch.setattr(text, "documentation", lambda: ([f"shared {w} {w}" for w in names], [i % 8 for i in range(12)]))
    monkeypatch.setattr(data, "SCIPY_DOCS_ORDER", (6, 4))
    d = data._scipy_docs("scipy_docs")
    assert [len(x) for x, _ in parts(d)] == [6, 4, 2]
    rows = [[d.read(row) for row in x] for x, _ in parts(d)]
    own = [row.split()[1] for row in rows[0]]
    assert len(set(own)) == 6 and rows[0] == [f"shared {w} {w}" for w in own]
    assert d.words == ("<pad>", "<unknown>", "shared", *sorted(own))
    assert rows[1] + rows[2] == ["shared [rare] [rare]"] * 6
    labels = {w: i % 8 for i, w in enumerate(names)}
    assert d.train_labels.tolist() == [labels[w] for w in own] and own != sorted(own)      # each keeps its label; the order is drawn


def test_scipy_docs_are_deterministic_and_moved_as_a_whole(docs, paragraphs, monkeypatch):
    monkeypatch.setattr(text, "documentation", lambda: paragraphs)
    state = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        again = data._scipy_docs("scipy_docs")
    assert again.fingerprint == docs.fingerprint and again.words == docs.words and torch.equal(torch.get_rng_state(), state)
    moved = docs.to("cpu")
    assert moved.words == docs.words and moved.fingerprint == docs.fingerprint


def test_scipy_docs_split_by_class(docs):
    s = split(docs, "class:2+5")
    labels = docs.train_labels.tolist()
    assert s.forget.tolist() == [i for i, y in enumerate(labels) if y in (2, 5)] and s.forget_classes == (2, 5)
    assert s.access().forget_classes == [2, 5] and torch.equal(s.access().forget_images, docs.train_images[s.forget])


# --- goemotions, through small files of the published format

COMMENTS = {    # text, label ids
    "train": [("Game over, man. Game over!", [1, 27]), ("I love it :)", [18]), ("I didn't know that,\u2028game man \U0001f602", [27]),
              ("over love, love over \x85 \U0001f602", [0, 18, 25]), ("[NAME] \"quoted\" love", [17])],
    "dev": [("Game devonly love devonly", [4]), ("12345", [2, 3])],
    "test": [("testonly man testonly over", [27]), ("word " * 50, [9]), ("Love!", [26, 0])]}
LABELS = {part: [[c in mine for c in range(28)] for _, mine in rows] for part, rows in COMMENTS.items()}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLEARNLIB_DATA", str(tmp_path / "data"))
    load.cache_clear()
    yield tmp_path / "data" / "goemotions"
    load.cache_clear()


def write_files(root, monkeypatch, packed=()):
    """Files of the published names and format, and their checksums in place of the real ones."""
    root.mkdir(parents=True)
    sums = {}
    for part, rows in COMMENTS.items():
        lines = [f"{t}\t{','.join(map(str, mine))}\ted{i}x\n" for i, (t, mine) in enumerate(rows)]
        content = "".join(lines).encode()
        sums[part] = hashlib.md5(content).hexdigest(), len(rows)
        if part in packed:
            (root / f"{part}.tsv.gz").write_bytes(gzip.compress(content))
        else:
            (root / f"{part}.tsv").write_bytes(content)
    monkeypatch.setattr(text, "GOEMOTIONS", sums)


@pytest.mark.parametrize("packed", [(), ("train", "dev", "test"), ("dev",)])
def test_goemotions_from_its_files(packed, root, monkeypatch):
    write_files(root, monkeypatch, packed)
    d = load("goemotions")
    for (x, y), part in zip(parts(d), ("train", "dev", "test"), strict=True):   # the published dev part is the validation set
        assert y.dtype == torch.bool and y.tolist() == LABELS[part]
        assert x.dtype == torch.int64 and x.shape == (len(y), 40) and padded_at_the_end(x)
        for row, (comment, _) in zip(x, COMMENTS[part], strict=True):
            words = [w if w in d.words else "[rare]" for w in scan(comment)[:40]] or ["[rare]"]
            assert d.read(row) == " ".join(words)
    assert d.words == text.vocabulary([t for t, _ in COMMENTS["train"]])
    assert {"love", "game", "\U0001f602"} <= set(d.words) and not {"devonly", "testonly"} & set(d.words)
    assert d.class_names == d.fine_names == text.EMOTIONS and len(set(text.EMOTIONS)) == 28 and d.name == "goemotions"
    assert d.train_fine is d.train_labels and d.test_fine is d.test_labels
    assert load("goemotions") is d


def test_goemotions_as_lists(root, monkeypatch):
    write_files(root, monkeypatch, ("test",))
    assert text.goemotions(root.parent) == {part: ([t for t, _ in rows], [mine for _, mine in rows]) for part, rows in COMMENTS.items()}


def test_the_plain_file_comes_before_the_packed_one(root, monkeypatch):
    write_files(root, monkeypatch)
    (root / "train.tsv.gz").write_bytes(b"something else")
    assert len(load("goemotions").train_labels) == len(COMMENTS["train"])


def damage(root, how):
    file = root / "dev.tsv"
    content = bytearray(file.read_bytes())
    if how == "altered":
        content[3] ^= 1
        file.write_bytes(content)
    elif how == "truncated":
        file.write_bytes(content[:-5])
    else:
        file.unlink()
        if how == "packed altered":
            file.with_suffix(".tsv.gz").write_bytes(gzip.compress(bytes(content) + b"x\t1\ty\n"))
        elif how == "not packed":
            file.with_suffix(".tsv.gz").write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["goemotions", "goemotions_bpe"])
@pytest.mark.parametrize("how", ["gone", "altered", "truncated", "packed altered", "not packed"])
def test_damaged_or_missing_goemotions_say_how_to_get_them(name, how, root, monkeypatch, one_sentence):
    write_files(root, monkeypatch)
    damage(root, how)
    with pytest.raises(DataError, match="UNLEARNLIB_DATA") as error:
        load(name)
    assert str(root) in one_sentence(error) and "data fetch goemotions" in str(error.value) and "dev.tsv" in str(error.value) or \
        how == "not packed"


def test_goemotions_without_a_data_root(root, one_sentence):
    with pytest.raises(DataError, match="data fetch goemotions") as error:
        load("goemotions")
    assert str(root) in one_sentence(error)
    with pytest.raises(FileNotFoundError):
        text.goemotions(root.parent)


def test_goemotions_are_found_once_they_are_there(root, monkeypatch):
    with pytest.raises(DataError):
        load("goemotions")
    write_files(root, monkeypatch)
    assert len(load("goemotions").test_labels) == len(COMMENTS["test"])


def test_the_published_sizes_and_checksums_are_stated():
    assert list(text.GOEMOTIONS) == ["train", "dev", "test"] and sum(n for _, n in text.GOEMOTIONS.values()) == 54_263
    assert all(len(checksum) == 32 and int(checksum, 16) for checksum, _ in text.GOEMOTIONS.values())
    assert text.EMOTIONS[:27] == tuple(sorted(text.EMOTIONS[:27])) and text.EMOTIONS[27] == "neutral"


# --- several labels a sample

def several(n=60, classes=5, words=20, length=6, seed=0):
    """Random tokens, padded at the end, with one to three labels each."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        x = torch.randint(1, words, (n, length), generator=generator)
        seen = torch.randint(1, length + 1, (n, 1), generator=generator)
        x = torch.where(torch.arange(length) < seen, x, 0)
        y = torch.zeros(n, classes, dtype=torch.bool)
        for row in y:
            row[torch.randperm(classes, generator=generator)[:int(torch.randint(1, 4, (1,), generator=generator))]] = True
        return x, y

    (x, y), (x_val, y_val), (x_test, y_test) = draw(n), draw(n // 2), draw(n // 2)
    names = tuple("abcdefghij"[:classes])
    return Data("several", x, y, y, x_val, y_val, x_test, y_test, y_test, names, names,
                words=("<pad>", "<unknown>", *(f"w{i}" for i in range(words - 2))))


def test_random_split_of_several_labels():
    d = several()
    s = split(d, "random:0.2", seed=3)
    assert len(s.forget) == 12 and sorted(s.forget.tolist() + s.retain.tolist()) == list(range(60))
    assert s.test_forget.shape == (30,) and not s.test_forget.any() and s.forget_classes == ()
    access = s.access()
    assert torch.equal(access.forget_labels, d.train_labels[s.forget]) and torch.equal(access.retain_labels, d.train_labels[s.retain])
    assert torch.equal(s.forget, split(d, "random:0.2", seed=3).forget) and not torch.equal(s.forget, split(d, "random:0.2").forget)


@pytest.mark.parametrize("scenario", ["class:1", "class:0+1", "subclass:2", "class:99"])
def test_class_split_of_several_labels_is_refused(scenario, one_sentence):
    with pytest.raises(DataError, match="several labels.*random:FRACTION") as error:
        split(several(), scenario)
    assert scenario in one_sentence(error) and "a sample of several has" in str(error.value)


@pytest.mark.parametrize("rows", [[[0, 2]], [[3], [1, 3]], [[], [4]], [[]]])
def test_forget_classes_of_several_labels(rows):
    labels = torch.tensor([[c in mine for c in range(5)] for mine in rows])
    access = Access(forget=(torch.zeros(len(rows), 2), labels))
    found = access.forget_classes
    assert found == sorted({c for mine in rows for c in mine}) and all(type(c) is int for c in found)
    assert Access(forget=(torch.zeros(len(rows), 2), labels), forget_classes=[4, 1]).forget_classes == [4, 1]


def test_forget_classes_of_one_label_each():
    assert Access(forget=(torch.zeros(4, 2), torch.tensor([3, 0, 3, 1]))).forget_classes == [0, 1, 3]


def bpe():
    """The same with the tokens of RoBERTa, which begin with <s>."""
    return replace(several(), words=("<s>", "<pad>", "</s>", *several().words[3:]))


# --- RoBERTa: without the package, and with a stand-in for it

@pytest.fixture
def no_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)


class Tokenizer:
    """RoBERTa's special tokens and conventions; a word's id is its length."""

    NAMES = ("<s>", "<pad>", "</s>", "<unk>", *(f"length {i}" for i in range(4, 20)))

    def __call__(self, texts, *, padding, truncation, max_length, return_tensors):
        assert (padding, truncation, return_tensors) == ("max_length", True, "pt")
        rows = [[0, *(min(max(len(w), 3), 19) for w in t.split())][:max_length - 1] + [2] for t in texts]
        return {"input_ids": torch.tensor([row + [1] * (max_length - len(row)) for row in rows])}

    def __len__(self):
        return len(self.NAMES)

    def convert_ids_to_tokens(self, ids):
        return [self.NAMES[i] for i in ids]


class RobertaModel(nn.Module):
    """Masked mean of embeddings, with dropout at two depths; keeps the mask that it was given."""

    def __init__(self):
        super().__init__()
        self.embedding, self.first = nn.Embedding(20, 768), nn.Dropout(0.5)
        self.block = nn.Sequential(nn.Linear(768, 768), nn.Dropout(0.1))

    def forward(self, input_ids, attention_mask):
        self.mask = attention_mask
        weight = attention_mask.unsqueeze(2).float()
        mean = (self.first(self.embedding(input_ids)) * weight).sum(1) / weight.sum(1)
        return SimpleNamespace(last_hidden_state=None, pooler_output=torch.tanh(self.block(mean)))


@pytest.fixture
def transformers(monkeypatch):
    """A stand-in for the package; with ``module.error`` set, nothing can be downloaded."""
    module = ModuleType("transformers")
    module.error = None

    def give(kind):
        def from_pretrained(name):
            assert name == "roberta-base"
            if module.error:
                raise module.error
            return kind()
        return SimpleNamespace(from_pretrained=from_pretrained)

    module.AutoTokenizer, module.RobertaModel = give(Tokenizer), give(RobertaModel)
    monkeypatch.setitem(sys.modules, "transformers", module)
    return module


def test_without_transformers(root, monkeypatch, no_transformers, one_sentence):
    write_files(root, monkeypatch)
    with pytest.raises(DataError, match=r"transformers.*pip install -e '\.\[roberta\]'") as error:
        load("goemotions_bpe")
    one_sentence(error)
    with pytest.raises(ValueError, match=r"transformers.*pip install -e '\.\[roberta\]'") as error:
        models.build("roberta-768", bpe(), 0)
    one_sentence(error)
    assert load("goemotions").train_labels.tolist() == LABELS["train"]          # which needs nothing


@pytest.mark.parametrize("error", [OSError("We could not connect.\nIs it there? Look."), ValueError("Broken.\nBadly.")])
def test_files_of_roberta_that_cannot_be_had(error, root, monkeypatch, transformers, one_sentence):
    write_files(root, monkeypatch)
    transformers.error = error
    with pytest.raises(DataError, match="roberta-base.*HF_HOME") as raised:
        load("goemotions_bpe")
    assert type(error).__name__ in one_sentence(raised)
    with pytest.raises(ValueError, match="roberta-base.*HF_HOME") as raised:
        models.build("roberta-768", bpe(), 0)
    assert type(error).__name__ in one_sentence(raised) and raised.value.__cause__ is error


def test_goemotions_with_robertas_tokens(root, monkeypatch, transformers):
    write_files(root, monkeypatch)
    d = load("goemotions_bpe")
    assert d.words == Tokenizer.NAMES and d.name == "goemotions_bpe"
    for (x, y), part in zip(parts(d), ("train", "dev", "test"), strict=True):
        assert y.tolist() == LABELS[part] and x.shape == (len(y), 40)
        for row, (comment, _) in zip(x.tolist(), COMMENTS[part], strict=True):
            ids = [0, *(min(max(len(w), 3), 19) for w in comment.split())][:39] + [2]
            assert row == ids + [1] * (40 - len(ids))


def test_roberta_sees_no_padding_and_has_no_dropout(root, monkeypatch, transformers):
    write_files(root, monkeypatch)
    d = load("goemotions_bpe")
    model = models.build("roberta-768", d, 0)
    assert all(m.p == 0 for m in model.modules() if isinstance(m, nn.Dropout))
    x = d.train_images
    with torch.no_grad():
        z = model.train()(x)
        assert model.body.mask.tolist() == [[int(i != 1) for i in row] for row in x.tolist()]
        assert torch.equal(z, model(x)) and torch.equal(z, model.eval()(x)) and z.shape == (len(x), 28)
        assert torch.equal(z, model.fc(model.features(x))) and models.head(model) is model.fc
        model.body.embedding.weight[1] += 100
        torch.testing.assert_close(model(x), z, rtol=0, atol=0)
        model.body.embedding.weight[0] += 1
        assert (model(x) != z).any(1).all()
    again, other = models.build("roberta-768", d, 0), models.build("roberta-768", d, 1)
    assert torch.equal(again.fc.weight, model.fc.weight) and not torch.equal(other.fc.weight, model.fc.weight)


@pytest.mark.parametrize("width", [1, 64, 1024])
def test_roberta_has_one_width(width, transformers, one_sentence):
    with pytest.raises(ValueError, match=f"width {width}; it must be 768") as error:
        models.build(f"roberta-{width}", bpe(), 0)
    one_sentence(error)


def test_no_other_model_takes_robertas_tokens(one_sentence):
    for name, d in (("bag-8", bpe()), ("encoder-16", bpe()), ("roberta-768", several())):
        with pytest.raises(ValueError, match=f"model is '{name}'") as error:
            models.build(name, d, 0)
        one_sentence(error)


def test_a_damaged_gz_is_one_sentence(root, monkeypatch, one_sentence):
    write_files(root, monkeypatch)
    path = root / "train.tsv"
    path.unlink(missing_ok=True)
    packed = path.with_suffix(".tsv.gz")
    for content in (gzip.compress(b"a\t1\tx\n" * 1000)[:-12], gzip.compress(b"a\t1\tx\n")[:12] + b"\xff" * 40, b"no gzip"):
        packed.write_bytes(content)
        with pytest.raises(DataError, match="damaged") as error:
            load("goemotions")
        one_sentence(error)


def test_pixels_are_not_asked_of_texts(one_sentence):
    """Methods and recipes that need images say so."""
    d = several()
    access = Access(retain=(d.train_images, torch.arange(len(d.train_images)) % 3), forget_classes=[1])
    with pytest.raises(ValueError, match="token ids") as error:
        methods.method("unsir").run(models.build("bag-8", d, 0), access)
    one_sentence(error)
    with pytest.raises(ValueError, match="augment") as error:
        train.fit(models.build("bag-8", d, 0), d.train_images, d.train_labels, generator=torch.Generator(), epochs=1, lr=0.1, augment=True)
    one_sentence(error)


# --- the methods do not know what they forget

QUICK = {
    "retrain": {"epochs": 2, "lr": 0.1}, "finetune": {"epochs": 1}, "amnesiac": {"epochs": 1}, "bad_teacher": {},
    "ssd": {"alpha": 1.0}, "lfssd": {"alpha": 1.0}, "random_dampening": {"alpha": 1.0},
    "scrub": {"epochs": 2, "max_epochs": 1}, "scrub_r": {"epochs": 2, "max_epochs": 1}, "neggrad_plus": {"epochs": 2},
    "nabla_tau": {"retain_epochs": 2, "max_epochs": 2}, "gradient_ascent": {"epochs": 1}, "random_labels": {"epochs": 1},
    "salun": {"epochs": 1}, "l1_sparse": {"epochs": 1, "alpha": 1e-3}, "class_f": {"samples": 40}, "influence": {"samples": 20},
    "mask_logit": {}, "head_only": {"epochs": 1}, "random_output": {},
}
ANY = [name for name in QUICK if "random" in methods.METHODS[name].scenarios]


DRAWING = ["ispf", "pf", "is_gkt", "gkt_dfq", "blockf", "gkt", "dfkd"]
PIXELS = ["unsir", "forget_vector", "forget_vector_composed"]


def test_every_method_is_tried_but_those_that_draw_or_learn_pixels():
    assert methods.METHODS.keys() - QUICK.keys() == {*PIXELS, *DRAWING}


@pytest.mark.parametrize("architecture", ["bag-8", "encoder-16"])
@pytest.mark.parametrize("name", DRAWING)
def test_methods_that_draw_images_refuse_texts(name, architecture, docs, one_sentence):
    """The networks of texts have no BatchNorm and no ReLU layers."""
    with pytest.raises(ValueError, match="0 (BatchNorm2d|ReLU) layers") as error:
        methods.method(name).run(models.build(architecture, docs, 0), Access(forget_classes=[3]))
    one_sentence(error)


@pytest.mark.parametrize("name", PIXELS)
def test_a_method_that_learns_pixels_says_that_texts_have_none(name, docs, reader, one_sentence):
    with pytest.raises(ValueError, match="int64") as error:
        methods.method(name).run(reader, split(docs, "class:3").access())
    one_sentence(error)


def unlearned(name, model, access, images):
    """Logits of the method's result, after checks that hold for all of them: a new model, finite, in evaluation mode, repeatable."""
    before, mode = copy.deepcopy(model.state_dict()), model.training
    grads = [(p.requires_grad, None if p.grad is None else p.grad.tolist()) for p in model.parameters()]
    counted = []
    results = [methods.method(name).run(model, access, generator=torch.Generator().manual_seed(5), **QUICK[name],
                                        callback=lambda **k: counted.append(k.get("images", 0))) for _ in range(2)]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and model.training == mode
    assert [(p.requires_grad, None if p.grad is None else p.grad.tolist()) for p in model.parameters()] == grads
    first, second = (train.logits(m, images) for m in results)
    assert results[0] is not model and not results[0].training and torch.equal(first, second)
    assert torch.isfinite(first).all() and first.shape == train.logits(model, images).shape
    assert name in ("mask_logit", "random_output") or sum(counted) > 0
    return first


@pytest.fixture(scope="module")
def reader(docs):
    """A small model that knows the paragraphs fairly well; do not change it."""
    return train.fit(models.build("bag-8", docs, 0), docs.train_images, docs.train_labels, generator=torch.Generator().manual_seed(0),
                     epochs=8, lr=0.02, optimizer="adam")


def test_the_labels_of_texts_belong_to_the_texts(docs, reader):
    """Far above chance (1/8) on texts never seen."""
    assert (train.logits(reader, docs.test_images).argmax(1) == docs.test_labels).double().mean() > 0.4


@pytest.mark.parametrize("name", QUICK)
def test_methods_on_a_class_of_texts(name, docs, reader):
    images = docs.train_images[docs.train_labels == 3]
    z = unlearned(name, reader, split(docs, "class:3").access(), images)
    assert not torch.equal(z, train.logits(reader, images))


@pytest.mark.parametrize("name", ANY)
def test_methods_on_random_texts(name, docs, reader):
    s = split(docs, "random:0.1")
    z = unlearned(name, reader, s.access(), docs.train_images[s.forget])
    assert not torch.equal(z, train.logits(reader, docs.train_images[s.forget]))


@pytest.fixture(scope="module")
def tagger():
    """The toy with several labels and a model that knows it a little; do not change them."""
    d = several()
    return d, train.fit(models.build("encoder-16", d, 0), d.train_images, d.train_labels, generator=torch.Generator().manual_seed(0),
                        epochs=5, lr=0.01, optimizer="adam", batch_size=16)


ONE_LABEL = ["amnesiac", "random_labels", "salun"]


@pytest.mark.parametrize("name", [name for name in ANY if name not in ONE_LABEL])
def test_methods_on_several_labels(name, tagger):
    d, model = tagger
    s = split(d, "random:0.2")
    z = unlearned(name, model, s.access(), d.train_images[s.forget])
    assert not torch.equal(z, train.logits(model, d.train_images[s.forget]))


@pytest.mark.parametrize("name", [*ONE_LABEL, "class_f"])
def test_some_methods_need_one_label_each(name, tagger, one_sentence):
    d, model = tagger
    with pytest.raises(ValueError, match="several a sample; .* one .*each: use another method") as error:
        methods.method(name).run(model, split(d, "random:0.2").access(), **QUICK[name])
    one_sentence(error)


@pytest.mark.parametrize("name", ["neggrad_plus", "nabla_tau", "finetune", "retrain", "ssd", "scrub", "gradient_ascent", "l1_sparse",
                                  "influence"])
def test_every_label_of_a_sample_counts(name, tagger):
    """A second label taken away from the samples leads to another model."""
    d, model = tagger
    s = split(d, "random:0.2")
    fewer = d.train_labels.clone()
    for row in fewer:
        row[row.nonzero().flatten()[1:]] = False
    results = [methods.method(name).run(model, Access(forget=(d.train_images[s.forget], y[s.forget]), held_out=(d.val_images, d.val_labels),
                                                      retain=(d.train_images[s.retain], y[s.retain])),
                                        generator=torch.Generator().manual_seed(5), **QUICK[name]) for y in (d.train_labels, fewer)]
    assert any(not torch.equal(a, b) for a, b in zip(results[0].parameters(), results[1].parameters(), strict=True))
