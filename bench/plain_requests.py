"""Plain requests of shoppers to the quickstart's model: the figures of docs/limits.md.

Command: irec quickstart && python bench/plain_requests.py runs/quickstart
Device:  2 CPU cores (AMD EPYC)
Time:    half a minute
"""

import sys
from pathlib import Path

import numpy as np

from irec_jax import Extras, Recommender, UnderstandingMode

TITLES, TOP_TITLES, TOP = 30, 3, 5
ALONE = Extras(understanding=UnderstandingMode.OFF)
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
    print("group | request | of all | right in the first 5, model alone | with conditions | read")
    for group, request, condition in REQUESTS:
        right = shop.catalog.mask(condition)
        alone = shop.recommend(instruction=request, k=TOP, extras=ALONE)
        answers = shop.recommend(instruction=request, k=TOP)
        counts = [sum(bool(right[item.number]) for item in given) for given in (alone, answers)]
        print(group, request, int(right.sum()), *counts, answers.understood, sep=" | ")
    print("\nrequest | filter | returned | of all that meet it")
    for request, condition in FILTERED:
        answers = shop.recommend(instruction=request, k=TOP, where=condition, extras=ALONE)
        allowed = int(shop.catalog.mask(condition).sum())
        print(f"{request} | {condition} | {len(answers)} | {allowed}")
    draw = np.random.default_rng(0).choice(len(shop.catalog), TITLES, replace=False)
    changes = {"as written": str, "in lower case": str.lower, "in capitals": str.upper}
    for name, change in {**changes, "with a typing error": with_error}.items():
        hits = 0
        for item in draw:
            answers = shop.recommend(instruction=change(shop.catalog.titles[item]), k=TOP_TITLES)
            hits += any(answer.number == item for answer in answers)
        print(f"title {name}: {hits} of {TITLES} items in the first {TOP_TITLES}")


def with_error(title: str) -> str:
    """Swaps two letters in the middle of the longest word."""
    word = max(title.split(), key=len)
    middle = len(word) // 2
    swapped = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
    return title.replace(word, swapped, 1)


if __name__ == "__main__":
    main()
