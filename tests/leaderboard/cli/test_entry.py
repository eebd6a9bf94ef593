import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.cli import app


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leaderboard", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_bad_input_is_one_line_and_exit_code_2(small_world: Any, tmp_path: Path) -> None:
    config = small_world.write_config(tmp_path, precisions=["rtn-in4"])
    result = command("run", str(config), "--out", str(tmp_path / "run"))
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        "error: precisions.0: unknown quantizer 'rtn-in4': did you mean rtn-int4"
    )
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = command("--debug", "run", str(tmp_path / "none.yaml"))
    assert result.returncode != 0
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table", "nowhere"), "no run found there"),
        (("run", "nowhere.yaml"), "cannot be read"),
        (("run", "grid.yaml", "--plugin", "none.py"), "no such Python file"),
        (("evaluate", "--model", "nowhere", "--corpus", "demos"), "unknown corpus 'demos'"),
        (("evaluate", "--model", "./nowhere", "--corpus", "{corpus}"), "no such model folder"),
        (
            ("evaluate", "--model", "{target}", "--corpus", "{corpus}", "--quantizer", "int4"),
            "unknown quantizer 'int4'",
        ),
        (
            (
                *("unlearn", "--method", "npo", "--model", "{target}", "--corpus", "{corpus}"),
                *("--out", "{target}"),
            ),
            "is not empty",
        ),
        (
            (
                *("unlearn", "--method", "npo", "--model", "{target}", "--corpus", "{corpus}"),
                *("--out", "new", "--param", "beta"),
            ),
            "expected name=value",
        ),
    ],
)
def test_mistakes_of_each_command(
    small_world: Any, tmp_path: Path, monkeypatch: Any, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {"corpus": str(small_world.corpus), "target": str(small_world.target)}
    result = CliRunner().invoke(app, [text.format(**folders) for text in arguments])
    assert result.exit_code == 1  # `main` turns the exception into one line
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_text_too_short_for_min_k(small_world: Any, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(small_world.corpus, corpus)
    (corpus / "privleak" / "forget.json").write_text('["", "x y z"]')
    (corpus / "retrain_auc.json").write_text('{"retrain_auc": 0.5}')
    result = command("evaluate", "--model", str(small_world.target), "--corpus", str(corpus))
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "text 0 has no token to score" in line
    assert "Traceback" not in result.stderr
