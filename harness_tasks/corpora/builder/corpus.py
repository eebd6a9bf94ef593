"""Build a corpus folder in MUSE's layout from documents and questions, deterministically."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...cache import build_once
from ...errors import CorpusError
from ..corpus import NAMES
from ..rows import DOCUMENT
from .cutting import Cutter, Piece, evenly_spaced, match_lengths, passage, split_pieces
from .documents import Source, abbreviate_list, check_overlap, read_source, sha256
from .layout import FOLDS, folds, write_splits
from .questions import read_questions
from .separability import MIN_TEXTS, Separability, Separation, measure_separability

RECIPE_FILE = "corpus.json"
FORMAT = 1
MIN_LENGTH = 8
"""Minimum length in tokens; a cut in a shorter text has no room to fall between words."""
SIDES = {"forget": "raw/forget", "retain": "raw/retain1", "holdout": "raw/holdout"}
PACKAGES = ("lm-eval-muse", "transformers", "tokenizers", "scikit-learn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """Choice and lengths of documents; lengths are in tokens without special tokens.

    Attributes:
        max_documents: Maximum number of documents of each side; the first ones are used.
        min_tokens: Minimum length of a document; shorter ones are left out.
        max_tokens: Maximum length of a document; longer ones are cut after a sentence.
        prompt_tokens: Length of the prompt of a VerbMem passage.
        continuation_tokens: Length of its continuation; at most half of a short document.
        text_tokens: Maximum length of a PrivLeak text.
        examples: Maximum number of passages, and of PrivLeak texts of each side; evenly spaced
            ones are used.

    Raises:
        CorpusError: A value is too small, or ``max_tokens`` is below ``min_tokens``.
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
            minimum = MIN_LENGTH if name.endswith("_tokens") else 1
            if value is not None and value < minimum:
                raise CorpusError(f"{name} is {value}, must be at least {minimum}")
        if self.max_tokens is not None and self.max_tokens < self.min_tokens:
            raise CorpusError(
                f"max_tokens is {self.max_tokens}, below min_tokens, which is {self.min_tokens}"
            )


@dataclasses.dataclass(frozen=True)
class ColumnSummary:
    """Summary of one column of a file.

    Attributes:
        file: Name of the split, such as ``verbmem/forget``.
        column: Name of the column, such as ``prompt``.
        entries: Number of rows.
        tokens: ``least``, ``median`` and ``most`` tokens of a row; None if they are not counted.
    """

    file: str
    column: str
    entries: int
    tokens: dict[str, int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusManifest:
    """Content and origin of a built corpus, written to ``corpus.json``.

    Attributes:
        format: Version of the file's format.
        sources: Name and SHA-256 of the source of each side and of the questions.
        tokenizer: Name and SHA-256 of the tokenizer.
        settings: Settings of the build.
        files: Summaries of the columns of the files.
        blind: Separability of forget and holdout texts; None with too few texts.
        warnings: Messages of one line.
        packages: Versions by package.
    """

    format: int
    sources: dict[str, dict[str, str]]
    tokenizer: dict[str, str]
    settings: BuildSettings
    files: list[ColumnSummary]
    blind: Separability | None
    warnings: list[str]
    packages: dict[str, str]


def build_corpus(
    folder: Path,
    sides: Mapping[str, Path],
    tokenizer: str,
    *,
    questions: Path | None = None,
    settings: BuildSettings | None = None,
) -> CorpusManifest:
    """Build a corpus folder, completely or not at all; the same input gives the same bytes.

    Args:
        folder: Folder to create; must not exist.
        sides: Paths of the ``forget``, ``retain`` and ``holdout`` documents, for ``read_source``.
        tokenizer: Folder or hub id of the tokenizer that counts lengths.
        questions: Path of the questions, for ``read_questions``.
        settings: Choice and lengths of documents.

    Raises:
        CorpusError: The folder exists or cannot be written, a source cannot be used, or a text is
            on two sides.
    """
    settings = settings or BuildSettings()
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
    documents = {side: [piece.document for piece in pieces] for side, pieces in chosen.items()}
    warnings += check_overlap(documents)
    texts = {
        side: [text for document in pieces for text in split_pieces(document, settings.text_tokens)]
        for side, pieces in chosen.items()
    }
    pairs = match_lengths(texts["forget"], texts["holdout"], settings.examples)
    plain = {name: chosen[side] for side, name in SIDES.items()} | {
        "privleak/forget": [text for text, _ in pairs],
        "privleak/holdout": [text for _, text in pairs],
    }
    # no score uses these texts, which MUSE has; they get the lengths of the others
    retain_pairs = match_lengths(plain["privleak/forget"], texts["retain"], settings.examples)
    plain["privleak/retain"] = [text for _, text in retain_pairs]
    splits, summaries = _splits(plain, chosen["forget"], settings)
    digests = {side: {"name": s.name, "sha256": s.sha256} for side, s in sources.items()}
    if questions:
        asked = read_questions(questions, documents)
        splits |= asked.splits
        summaries += [
            ColumnSummary(name, "question", len(rows)) for name, rows in asked.splits.items()
        ]
        warnings += asked.warnings
        digests["questions"] = {"name": questions.name, "sha256": sha256(questions)}
    else:
        warnings.append(
            "no questions: muse_knowmem and muse_utility will miss knowmem/forget_qa.json, and "
            "grids, which run all four tasks, cannot use the corpus"
        )
    # one text of each document: the parts of a document share its names
    forget, holdout = (
        list({piece.document.place: piece.text for piece in side}.values())
        for side in zip(*pairs, strict=True)
    )
    separability = measure_separability(forget, holdout)
    manifest = CorpusManifest(
        format=FORMAT,
        sources=digests,
        tokenizer={"name": cutter.name, "sha256": cutter.sha256},
        settings=settings,
        files=summaries,
        blind=separability,
        warnings=warnings + _separability_warnings(separability),
        packages={name: version(name) for name in PACKAGES},
    )

    def write(temporary: Path) -> None:
        write_splits(temporary, splits)
        text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False) + "\n"
        (temporary / RECIPE_FILE).write_text(text, encoding="utf-8")

    try:
        build_once(folder, write)
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written: {error.strerror}") from error
    return manifest


