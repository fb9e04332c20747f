"""The compiling process: `python -m irec_jax.planning.worker JOB`; answers in lines of JSON."""

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
from irec_jax.planning.compiled import Compiled, LinkTraffic, Memory, to_plain
from irec_jax.planning.hlo import Collective, read_traffic
from irec_jax.planning.programs import PROGRAMS, Lowered
from irec_jax.planning.topology import Topology, compiler_devices
from irec_jax.settings import from_json
from irec_jax.training.hardware import measure_peak
from irec_jax.training.sharding import make_mesh

AT_ONCE = 2
"""Programs that are compiled together: XXL's take 1.5 GiB each, beside what all share."""

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main() -> None:
    """Reads one job and answers it."""
    job = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        _answer(job)
    except InputError as error:
        _say({"error": {"what": error.problem, "where": error.where, "hint": error.hint}})


def _end_with_parent(parent: int) -> None:
    """Ends this process when the one that asked is gone; a compilation cannot be interrupted."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _answer(job: dict[str, Any]) -> None:
    topology = Topology.parse(job["topology"])
    experiment = from_json(Experiment, job["experiment"], where="experiment")
    devices = compiler_devices(topology)
    mesh = make_mesh(experiment.mesh, devices)
    peak = 0.0
    if topology.chip is None:
        peak = measure_peak(mesh, experiment.model.compute) / mesh.devices.size
    _say({"devices": len(devices), "mesh": dict(mesh.shape), "peak": peak})
    lowered = {name: PROGRAMS[name](experiment, mesh, job["items"]) for name in job["programs"]}
    compile_ = functools.partial(_compile_timed, mesh=mesh, topology=topology, effort=job["effort"])
    # A compilation keeps one core busy.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for compiled in pool.map(compile_, lowered, lowered.values()):
            _say(to_plain(compiled))


def _compile_timed(
    name: str, lowered: Lowered, *, mesh: Mesh, topology: Topology, effort: float
) -> Compiled:
    start = time.perf_counter()
    compiled = compile_one(name, lowered, mesh, topology, effort)
    return compiled._replace(
        compile_s=time.perf_counter() - start,
        compiler_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


def compile_one(
    name: str, lowered: Lowered, mesh: Mesh, topology: Topology, effort: float
) -> Compiled:
    """Compiles a program and reads what the compiler knows of it."""
    usable = _usable(topology, mesh)
    options = {"exec_time_optimization_effort": effort} if effort and topology.chip else None
    try:
        compiled = lowered.lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        return Compiled(name, _refused(str(error), lowered, usable), refused=_sentence(str(error)))
    said = compiled.memory_analysis()
    outputs = said.output_size_in_bytes - said.alias_size_in_bytes
    parts = (
        lowered.parameters,
        lowered.optimizer,
        said.argument_size_in_bytes - lowered.parameters - lowered.optimizer,
        outputs,
        said.temp_size_in_bytes,
        said.generated_code_size_in_bytes,
    )
    text, sizes = compiled.as_text(), dict(mesh.shape)
    traffic = read_traffic(text, sizes, lowered.turns, topology.slices)
    return Compiled(
        name,
        Memory(*parts, total=sum(parts), usable=usable),
        crossings(traffic.collectives, mesh, topology),
        traffic.unknown_loops,
    )


def crossings(
    collectives: Sequence[Collective], mesh: Mesh, topology: Topology
) -> tuple[LinkTraffic, ...]:
    """Says what each collective crosses on these devices; equal ones are counted together."""
    devices = mesh.devices.ravel()
    found: Counter[LinkTraffic] = Counter()
    for collective in collectives:
        members = [devices[number] for number in collective.members]
        slices = [getattr(device, "slice_index", None) or 0 for device in members]
        near = [
            tuple(getattr(device, "coords", ()))
            for device, number in zip(members, slices, strict=True)
            if number == slices[0]
        ]
        crossing = LinkTraffic(
            collective.kind,
            collective.axes,
            collective.chips,
            collective.payload,
            1,
            slices=len(set(slices)),
            links=topology.links(near),
        )
        found[crossing] += collective.times
    return tuple(crossing._replace(times=times) for crossing, times in found.items())


def _usable(topology: Topology, mesh: Mesh) -> int:
    if topology.chip is not None:
        return topology.chip.usable
    device = mesh.devices.flat[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    # Simulated devices share the machine's memory.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // mesh.devices.size


def _refused(message: str, lowered: Lowered, usable: int) -> Memory:
    """What a refusal tells of a program's memory; anything but a lack of memory is raised.

    Raises:
        InputError: The compiler refused for another reason.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        hint = "Try another mesh; what the compiler refuses here it refuses in the run as well."
        raise InputError(f"the compiler says: {_sentence(message)}", where="mesh", hint=hint)
    sizes = [
        float(number) * UNITS[unit]
        for number, unit in re.findall(r"(\d+(?:\.\d+)?)([KMGT]?)(?:iB|B)?\b", message)
        if unit
    ]
    needed = int(max([*sizes, usable + 1.0]))
    known = lowered.parameters + lowered.optimizer
    # Two messages: of temporaries alone, before they are placed, or of all that was placed.
    total = needed + known if "temporaries" in message else needed
    return Memory(lowered.parameters, lowered.optimizer, 0, 0, total - known, 0, total, usable)


def _sentence(message: str) -> str:
    return " ".join(message.split("\n\n")[0].split())[:300]


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
