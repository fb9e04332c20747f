"""Experiments: the config tree, its files, and what is made from them."""
