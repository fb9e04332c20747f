"""Memory and collectives of a run's programs, compiled in a worker process."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.planning.hlo import sent_share
from irec_jax.planning.topology import Topology, libtpu_arguments
from irec_jax.settings import to_json

FAST_EFFORT, FULL_EFFORT = -1.0, 0.0
"""Efforts of the compiler: a run compiles with the full one, in two to four times the time."""

RECHECK_MARGIN = 0.07
"""Relative distance from the memory limit below which a fast compilation does not decide.

Fast and full effort differed by 2 % of the device's memory in measurements.
"""
_CRASH_HINT = "Try another mesh; a compiler that crashes here also crashes in the run."


class Memory(NamedTuple):
    """Memory of a program on one device, in bytes.

    Attributes:
        parameters: Weights in float32, frozen ones and adapters included.
        optimizer: Optimizer state.
        inputs: Other inputs: the batch, keys, a catalog, and the padding of tiles.
        outputs: Outputs that do not reuse the memory of an input.
        temporary: Peak of activations, gradients and work space.
        code: The program.
        total: Their sum; of a refused program the memory that the compiler reports as needed.
        usable: Memory that the compiler grants.
    """

    parameters: int
    optimizer: int
    inputs: int
    outputs: int
    temporary: int
    code: int
    total: int
    usable: int

    @property
    def fits(self) -> bool:
        """Whether the program fits on the device."""
        return self.total <= self.usable


class LinkTraffic(NamedTuple):
    """A collective on the devices of a topology.

    Attributes:
        kind: One of `hlo.KINDS`.
        axes: The mesh axes that it crosses.
        chips: Number of devices that exchange data.
        payload: Bytes of the whole array that is gathered, reduced or moved, on one device.
        times: Number of executions per execution of the program.
        slices: Number of slices that the devices of one exchange are in.
        links: Links between chips of one slice that each of them can use, one direction.
    """

    kind: str
    axes: tuple[str, ...]
    chips: int
    payload: int
    times: int
    slices: int
    links: int

    @property
    def ici_bytes(self) -> float:
        """Bytes that each device sends within its slice per execution of the program."""
        return self.times * self.payload * sent_share(self.kind, self.chips // self.slices)

    @property
    def dcn_bytes(self) -> float:
        """Bytes that each device sends to other slices per execution of the program.

        The devices of a slice share this work: each sends its part of the gathered or reduced
        array of its slice.
        """
        slice_devices = self.chips // self.slices
        return self.times * self.payload * sent_share(self.kind, self.slices) / slice_devices


class CompiledProgram(NamedTuple):
    """One program of a run, compiled.

    Attributes:
        program: `train`, `score` or `decode`.
        memory: Of one device.
        traffic: Collectives; empty if the program was refused.
        unknown_loops: Loops with a trip count that depends on data, counted with its maximum.
        refused: The compiler's reason to refuse it, or "".
        compile_s: Seconds of compilation.
        compiler_bytes: Peak memory of the compiling process so far.
    """

    program: str
    memory: Memory
    traffic: tuple[LinkTraffic, ...] = ()
    unknown_loops: int = 0
    refused: str = ""
    compile_s: float = 0.0
    compiler_bytes: int = 0

    @property
    def fits(self) -> bool:
        """Whether it was compiled and fits."""
        return not self.refused and self.memory.fits

    @property
    def is_near_limit(self) -> bool:
        """Whether another effort of the compiler may change `fits`."""
        return abs(self.memory.total / self.memory.usable - 1) < RECHECK_MARGIN


@dataclasses.dataclass(frozen=True)
class CompileJob:
    """Programs to compile for a topology.

    Attributes:
        experiment: With the model's vocabulary resolved and a mesh that fits the topology.
        topology: The devices.
        items: Number of items of the catalog.
        programs: Names of the programs.
        effort: `FAST_EFFORT`, or `FULL_EFFORT` as in a run.
    """

    experiment: Experiment
    topology: Topology
    items: int
    programs: tuple[str, ...] = ("train", "score", "decode")
    effort: float = FAST_EFFORT

    def to_json(self) -> dict[str, Any]:
        """Returns the job as the worker process reads it."""
        return {
            "experiment": to_json(self.experiment),
            "topology": str(self.topology),
            "items": self.items,
            "programs": list(self.programs),
            "effort": self.effort,
        }


class CompileResult(NamedTuple):
    """Results of a worker process.

    Attributes:
        devices: Number of devices.
        mesh: Devices along each axis.
        peak: Measured FLOP/s of one local device; 0.0 if a datasheet has it.
        programs: In the order of the job.
    """

    devices: int
    mesh: Mapping[str, int]
    peak: float
    programs: tuple[CompiledProgram, ...]


class CompilerCrash(InputError):
    """The worker process ended without a result."""


def compile_job(job: CompileJob, report: Callable[[str], None] | None = None) -> CompileResult:
    """Compiles the programs of a run in another process.

    libtpu takes over a process and its JAX, and a crash of the compiler ends the process; neither
    may happen to the caller.

    Args:
        job: The programs.
        report: Called with a line after each program.

    Raises:
        CompilerCrash: The compiler crashed.
        InputError: The devices do not exist here, or the mesh does not fit them.
    """
    # The compiler writes more to its standard error than a pipe holds.
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "irec_jax.planning.worker", json.dumps(job.to_json())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(job.topology),
        ) as worker,
    ):
        try:
            result = _read_result(worker, report)
            code = worker.wait()
        finally:
            worker.kill()
        if result is None or len(result.programs) < len(job.programs):
            errors.seek(0)
            problem = _crash_problem(code, errors.read())
            raise CompilerCrash(problem, where="topology", hint=_CRASH_HINT)
        return result


def compile_with_recheck(
    job: CompileJob, report: Callable[[str], None] | None = None
) -> CompileResult:
    """Runs `compile_job`, and again with full effort for programs near the memory limit.

    A crash with less than full effort is also followed by a compilation with full effort.

    Raises:
        InputError: See `compile_job`.
    """
    try:
        result = compile_job(job, report)
    except CompilerCrash:
        if job.effort == FULL_EFFORT:
            raise
        if report:
            report("the compiler crashed; compiling again with full effort")
        return compile_job(dataclasses.replace(job, effort=FULL_EFFORT), report)
    near = tuple(program.program for program in result.programs if program.is_near_limit)
    if not near or job.effort == FULL_EFFORT or job.topology.chip is None:
        return result
    if report:
        report(f"{', '.join(near)}: near the memory limit; compiling again with full effort")
    again = compile_job(dataclasses.replace(job, programs=near, effort=FULL_EFFORT), report)
    newer = {program.program: program for program in again.programs}
    programs = tuple(newer.get(program.program, program) for program in result.programs)
    return result._replace(programs=programs)


def _read_result(
    worker: "subprocess.Popen[str]", report: Callable[[str], None] | None
) -> CompileResult | None:
    result = None
    for line in worker.stdout or ():
        # The compiler may write to the same stream; only lines of the worker are JSON objects.
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        if "error" in message:
            raise InputError(**message["error"])
        if result is None:
            result = CompileResult(message["devices"], message["mesh"], message["peak"], ())
            continue
        program = from_plain(message)
        result = result._replace(programs=(*result.programs, program))
        if report:
            report(f"{program.program}: {program.compile_s:.0f} s")
    return result


def _crash_problem(code: int, errors: str) -> str:
    if code < 0:
        return f"the compiler crashed with {signal.Signals(-code).name}"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return f"the compiler crashed ({lines[-1][:200] if lines else 'without a message'})"


def _environment(topology: Topology) -> dict[str, str]:
    environment = dict(os.environ)
    # Compiling allocates nothing; taking a GPU's memory would disturb what runs on it.
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if topology.chip is not None:
        environment |= {
            "JAX_PLATFORMS": "cpu",
            # Without it libtpu asks a metadata server that exists only in the cloud.
            "TPU_SKIP_MDS_QUERY": "1",
            # libtpu's lock protects a TPU from two processes; this machine has no TPU.
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            "TPU_LOG_DIR": "disabled",
            "TPU_STDERR_LOG_LEVEL": "3",
            "TPU_MIN_LOG_LEVEL": "3",
            "LIBTPU_INIT_ARGS": libtpu_arguments(environment.get("LIBTPU_INIT_ARGS", "")),
        }
    return environment


def to_plain(compiled: CompiledProgram) -> dict[str, Any]:
    """Converts a compiled program for `json.dumps`."""
    plain = compiled._asdict()
    plain["memory"] = compiled.memory._asdict()
    plain["traffic"] = [traffic._asdict() for traffic in compiled.traffic]
    return plain


def from_plain(plain: Mapping[str, Any]) -> CompiledProgram:
    """Reverses `to_plain`."""
    traffic = tuple(
        LinkTraffic(**{**fields, "axes": tuple(fields["axes"])}) for fields in plain["traffic"]
    )
    memory = Memory(**plain["memory"])
    return CompiledProgram(**{**plain, "memory": memory, "traffic": traffic})
