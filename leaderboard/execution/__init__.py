"""Execution of a grid: checkpoints, workers, and where they run."""
