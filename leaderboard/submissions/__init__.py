"""Submissions to the leaderboard: packed by their authors, checked and collected by others."""
