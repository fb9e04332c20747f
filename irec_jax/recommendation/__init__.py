"""From a tuned run to recommendations."""
