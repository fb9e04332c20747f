"""Speed of making instruction sets: rendered, and rendered, audited and stored, by 1 and 2 workers.

    python bench/instruct.py FOLDER --records 252730

FOLDER holds Amazon Beauty as two tables (interactions.tsv.gz with user, item, position, and
items.tsv.gz with item, title, categories, brand). The `metadata` teacher writes preferences,
queries and reasons; tasks of every strategy are mixed, in English and Chinese. Also checked: equal
content for any number of workers, and stored records equal to rendered ones at 10,000 random
numbers. Peak memory is that of all processes together, shared pages counted once each.
"""

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from irec_jax.instructions.audit import Auditor
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.store import InstructionSet, StoreManifest, write_instruction_set
from irec_jax.instructions.workers import shared
from irec_jax.log.readers.table import Columns, TableConfig, read_table
from irec_jax.log.split import Split, SplitConfig, split_log

TASKS = (
    TaskName.SEQUENTIAL_RECOMMENDATION,
    TaskName.SEQUENTIAL_RERANKING,
    TaskName.SEQUENTIAL_POINTWISE,
    TaskName.PREFERENCE_RECOMMENDATION,
    TaskName.PRODUCT_SEARCH,
    TaskName.PERSONALIZED_SEARCH,
    TaskName.HISTORY_TO_PREFERENCE,
    TaskName.ITEM_TO_QUERY,
    TaskName.QUERY_ITEM_TO_HISTORY,
    TaskName.REASONED_RECOMMENDATION,
)
PARTS = 32
PAGE_KIB = 1024


class Render:
    """Renders a range of records and throws them away."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def __call__(self, numbers: tuple[int, int], advance: Callable[[int], None]) -> int:
        """Returns how many it rendered."""
        for number in range(*numbers):
            self.renderer.record(number)
        return numbers[1] - numbers[0]


class PeakMemory:
    """The most memory that this process and its children held together, in MiB."""

    def __init__(self) -> None:
        self.peak, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            own = Path("/proc/self/task").glob("*/children")
            children = [pid for path in own for pid in path.read_text().split()]
            self.peak = max(self.peak, sum(map(_proportional, ["self", *children])))


def _proportional(process: str) -> float:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(next(line.split()[1] for line in text.splitlines() if line[:4] == "Pss:")) / PAGE_KIB


def read_beauty(folder: Path) -> Split:
    """Reads the two tables and cuts them."""
    log = read_table(folder, TableConfig(columns=Columns(time="position")), 0)
    return split_log(log, SplitConfig(), 0)


def rendered(renderer: Renderer, records: int, workers: int) -> float:
    """Returns records rendered a second, the start of the workers not counted."""
    size = -(-records // PARTS)
    parts = [(start, min(start + size, records)) for start in range(0, records, size)]
    done, start = 0, 0.0
    for count in shared(Render(renderer), parts, workers, lambda _: None):
        # The first part to come back says that everybody has started.
        start, done = (start, done + count) if start else (time.perf_counter(), 0)
    return done / (time.perf_counter() - start)


def stored(
    renderer: Renderer, split: Split, folder: Path, records: int, workers: int
) -> tuple[float, float, StoreManifest]:
    """Returns records rendered, audited and stored a second, peak MiB, and the manifest."""
    auditor = Auditor.build(renderer, split)
    with PeakMemory() as memory:
        start = time.perf_counter()
        manifest = write_instruction_set(
            renderer, folder, records, workers=workers, auditor=auditor
        )
        seconds = time.perf_counter() - start
    return records / seconds, memory.peak, manifest


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=252_730)
    parser.add_argument("--repeats", type=int, default=5, help="of rendering alone")
    arguments = parser.parse_args()
    split = read_beauty(arguments.folder)
    config = InstructionsConfig(tasks=TASKS, packs=("en", "zh"), teacher="metadata")
    names = [f"<item_{number}>" for number in range(split.num_items)]
    renderer = Renderer.build(split, config, names, seed=0)
    records = arguments.records
    print(f"{records:,} of {len(renderer):,} instructions a pass, {len(TASKS)} tasks, en and zh")
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(arguments.repeats):
        for workers, found in speeds.items():
            found.append(rendered(renderer, records, workers))
    for workers, found in speeds.items():
        low, high = min(found), max(found)
        told = f"{statistics.median(found):,.0f} a second ({low:,.0f} to {high:,.0f})"
        print(f"rendered, {workers} workers: {told}")
    with tempfile.TemporaryDirectory() as temporary:
        contents = {}
        for workers in (2, 1):
            folder = Path(temporary) / f"set{workers}"
            speed, peak, manifest = stored(renderer, split, folder, records, workers)
            contents[workers] = manifest.sha256
            print(
                f"rendered, audited and stored, {workers} workers: {speed:,.0f} a second, "
                f"{peak:,.0f} MiB at most"
            )
        print(f"content equal: {contents[1] == contents[2]} ({contents[1][:16]}...)")
        made = InstructionSet(folder)
        drawn = random.Random(0)
        numbers = [drawn.randrange(records) for _ in range(10_000)]
        equal = sum(made[number] == renderer.record(number) for number in numbers)
        print(f"stored equal to rendered: {equal:,} of {len(numbers):,}")


if __name__ == "__main__":
    main()
