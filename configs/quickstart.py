"""The experiment of `irec quickstart`, as a file to edit or to override.

Command: irec tune configs/quickstart.py && irec evaluate runs/quickstart
Device:  2 CPU cores (AMD EPYC)
Time:    3 minutes
Result:  sequential recommendation Recall@10 .364 [.351, .377], NDCG@10 .212 [.203, .220];
         product search .725 [.707, .742] and .493 [.477, .508] (full ranking, test)
"""

from irec_jax.cli.quickstart import EXPERIMENT

experiment = EXPERIMENT
