"""Rankers that a tuned model has to beat."""
