"""The experiment of `irec quickstart`, as a file to edit or to override.

Command: irec tune configs/quickstart.py && irec evaluate runs/quickstart
Device:  2 CPU cores (AMD EPYC)
Time:    4 minutes
Result:  sequential recommendation Recall@10 .368 [.354, .381], NDCG@10 .216 [.207, .225];
         product search .728 [.711, .743] and .498 [.482, .513] (full ranking, test);
         satisfaction with the requests of shop_en .989 [.98, 1.00]
"""

from irec_jax.cli.quickstart import EXPERIMENT

experiment = EXPERIMENT
