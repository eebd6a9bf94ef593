"""Corpora without a folder of the user's."""

import pytest

from harness_tasks.corpora.corpus import DATA_DIR_VARIABLE


@pytest.fixture(autouse=True)
def no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
