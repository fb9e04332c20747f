"""`irec plan`: memory, collectives, time and cost of a run on devices that are not present."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from irec_jax.bounds import COUNT_OR_NONE, PRICE, Range, check_numbers
from irec_jax.errors import InputError
from irec_jax.exit_codes import EXIT_CHECK_FAILED
from irec_jax.experiment.loading import load_experiment
from irec_jax.files import write_text
from irec_jax.planning.compiled import FAST_EFFORT, FULL_EFFORT, Memory, to_plain
from irec_jax.planning.cost import FILL, RunCost
from irec_jax.planning.limits import check_plan_can_fit
from irec_jax.planning.programs import PROGRAMS
from irec_jax.planning.run_plan import RunPlan, make_inputs, make_plan, mesh_sizes
from irec_jax.planning.search import SearchResult, search
from irec_jax.planning.topology import Topology
from irec_jax.progress import print_status
from irec_jax.settings import to_json
from irec_jax.terminal import Console


@dataclasses.dataclass(frozen=True)
class PlanCommand:
    """Compiles a run for devices that are not present, and reports memory, time and cost.

    The train, score and decode programs are compiled by the compiler of the devices: libtpu for a
    TPU slice (pip install 'irec-jax[tpu]'; no TPU is needed), and for `local` that of this
    machine. Exits with 0 if the run fits, and with 1 if it does not; then the smallest change that
    makes it fit is printed. docs/planning.md states the accuracy of each figure. Example:

        irec plan configs/flan_t5_xl_v5e.py --topology v5e:8x8 --price-per-chip-hour 1.2

    Attributes:
        experiment: A Python file that defines `experiment`; any of its settings can be set after
            it.
        topology: v4:2x2x1, v5e:8x8, v5p:4x4x4, v6e:4x4, tpu7x:2x2x1, two slices v5e:4x4*2, or
            local.
        slices: Number of slices, if the topology does not contain it.
        programs: Programs to compile.
        vocabulary: Rows of the embedding; 0 estimates them without reading the log.
        items: Number of items; 0 takes it from the log's manifest, or assumes one.
        fill: Share of token positions of packed rows that are not padding.
        price_per_chip_hour: Dollars per chip-hour.
        full_effort: Compile with the full effort of a run, in two to four times the time; by
            default only programs near the memory limit are.
        search: Try meshes, batch sizes and remat policies, and print the best ten.
        tries: Maximum number of them to compile.
        json: A file that receives all figures.
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    topology: str
    slices: int = 1
    programs: tuple[str, ...] = ("train", "score", "decode")
    vocabulary: int = 0
    items: int = 0
    fill: float = FILL
    price_per_chip_hour: float = 0.0
    full_effort: bool = False
    search: bool = False
    tries: int = 16
    json: Path | None = None

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Runs the command.

        Args:
            overrides: `--section.key value` arguments for the experiment.

        Raises:
            InputError: A setting is out of bounds, or the topology does not exist.
            SystemExit: The run does not fit.
        """
        _check(self)
        experiment = load_experiment(self.experiment, overrides, "plan")
        topology = Topology.parse(self.topology, self.slices)
        inputs = make_inputs(experiment, topology, vocabulary=self.vocabulary, items=self.items)
        check_plan_can_fit(inputs)
        for note in inputs.notes:
            print_status(note)
        figures: dict[str, Any] = {"topology": str(topology), "notes": list(inputs.notes)}
        console = Console()
        fits = True
        if self.search:
            results = search(
                inputs,
                tries=self.tries,
                fill=self.fill,
                price=self.price_per_chip_hour,
                report=print_status,
            )
            console.print(search_table(results, str(topology)))
            figures["found"] = [_plain_result(result) for result in results]
            fits = bool(results)
        else:
            plan = make_plan(
                inputs,
                programs=self.programs,
                fill=self.fill,
                price=self.price_per_chip_hour,
                effort=FULL_EFFORT if self.full_effort else FAST_EFFORT,
                report=print_status,
            )
            print_plan(console, plan)
            figures |= plain_plan(plan)
            fits = plan.fits
        if self.json:
            write_text(self.json, json.dumps(figures, indent=2) + "\n")
            console.print(f"All figures are in {self.json}.", markup=False)
        if not fits:
            sys.exit(EXIT_CHECK_FAILED)


def _check(command: PlanCommand) -> None:
    check_numbers(
        command,
        "--",
        fill=Range(0, 1, above=True),
        vocabulary=Range(0, 2**24, "Set it to 0 to estimate it."),
        items=COUNT_OR_NONE,
        price_per_chip_hour=PRICE,
        slices=Range(1, 4_096),
        tries=Range(1, 10_000),
    )
    unknown = [name for name in command.programs if name not in PROGRAMS]
    if unknown or not command.programs:
        hint = f"Allowed: {', '.join(PROGRAMS)}."
        raise InputError(f"unknown program '{' '.join(unknown)}'", where="programs", hint=hint)


def print_plan(console: Console, plan: RunPlan) -> None:
    """Prints memory, collectives, cost, and whether the run fits."""
    experiment, topology = plan.inputs.experiment, plan.inputs.topology
    sizes = mesh_sizes(experiment.mesh, plan.result.devices)
    shape = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
    console.print(
        f"{topology}: {plan.result.devices} devices, mesh {shape}; "
        f"{experiment.train.batch_size} rows in {experiment.train.accumulate} parts, "
        f"remat {experiment.model.remat}, vocabulary {experiment.model.vocabulary:,}",
        markup=False,
    )
    console.print(memory_table(plan))
    if traffic_rows(plan):
        console.print(traffic_table(plan))
    else:
        console.print("There are no collectives.")
    if plan.cost is not None:
        console.print(cost_table(plan))
        if warning := input_warning(plan):
            console.print(warning, markup=False)
    for program in plan.result.programs:
        if program.unknown_loops:
            console.print(
                f"{program.program}: the trip count of {program.unknown_loops} loops depends on "
                "data; they count with its maximum.",
                markup=False,
            )
    if plan.fits:
        console.print(f"The run fits {topology}.", markup=False)
        return
    failing = ", ".join(program.program for program in plan.result.programs if not program.fits)
    console.print(f"The run does not fit {topology}: {failing}.", markup=False)
    if plan.change is None:
        console.print("None of the changes that were tried makes it fit.", markup=False)
    else:
        console.print(f"The smallest change that makes it fit: {plan.change.flags}", markup=False)


def input_warning(plan: RunPlan) -> str:
    """Says whether rendering while training is too slow for the devices; "" if it is not."""
    cost = plan.cost
    if cost is None or plan.inputs.experiment.train.packed:
        return ""
    if cost.needed_rows <= cost.rendered_rows:
        return ""
    return (
        f"Warning: the devices take up to {cost.needed_rows:,.0f} rows a second, and every process "
        f"renders all of them, about {cost.rendered_rows:,.0f} a second: a step waits up to "
        f"{_ms(cost.rows / cost.rendered_rows)} for its rows. Make them first (irec instruct "
        "EXPERIMENT --packed DIR) and read them with --train.packed DIR."
    )


def memory_table(plan: RunPlan) -> Table:
    """Builds the table of memory on one device, one column per program."""
    programs = plan.result.programs
    table = Table("GiB", title="Memory of one device")
    for program in programs:
        table.add_column(program.program, justify="right")
    for name in Memory._fields[:-2]:
        cells = [
            "-"
            if program.refused and name not in ("parameters", "optimizer")
            else _gib(getattr(program.memory, name))
            for program in programs
        ]
        table.add_row(name, *cells)
    table.add_section()
    for name in ("total", "usable"):
        table.add_row(name, *(_gib(getattr(program.memory, name)) for program in programs))
    table.add_row("fits", *("yes" if program.fits else "NO" for program in programs))
    return table


def traffic_table(plan: RunPlan) -> Table:
    """Builds the table of collectives by kind and mesh axes."""
    table = Table(title="Collectives per execution of a program")
    for name in ("program", "collective", "axes", "over", "times", "sent by a device, MiB"):
        table.add_column(name, justify="right" if name.startswith(("times", "sent")) else "left")
    for row in traffic_rows(plan):
        table.add_row(
            row["program"],
            row["kind"],
            row["axes"],
            row["over"],
            f"{row['times']:,}",
            f"{row['bytes'] / 2**20:,.1f}",
        )
    return table


def traffic_rows(plan: RunPlan) -> list[dict[str, Any]]:
    """Returns the collectives as plain values; `bytes` are sent by one device."""
    sums: dict[tuple[str, str, str, str], list[float]] = {}
    for program in plan.result.programs:
        for traffic in program.traffic:
            over = "ICI" if plan.inputs.topology.chip else "local"
            if traffic.slices > 1:
                over = "ICI + DCN" if traffic.chips > traffic.slices else "DCN"
            key = (program.program, traffic.kind, " ".join(traffic.axes), over)
            entry = sums.setdefault(key, [0, 0.0])
            entry[0] += traffic.times
            entry[1] += traffic.ici_bytes + traffic.dcn_bytes
    names = ("program", "kind", "axes", "over")
    return [
        dict(zip(names, key, strict=True)) | {"times": int(times), "bytes": sent}
        for key, (times, sent) in sums.items()
    ]


def cost_table(plan: RunPlan) -> Table:
    """Builds the table of time and dollars of the run, with the source of each figure."""
    cost, chip = plan.cost, plan.inputs.topology.chip
    assert cost is not None
    table = Table("training", "", "from", title="Lower bounds")
    table.add_row("model FLOPs per step", f"{cost.model_flops:.3g}", "counted, real tokens only")
    table.add_row("hardware FLOPs per step", f"{cost.hardware_flops:.3g}", "with padding and remat")
    peak = f"{cost.peak / cost.devices:.3g} FLOP/s per device"
    table.add_row("arithmetic", _ms(cost.compute_s), f"{peak}{'' if chip else ', measured'}")
    if chip is not None:
        links = f"up to {chip.ici_links} links of {chip.ici_link:.3g} B/s"
        table.add_row("HBM", _ms(cost.hbm_s), f"{chip.hbm_bandwidth:.4g} B/s per chip")
        table.add_row("ICI", _ms(cost.ici_s), links)
        table.add_row("DCN", _ms(cost.dcn_s), f"{chip.dcn:.4g} B/s per chip")
    table.add_row(
        "step",
        f"{_ms(cost.bound_s)} to {_ms(cost.serial_s)}",
        f"full overlap ({cost.limit} bound) to no overlap",
    )
    tokens = f"{cost.tokens / cost.serial_s:,.0f} to {cost.tokens / cost.bound_s:,.0f}"
    table.add_row("real tokens/s", tokens, f"{cost.tokens:,.0f} per step")
    table.add_row("MFU, at most", f"{cost.mfu_bound:.1%}", "")
    low, high = cost.hours
    table.add_row("hours", f"{low:,.2f} to {high:,.2f}", f"{cost.steps:,} steps")
    if cost.price:
        dollars = f"{cost.dollars[0]:,.2f} to {cost.dollars[1]:,.2f}"
        table.add_row("dollars", dollars, f"{cost.chips} chips at {cost.price:g} per chip-hour")
    if chip is not None:
        table.caption = f"Datasheet: {chip.source}"
    return table


def search_table(results: Sequence[SearchResult], topology: str) -> Table:
    """Builds the table of a search."""
    table = Table(title=f"{topology}: settings that fit, best first")
    names = ("mesh", "rows", "remat", "GiB", "step, ms", "bound", "real tokens/s", "MFU <=")
    for name in names:
        table.add_column(name, justify="left" if name in ("mesh", "remat", "bound") else "right")
    for result in results:
        cost, mesh = result.cost, result.experiment.mesh
        table.add_row(
            f"{mesh.replica}x{mesh.data}x{mesh.fsdp}x{mesh.tensor}",
            f"{result.experiment.train.batch_size:,}",
            result.experiment.model.remat,
            _gib(result.compiled.memory.total),
            f"{cost.bound_s * 1e3:,.0f} to {cost.serial_s * 1e3:,.0f}",
            cost.limit,
            f"{result.tokens_per_s:,.0f}",
            f"{cost.mfu_bound:.1%}",
        )
    table.caption = "mesh: replica x data x fsdp x tensor; tokens/s without overlap"
    return table


def plain_plan(plan: RunPlan) -> dict[str, Any]:
    """Returns all figures of a plan for `json.dumps`."""
    return {
        "fits": plan.fits,
        "devices": plan.result.devices,
        "mesh": dict(plan.result.mesh),
        "programs": [
            to_plain(program) | {"fits": program.fits} for program in plan.result.programs
        ],
        "traffic": traffic_rows(plan),
        "cost": _plain_cost(plan.cost) if plan.cost else None,
        "warning": input_warning(plan),
        "change": plan.change.flags if plan.change else None,
        "chip": dataclasses.asdict(plan.inputs.topology.chip)
        if plan.inputs.topology.chip
        else None,
        "experiment": to_json(plan.inputs.experiment),
    }


def _plain_cost(cost: RunCost) -> dict[str, Any]:
    derived = ("bound_s", "serial_s", "limit", "mfu_bound", "hours", "dollars")
    derived += ("needed_rows", "rendered_rows")
    return cost._asdict() | {name: getattr(cost, name) for name in derived}


def _plain_result(result: SearchResult) -> dict[str, Any]:
    return {
        "mesh": dataclasses.asdict(result.experiment.mesh),
        "batch_size": result.experiment.train.batch_size,
        "remat": result.experiment.model.remat,
        "memory": result.compiled.memory._asdict(),
        "cost": _plain_cost(result.cost),
        "tokens_per_s": result.tokens_per_s,
    }


def _gib(size: int | float) -> str:
    return f"{size / 2**30:,.2f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"
