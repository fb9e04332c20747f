"""Draws a description as one SVG file: how long the histories are, how unequal the items."""

import html
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.describe import Description

_WIDTH, _HEIGHT = 460, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 44, 48

_BARS, _CURVE_POINTS = 24, 200

_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}"
    ".head{font-size:14px;font-weight:600}"
    ".axis{stroke:#999;fill:none}.grid{stroke:#e6e6e6}"
    ".bar{fill:#3b6ea5}.curve{stroke:#b3541e;stroke-width:2;fill:none}"
)


class _Scale(NamedTuple):
    """Turns a value of an axis into a place on the page."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool

    def place(self, value: int | float) -> float:
        low, high, value = self.low, self.high, max(value, self.low)
        if self.logarithmic:
            low, high, value = np.log(low), np.log(high), np.log(value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            rough = (self.high - self.low) / 4
            decade = 10.0 ** np.floor(np.log10(rough))
            step = max(1, *(s * decade for s in (1, 2, 5, 10) if s * decade <= 1.5 * rough))
            return [float(tick) for tick in np.arange(self.low, self.high + 1e-9, step)]
        decades = range(int(np.floor(np.log10(self.low))), int(np.log10(self.high)) + 1)
        ticks = [10.0**decade for decade in decades if 10.0**decade >= self.low]
        if len(ticks) > 2:
            return ticks
        finer = [tick * step for tick in ticks for step in (1, 2, 5)]
        return [tick for tick in finer if tick <= self.high]


def draw(description: Description) -> str:
    """Gives the SVG text: a histogram of events per user, and events per item by rank."""
    counts = description.counts
    title = (
        f"{description.source}: {counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['interactions']:,} interactions"
    )
    panels = [_lengths(description.lengths), _popularity(description.popularity)]
    shifted = [
        f'<g transform="translate({number * _WIDTH},24)">{panel}</g>'
        for number, panel in enumerate(panels)
    ]
    width, height = _WIDTH * len(panels), _HEIGHT + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">'
        f"<style>{_STYLE}</style>"
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text class="head" x="{_LEFT}" y="22">{html.escape(title)}</text>'
        + "".join(shifted)
        + "</svg>\n"
    )


def _lengths(lengths: Int[np.ndarray, " users"]) -> str:
    low, high = int(lengths.min()), int(lengths.max()) + 1
    edges = np.unique(
        np.geomspace(low, high, min(_BARS, high - low) + 1).round().astype(int)
    ).tolist()
    heights = np.histogram(lengths, edges)[0].tolist()
    across = _Scale(low, high, _LEFT, _WIDTH - _RIGHT, logarithmic=True)
    up = _Scale(0, max(*heights, 1), _HEIGHT - _BOTTOM, _TOP, logarithmic=False)
    bars = []
    for (left, right), height in zip(itertools.pairwise(edges), heights, strict=True):
        start, end, top = across.place(left), across.place(right), up.place(height)
        label = f"{left} to {right - 1} events: {height:,} users"
        bars.append(
            f'<rect class="bar" x="{start:.1f}" y="{top:.1f}" '
            f'width="{max(end - start - 1, 0.5):.1f}" height="{up.start - top:.1f}">'
            f"<title>{label}</title></rect>"
        )
    return _panel("How long histories are", "events of a user", "users", across, up) + "".join(bars)


def _popularity(popularity: Int[np.ndarray, " items"]) -> str:
    events = popularity[popularity > 0]
    ranks = np.unique(np.geomspace(1, len(events), _CURVE_POINTS).round().astype(int))
    across = _Scale(1, max(len(events), 2), _LEFT, _WIDTH - _RIGHT, logarithmic=True)
    up = _Scale(1, max(int(events[0]), 2), _HEIGHT - _BOTTOM, _TOP, logarithmic=True)
    curve = _points(ranks.astype(float), events[ranks - 1].astype(float), across, up)
    panel = _panel("How unequal items are", "rank of the item", "events of the item", across, up)
    return f'{panel}<polyline class="curve" points="{curve}"/>'


def _points(
    ranks: Float[np.ndarray, " points"],
    events: Float[np.ndarray, " points"],
    across: _Scale,
    up: _Scale,
) -> str:
    return " ".join(
        f"{across.place(rank):.1f},{up.place(count):.1f}"
        for rank, count in zip(ranks.tolist(), events.tolist(), strict=True)
    )


def _panel(head: str, below: str, beside: str, across: _Scale, up: _Scale) -> str:
    bottom, middle = up.start, (up.start + up.end) / 2
    parts: Sequence[str] = [
        f'<text class="head" x="{_LEFT}" y="{_TOP - 16}">{head}</text>',
        f'<text x="{(across.start + across.end) / 2}" y="{_HEIGHT - 8}" '
        f'text-anchor="middle">{below}</text>',
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">'
        f"{beside}</text>",
        *(
            f'<line class="grid" x1="{across.start}" x2="{across.end}" y1="{up.place(tick):.1f}" '
            f'y2="{up.place(tick):.1f}"/><text x="{_LEFT - 6}" y="{up.place(tick) + 4:.1f}" '
            f'text-anchor="end">{tick:,.0f}</text>'
            for tick in up.ticks()
        ),
        *(
            f'<text x="{across.place(tick):.1f}" y="{bottom + 18}" '
            f'text-anchor="middle">{tick:,.0f}</text>'
            for tick in across.ticks()
        ),
        f'<path class="axis" d="M{across.start},{up.end}V{bottom}H{across.end}"/>',
    ]
    return "".join(parts)
