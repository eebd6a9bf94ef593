"""Requests of the tasks of MUSE to lm-eval's models."""
