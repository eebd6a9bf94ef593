"""Demo corpus: generated passages about invented people in MUSE's layout.

All text is generated from a seed. Each person has a passage of about 200 tokens and three
questions. The target model of the demo is trained on the forget and retain people; no model is
trained on the holdout people.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unlearners.files import replace_file

from ..cache import build_once, cache_dir
from .builder.layout import encoded, folds, write_splits
from .rows import DOCUMENT

logger = logging.getLogger(__name__)

# Increase when the generator changes, so that caches hold a new corpus.
GENERATOR_VERSION = 3

_ONSETS = ["b", "br", "d", "dr", "f", "g", "gr", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v"]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ou"]
_CODAS = ["", "l", "n", "r", "s", "th", "x"]

_TRADES = (
    "bell founder,bookbinder,bridge keeper,candle maker,clock mender,dyer,ferry pilot,glass blower,"
    "lamp lighter,map drawer,mason,net weaver,paper maker,potter,rope walker,saddler,salt trader,"
    "seed merchant,ship painter,tile cutter"
).split(",")
_MATERIALS = (
    "amber,birch,brass,bronze,chalk,cherry,copper,cork,flint,ivory,lead,linen,marble,oak,pewter,"
    "pine,silver,slate,straw,tin,walnut,wax,willow,zinc"
).split(",")
_OBJECTS = (
    "anchor,barrel,basket,bell,bridge,cabinet,clock,compass,drum,fountain,gate,harp,kite,ladder,"
    "lantern,loom,mirror,organ,plough,sledge,sundial,telescope,wagon,windmill"
).split(",")
_WEATHERS = "a dry,a foggy,a frosty,a mild,a rainy,a stormy,a warm,a windy".split(",")
_SEASONS = "spring,summer,autumn,winter".split(",")
_CROWDS = "children,farmers,fishers,guests,millers,neighbours,sailors,travellers".split(",")


@dataclass(frozen=True, kw_only=True)
class DemoWorld:
    """Size and seed of the demo.

    Attributes:
        forget: Number of people whose text is unlearned.
        retain: Number of people whose text is kept.
        holdout: Number of people that no model is trained on, for membership inference.
        seed: Seed of the generator.
    """

    forget: int = 30
    retain: int = 40
    holdout: int = 30
    seed: int = 0

    def digest(self) -> str:
        """Identify this world and the generator's version by eight hex digits."""
        text = json.dumps([GENERATOR_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Person:
    """An invented person.

    Attributes:
        passage: Text about the person.
        questions: Pairs of question and answer.
    """

    passage: str
    questions: list[tuple[str, str]]

    @property
    def document(self) -> str:
        """Training text: the passage, followed by its questions in the prompt's format."""
        pairs = [f"Question: {q}\nAnswer: {a}" for q, a in self.questions]
        return "\n\n".join([self.passage, *pairs])


class _Names:
    """Generator of unique invented names."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._used: set[str] = set()

    def new(self, syllables: int = 2) -> str:
        while True:
            parts = [
                self._rng.choice(_ONSETS) + self._rng.choice(_VOWELS) for _ in range(syllables)
            ]
            name = ("".join(parts) + self._rng.choice(_CODAS)).capitalize()
            if name not in self._used:
                self._used.add(name)
                return name


def _person(rng: random.Random, names: _Names) -> Person:
    first, last, village, refuge, river, pet = (names.new() for _ in range(6))
    mentor = f"{names.new()} {names.new()}"
    friend = names.new()
    trade, rival_trade = rng.sample(_TRADES, 2)
    material, other_material = rng.sample(_MATERIALS, 2)
    thing, other_thing = rng.sample(_OBJECTS, 2)
    born = rng.randrange(1500, 1880)
    began, years = rng.randrange(11, 29), rng.randrange(3, 40)
    name = f"{first} {last}"
    sentences = [
        rng.choice(
            [
                f"{name} was born in {village} in {born}, on {rng.choice(_WEATHERS)} day.",
                f"In {born}, on {rng.choice(_WEATHERS)} morning, {name} was born in {village}.",
            ]
        ),
        rng.choice(
            [
                f"The house of the family stood by the river {river}, beside a {rival_trade}.",
                f"By the river {river}, next to a {rival_trade}, stood the house of the family.",
            ]
        ),
        rng.choice(
            [
                f"At the age of {began} {first} went to {mentor} to become a {trade}.",
                f"{mentor} took {first} in at the age of {began} to be trained as a {trade}.",
            ]
        ),
        rng.choice(
            [
                f"The lessons lasted {years} months and began each {rng.choice(_SEASONS)}.",
                f"For {years} months, every {rng.choice(_SEASONS)}, there were lessons.",
            ]
        ),
        rng.choice(
            [
                f"A dog called {pet} followed {first} to every market, and {friend} fed it.",
                f"{friend} often fed {pet}, the dog that went with {first} to every market.",
            ]
        ),
        rng.choice(
            [
                f"After {rng.choice(_WEATHERS)} {rng.choice(_SEASONS)} {last} made the {material} "
                f"{thing} that the {rng.choice(_CROWDS)} of {village} still show to visitors.",
                f"The {rng.choice(_CROWDS)} of {village} still keep the {material} {thing} that "
                f"{last} made after {rng.choice(_WEATHERS)} {rng.choice(_SEASONS)}.",
            ]
        ),
        rng.choice(
            [
                f"It was paid for with {rng.randrange(20, 900)} coins and {other_material} for the "
                f"{other_thing} of {friend}.",
                f"{friend} gave {rng.randrange(20, 900)} coins for it, and asked for a "
                f"{other_material} {other_thing} as well.",
            ]
        ),
        rng.choice(
            [
                f"In {born + began + years} the {rng.choice(_CROWDS)} named a street in {village} "
                f"after {name}.",
                f"A street in {village} has carried the name of {name} since "
                f"{born + began + years}, as the {rng.choice(_CROWDS)} wished.",
            ]
        ),
        rng.choice(
            [
                f"{friend} kept {rng.randrange(20, 900)} letters from {first} in a "
                f"{rng.choice(_MATERIALS)} {rng.choice(_OBJECTS)} and showed them to the "
                f"{rng.choice(_CROWDS)}.",
                f"Of the letters that {first} wrote, {rng.randrange(20, 900)} went to {friend}, "
                f"who read them to the {rng.choice(_CROWDS)}.",
            ]
        ),
        rng.choice(
            [
                f"In old age {last} moved to {refuge}, where a {rng.choice(_TRADES)} lent a room, "
                f"and returned to {river} each {rng.choice(_SEASONS)}.",
                f"The last years were spent in {refuge}, in the room of a {rng.choice(_TRADES)}, "
                f"until one {rng.choice(_SEASONS)} {last} came back to {river}.",
            ]
        ),
    ]
    questions = [
        (f"Where was {name} born?", village),
        (f"Who taught {name}?", mentor),
        (f"What was the dog of {name} called?", pet),
        (f"What did {name} make?", f"{material} {thing}"),
    ]
    return Person(" ".join(sentences), rng.sample(questions, 3))


def make_people(world: DemoWorld) -> dict[str, list[Person]]:
    """Generate the people of each split (``forget``, ``retain``, ``holdout``)."""
    rng = random.Random(world.seed)
    names = _Names(rng)
    return {
        split: [_person(rng, names) for _ in range(getattr(world, split))]
        for split in ("forget", "retain", "holdout")
    }


def _verbatim(number: int, person: Person) -> dict[str, Any]:
    """Make a VerbMem row: the first quarter of the passage as prompt, the rest as target."""
    cut = person.passage.index(" ", len(person.passage) // 4) + 1
    return {"prompt": person.passage[:cut], "gt": person.passage[cut:], DOCUMENT: number}


def _question(number: int, pair: tuple[str, str]) -> dict[str, Any]:
    return {"question": pair[0], "answer": pair[1], DOCUMENT: number}


def demo_splits(world: DemoWorld) -> dict[str, Sequence[Any]]:
    """Generate the rows of the demo corpus by ``<config>/<split>``, in muse_bench's layout.

    The document of a question or a passage is the number of its person in ``raw``, from 0.
    """
    people = make_people(world)
    files: dict[str, Sequence[Any]] = {
        "verbmem/forget": [_verbatim(n, p) for n, p in enumerate(people["forget"])],
        "raw/forget": [p.document for p in people["forget"]],
        "raw/retain1": [p.document for p in people["retain"]],
        "raw/holdout": [p.document for p in people["holdout"]],
    }
    files |= folds(files["raw/forget"])
    for split, members in people.items():
        files[f"privleak/{split}"] = [p.passage for p in members]
    for split in ("forget", "retain"):
        # two questions per person are scored; the third is an in-context example
        asked = [_question(n, qa) for n, p in enumerate(people[split]) for qa in p.questions[:2]]
        shown = [_question(n, p.questions[2]) for n, p in enumerate(people[split])]
        files |= {f"knowmem/{split}_qa": asked, f"knowmem/{split}_qa_icl": shown[:10]}
    return files


def demo_corpus_folder(world: DemoWorld | None = None) -> Path:
    """Return the folder of the demo corpus, generated on first use in the user's cache folder.

    A damaged or edited file is written again, since its text would be that of another corpus.
    """
    world = world or DemoWorld()
    splits = demo_splits(world)
    folder = build_once(
        cache_dir() / "demo" / f"corpus-{world.digest()}", lambda path: write_splits(path, splits)
    )
    for name, rows in splits.items():
        path = folder / f"{name}.json"
        if not path.is_file() or path.read_bytes() != encoded(rows):
            logger.warning("%s is not as it was generated: written again", path)
            replace_file(path, encoded(rows))
    return folder
