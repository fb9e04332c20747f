"""Baselines: rankers that a tuned model is compared with."""
