"""Readers and escaping of files that anybody may have written."""
