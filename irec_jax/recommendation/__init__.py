"""Recommendations and generated texts of a tuned run."""
