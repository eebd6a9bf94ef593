"""Readers of untrusted files, and escaping of untrusted text."""
