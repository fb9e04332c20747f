#!/usr/bin/env bash
# irec launch configs/movietweetings_tiny.py --on local --out runs/movietweetings_tiny
set -euo pipefail

mkdir -p runs/movietweetings_tiny/launch
irec tune configs/movietweetings_tiny.py --out runs/movietweetings_tiny > runs/movietweetings_tiny/launch/process-0.log 2>&1 &
