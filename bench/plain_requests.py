"""Plain requests of shoppers to the quickstart's model: the figures of docs/limits.md.

Command: irec quickstart && python bench/plain_requests.py runs/quickstart
Device:  2 CPU cores (AMD EPYC)
Time:    half a minute
"""

import sys
from pathlib import Path

import numpy as np

from irec_jax import Recommender

TITLES, TOP_TITLES, TOP = 30, 10, 5
# Group, request, and the filter that all right answers meet.
REQUESTS = (
    ("plain word", "tent", "categories contains 'tent'"),
    ("plain word", "a lamp", "categories contains 'lamp'"),
    ("plain word", "backpack", "categories contains 'backpack'"),
    ("word and attribute", "a waterproof tent", "categories contains 'tent'"),
    ("word and attribute", "navy backpack", "categories contains 'backpack'"),
    ("capital letters", "Tent", "categories contains 'tent'"),
    ("capital letters", "TENT", "categories contains 'tent'"),
    ("capital letters", "BACKPACK", "categories contains 'backpack'"),
    ("typing error", "tnet", "categories contains 'tent'"),
    ("typing error", "a lmap", "categories contains 'lamp'"),
    ("typing error", "bakpack", "categories contains 'backpack'"),
    ("brand", "anything by Quillon", "brand = 'Quillon'"),
    ("brand", "a backpack by Haldor", "brand = 'Haldor' and categories contains 'backpack'"),
    ("price", "a lamp under 30 dollars", "categories contains 'lamp' and price < 30"),
    ("price", "a cheap backpack", "categories contains 'backpack' and price < 40"),
    (
        "negation",
        "a backpack, not navy",
        "categories contains 'backpack' and not (title contains 'Navy' or "
        "title contains 'Midnight')",
    ),
    (
        "negation",
        "a blanket that is not red",
        "categories contains 'blanket' and not (title contains 'Scarlet' or "
        "title contains 'Crimson')",
    ),
    ("other language", "帐篷", "categories contains 'tent'"),
    ("other language", "une tente", "categories contains 'tent'"),
)
FILTERED = (
    ("a lamp", "categories contains 'lamp' and price < 30"),
    ("a backpack", REQUESTS[15][2]),
    ("something light", "brand = 'Quillon'"),
)


def main() -> None:
    """Prints the tables for the run that is named on the command line."""
    shop = Recommender.load(Path(sys.argv[1]))
    print("group | request | right in the first 5 | of all | probability of the first")
    for group, request, condition in REQUESTS:
        answers = shop.recommend(instruction=request, k=TOP)
        right = shop.catalog.mask(condition)
        hits = sum(bool(right[answer.number]) for answer in answers)
        first = float(np.exp(answers[0].score))
        print(f"{group} | {request} | {hits} | {int(right.sum())} | {first:.2f}")
    print("\nrequest | filter | returned | of all that meet it")
    for request, condition in FILTERED:
        answers = shop.recommend(instruction=request, k=TOP, where=condition)
        allowed = int(shop.catalog.mask(condition).sum())
        print(f"{request} | {condition} | {len(answers)} | {allowed}")
    draw = np.random.default_rng(0).choice(len(shop.catalog), TITLES, replace=False)
    for name, change in (("as written", str), ("in lower case", str.lower)):
        hits = 0
        for item in draw:
            title = shop.catalog.titles[item]
            answers = shop.recommend(instruction=change(title), k=TOP_TITLES)
            hits += any(answer.number == item for answer in answers)
        print(f"\ntitle {name}: {hits} of {TITLES} items in the first {TOP_TITLES}")


if __name__ == "__main__":
    main()
