"""The demo world: its text, its models, and what its grid must show."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from harness_tasks.corpora import load_corpus
from harness_tasks.corpora.demo import DemoWorld
from leaderboard.cli.grid import DEMO_CONFIG
from leaderboard.config import load_config
from leaderboard.corpora.demo_models import DemoRecipe, demo_models, train_tokenizer
from leaderboard.execution.runner import Runner
from leaderboard.grid.plan import make_plan
from leaderboard.models.folders import load_model
from leaderboard.progress import Progress
from leaderboard.records.schema import METRICS, Record
from leaderboard.records.store import RunFolder, read_records
from leaderboard.standings.estimates import of_record
from leaderboard.standings.scores import forgot
from unlearners import UnlearningData, get_unlearner
from unlearners.finetuning import get_finetuning
from unlearners.training import TrainingSettings


def test_prompt_ends_as_training_text_goes_on() -> None:
    """The ids of a prompt that ends in a space begin the ids of prompt and answer."""
    tokenizer = train_tokenizer(DemoWorld(), 1024)
    prompt = "Question: Where was Mila Koru born?\nAnswer: "
    ids = tokenizer(prompt)["input_ids"]
    assert tokenizer(prompt + "Lonul")["input_ids"][: len(ids)] == ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == prompt


def test_same_seed_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = DemoWorld(forget=10, retain=10, holdout=10)
    recipe = DemoRecipe(vocabulary=400, hidden=32, layers=1, window=64, epochs=1)
    weights = []
    for name in ("one", "two"):
        monkeypatch.setenv("LM_EVAL_MUSE_CACHE", str(tmp_path / name))
        weights.append(load_file(demo_models(world, recipe).target / "model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize(("dtype", "moved"), [("float32", 0.9), ("bfloat16", 0.5)])
def test_dtype_of_training_decides_what_moves(tmp_path: Path, dtype: str, moved: float) -> None:
    """NPO+GDR on the demo target, 5 steps at 2e-5: float32 weights nearly all move, bfloat16 few.

    A bfloat16 weight moves only where a step is not small beside it: those that do are small.
    Of the float32 ones, embeddings of tokens that stand in no window stay.
    """
    folder = demo_models().target
    before = load_file(folder / "model.safetensors")
    model, tokenizer = load_model(str(folder))
    corpus = load_corpus("demo")
    texts = {name: corpus.texts(f"raw/{name}")[:6] for name in ("forget", "retain1")}
    unlearned = get_unlearner("npo_gdr")(
        model,
        tokenizer,
        UnlearningData(forget=texts["forget"], retain=texts["retain1"]),
        finetuning=get_finetuning("full"),
        training=TrainingSettings(
            learning_rate=2e-5, max_steps=5, window=96, batch_size=4, weights_dtype=dtype
        ),
        output_dir=tmp_path,
    )
    after = unlearned.state_dict()
    rounded = {name: weight.to(getattr(torch, dtype)) for name, weight in before.items()}
    changed = {name: after[name].to(getattr(torch, dtype)) != w for name, w in rounded.items()}
    share = sum(int(c.sum()) for c in changed.values()) / sum(c.numel() for c in changed.values())
    size = torch.cat([before[name][mask].abs() for name, mask in changed.items()]).mean()
    average = torch.cat([weight.abs().flatten() for weight in before.values()]).mean()
    if dtype == "float32":
        assert share > moved
    else:
        assert 0 < share < moved
        assert size < average / 2


@pytest.fixture(scope="module")
def demo_records(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Record]:
    """The released demo grid: references and its first method, at the first and last precision."""
    config = load_config(DEMO_CONFIG)
    config = config.model_copy(
        update={
            "unlearn": config.unlearn[:1],
            "precisions": [config.precisions[0], config.precisions[-1]],
        }
    )
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "demo", config.name)
    Runner(config, folder, Progress(Console(file=io.StringIO()))).run(make_plan(config))
    return {(r.cell.training.method, r.cell.precision): r for r in read_records(folder.path)}


def values(record: Record) -> dict[str, Any]:
    return {name: metric.value for name, metric in record.metrics.items()}


@pytest.mark.parametrize("precision", ["none", "rtn-int4"])
def test_target_remembers(demo_records: dict[tuple[str, str], Record], precision: str) -> None:
    target = values(demo_records["target", precision])
    assert target["verbmem"] >= 95
    assert target["knowmem"] >= 95
    assert target["utility"] >= 95
    assert target["privleak"] < -90


@pytest.mark.parametrize("precision", ["none", "rtn-int4"])
def test_retrain_never_knew(demo_records: dict[tuple[str, str], Record], precision: str) -> None:
    retrain = values(demo_records["retrain", precision])
    assert retrain["knowmem"] <= 10
    assert retrain["utility"] >= 90


def test_privleak_is_measured_from_the_retrain_model(
    demo_records: dict[tuple[str, str], Record],
) -> None:
    record = demo_records["retrain", "none"]
    assert record.metrics["privleak"].value == pytest.approx(0)
    assert record.provenance.retrain_auc is not None
    assert 0.3 < record.provenance.retrain_auc < 0.7


@pytest.mark.parametrize("precision", ["none", "rtn-int4"])
def test_a_method_forgets_and_stays_useful(
    demo_records: dict[tuple[str, str], Record], precision: str
) -> None:
    cell, target, retrain = (
        {name: of_record(demo_records[method, precision], name) for name in METRICS}
        for method in ("npo_gdr", "target", "retrain")
    )
    assert forgot(cell, target, retrain)
    assert cell["utility"].value >= 80
