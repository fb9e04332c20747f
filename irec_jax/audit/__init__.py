"""The audit of instruction sets: leaks, bias and coverage."""
