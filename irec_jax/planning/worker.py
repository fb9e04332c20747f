"""Compiling process: `python -m irec_jax.planning.worker JOB`; prints results as lines of JSON."""

import functools
import json
import os
import re
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from jax.sharding import Mesh

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.planning.compiled import CompiledProgram, LinkTraffic, Memory, to_plain
from irec_jax.planning.hlo import Collective, read_traffic
from irec_jax.planning.programs import PROGRAMS, LoweredProgram
from irec_jax.planning.topology import Topology, compiler_devices
from irec_jax.settings import from_json
from irec_jax.training.hardware import measure_peak
from irec_jax.training.sharding import make_mesh

PARALLEL_COMPILATIONS = 2
"""Programs that are compiled in parallel: those of XXL take 1.5 GiB each."""

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main() -> None:
    """Reads a job from the command line and prints its results."""
    job = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        _run_job(job)
    except InputError as error:
        _print_json({"error": {"problem": error.problem, "where": error.where, "hint": error.hint}})


def _end_with_parent(parent: int) -> None:
    """Ends this process when its parent has ended; a compilation cannot be interrupted."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _run_job(job: dict[str, Any]) -> None:
    topology = Topology.parse(job["topology"])
    experiment = from_json(Experiment, job["experiment"], where="experiment")
    devices = compiler_devices(topology)
    mesh = make_mesh(experiment.mesh, devices)
    peak = 0.0
    if topology.chip is None:
        peak = measure_peak(mesh, experiment.model.compute) / mesh.devices.size
    _print_json({"devices": len(devices), "mesh": dict(mesh.shape), "peak": peak})
    lowered = {name: PROGRAMS[name](experiment, mesh, job["items"]) for name in job["programs"]}
    compile_ = functools.partial(_compile_timed, mesh=mesh, topology=topology, effort=job["effort"])
    # A compilation uses one core.
    with ThreadPoolExecutor(PARALLEL_COMPILATIONS) as pool:
        for compiled in pool.map(compile_, lowered, lowered.values()):
            _print_json(to_plain(compiled))


def _compile_timed(
    name: str, lowered: LoweredProgram, *, mesh: Mesh, topology: Topology, effort: float
) -> CompiledProgram:
    start = time.perf_counter()
    compiled = compile_one(name, lowered, mesh, topology, effort)
    return compiled._replace(
        compile_s=time.perf_counter() - start,
        compiler_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


def compile_one(
    name: str, lowered: LoweredProgram, mesh: Mesh, topology: Topology, effort: float
) -> CompiledProgram:
    """Compiles a program and reads its memory and collectives."""
    usable = _usable(topology, mesh)
    options = {"exec_time_optimization_effort": effort} if effort and topology.chip else None
    try:
        compiled = lowered.lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        memory = _memory_of_refusal(str(error), lowered, usable)
        return CompiledProgram(name, memory, refused=_first_paragraph(str(error)))
    analysis = compiled.memory_analysis()
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    parts = (
        lowered.parameters,
        lowered.optimizer,
        analysis.argument_size_in_bytes - lowered.parameters - lowered.optimizer,
        outputs,
        analysis.temp_size_in_bytes,
        analysis.generated_code_size_in_bytes,
    )
    text, sizes = compiled.as_text(), dict(mesh.shape)
    traffic = read_traffic(text, sizes, lowered.max_trips, topology.slices)
    return CompiledProgram(
        name,
        Memory(*parts, total=sum(parts), usable=usable),
        link_traffic(traffic.collectives, mesh, topology),
        traffic.unknown_loops,
    )


def link_traffic(
    collectives: Sequence[Collective], mesh: Mesh, topology: Topology
) -> tuple[LinkTraffic, ...]:
    """Returns the collectives on these devices; equal ones are counted together."""
    devices = mesh.devices.ravel()
    times: Counter[LinkTraffic] = Counter()
    for collective in collectives:
        members = [devices[number] for number in collective.members]
        slices = [getattr(device, "slice_index", None) or 0 for device in members]
        same_slice = [
            tuple(getattr(device, "coords", ()))
            for device, number in zip(members, slices, strict=True)
            if number == slices[0]
        ]
        traffic = LinkTraffic(
            collective.kind,
            collective.axes,
            collective.chips,
            collective.payload,
            1,
            slices=len(set(slices)),
            links=topology.links(same_slice),
        )
        times[traffic] += collective.times
    return tuple(traffic._replace(times=count) for traffic, count in times.items())


def _usable(topology: Topology, mesh: Mesh) -> int:
    if topology.chip is not None:
        return topology.chip.usable
    device = mesh.devices.flat[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    # Simulated devices share the machine's memory.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // mesh.devices.size


def _memory_of_refusal(message: str, lowered: LoweredProgram, usable: int) -> Memory:
    """Reads the memory of a refused program from the compiler's message.

    Raises:
        InputError: The reason is not a lack of memory.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        hint = "Try another mesh; the compiler also refuses this program in the run."
        raise InputError(
            f"the compiler refused it: {_first_paragraph(message)}", where="mesh", hint=hint
        )
    sizes = [
        float(number) * UNITS[unit]
        for number, unit in re.findall(r"(\d+(?:\.\d+)?)([KMGT]?)(?:iB|B)?\b", message)
        if unit
    ]
    needed = int(max([*sizes, usable + 1.0]))
    known = lowered.parameters + lowered.optimizer
    # One of two messages: temporaries before they are placed, or everything that was placed.
    total = needed + known if "temporaries" in message else needed
    return Memory(lowered.parameters, lowered.optimizer, 0, 0, total - known, 0, total, usable)


def _first_paragraph(message: str) -> str:
    return " ".join(message.split("\n\n")[0].split())[:300]


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
