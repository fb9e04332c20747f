"""Flan-T5-XXL tuned for recommendation on one v5p slice of 64 chips, weights sharded 16 ways.

"pretrained/flan-t5-xxl" is a folder with the published weights: config.json, the safetensors
files and tokenizer.json of google/flan-t5-xxl on the Hugging Face Hub.
This file reads configs/flan_t5_xl_v5e.py: keep both in one folder, also in a bucket.

Prepare: irec data prepare amazon PATH --out data/amazon
         irec instruct configs/flan_t5_xxl_v5p.py --packed sets/amazon-flan-t5-xxl --workers 32
Command: irec tune configs/flan_t5_xxl_v5p.py, planned with
         irec plan configs/flan_t5_xxl_v5p.py --topology v5p:4x4x4 --vocabulary 32128
Device:  v5p:4x4x4 (64 chips), planned only
Time:    2.1 to 3.3 hours for 20,000 steps (bounds: 375 to 592 ms per step)
Result:  planned: 22.3 of 95.74 GiB per chip in training, 8.6 in scoring, 8.0 in the beam search;
         MFU at most 94 % (docs/planning.md states the accuracy)
"""

import dataclasses
from pathlib import Path

from irec_jax.experiment.loading import load_experiment
from irec_jax.model.config import T5Config

PRETRAINED = "pretrained/flan-t5-xxl"

xl = load_experiment(Path(__file__).with_name("flan_t5_xl_v5e.py"))
experiment = dataclasses.replace(
    xl,
    tokens=dataclasses.replace(xl.tokens, tokenizer=PRETRAINED),
    model=T5Config.flan("xxl", compute=xl.model.compute, remat=xl.model.remat),
    train=dataclasses.replace(xl.train, pretrained=PRETRAINED, packed="sets/amazon-flan-t5-xxl"),
)
