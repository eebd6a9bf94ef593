"""Differences between a record and its repetition, and between two environments."""

from __future__ import annotations

from typing import Any

from leaderboard.execution.verification import differences, environment_differences
from leaderboard.records.schema import Metric


def test_tolerance_is_the_recorded_standard_error(make: Any) -> None:
    """Recorded 50 ± 1.5: 51.5 is covered elsewhere, 51.6 is not, and here neither is."""
    recorded = make("npo")

    def found(value: float) -> Any:
        metrics = recorded.metrics | {"verbmem": Metric(value=value, stderr=1.0)}
        return recorded.model_copy(update={"metrics": metrics})

    def allowed(value: float, exact: bool) -> dict[str, bool]:
        return {d.path: d.allowed for d in differences(recorded, found(value), exact=exact)}

    value, stderr = "metrics.verbmem.value", "metrics.verbmem.stderr"
    assert allowed(51.5, exact=False) == {value: True, stderr: True}
    assert allowed(51.6, exact=False) == {value: False, stderr: True}
    assert allowed(51.5, exact=True) == {value: False, stderr: False}
    assert differences(recorded, recorded, exact=True) == []
    failed = recorded.model_copy(update={"status": "failed", "metrics": {}, "reason": "why"})
    places = {d.path for d in differences(recorded, failed, exact=False) if not d.allowed}
    assert {"status", "reason", "metrics.verbmem.value"} <= places


def test_environment(make: Any) -> None:
    """Packages that were not there then do not count; commit, memory and moment never do."""
    was = make("npo").provenance.model_copy(update={"packages": {"torch": "2.6", "peft": "1"}})
    now = was.model_copy(
        update={
            "packages": {"torch": "2.7", "bitsandbytes": "1"},
            "threads": 2,
            "git": "abc",
            "peak_rss_mib": 5,
        }
    )
    assert environment_differences(was, was) == []
    assert environment_differences(was, now) == [
        "threads: 1 recorded, 2 here",
        "torch: 2.6 recorded, 2.7 here",
        "peft: 1 recorded, None here",
    ]
