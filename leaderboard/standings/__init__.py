"""Rows, scores and errors, computed from records."""
