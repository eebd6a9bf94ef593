"""Commands for a user's own corpus: build, finetune, retrain-auc."""

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
    from harness_tasks.corpora.builder.corpus import CorpusManifest

EXAMPLE = Path(__file__).parents[2] / "harness_tasks" / "examples" / "trades"

app = typer.Typer(help="Your own text as a corpus.", no_args_is_help=True)


@app.command(epilog=f"A small example of every input: {EXAMPLE}")
def build(
    forget: Annotated[
        Path,
        typer.Option(
            help="Text to unlearn: a folder of .txt and .md files (or one), one document each; "
            'a .json list of texts; or .jsonl with {"text": …} per line.'
        ),
    ],
    retain: Annotated[Path, typer.Option(help="Text to keep, in the same form.")],
    holdout: Annotated[
        Path, typer.Option(help="Text like forget that no model has seen, in the same form.")
    ],
    tokenizer: Annotated[str, typer.Option(help="Folder or hub id of the model to be trained.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder of the corpus.")],
    qa: Annotated[
        Path | None,
        typer.Option(
            help='Questions, a .json list or .jsonl: {"question", "answer", "split": "forget" '
            'or "retain"}, and "icl": true for the ten of each split that are examples in prompts.'
        ),
    ] = None,
    max_documents: Annotated[
        int | None, typer.Option(min=1, help="Use only the first N documents of each split.")
    ] = None,
    min_tokens: Annotated[int, typer.Option(min=8, help="Leave out shorter documents.")] = 32,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=8, help="Cut longer documents after the last sentence that fits."),
    ] = None,
    prompt_tokens: Annotated[
        int, typer.Option(min=8, help="VerbMem: tokens of a passage in the prompt.")
    ] = 1024,
    continuation_tokens: Annotated[
        int,
        typer.Option(
            min=8,
            help="VerbMem: tokens that the model must continue with; at most half of a short "
            "document.",
        ),
    ] = 128,
    text_tokens: Annotated[
        int, typer.Option(min=8, help="PrivLeak: maximum tokens of a text.")
    ] = 2000,
    examples: Annotated[
        int,
        typer.Option(min=1, help="Maximum number of passages, and of PrivLeak texts per split."),
    ] = 100,
) -> None:
    """Build a corpus in MUSE's format from your own documents and questions."""
    from harness_tasks.corpora.builder.corpus import BuildSettings, build_corpus

    from ..progress import Progress

    settings = BuildSettings(
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
    say("next: train the two models of the corpus, and measure the zero of PrivLeak")
    for role in ("target", "retrain"):
        say(f"  lm-eval-muse corpus finetune {role} --corpus {out_dir} --model MODEL --out …")
    say(f"  lm-eval-muse corpus retrain-auc --corpus {out_dir} --model RETRAINED")
    say(
        f"in a grid: corpora: [{{name: {out_dir}, target: {{path: TARGET}}, retrain: {{path: "
        "RETRAINED}}}}]"
    )


@app.command()
def finetune(
    role: Annotated[
        Literal["target", "retrain"],
        typer.Argument(
            help="target: train on forget and retain documents; retrain: on retain only."
        ),
    ],
    model: Annotated[str, typer.Option(help="Folder or hub id of the model to start from.")],
    corpus: Annotated[str, typer.Option(help="A corpus folder, books, news or demo.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trained model.")],
    training: Annotated[
        list[str] | None,
        typer.Option(
            help="Training setting, as name=value; use the same for both roles. A model does not "
            "recite text across the end of a window: make window several documents long."
        ),
    ] = None,
    question_runs: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of times per epoch that all questions of KnowMem are shown with their "
            "answers. MUSE uses 0; small models do not learn answers from text alone.",
        ),
    ] = 0,
    revision: Annotated[str | None, typer.Option(help="Commit of the model on the hub.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local corpora.")] = None,
    forget: Annotated[str, typer.Option(help="Split of the forget documents.")] = "raw/forget",
    retain: Annotated[str, typer.Option(help="Split of the retain documents.")] = "raw/retain1",
) -> None:
    """Train the target or the retrained model of a corpus."""
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
    """Measure the AUC of the retrained model, the zero of PrivLeak, into the corpus folder."""
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


def _print(built: CorpusManifest) -> None:
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
