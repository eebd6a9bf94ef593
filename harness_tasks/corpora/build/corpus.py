"""Makes a corpus folder in MUSE's layout from documents and questions; nothing is random."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...cache import build_once
from ..corpus import NAMES
from ..rows import DOCUMENT
from ...errors import CorpusError
from .separability import (
    FEWEST,
    Blind,
    Separation,
    blind,
)
from .cutting import (
    Cutter,
    Piece,
    matched,
    passage,
    pieces,
    spread,
)
from .layout import FOLDS, folds, write_splits
from .questions import read_questions
from .documents import (
    Source,
    read_source,
    refuse_shared,
    sha256,
    some,
)

RECIPE_FILE = "corpus.json"
FORMAT = 1
LEAST = 8
"""Tokens below which a cut has no room to fall between words."""
SIDES = {"forget": "raw/forget", "retain": "raw/retain1", "holdout": "raw/holdout"}
PACKAGES = ("lm-eval-muse", "transformers", "tokenizers", "scikit-learn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How documents are chosen and cut; lengths in tokens, without special ones.

    Attributes:
        max_documents: only the first so many of every side.
        min_tokens: shorter documents are left out.
        max_tokens: longer documents end behind the last sentence that fits.
        prompt_tokens: of a passage of VerbMem, what the model is given.
        continuation_tokens: and what it is to go on with; at most half of a short document.
        text_tokens: the longest text for PrivLeak.
        examples: the most passages, and texts of each side; evenly spaced where there are more.

    Raises:
        CorpusError: a number that cannot be.
    """

    max_documents: int | None = None
    min_tokens: int = 32
    max_tokens: int | None = None
    prompt_tokens: int = 1024
    continuation_tokens: int = 128
    text_tokens: int = 2000
    examples: int = 100

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            least = LEAST if name.endswith("_tokens") else 1
            if value is not None and value < least:
                raise CorpusError(f"{name} is {value}, must be at least {least}")
        if self.max_tokens is not None and self.max_tokens < self.min_tokens:
            raise CorpusError(
                f"max_tokens is {self.max_tokens}, below min_tokens, which is {self.min_tokens}"
            )


