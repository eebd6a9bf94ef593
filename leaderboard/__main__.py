"""``python -m leaderboard`` is ``lm-eval-muse``."""

from .cli import main

if __name__ == "__main__":
    main()