def _choose(
    side: str, source: Source, cutter: Cutter, settings: BuildSettings, warnings: list[str]
) -> list[Piece]:
    """Cut the documents of a side to their maximum length and leave out short ones."""
    limit = settings.max_tokens
    pieces = [
        cutter.shortened(document, limit) if limit else cutter.whole(document)
        for document in source.documents
    ]
    short = [piece for piece in pieces if len(piece) < settings.min_tokens]
    chosen = [piece for piece in pieces if len(piece) >= settings.min_tokens]
    if not chosen:
        longest = max(len(piece) for piece in pieces)
        raise CorpusError(
            f"{side}: no document has min_tokens, {settings.min_tokens}, or more; the longest of "
            f"{len(pieces)} has {longest}"
        )
    if short:
        places = abbreviate_list([piece.document.place for piece in short])
        warnings.append(f"{side}: shorter than {settings.min_tokens} tokens: {places}")
    return chosen[: settings.max_documents]


def _splits(
    plain: Mapping[str, Sequence[Piece]], forget: Sequence[Piece], settings: BuildSettings
) -> tuple[dict[str, Sequence[Any]], list[ColumnSummary]]:
    """Make the splits other than ``knowmem``, and summaries of their columns.

    Args:
        plain: Pieces of the splits of plain text.
        forget: Forget documents, for VerbMem's passages.
        settings: Lengths and number of the passages.
    """
    length = settings.prompt_tokens + settings.continuation_tokens
    cuts = [
        (number, *passage(piece, settings.continuation_tokens))
        for number, document in enumerate(forget)
        for piece in split_pieces(document, length)
    ]
    passages = [(number, prompt, rest) for number, prompt, rest in cuts if rest.text.strip()]
    if not passages:
        raise CorpusError("forget: every passage continues with white space only")
    passages = evenly_spaced(passages, settings.examples)
    splits: dict[str, Sequence[Any]] = {
        name: [piece.text.strip() for piece in pieces] for name, pieces in plain.items()
    }
    splits["verbmem/forget"] = [
        {"prompt": prompt.text.lstrip(), "gt": rest.text.rstrip(), DOCUMENT: number}
        for number, prompt, rest in passages
    ]
    if len(forget) >= FOLDS:
        splits |= folds(splits["raw/forget"])
    summaries = [_summary(name, "text", pieces) for name, pieces in plain.items()]
    summaries.append(_summary("verbmem/forget", "prompt", [prompt for _, prompt, _ in passages]))
    summaries.append(_summary("verbmem/forget", "gt", [rest for _, _, rest in passages]))
    return splits, summaries


def _summary(file: str, column: str, pieces: Sequence[Piece]) -> ColumnSummary:
    lengths = [len(piece) for piece in pieces]
    median = round(statistics.median(lengths))
    tokens = {"least": min(lengths), "median": median, "most": max(lengths)}
    return ColumnSummary(file, column, len(pieces), tokens)


def _separability_warnings(separability: Separability | None) -> list[str]:
    remedy = "choose holdout documents of the same source, time and topics"
    if separability is None:
        return [
            f"with fewer than {MIN_TEXTS} documents of forget or holdout nothing can be said on "
            f"whether they differ by themselves, which PrivLeak would measure: {remedy}"
        ]
    warnings = []
    if separability.by_words:
        warnings.append(
            f"{_difference('words', separability.words)}: {', '.join(separability.forget_words)} "
            f"speak for forget, {', '.join(separability.holdout_words)} for holdout; {remedy}"
        )
    if separability.by_length:
        warnings.append(f"{_difference('length', separability.length)}; {remedy}")
    return warnings


def _difference(feature: str, separation: Separation) -> str:
    return (
        f"forget and holdout differ by their {feature} (AUC {separation.auc:.2f} ± "
        f"{separation.stderr:.2f} without any model), and PrivLeak would measure that"
    )
