"""The command line: ``lm-eval-muse``.

Commands import what they need when they run, so that ``--help`` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from .config import RunConfig
    from .runner import Outcome

BAD_INPUT = 2
FAILED_CELLS = 1
DEMO_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"

app = typer.Typer(
    name="lm-eval-muse",
    help="Does unlearned text stay unlearned after quantization?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console()
err = Console(file=sys.stderr)  # the stream itself: evaluation redirects sys.stderr

OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file that registers a method or quantizer."),
]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show a traceback with every error.")] = False,
) -> None:
    os.environ["LM_EVAL_MUSE_DEBUG"] = "1" if debug else ""


@app.command()
def demo(
    out_dir: OutOption = Path("runs/demo"),
    models_only: Annotated[
        bool, typer.Option("--models-only", help="Only build the models and print their folders.")
    ] = False,
) -> None:
    """The whole story offline: train the demo's models, run its grid, print the table."""
    from .config import load_config
    from .demo_models import demo_models
    from .progress import Progress

    with Progress(err) as progress:
        models = demo_models(progress=progress)
    if models_only:
        out.print(f"target   {models.target}\nretrain  {models.retrain}", soft_wrap=True)
        return
    outcome = _run(load_config(DEMO_CONFIG), out_dir)
    table(out_dir)
    raise typer.Exit(FAILED_CELLS if outcome.failed else 0)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The grid, as YAML.")],
    out_dir: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; runs/<name> if left out.")
    ] = None,
    plugin: PluginOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and which are recorded; run nothing.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run cells again that failed or diverged.")
    ] = False,
) -> None:
    """Run a grid, or the rest of it, and print its table."""
    from .config import load_config

    _load_plugins(plugin)
    settings = load_config(config)
    folder = out_dir or Path("runs") / settings.name
    if dry_run:
        _list_cells(settings, folder)
        return
    outcome = _run(settings, folder, retry_failed)
    table(folder)
    raise typer.Exit(FAILED_CELLS if outcome.failed else 0)


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="The search, as YAML.")],
    out_dir: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; runs/<name> if left out.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Search settings on one half of the examples; write a grid of the best for the other half."""
    import yaml

    from .plan import make_plan
    from .store import read_records, replace_file
    from .sweep import RULE, load_sweep, select
    from .table import build_table

    _load_plugins(plugin)
    search = load_sweep(config)
    trials = search.trials()
    folder = out_dir or Path("runs") / search.name
    outcome = _run(trials, folder)
    table(folder)
    entries, lines = select(build_table(read_records(folder)), make_plan(trials))
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    content = yaml.safe_dump(search.chosen(entries).model_dump(mode="json"), sort_keys=False)
    comment = "".join(f"# {line}\n" for line in (f"Chosen by: {RULE}.", *lines))
    replace_file(folder / "chosen.yaml", comment + content)
    err.print(f"written: {folder / 'chosen.yaml'}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(FAILED_CELLS if outcome.failed else 0)


@app.command()
def table(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")] = Path("runs/demo"),
) -> None:
    """Print the table of a run and write it as Markdown, from its records alone."""
    from .report.markdown import markdown
    from .report.survival import plot_survival
    from .report.terminal import print_table
    from .store import read_records, replace_file, run_name
    from .table import build_table

    name = run_name(folder)
    records = read_records(folder)
    rows = build_table(records)
    print_table(out, name, rows)
    replace_file(folder / "table.md", markdown(name, rows, records))
    written = [folder / "table.md"]
    if plot_survival(rows, folder / "survival.png"):
        written.append(folder / "survival.png")
    for path in written:
        err.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def methods(plugin: PluginOption = None) -> None:
    """List unlearning methods: where each comes from, its parameters and defaults."""
    from unlearners import get_unlearner, list_unlearners

    _load_plugins(plugin)
    _list_registered("Method", list_unlearners(), get_unlearner)


@app.command()
def quantizers(plugin: PluginOption = None) -> None:
    """List quantizers: where each comes from, its parameters and defaults."""
    from quantizers import get_quantizer, list_quantizers

    _load_plugins(plugin)
    _list_registered("Quantizer", list_quantizers(), get_quantizer)


@app.command()
def corpora() -> None:
    """List corpora: where each is read from and its retrain AUC."""
    from rich.table import Table

    from harness_tasks.corpora import NAMES, load_corpus

    rows = Table("Corpus", "Source", "Location", "Revision", "Retrain AUC")
    for name in NAMES:
        corpus = load_corpus(name)
        auc = corpus.retrain_auc
        rows.add_row(
            name, corpus.source, corpus.location, corpus.revision or "—", str(auc) if auc else "—"
        )
    out.print(rows)


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
    forget: Annotated[str, typer.Option(help="Split of the forget documents.")] = "raw/forget",
    retain: Annotated[str, typer.Option(help="Split of the retain documents.")] = "raw/retain1",
    plugin: PluginOption = None,
) -> None:
    """Unlearn one model with one method into a Hugging Face folder."""
    from .config import CorpusEntry, ModelSource, UnlearnEntry
    from .progress import Progress
    from .steps import unlearn_to_folder

    _load_plugins(plugin)
    entry = UnlearnEntry(
        method=method,
        finetuning=finetuning,
        params=_settings(param),
        finetuning_params=_settings(lora),
        training=_settings(training),
    )
    source = CorpusEntry(name=corpus, data_dir=data_dir, forget=forget, retain=retain)
    with Progress(err) as progress:
        unlearn_to_folder(
            entry, ModelSource(path=model, revision=revision), source, out_dir, progress
        )
    err.print(f"written: {out_dir}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def quantize(
    quantizer: Annotated[str, typer.Option(help="A registered quantizer.")],
    model: Annotated[str, typer.Option(help="Folder or hub id of the model.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder for the quantized model.")],
    param: Annotated[
        list[str] | None, typer.Option(help="Parameter of the quantizer, as name=value.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the model on the hub.")] = None,
    plugin: PluginOption = None,
) -> None:
    """Quantize one model into a folder."""
    from .steps import quantize_to_folder

    _load_plugins(plugin)
    quantize_to_folder(model, revision, quantizer, _settings(param), out_dir)
    err.print(f"written: {out_dir}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="Folder or hub id of the model.")],
    corpus: Annotated[str, typer.Option(help="books, news, demo or a corpus folder.")],
    quantizer: Annotated[str, typer.Option(help="A registered quantizer.")] = "bf16",
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

    from .config import CorpusEntry, Evaluation
    from .progress import Progress
    from .steps import evaluate_model

    _load_plugins(plugin)
    with Progress(err) as progress:
        progress.stage(f"{corpus}: {quantizer}")
        scores = evaluate_model(
            model,
            revision,
            quantizer,
            CorpusEntry(name=corpus, data_dir=data_dir),
            Evaluation(batch_size=batch_size, limit=limit),
        )
    rows = Table("Metric", "Value", "± stderr")
    for name, metric in scores.metrics.items():
        error = "—" if metric.stderr is None else f"{metric.stderr:.2f}"
        rows.add_row(name, f"{metric.value:.2f}", error)
    out.print(rows)
    for problem in scores.problems:
        err.print(problem, markup=False, style="yellow")
    raise typer.Exit(FAILED_CELLS if scores.problems else 0)


@app.command()
def survival(
    target: Annotated[str, typer.Option(help="Folder or hub id of the model before unlearning.")],
    unlearned: Annotated[Path, typer.Option(help="Folder of the unlearned model.")],
    quantizer: Annotated[
        list[str] | None, typer.Option(help="A round-to-nearest grid beside int8 and int4.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the target on the hub.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the whole report, with every layer, here.")
    ] = None,
) -> None:
    """Did the update cross the grid? Compares two unquantized models, read block by block."""
    import json

    from rich.table import Table

    from quantizers import get_quantizer

    from .config import ModelSource
    from .store import replace_file
    from .survival import measure

    grids = {name: get_quantizer(name) for name in quantizer or []}
    report = measure(ModelSource(path=target, revision=revision), unlearned, grids)
    rows = Table(
        "Modules", "Grid", "‖ΔW‖/‖W0‖", "Eff. rank", "Indices changed", "Scales", "max |ΔW|/s"
    )
    for kind, part in {"all": report.total, **report.kinds}.items():
        for grid, crossing in part.crossings.items():
            rows.add_row(
                kind,
                grid,
                f"{part.relative_norm:.4f}",
                f"{part.effective_rank:.1f}",
                f"{crossing.changed_indices:.1%}",
                f"{crossing.changed_scales:.1%}",
                f"{crossing.largest_move:.2f}",
            )
        rows.add_section()
    out.print(rows)
    if json_file:
        replace_file(json_file, json.dumps(report.to_dict(), indent=1) + "\n")
        err.print(f"written: {json_file}", markup=False, highlight=False, soft_wrap=True)


def _run(config: RunConfig, folder: Path, retry_failed: bool = False) -> Outcome:
    from .plan import make_plan
    from .progress import Progress
    from .runner import Runner
    from .store import RunFolder

    plan = make_plan(config)
    store = RunFolder(folder, config.name)
    with store.lock(), Progress(err) as progress:
        return Runner(config, store, progress, retry_failed=retry_failed).run(plan)


def _list_cells(config: RunConfig, folder: Path) -> None:
    from .plan import make_plan

    for planned in make_plan(config):
        for cell in planned.cells:
            path = folder / "records" / f"{cell.cell.stem}.json"
            state = "recorded" if path.exists() else "to do"
            out.print(f"{state:9} {cell.cell.stem}", markup=False, highlight=False, soft_wrap=True)


def _list_registered(title: str, names: dict[str, str], build: Any) -> None:
    from rich.table import Table

    rows = Table(title, "From", "Parameters")
    for name, distribution in names.items():
        params = ", ".join(f"{k}={v}" for k, v in build(name).to_dict().items())
        rows.add_row(name, distribution, params or "—")
    out.print(rows)


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    """``name=value`` pairs, values as YAML scalars."""
    import yaml

    from .errors import InputError

    found = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"'{pair}': expected name=value")
        found[name] = yaml.safe_load(value)
    return found


def _load_plugins(paths: list[Path] | None) -> None:
    from .plugins import load_plugin

    for path in paths or []:
        load_plugin(path)


def _prepare_process() -> None:
    """Quiet the libraries, and refuse to work beside packages that shadow ours."""
    # our own progress bar tells what is going on; tqdm reads this when it is imported
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # bitsandbytes tells everybody about an optional kernel when peft imports it
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from harness_tasks._names import foreign_owners

    if messages := foreign_owners():
        err.print(f"error: {messages[0]}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(BAD_INPUT)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    _prepare_process()
    try:
        app()
    except KeyboardInterrupt:
        err.print("interrupted: start the same command again to go on", markup=False)
        sys.exit(130)
    except Exception as error:
        from .errors import USER_ERRORS

        if os.environ.get("LM_EVAL_MUSE_DEBUG") or not isinstance(error, USER_ERRORS):
            raise
        err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(BAD_INPUT)
