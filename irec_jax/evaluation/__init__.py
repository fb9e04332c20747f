"""Grades any ranker over the whole catalog, with intervals."""
