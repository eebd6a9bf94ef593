"""Grids: their cells, the choice of some, the search for settings."""
