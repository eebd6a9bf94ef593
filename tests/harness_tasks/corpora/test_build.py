"""A corpus from a user's own text: what is read, refused, cut, matched and written."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import harness_tasks
from harness_tasks.corpora import COLUMNS, load_corpus
from harness_tasks.corpora.build.corpus import Settings, build_corpus
from harness_tasks.corpora.build.cutting import (
    Cutter,
    Piece,
    matched,
    passage,
    pieces,
    spread,
)
from harness_tasks.corpora.build.documents import Document, read_source, refuse_shared
from harness_tasks.corpora.build.questions import read_questions
from harness_tasks.corpora.build.separability import blind
from harness_tasks.errors import CorpusError

PACKAGE = Path(harness_tasks.__file__).parent
EXAMPLE = PACKAGE / "examples" / "trades"
SIDES = {
    "forget": EXAMPLE / "forget",
    "retain": EXAMPLE / "retain.jsonl",
    "holdout": EXAMPLE / "holdout.json",
}
QUESTIONS = EXAMPLE / "questions.jsonl"


def write(path: Path, content: Any) -> Path:
    """Bytes and text as they are, anything else as JSON lines or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode()
    elif path.suffix == ".jsonl":
        content = "\n".join(json.dumps(row) for row in content).encode()
    elif not isinstance(content, bytes):
        content = json.dumps(content).encode()
    path.write_bytes(content)
    return path


# Reading


def test_a_folder_gives_a_document_a_file(tmp_path: Path) -> None:
    """In the order of the names, folders in it included; a BOM and Windows' line ends go away."""
    write(tmp_path / "b.txt", "second\r\n\r\nline\r\n")
    write(tmp_path / "a.MD", "\ufefffirst")
    write(tmp_path / "c" / "d.txt", "third")
    write(tmp_path / "c" / "scan.pdf", b"\xff")
    write(tmp_path / ".hidden.txt", b"\xff")
    source = read_source(tmp_path)
    assert source.documents == [
        Document("first", "a.MD"),
        Document("second\n\nline", "b.txt"),
        Document("third", "c/d.txt"),
    ]
    assert source.notes == ["not read, because not .txt or .md: c/scan.pdf"]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.json", ["one", {"text": "two", "id": 7}], "entry 1"),
        ("a.jsonl", [{"text": "one"}, {"text": "two"}], "line 2"),
        ("a.jsonl", '"one"\n\n{"text": "two"}\n', "line 3"),
    ],
)
def test_json_gives_a_document_an_entry(
    tmp_path: Path, name: str, content: Any, place: str
) -> None:
    documents = read_source(write(tmp_path / name, content)).documents
    assert [document.text for document in documents] == ["one", "two"]
    assert documents[1].place == place


def test_line_separators_within_a_json_string_end_no_line(tmp_path: Path) -> None:
    """U+2028 and U+0085 may stand in JSON as they are."""
    path = write(tmp_path / "a.jsonl", '{"text": "one\u2028two\u0085three"}\n')
    (document,) = read_source(path).documents
    assert document.text == "one\u2028two\u0085three"


