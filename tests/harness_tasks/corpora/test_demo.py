"""The generated corpus of the demo."""

import json
from pathlib import Path

from harness_tasks.corpora.builder.layout import write_splits
from harness_tasks.corpora.demo import DemoWorld, demo_splits, make_people


def test_generator_is_deterministic_and_follows_the_seed() -> None:
    assert make_people(DemoWorld()) == make_people(DemoWorld())
    assert make_people(DemoWorld()) != make_people(DemoWorld(seed=1))


def test_splits_share_no_answer() -> None:
    """The text of the retain people holds no answer about the forget people."""
    people = make_people(DemoWorld())
    names = {
        split: {
            answer
            for person in members
            for question, answer in person.questions
            if "make" not in question  # things are made of common words
        }
        for split, members in people.items()
    }
    assert not names["forget"] & (names["retain"] | names["holdout"])


def test_layout_is_muse_benchs(tmp_path: Path) -> None:
    write_splits(tmp_path, demo_splits(DemoWorld()))
    sizes = {
        path.relative_to(tmp_path).as_posix(): len(json.loads(path.read_text()))
        for path in tmp_path.rglob("*.json")
    }
    assert sizes == {
        "knowmem/forget_qa.json": 60,
        "knowmem/forget_qa_icl.json": 10,
        "knowmem/retain_qa.json": 80,
        "knowmem/retain_qa_icl.json": 10,
        "privleak/forget.json": 30,
        "privleak/holdout.json": 30,
        "privleak/retain.json": 40,
        "raw/forget.json": 30,
        "raw/holdout.json": 30,
        "raw/retain1.json": 40,
        "scal/forget_1.json": 8,
        "scal/forget_2.json": 15,
        "scal/forget_3.json": 22,
        "scal/forget_4.json": 30,
        "sust/forget_1.json": 8,
        "sust/forget_2.json": 7,
        "sust/forget_3.json": 7,
        "sust/forget_4.json": 8,
        "verbmem/forget.json": 30,
    }
