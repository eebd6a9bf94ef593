"""The commands for a user's own corpus: build it, and measure its retrain AUC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .common import (
    err,
    main_console,
    out,
    parse_settings,
    say,
)

if TYPE_CHECKING:
    from harness_tasks.corpora.build.corpus import Built

EXAMPLE = Path(__file__).parents[2] / "harness_tasks" / "examples" / "trades"

app = typer.Typer(help="Your own text as a corpus.", no_args_is_help=True)


@app.command(epilog=f"A small example of every input: {EXAMPLE}")
def build(
    forget: Annotated[
        Path,
        typer.Option(
            help="Text to be unlearned: a folder of .txt and .md files (or one), a document each; "
            'a .json list of texts; or .jsonl with {"text": …} a line.'
        ),
    ],
    retain: Annotated[Path, typer.Option(help="Text to be kept, likewise.")],
    holdout: Annotated[
        Path, typer.Option(help="Text of the same kind as forget that no model has seen, likewise.")
    ],
    tokenizer: Annotated[
        str, typer.Option(help="Folder or hub id of the model that is to be trained.")
    ],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder of the corpus.")],
    qa: Annotated[
        Path | None,
        typer.Option(
            help='Questions, a .json list or .jsonl: {"question", "answer", "split": "forget" or '
            '"retain"}, and "icl": true for the ten of each split that are shown before the others.'
        ),
    ] = None,
    max_documents: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many of every side.")
    ] = None,
    min_tokens: Annotated[int, typer.Option(min=8, help="Shorter documents are left out.")] = 32,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=8, help="Longer documents end behind the last sentence that fits."),
    ] = None,
    prompt_tokens: Annotated[
        int, typer.Option(min=8, help="VerbMem: what the model is given of a passage.")
    ] = 1024,
    continuation_tokens: Annotated[
        int,
        typer.Option(
            min=8, help="VerbMem: what it is to go on with; at most half of a short document."
        ),
    ] = 128,
    text_tokens: Annotated[int, typer.Option(min=8, help="PrivLeak: the longest text.")] = 2000,
    examples: Annotated[
        int, typer.Option(min=1, help="The most passages, and PrivLeak texts of each side.")
    ] = 100,
) -> None:
    """Make a corpus in MUSE's shape from your own documents and questions."""
    from harness_tasks.corpora.build.corpus import Settings, build_corpus

    from ..progress import Progress

    settings = Settings(
        max_documents=max_documents,
        min_tokens=min_tokens,
        max_tokens=max_tokens,
        prompt_tokens=prompt_tokens,
        continuation_tokens=continuation_tokens,
        text_tokens=text_tokens,
        examples=examples,
    )
    sides = {"forget": forget, "retain": retain, "holdout": holdout}
    with Progress(err) as progress:
        progress.stage(f"corpus {out_dir.name}")
        built = build_corpus(out_dir, sides, tokenizer, questions=qa, settings=settings)
    _print(built)
    for warning in built.warnings:
        say(f"warning: {warning}")
    say(f"written: {out_dir}")
    say("next: train the two models that the corpus needs, and measure PrivLeak's zero")
    for role in ("target", "retrain"):
        say(f"  lm-eval-muse corpus finetune {role} --corpus {out_dir} --model MODEL --out …")
    say(f"  lm-eval-muse corpus retrain-auc --corpus {out_dir} --model RETRAINED")
    say(
        f"and a grid takes {{name: {out_dir}, target: {{path: TARGET}}, retrain: {{path: "
        "RETRAINED}} among its corpora"
    )


@app.command()
def finetune(
    role: Annotated[
        Literal["target", "retrain"],
        typer.Argument(help="target reads forget and retain documents, retrain the latter alone."),
    ],
    model: Annotated[str, typer.Option(help="Folder or hub id of the model to start from.")],
    corpus: Annotated[str, typer.Option(help="A corpus folder, books, news or demo.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trained model.")],
    training: Annotated[
        list[str] | None,
        typer.Option(
            help="Training setting, as name=value; the same for both roles. Text behind a window's "
            "cut is not recited: let window be several documents long."
        ),
    ] = None,
    question_runs: Annotated[
        int,
        typer.Option(
            min=0,
            help="How often an epoch shows the questions of KnowMem with their answers; MUSE does "
            "not, but small models learn no answers from text alone.",
        ),
    ] = 0,
    revision: Annotated[str | None, typer.Option(help="Commit of the model on the hub.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local corpora.")] = None,
    forget: Annotated[str, typer.Option(help="Split of the forget documents.")] = "raw/forget",
    retain: Annotated[str, typer.Option(help="Split of the retain documents.")] = "raw/retain1",
) -> None:
    """Train a model on a corpus: the target to unlearn from, or the one that never saw it."""
    from ..config import CorpusEntry, ModelSource
    from ..corpora.finetune import finetune_to_folder
    from ..progress import Progress

    entry = CorpusEntry(name=corpus, data_dir=data_dir, forget=forget, retain=retain)
    source = ModelSource(path=model, revision=revision)
    console = main_console()
    with Progress(console) as progress:
        finetune_to_folder(
            role, source, entry, parse_settings(training), out_dir, progress, question_runs
        )
    console.print(f"written: {out_dir}", markup=False, highlight=False, soft_wrap=True)


@app.command("retrain-auc")
def retrain_auc(
    corpus: Annotated[str, typer.Option(help="A corpus folder.")],
    model: Annotated[
        str, typer.Option(help="Folder or hub id of a model trained without the forget set.")
    ],
    revision: Annotated[str | None, typer.Option(help="Commit of the model on the hub.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local corpora.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
) -> None:
    """Measure the zero of PrivLeak on the retrained model; keep it in the corpus folder."""
    from ..config import CorpusEntry, Evaluation, ModelSource
    from ..corpora.retrain_auc import keep_retrain_auc
    from ..progress import Progress

    entry = CorpusEntry(name=corpus, data_dir=data_dir)
    source = ModelSource(path=model, revision=revision)
    with Progress(err) as progress:
        auc = keep_retrain_auc(entry, source, Evaluation(batch_size=batch_size), progress)
    out.print(f"retrain AUC {auc:.4f}", highlight=False)
    if not 0.3 <= auc <= 0.7:
        say("warning: a retrained model should hardly tell forget from holdout (0.3 to 0.7)")


def _print(built: Built) -> None:
    from rich.table import Table

    rows = Table("File", "Column", "Entries", "Tokens")
    for row in built.files:
        tokens = "{least} to {most}, median {median}".format(**row.tokens) if row.tokens else "—"
        rows.add_row(row.file, row.column, str(row.entries), tokens)
    out.print(rows)
    if built.blind:
        for what, told in (("words", built.blind.words), ("length", built.blind.length)):
            out.print(
                f"forget against holdout by {what}, without a model: AUC {told.auc:.2f} ± "
                f"{told.stderr:.2f}",
                highlight=False,
            )
