"""RecBole's atomic files, through the command line."""

import pytest

from irec_jax.log.events import TimeUnit
from irec_jax.log.readers.table import UNKNOWN_ITEM

pytestmark = pytest.mark.fast

PERSIAN = "\u0641\u06cc\u0644\u0645"

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"


def write(folder, inter=None, item=None, name="ml-100k"):
    folder.mkdir(exist_ok=True)
    inter = INTER + "196\t242\t3\t881250949\n186\t302\t4.5\t891717742\n" if inter is None else inter
    item = item or ITEM + '242\tKolya "é"\t1996\tComedy\n302\tA | B :: C\t\tFilm-Noir War\n'
    for suffix, text in {"inter": inter, "item": item}.items():
        (folder / f"{name}.{suffix}").write_bytes(
            text if isinstance(text, bytes) else text.encode()
        )
    return folder


def test_movielens_as_recbole_has_it(tmp_path, prepare):
    log = prepare("recbole", write(tmp_path / "raw"))
    assert log.items.rows() == [
        ("242", 'Kolya "é"', ["Comedy"], "1996"),
        ("302", "A | B :: C", ["Film-Noir", "War"], None),
    ]
    assert log.interactions.sort("time").drop("user").rows() == [
        ("242", 881250949, "rating", 3.0),
        ("302", 891717742, "rating", 4.5),
    ]


def test_reviews_prices_brands_and_unused_fields(tmp_path, prepare):
    inter = (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\treview:token_seq\tvote:float\n"
        "A1\tB0\t5.0\t1252800000.0\tI  like it\t2\n"
        "A2\tB1\t1.0\t1.2528e9\t\t\n"
        "A2\tB7\t1.0\t1252800002.0\t\t\n"
    )
    item = (
        "item_id:token\ttitle:token_seq\tprice:float\tbrand:token\tcategories:token_seq\n"
        f"B0\t{PERSIAN} \U0001f457\t3.17\tAcme, Inc.\t'Arts, Crafts & Sewing', 'Dance'\n"
        "B1\tHat\t\t\t\n"
    )
    log = prepare("recbole", write(tmp_path / "raw", inter, item, name="amazon"))
    assert log.items.rows(named=True)[0] == {
        "item": "B0",
        "title": f"{PERSIAN} \U0001f457",
        "categories": ["Arts, Crafts & Sewing", "Dance"],
        "brand": "Acme, Inc.",
        "price": 3.17,
    }
    assert log.interactions.sort("event", descending=True).select(
        "time", "event", "review"
    ).rows() == [(1252800000, "review", "I like it"), (1252800000, "rating", None)]
    assert log.manifest.dropped == {UNKNOWN_ITEM: 1}
    assert log.manifest.settings["unused_columns"]["interactions"] == ["vote"]


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        ("token_seq", ["Drama, School Life", "Action"], [["Drama", "School Life"], ["Action"]]),
        ("token_seq", ["Drama|Film Noir", ""], [["Drama", "Film Noir"], []]),
        ("token_seq", ["Drama War", "Action"], [["Drama", "War"], ["Action"]]),
        ("token_seq", ["['A b', 'C']", "['D']"], [["A b", "C"], ["D"]]),
        ("token", ["Arts, Crafts & Sewing", "Active Life"], None),
    ],
)
def test_categories(tmp_path, prepare, kind, written, expected):
    item = f"item_id:token\tname:token_seq\tgenre:{kind}\n1\tA\t{written[0]}\n2\tB\t{written[1]}\n"
    inter = "user_id:token\titem_id:token\n7\t1\n7\t2\n"
    log = prepare("recbole", write(tmp_path / "raw", inter, item))
    assert log.items["categories"].to_list() == (expected or [[text] for text in written])


def test_without_times_and_ratings_the_rows_are_views_in_order(tmp_path, prepare):
    inter = "item_id:token\tuser_id:token\n302\tu\n242\tu\n302\tu\n"
    log = prepare("recbole", write(tmp_path / "raw", inter) / "ml-100k.inter")
    assert log.manifest.time_unit is TimeUnit.POSITION
    assert log.interactions.rows() == [
        (0, "302", 0, "view"),
        (0, "242", 1, "view"),
        (0, "302", 2, "view"),
    ]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"inter": "user_id\titem_id\n1\t2\n"}, ["line 1: the header's field 'user_id' is not"]),
        ({"inter": "user_id:tokn\titem_id:token\n"}, ["line 1", "Did you mean 'token'?"]),
        ({"inter": "uid:token\titem_id:token\n1\t2\n"}, ["line 1: no field tells the user"]),
        ({"item": "item_id:token\tclass:token\n1\t2\n"}, ["line 1: no field tells the title"]),
        ({"inter": INTER}, ["ml-100k.inter: the file has no rows"]),
        (
            {"inter": INTER + "1\t242\tgood\t5\n"},
            ["ml-100k.inter, row 1: rating 'good' is not a n"],
        ),
        ({"inter": INTER + "1\t242\t1\t5\n1\t242\t1\tnoon\n"}, ["row 2: time 'noon' is neither"]),
        ({"inter": INTER + "1\t242\t1\t5\n1\t242\t1\n"}, ["ml-100k.inter, line 3: ", "4 values"]),
        (
            {"inter": INTER + "1\t242\t1\t5\n1\t2\t1\t5\t6\n"},
            ["ml-100k.inter, line 3: ", "4 values"],
        ),
        ({"inter": INTER + "1\t242\t1\t1588687728923\n"}, ["row 1: absurd time", "milliseconds"]),
        ({"inter": INTER.encode() + b"\xff\t242\t1\t5\n"}, ["ml-100k.inter, line 2: not UTF-8"]),
        ({"inter": b""}, ["ml-100k.inter: the file is empty"]),
        ({"item": ITEM + "1\tA\t\t\n1\tB\t\t\n"}, ["ml-100k.item, row 1: duplicate item '1'"]),
    ],
)
def test_bad_files_are_refused(tmp_path, refused, change, parts):
    refused("recbole", write(tmp_path / "raw", **change), *parts)


def test_wrong_folders_are_refused(tmp_path, refused):
    refused("recbole", tmp_path / "nowhere", "there is no such file or folder")
    refused("recbole", tmp_path, "there is no .inter file in it")
    folder = write(tmp_path / "raw")
    (folder / "ml-100k.item").rename(folder / "ml.item")
    refused("recbole", folder, "there is no ml-100k.item", "needs titles")
    write(folder, name="ml-100k.train")
    refused("recbole", folder, "several .inter files: ml-100k.inter, ml-100k.train.inter")
