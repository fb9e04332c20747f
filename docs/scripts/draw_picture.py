"""Draws docs/images/how-it-works.svg from the record in how-it-works.json, by the standard library.

Command: python docs/scripts/draw_picture.py   (docs/scripts/picture_record.py makes the record)
"""

import json
import sys
import textwrap
from html import escape
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parents[1] / "images"
RECORD, PICTURE = IMAGES / "how-it-works.json", IMAGES / "how-it-works.svg"

WIDTH, LEFT, RIGHT = 900, 24, 268
ROW, MONO = 20, 7.0  # height of a line of text; width of a character at 11.5 px
LINE_CHARACTERS, TOKEN_LINES = 84, 2

STYLE = """
svg { color-scheme: light dark; }
text { font: 13px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  fill: #1b1f24; }
.mono { font: 11.5px ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
.head { font-size: 16px; font-weight: 600; } .quiet { fill: #57606a; } .small { font-size: 11px; }
.strong { font-weight: 600; } .number { fill: #ffffff; font-weight: 600; }
.card { fill: #ffffff; } .band { fill: #f4f6f9; } .line { stroke: #8a95a1; fill: none; }
.box { fill: #e4edfb; stroke: #1f5fbf; } .mark { fill: #1f5fbf; } .hidden { fill: #fdf0d5; }
.bar { fill: #b9cff2; } .hit { fill: #1f5fbf; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ed; } .quiet { fill: #a5b0bc; } .number { fill: #14171b; }
  .card { fill: #14171b; } .band { fill: #1f252c; } .line { stroke: #77828e; }
  .box { fill: #1d2c44; stroke: #7eb0ff; } .mark { fill: #7eb0ff; } .hidden { fill: #453712; }
  .bar { fill: #35507c; } .hit { fill: #7eb0ff; }
}
"""


