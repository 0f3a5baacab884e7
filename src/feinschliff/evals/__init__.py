"""What an answer is worth (graders, run), and what many of them show (stats, compare, cost, verdict)."""
