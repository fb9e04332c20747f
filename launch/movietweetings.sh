#!/usr/bin/env bash
# From the MovieTweetings 100k log to a report and a recommendation, on one machine.
# usage: bash launch/movietweetings.sh FOLDER   (holds items.tsv.gz and interactions.tsv.gz)
set -euo pipefail
source_folder="${1:?missing FOLDER with items.tsv.gz and interactions.tsv.gz}"

irec data prepare movietweetings "$source_folder" --out data/movietweetings
irec data describe data/movietweetings
irec tune configs/movietweetings_tiny.py
irec evaluate runs/movietweetings_tiny
irec recommend runs/movietweetings_tiny --history "Skyfall" "Argo" "Looper" -k 5 --explain
irec export runs/movietweetings_tiny --to hf --out exports/movietweetings_tiny
