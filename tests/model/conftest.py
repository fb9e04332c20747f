"""Small models of each published form, ours and transformers' with the same random weights."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irec_jax.model import params as parameters
from irec_jax.model.config import T5Config
from irec_jax.model.hf_names import FAMILIES, to_hf_config
from irec_jax.model.pretrained import load_hf

SIZES = {
    "vocabulary": 96,
    "width": 32,
    "head_dim": 12,
    "heads": 3,
    "mlp_dim": 40,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "unroll_layers": False,  # as published models are read
}
FORMS = {
    "v1.0": T5Config(**SIZES, activation="relu", tied_head=True),
    "v1.1": T5Config(**SIZES),
    # What google/flan-t5-small states, but narrower.
    "flan": T5Config(**{**SIZES, "width": 48, "heads": 2, "head_dim": 16, "encoder_layers": 3}),
    "mt5": T5Config(**SIZES, family="mt5"),
    "umt5": T5Config(**{**SIZES, "decoder_layers": 3}, family="umt5"),
}


class Pair(NamedTuple):
    """The same weights here and in torch."""

    config: T5Config
    params: dict
    peer: Any


@pytest.fixture(params=list(FORMS))
def config(request: pytest.FixtureRequest) -> T5Config:
    return FORMS[request.param]


def random_params(config: T5Config, seed: int = 0) -> dict:
    """Weights of which none is a special case: norms are not 1, the query is not small."""
    rng = np.random.default_rng(seed)
    shapes = parameters.abstract(config)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0.05, 0.15, leaf.shape), jnp.float32), shapes
    )


@pytest.fixture
def pair(config: T5Config, tmp_path: Path) -> Pair:
    """A model that transformers made, loaded by us."""
    pytest.importorskip("torch")
    folder = make_peer(config, tmp_path / "peer")
    loaded, params = load_hf(folder)
    assert loaded == config
    return Pair(config, params, open_peer(folder))


def make_peer(config: T5Config, folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    family = FAMILIES[config.family]
    settings = getattr(transformers, f"{family}Config")(**to_hf_config(config))
    peer = getattr(transformers, f"{family}ForConditionalGeneration")(settings)
    # transformers 5 always ties the head, so it is untied here.
    peer.config.tie_word_embeddings = config.tied_head
    if not config.tied_head:
        peer.lm_head.weight = torch.nn.Parameter(torch.empty(config.vocabulary, config.width))
    with torch.no_grad():
        for weight in peer.parameters():
            weight.normal_(0.05, 0.15)
    peer.save_pretrained(folder)
    return folder


def open_peer(folder: Path) -> Any:
    import transformers

    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
