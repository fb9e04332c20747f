"""Amazon reviews of 2014, 2018 and 2023 as they were published, through the command line."""

import gzip
import json
import random

import polars as pl
import pytest

from irec_jax.log.readers import amazon
from irec_jax.log.readers.table import BLANK_TITLE, UNKNOWN_ITEM

ARABIC = "\u0645\u0631\u062d\u0628\u0627"

REVIEWS_2014 = [
    {
        "reviewerID": "A2SUAM1J3GNN3B",
        "asin": "0000013714",
        "reviewerName": "J. McDonald",
        "helpful": [2, 3],
        "reviewText": "I bought this for my husband &#34;Bob&#34;.",
        "overall": 5.0,
        "summary": "Heavenly",
        "unixReviewTime": 1252800000,
        "reviewTime": "09 13, 2009",
    },
    {
        "reviewerID": "A1",
        "asin": "0000031852",
        "helpful": [0, 0],
        "reviewText": "",
        "overall": 2.0,
        "summary": "",
        "unixReviewTime": 1252800001,
        "reviewTime": "09 13, 2009",
    },
]
# Python, as the files are: single quotes, an escaped one, a backslash that JSON refuses.
META_2014 = r"""
{'asin': '0000013714', 'title': 'Book of Hymns: the "old" ones', 'price': 3.17, 'imUrl': 'http://x/y.jpg', 'related': {'also_bought': ['B00JHONN1S']}, 'salesRank': {'Books': 211836}, 'brand': 'Coxlures', 'categories': [['Books', 'Music'], ['Books', 'Faith & Hope']]}
{'asin': '0000031852', 'description': 'It\'s a tutu\n w\ith \d', 'categories': [['Sports & Outdoors', 'Dance']]}
{'asin': 'B000000001', 'title': 'Not reviewed', 'categories': [['Sports']]}
""".lstrip()  # noqa: E501

REVIEWS_2018 = [
    {
        "overall": 5.0,
        "vote": "2",
        "verified": True,
        "reviewTime": "01 1, 2018",
        "reviewerID": "AUI6WTTT0QZYS",
        "asin": "5120053084",
        "style": {"Size:": "Large", "Color:": "Charcoal"},
        "reviewerName": "Abbey",
        "reviewText": "Great! <br />I now love it \U0001f600",
        "summary": "Comfy",
        "unixReviewTime": 1514764800,
    },
    {
        "overall": 1.0,
        "reviewerID": "B2",
        "asin": "5120053084",
        "summary": f"{ARABIC} only a headline",
        "unixReviewTime": 1514764801,
    },
    {"overall": 4.0, "reviewerID": "B2", "asin": "B00000SCRP", "unixReviewTime": 1514764802},
    {"overall": 4.0, "reviewerID": "B2", "asin": "NOTDESCRIB", "unixReviewTime": 1514764803},
]
META_2018 = [
    {
        "asin": "5120053084",
        "title": "Girls &amp; Boys\nTutu",
        "feature": ["Botiquecutie"],
        "description": ["This tutu is", "<b>great</b>"],
        "price": "$1,003.17",
        "brand": "by\n    Coxlures",
        "category": ["Sports", "</span></span></span>", "Sports", "Dance"],
        "main_cat": "Sports",
    },
    {"asin": "5120053084", "title": "The same again", "category": []},
    {
        "asin": "B00000SCRP",
        "title": "var aPageStart = (new Date()).getTime();",
        "brand": "Acme",
        "price": "$10.00 - $20.00",
        "category": ["Sports", "Balls"],
    },
]

