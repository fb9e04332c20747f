"""Speed of rendering, auditing and storing instructions, and reproducibility of the set.

Run with `python bench/instruct.py [FOLDER] [--records 252730]`, on Amazon Beauty by default. The
goals, with two workers on two free cores: 40,000 records per second rendered, 15,000 per second
rendered, audited and stored, all processes together under 2 GiB. Prints wall time and CPU time;
the latter is the better measure on a shared machine.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# Workers import this file, so packages that they do not need (TFDS) are imported where used.
from irec_jax.audit.audit import Auditor
from irec_jax.instructions.forms import TaskName
from irec_jax.instructions.render import Renderer
from irec_jax.storage.shards import Shard, plan_shards
from irec_jax.storage.workers import Advance, run_in_workers

PAPER = 252_730
BEAUTY = Path("../shared/data/amazon-beauty-2014")
ROUNDS = 3
PARTS = 16_384
# A log without times has no request context.
TASKS = tuple(name for name in TaskName if not name.value.startswith("context"))


@dataclasses.dataclass(frozen=True)
class RenderJob:
    """Renders records without storing them."""

    renderer: Renderer

    def __call__(self, shard: Shard, advance: Advance) -> int:
        """Returns the number of rendered characters."""
        total = 0
        for number in range(shard.start, shard.stop):
            record = self.renderer.record(number)
            total += len(record.inputs) + len(record.targets)
        return total


@dataclasses.dataclass
class Measurement:
    """Time and memory of a piece of work.

    Attributes:
        wall: Wall time in seconds.
        cpu: CPU time of all processes in seconds.
        peak: Peak bytes of all processes together, with shared memory counted for each.
    """

    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0


@contextlib.contextmanager
def measured() -> Iterator[Measurement]:
    """Measures this process and its descendants."""
    result, ended = Measurement(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            result.peak = max(result.peak, sum(map(resident, process_tree())))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    start, before = time.perf_counter(), sum(os.times()[:4])
    try:
        yield result
    finally:
        result.wall = time.perf_counter() - start
        result.cpu = sum(os.times()[:4]) - before
        ended.set()
        thread.join()


def process_tree() -> list[int]:
    """Returns the ids of this process and its descendants."""
    pids = [os.getpid()]
    for pid in pids:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            pids += map(int, children.split())
    return pids


def resident(pid: int) -> int:
    """Returns the resident bytes of a process."""
    with contextlib.suppress(OSError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


def show(label: str, records: int, results: list[Measurement]) -> None:
    """Prints the medians of some runs."""
    wall = statistics.median(result.wall for result in results)
    cpu = statistics.median(result.cpu for result in results)
    peak = max(result.peak for result in results) / 2**30
    print(
        f"{label:32} {wall:7.1f} s {records / wall:9,.0f}/s   {cpu:7.1f} s CPU "
        f"{records / cpu:9,.0f}/s per CPU   peak {peak:4.2f} GiB",
        flush=True,
    )


def load(source: Path, folder: Path) -> tuple[Renderer, Auditor]:
    """Prepares the log as a user would, with the metadata teacher."""
    from irec_jax.batches.lengths import TokenCount
    from irec_jax.experiment.config import Experiment
    from irec_jax.experiment.materials import prepare
    from irec_jax.instructions.config import InstructionsConfig
    from irec_jax.log.dataset import DataConfig
    from irec_jax.log.readers.table import Columns, TableConfig, read_table

    log = read_table(
        source, TableConfig(columns=Columns(time="position"), category_separator="|"), 0
    )
    log.save(folder / "log")
    materials = prepare(
        Experiment(
            data=DataConfig(log=str(folder / "log")),
            instructions=InstructionsConfig(tasks=TASKS, packs=("en", "zh"), teacher="metadata"),
        )
    )
    count = TokenCount(materials.writer)
    return materials.renderer, Auditor.build(materials.renderer, materials.split, count)


def render(renderer: Renderer, records: int, workers: int) -> Measurement:
    """Renders without storing."""
    shards = plan_shards("render", records, PARTS)
    with measured() as result:
        for _ in run_in_workers(RenderJob(renderer), shards, workers, lambda amount: None):
            pass
    return result


def is_same_after_kill(options: argparse.Namespace, folder: Path, target: Path) -> bool:
    """Kills a build in its middle, resumes it, and compares its files with those of `target`."""
    command = [sys.executable, __file__, str(options.source), "--records", str(options.records)]
    command += ["--build", str(folder / "killed")]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    reports = folder / ".killed.partial" / "reports"
    total = len(plan_shards("", options.records, PARTS))
    while not reports.is_dir() or len(list(reports.iterdir())) < total // 2:
        if first.poll() is not None:
            raise SystemExit("the build ended before it could be killed")
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return files(folder / "killed") == files(target)


def files(folder: Path) -> dict[str, bytes]:
    """Returns the contents of the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def compare(options: argparse.Namespace, renderer: Renderer, auditor: Auditor, out: Path) -> None:
    """Checks the sets `one` and `two`, and builds the same set after a kill and by Beam."""
    from irec_jax.instruction_sets.store import InstructionSet, write_instruction_set

    stored = InstructionSet(out / "two")
    numbers = random.Random(0).sample(range(options.records), min(10_000, options.records))
    equal = sum(stored[number] == renderer.record(number) for number in numbers)
    print(f"stored record i is the rendered one: {equal:,} of {len(numbers):,} random i")
    print(f"1 and 2 workers, the same files: {files(out / 'one') == files(out / 'two')}")
    print(f"killed and resumed, the same files: {is_same_after_kill(options, out, out / 'two')}")
    if importlib.util.find_spec("apache_beam"):
        from irec_jax.storage.beam_runner import beam_runner

        runner = beam_runner("DirectRunner")
        with measured() as result:
            beam = write_instruction_set(
                renderer, out / "beam", options.records, auditor=auditor, runner=runner
            )
        show("stored by Beam's DirectRunner", options.records, [result])
        print(f"and the same set: {beam.sha256 == stored.manifest.sha256}")
    size = sum(path.stat().st_size for path in (out / "two").iterdir())
    print(f"{size / 2**20:.0f} MiB on disk\nsha256 {stored.manifest.sha256}")


def main() -> None:
    """Prints one line per measurement."""
    from irec_jax.instruction_sets.store import write_instruction_set

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, default=BEAUTY)
    parser.add_argument("--records", type=int, default=PAPER)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--build", type=Path, help="only write the set, into this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        with measured() as result:
            renderer, auditor = load(options.source, out)
        if options.build is not None:
            write_instruction_set(
                renderer, options.build, options.records, workers=2, auditor=auditor
            )
            return
        print(f"log, tokens, teacher, auditor: {result.wall:.1f} s; a pass has {len(renderer):,}")
        report(options, renderer, auditor, out)
        compare(options, renderer, auditor, out)


def report(options: argparse.Namespace, renderer: Renderer, auditor: Auditor, out: Path) -> None:
    """Measures rendering, and then rendering, auditing and storing."""
    from irec_jax.instruction_sets.store import write_instruction_set

    rendered: dict[int, list[Measurement]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for workers, results in rendered.items():
            results.append(render(renderer, options.records, workers))
    for workers, results in rendered.items():
        show(f"rendered, {workers} worker(s)", options.records, results)
    names: dict[int, str] = {1: "one", 2: "two"}
    for workers, name in names.items():
        with measured() as result:
            write_instruction_set(
                renderer, out / name, options.records, workers=workers, auditor=auditor
            )
        show(f"audited and stored, {workers} worker(s)", options.records, [result])


if __name__ == "__main__":
    main()
