"""The experiment of `irec quickstart`, to be changed by hand or on the command line.

Command: irec tune configs/quickstart.py && irec evaluate runs/quickstart
Device:  2 CPU cores (AMD EPYC)
Time:    3 minutes
Result:  sequential recommendation Recall@10 .353 [.339, .366], NDCG@10 .202 [.193, .210];
         product search .708 [.690, .726] and .477 [.462, .492] (full ranking, test)
"""

from irec_jax.cli.quickstart import EXPERIMENT

experiment = EXPERIMENT
