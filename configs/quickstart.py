"""The experiment of `irec quickstart`, to be changed by hand or on the command line.

Command: irec tune configs/quickstart.py && irec evaluate runs/quickstart
Device:  2 CPU cores (AMD EPYC)
Time:    3 minutes
Result:  sequential recommendation Recall@10 .365 [.351, .378], NDCG@10 .215 [.205, .223];
         product search .717 [.701, .734] and .489 [.473, .504] (full ranking, test)
"""

from irec_jax.cli.quickstart import EXPERIMENT

experiment = EXPERIMENT
