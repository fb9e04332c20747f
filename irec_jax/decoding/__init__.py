"""Likelihoods of items and a search that cannot leave the catalog."""
