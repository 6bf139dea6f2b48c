"""Scores that tell the truth about Korean summaries."""
