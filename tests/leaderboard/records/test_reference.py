"""Reference of the record format."""

import re
from pathlib import Path

import pytest

from leaderboard.records.reference import reference


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
