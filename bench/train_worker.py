"""Worker process of one side of `bench/train.py`: trains one repeat per line of its input.

    python train_worker.py '{"side": "ours", "layout": "packed", ...}'

It warms up and prints its parameters, versions and fill; then it runs one repeat per line of
standard input and prints its figures. `bench/train.py` starts it with the interpreter of the side.
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

FIRST_STEPS, WARM_STEPS = 2, 3
"""Numbers of first steps that may compile, and of steps before the first repeat."""
RATE = 1e-3
EXAMPLES = 4_000
"""Enough for all repeats of the side with the most examples per batch."""
COMPILED = "/jax/core/compile/backend_compile_duration"
TICKS = os.sysconf("SC_CLK_TCK")


def prepare(settings: dict[str, Any]) -> Prepared:
    """Builds the step of a side; its packages are imported only here."""
    side, arguments = settings["side"], (SHAPES[settings["shape"]], RATE, settings["compute"])
    if side in ("ours", "flax"):
        return importlib.import_module(f"train_{side}").prepare(*arguments)
    return importlib.import_module("train_torch").prepare(
        *arguments, variant=side, lengths=settings["layout"], threads=settings["threads"]
    )


def cpu_seconds() -> float:
    """Returns user and system seconds of this process and its descendants, also of ended ones."""
    children = os.times()
    total = time.process_time() + children.children_user + children.children_system
    return total + sum(_cpu_seconds_of(process) for process in _descendants(os.getpid()))


def _descendants(process: int) -> list[int]:
    pids = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            pids += [child, *_descendants(child)]
    return pids


def _cpu_seconds_of(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0.0
    # User and system time of the process and of its ended children (proc(5), fields 14-17).
    return sum(map(int, fields[11:15])) / TICKS


def compilations(side: str) -> list[str]:
    """Returns a list that grows by one per program that JAX compiles; for torch it stays empty."""
    events: list[str] = []
    if side in ("ours", "flax"):
        import jax

        def record(event: str, duration: float, **_: Any) -> None:
            if event == COMPILED:
                events.append(event)

        jax.monitoring.register_event_duration_secs_listener(record)
    return events


def main(settings: dict[str, Any]) -> None:
    """Warms up, and runs a repeat per line of standard input."""
    if settings["keep_memory"]:
        from irec_jax.model.host_memory import keep_freed_memory

        keep_freed_memory()
    shape = SHAPES[settings["shape"]]
    compiled = compilations(settings["side"])
    step, parameters, versions = prepare(settings)
    rows = list(
        batches(examples(settings["data"], shape["vocabulary"], EXAMPLES), settings["layout"])
    )
    tokens, positions = sum(r.tokens() for r in rows), sum(r.positions() for r in rows)
    position = WARM_STEPS
    warm = rows[:position]
    if settings["layout"] == "stepped":  # one program per shape
        ahead = rows[position : position + settings["steps"] * settings["repeats"]]
        warm += list({r.inputs.shape + r.targets.shape: r for r in ahead}.values())
    for batch in warm[:FIRST_STEPS]:
        second_loss = step(batch)
    programs = len(compiled)
    for batch in warm[FIRST_STEPS:]:
        step(batch)
    ready = {"parameters": parameters, "versions": versions, "fill": tokens / positions}
    print(json.dumps(ready | {"second_loss": second_loss}), flush=True)
    for _ in sys.stdin:
        step(rows[position % len(rows)])  # caches are cold after the other sides
        tokens, loss = 0, 0.0
        wall, cpu = time.perf_counter(), cpu_seconds()
        for _ in range(settings["steps"]):
            batch = rows[position % len(rows)]
            position += 1
            loss = step(batch)
            tokens += batch.tokens()
        cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
        assert np.isfinite(loss)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        figures = {"tokens": tokens, "cpu_s": cpu, "wall_s": wall, "peak_gib": peak, "loss": loss}
        later = len(compiled) - programs
        print(json.dumps(figures | {"programs": programs, "later_programs": later}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
