"""Text of a finding: its severity, its place, and no untrusted character."""

from leaderboard.submissions.findings import Finding


def test_severity_comes_first() -> None:
    assert str(Finding("config.yaml", "name: is empty")) == "problem: config.yaml: name: is empty"
    warning = Finding("config.yaml", "limit: 6", warning=True)
    assert str(warning) == "warning: config.yaml: limit: 6"


def test_untrusted_text_is_one_line_of_ascii() -> None:
    """A line break, an escape sequence and reversed text, in the place and in the text."""
    finding = Finding("a\nb\x1b[31m", "größe \u202e")
    assert str(finding) == r"problem: a\nb\x1b[31m: gr\xf6\xdfe \u202e"


def test_long_text_is_cut() -> None:
    """500 characters and three dots; 500 characters are whole."""
    assert str(Finding("a", "x" * 501)) == f"problem: a: {'x' * 500}..."
    assert str(Finding("a", "x" * 500)) == f"problem: a: {'x' * 500}"
