"""A method that only writes generation settings unlearns nothing: it is not ranked."""

from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.records.schema import Record
from leaderboard.records.store import read_records
from leaderboard.standings.table import UNCHANGED, build_table
from leaderboard.submissions.benchmark_checks import benchmark_findings

METHOD = '''\
"""Forbids words in place of unlearning them."""

from dataclasses import dataclass

from unlearners import Unlearner, losses, register_unlearner


@register_unlearner("forbid_words")
@dataclass(frozen=True, kw_only=True)
class ForbidWords(Unlearner):
    """Writes a list of forbidden words next to the weights."""

    def begin(self, model, forget):
        model.generation_config.bad_words_ids = [[index] for index in range(40, 400)]
        return super().begin(model, forget)

    def loss(self, model, batch, reference):
        return {"loss": losses.token_nll(model(input_ids=batch.forget.input_ids).logits,
                                         batch.forget.input_ids)}
'''


@pytest.fixture(scope="module")
def records(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder = tmp_path_factory.mktemp("trick")
    plugin = folder / "forbid_words.py"
    plugin.write_text(METHOD)
    training = {"window": 128, "max_steps": 1, "learning_rate": 1e-30}
    config = small_world.write_config(
        folder, unlearn=[{"method": "forbid_words", "finetuning": "full"}], training=training
    )
    arguments = ["run", str(config), "--out", str(folder / "run"), "--plugin", str(plugin)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return read_records(folder / "run")


def one(records: list[Record], method: str, precision: str = "none") -> Record:
    (found,) = [
        r for r in records if (r.cell.training.method, r.cell.precision) == (method, precision)
    ]
    return found


@pytest.mark.parametrize("precision", ["none", "rtn-int4"])
def test_scores_are_the_targets(records: list[Record], precision: str) -> None:
    target, trick = (one(records, name, precision) for name in ("target", "forbid_words"))
    assert trick.metrics == target.metrics
    assert len(trick.generation_config["bad_words_ids"]) == 360
    assert "bad_words_ids" not in target.generation_config
    assert trick.is_unchanged


def test_row_is_not_ranked_and_says_so(records: list[Record]) -> None:
    rows = [row for row in build_table(records) if row.method == "forbid_words"]
    assert [row.ranked for row in rows] == [False, False]
    assert rows[0].notes == (UNCHANGED,)


def test_old_records_have_the_norm_alone(records: list[Record]) -> None:
    """Records of before the comparison have the size of the update of all linear layers."""
    trick = one(records, "forbid_words")
    facts = trick.provenance.training.model_copy(update={"changed_weights": None})
    provenance = trick.provenance.model_copy(update={"training": facts})
    old = trick.model_copy(update={"provenance": provenance})
    assert old.survival.update.norm == 0
    assert old.is_unchanged
    assert not old.model_copy(update={"survival": None}).is_unchanged
    assert not one(records, "target").is_unchanged


def test_validation_knows_it(records: list[Record]) -> None:
    named = {record.cell.stem: record for record in records}
    trick = one(records, "forbid_words").cell.stem
    found = [finding for finding in benchmark_findings(named) if finding.place == trick]
    (settings,) = [each for each in found if each.text.startswith("generation_config")]
    (weights,) = [each for each in found if each.text.startswith("no weight differs")]
    assert settings.text.startswith('generation_config: {"bad_words_ids": [[40], [41]')
    assert settings.text.endswith("the target has {}") and not settings.warning
    assert weights.warning


def test_settings_without_effect_may_differ(records: list[Record]) -> None:
    """Saving may add `do_sample` to settings of sampling, which greedy decoding ignores."""
    trick = one(records, "forbid_words").model_copy(
        update={"generation_config": {"do_sample": True, "temperature": 0.6}}
    )
    named = {"target": one(records, "target"), "trick": trick}
    assert not any("generation_config" in str(finding) for finding in benchmark_findings(named))
