"""The audit of instruction sets: leaks, bias and a page with a sample."""
