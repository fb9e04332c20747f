"""Teachers: who or what writes preferences, queries and reasons."""
