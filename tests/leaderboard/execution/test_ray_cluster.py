"""The same grid here and on a Ray cluster; a worker that dies; a folder with fewer files."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from leaderboard.config import RunConfig
from leaderboard.errors import InputError
from leaderboard.execution import ray_cluster
from leaderboard.execution.ray_cluster import ray_executor
from leaderboard.execution.runner import Outcome, Runner
from leaderboard.grid.plan import make_plan
from leaderboard.plugins import load_plugin
from leaderboard.progress import Progress
from leaderboard.records.store import RunFolder, read_records, read_samples

ray = pytest.importorskip("ray")

WEIGHTS = "checkpoints/*/model/model.safetensors"

# registers a method that kills its process, as often as there are files to remove
KILLER = """
import os, pathlib, signal
from dataclasses import dataclass
from unlearners import register_unlearner
from unlearners.methods.gradient_ascent import GradientAscent

@register_unlearner("killed")
@dataclass(frozen=True, kw_only=True)
class Killed(GradientAscent):
    lives: str

    def loss(self, model, batch, reference):
        for life in pathlib.Path(self.lives).glob("*"):
            life.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch, reference)
"""


def outcome_of(
    config: RunConfig, folder: Path, progress: Progress, plugins: tuple[Path, ...] = ()
) -> Outcome:
    store = RunFolder(folder, config.name)
    executor = ray_executor(None, plugins, config)
    with store.lock():
        return Runner(config, store, progress, executor=executor).run(make_plan(config))


def test_same_records_as_here(small_world: Any, tmp_path: Path, progress: Progress) -> None:
    """LoRA and full: all but time, memory and the moment; a second run finds everything done.

    Without a terminal every cell is a line when it is done.
    """
    log = StringIO()
    entries = [{"method": "npo_gdr", "finetuning": name} for name in ("lora", "full")]
    config = RunConfig.model_validate(small_world.config(unlearn=entries))
    logged = Progress(Console(file=log))
    assert outcome_of(config, tmp_path / "ray", logged) == Outcome(done=8)
    done = [line for line in log.getvalue().splitlines() if line.endswith(" done")]
    assert [line.partition(" ")[0] for line in done] == [f"[{i}/8]" for i in range(1, 9)]
    assert sum(line.endswith(" npo_gdr lora: rtn-int4 done") for line in done) == 1
    here = RunFolder(tmp_path / "here", config.name)
    Runner(config, here, progress).run(make_plan(config))
    found, wanted = read_records(tmp_path / "ray"), read_records(here.path)
    for one, other in zip(found, wanted, strict=True):
        assert (one.cell, one.metrics, one.survival) == (other.cell, other.metrics, other.survival)
        assert one.samples == other.samples is not None
        assert read_samples(tmp_path / "ray", one) == read_samples(here.path, other)
        assert one.provenance.threads == 1
    weights = [
        {path.parent.parent.name: path.read_bytes() for path in folder.glob(WEIGHTS)}
        for folder in (tmp_path / "ray", here.path)
    ]
    assert weights[0] == weights[1]
    assert [name.split("--")[2] for name in sorted(weights[0])] == ["full", "lora"]
    assert outcome_of(config, tmp_path / "ray", progress) == Outcome(kept=8)


def test_killed_worker_is_replaced(
    small_world: Any, tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One death: the cell is done by the second worker. Death at every attempt: it failed."""
    plugin = tmp_path / "killer.py"
    plugin.write_text(KILLER)
    load_plugin(plugin)
    entries = []
    monkeypatch.setattr(ray_cluster, "ATTEMPTS", 2)
    for deaths in (1, 2):
        lives = tmp_path / f"{deaths}_lives"
        lives.mkdir()
        for number in range(deaths):
            (lives / str(number)).touch()
        entries.append({"method": "killed", "finetuning": "lora", "params": {"lives": str(lives)}})
    config = RunConfig.model_validate(small_world.config(precisions=["none"], unlearn=entries))
    outcome = outcome_of(config, tmp_path / "run", progress, (plugin,))
    assert outcome == Outcome(done=3, failed=1)
    (failed,) = [record for record in read_records(tmp_path / "run") if record.status != "done"]
    assert failed.reason is not None and "2 workers were lost" in failed.reason
    assert failed.cell.training.params["lives"].endswith("2_lives")


def test_users_mistake_in_a_worker_stays_one_line(
    small_world: Any, tmp_path: Path, progress: Progress
) -> None:
    config = RunConfig.model_validate(small_world.config(precisions=["none"], unlearn=[]))
    plan = make_plan(config)
    store = RunFolder(tmp_path / "run", config.name)
    broken = config.model_copy(update={"corpora": []})  # refused where the worker reads it
    with pytest.raises(InputError, match=r"^configuration: corpora: ") as caught, store.lock():
        Runner(config, store, progress, executor=ray_executor(None, (), broken)).run(plan)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_no_cluster_at_the_address(small_world: Any, address: str) -> None:
    config = RunConfig.model_validate(small_world.config())
    with pytest.raises(InputError, match="no Ray cluster answers there"):
        ray_executor(address, (), config)
