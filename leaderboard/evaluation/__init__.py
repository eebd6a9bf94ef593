"""Evaluation of a model with the tasks of MUSE."""
