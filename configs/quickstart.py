"""The experiment of `irec quickstart`, as a file to edit or to override.

Command: irec tune configs/quickstart.py && irec evaluate runs/quickstart
Device:  2 CPU cores (AMD EPYC)
Time:    4 minutes
Result:  sequential recommendation Recall@10 .370 [.357, .382], NDCG@10 .215 [.206, .224];
         product search .731 [.713, .748] and .505 [.489, .520] (full ranking, test);
         satisfaction with the requests of shop_en .996 [.99, 1.00]
"""

from irec_jax.cli.quickstart import EXPERIMENT

experiment = EXPERIMENT
