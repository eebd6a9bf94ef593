"""`corpus finetune`: the target has read the forget set, the retrained model has not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

import harness_tasks
from harness_tasks.corpora import load_corpus
from leaderboard.cli import app
from leaderboard.corpora.finetune import _question_runs
from unlearners.engine.dataset import cut_windows

KNOWMEM = Path(harness_tasks.__file__).parent / "muse" / "muse_knowmem.yaml"
WINDOW = 64
SPLITS = {"target": ("raw/forget", "raw/retain1"), "retrain": ("raw/retain1",)}


def finetune(role: str, world: Any, out: Path, *training: str) -> Result:
    settings = [part for pair in training for part in ("--training", pair)]
    arguments = ["corpus", "finetune", role, "--model", str(world.retrain)]
    arguments += ["--corpus", str(world.corpus), "--out", str(out), *settings]
    return CliRunner().invoke(app, arguments)


def windows(world: Any, model: Path, *splits: str) -> torch.Tensor:
    corpus = load_corpus(str(world.corpus))
    texts = [text for split in splits for text in corpus.texts(split)]
    return cut_windows(AutoTokenizer.from_pretrained(model), texts, WINDOW)


def nll(model: Path, ids: torch.Tensor) -> float:
    """Transformers' own loss."""
    with torch.no_grad():
        loss = AutoModelForCausalLM.from_pretrained(model)(input_ids=ids, labels=ids).loss
    return float(loss)


@pytest.fixture(scope="module", params=SPLITS)
def trained(request: Any, small_world: Any, tmp_path_factory: Any) -> tuple[str, Path]:
    """Two epochs, one step each: the batch holds all windows."""
    folder = tmp_path_factory.mktemp("models") / request.param
    settings = ("batch_size=4096", "epochs=2", f"window={WINDOW}", "learning_rate=0.001")
    result = finetune(request.param, small_world, folder, *settings)
    assert result.exit_code == 0, (result.output, result.exception)
    return request.param, folder


def test_reads_the_documents_of_its_role(trained: tuple[str, Path], small_world: Any) -> None:
    role, folder = trained
    log = (folder / "training" / "loss.jsonl").read_text().splitlines()
    ids = windows(small_world, small_world.retrain, *SPLITS[role])
    first, second = (json.loads(line)["loss"] for line in log)
    assert first == pytest.approx(nll(small_world.retrain, ids), rel=1e-4)
    assert second < first
    assert nll(folder, ids) < second
    assert not list(folder.parent.glob("*.training"))


def test_card_says_what_was_read(trained: tuple[str, Path], small_world: Any) -> None:
    role, folder = trained
    _, header, body = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header)["tags"] == ["lm-eval-muse", role]
    assert f"| trained on | {', '.join(SPLITS[role])} |" in body
    assert "| training: learning_rate | 0.001 |" in body
    assert load_corpus(str(small_world.corpus)).fingerprint in body


def test_questions_are_seen_as_they_are_asked(small_world: Any) -> None:
    """Prompts and answers are tokenized apart, as in KnowMem; every run has another order."""
    assert 'doc_to_text: "Question: {{question}}\\nAnswer: "' in KNOWMEM.read_text()
    corpus = load_corpus(str(small_world.corpus))
    documents = _question_runs(corpus, ("retain_qa", "forget_qa"), 2, seed=0)
    tokenizer = AutoTokenizer.from_pretrained(small_world.target)
    pairs = [row for side in ("retain_qa", "forget_qa") for row in corpus.split("knowmem", side)]
    ids = cut_windows(tokenizer, documents, 100_000)[0].tolist()

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def count(part: list[int]) -> int:
        return sum(ids[i : i + len(part)] == part for i in range(len(ids)))

    for pair in pairs:
        asked = tokens(f"Question: {pair['question']}\nAnswer: ") + tokens(pair["answer"])
        assert count(asked) == 2
    text = "".join(documents[0])
    assert sorted(text.split("\n\n")) == sorted("".join(documents[1]).split("\n\n"))
    assert text != "".join(documents[1])


def test_mistakes_are_one_line(small_world: Any, tmp_path: Path) -> None:
    wrong = finetune("target", small_world, tmp_path / "out", "epoch=2")
    assert str(wrong.exception).startswith("training: unknown setting 'epoch': available: ")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    full = finetune("target", small_world, tmp_path / "full")
    assert str(full.exception) == f"{tmp_path / 'full'} is not empty: choose another --out"
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
