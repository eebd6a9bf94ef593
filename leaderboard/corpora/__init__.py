"""Corpora with their target and retrained models."""
