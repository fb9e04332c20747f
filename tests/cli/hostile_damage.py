"""Hypothesis strategies of damaged file contents."""

import contextlib
import json
import random
from typing import Any

from hypothesis import strategies as st


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """The content of a file with something wrong in it."""
    end = len(content)
    place = st.integers(0, max(end - 1, 0))

    def flipped(places: list[int]) -> bytes:
        changed = bytearray(content)
        for at in places:
            if changed:
                changed[at] ^= 0xFF
        return bytes(changed)

    inserts = st.sampled_from(
        [b"\0", b'"', b"\xff\xfe", b",,,,,,,", b"\r", b"\n\n", b"[]", b"9" * 400, b"\xed\xa0\x80"]
    )
    ways = [
        st.binary(max_size=200),
        place.map(lambda at: content[:at]),
        st.lists(place, min_size=1, max_size=8).map(flipped),
        st.builds(lambda at, more: content[:at] + more + content[at:], place, inserts),
        st.builds(lambda at, more: content[:at] + more + content[at + 3 :], place, inserts),
        st.just(content.decode("utf-8", "replace").encode("utf-16")),
        st.just(content + content),
    ]
    with contextlib.suppress(ValueError):
        if isinstance(tree := json.loads(content), dict):
            ways += [wrong_types(tree)] * 4
    return st.one_of(ways)


WRONG = st.one_of(
    st.sampled_from([None, True, -1, 0, 2**31, 2**70, -(2**70), 1.5, 1e308, float("nan")]),
    st.sampled_from(["", "x", "\0", "\ud800", "[bold]", "../../x", "9" * 5_000]),
    st.sampled_from([[], {}, [[]], [None], {"": {}}, [1, "a"], {"x": [1]}]),
)


def wrong_types(tree: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A JSON object with one or two wrong, missing or unknown values at random places."""

    def changed(seed: int, values: list[Any], way: str) -> bytes:
        drawn, copy = random.Random(seed), json.loads(json.dumps(tree))
        for value in values:
            node = copy
            while True:
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                if not keys:
                    break
                key = drawn.choice(keys)
                inner = node[key]
                if not isinstance(inner, dict | list) or not inner or drawn.random() < 0.3:
                    if way == "remove":
                        del node[key]
                    elif way == "add" and isinstance(node, dict):
                        node["unknown"] = value
                    else:
                        node[key] = value
                    break
                node = inner
        return json.dumps(copy).encode()

    ways = st.sampled_from(["replace", "replace", "replace", "remove", "add"])
    return st.builds(changed, st.integers(0, 2**32), st.lists(WRONG, min_size=1, max_size=2), ways)