REVIEWS_2023 = [
    {
        "rating": 4.0,
        "title": "No white background!",
        "text": "I bought this bc I thought",
        "images": [],
        "asin": "B01CHILD01",
        "parent_asin": "B01PARENT1",
        "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ",
        "timestamp": 1588687728923,
        "helpful_vote": 0,
        "verified_purchase": True,
    },
    {
        "rating": 5,
        "title": "half a pair \ud83d here",
        "text": "",
        "asin": "B01CHILD02",
        "parent_asin": "B01PARENT2",
        "user_id": "AE2",
        "timestamp": 1588615855070,
    },
]
META_2023 = [
    {
        "main_category": "All Beauty",
        "title": "Howard LC0008 Leather Conditioner",
        "average_rating": 4.8,
        "description": [],
        "price": None,
        "store": "Howard Products",
        "categories": [],
        "details": {"Brand": "Howard"},
        "parent_asin": "B01PARENT1",
    },
    {
        "main_category": "All Beauty",
        "title": "Yes to Tomatoes",
        "description": ["Clear skin", "acne"],
        "price": "from 14.99",
        "store": "Yes To",
        "categories": ["Beauty", "Skin Care"],
        "details": '{"Size": "2"}',
        "parent_asin": "B01PARENT2",
    },
]


def jsonl(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        name = name.replace("__", ".")
        data = gzip.compress(data) if name.endswith(".gz") else data
        (folder / name).write_bytes(data)
    return folder


def write_2014(folder):
    reviews = jsonl(REVIEWS_2014)
    return write(
        folder, reviews_Sports_5__json__gz=reviews, meta_Sports__json__gz=META_2014.encode()
    )


def write_2018(folder):
    reviews = jsonl([*REVIEWS_2018, REVIEWS_2018[0]])
    return write(folder, Sports_5__json__gz=reviews, meta_Sports__json__gz=jsonl(META_2018))


def write_2023(folder):
    return write(folder, Beauty__jsonl=jsonl(REVIEWS_2023), meta_Beauty__jsonl=jsonl(META_2023))


def test_2014(tmp_path, prepare):
    log = prepare("amazon", write_2014(tmp_path / "raw"))
    book, tutu = log.items.rows(named=True)
    assert book["title"] == 'Book of Hymns: the "old" ones'
    assert book["categories"] == ["Books", "Music", "Faith & Hope"]
    assert (book["brand"], book["price"]) == ("Coxlures", 3.17)
    # Without a title and a brand, the last category replaces the title, as in any table.
    assert (tutu["title"], tutu["description"]) == ("Dance", "It's a tutu w\\ith \\d")
    events = log.interactions.sort("time").drop("user").rows()
    assert events == [
        ("0000013714", 1252800000, "review", 5.0, 'I bought this for my husband "Bob".'),
        ("0000031852", 1252800001, "rating", 2.0, None),
    ]
    assert log.manifest.dropped == {BLANK_TITLE: 1, amazon.UNREVIEWED: 1}


def test_2018(tmp_path, prepare):
    log = prepare("amazon", write_2018(tmp_path / "raw"))
    tutu, script = log.items.rows(named=True)
    assert tutu["title"] == "Girls & Boys Tutu"
    assert tutu["description"] == "This tutu is great"
    assert (tutu["brand"], tutu["price"]) == ("Coxlures", 1003.17)
    assert tutu["categories"] == ["Sports", "Dance"]
    assert (script["title"], script["price"]) == ("Acme Balls", None)
    events = log.interactions.sort("time")
    assert events["review"].to_list() == [
        "Great! I now love it \U0001f600",
        f"{ARABIC} only a headline",
        None,
    ]
    assert events["event"].to_list() == ["review", "review", "rating"]
    assert log.manifest.dropped == {
        amazon.DUPLICATE_REVIEW: 1,
        amazon.DUPLICATE_ITEM: 1,
        BLANK_TITLE: 1,
        UNKNOWN_ITEM: 1,
    }


def test_2023(tmp_path, prepare):
    log = prepare("amazon", write_2023(tmp_path / "raw"))
    first, second = log.items.rows(named=True)
    assert (first["brand"], first["categories"]) == ("Howard", ["All Beauty"])
    assert (second["brand"], second["price"]) == ("Yes To", None)
    assert second["description"] == "Clear skin acne"
    events = log.interactions.sort("time")
    assert events["time"].to_list() == [1588615855, 1588687728]
    assert events["item"].to_list() == ["B01PARENT2", "B01PARENT1"]
    assert events["review"].to_list() == ["half a pair \ufffd here", "I bought this bc I thought"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ratings_Sports__csv", "A1,5120053084,5.0,1514764800\nB2,B00000SCRP,2.0,1514764801\n"),
        ("Sports__csv__gz", "5120053084,A1,5.0,1514764800\nB00000SCRP,B2,2.0,1514764801\n"),
        (
            "Sports__csv",
            "user_id,parent_asin,rating,timestamp,history\r\n"
            "A1,5120053084,5.0,1514764800999,\r\nB2,B00000SCRP,2.0,1514764801000,5120053084\r\n",
        ),
    ],
    ids=["2014", "2018", "2023"],
)
def test_ratings_only(tmp_path, prepare, name, text):
    folder = write(tmp_path / "raw", meta_Sports__json=jsonl(META_2018), **{name: text.encode()})
    log = prepare("amazon", folder)
    assert log.interactions.sort("time").drop("user").rows() == [
        ("5120053084", 1514764800, "rating", 5.0),
        ("B00000SCRP", 1514764801, "rating", 2.0),
    ]


