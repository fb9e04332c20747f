"""Exit codes of the `irec` command and of the processes of a run.

130 and 143 are 128 plus the signal's number, as shells and schedulers expect; 75 is `EX_TEMPFAIL`
of sysexits.h.
"""

EXIT_OK = 0
"""Everything is done."""
EXIT_CHECK_FAILED = 1
"""A check failed: a plan does not fit, an export differs, or a launch failed."""
EXIT_BAD_INPUT = 2
"""The input, the settings or the command line are wrong; a restart would end the same way."""
EXIT_LOST = 75
"""Another process of the run was lost; the run is worth starting again."""
EXIT_INTERRUPTED = 130
"""SIGINT (Ctrl-C) arrived, and everything is saved."""
EXIT_TERMINATED = 143
"""SIGTERM arrived, and everything is saved."""
