"""Instruction sets on disk, with their audit."""
