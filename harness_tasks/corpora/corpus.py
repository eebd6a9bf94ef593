"""Corpora, the source of text for the MUSE benchmark.

A corpus is a set of *configs* (``knowmem``, ``verbmem``, ``privleak``, ``raw``, …), each with
*splits* (``forget_qa``, ``holdout``, …), as in MUSE (arXiv 2407.06460). On disk it is a folder in
the layout that muse_bench writes: ``<corpus>/<config>/<split>.json``.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import CorpusError
from ..loading import is_folder
from .retrained import RetrainScores, check_auc, checked_scores
from .rows import checked_rows, printable, read_json

if TYPE_CHECKING:
    import datasets

DATA_DIR_VARIABLE = "MUSE_DATA_DIR"
RETRAIN_AUC_FILE = "retrain_auc.json"

COLUMNS: dict[str, tuple[str, ...]] = {
    "knowmem": ("question", "answer"),
    "verbmem": ("prompt", "gt"),
    "privleak": ("text",),
    "raw": ("text",),
    "scal": ("text",),
    "sust": ("text",),
}


@dataclasses.dataclass(frozen=True)
class _Published:
    """A corpus on the Hugging Face hub.

    Attributes:
        repo: Id of the dataset.
        revision: Commit that the published numbers refer to.
        retrain_auc: AUC of the retrained model, a constant of muse_bench.
    """

    repo: str
    revision: str
    retrain_auc: float


PUBLISHED = {
    "books": _Published(
        "muse-bench/MUSE-Books", "051ba90319e920d410d87cfdbd61f25843c1b892", 0.5393
    ),
    "news": _Published("muse-bench/MUSE-News", "506bd5b150b92814d45e4404a82f120ab2d748bf", 0.4772),
}
NAMES = (*PUBLISHED, "demo")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """The text of one benchmark, read on demand.

    Attributes:
        name: ``books``, ``news``, ``demo``, or the name of the user's folder.
        source: Kind of the text's origin.
        location: Path of the folder, or repository on the hub.
        revision: Pinned commit of the hub repository; None for a folder.
        published_auc: Retrain AUC that muse_bench fixes for News and Books; None for others.
    """

    name: str
    source: Literal["folder", "hub", "generated"]
    location: str
    revision: str | None = None
    published_auc: float | None = None

    def split(self, config: str, split: str) -> datasets.Dataset:
        """Read the rows of one split: the columns of ``COLUMNS[config]``, all text.

        ``knowmem`` and ``verbmem`` may have a further column ``document``, the name of the
        document that an example is about.

        Raises:
            CorpusError: The split is missing, empty, not JSON, or lacks a column.
        """
        if config not in COLUMNS:
            raise CorpusError(
                f"corpus {self.name}: unknown config '{config}', available: {', '.join(COLUMNS)}"
            )
        if self.source == "hub":
            source = f"{self.location}@{self.revision}, {config}/{split}"
            rows = self._load_from_hub(config, split).to_list()
        else:
            path = Path(self.location, config, f"{split}.json")
            source, rows = str(path), read_json(path)
        import datasets

        return datasets.Dataset.from_list(checked_rows(rows, COLUMNS[config], source))

    def texts(self, path: str) -> list[str]:
        """Read the documents of a split of plain text.

        Args:
            path: Config and split, such as ``raw/forget``.

        Raises:
            CorpusError: As for ``split``, or the split has other columns than ``text``.
        """
        config, _, split = path.partition("/")
        rows = self.split(config, split)
        if rows.column_names != ["text"]:
            raise CorpusError(
                f"corpus {self.name}: {path} has the columns {', '.join(rows.column_names)}, "
                "not plain text; plain text is in privleak/…, raw/…, scal/… and sust/…"
            )
        return list(rows["text"])

    def count_texts(self, split: str) -> int:
        """Count the texts in a split of ``privleak``.

        Raises:
            CorpusError: The split cannot be read.
        """
        return len(self.split("privleak", split))

    @property
    def retrain_auc(self) -> float | None:
        """AUC of the retrained model, the zero of PrivLeak; None if it was never measured.

        It is muse_bench's constant for a published corpus, else the value in
        ``retrain_auc.json`` in the corpus folder.

        Raises:
            CorpusError: That file does not hold ``{"retrain_auc": <number between 0 and 1>}``.
        """
        if self.published_auc is not None:
            return self.published_auc
        content = self._retrain_file()
        return None if content is None else float(content["retrain_auc"])

    @property
    def retrain_scores(self) -> RetrainScores | None:
        """Min-40% scores of the retrained model, by ``forget`` and ``holdout`` in file order.

        They are ``scores`` in ``retrain_auc.json``, one for every text of privleak/forget and
        privleak/holdout. None without them, and for a published corpus.

        Raises:
            CorpusError: That file is malformed, or its scores do not match the texts or its AUC.
        """
        content = None if self.published_auc is not None else self._retrain_file()
        if content is None or "scores" not in content:
            return None
        path = Path(self.location, RETRAIN_AUC_FILE)
        scores = checked_scores(content, path, self.count_texts)
        check_auc(scores, content["retrain_auc"], path)
        return scores

    def _retrain_file(self) -> dict[str, Any] | None:
        """Read ``retrain_auc.json`` and check its AUC; None without that file."""
        path = Path(self.location, RETRAIN_AUC_FILE)
        if not path.exists():
            return None
        content = read_json(path)
        value = content.get("retrain_auc") if isinstance(content, dict) else None
        if not isinstance(value, int | float) or not 0 < value < 1:
            raise CorpusError(
                f'{path}: expected {{"retrain_auc": <number between 0 and 1>}}, '
                f"found {printable(repr(content))}"
            )
        return content

    def require_retrain_auc(self) -> float:
        """Return ``retrain_auc``.

        Raises:
            CorpusError: It was never measured (the message says how to), or is malformed.
        """
        value = self.retrain_auc
        if value is not None:
            return value
        if self.source == "generated":
            remedy = "run `lm-eval-muse demo --models-only`"
        else:
            remedy = (
                "measure it on a model trained without the forget set, `lm-eval-muse corpus "
                f"retrain-auc --corpus {self.location} --model RETRAINED`"
            )
        raise CorpusError(f"corpus {self.name} has no retrain AUC, which PrivLeak needs: {remedy}")

    @property
    def location_argument(self) -> tuple[str, str | None]:
        """Arguments of ``load_corpus`` that load this corpus again."""
        if self.source != "folder":
            return self.name, None
        if self.published_auc is None:
            return self.location, None
        return self.name, str(Path(self.location).parent)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all files of the corpus, or over repository and revision on the hub.

        Raises:
            CorpusError: A file cannot be read.
        """
        digest = hashlib.sha256()
        if self.source == "hub":
            digest.update(f"{self.location}@{self.revision}".encode())
        else:
            root = Path(self.location)
            for path in sorted(root.glob("*/*.json")):
                digest.update(path.relative_to(root).as_posix().encode() + b"\0")
                try:
                    content = path.read_bytes()
                except OSError as error:
                    raise CorpusError(f"{path}: cannot be read: {error.strerror}") from None
                digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    @property
    def provenance(self) -> dict[str, str | None]:
        """Identity of the text as JSON-compatible values, for results and records."""
        return {
            "name": self.name,
            "source": self.source,
            "location": self.location,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
        }

    def _load_from_hub(self, config: str, split: str) -> datasets.Dataset:
        try:
            import datasets

            return datasets.load_dataset(self.location, config, split=split, revision=self.revision)
        except Exception as error:  # the hub's own errors share no base class
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CorpusError(
                f"corpus {self.name}: cannot load {config}/{split} of {self.location} from the "
                f"hub ({reason}); offline, set {DATA_DIR_VARIABLE} to a folder that holds "
                f"{self.name}/{config}/{split}.json"
            ) from error