@dataclasses.dataclass(frozen=True)
class Row:
    """What one column of a file holds.

    Attributes:
        file: for example ``verbmem/forget``.
        column: for example ``prompt``.
        entries: how many.
        tokens: the ``least``, the ``most`` and the ``median``; None where they are not counted.
    """

    file: str
    column: str
    entries: int
    tokens: dict[str, int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """What was made and from what, as ``corpus.json`` keeps it.

    Attributes:
        format: of this file.
        sources: name and SHA-256 of what each side, and the questions, were made from.
        tokenizer: name and SHA-256 of the tokenizer.
        settings: lengths and numbers.
        files: what the files hold.
        blind: what tells forget from holdout without a model; None where there are too few texts.
        warnings: one line each.
        packages: versions.
    """

    format: int
    sources: dict[str, dict[str, str]]
    tokenizer: dict[str, str]
    settings: Settings
    files: list[Row]
    blind: Blind | None
    warnings: list[str]
    packages: dict[str, str]


def build_corpus(
    folder: Path,
    sides: Mapping[str, Path],
    tokenizer: str,
    *,
    questions: Path | None = None,
    settings: Settings | None = None,
) -> Built:
    """Make a corpus folder, whole or not at all; the same input gives the same bytes.

    Args:
        folder: where to; must not exist.
        sides: where the documents of ``forget``, ``retain`` and ``holdout`` are, as
            ``read_source`` takes them.
        tokenizer: folder or hub id; lengths are counted with it.
        questions: as ``read_questions`` takes them.
        settings: lengths and numbers.

    Raises:
        CorpusError: something cannot be used; the message names it.
    """
    settings = settings or Settings()
    if folder.exists():
        raise CorpusError(f"{folder} exists already: choose another folder")
    if folder.name in NAMES:
        raise CorpusError(f"'{folder.name}' is the name of another corpus: choose another folder")
    cutter = Cutter(tokenizer)
    sources = {side: read_source(sides[side]) for side in SIDES}
    warnings = [f"{side}: {note}" for side, source in sources.items() for note in source.notes]
    chosen = {
        side: _choose(side, source, cutter, settings, warnings) for side, source in sources.items()
    }
    documents = {side: [piece.document for piece in found] for side, found in chosen.items()}
    warnings += refuse_shared(documents)
    pairs = _pairs(chosen, settings)
    splits, rows = _splits(chosen, pairs, settings)
    digests = {side: {"name": s.name, "sha256": s.sha256} for side, s in sources.items()}
    if questions:
        asked = read_questions(questions, documents)
        splits |= asked.splits
        rows += [Row(name, "question", len(entries)) for name, entries in asked.splits.items()]
        warnings += asked.warnings
        digests["questions"] = {"name": questions.name, "sha256": sha256(questions)}
    else:
        warnings.append(
            "no questions: muse_knowmem and muse_utility will miss knowmem/forget_qa.json, and "
            "grids, which run all four tasks, cannot use the corpus"
        )
    told = _tell_apart(pairs)
    built = Built(
        format=FORMAT,
        sources=digests,
        tokenizer={"name": cutter.name, "sha256": cutter.sha256},
        settings=settings,
        files=rows,
        blind=told,
        warnings=warnings + _blind_warnings(told),
        packages={name: version(name) for name in PACKAGES},
    )

    def write(temporary: Path) -> None:
        write_splits(temporary, splits)
        text = json.dumps(dataclasses.asdict(built), indent=1, ensure_ascii=False) + "\n"
        (temporary / RECIPE_FILE).write_text(text, encoding="utf-8")

    try:
        build_once(folder, write)
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written: {error.strerror}") from error
    return built


def _choose(
    side: str, source: Source, cutter: Cutter, settings: Settings, warnings: list[str]
) -> list[Piece]:
    """The documents that are taken, in tokens."""
    most = settings.max_tokens
    found = [
        cutter.shortened(document, most) if most else cutter.whole(document)
        for document in source.documents
    ]
    short = [piece for piece in found if len(piece) < settings.min_tokens]
    taken = [piece for piece in found if len(piece) >= settings.min_tokens]
    if not taken:
        longest = max(len(piece) for piece in found)
        raise CorpusError(
            f"{side}: no document has min_tokens, {settings.min_tokens}, or more; the longest of "
            f"{len(found)} has {longest}"
        )
    if short:
        places = some([piece.document.place for piece in short])
        warnings.append(f"{side}: shorter than {settings.min_tokens} tokens: {places}")
    return taken[: settings.max_documents]


def _pairs(chosen: Mapping[str, Sequence[Piece]], settings: Settings) -> list[tuple[Piece, Piece]]:
    """Forget and holdout texts for PrivLeak, of the same length two by two."""
    forget, holdout = (_texts(chosen[side], settings) for side in ("forget", "holdout"))
    return matched(forget, holdout, settings.examples)


def _texts(documents: Sequence[Piece], settings: Settings) -> list[Piece]:
    return [text for document in documents for text in pieces(document, settings.text_tokens)]


def _splits(
    chosen: Mapping[str, Sequence[Piece]],
    pairs: Sequence[tuple[Piece, Piece]],
    settings: Settings,
) -> tuple[dict[str, Sequence[Any]], list[Row]]:
    """The splits that need no questions, and what they hold."""
    most = settings.prompt_tokens + settings.continuation_tokens
    cut = [
        (number, *passage(piece, settings.continuation_tokens))
        for number, document in enumerate(chosen["forget"])
        for piece in pieces(document, most)
    ]
    full = [(number, prompt, rest) for number, prompt, rest in cut if rest.text.strip()]
    if not full:
        raise CorpusError("forget: nothing but white space where a passage would go on")
    passages = spread(full, settings.examples)
    forget = [text for text, _ in pairs]
    # no score looks at them; MUSE has them, and so they are as long as the others
    retain = matched(forget, _texts(chosen["retain"], settings), settings.examples)
    plain = {name: chosen[side] for side, name in SIDES.items()} | {
        "privleak/forget": forget,
        "privleak/holdout": [text for _, text in pairs],
        "privleak/retain": [text for _, text in retain],
    }
    splits: dict[str, Sequence[Any]] = {
        name: [piece.text.strip() for piece in found] for name, found in plain.items()
    }
    splits["verbmem/forget"] = [
        {"prompt": prompt.text.lstrip(), "gt": rest.text.rstrip(), DOCUMENT: number}
        for number, prompt, rest in passages
    ]
    if len(chosen["forget"]) >= FOLDS:
        splits |= folds(splits["raw/forget"])
    rows = [_row(name, "text", found) for name, found in plain.items()]
    rows.append(_row("verbmem/forget", "prompt", [prompt for _, prompt, _ in passages]))
    rows.append(_row("verbmem/forget", "gt", [rest for _, _, rest in passages]))
    return splits, rows


def _row(file: str, column: str, found: Sequence[Piece]) -> Row:
    lengths = [len(piece) for piece in found]
    median = round(statistics.median(lengths))
    tokens = {"least": min(lengths), "median": median, "most": max(lengths)}
    return Row(file, column, len(found), tokens)


def _tell_apart(pairs: Sequence[tuple[Piece, Piece]]) -> Blind | None:
    """Without a model, and with one text of each document."""
    forget, holdout = (
        list({piece.document.place: piece.text for piece in side}.values())
        for side in zip(*pairs, strict=True)
    )
    return blind(forget, holdout)


def _blind_warnings(told: Blind | None) -> list[str]:
    remedy = "choose holdout documents of the same source, time and topics"
    if told is None:
        return [
            f"with fewer than {FEWEST} documents of forget or holdout nothing can be said on "
            f"whether they differ by themselves, which PrivLeak would measure: {remedy}"
        ]
    warnings = []
    if told.by_words:
        warnings.append(
            f"{_difference('words', told.words)}: {', '.join(told.forget_words)} speak for "
            f"forget, {', '.join(told.holdout_words)} for holdout; {remedy}"
        )
    if told.by_length:
        warnings.append(f"{_difference('length', told.length)}; {remedy}")
    return warnings


def _difference(what: str, told: Separation) -> str:
    return (
        f"forget and holdout differ by their {what} (AUC {told.auc:.2f} ± {told.stderr:.2f} "
        "without any model), and PrivLeak would measure that"
    )
