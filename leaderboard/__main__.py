"""``python -m leaderboard`` is ``lm-eval-muse``."""

from .cli.app import main

if __name__ == "__main__":
    main()
