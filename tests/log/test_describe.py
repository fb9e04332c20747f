import xml.etree.ElementTree as ElementTree

import numpy as np
import polars as pl
import pytest

from irec_jax.log.describe import describe
from irec_jax.log.description_chart import draw
from irec_jax.log.events import BehaviorLog, LogManifest, TimeUnit

pytestmark = pytest.mark.fast

SVG = "{http://www.w3.org/2000/svg}"


def make_log(rows, **columns):
    """A log of (user, item, time) rows over the catalog a, b, c, d, of which b and c are alike."""
    users, items, times = zip(*rows, strict=True)
    catalog = pl.DataFrame(
        {"item": list("abcd"), "title": ["A", "Same", "Same", "D"], "categories": [["x"]] * 4}
    )
    table = {"user": users, "item": items, "time": times, "event": ["view"] * len(rows)} | columns
    return BehaviorLog.assemble(catalog, pl.DataFrame(table), LogManifest("test"))


def test_every_figure_of_a_log_that_can_be_counted_by_hand():
    rows = [
        (0, "a", 10),
        (0, "b", 10),  # a tie with the one before
        (0, "a", 20),  # had a before
        (0, "a", 20),  # the same event again: another tie, another repetition
        (1, "c", 5),
        (1, "a", 86_400),
    ]
    log = make_log(
        rows,
        query=["q", None, "", "w", "v", None],
        intention=["specific", None, None, "vague", None, None],
        rating=[1.0, None, None, None, None, 2.0],
        review=[None, "good", " ", None, None, None],
    )
    found = describe(log)
    assert found.counts["interactions"] == 6
    assert sorted(found.lengths.tolist()) == [2, 4]
    assert found.popularity.tolist() == [4, 1, 1, 0]
    assert (found.first, found.last, found.unit) == (5, 86_400, TimeUnit.SECONDS)
    assert found.tied == 4
    assert found.duplicated == 1
    assert found.repeated == 2
    assert found.shared_titles == 2
    assert found.queries == pytest.approx(3 / 6)
    assert found.specific == pytest.approx(1 / 2)
    assert found.ratings == pytest.approx(2 / 6)
    assert found.reviews == pytest.approx(1 / 6)
    # a-b up, b-a down, a-a neither, c-a down.
    assert found.ascending == pytest.approx(1 / 3)
    cells = {name: figure for name, figure, _ in found.rows()}
    assert cells["users / items / interactions"] == "2 / 4 / 6"
    assert cells["times"] == "1970-01-01 00:00 to 1970-01-02 00:00"
    assert cells["items without events"] == "1"


def test_a_last_item_that_the_user_had_before_is_unreachable():
    first = [(0, item, time) for time, item in enumerate("abcda")]
    second = [(1, item, time) for time, item in enumerate("aabcd")]
    # Five of each item are needed, or the core is empty.
    others = [(user, item, time) for user in (2, 3, 4) for time, item in enumerate("aabcd")]
    assert describe(make_log([*first, *second, *others])).unreachable == pytest.approx(1 / 5)
    assert describe(make_log(first)).unreachable == 0


def test_numbering_by_first_appearance_shows():
    rows = [(user, item, time) for user in range(3) for time, item in enumerate("abcd")]
    assert describe(make_log(rows)).ascending == 1


def test_the_picture_is_an_svg_that_holds_every_user_and_the_most_popular_item():
    rng = np.random.default_rng(0)
    rows = [
        (user, "abcd"[rng.integers(4)], time)
        for user in range(50)
        for time in range(rng.integers(1, 40))
    ]
    found = describe(make_log(rows))
    picture = draw(found)
    assert picture == draw(found)
    root = ElementTree.fromstring(picture)
    bars = [title.text for title in root.iter(f"{SVG}title")]
    assert sum(int(text.split(": ")[1].split()[0]) for text in bars) == 50
    curve = next(root.iter(f"{SVG}polyline")).attrib["points"].split()
    assert len(curve) == 4
    heights = [float(point.split(",")[1]) for point in curve]
    assert heights == sorted(heights)
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    for rectangle in root.iter(f"{SVG}rect"):
        assert float(rectangle.attrib.get("x", 0)) + float(rectangle.attrib["width"]) <= width
        assert float(rectangle.attrib.get("y", 0)) + float(rectangle.attrib["height"]) <= height


def test_a_picture_of_one_event_and_of_a_strange_name_can_be_drawn():
    log = make_log([(0, "a", 1)])
    log.manifest.settings["time"] = "position"
    found = describe(log)
    ElementTree.fromstring(draw(found))
    assert dict(row[:2] for row in found.rows())["times"] == "1 to 1"
    odd = BehaviorLog.assemble(log.items, log.interactions, LogManifest("<a & b>"))
    assert "&lt;a &amp; b&gt;" in draw(describe(odd))


def test_movietweetings_has_the_traps_its_readme_names(shared):
    from irec_jax.log.readers.movietweetings import read_movietweetings

    found = describe(read_movietweetings(shared / "data" / "movietweetings-100k", seed=0))
    assert found.shared_titles == 401
    assert found.repeated == found.duplicated == 0
    assert found.queries == 0
    assert found.ratings == 1
