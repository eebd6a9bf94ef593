"""Detect other distributions that install a package under one of this project's names."""

from __future__ import annotations

from importlib.metadata import packages_distributions

DISTRIBUTION = "lm-eval-muse"
PACKAGES = ("harness_tasks", "unlearners", "quantizers", "leaderboard")


def foreign_owners() -> list[str]:
    """Describe each of our import names that a foreign distribution also owns, with a remedy."""
    owners = packages_distributions()
    return [
        f"the package '{package}' of {DISTRIBUTION} is also installed by {foreign}, and one "
        f"hides the other: `pip uninstall {foreign}`, then reinstall {DISTRIBUTION}"
        for package in PACKAGES
        for foreign in sorted(set(owners.get(package, ())))
        if foreign.replace("_", "-").lower() != DISTRIBUTION
    ]
