"""Training speed of this package and its peers, in real tokens per CPU-second and per second.

    python bench/train.py --shape tiny --data ragged --python flax=~/flaxpeer/bin/python

Each side runs in its own process, pinned to the same core (`--threads 1`) or to both
(`--threads 2`), and the sides alternate repeat by repeat. Prints the median of the repeats and the
ratio of ours to each side. A step is forward, backward and Adafactor of a T5 v1.1 (gated GELU,
untied head) at batch 16 x (256 + 32) with dropout 0.1; all sides must have the same number of
parameters. CPU-seconds are user and system time of the process and its children. Each repeat begins
with a warm-up step, since caches are cold after the other sides. Only real tokens of inputs and
targets count, not padding.

`dense` data have no padding. `ragged` data are packed for our side. For the peers they are padded
to 256/32 (`fixed`); sorted by length in chunks of 50 batches and padded to the longest of the batch
(`grouped`); or the same, rounded up to multiples of 32/16 (`stepped`), for programs that are
compiled per length.

Sides: `ours`, the training step of `irec tune`. `hf-eager`, `hf-sdpa`, `hf-compiled`: transformers'
torch T5 with eager attention, with torch's fused attention (its default), and with torch.compile;
in bfloat16 they run under autocast. `...-avx512` are the same with MKL on its AVX-512 path, which
MKL uses by default only on Intel processors: a goal, not an installation by pip. `flax`: the Flax
T5 of transformers 4, whose last version (4.57) needs an environment of its own:

    python -m venv ~/flaxpeer
    ~/flaxpeer/bin/pip install transformers==4.57.6 flax jax optax

T5X is not a side: PyPI has only an empty, withdrawn 0.0.0. Sides that are not installed are listed
and skipped.

At `small` each side needs 3 to 5 GiB: select a few `--sides` at a time.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from train_data import SHAPES
from train_table import report

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("train_worker.py")
PROBES = {
    "ours": "import irec_jax.training.step",
    "hf": "import torch; from transformers import T5ForConditionalGeneration",
    "flax": "import optax; from transformers import FlaxT5ForConditionalGeneration",
}
INSTALL = {
    "ours": "pip install -e .",
    "hf": "pip install torch transformers",
    "flax": "python -m venv ~/flaxpeer && ~/flaxpeer/bin/pip install transformers==4.57.6 flax jax "
    "optax, then --python flax=~/flaxpeer/bin/python",
}
INTEL = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
"""A replacement for MKL's test of the processor's vendor, which enables its AVX-512 path."""


class Side(NamedTuple):
    """One side of the comparison.

    Attributes:
        family: `ours`, `hf` or `flax`; selects the interpreter.
        variant: Its name in the worker.
        layout: Layout of its batches.
        avx512: Whether MKL is forced to its AVX-512 path.
    """

    family: str
    variant: str
    layout: str
    avx512: bool = False


def sides_of(data: str) -> dict[str, Side]:
    """Returns all sides for a kind of data, by name."""
    variants = ("eager", "sdpa", "compiled")
    if data == "dense":
        sides = {f"hf-{variant}": Side("hf", variant, "fixed") for variant in variants}
        sides["flax"] = Side("flax", "flax", "fixed")
    else:
        sides = {
            f"hf-{variant}-{layout}": Side("hf", variant, layout)
            for variant in variants
            for layout in ("fixed", "grouped")
        }
        for layout in ("fixed", "stepped"):
            sides[f"flax-{layout}"] = Side("flax", "flax", layout)
    fast = {f"{n}-avx512": s._replace(avx512=True) for n, s in sides.items() if s.family == "hf"}
    return {"ours": Side("ours", "ours", "packed"), **sides, **fast}


def default_sides(data: str) -> list[str]:
    """Returns the names of the sides that are compared by default."""
    if data == "dense":
        return ["ours", "hf-eager", "hf-sdpa", "hf-compiled", "flax", "hf-sdpa-avx512"]
    grouped = ["hf-eager-grouped", "hf-sdpa-grouped", "hf-compiled-grouped"]
    return ["ours", "hf-sdpa-fixed", *grouped, "flax-fixed", "hf-sdpa-grouped-avx512"]


def available(
    sides: dict[str, Side], pythons: dict[str, str]
) -> tuple[dict[str, Side], dict[str, str]]:
    """Splits sides into those that can run and those that cannot, with their requirement."""
    missing = {}
    for family in {side.family for side in sides.values()}:
        probe = [pythons[family], "-c", PROBES[family]]
        if subprocess.run(probe, env=environment(1), capture_output=True, check=False).returncode:
            missing |= {n: INSTALL[family] for n, side in sides.items() if side.family == family}
    if any(side.avx512 for side in sides.values()) and (hint := _preload_requirement()) is not None:
        missing |= {name: hint for name, side in sides.items() if side.avx512}
    return {name: side for name, side in sides.items() if name not in missing}, missing


def _preload_requirement() -> str | None:
    """Returns what is missing to force MKL to its AVX-512 path, or None."""
    flags = Path("/proc/cpuinfo").read_text()
    if "avx512f" not in flags:
        return "a processor with AVX-512"
    if "GenuineIntel" in flags:
        return "nothing: on this processor MKL uses that path by default"
    return None if shutil.which("gcc") else "gcc"


def environment(threads: int) -> dict[str, str]:
    """Returns the environment variables of a worker process."""
    multi_threaded = "true" if threads > 1 else "false"
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={multi_threaded}",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }


class Worker:
    """The worker process of one side."""

    def __init__(
        self, name: str, side: Side, options: argparse.Namespace, preload: Path | None
    ) -> None:
        self.name, self.side = name, side
        self.repeats: list[dict[str, Any]] = []
        settings = {key: getattr(options, key) for key in ("shape", "data", "compute", "threads")}
        settings |= {key: getattr(options, key) for key in ("steps", "repeats")}
        settings |= {"side": side.variant, "layout": side.layout}
        settings["keep_memory"] = options.keep_memory == "all" or side.family == "ours"
        variables = environment(options.threads)
        if side.avx512:
            variables["LD_PRELOAD"] = str(preload)
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[-options.threads :]))
        python = options.pythons[side.family]
        self.process = subprocess.Popen(
            ["taskset", "-c", cores, python, str(WORKER), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
            text=True,
        )
        self.ready = self._read()

    def repeat(self) -> None:
        """Runs one repeat."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.repeats.append(self._read())

    def end(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} exited with code {self.process.wait()}")
        return json.loads(line)