def test_one_of_several_categories_is_named_by_its_file(tmp_path, prepare, refused):
    folder = write_2023(write_2018(tmp_path / "raw"))
    messages = ["several files of reviews: Beauty.jsonl, Sports_5.json.gz", "Give the path of one"]
    refused("amazon", folder, *messages)
    assert prepare("amazon", folder / "Sports_5.json.gz").items["title"][0] == "Girls & Boys Tutu"
    assert prepare("amazon", folder / "Beauty.jsonl").manifest.counts["items"] == 2


def test_reviews_at_other_times_are_kept(tmp_path, prepare):
    again = REVIEWS_2014[0] | {"unixReviewTime": 1252800009}
    folder = write_2014(tmp_path / "raw")
    write(folder, reviews_Sports_5__json__gz=jsonl([*REVIEWS_2014, again, again]))
    log = prepare("amazon", folder)
    assert log.manifest.counts["interactions"] == 3
    assert log.manifest.dropped[amazon.DUPLICATE_REVIEW] == 1


def test_chunks_are_put_together(tmp_path, prepare, monkeypatch):
    monkeypatch.setattr("irec_jax.log.readers.records.CHUNK", 2)
    many = [REVIEWS_2014[0] | {"reviewerID": f"U{n}", "unixReviewTime": n} for n in range(5)]
    folder = write_2014(tmp_path / "raw")
    write(folder, reviews_Sports_5__json__gz=jsonl(many))
    assert prepare("amazon", folder).interactions["time"].sort().to_list() == [0, 1, 2, 3, 4]


def test_a_published_core_with_other_counts_is_refused(tmp_path, prepare, refused, monkeypatch):
    folder = write_2014(tmp_path / "raw")
    monkeypatch.setattr(amazon, "PUBLISHED", {"reviews_Sports_5": {2: (2, 2)}})
    prepare("amazon", folder)
    monkeypatch.setattr(amazon, "PUBLISHED", {"reviews_Sports_5": {2: (3, 2)}})
    refused("amazon", folder, "2 users and 2 items, published are 3 and 2")


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (3.17, 3.17),
        (0, 0.0),
        ("$12.99", 12.99),
        ("1,299.00", 1299.0),
        ("$5", 5.0),
        ("$10.00 - $20.00", None),
        (".a-box-inner{background-color:#fff}", None),
        ("", None),
        (None, None),
        ("None", None),
        (-1, None),
        (float("nan"), None),
        (True, None),
        ("1,2,3", None),
    ],
)
def test_prices(price, expected):
    assert amazon._price(price) == expected


GOOD = jsonl(REVIEWS_2014[:1])


