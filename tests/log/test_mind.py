"""MIND in its published format, through the command line."""

import pytest

from irec_jax.log.readers.mind import UNLABELED
from irec_jax.log.readers.table import BLANK_TITLE, UNKNOWN_ITEM

pytestmark = pytest.mark.fast

HEBREW = "\u05d7\u05d3\u05e9\u05d5\u05ea"
ENTITY = '[{"Label": "Prince Philip", "Type": "P", "WikidataId": "Q80976"}]'

NEWS = [
    ["N1", "lifestyle", "lifestyleroyals", 'The "Brands" Royals Swear By', "Shop\u00a0it | now"],
    ["N2", "health", "weightloss", f"{HEBREW} \U0001f4f0 news", ""],
    ["N3", "news", "newsworld", "The Cost of Trump's Aid", "Lt. Ivan Molchanets"],
    ["N4", "sports", "football_nfl", "", "No headline"],
    ["N5", "sports", "golf", "Never clicked", "x"],
]
BEHAVIORS = [
    ["2", "U2", "11/12/2019 6:11:30 PM", "", "N3-0 N1-0"],
    ["1", "U1", "11/11/2019 9:05:58 AM", "N1 N3 N1", "N2-1 N3-0 N4-1"],
    ["4", "U1", "11/11/2019 9:05:00 AM", "N1 N3", "N3-1"],
    ["3", "U3", "11/15/2019 12:55:22 AM", "N2", "N9-1 N1-0"],
]
# 2019-11-11 09:05:00 UTC, the first impression of U1.
FIRST = 1573463100


def write(folder, news=NEWS, behaviors=BEHAVIORS):
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["\t".join([*row, "https://x.html", ENTITY, "[]"]) for row in news]
    (folder / "news.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "behaviors.tsv").write_text("\n".join("\t".join(row) for row in behaviors) + "\n")
    return folder


def user_of(log, item, time):
    return log.interactions.filter(item=item, time=time)["user"].item()


def test_clicks_come_after_the_history(tmp_path, prepare):
    log = prepare("mind", write(tmp_path / "MINDsmall_train"))
    user = user_of(log, "N2", FIRST + 58)
    events = log.interactions.filter(user=user).select("item", "time", "event").rows()
    assert events[:3] == [
        ("N1", FIRST - 2, "view"),
        ("N3", FIRST - 1, "view"),
        ("N3", FIRST, "view"),
    ]
    # Two clicks in one impression have one time: their order is unknown.
    assert sorted(events[3:]) == [("N2", FIRST + 58, "view"), ("N4", FIRST + 58, "view")]
    # U2 never clicked; the click of U3 is on an article that is not in news.tsv.
    assert log.manifest.counts["users"] == 2
    assert log.interactions.filter(item="N2")["time"].max() == 1573779322 - 1
    assert log.manifest.dropped == {UNKNOWN_ITEM: 1, BLANK_TITLE: 1}


def test_articles(tmp_path, prepare):
    items = prepare("mind", write(tmp_path / "raw")).items
    assert items.select("item", "title", "categories").rows()[:2] == [
        ("N1", 'The "Brands" Royals Swear By', ["lifestyle", "lifestyleroyals"]),
        ("N2", f"{HEBREW} \U0001f4f0 news", ["health", "weightloss"]),
    ]
    assert items["title"][3] == "football_nfl"
    assert items["description"].to_list()[:2] == ["Shop it | now", None]
    assert items.height == 5


def test_training_and_development_are_one_log(tmp_path, prepare):
    write(tmp_path / "MIND" / "MINDsmall_train")
    later = [
        ["9", "U1", "11/16/2019 9:05:58 AM", "N1 N3 N2", "N5-1"],
        ["8", "U9", "11/16/2019 9:05:58 AM", "N1", "N1 N2"],
    ]
    news = [*NEWS[:1], ["N9", "news", "newsus", "Only later", ""]]
    write(tmp_path / "MIND" / "MINDsmall_dev", news, later)
    log = prepare("mind", tmp_path / "MIND")
    # The first history of a user is used once, and N9 is known now.
    user = user_of(log, "N2", FIRST + 58)
    items = log.interactions.filter(user=user)["item"].to_list()
    assert items[:3] == ["N1", "N3", "N3"]
    assert items[-1] == "N5"
    assert len(items) == 6
    assert log.interactions.filter(item="N9").height == 1
    assert log.manifest.dropped == {UNLABELED: 1, BLANK_TITLE: 1}
    assert len(log.manifest.settings["files"]) == 4


def test_the_same_files_give_the_same_log(tmp_path, prepare):
    rows = [["1", f"U{n}", "11/11/2019 9:05:58 AM", "N1 N3", "N2-1"] for n in range(500)]
    folder = write(tmp_path / "raw", behaviors=rows)
    first = prepare("mind", folder).manifest.sha256
    assert prepare("mind", folder).manifest.sha256 == first


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("behaviors.tsv", "", ["behaviors.tsv: the file is empty"]),
        (
            "behaviors.tsv",
            "1\tU1\t11/11/2019 9:05:58 AM\tN1\tN2-1\n2\tU1\t2019-11-11\tN1\tN2-1\n",
            ["behaviors.tsv, line 2: no time such as"],
        ),
        (
            "behaviors.tsv",
            "1\tU1\t11/11/2019 9:05:58 AM\tN1\tN2-1 N3-2\n",
            ["behaviors.tsv, line 1: no impressions such as"],
        ),
        (
            "behaviors.tsv",
            "1\tU1\t11/11/2019 9:05:58 AM\tN1\tN2-1 N3\n",
            ["behaviors.tsv, line 1: no impressions such as"],
        ),
        (
            "behaviors.tsv",
            "1\tU1\t11/11/2019 9:05:58 AM\tN1\n",
            ["behaviors.tsv, line 1: '1", "has not the 5 columns"],
        ),
        (
            "behaviors.tsv",
            "1\tU1\t11/11/2019 9:05:58 AM\tN1\tN2-1\n1\tU1\tx\tN1\tN2-1\tmore\n",
            ["behaviors.tsv, line 2: '1", "has not the 5 columns"],
        ),
        ("behaviors.tsv", "1\t\t11/11/2019 9:05:58 AM\tN1\tN2-1\n", ["line 1: no user"]),
        ("behaviors.tsv", "1\tU\t11/11/2019 9:05:58 AM\t\tN2 N3\n", ["no impression has a click"]),
        ("behaviors.tsv", "1\tU\t11/11/2019 9:05:58 AM\t\tN8-1\n", ["no event is with any"]),
        ("news.tsv", "N1\tnews\ta\tb\tc\n\tnews\tx\ttitle\t\n", ["news.tsv, line 2", "8 columns"]),
        ("news.tsv", b"N1\tnews\tx\tCaf\xe9\n", ["news.tsv, line 1: not UTF-8: byte 0xe9"]),
    ],
)
def test_bad_lines_are_refused(tmp_path, refused, name, data, parts):
    folder = write(tmp_path / "raw")
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    refused("mind", folder, *parts)


def test_wrong_folders_are_refused(tmp_path, refused):
    refused("mind", tmp_path / "nowhere", "there is no such folder")
    refused("mind", tmp_path, "there is no news.tsv and behaviors.tsv", "the folder above")
    folder = write(tmp_path / "raw")
    (folder / "news.tsv").unlink()
    refused("mind", folder, "news.tsv: there is no such file")
