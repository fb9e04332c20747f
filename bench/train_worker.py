"""A side of `bench/train.py` at work: one process, which trains when it is told to.

    python train_worker.py '{"side": "ours", "layout": "packed", ...}'

It warms up, prints what it is, then runs one repeat for each line that it reads, and prints what
the repeat took. Started by `bench/train.py`, with the interpreter of the side.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from train_data import SHAPES, Prepared, batches, examples

FIRST_STEPS = 2
"""Steps that may compile."""
RATE = 1e-3
EXAMPLES = 4_000
"""Enough for all repeats of the side that puts most examples into a batch."""
COMPILED = "/jax/core/compile/backend_compile_duration"
TICKS = os.sysconf("SC_CLK_TCK")


def prepare(told: dict[str, Any]) -> Prepared:
    """Builds the model of a side; its packages are imported only here."""
    side, given = told["side"], (SHAPES[told["shape"]], RATE, told["compute"])
    if side in ("ours", "flax"):
        return importlib.import_module(f"train_{side}").prepare(*given)
    return importlib.import_module("train_torch").prepare(
        *given, variant=side, lengths=told["layout"], threads=told["threads"]
    )


def cpu_seconds() -> float:
    """User and system seconds of this process and of all below it, dead or alive."""
    children = os.times()
    total = time.process_time() + children.children_user + children.children_system
    return total + sum(_spent(process) for process in _descendants(os.getpid()))


def _descendants(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_descendants(child)]
    return found


def _spent(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0.0
    # User and system time, its own and of its children that have ended (proc(5), fields 14-17).
    return sum(map(int, fields[11:15])) / TICKS


def compilations(side: str) -> list[str]:
    """A list that grows by one with each program that JAX compiles; for torch it stays empty."""
    seen: list[str] = []
    if side in ("ours", "flax"):
        import jax

        def took(event: str, duration: float, **_: Any) -> None:
            if event == COMPILED:
                seen.append(event)

        jax.monitoring.register_event_duration_secs_listener(took)
    return seen


def main(told: dict[str, Any]) -> None:
    """Warms up and answers."""
    if told["keep_memory"]:
        from irec_jax.model.host_memory import keep_freed_memory

        keep_freed_memory()
    shape = SHAPES[told["shape"]]
    compiled = compilations(told["side"])
    step, parameters, versions = prepare(told)
    rows = list(batches(examples(told["data"], shape["vocabulary"], EXAMPLES), told["layout"]))
    tokens, places = sum(r.tokens() for r in rows), sum(r.places() for r in rows)
    at = max(told["warm"], FIRST_STEPS)
    warm = rows[:at]
    if told["layout"] == "stepped":  # each shape is a program of its own
        ahead = rows[at : at + told["steps"] * told["repeats"]]
        warm += list({r.inputs.shape + r.targets.shape: r for r in ahead}.values())
    for batch in warm[:FIRST_STEPS]:
        second_loss = step(batch)
    programs = len(compiled)
    for batch in warm[FIRST_STEPS:]:
        step(batch)
    ready = {"parameters": parameters, "versions": versions, "fill": tokens / places}
    print(json.dumps(ready | {"second_loss": second_loss}), flush=True)
    for _ in sys.stdin:
        for _ in range(told["settle"]):
            step(rows[at % len(rows)])
        tokens, loss = 0, 0.0
        wall, cpu = time.perf_counter(), cpu_seconds()
        for _ in range(told["steps"]):
            batch = rows[at % len(rows)]
            at += 1
            loss = step(batch)
            tokens += batch.tokens()
        cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
        assert np.isfinite(loss)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        done = {"tokens": tokens, "cpu_s": cpu, "wall_s": wall, "peak_gib": peak, "loss": loss}
        later = len(compiled) - programs
        print(json.dumps(done | {"programs": programs, "later_programs": later}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
