"""Other distributions with packages of the same names."""

import pytest

from harness_tasks import import_conflicts


def test_other_distribution_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = {"quantizers": ["lm-eval-muse", "quantizers"], "leaderboard": ["lm_eval_muse"]}
    monkeypatch.setattr(import_conflicts, "packages_distributions", lambda: owners)
    (line,) = import_conflicts.foreign_owners()
    assert "the package 'quantizers' of lm-eval-muse is also installed by quantizers" in line
    assert "pip uninstall quantizers" in line


def test_this_environment_has_none() -> None:
    assert import_conflicts.foreign_owners() == []
