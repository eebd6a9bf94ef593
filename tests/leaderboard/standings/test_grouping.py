"""Boards, seeds and names that tell rows apart."""

from collections.abc import Callable

import pytest

from leaderboard.errors import InputError
from leaderboard.records.schema import ModelId, Record
from leaderboard.report.markdown import markdown
from leaderboard.standings.grouping import settings_digest
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]
Recorded = Callable[..., Record]


def test_titles_of_boards(make: MakeRecord, recorded: Recorded) -> None:
    """Titles name restrictions, and extra tasks only if they tell two boards apart."""
    record = make("npo")
    half = recorded(record, limit=5, subset="test")
    assert [row.board.title for row in build_table([half])] == ["news, test half, first 5 examples"]
    more = recorded(record, extra_tasks=("arc",))
    assert [row.board.title for row in build_table([more])] == ["news"]
    assert [row.board.title for row in build_table([more, record])] == ["news", "news with arc"]
    other_text = record.cell.training.corpus.model_copy(update={"fingerprint": "g"})
    titles = {
        row.board.title for row in build_table([record, recorded(record, {"corpus": other_text})])
    }
    assert len(titles) == 2
    assert all(title.startswith("news [") for title in titles)


def test_the_same_text_from_another_source_is_the_same_board(
    make: MakeRecord, recorded: Recorded
) -> None:
    record = make("npo")
    local = record.cell.training.corpus.model_copy(update={"source": "local", "revision": None})
    rows = build_table([record, recorded(record, {"corpus": local, "method": "ga"})])
    assert len({row.board for row in rows}) == 1


def test_two_records_of_one_cell_are_refused(make: MakeRecord) -> None:
    """Copies under two names, as after a merge of folders: neither silently takes the place."""
    record = make("npo", seed=1)
    with pytest.raises(InputError, match="two records are of the same cell: news--npo--full--none"):
        build_table([record, record.model_copy(update={"metrics": {}})])


def test_quantizers_of_one_name_are_distinguished(make: MakeRecord, recorded: Recorded) -> None:
    record = make("npo", "rtn-int4")
    rows = build_table([record, recorded(record, quantizer_params={"group_size": 64})])
    assert len(rows) == 2
    assert all(f"rtn-int4 \\[{row.quantizer}\\]" in markdown("t", rows) for row in rows)


def test_other_settings_are_another_row(make: MakeRecord) -> None:
    rows = build_table([make("npo", settings={"epochs": n, "batch_size": 8}) for n in (1, 2)])
    assert sorted(row.setting for row in rows) == ["epochs 1", "epochs 2"]
    named = [make("npo", settings={"weights_dtype": of}) for of in ("bfloat16", "float32")]
    assert sorted(row.setting for row in build_table(named)) == ["bfloat16", "float32"]
    assert "| npo [epochs 1] | full | float32 |" in markdown("t", rows).replace("\\", "")


def test_other_models_are_distinguished_by_digests(make: MakeRecord) -> None:
    """The first two have the same settings; the third differs in its epochs."""
    records = [make("npo", settings={"epochs": n}) for n in (1, 1, 2)]
    training = records[1].cell.training
    other = training.model_copy(update={"model": ModelId(name="other", revision="r")})
    cell = records[1].cell.model_copy(update={"training": other})
    records[1] = records[1].model_copy(update={"cell": cell})
    assert sorted(row.setting for row in build_table(records)) == sorted(
        [settings_digest(training), settings_digest(other), "epochs 2"]
    )
