"""Requests that the tasks of MUSE make of lm-eval's models."""
