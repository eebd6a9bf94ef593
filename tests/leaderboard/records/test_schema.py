"""The record format: identity, version 1, layout of the files."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from leaderboard.records import schema
from leaderboard.records import survival as survival_schema
from leaderboard.records.json_text import dumps
from leaderboard.records.reference import reference
from leaderboard.records.schema import (
    ExampleScores,
    ModelId,
    Record,
    RetrainAuc,
    digest,
)
from leaderboard.records.store import parse_record, read_record, record_text
from leaderboard.records.survival import (
    LayerSurvival,
    Rounding,
    SurvivalReport,
    Update,
)

MakeRecord = Callable[..., Record]

VERSION_1 = {
    "schema_version": 1,
    "cell": {
        "training": {
            "corpus": {
                "name": "demo",
                "source": "generated",
                "revision": None,
                "fingerprint": "b587c2997e8340249bcaa170678f8512a92f71a7ef239e1c50eb222e4c03b502",
                "forget": "raw/forget",
                "retain": "raw/retain1",
                "max_documents": None,
            },
            "model": {"name": "demo-target", "revision": "recipe:5550f204"},
            "method": "target",
            "params": {},
            "finetuning": "none",
            "finetuning_params": {},
            "settings": {},
            "seed": 0,
            "fold": None,
        },
        "precision": "bf16",
        "quantizer": "bf16",
        "quantizer_params": {},
        "subset": "final",
        "limit": None,
        "extra_tasks": [],
    },
    "status": "done",
    "reason": None,
    "metrics": {"verbmem": {"value": 99.5, "stderr": 0.25}},
    "survival": None,
    "calibration": None,
    "extra": {},
    "samples": None,
    "provenance": {
        "created": "2026-11-22T02:31:18+00:00",
        "packages": {},
        "python": "3.11.7",
        "platform": "Linux",
        "device": "cpu",
        "threads": 1,
        "git": None,
        "tasks": {},
        "retrain_auc": 0.41,
        "seconds": None,
        "peak_rss_mib": 979,
    },
    "sha256": None,
}


def test_version_1_is_read_as_what_it_is() -> None:
    record = parse_record(VERSION_1)
    assert record.schema_version == 1
    assert record.cell.training.dtype is None
    assert record.cell.training.tokenizer is None
    assert (record.cell.quantizer, record.cell.precision) == ("none", "none")
    assert record.cell.subset == "test"
    assert (record.bits, record.dtype, record.examples) == (None, None, {})
    assert record.metrics["verbmem"].low is None


def test_version_1_keeps_its_name() -> None:
    """The digest is of the JSON that version 1 wrote, computed here from that alone."""
    text = json.dumps(VERSION_1["cell"], sort_keys=True, separators=(",", ":"))
    import hashlib

    expected = hashlib.sha256(text.encode()).hexdigest()[:8]
    record = parse_record(VERSION_1)
    assert record.cell.stem == f"demo--target--none--bf16--seed0--{expected}"
    training = json.dumps(VERSION_1["cell"]["training"], sort_keys=True, separators=(",", ":"))
    assert digest(record.cell.training) == hashlib.sha256(training.encode()).hexdigest()[:8]


@pytest.mark.parametrize("lost", ["cell", "provenance"])
def test_half_a_record_of_version_1_is_refused(lost: str) -> None:
    content = {key: value for key, value in VERSION_1.items() if key != lost}
    with pytest.raises(ValueError, match=lost):
        parse_record(content)


def test_survival_of_version_1_keeps_the_precision_of_the_record() -> None:
    crossing = {"changed_indices": 0.13, "changed_scales": 1.0, "largest_move": 1.6}
    total = {"parameters": 4, "norm": 3.0, "relative_norm": 0.05, "effective_rank": 29.5}
    report = {"total": total | {"crossings": {"rtn-int4": crossing}}, "kinds": {}, "layers": {}}
    cell = VERSION_1["cell"] | {
        "precision": "rtn-int4",
        "quantizer": "rtn-int4",
        "quantizer_params": {"bits": 4},
    }
    record = parse_record(VERSION_1 | {"cell": cell, "survival": report})
    assert record.bits == 4
    assert record.survival.update.relative_norm == 0.05
    assert record.survival.rounding.changed_indices == 0.13
    assert record.survival.rounding.kept_share is None


CHANGES = [
    ("dtype", lambda cell: cell.training.model_copy(update={"dtype": "bfloat16"})),
    (
        "tokenizer",
        lambda cell: cell.training.model_copy(
            update={"tokenizer": ModelId(name="other", revision="r")}
        ),
    ),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_loading_decides_checkpoint_and_cell(make: MakeRecord, name: str, change) -> None:
    cell = make("npo").cell
    other = cell.model_copy(update={"training": change(cell)})
    assert other.training.stem != cell.training.stem
    assert other.stem != cell.stem


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"chat_template": True},
        {"retrain_auc": RetrainAuc(source="published", value=0.4772, model=None)},
    ],
)
def test_evaluation_decides_the_cell_alone(make: MakeRecord, change) -> None:
    cell = make("npo").cell
    other = cell.model_copy(update=change)
    assert other.stem != cell.stem
    assert other.training.stem == cell.training.stem


def test_every_field_is_documented() -> None:
    """A description ends as a sentence does; sub-models are described where they are defined."""
    undocumented = [
        f"{model.__name__}.{name}"
        for module in (schema, survival_schema)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, BaseModel) and model.model_fields
        for name, field in model.model_fields.items()
        if not (field.description or "").endswith((".", ")"))
    ]
    assert undocumented == []


def test_a_file_is_read_back(make: MakeRecord, tmp_path) -> None:
    examples = {"verbmem": ExampleScores(examples=(0, 2), scores=(33.333333, None))}
    record = make("npo").model_copy(update={"examples": examples})
    path = tmp_path / f"{record.cell.stem}.json"
    path.write_text(record_text(record))
    found = read_record(path)
    assert found == record


def test_a_record_fits_a_screen(make: MakeRecord) -> None:
    """Numbers of 100 examples and a metric take a line each."""
    examples = ExampleScores(examples=tuple(range(100)), scores=(12.345678,) * 100)
    text = record_text(make("npo").model_copy(update={"examples": {"verbmem": examples}}))
    assert len(text.splitlines()) < 100
    assert '"verbmem": {"value": 50.0, "stderr": 1.5, "low": null, "high": null}' in text


def test_layout_of_json() -> None:
    value = {"a": [1, 2.5, None], "long": {"key": "x" * 100, "list": list(range(60))}, "empty": {}}
    text = dumps(value)
    assert json.loads(text) == value
    assert text.splitlines()[0] == "{"
    assert ' "a": [1, 2.5, null],' in text
    assert any(line.startswith('  "list": [0, 1') for line in text.splitlines())
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"a": float("nan")})


def layer(kept: float) -> LayerSurvival:
    update = Update(parameters=4, norm=1.0, relative_norm=0.123456789, effective_rank=2.0)
    rounding = Rounding(kept_share=kept, noise=0.5, zeroed_share=0.25)
    return LayerSurvival(update=update, rounding={"rtn-int4": rounding})


def test_numbers_have_six_digits() -> None:
    assert layer(1 / 3).rounding["rtn-int4"].kept_share == 0.333333
    assert layer(1.0).update.relative_norm == 0.123457
    with pytest.raises(ValidationError):
        layer(float("nan"))


def test_reports_of_a_checkpoint_are_merged() -> None:
    def report(precision: str, kept: float) -> SurvivalReport:
        part = LayerSurvival(
            update=layer(kept).update, rounding={precision: layer(kept).rounding["rtn-int4"]}
        )
        return SurvivalReport(
            checkpoint="c", total=part, kinds={"q_proj": part}, layers={"0.q_proj": part}
        )

    merged = report("rtn-int8", 0.9).merge(report("rtn-int4", 0.5)).merge(report("rtn-int8", 1.0))
    for part in (merged.total, merged.kinds["q_proj"], merged.layers["0.q_proj"]):
        assert {name: found.kept_share for name, found in part.rounding.items()} == {
            "rtn-int4": 0.5,
            "rtn-int8": 1.0,
        }


def test_the_documentation_is_current() -> None:
    """`docs/records.md` ends in what ``python -m leaderboard.records.reference`` prints."""
    text = (Path(__file__).parents[3] / "docs" / "records.md").read_text(encoding="utf-8")
    assert text.partition("## Fields\n\n")[2] == reference()


def test_the_documented_example_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs" / "records.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(root)
    exec(compile(code, "docs/records.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 190
