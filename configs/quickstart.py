"""The experiment of `irec quickstart`, to be changed by hand or on the command line.

Command: irec tune configs/quickstart.py --train.steps 3000 && irec evaluate runs/quickstart
Device:  2 CPU cores
"""

from irec_jax.cli.quickstart import EXPERIMENT

experiment = EXPERIMENT
