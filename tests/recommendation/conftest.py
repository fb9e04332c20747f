"""Run folders of tiny models with random weights, one for each item index."""

import json

import jax
import jax.numpy as jnp
import polars as pl
import pytest

from irec_jax.decoding.config import DecodeConfig
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.model.config import T5Config
from irec_jax.model.params import initialize
from irec_jax.recommendation.recommender import Recommender
from irec_jax.recommendation.run_parts import ServingSettings
from irec_jax.run_checksums import Sources, write_checksums
from irec_jax.settings import to_json
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.tokens.items import make_writer
from irec_jax.training.checkpoint import Checkpoints, TrainState, model_fingerprint

ITEMS = 24
COLORS = ("blue", "red", "green", "black")
THINGS = ("rain jacket", "trail shoe", "wool hat", "tent", "desk lamp", "tea pot")


def make_catalog() -> pl.DataFrame:
    """24 items; the last two have one title, and the last has no price."""
    titles = [f"{COLORS[n % 4]} {THINGS[n // 4]} {n}" for n in range(ITEMS)]
    titles[-1] = titles[-2]
    return pl.DataFrame(
        {
            "item": [f"i{number}" for number in range(ITEMS)],
            "title": titles,
            "categories": [[THINGS[n // 4].split()[-1], COLORS[n % 4]] for n in range(ITEMS)],
            "price": [10.0 * number for number in range(ITEMS - 1)] + [None],
        }
    )


def write_run(folder, kind: IndexKind) -> None:
    catalog = make_catalog()
    tokens = TokensConfig(
        vocabulary=512, index=kind, max_item_tokens=12, source_length=64, target_length=12
    )
    texts = [*catalog["title"].to_list(), "waterproof and light"]
    writer = make_writer(catalog, texts, tokens)
    model = T5Config(
        vocabulary=writer.index.vocabulary,
        width=16,
        head_dim=8,
        heads=2,
        mlp_dim=32,
        encoder_layers=1,
        decoder_layers=1,
    )
    settings = ServingSettings(InstructionsConfig(), tokens, model, DecodeConfig(beams=8, batch=4))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**to_json(settings), "seed": 0}))
    catalog.write_parquet(folder / "catalog.parquet")
    writer.save(folder / "tokens")
    write_checksums(folder, Sources(log={}, catalog="", teacher=""))
    state = TrainState(
        jnp.asarray(3), initialize(model, jax.random.key(1)), {"count": jnp.zeros(())}
    )
    checkpoints = Checkpoints(folder, {"model": model_fingerprint(model)})
    checkpoints.save(3, state, {})
    checkpoints.close()


@pytest.fixture(scope="session")
def run_of(tmp_path_factory):
    """Returns a function: `run_of("title")` is the folder of a run with that index, made once."""
    folders = {}

    def run(kind: str):
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp("runs") / kind
            write_run(folders[kind], IndexKind(kind))
        return folders[kind]

    return run


@pytest.fixture(scope="module", params=["title", "atomic"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def recommender(run_of, kind):
    return Recommender.load(run_of(kind))
