"""Checks of answers, and of metrics and examples against them."""

from __future__ import annotations

import gzip

import pytest

from .damage import (
    Folder,
    add,
    answer,
    assert_named,
    field,
    lines,
    problems,
    sealed,
    text,
)

CASES = {
    "metric": (add("metrics.verbmem.value", 3e-6), r"metrics.verbmem: .*, the answers give"),
    "stderr": (add("metrics.verbmem.stderr", -3e-6), r"metrics.verbmem.stderr: .*, the answers g"),
    "low": (add("metrics.verbmem.low", 3e-6), r"metrics.verbmem.low: .*, the answers give"),
    "high": (field("metrics.verbmem.high", None), r"metrics.verbmem.high: None, the answers give"),
    "no error where all agree": (
        field("metrics.knowmem.stderr", 0),
        r"metrics.knowmem.stderr: 0.0, the answers give None",
    ),
    "narrow bound where all agree": (  # three documents: 1 - 0.025^(1/3)
        field("metrics.knowmem.high", 50),
        r"metrics.knowmem.high: 50.0, the answers give 70.759823",
    ),
    "example": (
        field("examples.verbmem.scores", [0.0] * 6),
        r"samples/.*: examples: not the scores of the answers",
    ),
    "examples of another order": (
        field("examples.verbmem.examples", [5, 4, 3, 2, 1, 0]),
        r"samples/.*: examples: not the scores of the answers",
    ),
    "examples of fewer documents": (
        field("examples.verbmem.documents", ["0"] * 6),
        r"samples/.*: examples: not the scores of the answers",
    ),
    "no examples": (field("examples", {}), r"samples/.*: examples: not the scores of the answers"),
    "more examples than scores": (
        field("examples.verbmem.scores", [0.0]),
        r"records/.*: examples.verbmem: Value error, examples, scores and documents differ in num",
    ),
    "endless examples": (
        field("examples.more", {"examples": [*range(4001)], "scores": [0.0] * 4001}),
        r"records/.*: examples.more: more than 4000",
    ),
    "error of PrivLeak": (
        field("metrics.privleak.stderr", 5, "retrain--none--rtn-int4"),
        r"records/.*: metrics.privleak.stderr: 5.0, the answers give 54.433105",
    ),
    "error of PrivLeak's zero": (
        field("provenance.retrain_auc_stderr", 0.01),
        r"records/.*: provenance.retrain_auc_stderr: 0.01, expected 0.272166",
    ),
    "PrivLeak": (
        add("metrics.privleak.value", 50),
        r"metrics.privleak: -50.0, the answers give -100",
    ),
    "response": (
        answer("utility", response="Lonul", reference="Lonul"),
        r"utility 0: score 0.0, ROUGE-L gives 100.0",
    ),
    "score": (answer("utility", score=100.0), r"utility 0: score 100.0, ROUGE-L gives 0.0"),
    "no number": (answer("utility", score="NaN"), r"utility 0: score nan"),
    "left out": (lines(lambda found: found.pop(0)), r"verbmem: the examples are not those"),
    "twice": (
        lines(lambda found: found.insert(1, found[0])),
        r"verbmem: the examples are not those",
    ),
    "fewer": (
        lines(
            lambda found: found.remove(next(a for a in reversed(found) if a["task"] == "utility"))
        ),
        r"utility: examples differ from samples/.*",
    ),
    "task left out": (
        lines(lambda found: found.__setitem__(slice(6, 12), [])),
        r"metrics.knowmem: the answers give no value",
    ),
    "unknown task": (answer("utility", task="fun"), r"line 19: task: Input should be"),
    "no response": (answer("verbmem", response=None), r"verbmem 0: fields do not match the task"),
    "no split": (answer("privleak", split=None), r"privleak 0: fields do not match the task"),
    "split of a question": (
        answer("utility", split="forget"),
        r"utility 0: fields do not match the task",
    ),
    "endless response": (answer("utility", response="a " * 513), r"utility 0: more than 512 words"),
    "endless prompt": (answer("utility", prompt="a" * 401), r"utility 0: more than 400 characters"),
    "other question": (
        answer("utility", prompt="Who?"),
        r"utility 0: question or reference differs from samples/",
    ),
    "other side": (
        answer("privleak", split="holdout"),
        r"privleak 0: question or reference differs",
    ),
    "extra field": (answer("utility", evil=1), r"line 19: evil: Extra inputs"),
    "other spelling": (
        lambda folder: folder.write_lines(
            gzip.decompress(folder.answers().read_bytes()).replace(b'"task":', b'"task": ', 1)
        ),
        r"line 1: not formatted as lm-eval-muse writes answers",
    ),
    "not gzip": (text("answers", "hello"), r"samples/.*: not a whole gzip file"),
    "cut short": (
        lambda folder: folder.answers().write_bytes(folder.answers().read_bytes()[:-9]),
        r"samples/.*: not a whole gzip file",
    ),
    "other answers": (
        lambda folder: folder.answers().write_bytes(gzip.compress(b"")),
        r"samples/.*: SHA-256 differs from its record",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_answers_are_named(folder: Folder, name: str) -> None:
    damage, expected = CASES[name]
    assert_named(folder, sealed(damage), expected)


def test_score_that_is_no_number_has_a_reason(folder: Folder) -> None:
    """Collapsed model: one text has a Min-40% of NaN, so PrivLeak is missing."""
    folder.change_answer("privleak", score="NaN")
    field("examples.privleak/forget.scores.0", None)(folder)
    field("metrics.privleak", ...)(folder)
    field("reason", "privleak: failed: NaN scores for 1 of 6")(folder)
    folder.seal()
    assert problems(folder) == []


def test_score_of_minus_infinity_is_a_score(folder: Folder) -> None:
    """AUC 1/3, as of the retrained model: the holdout texts beat one of three forget texts.

    PrivLeak is 0, and its error is not known.
    """
    folder.change_answer("privleak", score="-Infinity")
    field("examples.privleak/forget.scores.0", None)(folder)
    field("metrics.privleak", {"value": 0.0, "stderr": None})(folder)
    folder.seal()
    assert problems(folder) == []