def compare(sides: dict[str, Side], options: argparse.Namespace) -> list[Worker]:
    """Runs the repeats of all sides in turns."""
    workers: list[Worker] = []
    with tempfile.TemporaryDirectory() as folder:
        preload = _preload(Path(folder)) if any(side.avx512 for side in sides.values()) else None
        try:
            for name, side in sides.items():
                workers.append(Worker(name, side, options, preload))
            for _ in range(options.repeats):
                for worker in workers:
                    worker.repeat()
        finally:
            for worker in workers:
                worker.end()
    counts = {worker.name: worker.ready["parameters"] for worker in workers}
    if len(set(counts.values())) > 1:
        raise SystemExit(f"the sides have different numbers of parameters: {counts}")
    return workers


def _preload(folder: Path) -> Path:
    source, library = folder / "intel.c", folder / "intel.so"
    source.write_text(INTEL)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def _interpreter(text: str) -> tuple[str, str]:
    family, _, path = text.partition("=")
    if family not in PROBES or not path:
        raise argparse.ArgumentTypeError(f"expected FAMILY=PATH with one of {', '.join(PROBES)}")
    return family, str(Path(path).expanduser())


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--data", choices=("dense", "ragged"), default="ragged")
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="training steps of one repeat")
    parser.add_argument("--sides", nargs="*", help="names, as in the table; see --list")
    parser.add_argument("--list", action="store_true", help="print the names of the sides and exit")
    parser.add_argument(
        "--python",
        type=_interpreter,
        action="append",
        default=[],
        metavar="FAMILY=PATH",
        help=f"interpreter of the sides of a family ({', '.join(PROBES)})",
    )
    parser.add_argument(
        "--keep-memory",
        choices=("ours", "all"),
        default="ours",
        help="sides that keep freed memory (irec_jax.model.host_memory); peers do not by default",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file that receives all figures")
    options = parser.parse_args()
    options.pythons = dict.fromkeys(PROBES, sys.executable) | dict(options.python)
    return options


def main() -> None:
    """Runs the comparison."""
    options = parse()
    all_sides = sides_of(options.data)
    if options.list:
        print(*all_sides, sep="\n")
        return
    names = options.sides or default_sides(options.data)
    if unknown := set(names) - all_sides.keys():
        raise SystemExit(f"unknown side {', '.join(sorted(unknown))}: run with --list")
    sides, missing = available({name: all_sides[name] for name in names}, options.pythons)
    for name, hint in missing.items():
        print(f"skipped: {name}; it needs: {hint}")
    if sides:
        report(compare(sides, options), missing, options)


if __name__ == "__main__":
    main()
