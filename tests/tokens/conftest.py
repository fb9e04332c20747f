"""Small codecs that every test of this room can use."""

import pytest

from irec_jax.tokens.text import train_codec

TITLES = [
    f"{adjective} {material} {thing} by {maker} size {number}"
    for number, (adjective, material, thing, maker) in enumerate(
        (a, m, t, k)
        for a in ("Waterproof", "Light", "Vintage", "Folding")
        for m in ("cotton", "steel", "leather", "bamboo")
        for t in ("jacket", "kettle", "backpack", "lamp", "trail shoe")
        for k in ("Norden", "Alpkit & Co.")
    )
]


@pytest.fixture(scope="session")
def codec():
    return train_codec(TITLES, 640, seed=0)
