"""YAML files of the tasks."""

from harness_tasks.compat import task_index

from ..evaluating import task_manager


def test_every_published_task_has_its_corpus_and_the_generic_settings() -> None:
    """Groups have four tasks on one corpus, which otherwise equal the generic tasks."""
    index = task_index(task_manager("{}"))
    for corpus in ("books", "news", "demo"):
        names = [f"muse_{corpus}_{t}" for t in ("verbmem", "knowmem", "privleak", "utility")]
        assert index[f"muse_{corpus}"].cfg["task"] == names
        for name in [*names, f"muse_{corpus}_mia", f"muse_{corpus}_memorization"]:
            generic = index[name.replace(f"_{corpus}", "")].cfg
            own = index[name].cfg
            assert own["dataset_name"] == corpus
            assert {k: v for k, v in own.items() if k not in ("task", "dataset_name")} == {
                k: v for k, v in generic.items() if k != "task"
            }
