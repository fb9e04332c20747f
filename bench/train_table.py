"""What `bench/train.py` prints and writes of its measurements."""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

UNITS = {"cpu_s": "tokens/CPU-s", "wall_s": "tokens/s"}
WIDTH = 26


def speeds(worker: Any, unit: str) -> list[float]:
    """Real tokens per second of each repeat."""
    return [done["tokens"] / done[unit] for done in worker.repeats]


def summary(workers: list[Any]) -> dict[str, dict[str, Any]]:
    """Medians, extremes and how many times as fast ours is, by side."""
    found = {}
    for worker in workers:
        found[worker.name] = {
            "layout": worker.side.layout,
            "as_installed": not worker.side.avx512,
            **worker.ready,
            "peak_gib": max(done["peak_gib"] for done in worker.repeats),
            "repeats": worker.repeats,
        }
        for unit in UNITS:
            values = speeds(worker, unit)
            middle, low, high = statistics.median(values), min(values), max(values)
            found[worker.name][unit] = {"median": middle, "lowest": low, "highest": high}
    for entry in found.values():
        for unit in UNITS:
            ours = found.get("ours", {}).get(unit)
            entry[unit]["ours_over_it"] = ours and ours["median"] / entry[unit]["median"]
    return found


def report(workers: list[Any], missing: dict[str, str], options: argparse.Namespace) -> None:
    """Prints the table and, if asked for, writes it with every repeat as JSON."""
    found = summary(workers)
    what = (options.shape, options.data, options.compute, f"{options.threads} thread(s)")
    print(f"{', '.join(what)}; medians of {options.repeats} repeats of {options.steps} steps")
    head = "".join(f"{unit:>14}{'low':>8}{'high':>8}{'ours/it':>9}" for unit in UNITS.values())
    print(f"{'':{WIDTH}}{head}{'fill':>6}{'GiB':>6}")
    for name, entry in found.items():
        print(f"{name:{WIDTH}}{_figures(entry)}{entry['fill']:6.2f}{entry['peak_gib']:6.1f}")
    for line in _against(found):
        print(line)
    for name, entry in found.items():
        last = entry["repeats"][-1]
        if name == "ours" or last["later_programs"]:
            print(
                f"{name}: {last['later_programs']} programs compiled after the second step", end=""
            )
            print(f" ({last['programs']} before)")
    if options.json:
        text = json.dumps(_written(found, missing, options), indent=1)
        beside = options.json.with_name(options.json.name + ".part")
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, options.json)


def _figures(entry: dict[str, Any]) -> str:
    text = ""
    for unit in UNITS:
        figures = entry[unit]
        ratio = figures["ours_over_it"]
        text += f"{figures['median']:14,.0f}{figures['lowest']:8,.0f}{figures['highest']:8,.0f}"
        text += f"{ratio:9.2f}" if ratio else f"{'':9}"
    return text


def _against(found: dict[str, dict[str, Any]]) -> list[str]:
    """Ours against the fastest of several kinds of peers, per CPU-second."""
    if "ours" not in found:
        return []
    peers = {name: entry["cpu_s"] for name, entry in found.items() if name != "ours"}
    kinds = {
        "peer as installed": [name for name in peers if found[name]["as_installed"]],
        "JAX peer": [name for name in peers if name.startswith("flax")],
        "peer on MKL's AVX-512 path": [name for name in peers if not found[name]["as_installed"]],
    }
    lines = []
    for kind, names in kinds.items():
        if names:
            fastest = max(names, key=lambda name: peers[name]["median"])
            ratio = peers[fastest]["ours_over_it"]
            lines.append(f"ours over the fastest {kind} ({fastest}), per CPU-second: {ratio:.2f}")
    return lines


def _written(
    found: dict[str, dict[str, Any]], missing: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    kept = ("shape", "data", "compute", "threads", "repeats")
    kept += ("steps", "settle", "warm", "keep_memory")
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "options": {name: getattr(options, name) for name in kept},
        "processor": models[0].split(":", 1)[1].strip() if models else "",
        "cores": os.cpu_count(),
        "sides": found,
        "left_out": missing,
    }
