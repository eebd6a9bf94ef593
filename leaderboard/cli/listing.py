"""Commands that list schemas, methods, quantizers and corpora."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from .common import PluginOption, load_plugins, out

app = typer.Typer()


@app.command()
def schema(
    kind: Annotated[
        Literal["run", "sweep", "record", "survival"], typer.Argument(help="Kind of file.")
    ] = "run",
) -> None:
    """Print the JSON schema of a configuration or of a result.

    Editors check the YAML of a grid (run) or a search (sweep) against it; a record and a survival
    report are documented by it, field by field.
    """
    import json

    from pydantic import BaseModel

    from ..config import RunConfig
    from ..grid.sweep import SweepConfig
    from ..records.schema import Record
    from ..records.survival import SurvivalReport

    models: dict[str, type[BaseModel]] = {
        "run": RunConfig,
        "sweep": SweepConfig,
        "record": Record,
        "survival": SurvivalReport,
    }
    typer.echo(json.dumps(models[kind].model_json_schema(), indent=1))


@app.command()
def methods(plugin: PluginOption = None) -> None:
    """List unlearning methods with their package, parameters and defaults."""
    from unlearners import get_unlearner, list_unlearners

    load_plugins(plugin)
    _list_registered("Method", list_unlearners(), get_unlearner)


@app.command()
def quantizers(plugin: PluginOption = None) -> None:
    """List quantizers with their package, parameters and defaults."""
    from quantizers import get_quantizer, list_quantizers

    load_plugins(plugin)
    _list_registered("Quantizer", list_quantizers(), get_quantizer)


@app.command()
def corpora() -> None:
    """List corpora with their location and retrain AUC."""
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


def _list_registered(title: str, names: dict[str, str], build: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from ..errors import USER_ERRORS

    rows = Table(title, "From", "Parameters")
    for name, distribution in names.items():
        try:
            params = ", ".join(f"{k}={v}" for k, v in build(name).to_dict().items())
        except USER_ERRORS as error:  # a parameter without a default
            params = str(error)
        rows.add_row(name, distribution, escape(params) or "—")
    out.print(rows)
