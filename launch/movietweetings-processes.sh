#!/usr/bin/env bash
# irec launch configs/movietweetings_tiny.py --on processes --out runs/movietweetings_tiny --devices 1
set -euo pipefail

# A free port of this host, where the processes connect.
port=29431

mkdir -p runs/movietweetings_tiny/launch
IREC_COORDINATOR=localhost:$port IREC_PROCESSES=2 IREC_PROCESS=0 JAX_NUM_CPU_DEVICES=1 JAX_LOCAL_DEVICE_IDS=0 irec tune configs/movietweetings_tiny.py --out runs/movietweetings_tiny > runs/movietweetings_tiny/launch/process-0.log 2>&1 &
IREC_COORDINATOR=localhost:$port IREC_PROCESSES=2 IREC_PROCESS=1 JAX_NUM_CPU_DEVICES=1 JAX_LOCAL_DEVICE_IDS=1 irec tune configs/movietweetings_tiny.py --out runs/movietweetings_tiny > runs/movietweetings_tiny/launch/process-1.log 2>&1 &
wait
