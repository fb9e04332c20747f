"""What every test runs under (eight simulated devices, shared programs), and what tests share:
a tiny experiment, its log, its model and runs of it, and a split of a few users."""

import os

# Before JAX starts: its devices and thread pools are fixed at the first use.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    # Programs of tests run for milliseconds and compile for seconds: optimize little.
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from irec_jax.experiment.config import Experiment
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.materials import Materials, prepare
from irec_jax.experiment.run_config import save_run
from irec_jax.log.dataset import load_log
from irec_jax.log.events import BehaviorLog
from irec_jax.log.split import Role, Split, SplitProtocol
from irec_jax.model.config import T5Config
from irec_jax.model.params import initialize
from irec_jax.training.checkpoint import Checkpoints, TrainState, model_fingerprint

FAST_COMPILATION = " ".join(os.environ["XLA_FLAGS"].split()[-2:])

# How long an example takes says more of what else the machine does than of our code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real `data/` and a `tokenizer/`; tests that need it skip without it."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("IREC_TEST_DATA", default))
    if not (folder / "data").is_dir():
        pytest.skip("no real data: set IREC_TEST_DATA to a folder with data/ and tokenizer/")
    return folder


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory) -> Iterator[Path]:
    """A folder where all tests, and the programs they start, keep what the compiler made."""
    folder = tmp_path_factory.mktemp("compiled")
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def cached(compiled) -> dict[str, str]:
    """Variables with which a program of one device compiles fast and uses that folder too."""
    return {
        "XLA_FLAGS": FAST_COMPILATION,
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }


TINY_CONFIG = """
from irec_jax.experiment.config import Experiment
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.model.config import T5Config
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig

experiment = Experiment(
    data=DataConfig(simulate=SimulateConfig(users=80, items=100)),
    instructions=InstructionsConfig(max_history=6),
    tokens=TokensConfig(vocabulary=512, source_length=64, target_length=16),
    model=T5Config(width=16, head_dim=8, heads=2, mlp_dim=32, encoder_layers=1, decoder_layers=1),
    train=TrainConfig(steps=6, batch_size=8, log_every=2, checkpoint_every=3),
)
"""
"""An experiment that takes seconds, as a file."""


@pytest.fixture(scope="module")
def tiny_config(tmp_path_factory) -> Path:
    """Its folder has a space in its name, as users' folders have."""
    path = tmp_path_factory.mktemp("a config") / "small.py"
    path.write_text(TINY_CONFIG)
    return path


@pytest.fixture(scope="session")
def tiny_experiment(tmp_path_factory) -> Experiment:
    path = tmp_path_factory.mktemp("experiment") / "small.py"
    path.write_text(TINY_CONFIG)
    return load_experiment(path)


@pytest.fixture(scope="session")
def tiny_model(tiny_experiment) -> T5Config:
    return tiny_experiment.model


@pytest.fixture(scope="session")
def tiny_log(tiny_experiment) -> BehaviorLog:
    return load_log(tiny_experiment.data)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Materials]:
    """Returns a function that writes a run with random weights, as if it had been tuned."""

    def write(run: Path, experiment: Experiment, steps: Sequence[int] = (1,)) -> Materials:
        materials = prepare(experiment, run)
        save_run(run, materials)
        model = materials.experiment.model
        checkpoints = Checkpoints(run, {"model": model_fingerprint(model)})
        for step in steps:
            params = jax.jit(initialize, static_argnums=0)(model, jax.random.key(step))
            state = TrainState(jnp.asarray(step), params, {"count": jnp.zeros(())})
            checkpoints.save(step, state, {})
        checkpoints.close()
        return materials

    return write


def make_split(
    histories: Sequence[Sequence[int]],
    titles: Sequence[str],
    queries: dict[tuple[int, int], tuple[str, int]] | None = None,
) -> Split:
    """Makes a leave-one-out split; `queries[user row, place]` is (text, intention code)."""
    lengths = [len(history) for history in histories]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    count = int(offsets[-1])
    roles = np.full(count, Role.TRAIN.value, dtype=np.int8)
    texts, intentions = [""] * count, np.zeros(count, dtype=np.int8)
    for row, length in enumerate(lengths):
        if length >= 3:
            roles[offsets[row + 1] - 1] = Role.TEST.value
            roles[offsets[row + 1] - 2] = Role.VALIDATION.value
    for (row, place), (text, code) in (queries or {}).items():
        texts[offsets[row] + place], intentions[offsets[row] + place] = text, code
    catalog = pl.DataFrame({"item": [f"sku{n}" for n in range(len(titles))], "title": list(titles)})
    return Split(
        protocol=SplitProtocol.LEAVE_ONE_OUT,
        catalog=catalog,
        users=np.arange(len(histories), dtype=np.int64) + 900_001,
        offsets=offsets,
        items=np.array([i for history in histories for i in history], dtype=np.int32),
        times=np.arange(count, dtype=np.int64) * 10,
        queries=texts,
        intentions=intentions,
        roles=roles,
    )


TITLES = [f"Brand{n} lamp model{n}" for n in range(12)]


@pytest.fixture
def titles() -> list[str]:
    return list(TITLES)


@pytest.fixture
def split() -> Split:
    """Five users: 6, 5, 3, 2 and 1 events; two vague and three specific queries."""
    histories = [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9], [1, 3, 5], [10, 11], [2]]
    queries = {
        (0, 0): ("something bright", 1),
        (0, 2): ("red desk light", 2),
        (0, 5): ("gift for a reader", 1),
        (1, 3): ("tall floor light", 2),
        (1, 2): ("cheap {light}\n for \u202e bed", 2),
    }
    return make_split(histories, TITLES, queries)


@pytest.fixture(scope="session")
def make() -> Callable[..., Split]:
    return make_split


@pytest.fixture(scope="session")
def titles_forever() -> list[str]:
    """As `titles`, for property tests, which may not use a fixture of function scope."""
    return list(TITLES)
