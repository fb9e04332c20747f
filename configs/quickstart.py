"""The experiment of `irec quickstart`, to be changed by hand or on the command line.

Command: irec tune configs/quickstart.py && irec evaluate runs/quickstart
Device:  2 CPU cores (AMD EPYC)
Time:    @@T@@
Result:  @@R@@
"""

from irec_jax.cli.quickstart import EXPERIMENT

experiment = EXPERIMENT
