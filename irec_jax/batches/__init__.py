"""Packed token batches of static shapes."""
