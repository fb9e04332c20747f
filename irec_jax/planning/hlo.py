"""What a compiled program moves between chips, read from its text.

XLA's own cost analysis counts the body of a loop once and no collective at all; here loops count
as often as they run, and each collective with the mesh axes that it crosses
(docs/decisions/0131-collectives-from-hlo-text.md).
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_BITS = {"pred": 8, "token": 0, "s4": 4, "u4": 4, "c64": 64, "c128": 128}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations=\{|true_computation=|false_computation=)([^}]*)")
_LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BOUND = re.compile(r"%?([\w.\-]+) = s32\[\]\S* constant\((\d+)\)")
_LESS = re.compile(r" compare\((.*?)\), direction=LT")
_SENT = re.compile(r"= (.*?) send\(.*_xla_megascale_transfer_type=\"(\w+)\"")
_BETWEEN_SLICES = {
    "ALL_REDUCE": "all-reduce",
    "ALL_GATHER": "all-gather",
    "REDUCE_SCATTER": "reduce-scatter",
    "ALL_TO_ALL": "all-to-all",
}
_CHAIN = re.compile(r"\bchain_id=")
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_MESH_GROUPS = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, ?device_ids=\(([^ ]*)\))? \{([^}]*)\}"
)
_IOTA_GROUPS = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_LISTED_GROUPS = re.compile(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}")


class Collective(NamedTuple):
    """One collective of a program.

    Attributes:
        kind: One of `KINDS`.
        axes: The mesh axes that it crosses, in the mesh's order.
        chips: How many exchange with each other.
        payload: Bytes of the whole array that is gathered, reduced or moved, at one chip.
        times: How often it runs each time the program runs.
        members: The numbers of the devices of one such exchange, in the mesh's order.
    """

    kind: str
    axes: tuple[str, ...]
    chips: int
    payload: int
    times: int
    members: tuple[int, ...]


def sent_share(kind: str, chips: int) -> float:
    """The part of an array that each of so many chips sends, by the algorithm that sends least.

    An all-reduce is a reduce-scatter and an all-gather, each of which sends all parts but one.
    """
    if kind == "collective-permute":
        return float(chips > 1)
    return (2.0 if kind == "all-reduce" else 1.0) * (chips - 1) / chips


class Traffic(NamedTuple):
    """All collectives of a program.

    Attributes:
        collectives: In the order of the text.
        unknown_loops: Loops with collectives whose number of turns the text does not tell; they
            count as `turns`.
    """

    collectives: tuple[Collective, ...]
    unknown_loops: int


def read_traffic(text: str, mesh: Mapping[str, int], turns: int = 1, slices: int = 1) -> Traffic:
    """Reads the collectives of a compiled program.

    Args:
        text: `compiled.as_text()`, of any backend.
        mesh: Devices along each axis, in the order of the mesh that the program was compiled for.
        turns: How often a loop runs whose number of turns depends on data.
        slices: TPU slices, each of which runs the program for itself; they come first in the mesh.
    """
    module = _Module(text, turns, slices)
    collectives: list[Collective] = []
    unknown = 0
    for name, times, known in module.executed():
        found = list(module.collectives(name, mesh, times))
        collectives += found
        unknown += bool(found) and not known
    return Traffic(tuple(collectives), unknown)


class _Module:
    """The computations of a program, by name."""

    def __init__(self, text: str, turns: int, slices: int) -> None:
        self.turns, self.slices = turns, slices
        self.lines: dict[str, list[str]] = {}
        self.entry = ""
        current: list[str] = []
        for line in text.splitlines():
            header = _COMPUTATION.match(line)
            if header:
                current = self.lines.setdefault(header.group(2), [])
                self.entry = header.group(2) if header.group(1) else self.entry
            else:
                current.append(line)

    def executed(self) -> Iterator[tuple[str, int, bool]]:
        """The entry, the bodies of loops and the branches, and how often each runs.

        The third value is whether the number of turns is known.
        """
        waiting = [(self.entry, 1, True)]
        while waiting:
            name, times, known = waiting.pop()
            yield name, times, known
            for inner in self.within(name):
                for line in self.lines[inner]:
                    loop = _LOOP.search(line)
                    if loop:
                        trips = self.trips(line, loop.group(1))
                        body = (
                            loop.group(2),
                            times * (self.turns if trips is None else trips),
                            known and trips is not None,
                        )
                        waiting.append(body)
                    for branches in _BRANCHES.findall(line):
                        for branch in re.findall(r"%?([\w.\-]+)", branches):
                            waiting.append((branch, times, known))

    def within(self, name: str) -> list[str]:
        """A computation and all that it calls (fusions, asynchronous parts), loops left out."""
        found, waiting = [], [name]
        while waiting:
            here = waiting.pop()
            if here in found or here not in self.lines:
                continue
            found.append(here)
            waiting += [called for line in self.lines[here] for called in _CALLED.findall(line)]
        return found

    def trips(self, loop: str, condition: str) -> int | None:
        """How often a loop runs: as the compiler notes it, or as its condition compares."""
        noted = _KNOWN_TRIPS.search(loop)
        if noted:
            return int(noted.group(1))
        lines = [line for inner in self.within(condition) for line in self.lines[inner]]
        bounds = {match[1]: int(match[2]) for line in lines for match in _BOUND.finditer(line)}
        compared = [match.group(1) for line in lines for match in _LESS.finditer(line)]
        limits = [
            bounds[name]
            for operands in compared
            for name in re.findall(r"%?([\w.\-]+)", operands)
            if name in bounds
        ]
        return max(limits, default=None)

    def collectives(self, name: str, mesh: Mapping[str, int], times: int) -> Iterator[Collective]:
        """The collectives that run whenever `name` runs, each once.

        A TPU's compiler cuts one collective into a chain of parts that it hides in fusions; all
        carry the same channel. Elsewhere a channel's number says nothing: many share one.
        """
        parts = set()
        for inner in self.within(name):
            for line in self.lines[inner]:
                sent = self.slices > 1 and _SENT.search(line)
                if sent:
                    yield _between_slices(sent, mesh, self.slices)._replace(times=times)
                # Lines are long, and most hold none.
                match = any(kind in line for kind in KINDS) and _COLLECTIVE.search(line)
                if not match:
                    continue
                made = _collective(line, match, inner, mesh, self.slices)
                chain = _CHAIN.search(line) and _CHANNEL.search(line)
                part = (made.kind, made.payload, chain and chain.group(1))
                if made.chips == 1 or (chain and part in parts):
                    continue
                parts.add(part)
                yield made._replace(times=times)


def _between_slices(sent: re.Match[str], mesh: Mapping[str, int], slices: int) -> Collective:
    """What a device sends to the same device of the other slices, through its host."""
    shape, transfer = sent.groups()
    kind = _BETWEEN_SLICES.get(transfer, "collective-permute")
    payload = max(_array_bytes(shape)) * (slices if kind == "all-gather" else 1)
    each = math.prod(mesh.values()) // slices
    members = np.arange(slices)[None] * each
    return Collective(kind, _crossed(members, mesh), slices, payload, 1, tuple(members[0].tolist()))


def _collective(
    line: str,
    match: re.Match[str],
    computation: str,
    mesh: Mapping[str, int],
    slices: int,
) -> Collective:
    shape, kind, start = match.groups()
    groups = _groups(line, math.prod(mesh.values()) // slices)
    chips = groups.shape[1]
    sizes = _array_bytes(shape)
    if start and kind in ("all-gather", "collective-permute"):
        # What goes in comes first, then what comes out; scalars are the hardware's flags.
        sizes = [size for size in sizes if size > 4] or sizes
        sizes = sizes[len(sizes) // 2 :]
    payload = sum(sizes)
    if kind == "reduce-scatter":
        payload *= chips
    if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
    members = tuple(groups[0].tolist())
    return Collective(kind, _crossed(groups, mesh), chips, payload, 1, members)


def _array_bytes(shape: str) -> list[int]:
    return [
        math.prod(int(length) for length in lengths.split(",") if length) * _bits(dtype) // 8
        for dtype, lengths in _ARRAY.findall(shape)
    ]


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    width = re.match(r"[a-z]+(\d+)", dtype)
    return int(width.group(1)) if width else 32


def _groups(line: str, devices: int) -> Int[np.ndarray, "groups chips"]:
    """The devices that exchange with each other; the pairs of a permutation are groups of two."""
    everyone = np.arange(devices)
    pairs = _PAIRS.search(line)
    if pairs:
        numbers = [int(number) for number in re.findall(r"\d+", pairs.group(1))]
        return np.array(numbers, np.int64).reshape(-1, 2)
    named = _MESH_GROUPS.search(line)
    if named:
        return _named_groups(*named.groups())
    iota = _IOTA_GROUPS.search(line)
    if iota:
        return _iota(iota.group(3), iota.group(4)).reshape(int(iota.group(1)), -1)
    listed = _LISTED_GROUPS.search(line)
    if listed and listed.group(1):
        rows = re.findall(r"\{([\d,]*)\}", listed.group(1))
        return np.array([[int(number) for number in row.split(",")] for row in rows], np.int64)
    return everyone[None]


def _named_groups(sizes: str, order: str | None, axes: str) -> Int[np.ndarray, "groups chips"]:
    """Groups told as axes of a mesh that the compiler made up: `mesh['x'=4,'y'=2] {'x'}`.

    `'x':(2)4` is a part of an axis: 4 of its chips, those 2 before it apart.
    """
    lengths = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", sizes)}
    ids = np.arange(math.prod(lengths.values()))
    if order:
        iota = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", order)
        numbers = [int(number) for number in re.findall(r"\d+", order)]
        ids = _iota(*iota.groups()) if iota else np.array(numbers, np.int64)
    dimensions, chosen = [], []
    parts = {
        name: (int(before or 1), int(size or 0))
        for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes)
    }
    for name, length in lengths.items():
        before, size = parts.get(name, (length, 1))
        size = size or length
        dimensions += [before, size, length // (before * size)]
        if name in parts:
            chosen.append(len(dimensions) - 2)
    rest = [axis for axis in range(len(dimensions)) if axis not in chosen]
    chips = math.prod(dimensions[axis] for axis in chosen)
    return ids.reshape(dimensions).transpose(*rest, *chosen).reshape(-1, chips)


def _iota(shape: str, order: str | None) -> Int[np.ndarray, " devices"]:
    lengths = [int(length) for length in shape.split(",")]
    ids = np.arange(math.prod(lengths)).reshape(lengths)
    return (ids.transpose([int(axis) for axis in order.split(",")]) if order else ids).ravel()


def _crossed(groups: Int[np.ndarray, "groups chips"], mesh: Mapping[str, int]) -> tuple[str, ...]:
    """The mesh axes along which the members of a group differ."""
    places = np.stack(np.unravel_index(groups, tuple(mesh.values())))
    differ = (places != places[:, :, :1]).any(axis=(1, 2))
    return tuple(axis for axis, apart in zip(mesh, differ, strict=True) if apart)
