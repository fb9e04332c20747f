"""Teachers: who writes the preferences, queries and reasons that a log does not hold."""
