"""The table in the forms people read."""