class Drawing:
    """Shapes of one picture, stacked in bands from the top."""

    def __init__(self) -> None:
        self.shapes: list[str] = []
        self.y = 16.0
        self.bands = 0

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """Adds a line of text."""
        place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
        self.shapes.append(f'<text {place} class="{style}">{escape(text)}</text>')

    def box(self, frame: tuple[float, float, float, float], style: str, radius: float = 4) -> None:
        """Adds a rectangle of x, y, width and height."""
        x, y, width, height = frame
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            f'rx="{radius:g}" class="{style}"/>'
        )

    def line(self, *points: tuple[float, float]) -> None:
        """Adds a polyline."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.shapes.append(f'<polyline points="{path}" class="line"/>')

    def band(self, title: str, explanation: str, height: float) -> float:
        """Starts a stage; returns the top of its content."""
        lines = textwrap.wrap(explanation, 32)
        height = max(height, 30 + ROW * len(lines)) + 20
        top = self.y
        self.bands += 1
        self.box((LEFT - 8, top, WIDTH - 2 * LEFT + 16, height), "band", 8)
        self.shapes.append(f'<circle cx="{LEFT + 14}" cy="{top + 22}" r="12" class="mark"/>')
        self.text(LEFT + 14, top + 27, str(self.bands), "number", "middle")
        self.text(LEFT + 36, top + 27, title, "head")
        for number, line in enumerate(lines):
            self.text(LEFT + 4, top + 54 + number * (ROW - 2), line, "quiet")
        self.y = top + height + 10
        return top + 14

    def svg(self) -> str:
        """Returns the picture."""
        height = self.y + 6
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
            f'aria-label="One record from the log to the ranking">\n<style>{STYLE}</style>\n'
            f'<rect width="{WIDTH}" height="{height:g}" rx="10" class="card"/>\n'
            + "\n".join(self.shapes)
            + "\n</svg>\n"
        )


def draw(record: dict[str, Any]) -> str:
    """Draws a record of `picture_record.py`."""
    drawing = Drawing()
    for stage in (_log, _instruction, _tokens, _model, _trie, _ranking):
        stage(drawing, record)
    return drawing.svg()


def _log(drawing: Drawing, record: dict[str, Any]) -> None:
    events = record["events"]
    about = "Who did what with which item, and when. The last event is hidden; it is the target."
    top = drawing.band("Log", about, ROW * (len(events) + 1) + 8)
    for x, title in ((RIGHT, "day"), (RIGHT + 88, "item"), (RIGHT + 344, "the user typed before")):
        drawing.text(x, top + 12, title, "quiet small")
    for number, event in enumerate(events):
        y = top + ROW * (number + 2) - 4
        if number == len(events) - 1:
            drawing.box((RIGHT - 6, y - 15, WIDTH - RIGHT - LEFT + 6, ROW + 1), "hidden")
        drawing.text(RIGHT, y, event["day"])
        drawing.text(RIGHT + 88, y, _cut(event["title"], 35))
        drawing.text(RIGHT + 344, y, _cut(event["query"], 35) or "-")


def _instruction(drawing: Drawing, record: dict[str, Any]) -> None:
    lines = textwrap.wrap(record["prompt"], LINE_CHARACTERS)
    about = "A template puts the history and the user's words into a prompt."
    top = drawing.band("Instruction", about, ROW * len(lines) + 4)
    for number, line in enumerate(lines):
        drawing.text(RIGHT, top + 14 + number * ROW, line)


def _tokens(drawing: Drawing, record: dict[str, Any]) -> None:
    about = "A tokenizer, trained on the log, cuts texts into numbered pieces; \u2423 is a space."
    top = drawing.band("Tokens", about, 44 * (TOKEN_LINES + 1) + 34)
    x, y, line = float(RIGHT), top, 1
    for number, (piece, token) in enumerate(record["tokens"]):
        width = _width(piece, token)
        if x + width > WIDTH - LEFT - 100 * (line == TOKEN_LINES):
            if line == TOKEN_LINES:
                more = record["prompt_tokens"] - number
                drawing.text(x + 4, y + 22, f"... and {more} more", "quiet")
                break
            x, y, line = float(RIGHT), y + 44, line + 1
        _piece(drawing, (x, y), piece, str(token))
        x += width + 4
    y = top + 44 * TOKEN_LINES + 16
    drawing.text(RIGHT, y, "the answer that training shows the model:", "quiet")
    x = float(RIGHT)
    for piece, token in record["answer"]:
        _piece(drawing, (x, y + 8), piece, str(token))
        x += _width(piece, token) + 4


def _model(drawing: Drawing, record: dict[str, Any]) -> None:
    encoder, decoder = record["layers"]
    about = "The encoder reads the prompt once. The decoder writes an answer token by token."
    top = drawing.band("T5", about, 62)
    texts = (
        (f"encoder, {encoder} layers", "reads the prompt"),
        (f"decoder, {decoder} layer" + "s" * (decoder > 1), "reads the answer so far"),
        (f"{record['vocabulary']:,} probabilities", "one for each next token"),
    )
    for number, (first, second) in enumerate(texts):
        x = RIGHT + number * 208
        drawing.box((x, top + 4, 180, 52), "box")
        drawing.text(x + 90, top + 26, first, "strong", "middle")
        drawing.text(x + 90, top + 45, second, "quiet", "middle")
        if number:
            drawing.line((x - 26, top + 30), (x - 4, top + 30))
            drawing.line((x - 11, top + 25), (x - 4, top + 30), (x - 11, top + 35))


def _trie(drawing: Drawing, record: dict[str, Any]) -> None:
    about = (
        f"Answers follow the tree of all {record['items']} titles: {record['first_tokens']} of "
        f"{record['vocabulary']:,} tokens can come first. The boxes have the probability of each "
        "step, given the steps before."
    )
    paths = record["paths"]
    top = drawing.band("Trie", about, 48 * len(paths) + 8)
    ends: dict[tuple[str, ...], tuple[float, float]] = {(): (RIGHT, top + 20)}
    for number, path in enumerate(paths):
        y = top + 48 * number + 2
        for depth, (piece, share) in enumerate(zip(path["pieces"], path["steps"], strict=True)):
            beginning = tuple(path["pieces"][: depth + 1])
            if beginning in ends:
                continue
            x, parent_y = ends[beginning[:-1]]
            if depth:
                drawing.line((x, parent_y), (x + 5, parent_y), (x + 5, y + 18), (x + 10, y + 18))
                x += 10
            label = f"{share:.0%}"
            _piece(drawing, (x, y), piece, label)
            ends[beginning] = (x + _width(piece, label), y + 18)
        x, _ = ends[tuple(path["pieces"])]
        drawing.line((x, y + 18), (x + 10, y + 18))
        _piece(drawing, (x + 10, y), path["rest"], f"{path['rest_step']:.0%}")


def _ranking(drawing: Drawing, record: dict[str, Any]) -> None:
    ranking = record["ranking"]
    about = "Items by the product of their steps. Items of the history are left out."
    top = drawing.band("Ranking", about, ROW * len(ranking) + 6)
    longest = max(answer["probability"] for answer in ranking)
    for number, answer in enumerate(ranking):
        y = top + 14 + ROW * number
        width = 70 * answer["probability"] / longest
        drawing.text(RIGHT, y, f"{number + 1}.")
        drawing.text(RIGHT + 24, y, _cut(answer["title"], 56))
        style = "hit" if answer["is_target"] else "bar"
        drawing.box((RIGHT + 416, y - 11, max(width, 2), 13), style, 2)
        note = ", the target" * answer["is_target"]
        drawing.text(RIGHT + 424 + width, y, f"{answer['probability']:.1%}{note}")


def _piece(drawing: Drawing, place: tuple[float, float], piece: str, label: str) -> None:
    """Draws a token: its text in a box, and a number under it."""
    x, y = place
    width = _width(piece, label)
    drawing.box((x, y, width, 36), "box")
    drawing.text(x + width / 2, y + 15, piece, "mono", "middle")
    drawing.text(x + width / 2, y + 30, label, "quiet small", "middle")


def _width(piece: str, label: Any) -> float:
    return 10 + max(MONO * len(piece), 6.4 * len(str(label)))


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 3] + "..."


if __name__ == "__main__":
    PICTURE.write_text(draw(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")
    sys.stdout.write(f"{PICTURE}\n")
