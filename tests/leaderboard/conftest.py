"""A small demo world with models of a few thousand weights, and records made by hand."""

import gc
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from harness_tasks.corpora.demo import DemoWorld, demo_corpus_folder
from leaderboard.cli import app
from leaderboard.corpora.demo_models import DemoRecipe, demo_models
from leaderboard.progress import Progress
from leaderboard.records.schema import (
    Cell,
    CorpusId,
    Metric,
    ModelId,
    Provenance,
    Record,
    Training,
)

from .trades import build

os.environ.setdefault("LM_EVAL_MUSE_ONEDNN", "1")  # the demo's models train faster

WORLD = DemoWorld(forget=10, retain=10, holdout=10)
RECIPE = DemoRecipe(vocabulary=400, hidden=32, layers=2, window=128, epochs=2)


@dataclass(frozen=True)
class SmallWorld:
    """Folders of a corpus and of the two models trained on it."""

    corpus: Path
    target: Path
    retrain: Path

    def config(self, **changes: Any) -> dict[str, Any]:
        """A grid of one method and two precisions that runs in seconds."""
        models = {"target": {"path": str(self.target)}, "retrain": {"path": str(self.retrain)}}
        return {
            "name": "small",
            "corpora": [{"name": str(self.corpus), **models}],
            "precisions": ["none", "rtn-int4"],
            "training": {"window": 128, "batch_size": 4, "max_steps": 2, "learning_rate": 1e-3},
            "unlearn": [{"method": "npo_gdr", "finetuning": "lora"}],
            "evaluation": {"limit": 6},
        } | changes

    def write_config(self, folder: Path, **changes: Any) -> Path:
        path = folder / "grid.yaml"
        path.write_text(yaml.safe_dump(self.config(**changes)))
        return path


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallWorld]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_EVAL_MUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        models = demo_models(WORLD, RECIPE)
        yield SmallWorld(demo_corpus_folder(WORLD), models.target, models.retrain)


BITS = {"rtn-int8": 8, "rtn-int4": 4, "rtn-int3": 3, "bnb-fp4": 4, "quanto-int4": 4, "bf16": 16}


def make_record(
    method: str,
    precision: str = "none",
    values: tuple[float | None, ...] = (50.0, 50.0, -50.0, 80.0),
    finetuning: str = "full",
    seed: int = 0,
    status: str = "done",
    reason: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Record:
    """A record with the given VerbMem, KnowMem, PrivLeak and Utility."""
    names = ("verbmem", "knowmem", "privleak", "utility")
    corpus = CorpusId(
        name="news",
        source="hub",
        revision="0" * 40,
        fingerprint="f",
        forget="raw/forget",
        retain="raw/retain1",
        max_documents=None,
    )
    training = Training(
        corpus=corpus,
        model=ModelId(name="target", revision="r"),
        tokenizer=ModelId(name="target", revision="t"),
        dtype="float32",
        method=method,
        params={},
        finetuning="none" if method in ("target", "retrain") else finetuning,
        finetuning_params={},
        settings={"seed": seed, **(settings or {})},
        seed=seed,
    )
    return Record(
        cell=Cell(
            training=training,
            precision=precision,
            quantizer=precision,
            quantizer_params={},
            limit=None,
        ),
        status=status,  # type: ignore[arg-type]
        reason=reason,
        bits=BITS.get(precision),
        dtype="float32",
        metrics={
            name: Metric(value=value, stderr=1.5)
            for name, value in zip(names, values, strict=True)
            if value is not None
        },
        provenance=Provenance(
            created="2026-01-01T00:00:00+00:00",
            packages={},
            python="3",
            platform="test",
            device="cpu",
            threads=1,
            git=None,
            tasks={},
            retrain_auc=0.5,
            seconds=None,
            peak_rss_mib=1,
        ),
    )


@pytest.fixture
def progress() -> Progress:
    """Bars that nobody sees."""
    return Progress(Console(quiet=True))


@pytest.fixture(scope="session")
def make() -> Any:
    """`make_record`, for tests that make many."""
    return make_record


BOUNDED_ASCENT = '''\
"""A method in a file of its own."""

from dataclasses import dataclass

from unlearners import Unlearner, losses, register_unlearner


@register_unlearner("bounded_ascent")
@dataclass(frozen=True, kw_only=True)
class BoundedAscent(Unlearner):
    """Gradient ascent on the forget set, up to a bound: `limit` nats per token.

    ```not the end of the block in a README```
    """

    limit: float = 5.0

    def loss(self, model, batch, reference):
        ids = batch.forget.input_ids
        return {"loss": -losses.token_nll(model(input_ids=ids).logits, ids).clamp(max=self.limit)}
'''


@dataclass(frozen=True)
class Packed:
    """A valid submission of a method in a file, and what it was made from."""

    folder: Path
    plugin: Path
    config: Path
    run: Path


@pytest.fixture(scope="session")
def packed(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    gc.freeze()  # every training collects garbage; what is imported takes long to go through
    root = tmp_path_factory.mktemp("packed")
    plugin = root / "bounded_ascent.py"
    plugin.write_text(BOUNDED_ASCENT)
    entry = {"finetuning": "lora", "finetuning_params": {"rank": 4}}
    config = small_world.write_config(
        root, unlearn=[{"method": name, **entry} for name in ("bounded_ascent", "npo_gdr")]
    )
    places = ["--out", str(root / "submissions"), "--run", str(root / "run")]
    arguments = ["submit", "--config", str(config), "--plugin", str(plugin), *places]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Packed(root / "submissions" / "bounded_ascent", plugin, config, root / "run")


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the contract check, which the methods passed when `packed` was built."""
    monkeypatch.setattr("leaderboard.submissions.submission.check_unlearner", lambda *_, **__: None)


@pytest.fixture(scope="session")
def trades(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example corpus, cut for a tokenizer of 400 words and a small context."""
    folder = tmp_path_factory.mktemp("corpora") / "trades"
    result = build(folder, small_world.target, "--prompt-tokens", 200, "--text-tokens", 300)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def copy(trades: Path, tmp_path: Path) -> Path:
    """A copy of it, which a test may write to."""
    return Path(shutil.copytree(trades, tmp_path / "trades"))
