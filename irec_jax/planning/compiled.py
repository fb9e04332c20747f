"""What the compiler says of a run's programs, asked for in a process of its own."""

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

FAST, FULL = -1.0, 0.0
"""How much work the compiler takes: what a run compiles with, or a quarter to a half of it."""

CLOSE = 0.07
"""With little effort a program's memory came out within so much of the device's (measured: 2 %)."""


class Memory(NamedTuple):
    """Bytes on one device.

    Attributes:
        parameters: Weights, float32; frozen ones and adapters as well.
        optimizer: What the optimizer remembers.
        inputs: Whatever else goes in: the batch, keys, a catalog, and the padding of tiles.
        outputs: What comes out and takes no input's place.
        temporary: Activations, gradients and work space at the worst moment.
        code: The program.
        total: All of them; where the program was refused, what the compiler says that it needs.
        usable: What there is.
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
        """Whether it does."""
        return self.total <= self.usable


class LinkTraffic(NamedTuple):
    """A collective on the devices of a topology.

    Attributes:
        kind: One of `hlo.KINDS`.
        axes: The mesh axes that it crosses.
        chips: How many devices exchange with each other.
        payload: Bytes of the whole array that is gathered, reduced or moved, at one device.
        times: How often it runs each time the program runs.
        slices: Slices that the devices of one exchange lie in.
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
    def within(self) -> float:
        """Bytes that each device sends within its slice, each time the program runs."""
        return self.times * self.payload * sent_share(self.kind, self.chips // self.slices)

    @property
    def across(self) -> float:
        """Bytes that each device sends to other slices.

        The devices of a slice share that work: each sends its part of what the slice has
        gathered or reduced.
        """
        near = self.chips // self.slices
        return self.times * self.payload * sent_share(self.kind, self.slices) / near


class Compiled(NamedTuple):
    """One program of a run, compiled.

    Attributes:
        program: `train`, `score` or `decode`.
        memory: Bytes on one device.
        traffic: What moves between devices; empty where the program was refused.
        unknown_loops: Loops whose turns depend on data, counted with the most that there can be.
        refused: Why the compiler refused it; "" where it did not.
        compile_s: Seconds that it took.
        compiler_bytes: Memory that the compiling process has taken at its peak so far.
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
    def is_close(self) -> bool:
        """Whether another effort of the compiler could decide otherwise."""
        return abs(self.memory.total / self.memory.usable - 1) < CLOSE


@dataclasses.dataclass(frozen=True)
class CompileJob:
    """What is asked of the compiler.

    Attributes:
        experiment: With the model's vocabulary resolved and a mesh that fits the topology.
        topology: The devices.
        items: Size of the catalog.
        programs: Which programs.
        effort: `FULL` compiles as a run does.
    """

    experiment: Experiment
    topology: Topology
    items: int
    programs: tuple[str, ...] = ("train", "score", "decode")
    effort: float = FAST

    def to_json(self) -> dict[str, Any]:
        """What the worker reads."""
        return {
            "experiment": to_json(self.experiment),
            "topology": str(self.topology),
            "items": self.items,
            "programs": list(self.programs),
            "effort": self.effort,
        }


class CompileResult(NamedTuple):
    """What the worker says: the mesh it used and each program.

    Attributes:
        devices: How many devices there are.
        mesh: Devices along each axis.
        peak: Measured operations per second of one local device; 0.0 where a datasheet says it.
        programs: In the order that they were asked for.
    """

    devices: int
    mesh: Mapping[str, int]
    peak: float
    programs: tuple[Compiled, ...]


class CompilerCrash(InputError):
    """The compiling process ended without an answer."""


def compile_job(job: CompileJob, tell: Callable[[str], None] | None = None) -> CompileResult:
    """Compiles the programs of a run in another process.

    libtpu takes hold of a process and of its JAX, and a crash of the compiler ends it: neither
    should happen to the caller.

    Args:
        job: What to compile.
        tell: Is told of each program when it is done.

    Raises:
        CompilerCrash: The compiler did.
        InputError: The devices do not exist here, or the mesh does not fit them.
    """
    # The compiler writes much to its standard error, more than a pipe holds.
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
            answer = _read(worker, tell)
            code = worker.wait()
        finally:
            worker.kill()
        if answer is None or len(answer.programs) < len(job.programs):
            errors.seek(0)
            raise CompilerCrash(_crash(code, errors.read()), where="topology", hint=_CRASHED)
        return answer


def compile_closely(job: CompileJob, tell: Callable[[str], None] | None = None) -> CompileResult:
    """As `compile_job`; what is close to the limit is compiled again as a run compiles it.

    So is what the compiler crashed on with less effort.

    Raises:
        InputError: See `compile_job`.
    """
    try:
        answer = compile_job(job, tell)
    except CompilerCrash:
        if job.effort == FULL:
            raise
        if tell:
            tell("the compiler crashed, so it is asked again with full effort")
        return compile_job(dataclasses.replace(job, effort=FULL), tell)
    close = tuple(program.program for program in answer.programs if program.is_close)
    if not close or job.effort == FULL or job.topology.chip is None:
        return answer
    if tell:
        tell(f"{', '.join(close)}: close to the limit, so compiled again with full effort")
    again = compile_job(dataclasses.replace(job, programs=close, effort=FULL), tell)
    newer = {program.program: program for program in again.programs}
    programs = tuple(newer.get(program.program, program) for program in answer.programs)
    return answer._replace(programs=programs)


def _read(
    worker: "subprocess.Popen[str]", tell: Callable[[str], None] | None
) -> CompileResult | None:
    answer = None
    for line in worker.stdout or ():
        # The compiler may write to the same stream; only lines of ours begin so.
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        if "error" in said:
            raise InputError(**said["error"])
        if answer is None:
            answer = CompileResult(said["devices"], said["mesh"], said["peak"], ())
            continue
        program = from_plain(said)
        answer = answer._replace(programs=(*answer.programs, program))
        if tell:
            tell(f"{program.program}: {program.compile_s:.0f} s")
    return answer


_CRASHED = "Try another mesh; a compiler that crashes here crashes in the run as well."


def _crash(code: int, errors: str) -> str:
    if code < 0:
        return f"the compiler crashed with {signal.Signals(-code).name}"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return f"the compiler crashed ({lines[-1][:200] if lines else 'it said nothing'})"


def _environment(topology: Topology) -> dict[str, str]:
    environment = dict(os.environ)
    # Only what is there is compiled for; taking a GPU's memory would disturb what runs on it.
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if topology.chip is not None:
        environment |= {
            "JAX_PLATFORMS": "cpu",
            # Otherwise it asks a metadata server that is only there in the cloud.
            "TPU_SKIP_MDS_QUERY": "1",
            # Its lock keeps two processes from one TPU; here is none.
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            "TPU_LOG_DIR": "disabled",
            "TPU_STDERR_LOG_LEVEL": "3",
            "TPU_MIN_LOG_LEVEL": "3",
            "LIBTPU_INIT_ARGS": libtpu_arguments(environment.get("LIBTPU_INIT_ARGS", "")),
        }
    return environment


def to_plain(compiled: Compiled) -> dict[str, Any]:
    """As JSON can hold it."""
    plain = compiled._asdict()
    plain["memory"] = compiled.memory._asdict()
    plain["traffic"] = [crossing._asdict() for crossing in compiled.traffic]
    return plain


def from_plain(plain: Mapping[str, Any]) -> Compiled:
    """What `to_plain` made."""
    traffic = tuple(
        LinkTraffic(**{**crossing, "axes": tuple(crossing["axes"])})
        for crossing in plain["traffic"]
    )
    return Compiled(**{**plain, "memory": Memory(**plain["memory"]), "traffic": traffic})
