"""A SLURM job: a process a node, saved before the limit, requeued until it is done."""

import math
import shlex

from irec_jax.launching.launch_plan import EXIT_BAD_INPUT, JobManifest, LaunchPlan

_BODY = """
# The processes meet at the first node. The port comes from the job, so that jobs do not collide.
export IREC_COORDINATOR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\
:$((10000 + SLURM_JOB_ID % 50000))"
export IREC_PROCESSES="$SLURM_NTASKS"
"""
# What srun must not do is said to it: processes of a run end each other, after they saved.
_STEP = """
# The attempt before this one has ended, on whatever node; the lock that it left is taken over.
over=
[ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ] && over=--take-over

# SLURM sends TERM {grace} seconds before the limit, to this script alone; srun passes it on.
# A trap ends `wait` early, so that it waits again until the command itself has ended.
trap 'again=1; kill -TERM "$step"' TERM
run() {{
  "$@" &
  step=$!
  again=1
  while [ "$again" = 1 ]; do
    again=0
    wait "$step"
    code=$?
  done
}}
{pack}
run srun --kill-on-bad-exit=0 --wait=0 bash -c 'IREC_PROCESS="$SLURM_PROCID" exec "$@"' irec \\
  {words} $over

# 0: done; {bad}: to be mended first; all else, such as 143 (saved and left) and 75 (a host was
# lost), goes on from the newest checkpoint.
if [ "$code" != 0 ] && [ "$code" != {bad} ] && \\
  [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""

# On the first node alone; rows that are there already are left as they are.
_PACK = """
# The packed rows are made once; a build that was ended goes on.
run {words}
[ "$code" = 0 ] && \\"""


def render(plan: LaunchPlan) -> JobManifest:
    """The job script for `sbatch`.

    It is to be submitted from the folder that the paths of the plan start in, on a disk that all
    nodes see, with `irec` on the PATH.
    """
    # B: the script alone, which decides what to do about it.
    options = {
        "job-name": plan.name,
        "nodes": str(plan.processes),
        "ntasks-per-node": "1",
        "gpus-per-node": str(plan.devices) if plan.devices else "",
        "time": _clock(plan.time_limit) if plan.time_limit else "",
        "partition": plan.partition,
        "account": plan.account,
        "signal": f"B:TERM@{_ahead(plan.grace)}",
        "output": f"{plan.name}-%j.log",
    }
    lines = ["#!/usr/bin/env bash", f"# {plan.made_by('slurm')}"]
    lines += [f"#SBATCH --{name}={value}" for name, value in options.items() if value]
    # The log of all attempts is one file.
    lines += ["#SBATCH --requeue", "#SBATCH --open-mode=append"]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in plan.variables().items()]
    step = _STEP.format(
        pack=_PACK.format(words=shlex.join(plan.pack_words())) if plan.packed else "",
        words=shlex.join(plan.words()),
        grace=_ahead(plan.grace),
        bad=EXIT_BAD_INPUT,
        restarts=plan.restarts,
    )
    text = "\n".join([*lines, *(["", *exports] if exports else []), ""]) + _BODY + step
    return JobManifest(text, ".sbatch", ("sbatch",))


def _clock(minutes: int) -> str:
    days, minutes = divmod(minutes, 24 * 60)
    return f"{days}-{minutes // 60:02}:{minutes % 60:02}:00"


def _ahead(grace: int) -> int:
    """SLURM looks about once a minute: whole minutes, and never fewer than one."""
    return 60 * math.ceil(grace / 60)