def load_corpus(name_or_folder: str, data_dir: str | Path | None = None) -> Corpus:
    """Find a corpus in the user's folder or on the hub, or generate the demo.

    Args:
        name_or_folder: ``books``, ``news``, ``demo``, the name of a folder in ``data_dir``, or the
            path of a corpus folder.
        data_dir: Folder that holds ``<corpus>/<config>/<split>.json``. The default is the
            environment variable ``MUSE_DATA_DIR``, whose folder need not hold every corpus.

    Raises:
        CorpusError: The corpus does not exist, or is not in ``data_dir``.
    """
    name = str(name_or_folder)
    published = PUBLISHED.get(name)
    auc = published.retrain_auc if published else None

    parent = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    folder = _expanded(parent) / name if parent else None
    if folder and is_folder(folder):
        return Corpus(name=folder.name, source="folder", location=str(folder), published_auc=auc)
    if data_dir:
        raise CorpusError(f"corpus {name}: there is no folder {folder}")
    if published:
        return Corpus(
            name=name,
            source="hub",
            location=published.repo,
            revision=published.revision,
            published_auc=auc,
        )
    if name == "demo":
        from .demo import demo_corpus_folder

        return Corpus(name=name, source="generated", location=str(demo_corpus_folder()))
    folder = _expanded(name)
    if is_folder(folder):
        return Corpus(name=folder.resolve().name, source="folder", location=str(folder.resolve()))
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise CorpusError(
        f"unknown corpus '{name}': {hint}available: {', '.join(NAMES)}, or an existing folder "
        "in the layout <folder>/<config>/<split>.json"
    )


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~ of an unknown user
        raise CorpusError(f"{path}: {error}") from None
