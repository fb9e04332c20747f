"""`irec plan`: whether a run fits devices that are not here, and what it would take."""

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
from irec_jax.experiment.loading import load_experiment
from irec_jax.files import write_text
from irec_jax.planning.compiled import FAST, FULL, Memory, to_plain
from irec_jax.planning.cost import FILL
from irec_jax.planning.limits import check_plan_can_fit
from irec_jax.planning.programs import PROGRAMS
from irec_jax.planning.run_plan import RunPlan, make_plan, make_subject, mesh_sizes
from irec_jax.planning.search import SearchResult, search
from irec_jax.planning.topology import Topology
from irec_jax.progress import print_status
from irec_jax.settings import to_json
from irec_jax.terminal import Console

DOES_NOT_FIT = 1


@dataclasses.dataclass(frozen=True)
class PlanCommand:
    """Compiles a run for devices that are not here, and says what it would take.

    The real train, score and decode programs go through the real compiler: for a TPU slice
    through libtpu (pip install 'irec-jax[tpu]'; no TPU is needed), for `local` through this
    machine's own. Exit code 0: it fits; 1: it does not, and the smallest change that makes it fit
    is printed. docs/planning.md says how far each figure can be trusted. Example:

        irec plan configs/flan_t5_xl_v5e.py --topology v5e:8x8 --price-per-chip-hour 1.2

    Attributes:
        experiment: A Python file that defines `experiment`; any leaf of it can be set behind it.
        topology: v4:2x2x1, v5e:8x8, v5p:4x4x4, v6e:4x4, tpu7x:2x2x1, two slices v5e:4x4*2, or
            local.
        slices: Slices, where the topology does not print_status it.
        programs: Which programs are compiled.
        vocabulary: Rows of the embedding; 0 estimates them without reading the log.
        items: Size of the catalog; 0 takes the log's manifest, or assumes one.
        fill: Share of the slots of packed rows that hold real tokens.
        price_per_chip_hour: Dollars for an hour of one chip.
        full_effort: Compile as a run does, in two to four times the time; otherwise only what is
            close to the limit is compiled so.
        search: Try meshes, batch sizes and remat policies, and print the best ten.
        tries: How many of them to compile.
        json: A file for all figures.
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
            overrides: `--section.key value` words for the experiment.
        """
        _check(self)
        experiment = load_experiment(self.experiment, overrides)
        topology = Topology.parse(self.topology, self.slices)
        subject = make_subject(experiment, topology, vocabulary=self.vocabulary, items=self.items)
        check_plan_can_fit(subject)
        for note in subject.notes:
            print_status(note)
        told: dict[str, Any] = {"topology": str(topology), "notes": list(subject.notes)}
        console = Console()
        fits = True
        if self.search:
            found = search(
                subject,
                tries=self.tries,
                fill=self.fill,
                price=self.price_per_chip_hour,
                tell=print_status,
            )
            console.print(search_table(found, str(topology)))
            told["found"] = [_way(way) for way in found]
            fits = bool(found)
        else:
            plan = make_plan(
                subject,
                programs=self.programs,
                fill=self.fill,
                price=self.price_per_chip_hour,
                effort=FULL if self.full_effort else FAST,
                tell=print_status,
            )
            print_plan(console, plan)
            told |= plain_plan(plan)
            fits = plan.fits
        if self.json:
            write_text(self.json, json.dumps(told, indent=2) + "\n")
            console.print(f"All figures are in {self.json}.", markup=False)
        if not fits:
            sys.exit(DOES_NOT_FIT)


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
        raise InputError(f"no program '{' '.join(unknown)}'", where="programs", hint=hint)


def print_plan(console: Console, plan: RunPlan) -> None:
    """Prints memory, exchanges, time and the verdict."""
    experiment, topology = plan.subject.experiment, plan.subject.topology
    sizes = mesh_sizes(experiment.mesh, plan.answer.devices)
    shape = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
    console.print(
        f"{topology}: {plan.answer.devices} devices, mesh {shape}; "
        f"{experiment.train.batch_size} rows in {experiment.train.accumulate} parts, "
        f"remat {experiment.model.remat}, vocabulary {experiment.model.vocabulary:,}",
        markup=False,
    )
    console.print(memory_table(plan))
    if traffic_rows(plan):
        console.print(traffic_table(plan))
    else:
        console.print("Nothing is exchanged between devices.")
    if plan.cost is not None:
        console.print(cost_table(plan))
        if warning := input_warning(plan):
            console.print(warning, markup=False)
    for program in plan.answer.programs:
        if program.unknown_loops:
            console.print(
                f"{program.program}: the turns of {program.unknown_loops} loops depend on data; "
                "they count with the most.",
                markup=False,
            )
    if plan.fits:
        console.print(f"It fits {topology}.", markup=False)
        return
    failing = ", ".join(program.program for program in plan.answer.programs if not program.fits)
    console.print(f"It does not fit {topology}: {failing}.", markup=False)
    if plan.change is None:
        console.print("No change that was tried makes it fit.", markup=False)
    else:
        console.print(f"The smallest change that makes it fit: {plan.change.words}", markup=False)


