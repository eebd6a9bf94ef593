"""Corpus folders built from a user's own text."""

import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import harness_tasks
from harness_tasks.corpora import COLUMNS, load_corpus
from harness_tasks.corpora.builder.corpus import BuildSettings, build_corpus
from harness_tasks.errors import CorpusError

from .build_files import write

PACKAGE = Path(harness_tasks.__file__).parent
EXAMPLE = PACKAGE / "examples" / "trades"
SIDES = {
    "forget": EXAMPLE / "forget",
    "retain": EXAMPLE / "retain.jsonl",
    "holdout": EXAMPLE / "holdout.json",
}
QUESTIONS = EXAMPLE / "questions.jsonl"


@pytest.fixture(scope="session")
def tokenizer_folder(byte_level: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level[0].save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def built(tokenizer_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "trades"
    small = BuildSettings(prompt_tokens=150, continuation_tokens=40, text_tokens=200)
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
    """They are parts of the documents of the requested lengths, with equal lengths in each pair."""
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


def test_manifest(built: Path) -> None:
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
    small = BuildSettings(prompt_tokens=150, continuation_tokens=40, text_tokens=200)
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
    """Of five documents the first is too short; the next three are used, and long ones cut."""

    def sentences(side: str, n: int) -> str:
        return " ".join(f"{side.title()} {i * n} is no {side} {n + i}." for i in range(10 * n))

    sides = {
        side: write(
            tmp_path / f"{side}.json", ["Short.", *(sentences(side, n) for n in (1, 2, 3, 4))]
        )
        for side in SIDES
    }
    limits = BuildSettings(max_documents=3, min_tokens=20, max_tokens=250)
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
def test_wrong_settings(changes: dict[str, int], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        BuildSettings(**changes)


def test_nothing_is_overwritten_or_partly_written(tokenizer_folder: str, tmp_path: Path) -> None:
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
        build_corpus(
            tmp_path / "new", SIDES, tokenizer_folder, settings=BuildSettings(min_tokens=9999)
        )
    file = write(tmp_path / "there" / "file", "")
    with pytest.raises(CorpusError, match=r"file/new: cannot be written: .*"):
        build_corpus(file / "new", SIDES, tokenizer_folder)
    assert list(tmp_path.iterdir()) == [there]


def test_white_space_is_no_text(tokenizer_folder: str, tmp_path: Path) -> None:
    """The continuation of a passage of two words that are far apart is empty."""
    sides = {side: write(tmp_path / f"{side}.txt", side + "\n" * 5000 + "end") for side in SIDES}
    small = BuildSettings(prompt_tokens=40, continuation_tokens=40)
    with pytest.raises(CorpusError, match="every passage continues with white space only"):
        build_corpus(tmp_path / "out", sides, tokenizer_folder, settings=small)
    assert not (tmp_path / "out").exists()


def test_missing_questions_are_a_warning(tokenizer_folder: str, tmp_path: Path) -> None:
    few = BuildSettings(max_documents=3)
    built = build_corpus(tmp_path / "few", SIDES, tokenizer_folder, settings=few)
    questions, blindness = built.warnings
    assert questions.startswith("no questions: muse_knowmem and muse_utility will miss knowmem/")
    assert blindness.startswith("with fewer than 10 documents of forget or holdout nothing can be")
    assert built.blind is None
    with pytest.raises(CorpusError, match=r"knowmem/forget_qa\.json: no such file"):
        load_corpus(str(tmp_path / "few")).split("knowmem", "forget_qa")
    assert not (tmp_path / "few" / "scal").exists()  # three documents make no four forget sets