@pytest.mark.parametrize(
    ("reviews", "parts"),
    [
        (GOOD + b'{"reviewerID": "A1", "asi', ["line 2: neither a JSON object nor a Python dict"]),
        (GOOD + b'["A1"]\n', ["line 2: neither a JSON object"]),
        (GOOD + b"\n\xff\xfe\n", ["line 3: not UTF-8: byte 0xff"]),
        (GOOD + b'{"stars": 3}\n', ["line 2: no reviewerID (nor user_id)", "stars"]),
        (GOOD + b'{"reviewerID": "A1", "asin": " "}', ["line 2: no parent_asin (nor asin)"]),
        (GOOD.replace(b"5.0", b'"many"'), ["line 1: overall 'many' is not a number"]),
        (GOOD.replace(b"1252800000", b"NaN"), ["line 1: unixReviewTime nan is not a number"]),
        (GOOD.replace(b"1252800000", b"null"), ["line 1: no unixReviewTime (nor timestamp)"]),
        (GOOD + GOOD.replace(b"1252800000", b"-7"), ["row 2: negative time -7"]),
        (GOOD.replace(b"1252800000", b"1252800000000"), ["row 1: absurd time", "milliseconds"]),
        (GOOD.replace(b"0000013714", b"X"), ["none of the reviewed items is described in it"]),
        (b"[" * 100_000, ["line 1: neither a JSON object"]),
        (b"", ["reviews_Sports_5.json: the file is empty"]),
        (b" \n\n", ["the file has no reviews"]),
    ],
)
def test_bad_reviews_are_refused_with_their_line(tmp_path, refused, reviews, parts):
    folder = write(tmp_path / "raw", meta_Sports__json=META_2014.encode())
    (folder / "reviews_Sports_5.json").write_bytes(reviews)
    refused("amazon", folder, *parts)


def test_damaged_and_missing_files_are_refused(tmp_path, refused):
    folder = write_2014(tmp_path / "raw")
    meta = folder / "meta_Sports.json.gz"
    whole = meta.read_bytes()
    meta.write_bytes(whole[:-20])
    refused(
        "amazon", folder, "meta_Sports.json.gz, after line", "damaged gzip", "Fetch the file again"
    )
    meta.write_bytes(gzip.compress(META_2014.encode().replace(b"'asin'", b"'isbn'")))
    refused("amazon", folder, "meta_Sports.json.gz, line 1: no parent_asin (nor asin)")
    meta.write_bytes(b"not gzip")
    refused("amazon", folder, "damaged gzip")
    meta.unlink()
    refused("amazon", folder, "there is no file meta_Sports.* with the titles")
    (folder / "reviews_Sports_5.json.gz").unlink()
    refused("amazon", folder, "there is no file of reviews")
    refused("amazon", tmp_path / "nowhere", "there is no such file or folder")
    ratings = write(tmp_path / "csv", meta_X__json=jsonl(META_2018), X__csv=b"user_id,item\n1,2\n")
    refused("amazon", ratings, "X.csv, line 1: the header 'user_id,item' has no parent_asin")
    for line in ("c;d;4;2", '"c",d,4,2', "c,d,4", "c,d,4,2,", "c,d,4,"):
        (ratings / "X.csv").write_text(f"a,b,5,1\n{line}\n")
        refused("amazon", ratings, f"X.csv, line 2: '{line}' is not item,user,rating,time")
    (ratings / "X.csv").rename(ratings / "X.csv.gz")
    refused("amazon", ratings, "X.csv.gz, after line 0: damaged gzip (Not a gzipped file")


def test_a_gzip_of_ratings_that_was_cut_off_is_refused(tmp_path, refused):
    many = random.Random(0).sample(range(10**9), 20_000)
    whole = gzip.compress("".join(f"B{n:09},A{n},5.0,{n}\n" for n in many).encode())
    folder = write(tmp_path / "raw", meta_X__json=jsonl(META_2018))
    (folder / "X.csv.gz").write_bytes(whole[: len(whole) // 2])
    refused("amazon", folder, "X.csv.gz, after line", "damaged gzip", "Fetch the file again")


def test_beauty_of_2014_as_a_table(shared, prepare):
    folder = shared / "data" / "amazon-beauty-2014"
    log = prepare("table", folder, "--table.columns.time", "position")
    counts = {"users": 22_363, "items": 12_101, "interactions": 198_502}
    assert log.manifest.counts == counts | {f"core5_{name}": n for name, n in counts.items()}
    assert log.manifest.dropped == {BLANK_TITLE: 7}
    assert log.manifest.settings["time"] == "position"
    assert log.interactions.group_by("user").agg(pl.col("time").min())["time"].unique().item() == 0