def input_warning(plan: RunPlan) -> str:
    """Says whether rendering while training is too slow for the devices; "" if it is not."""
    cost = plan.cost
    if cost is None or plan.subject.experiment.train.packed:
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
    """Bytes on one device, a column a program."""
    programs = plan.answer.programs
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
    """Collectives by kind and by the axes that they cross."""
    table = Table(title="Exchanged between devices, each time a program runs")
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
    """The same as plain values; `bytes` are those that one device sends."""
    sums: dict[tuple[str, str, str, str], list[float]] = {}
    for program in plan.answer.programs:
        for crossing in program.traffic:
            over = "ICI" if plan.subject.topology.chip else "local"
            if crossing.slices > 1:
                over = "ICI + DCN" if crossing.chips > crossing.slices else "DCN"
            key = (program.program, crossing.kind, " ".join(crossing.axes), over)
            entry = sums.setdefault(key, [0, 0.0])
            entry[0] += crossing.times
            entry[1] += crossing.within + crossing.across
    names = ("program", "kind", "axes", "over")
    return [
        dict(zip(names, key, strict=True)) | {"times": int(times), "bytes": sent}
        for key, (times, sent) in sums.items()
    ]


def cost_table(plan: RunPlan) -> Table:
    """Time and money of the training run, and what the figures rest on."""
    cost, chip = plan.cost, plan.subject.topology.chip
    assert cost is not None
    table = Table("training", "", "from", title="Bounds: no run is faster")
    table.add_row("model FLOPs a step", f"{cost.model_flops:.3g}", "counted, real tokens only")
    table.add_row("computed FLOPs a step", f"{cost.hardware_flops:.3g}", "with padding and remat")
    peak = f"{cost.peak / cost.devices:.3g} FLOP/s a device"
    table.add_row("arithmetic", _ms(cost.compute_s), f"{peak}{'' if chip else ', measured'}")
    if chip is not None:
        links = f"up to {chip.ici_links} links of {chip.ici_link:.3g} B/s"
        table.add_row("HBM", _ms(cost.hbm_s), f"{chip.hbm_bandwidth:.4g} B/s a chip")
        table.add_row("ICI", _ms(cost.ici_s), links)
        table.add_row("DCN", _ms(cost.dcn_s), f"{chip.dcn:.4g} B/s a chip")
    table.add_row(
        "step",
        f"{_ms(cost.bound_s)} to {_ms(cost.serial_s)}",
        f"all at once ({cost.limit} bound) to one after the other",
    )
    tokens = f"{cost.tokens / cost.serial_s:,.0f} to {cost.tokens / cost.bound_s:,.0f}"
    table.add_row("real tokens/s", tokens, f"{cost.tokens:,.0f} a step")
    table.add_row("MFU, at most", f"{cost.mfu_bound:.1%}", "")
    low, high = cost.hours
    table.add_row("hours", f"{low:,.2f} to {high:,.2f}", f"{cost.steps:,} steps")
    if cost.price:
        dollars = f"{cost.dollars[0]:,.2f} to {cost.dollars[1]:,.2f}"
        table.add_row("dollars", dollars, f"{cost.chips} chips at {cost.price:g} an hour")
    if chip is not None:
        table.caption = f"Datasheet: {chip.source}"
    return table


def search_table(found: Sequence[SearchResult], topology: str) -> Table:
    """The best ways to lay a run out."""
    table = Table(title=f"{topology}: ways that fit, best first")
    names = ("mesh", "rows", "remat", "GiB", "step, ms", "bound", "real tokens/s", "MFU <=")
    for name in names:
        table.add_column(name, justify="left" if name in ("mesh", "remat", "bound") else "right")
    for way in found:
        cost, mesh = way.cost, way.experiment.mesh
        table.add_row(
            f"{mesh.replica}x{mesh.data}x{mesh.fsdp}x{mesh.tensor}",
            f"{way.experiment.train.batch_size:,}",
            way.experiment.model.remat,
            _gib(way.compiled.memory.total),
            f"{cost.bound_s * 1e3:,.0f} to {cost.serial_s * 1e3:,.0f}",
            cost.limit,
            f"{way.tokens_per_s:,.0f}",
            f"{cost.mfu_bound:.1%}",
        )
    table.caption = "mesh: replica x data x fsdp x tensor; tokens/s if nothing overlaps"
    return table


def plain_plan(plan: RunPlan) -> dict[str, Any]:
    """All figures of a plan as JSON can hold them."""
    return {
        "fits": plan.fits,
        "devices": plan.answer.devices,
        "mesh": dict(plan.answer.mesh),
        "programs": [
            to_plain(program) | {"fits": program.fits} for program in plan.answer.programs
        ],
        "traffic": traffic_rows(plan),
        "cost": _plain_cost(plan.cost) if plan.cost else None,
        "warning": input_warning(plan),
        "change": plan.change.words if plan.change else None,
        "chip": dataclasses.asdict(plan.subject.topology.chip)
        if plan.subject.topology.chip
        else None,
        "experiment": to_json(plan.subject.experiment),
    }


def _plain_cost(cost: Any) -> dict[str, Any]:
    made = ("bound_s", "serial_s", "limit", "mfu_bound", "hours", "dollars")
    made += ("needed_rows", "rendered_rows")
    return cost._asdict() | {name: getattr(cost, name) for name in made}


def _way(way: SearchResult) -> dict[str, Any]:
    return {
        "mesh": dataclasses.asdict(way.experiment.mesh),
        "batch_size": way.experiment.train.batch_size,
        "remat": way.experiment.model.remat,
        "memory": way.compiled.memory._asdict(),
        "cost": _plain_cost(way.cost),
        "tokens_per_s": way.tokens_per_s,
    }


def _gib(size: int | float) -> str:
    return f"{size / 2**30:,.2f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"
