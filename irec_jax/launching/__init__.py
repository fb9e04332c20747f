"""Launch targets: from a plan of a run to a job file or to running processes."""
