"""Identity of cells: nothing that changes a number is missing from their names."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.config import RunConfig, parse
from leaderboard.errors import InputError
from leaderboard.grid.plan import make_plan
from leaderboard.records.store import read_records


def stems(content: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the checkpoints and of the cells of a grid."""
    plan = make_plan(parse(RunConfig, content, "grid"))
    cells = [cell.cell.stem for planned in plan for cell in planned.cells]
    return [planned.training.stem for planned in plan], cells


def changed(small_world: Any, **evaluation: Any) -> tuple[list[str], list[str]]:
    return stems(small_world.config(evaluation={"limit": 6, **evaluation}))


def test_dtype_decides_checkpoints_and_cells(small_world: Any) -> None:
    """The small models are stored in float32, which `auto` therefore is."""
    auto, named, bfloat16, float16 = (
        changed(small_world, dtype=dtype) for dtype in ("auto", "float32", "bfloat16", "float16")
    )
    assert auto == named
    for checkpoints, cells in (bfloat16, float16):
        assert not {*checkpoints} & {*auto[0]}
        assert not {*cells} & {*auto[1]}
    assert not {*bfloat16[1]} & {*float16[1]}


def test_another_dtype_finds_nothing_recorded(small_world: Any, tmp_path: Path) -> None:
    config = small_world.write_config(tmp_path, unlearn=[], precisions=["none"])
    arguments = ["run", str(config), "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "2 cells, 2 recorded" in CliRunner().invoke(app, [*arguments, "--dry-run"]).output
    small_world.write_config(
        tmp_path, unlearn=[], precisions=["none"], evaluation={"limit": 6, "dtype": "bfloat16"}
    )
    assert "2 cells, 0 recorded" in CliRunner().invoke(app, [*arguments, "--dry-run"]).output


def test_tokenizer_decides_checkpoints_and_cells(small_world: Any, tmp_path: Path) -> None:
    """One of another folder, and one whose file was edited."""
    content = small_world.config()
    other = shutil.copytree(small_world.target, tmp_path / "other")
    tokenizer = other / "tokenizer_config.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"padding_side": "right"}))
    content["corpora"][0]["target"] = {"path": str(small_world.target), "tokenizer": str(other)}
    checkpoints, cells = stems(content)
    before = stems(small_world.config())
    assert checkpoints[0] != before[0][0]  # target
    assert checkpoints[1] == before[0][1]  # retrain, with its own
    assert checkpoints[2] != before[0][2]  # unlearned
    assert cells[0] != before[1][0]


def test_batch_size_counts_where_a_quantizer_looks_at_the_batch(small_world: Any) -> None:
    names = {}
    for size in (2, 3):
        content = small_world.config(
            precisions=["none", "rtn-int4", "bnb-int8"], evaluation={"batch_size": size}
        )
        names[size] = {*stems(content)[1]}
    assert {stem.split("--")[3] for stem in names[2] ^ names[3]} == {"bnb-int8"}


def test_chat_template_decides_cells_alone(small_world: Any) -> None:
    plain, wrapped = changed(small_world), changed(small_world, chat_template=True)
    assert plain[0] == wrapped[0]
    assert not {*plain[1]} & {*wrapped[1]}


def test_the_retrained_model_decides_cells_alone(small_world: Any, tmp_path: Path) -> None:
    """PrivLeak is measured from another zero; what is trained stays."""
    content = small_world.config()
    content["corpora"][0]["retrain"] = {"path": str(small_world.target)}
    checkpoints, cells = stems(content)
    before = stems(small_world.config())
    assert checkpoints[0::2] == before[0][0::2]
    assert not {*cells} & {*before[1]}


def test_the_corpus_own_zero_without_a_retrained_model(small_world: Any, tmp_path: Path) -> None:
    corpus = shutil.copytree(small_world.corpus, tmp_path / "corpus")
    content = small_world.config()
    content["corpora"] = [{"name": str(corpus), "target": {"path": str(small_world.target)}}]
    before = stems(content)
    (corpus / "retrain_auc.json").write_text('{"retrain_auc": 0.55}')
    after = stems(content)
    assert before[0] == after[0]
    assert not {*before[1]} & {*after[1]}


@pytest.mark.parametrize(
    ("evaluation", "source", "value"),
    [({}, "published", 0.4772), ({"subset": "test"}, "measured", None)],
)
def test_published_zero_is_for_all_texts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluation: dict[str, Any],
    source: str,
    value: float | None,
) -> None:
    (tmp_path / "news").mkdir()
    monkeypatch.setenv("MUSE_DATA_DIR", str(tmp_path))
    content = {"name": "g", "corpora": ["news"], "precisions": ["none"], "evaluation": evaluation}
    plan = make_plan(parse(RunConfig, content, "grid"))
    zero = plan[0].cells[0].cell.retrain_auc
    assert (zero.source, zero.value) == (source, value)
    training = plan[0].training
    assert training.dtype == "float32"
    assert training.tokenizer.name == "meta-llama/Llama-2-7b-hf"
    assert len(training.tokenizer.revision) == 40


def test_what_was_loaded_is_recorded(small_world: Any, tmp_path: Path) -> None:
    """bfloat16 weights at `none`, float32 ones cast by `bf16`; no survival where not wanted."""
    evaluation = {"limit": 6, "dtype": "bfloat16", "survival": False, "log_samples": False}
    config = small_world.write_config(tmp_path, precisions=["none"], evaluation=evaluation)
    assert (
        CliRunner().invoke(app, ["run", str(config), "--out", str(tmp_path / "a")]).exit_code == 0
    )
    for record in read_records(tmp_path / "a"):
        assert (record.dtype, record.bits) == ("bfloat16", None)
        assert record.survival is None
        assert record.samples is None
        assert len(record.examples["verbmem"].scores) == 6
    assert not (tmp_path / "a" / "survival").exists()
    assert "| target | — | bfloat16 |" in (tmp_path / "a" / "table.md").read_text()

    config = small_world.write_config(tmp_path, precisions=["bf16"])
    assert (
        CliRunner().invoke(app, ["run", str(config), "--out", str(tmp_path / "b")]).exit_code == 0
    )
    for record in read_records(tmp_path / "b"):
        assert (record.cell.training.dtype, record.dtype, record.bits) == (
            "float32",
            "bfloat16",
            16,
        )
    assert "| target | — | bf16 |" in (tmp_path / "b" / "table.md").read_text()


def test_prompts_in_a_chat_template(small_world: Any, tmp_path: Path) -> None:
    """Recorded and named in the title; a tokenizer without a template is told before training."""
    content = small_world.config(evaluation={"limit": 6, "chat_template": True})
    config = tmp_path / "grid.yaml"
    config.write_text(json.dumps(content))
    arguments = ["run", str(config), "--out", str(tmp_path / "run")]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, InputError)
    assert "evaluation.chat_template: the tokenizer of" in str(refused.exception)
    assert not (tmp_path / "run" / "checkpoints").exists()

    template = "{% for message in messages %}[{{ message.content }}]{% endfor %}"
    for role in ("target", "retrain"):
        folder = shutil.copytree(content["corpora"][0][role]["path"], tmp_path / role)
        (folder / "chat_template.jinja").write_text(template)
        (folder / "SHA256SUMS").unlink()
        content["corpora"][0][role] = {"path": str(folder)}
    config.write_text(json.dumps(content | {"unlearn": [], "precisions": ["none"]}))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "chat template" in (tmp_path / "run" / "table.md").read_text()
    for record in read_records(tmp_path / "run"):
        assert record.cell.chat_template
        assert set(record.metrics) == {"verbmem", "knowmem", "privleak", "utility"}
