"""Collectives of a compiled program, read from its HLO text.

XLA's cost analysis counts the body of a loop once and no collectives; here the body counts once
per iteration, and each collective has the mesh axes that it crosses
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
        chips: Number of chips that exchange data.
        payload: Bytes of the whole array that is gathered, reduced or moved, on one chip.
        times: Number of executions per execution of the program.
        members: Indices of the devices of one exchange, in the mesh's order.
    """

    kind: str
    axes: tuple[str, ...]
    chips: int
    payload: int
    times: int
    members: tuple[int, ...]


def sent_share(kind: str, chips: int) -> float:
    """Returns the share of an array that each chip sends, by the algorithm that sends least.

    An all-reduce is a reduce-scatter and an all-gather; each sends all parts but one.
    """
    if kind == "collective-permute":
        return float(chips > 1)
    return (2.0 if kind == "all-reduce" else 1.0) * (chips - 1) / chips


class Traffic(NamedTuple):
    """All collectives of a program.

    Attributes:
        collectives: In the order of the text.
        unknown_loops: Loops with collectives whose trip count is not in the text; they count as
            `unknown_trips`.
    """

    collectives: tuple[Collective, ...]
    unknown_loops: int


def read_traffic(
    text: str, mesh: Mapping[str, int], unknown_trips: int = 1, slices: int = 1
) -> Traffic:
    """Reads the collectives of a compiled program.

    Args:
        text: `compiled.as_text()`, of any backend.
        mesh: Devices along each axis, in the order of the mesh that the program was compiled for.
        unknown_trips: Assumed trip count of loops whose trip count depends on data.
        slices: TPU slices, each with its own program; they are the first axis of the mesh.
    """
    module = _Module(text, unknown_trips, slices)
    collectives: list[Collective] = []
    unknown_loops = 0
    for name, times, is_known in module.executed():
        own = list(module.collectives(name, mesh, times))
        collectives += own
        unknown_loops += bool(own) and not is_known
    return Traffic(tuple(collectives), unknown_loops)


class _Module:
    """The computations of a program, by name."""

    def __init__(self, text: str, unknown_trips: int, slices: int) -> None:
        self.unknown_trips, self.slices = unknown_trips, slices
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
        """Yields entry, loop bodies and branches, each with its number of executions.

        The third value is whether this number is known.
        """
        pending = [(self.entry, 1, True)]
        while pending:
            name, times, is_known = pending.pop()
            yield name, times, is_known
            for inner in self.called(name):
                for line in self.lines[inner]:
                    loop = _LOOP.search(line)
                    if loop:
                        trips = self.trips(line, loop.group(1))
                        body = (
                            loop.group(2),
                            times * (self.unknown_trips if trips is None else trips),
                            is_known and trips is not None,
                        )
                        pending.append(body)
                    for branches in _BRANCHES.findall(line):
                        for branch in re.findall(r"%?([\w.\-]+)", branches):
                            pending.append((branch, times, is_known))

    def called(self, name: str) -> list[str]:
        """Returns a computation and those it calls (fusions, asynchronous parts), without loops."""
        computations, pending = [], [name]
        while pending:
            current = pending.pop()
            if current in computations or current not in self.lines:
                continue
            computations.append(current)
            pending += [called for line in self.lines[current] for called in _CALLED.findall(line)]
        return computations

    def trips(self, loop: str, condition: str) -> int | None:
        """Returns the trip count that the compiler notes, or the bound in the loop's condition."""
        known = _KNOWN_TRIPS.search(loop)
        if known:
            return int(known.group(1))
        lines = [line for inner in self.called(condition) for line in self.lines[inner]]
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
        """Yields the collectives of a computation, each once per execution.

        The compiler of a TPU splits one collective into a chain of parts inside fusions, all with
        the same channel. On other backends many collectives share one channel.
        """
        parts = set()
        for inner in self.called(name):
            for line in self.lines[inner]:
                sent = self.slices > 1 and _SENT.search(line)
                if sent:
                    yield _between_slices(sent, mesh, self.slices)._replace(times=times)
                # Most lines are long and contain no collective.
                match = any(kind in line for kind in KINDS) and _COLLECTIVE.search(line)
                if not match:
                    continue
                collective = _collective(line, match, inner, mesh, self.slices)
                chain = _CHAIN.search(line) and _CHANNEL.search(line)
                part = (collective.kind, collective.payload, chain and chain.group(1))
                if collective.chips == 1 or (chain and part in parts):
                    continue
                parts.add(part)
                yield collective._replace(times=times)


def _between_slices(sent: re.Match[str], mesh: Mapping[str, int], slices: int) -> Collective:
    """Reads a transfer of a device to the same device of the other slices, through its host."""
    shape, transfer = sent.groups()
    kind = _BETWEEN_SLICES.get(transfer, "collective-permute")
    payload = max(_array_bytes(shape)) * (slices if kind == "all-gather" else 1)
    slice_devices = math.prod(mesh.values()) // slices
    members = np.arange(slices)[None] * slice_devices
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
        # Inputs precede outputs; scalars are flags of the hardware.
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
    """Reads the devices of each exchange; the pairs of a permutation are groups of two."""
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
    return np.arange(devices)[None]


def _named_groups(sizes: str, order: str | None, axes: str) -> Int[np.ndarray, "groups chips"]:
    """Reads groups given as axes of a mesh that the compiler defines: `mesh['x'=4,'y'=2] {'x'}`.

    `'x':(2)4` is a sub-axis of size 4 with pre-size 2, in the terms of Shardy.
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
    """Returns the mesh axes along which the members of a group differ."""
    coordinates = np.stack(np.unravel_index(groups, tuple(mesh.values())))
    differs = (coordinates != coordinates[:, :, :1]).any(axis=(1, 2))
    return tuple(axis for axis, is_crossed in zip(mesh, differs, strict=True) if is_crossed)
