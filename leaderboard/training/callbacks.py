"""Callbacks of the Hugging Face Trainer."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..progress import Progress


class TrainingProgress(TrainerCallback):
    """Tells the progress bar about every optimizer step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """One more step is done."""
        self._progress.steps(state.global_step, state.max_steps)
