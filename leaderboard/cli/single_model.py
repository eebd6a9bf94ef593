"""Commands on a single model: unlearn, quantize, evaluate, survival."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import (
    FAILED_CELLS,
    PluginOption,
    err,
    load_plugins,
    main_console,
    out,
    parse_settings,
    say,
)

DEFAULT_GRIDS = ("rtn-int8", "rtn-int4")

app = typer.Typer()


@app.command()
def unlearn(
    method: Annotated[str, typer.Option(help="A registered method.")],
    model: Annotated[str, typer.Option(help="Folder or hub id of the target model.")],
    corpus: Annotated[str, typer.Option(help="books, news, demo or a corpus folder.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder for the unlearned model.")],
    finetuning: Annotated[str, typer.Option(help="full or lora.")] = "lora",
    param: Annotated[
        list[str] | None, typer.Option(help="Parameter of the method, as name=value.")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="Parameter of the finetuning, as name=value.")
    ] = None,
    training: Annotated[
        list[str] | None, typer.Option(help="Training setting, as name=value.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the model on the hub.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local corpora.")] = None,
    report_to: Annotated[
        list[str] | None, typer.Option(help="Logger of the Trainer, for example tensorboard.")
    ] = None,
    forget: Annotated[str, typer.Option(help="Split of the forget documents.")] = "raw/forget",
    retain: Annotated[str, typer.Option(help="Split of the retain documents.")] = "raw/retain1",
    plugin: PluginOption = None,
) -> None:
    """Unlearn one model with one method; write a Hugging Face folder."""
    from ..config import CorpusEntry, ModelSource, UnlearnEntry
    from ..execution.single_model import unlearn_to_folder
    from ..progress import Progress

    load_plugins(plugin)
    console = main_console()
    entry = UnlearnEntry(
        method=method,
        finetuning=finetuning,
        params=parse_settings(param),
        finetuning_params=parse_settings(lora),
        training=parse_settings(training) | ({"report_to": report_to} if report_to else {}),
    )
    source = CorpusEntry(name=corpus, data_dir=data_dir, forget=forget, retain=retain)
    with Progress(console) as progress:
        unlearn_to_folder(
            entry, ModelSource(path=model, revision=revision), source, out_dir, progress
        )
    console.print(f"written: {out_dir}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def quantize(
    quantizer: Annotated[str, typer.Option(help="A registered quantizer.")],
    model: Annotated[str, typer.Option(help="Folder or hub id of the model.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder for the quantized model.")],
    param: Annotated[
        list[str] | None, typer.Option(help="Parameter of the quantizer, as name=value.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the model on the hub.")] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Corpus with the retain set for a calibrated quantizer.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local corpora.")] = None,
    plugin: PluginOption = None,
) -> None:
    """Quantize one model into a folder."""
    from ..config import CorpusEntry
    from ..execution.single_model import quantize_to_folder

    load_plugins(plugin)
    entry = CorpusEntry(name=corpus, data_dir=data_dir) if corpus else None
    quantize_to_folder(model, revision, quantizer, parse_settings(param), out_dir, entry)
    say(f"written: {out_dir}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="Folder or hub id of the model.")],
    corpus: Annotated[str, typer.Option(help="books, news, demo or a corpus folder.")],
    quantizer: Annotated[str, typer.Option(help="A registered quantizer.")] = "none",
    revision: Annotated[str | None, typer.Option(help="Commit of the model on the hub.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local corpora.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first examples of every task.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Score one model on the four tasks of a corpus."""
    from rich.table import Table

    from ..config import CorpusEntry, Evaluation
    from ..execution.single_model import evaluate_model
    from ..progress import Progress
    from ..report.columns import number_text

    load_plugins(plugin)
    with Progress(err) as progress:
        progress.stage(f"{corpus}: {quantizer}")
        scores = evaluate_model(
            model,
            revision,
            quantizer,
            CorpusEntry(name=corpus, data_dir=data_dir),
            Evaluation(batch_size=batch_size, limit=limit),
            progress,
        )
    rows = Table("Metric", "Value", "± stderr", "95% interval")
    for name, metric in scores.metrics.items():
        rows.add_row(
            name,
            f"{metric.value:.2f}",
            number_text(metric.stderr, digits=2),
            "—" if metric.low is None else f"{metric.low:.1f} to {metric.high:.1f}",
        )
    out.print(rows)
    for problem in scores.problems:
        err.print(problem, markup=False, style="yellow")
    raise typer.Exit(FAILED_CELLS if scores.problems else 0)


@app.command()
def survival(
    target: Annotated[str, typer.Option(help="Folder or hub id of the model before unlearning.")],
    unlearned: Annotated[Path, typer.Option(help="Folder of the unlearned model.")],
    quantizer: Annotated[
        list[str] | None,
        typer.Option(
            help="A registered quantizer, with parameters as NAME:name=value,name=value "
            "(repeatable); rtn-int8 and rtn-int4 if left out."
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the target on the hub.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device of the computation.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the whole report, with every layer, here.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Measure an update and the part of it that rounding keeps.

    The target is loaded in the dtype of the unlearned model. Columns: size and effective rank of
    the update; share of it that rounding keeps, and noise that rounding adds, both relative to the
    update; share of the squared update on weights that the quantizer maps to zero; share of grid
    indices that changed (round-to-nearest only).
    """
    from rich import box
    from rich.table import Table

    from quantizers import get_quantizer
    from unlearners.files import replace_file

    from ..config import ModelSource
    from ..execution.single_model import compare_update
    from ..records.json_text import dumps
    from ..report.columns import number_text
    from ..report.survival import share_text

    load_plugins(plugin)
    chosen = {}
    for text in quantizer or DEFAULT_GRIDS:
        name, _, parameters = text.partition(":")
        pairs = parameters.split(",") if parameters else []
        chosen[text] = get_quantizer(name, **parse_settings(pairs))
    source = ModelSource(path=target, revision=revision)
    report = compare_update(source, unlearned, chosen, device)
    rows = Table(
        *("Modules", "Precision", "‖ΔW‖/‖W0‖", "Rank", "Kept", "Noise", "Zero bin", "Indices"),
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    for kind, part in {"all": report.total, **report.kinds}.items():
        for name, rounding in part.rounding.items():
            rows.add_row(
                kind,
                name,
                number_text(part.update.relative_norm, 4),
                number_text(part.update.effective_rank),
                number_text(rounding.kept_share, 2),
                number_text(rounding.noise, 2),
                share_text(rounding.zeroed_share),
                share_text(rounding.changed_indices, 1),
            )
        rows.add_section()
    out.print(rows)
    if json_file:
        replace_file(json_file, dumps(report.model_dump(mode="json", exclude_none=True)) + "\n")
        say(f"written: {json_file}")
