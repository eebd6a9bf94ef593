"""Commands on grids."""

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from leaderboard.cli import app


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_dry_run_lists_cells_and_runs_nothing(small_world: Any, tmp_path: Path) -> None:
    config = small_world.write_config(tmp_path)
    result = command("run", str(config), "--out", str(tmp_path / "run"), "--dry-run")
    assert result.exit_code == 0
    assert not (tmp_path / "run").exists()


def test_local_plugin_joins_a_grid(small_world: Any, tmp_path: Path) -> None:
    """A quantizer in a file of the user's, evaluated through the command line."""
    plugin = tmp_path / "zero.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from quantizers import Quantizer, register_quantizer\n"
        "@register_quantizer('halve')\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Halve(Quantizer):\n"
        "    bits = None\n"
        "    def __call__(self, model):\n"
        "        model.get_output_embeddings().weight.data.mul_(0.5)\n"
        "        return model\n"
    )
    config = small_world.write_config(tmp_path, precisions=["halve"], unlearn=[])
    folder = tmp_path / "run"
    result = command("run", str(config), "--out", str(folder), "--plugin", str(plugin))
    assert result.exit_code == 0, result.output
    assert "halve" in (folder / "table.md").read_text()
    again = command("table", str(folder))
    assert again.exit_code == 0
    assert "halve" in again.stdout


def test_dry_run_lists_and_estimates(small_world: Any, tmp_path: Path) -> None:
    """Three cells of one precision are run; the other precision's time is judged by them."""
    config = small_world.write_config(tmp_path)
    arguments = ("run", str(config), "--out", str(tmp_path / "run"))
    before = command(*arguments, "--dry-run")
    *cells, line = before.stdout.splitlines()
    assert [cell.split()[0] for cell in cells] == ["to"] * 6
    assert line == "6 cells, 0 recorded; no timing data yet for 7 trainings and cells"
    assert not (tmp_path / "run").exists()

    assert command(*arguments, "--only", "*--none--seed0").exit_code == 0
    after = command(*arguments, "--dry-run")
    assert after.stdout.count("recorded ") == 3
    assert "6 cells, 3 recorded; about 0:00:" in after.stdout
    assert "no timing data" not in after.stdout
    (row,) = command(*arguments, "--dry-run", "--only", "*retrain*int4*").stdout.splitlines()[:-1]
    assert row.startswith("to do")
