"""A SLURM job: one process per node, saved before the time limit, requeued until it is done."""

import dataclasses
import math
import shlex

from irec_jax.bounds import check_numbers
from irec_jax.exit_codes import EXIT_BAD_INPUT, EXIT_LOST, EXIT_TERMINATED
from irec_jax.launching.launch_plan import Allocation, JobFile, LaunchPlan
from irec_jax.launching.target_checks import (
    PROCESS_RANGES,
    RESTARTS,
    check_name,
)

_BODY = """
# The processes connect at the first node. The port is derived from the job's number, so that jobs
# do not collide.
export IREC_COORDINATOR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\
:$((10000 + SLURM_JOB_ID % 50000))"
export IREC_PROCESSES="$SLURM_NTASKS"
"""
# srun must not end the other tasks: processes of a run end each other after they have saved.
_STEP = """
# The attempt before this one has ended, on whatever node; the lock that it left is taken over.
over=
[ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ] && over=--take-over

# SLURM sends TERM {grace} seconds before the limit, to this script alone; srun forwards it.
# A trap interrupts `wait`, so that the loop waits again until the command itself has ended.
trap 'signaled=1; kill -TERM "$step"' TERM
run() {{
  "$@" &
  step=$!
  signaled=1
  while [ "$signaled" = 1 ]; do
    signaled=0
    wait "$step"
    code=$?
  done
}}
{pack}
run srun --kill-on-bad-exit=0 --wait=0 bash -c 'IREC_PROCESS="$SLURM_PROCID" exec "$@"' irec \\
  {command} $over

# {bad} is an error that a restart would repeat. Other codes, such as {terminated} (saved after
# SIGTERM) and {lost} (a host was lost), resume from the newest checkpoint.
if [ "$code" != 0 ] && [ "$code" != {bad} ] && \\
  [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""

# On the first node alone; complete rows are left as they are.
_PACK = """
# The packed rows are made once; a build that was ended resumes.
run {command}
[ "$code" = 0 ] && \\"""


@dataclasses.dataclass(frozen=True)
class SlurmTarget:
    """A SLURM job, requeued until the run is done.

    Submit it from the folder to which the paths are relative, on a disk that all nodes share,
    with `irec` on the PATH.

    Attributes:
        processes: Number of nodes, with one process each.
        devices: GPUs per node; 0 for those that the partition gives.
        time_limit: Minutes of one attempt, after which the job is requeued; 0 for the limit of the
            partition.
        grace: Seconds before the time limit at which the run saves, rounded up to minutes.
        restarts: Number of times that the job is requeued.
        partition: SLURM partition.
        account: SLURM account.
        take_over: Take the lock that a launch or tune of another host left in the run folder.
    """

    processes: int = 1
    devices: int = 0
    time_limit: int = 0
    grace: int = 300
    restarts: int = 100
    partition: str = ""
    account: str = ""
    take_over: bool = False

    def allocation(self) -> Allocation:
        """Returns the GPUs of all nodes, if their number is given."""
        return Allocation(self.processes * self.devices)

    def check(self, plan: LaunchPlan) -> None:
        """Refuses numbers that are out of bounds and malformed names."""
        check_numbers(self, "--", **PROCESS_RANGES, restarts=RESTARTS)
        for key, value in (("partition", self.partition), ("account", self.account)):
            if value:
                check_name(key, value)

    def render(self, plan: LaunchPlan) -> JobFile:
        """Renders the job script for `sbatch`."""
        options = {
            "job-name": plan.name,
            "nodes": str(self.processes),
            "ntasks-per-node": "1",
            "gpus-per-node": str(self.devices) if self.devices else "",
            "time": _duration(self.time_limit) if self.time_limit else "",
            "partition": self.partition,
            "account": self.account,
            # B: the signal goes to the script alone, which decides how to handle it.
            "signal": f"B:TERM@{_whole_minutes(self.grace)}",
            "output": f"{plan.name}-%j.log",
        }
        lines = ["#!/usr/bin/env bash", f"# {plan.launch_command(self)}"]
        lines += [f"#SBATCH --{name}={value}" for name, value in options.items() if value]
        # The log of all attempts is one file.
        lines += ["#SBATCH --requeue", "#SBATCH --open-mode=append"]
        variables = plan.variables().items()
        exports = [f"export {name}={shlex.quote(value)}" for name, value in variables]
        step = _STEP.format(
            pack=_PACK.format(command=shlex.join(plan.pack_command())) if plan.packed else "",
            command=shlex.join(plan.tune_command(take_over=self.take_over)),
            grace=_whole_minutes(self.grace),
            bad=EXIT_BAD_INPUT,
            lost=EXIT_LOST,
            terminated=EXIT_TERMINATED,
            restarts=self.restarts,
        )
        text = "\n".join([*lines, *(["", *exports] if exports else []), ""]) + _BODY + step
        return JobFile(text, ".sbatch", ("sbatch",), ("sbatch",))


def _duration(minutes: int) -> str:
    days, minutes = divmod(minutes, 24 * 60)
    return f"{days}-{minutes // 60:02}:{minutes % 60:02}:00"


def _whole_minutes(seconds: int) -> int:
    """Rounds seconds up to whole minutes: SLURM checks about once a minute."""
    return 60 * math.ceil(seconds / 60)
