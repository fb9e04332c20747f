"""Training speed: ours and transformers' torch T5, side by side, in real tokens per CPU-second.

    python bench/train.py --shape tiny --data ragged --repeats 5

Each side runs in a process of its own with one thread, pinned to the same core, and they take turns
repeat by repeat; what is printed is the median of the repeats and the ratio to transformers.
A step is forward, backward and optimizer (Adafactor) at batch 16 x (256 + 32) with dropout 0.1.
Only real tokens count, of both sides; padding is no work. `ragged` data are packed for us; for
transformers they are padded to 256/32 (fixed) or sorted by length in chunks of 50 batches and
padded to the longest of the batch (grouped), whichever is asked for (both by default).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
BATCH, SOURCE, TARGET = 16, 256, 32
RATE, WARM_STEPS = 1e-3, 3
SHAPES = {
    "tiny": {"width": 128, "hidden": 256, "layers": 4, "heads": 4, "size": 32, "vocabulary": 8_192},
    "small": {
        "width": 512,
        "hidden": 1_024,
        "layers": 8,
        "heads": 6,
        "size": 64,
        "vocabulary": 32_128,
    },
}
DENSE_SIDES = ("ours", "hf")
RAGGED_SIDES = ("ours", "hf-fixed", "hf-grouped")

Example = tuple[np.ndarray, np.ndarray]
Step = Callable[[Any], None]


def examples(data: str, vocabulary: int, number: int) -> list[Example]:
    """Random prompts and targets; ragged lengths are lognormal, as instructions have them."""
    rng = np.random.default_rng(0)
    if data == "dense":
        source, target = np.full(number, SOURCE), np.full(number, TARGET)
    else:
        source = np.clip(_lognormal(rng, 110, 0.6, number), 16, SOURCE)
        target = np.clip(_lognormal(rng, 10, 0.4, number), 4, TARGET)
    return [
        (rng.integers(2, vocabulary, s), rng.integers(2, vocabulary, t))
        for s, t in zip(source, target, strict=True)
    ]


def _lognormal(rng: np.random.Generator, mean: float, sigma: float, number: int) -> np.ndarray:
    return rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, number).round().astype(int)


def packed_batches(made: list[Example]) -> Iterator[tuple[list[np.ndarray], int]]:
    """Arrays of a `Batch`, many examples a row, and their real tokens."""
    from irec_jax.batches.packing import pack

    window = 1_024
    for start in range(0, len(made), window):
        part = made[start : start + window]
        source = np.array([len(example[0]) for example in part])
        target = np.array([len(example[1]) for example in part])
        rows = pack(source, target, SOURCE, TARGET)
        for at in range(0, len(rows) - BATCH + 1, BATCH):
            arrays = [np.zeros((BATCH, n), np.int32) for n in (SOURCE, SOURCE, TARGET, TARGET)]
            for row, members in enumerate(rows[at : at + BATCH]):
                filled = [0, 0]
                for segment, member in enumerate(members, start=1):
                    for side, tokens in enumerate(part[member]):
                        here = slice(filled[side], filled[side] + len(tokens))
                        arrays[2 * side][row, here] = tokens
                        arrays[2 * side + 1][row, here] = segment
                        filled[side] += len(tokens)
            yield arrays, int((arrays[1] > 0).sum() + (arrays[3] > 0).sum())


def padded_batches(made: list[Example], grouped: bool) -> Iterator[tuple[list[np.ndarray], int]]:
    """One example a row, padded to 256/32 or, in groups of like length, to the longest."""
    rng = np.random.default_rng(1)
    chunk = 50 * BATCH
    for start in range(0, len(made) - BATCH + 1, chunk):
        part = made[start : start + chunk]
        if grouped:
            part = sorted(part, key=lambda example: len(example[0]))
        starts = np.arange(0, len(part) - BATCH + 1, BATCH)
        for at in rng.permutation(starts):
            batch = part[at : at + BATCH]
            columns = (SOURCE, TARGET)
            if grouped:
                columns = tuple(max(len(example[side]) for example in batch) for side in (0, 1))
            arrays = [np.zeros((BATCH, n), np.int32) for n in np.repeat(columns, 2)]
            for row, example in enumerate(batch):
                for side, tokens in enumerate(example):
                    arrays[2 * side][row, : len(tokens)] = tokens
                    arrays[2 * side + 1][row, : len(tokens)] = 1
            yield arrays, int((arrays[1] > 0).sum() + (arrays[3] > 0).sum())


def our_step(shape: dict[str, int], compute: str) -> Step:
    """One jitted step of our model, loss and optimizer."""
    import jax
    import optax

    from irec_jax.batches.batch import Batch
    from irec_jax.model.config import T5Config
    from irec_jax.model.params import Params, initialize, structure
    from irec_jax.training.loss import token_loss

    config = T5Config(
        vocabulary=shape["vocabulary"],
        width=shape["width"],
        head_dim=shape["size"],
        heads=shape["heads"],
        hidden=shape["hidden"],
        encoder_layers=shape["layers"],
        decoder_layers=shape["layers"],
        unroll_layers=True,
        compute="bfloat16" if compute == "bfloat16" else "float32",
    )
    graph = structure(config)
    optimizer = optax.adafactor(RATE)
    params = jax.jit(initialize, static_argnums=0)(config, jax.random.key(0))
    state = [params, jax.jit(optimizer.init)(params), jax.random.key(1)]

    def update(params: Params, memory: Any, key: jax.Array, batch: Batch) -> tuple:
        key, dropout_key = jax.random.split(key)

        def mean(params: Params) -> jax.Array:
            total, weight = token_loss(graph, params, batch, dropout_key)
            return total / weight

        loss, gradient = jax.value_and_grad(mean)(params)
        updates, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, updates), memory, key, loss

    jitted = jax.jit(update, donate_argnums=(0, 1, 2))

    def step(arrays: list[np.ndarray]) -> None:
        *state[:], loss = jitted(*state, Batch(*arrays))
        assert np.isfinite(float(loss))

    return step


def hf_step(shape: dict[str, int], compute: str) -> Step:
    """One step of transformers' T5 (SDPA attention) with its Adafactor."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=shape["vocabulary"],
        d_model=shape["width"],
        d_kv=shape["size"],
        num_heads=shape["heads"],
        d_ff=shape["hidden"],
        num_layers=shape["layers"],
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config).train()
    # transformers 5 ties the head whatever it is told: untie it, as T5 v1.1 has it.
    head = torch.randn(shape["vocabulary"], shape["width"]) * shape["width"] ** -0.5
    model.lm_head.weight = torch.nn.Parameter(head)
    assert model.lm_head.weight is not model.shared.weight
    optimizer = transformers.Adafactor(
        model.parameters(), lr=RATE, relative_step=False, scale_parameter=True
    )

    def step(arrays: list[np.ndarray]) -> None:
        inputs, segments, targets, target_segments = (
            torch.from_numpy(array).long() for array in arrays
        )
        labels = targets.masked_fill(target_segments == 0, -100)
        with torch.autocast("cpu", torch.bfloat16, enabled=compute == "bfloat16"):
            loss = model(input_ids=inputs, attention_mask=segments, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert np.isfinite(loss.item())

    return step


def work(side: str, options: argparse.Namespace) -> None:
    """A worker: warms up, then runs one repeat for each line that it reads."""
    shape = SHAPES[options.shape]
    if not options.plain_allocator:
        from irec_jax.model.memory import keep_freed_memory

        keep_freed_memory()
    step = (our_step if side == "ours" else hf_step)(shape, options.compute)
    # Enough for all repeats of the side that puts most examples into a batch.
    made = examples(options.data, shape["vocabulary"], 4_000)
    if side == "ours":
        batches = list(packed_batches(made))
    else:
        batches = list(padded_batches(made, grouped=side == "hf-grouped"))
    at = 0
    for arrays, _ in batches[:WARM_STEPS]:
        step(arrays)
    print("ready", flush=True)
    for _ in sys.stdin:
        tokens, started = 0, time.process_time()
        for _ in range(options.steps):
            arrays, real = batches[at % len(batches)]
            at += 1
            step(arrays)
            tokens += real
        seconds = time.process_time() - started
        print(json.dumps({"tokens": tokens, "seconds": seconds}), flush=True)


def compare(options: argparse.Namespace) -> dict[str, list[float]]:
    """Starts the workers and lets them take turns; tokens per CPU-second of each repeat."""
    core = max(os.sched_getaffinity(0))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    workers = {}
    for side in options.sides or (DENSE_SIDES if options.data == "dense" else RAGGED_SIDES):
        command = [sys.executable, __file__, "--worker", side, *sys.argv[1:]]
        workers[side] = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        _answer(workers[side])
    speeds: dict[str, list[float]] = {side: [] for side in workers}
    for _ in range(options.repeats):
        for side, worker in workers.items():
            worker.stdin.write("go\n")
            worker.stdin.flush()
            done = json.loads(_answer(worker))
            speeds[side].append(done["tokens"] / done["seconds"])
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return speeds


def _answer(worker: subprocess.Popen) -> str:
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"a worker ended with code {worker.wait()}")
    return line


def main() -> None:
    """Reads the options, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--data", choices=("dense", "ragged"), default="ragged")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="training steps of one repeat")
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--sides", nargs="*", choices=sorted({*DENSE_SIDES, *RAGGED_SIDES}))
    parser.add_argument(
        "--plain-allocator", action="store_true", help="leave glibc's malloc as it is, on all sides"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options)
        return
    speeds = compare(options)
    medians = {side: statistics.median(values) for side, values in speeds.items()}
    peers = [value for side, value in medians.items() if side != "ours"]
    print(f"{options.shape}, {options.data}, {options.compute}: real tokens per CPU-second")
    print(f"{'':12}{'median':>9}{'lowest':>9}{'highest':>9}{'ratio to the fastest peer':>28}")
    for side, values in speeds.items():
        ratio = f"{medians[side] / max(peers):28.2f}" if peers else ""
        print(f"{side:12}{medians[side]:9.0f}{min(values):9.0f}{max(values):9.0f}{ratio}")


if __name__ == "__main__":
    main()
