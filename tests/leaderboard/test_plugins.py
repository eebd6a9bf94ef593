"""Plugin files: imported once, errors in one line."""

from pathlib import Path

import pytest

from leaderboard.errors import InputError
from leaderboard.plugins import load_plugin


def test_imported_once_for_each_content(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(f"open({str(tmp_path / 'log')!r}, 'a').write('a')")
    load_plugin(path)
    load_plugin(path)
    path.write_text(f"open({str(tmp_path / 'log')!r}, 'a').write('b')")
    load_plugin(path)
    assert (tmp_path / "log").read_text() == "ab"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def", "SyntaxError"),
    ],
)
def test_error_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_plugin(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such Python file"):
        load_plugin(tmp_path / "none.py")
