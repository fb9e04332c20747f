"""Memory, collectives, time and cost of a run, compiled for devices that are not present."""
