"""Evaluation of any ranker over the whole catalog, with confidence intervals."""
