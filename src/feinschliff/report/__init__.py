"""A study's outputs: the self-contained HTML page, the terminal leaderboard, the schema reference."""