def test_empty_and_repeated_documents_are_left_out_and_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", ["One text.", " \n", "two", "one   TEXT."])
    source = read_source(path)
    assert [document.text for document in source.documents] == ["One text.", "two"]
    assert source.notes == [
        "empty: entry 1",
        "the same text twice: entry 3 (as entry 0)",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "sch\u00f6n".encode("latin-1"), r"a\.txt: not UTF-8 \(byte 3: .*iconv"),
        ("a.txt", "a\0b", r"a\.txt: not plain text: it holds a NUL character"),
        ("a.txt", " ", r"a\.txt: no document in it; empty: .*a\.txt"),
        ("a.json", '["\\ud800 a"]', r"a\.json, entry 0: text holds half of a surrogate pair"),
        ("a.json", {"text": "a"}, r"a\.json: expected a list; one object a line goes into a \.j"),
        ("a.json", [{"txt": "a"}], r"entry 0: lacks the column text; expected a text or an obj"),
        ("a.json", ["a", 7], r"a\.json, entry 1: expected a text or an object with text, found"),
        ("a.json", "[" * 200_000, r"a\.json: cannot be read as JSON"),
        ("a.jsonl", '{"text": "a"}\n{"text": ', r"a\.jsonl, line 2: cannot be read as JSON"),
        ("a.jsonl", "[" * 200_000, r"a\.jsonl, line 1: cannot be read as JSON"),
        ("a.pdf", b"\xff", r"a\.pdf: cannot tell how to read it; expected a folder or one of \.t"),
        ("a/scan.pdf", b"\xff", r"a: no document in it; not read, .*scan\.pdf"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: Any, message: str) -> None:
    write(tmp_path / name, content)
    with pytest.raises(CorpusError, match=message) as error:
        read_source(tmp_path / Path(name).parts[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["none.txt", "none.json", "none.jsonl", "none"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=f"{name}: no such file"):
        read_source(tmp_path / name)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").symlink_to(write(tmp_path / "secret.txt", "secret"))
    with pytest.raises(CorpusError, match=r"a\.txt: a link that leads out of .*texts"):
        read_source(tmp_path / "texts")


def test_the_digest_of_a_folder_follows_names_and_content(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "one")
    first = read_source(tmp_path).sha256
    write(tmp_path / "other.pdf", "not read")
    assert read_source(tmp_path).sha256 == first
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert read_source(tmp_path).sha256 != first


def test_a_files_name_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    write(tmp_path / "\x1b[2J.txt", "one")
    write(tmp_path / "\u202etxt.exe", "two")
    source = read_source(tmp_path)
    assert source.documents == [Document("one", "'\\x1b[2J.txt'")]
    assert source.notes == ["not read, because not .txt or .md: '\\u202etxt.exe'"]


@settings(max_examples=100, deadline=None, database=None)
@given(
    content=st.one_of(
        st.binary(),
        st.lists(
            st.one_of(st.text(), st.integers(), st.dictionaries(st.text(), st.text())),
        ).map(lambda rows: json.dumps(rows).encode()),
        st.lists(st.fixed_dictionaries({"text": st.text(st.characters())})).map(
            lambda rows: "\n".join(map(json.dumps, rows)).encode()
        ),
    ),
    suffix=st.sampled_from([".txt", ".json", ".jsonl"]),
)
def test_whatever_the_file_holds(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    """Documents that can be written again, or one line that names the file."""
    path = write(tmp_path_factory.getbasetemp() / f"anything{suffix}", content)
    try:
        documents = read_source(path).documents
    except CorpusError as error:
        assert f"anything{suffix}" in str(error)
        assert "\n" not in str(error)
    else:
        assert all(document.text.strip().encode() for document in documents)


# The same text on two sides

WORDS = [f"word{n:03}" for n in range(200)]


def text(start: int, stop: int) -> str:
    return " ".join(WORDS[start:stop])


@pytest.mark.parametrize(
    "other",
    [
        text(0, 40).upper().replace(" ", "\n"),
        # 40 words are 28 runs of 13; words 0 to 25 are the first 14 of them, one half
        text(0, 26) + " " + text(100, 190),
        # the shorter one: 2 runs, one of them from the other document
        text(10, 23) + " new",
    ],
    ids=["in other letters", "half of it", "all but a word of a short one"],
)
def test_a_text_on_two_sides_is_refused(other: str) -> None:
    sides = {
        "forget": [Document("something else", "f1"), Document(text(0, 40), "f2")],
        "retain": [Document("unlike", "r1")],
        "holdout": [Document(other, "h1")],
    }
    with pytest.raises(CorpusError, match=r"^forget, f2, and holdout, h1, have \d+% of"):
        refuse_shared(sides)


def test_short_texts_are_compared_as_a_whole() -> None:
    sides = {"forget": [Document("Call me.", "f")], "retain": [Document("call  me.", "r")]}
    with pytest.raises(CorpusError, match="forget, f, and retain, r, have 100%"):
        refuse_shared(sides)
    sides["retain"] = [Document("call me. Soon.", "r")]
    assert refuse_shared(sides) == []


def test_a_passage_on_two_sides_is_a_warning() -> None:
    """13 words in common are told, 12 are not."""
    sides = {
        "forget": [Document(text(0, 60), "f")],
        "retain": [Document(text(48, 60) + " " + text(100, 150), "r")],
        "holdout": [Document(text(47, 60) + " " + text(150, 200), "h")],
    }
    (warning,) = refuse_shared(sides)
    assert warning == (
        "holdout and forget have 13 words or more in common in h (with f), for example "
        f"'{text(47, 60)}'"
    )


SHARED = """
from harness_tasks.corpora.build.documents import Document, refuse_shared
words = [str(n) for n in range(400)]
first = [Document(" ".join(words[40 * n : 40 * n + 40]), str(n)) for n in range(10)]
parts = [" ".join([f"new{n}", *words[40 * n : 40 * n + 14]]) for n in range(10)]
print(refuse_shared({"forget": first, "retain": [Document(" ".join(parts), "all")]}))
"""


def test_warnings_do_not_depend_on_pythons_hashes() -> None:
    """Strings are hashed with another seed in every process."""
    told = {
        subprocess.run(
            [sys.executable, "-c", SHARED],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (line,) = told
    assert "all (with 0), all (with 1), all (with 2), … (10 in all)" in line


# Cutting


def by_word(words: str, *, behind: bool = False) -> Piece:
    """One token a word; the space belongs to the next one, or with ``behind`` to its own."""
    steps = [len(word) + 1 for word in words.split()]
    ends = [end if behind else end - 1 for end in itertools.accumulate(steps)]
    ends[-1] = len(words)
    return Piece(Document(words, "here"), tuple(ends), 0, len(ends))


def test_a_piece_is_text_between_tokens() -> None:
    piece = by_word("one two three four")
    assert piece.part(1, 3).text == " two three"
    assert piece.part(1, 4).part(1, 2).text == " three"
    assert len(piece.part(1, 3)) == 2


def test_a_cut_falls_between_words() -> None:
    """Tokens of two characters in "abcdefg hij…": token 4 ends a word, 5 and 6 do not.

    Of 40 tokens a cut may move by 5.
    """
    words = "abcdefgh " + "i" * 71
    piece = Piece(Document(words, ""), tuple(range(2, 81, 2)), 0, 40)
    assert piece.word_end(4) == 4
    assert piece.word_end(6) == 4
    assert piece.word_end(2, forward=True) == 4
    assert piece.word_end(20) == 20
    assert piece.word_end(40) == piece.word_end(50) == 40


def test_a_cut_is_rather_before_white_space_than_behind_it() -> None:
    piece = by_word("one two three four five six seven eight", behind=True)
    assert piece.part(0, piece.word_end(3)).text == "one two three "
    spaces = Piece(Document("one two three fo", ""), (3, 4, 7, 8, *range(9, 17)), 0, 12)
    # after "one", not after "one "; of 12 tokens a cut moves by 1 at most, so this one stays
    assert spaces.part(0, spaces.word_end(1)).text == "one"


def test_long_documents_give_as_many_pieces_as_they_hold() -> None:
    """Of 7 words: 3 and 3, the last one left out; 7 and more are the whole."""
    piece = by_word("a b c d e f g")
    assert [part.text for part in pieces(piece, 3)] == ["a b c", " d e f"]
    assert pieces(piece, 7) == pieces(piece, 8) == [piece]


@pytest.mark.parametrize(
    ("continuation", "prompt", "rest"),
    [(2, "a b c d", " e f"), (3, "a b c", " d e f"), (128, "a b c", " d e f")],
)
def test_the_continuation_is_half_at_most(continuation: int, prompt: str, rest: str) -> None:
    first, second = passage(by_word("a b c d e f"), continuation)
    assert (first.text, second.text) == (prompt, rest)


def test_texts_of_one_length() -> None:
    """Forget 6, 2, 4 and holdout 3, 9, 5, 1, 7 words.

    Three of the five holdout texts in order of length, 1 3 5 7 9, are the 1st, 3rd and 5th
    (positions (2i + 1) · 5 / 6 = 0, 2, 4). So 2 with 1, 4 with 5, 6 with 9: lengths 1, 4, 6, in
    the order of the forget texts.
    """
    numbers = "a b c d e f g h i".split()
    forget = [by_word(" ".join(numbers[:n])) for n in (6, 2, 4)]
    holdout = [by_word(" ".join(numbers[-n:])) for n in (3, 9, 5, 1, 7)]
    pairs = matched(forget, holdout, 100)
    assert [(one.text, other.text) for one, other in pairs] == [
        ("a b c d e f", "a b c d e f"),
        ("a", "i"),
        ("a b c d", "e f g h"),
    ]
    assert [len(one) for one, _ in matched(forget, holdout, 1)] == [4]


def test_spread() -> None:
    assert spread("abcdefgh", 4) == ["b", "d", "f", "h"]  # type: ignore[comparison-overlap]
    assert spread([1, 2], 4) == [1, 2]


@pytest.fixture
def cutter(either: Any, tmp_path: Path) -> Cutter:
    either[0].save_pretrained(tmp_path / "tokenizer")
    return Cutter(str(tmp_path / "tokenizer"))


def test_cut_text_is_the_documents_own(cutter: Cutter) -> None:
    """Whatever the tokenizer does to it, and with characters of several tokens."""

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.text(st.sampled_from("ab é😀日\u0301\n.,\u00a0"), min_size=1), st.integers(1, 9))
    def check(words: str, length: int) -> None:
        document = Document(words.strip() or "a", "here")
        whole = cutter.whole(document)
        assert whole.text == document.text
        parts = pieces(whole, length)
        left = document.text
        for part in parts:
            start = left.index(part.text)
            assert not left[:start].strip()
            left = left[start + len(part.text) :]
            assert part.text.strip()
        assert all(0 < len(part) <= max(length, 1) for part in parts)
        if len(whole) >= 2:
            prompt, rest = passage(whole, length)
            assert prompt.text + rest.text == document.text
            assert len(rest) <= length
            assert len(prompt) > 0
        short = cutter.shortened(document, length)
        assert document.text.startswith(short.text)

    check()


def test_documents_end_with_a_sentence(cutter: Cutter) -> None:
    words = 'One thing. "Two things!" Three things, and more of them'
    document = Document(words, "here")

    def cut(text: str) -> str:
        """Behind as many tokens as ``text`` has."""
        return cutter.shortened(document, len(cutter.whole(Document(text, "")))).text

    assert cut(words) == words
    assert cut('One thing. "Two things!" Three') == 'One thing. "Two things!"'
    # the last sentence that fits ends in the first half: behind a word
    assert cut("One thing. Two things Three things").startswith('One thing. "Two')


def test_tokenizer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"no tokenizer can be loaded from {tmp_path}") as error:
        Cutter(str(tmp_path))
    assert "\n" not in str(error.value)


# Questions

DOCUMENTS = {
    "forget": [Document("Ada lives in\nBern and sells boats.", "f")],
    "retain": [Document("Bo lives in Cove.", "r")],
}


def question(split: str = "forget", n: int = 0, **changes: Any) -> dict[str, Any]:
    answer = "Cove" if split == "retain" else "in Bern"
    return {"question": f"{split} {n}?", "answer": answer, "split": split} | changes


def full_set() -> list[dict[str, Any]]:
    return [
        question(split, n, **({"icl": True} if n >= 2 else {}))
        for split in ("forget", "retain")
        for n in range(12)
    ]


def test_questions_by_split(tmp_path: Path) -> None:
    read = read_questions(write(tmp_path / "qa.jsonl", full_set()), DOCUMENTS)
    assert read.warnings == []
    assert {name: len(rows) for name, rows in read.splits.items()} == {
        "knowmem/forget_qa": 2,
        "knowmem/forget_qa_icl": 10,
        "knowmem/retain_qa": 2,
        "knowmem/retain_qa_icl": 10,
    }
    assert read.splits["knowmem/retain_qa"][1] == {"question": "retain 1?", "answer": "Cove"}


def test_documents_of_questions(tmp_path: Path) -> None:
    """Kept as given, of the questions of one file all or none."""
    rows = full_set()
    for n, row in enumerate(rows[:2]):
        row["document"] = ["the ferry", 7][n]
    path = write(tmp_path / "qa.jsonl", rows)
    splits = read_questions(path, DOCUMENTS).splits
    assert [row["document"] for row in splits["knowmem/forget_qa"]] == ["the ferry", 7]
    assert list(splits["knowmem/forget_qa_icl"][0]) == ["question", "answer"]

    del rows[0]["document"]
    path = write(tmp_path / "qa.jsonl", rows)
    with pytest.raises(CorpusError, match=r"qa\.jsonl, line 1: lacks a document, which other q"):
        read_questions(path, DOCUMENTS)


def test_answers_that_stand_nowhere_and_few_shown_are_told(tmp_path: Path) -> None:
    rows = [*full_set()[:-7], question(n=50, answer="Rome"), question(n=51, answer="IN  BERN")]
    path = write(tmp_path / "qa.json", rows)
    assert read_questions(path, DOCUMENTS).warnings == [
        "1 of 4 answers do not stand in the forget documents: entry 17",
        "knowmem/retain_qa_icl has 3 pairs, MUSE's prompt takes 10: lm_eval takes them with "
        "--num_fewshot 3, a grid refuses the corpus",
    ]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (question(n=50, split="forgot"), r"line 25: split: Input should be 'forget' or 'retain'"),
        (question(n=50, ICL=True), r"line 25: ICL: Extra inputs are not permitted"),
        (question(n=50, icl="yes"), r"line 25: icl: Input should be a valid boolean"),
        (question(n=50, answer=" "), r"line 25: answer: String should have at least 1 character"),
        (question(n=50, answer=7), r"line 25: answer: Input should be a valid string"),
        (question(n=50, document=True), r"line 25: document\.str: Input should be a valid string"),
        ({"question": "a?", "split": "forget"}, r"line 25: answer: Field required"),
        (question(n=50, **{"\n\x1b": 1}), r"line 25: '\\n\\x1b': Extra inputs are not permitted"),
        ("a?", r"line 25: entry: Input should be a valid dictionary"),
        (question(n=3), r"line 25: asks what line 4 asks"),
        (question("retain", question="FORGET  0?"), r"line 25: asks what line 1 asks"),
    ],
)
def test_wrong_questions(tmp_path: Path, extra: Any, message: str) -> None:
    path = write(tmp_path / "qa.jsonl", [*full_set(), extra])
    with pytest.raises(CorpusError, match=message) as error:
        read_questions(path, DOCUMENTS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (full_set()[:12], 'has 0 questions to ask with "split": "retain", and 0 to show'),
        (full_set()[:2], 'has 2 questions to ask with "split": "forget", and 0 to show'),
    ],
)
def test_both_splits_need_both_kinds(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_questions(write(tmp_path / "qa.jsonl", rows), DOCUMENTS)


def test_questions_as_plain_text(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"qa\.txt: questions are a \.json list or \.jsonl"):
        read_questions(write(tmp_path / "qa.txt", "Who? She."), DOCUMENTS)


# Telling the sides apart


def news(topic: str, n: int) -> str:
    others = " ".join(WORDS[(7 * n + 3 * i) % 200] for i in range(20))
    return f"{topic} {others} {topic}"


def test_topics_are_told_apart_and_like_texts_are_not() -> None:
    topics = blind([news("boats", n) for n in range(12)], [news("goats", n) for n in range(12, 24)])
    assert topics is not None
    assert topics.words.auc == 1
    assert topics.by_words
    assert topics.forget_words[0] == "boats"
    assert topics.holdout_words[0] == "goats"
    alike = blind(*([news("boats", n) for n in range(odd, 24, 2)] for odd in (0, 1)))
    assert alike is not None
    assert not alike.by_words
    assert not alike.by_length


def test_length_alone_tells() -> None:
    """All holdout texts are shorter than all forget texts: AUC 0."""
    told = blind(["a b " * (30 + n) for n in range(10)], ["b a " * (10 + n) for n in range(10)])
    assert told is not None
    assert (told.length.auc, told.length.stderr) == (0, 0)
    assert told.by_length


def test_of_a_few_texts_nothing_is_said() -> None:
    assert blind(["a"] * 9, ["b"] * 50) is None


# The whole folder


@pytest.fixture(scope="session")
def tokenizer_folder(byte_level: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level[0].save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def built(tokenizer_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "trades"
    small = Settings(prompt_tokens=150, continuation_tokens=40, text_tokens=200)
    result = build_corpus(folder, SIDES, tokenizer_folder, questions=QUESTIONS, settings=small)
    assert result.warnings == []
    return folder


def test_every_split_is_there_and_loads(built: Path) -> None:
    corpus = load_corpus(str(built))
    found = {path.relative_to(built).with_suffix("").as_posix() for path in built.glob("*/*.json")}
    assert found == {
        *("raw/forget", "raw/retain1", "raw/holdout", "verbmem/forget"),
        *("privleak/forget", "privleak/retain", "privleak/holdout"),
        *("knowmem/forget_qa", "knowmem/forget_qa_icl"),
        *("knowmem/retain_qa", "knowmem/retain_qa_icl"),
        *(f"{suite}/forget_{n}" for suite in ("scal", "sust") for n in (1, 2, 3, 4)),
    }
    for name in found:
        config, split = name.split("/")
        documents = ["document"] if config == "verbmem" else []
        assert corpus.split(config, split).column_names == [*COLUMNS[config], *documents]
    with pytest.raises(CorpusError, match="has no retrain AUC"):
        corpus.require_retrain_auc()


def test_documents_stay_as_they_are(built: Path) -> None:
    corpus = load_corpus(str(built))
    files = sorted((EXAMPLE / "forget").iterdir())
    documents = [path.read_text(encoding="utf-8").strip() for path in files]
    assert corpus.texts("raw/forget") == documents
    assert corpus.texts("scal/forget_2") == documents[:6]
    assert corpus.texts("sust/forget_4") == documents[9:]


def test_passages_and_texts(built: Path, tokenizer: Any) -> None:
    """Parts of the documents, of the lengths asked for; forget and holdout as long, two by two."""
    corpus = load_corpus(str(built))
    whole = "\0".join(corpus.texts("raw/forget"))

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    passages = corpus.split("verbmem", "forget")
    assert len(passages) >= 12
    for row in passages:
        assert row["prompt"] + row["gt"] in corpus.texts("raw/forget")[int(row["document"])]
        # a cut moves by 16 tokens at most, and makes the continuation shorter
        assert 24 <= length(row["gt"]) <= 41
        assert 120 <= length(row["prompt"]) <= 166
    forget, holdout = corpus.texts("privleak/forget"), corpus.texts("privleak/holdout")
    assert len(forget) == len(holdout) >= 12
    assert all(part in whole for part in forget)
    # cut apart, a text may have a token more or less than in its document
    differences = [length(a) - length(b) for a, b in zip(forget, holdout, strict=True)]
    assert max(map(abs, differences)) <= 3


def test_the_recipe_is_kept(built: Path) -> None:
    recipe = json.loads((built / "corpus.json").read_text(encoding="utf-8"))
    assert recipe["sources"]["retain"]["name"] == "retain.jsonl"
    assert len(recipe["sources"]["questions"]["sha256"]) == 64
    assert recipe["settings"]["text_tokens"] == 200
    assert recipe["blind"]["words"]["stderr"] > 0
    raw = next(row for row in recipe["files"] if row["file"] == "raw/forget")
    assert raw["entries"] == 12
    assert raw["tokens"]["least"] <= raw["tokens"]["median"] <= raw["tokens"]["most"]


def test_the_same_input_gives_the_same_bytes(
    built: Path, tokenizer_folder: str, tmp_path: Path
) -> None:
    small = Settings(prompt_tokens=150, continuation_tokens=40, text_tokens=200)
    again = tmp_path / "again"
    build_corpus(again, SIDES, tokenizer_folder, questions=QUESTIONS, settings=small)
    names = sorted(path.relative_to(built) for path in built.rglob("*.json"))
    assert names == sorted(path.relative_to(again) for path in again.rglob("*.json"))
    assert all((built / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_the_tasks_run_on_it(built: Path, byte_level: Any) -> None:
    """VerbMem, KnowMem, Utility, the AUC and all attacks, through lm-eval."""
    tokenizer, model = byte_level
    manager = TaskManager(
        include_path=str(PACKAGE / "muse"),
        include_defaults=False,
        metadata={"corpus": str(built), "truncate": True},
    )
    tasks = ["muse_verbmem", "muse_knowmem", "muse_utility", "muse_auc", "muse_mia"]
    results = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4),
        tasks=tasks,
        task_manager=manager,
        limit=2,
        bootstrap_iters=100,
    )
    assert results is not None
    for task, metric in zip(
        tasks, ("verbmem", "knowmem", "utility", "auc", "auc_loss"), strict=True
    ):
        assert 0 <= results["results"][task][f"{metric},none"] <= 100


def test_documents_are_chosen_and_end_by_length(
    tokenizer: Any, tokenizer_folder: str, tmp_path: Path
) -> None:
    """Of five documents the first is too short; the next three are taken, long ones cut."""

    def sentences(side: str, n: int) -> str:
        return " ".join(f"{side.title()} {i * n} is no {side} {n + i}." for i in range(10 * n))

    sides = {
        side: write(
            tmp_path / f"{side}.json", ["Short.", *(sentences(side, n) for n in (1, 2, 3, 4))]
        )
        for side in SIDES
    }
    limits = Settings(max_documents=3, min_tokens=20, max_tokens=250)
    built = build_corpus(tmp_path / "out", sides, tokenizer_folder, settings=limits)
    assert "retain: shorter than 20 tokens: entry 0" in built.warnings
    texts = load_corpus(str(tmp_path / "out")).texts("raw/holdout")
    assert texts[0] == sentences("holdout", 1)
    for n, shortened in enumerate(texts[1:], 2):
        assert sentences("holdout", n).startswith(shortened)
        assert shortened.endswith(".")
        assert 220 <= len(tokenizer(shortened, add_special_tokens=False)["input_ids"]) <= 250
    assert len(texts) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"examples": 0}, "examples is 0, must be at least 1"),
        ({"min_tokens": 7}, "min_tokens is 7, must be at least 8"),
        ({"max_tokens": 31}, "max_tokens is 31, below min_tokens, which is 32"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, int], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        Settings(**changes)


def test_nothing_is_written_over_or_by_halves(tokenizer_folder: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(CorpusError, match="exists already"):
        build_corpus(there, SIDES, tokenizer_folder)
    with pytest.raises(CorpusError, match="'news' is the name of another corpus"):
        build_corpus(tmp_path / "news", SIDES, tokenizer_folder)
    twice = SIDES | {"holdout": SIDES["forget"]}
    with pytest.raises(
        CorpusError, match=r"forget, 01-ferry\.txt, and holdout, 01-ferry\.txt, have 100%"
    ):
        build_corpus(tmp_path / "new", twice, tokenizer_folder)
    with pytest.raises(CorpusError, match="forget: no document has min_tokens, 9999, or more; the"):
        build_corpus(tmp_path / "new", SIDES, tokenizer_folder, settings=Settings(min_tokens=9999))
    file = write(tmp_path / "there" / "file", "")
    with pytest.raises(CorpusError, match=r"file/new: cannot be written: .*"):
        build_corpus(file / "new", SIDES, tokenizer_folder)
    assert list(tmp_path.iterdir()) == [there]


def test_white_space_is_no_text(tokenizer_folder: str, tmp_path: Path) -> None:
    """A passage of two words, far apart, has nothing to go on with."""
    sides = {side: write(tmp_path / f"{side}.txt", side + "\n" * 5000 + "end") for side in SIDES}
    small = Settings(prompt_tokens=40, continuation_tokens=40)
    with pytest.raises(CorpusError, match="nothing but white space where a passage would"):
        build_corpus(tmp_path / "out", sides, tokenizer_folder, settings=small)
    assert not (tmp_path / "out").exists()


def test_without_questions_the_tasks_that_ask_are_told_of(
    tokenizer_folder: str, tmp_path: Path
) -> None:
    few = Settings(max_documents=3)
    built = build_corpus(tmp_path / "few", SIDES, tokenizer_folder, settings=few)
    questions, blindness = built.warnings
    assert questions.startswith("no questions: muse_knowmem and muse_utility will miss knowmem/")
    assert blindness.startswith("with fewer than 10 documents of forget or holdout nothing can be")
    assert built.blind is None
    with pytest.raises(CorpusError, match=r"knowmem/forget_qa\.json: no such file"):
        load_corpus(str(tmp_path / "few")).split("knowmem", "forget_qa")
    assert not (tmp_path / "few" / "scal").exists()  # three documents make no four forget sets
