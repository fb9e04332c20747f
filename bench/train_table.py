"""Table and JSON file of the measurements of `bench/train.py`."""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

UNITS = {"cpu_s": "tokens/CPU-s", "wall_s": "tokens/s"}
WIDTH = 26


def speeds(worker: Any, unit: str) -> list[float]:
    """Returns the real tokens per second of each repeat."""
    return [repeat["tokens"] / repeat[unit] for repeat in worker.repeats]


def summary(workers: list[Any]) -> dict[str, dict[str, Any]]:
    """Computes medians, extremes and the ratio of ours to each side, by side."""
    figures_of = {}
    for worker in workers:
        figures_of[worker.name] = {
            "layout": worker.side.layout,
            "as_installed": not worker.side.avx512,
            **worker.ready,
            "peak_gib": max(repeat["peak_gib"] for repeat in worker.repeats),
            "repeats": worker.repeats,
        }
        for unit in UNITS:
            values = speeds(worker, unit)
            middle, low, high = statistics.median(values), min(values), max(values)
            figures_of[worker.name][unit] = {"median": middle, "lowest": low, "highest": high}
    for entry in figures_of.values():
        for unit in UNITS:
            ours = figures_of.get("ours", {}).get(unit)
            entry[unit]["ours_over_it"] = ours and ours["median"] / entry[unit]["median"]
    return figures_of


def report(workers: list[Any], missing: dict[str, str], options: argparse.Namespace) -> None:
    """Prints the table, and writes it with every repeat as JSON if `--json` is set."""
    figures_of = summary(workers)
    setting = (options.shape, options.data, options.compute, f"{options.threads} thread(s)")
    print(f"{', '.join(setting)}; medians of {options.repeats} repeats of {options.steps} steps")
    head = "".join(f"{unit:>14}{'low':>8}{'high':>8}{'ours/it':>9}" for unit in UNITS.values())
    print(f"{'':{WIDTH}}{head}{'fill':>6}{'GiB':>6}")
    for name, entry in figures_of.items():
        print(f"{name:{WIDTH}}{_figures(entry)}{entry['fill']:6.2f}{entry['peak_gib']:6.1f}")
    for line in _ratios_to_peers(figures_of):
        print(line)
    for name, entry in figures_of.items():
        last = entry["repeats"][-1]
        if name == "ours" or last["later_programs"]:
            print(
                f"{name}: {last['later_programs']} programs compiled after the second step", end=""
            )
            print(f" ({last['programs']} before)")
    if options.json:
        text = json.dumps(_json_figures(figures_of, missing, options), indent=1)
        partial = options.json.with_name(options.json.name + ".part")
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, options.json)


def _figures(entry: dict[str, Any]) -> str:
    text = ""
    for unit in UNITS:
        figures = entry[unit]
        ratio = figures["ours_over_it"]
        text += f"{figures['median']:14,.0f}{figures['lowest']:8,.0f}{figures['highest']:8,.0f}"
        text += f"{ratio:9.2f}" if ratio else f"{'':9}"
    return text


def _ratios_to_peers(figures_of: dict[str, dict[str, Any]]) -> list[str]:
    """Formats the ratio of ours to the fastest peer of each kind, per CPU-second."""
    if "ours" not in figures_of:
        return []
    peers = {name: entry["cpu_s"] for name, entry in figures_of.items() if name != "ours"}
    kinds = {
        "peer as installed": [name for name in peers if figures_of[name]["as_installed"]],
        "JAX peer": [name for name in peers if name.startswith("flax")],
        "peer on MKL's AVX-512 path": [
            name for name in peers if not figures_of[name]["as_installed"]
        ],
    }
    lines = []
    for kind, names in kinds.items():
        if names:
            fastest = max(names, key=lambda name: peers[name]["median"])
            ratio = peers[fastest]["ours_over_it"]
            lines.append(f"ours over the fastest {kind} ({fastest}), per CPU-second: {ratio:.2f}")
    return lines


def _json_figures(
    figures_of: dict[str, dict[str, Any]], missing: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    names = ("shape", "data", "compute", "threads", "repeats")
    names += ("steps", "keep_memory")
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "options": {name: getattr(options, name) for name in names},
        "processor": models[0].split(":", 1)[1].strip() if models else "",
        "cores": os.cpu_count(),
        "sides": figures_of,
        "left_out": missing,
    }
