"""Commands that list methods, quantizers and corpora."""

import subprocess
import sys
from pathlib import Path


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leaderboard", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_lists() -> None:
    for name, expected in (("methods", "npo_gdr"), ("quantizers", "rtn-int4")):
        result = command(name)
        assert result.returncode == 0
        assert expected in result.stdout
        assert "lm-eval-muse" in result.stdout
