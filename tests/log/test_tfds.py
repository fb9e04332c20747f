"""Data sets in the very format of TensorFlow Datasets, written without TensorFlow."""

import collections

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from irec_jax.log.readers.movielens import PUBLISHED

pytestmark = pytest.mark.fast

# In the order of TFDS' own definition, which decides what the stored numbers mean.
GENRES = [
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "IMAX",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "Unknown",
    "War",
    "Western",
    "(no genres listed)",
]
RATINGS = {
    "movie_id": np.str_,
    "movie_title": np.str_,
    "movie_genres": tfds.features.Sequence(tfds.features.ClassLabel(names=GENRES)),
    "user_id": np.str_,
    "user_rating": np.float32,
    "timestamp": np.int64,
    "user_gender": np.bool_,
    "user_occupation_label": tfds.features.ClassLabel(names=["artist", "other"]),
}
TEXTS = [
    "marketplace customer_id review_id product_id product_parent product_title product_category",
    "review_headline review_body review_date",
]
LABEL = tfds.features.ClassLabel(names=["Y", "N"])
REVIEWS = {
    "data": collections.OrderedDict(
        [
            *((name, np.str_) for name in TEXTS[0].split()),
            *((name, np.int32) for name in ("star_rating", "helpful_votes", "total_votes")),
            ("vine", LABEL),
            ("verified_purchase", LABEL),
            *((name, np.str_) for name in TEXTS[1].split()),
        ]
    )
}


def write(folder, name, features, records, *, splits=1, suffix="array_record"):
    """Writes records as a prepared data set of equal splits and two shards each."""
    folder.mkdir(parents=True)
    description = tfds.features.FeaturesDict(features)
    infos = []
    for split in ["train", "test"][:splits]:
        template = tfds.core.ShardedFileTemplate(
            data_dir=tfds.core.Path(folder),
            dataset_name=name,
            split=split,
            filetype_suffix=suffix,
        )
        part = records if splits == 1 else records[(split == "test") :: 2]
        shards = [part[:2], part[2:]]
        for number, shard in enumerate(shards):
            path = folder / f"{name}-{split}.{suffix}-{number:05d}-of-00002"
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for record in shard:
                writer.write(description.serialize_example(description.encode_example(record)))
            writer.close()
        lengths = [len(shard) for shard in shards]
        infos.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=lengths, num_bytes=9, filename_template=template
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=description,
        split_infos=infos,
        version=folder.name,
        filename_template=template,
        check_data=False,
    )


def rating(user, movie, title, genres, *, stars=3.0, time=879024327):
    return {
        "movie_id": movie,
        "movie_title": title,
        "movie_genres": genres,
        "user_id": user,
        "user_rating": stars,
        "timestamp": time,
        "user_gender": True,
        "user_occupation_label": "other",
    }


FILMS = [
    rating("138", "357", "One Flew Over the Cuckoo's Nest (1975)", ["Drama"], stars=4.0),
    rating("92", "709", "Strictly Ballroom (1992)", ["Comedy", "Romance"], stars=2.5, time=7),
    rating("138", "11", "Matrix, The (1999)", ["Sci-Fi", "Film-Noir"], time=879024328),
    rating("92", "12", "Misérables \U0001f3ac", ["Unknown"], time=5),
]


def review(user, product, title, body, day="2005-10-14"):
    return {
        "data": {
            "marketplace": "US",
            "customer_id": user,
            "review_id": f"R{user}{product}",
            "product_id": product,
            "product_parent": "1",
            "product_title": title,
            "product_category": "Digital_Ebook_Purchase",
            "star_rating": 5,
            "helpful_votes": 0,
            "total_votes": 1,
            "vine": "N",
            "verified_purchase": "Y",
            "review_headline": "x",
            "review_body": body,
            "review_date": day,
        }
    }


def test_movielens(tmp_path, prepare):
    write(tmp_path / "movielens" / "100k-ratings" / "0.1.1", "movielens", RATINGS, FILMS)
    log = prepare("tfds:movielens/100k-ratings", tmp_path)
    assert log.items.rows() == [
        ("11", "The Matrix", ["Sci-Fi", "Film-Noir"], "1999"),
        ("12", "Misérables \U0001f3ac", [], None),
        ("357", "One Flew Over the Cuckoo's Nest", ["Drama"], "1975"),
        ("709", "Strictly Ballroom", ["Comedy", "Romance"], "1992"),
    ]
    assert log.interactions.sort("time").drop("user").rows() == [
        ("12", 5, "rating", 3.0),
        ("709", 7, "rating", 2.5),
        ("357", 879024327, "rating", 4.0),
        ("11", 879024328, "rating", 3.0),
    ]
    assert log.manifest.source == "tfds:movielens/100k-ratings"
    assert log.manifest.settings["version"] == "0.1.1"


def test_amazon_us_reviews(tmp_path, prepare):
    records = [
        review("1", "B0", "Caf&#233;<br />\u05e9\u05dc\u05d5\u05dd", "I &lt;3 it"),
        review("2", "B0", "Caf\u00e9 \u05e9\u05dc\u05d5\u05dd", "", "2005-10-13"),
        review("1", "B1", "", "good"),
    ]
    write(
        tmp_path / "amazon_us_reviews" / "Books_v1_00" / "0.1.0",
        "amazon_us_reviews",
        REVIEWS,
        records,
        splits=2,
    )
    log = prepare("tfds:amazon_us_reviews/Books_v1_00", tmp_path)
    assert log.items.rows() == [
        ("B0", "Caf\u00e9 \u05e9\u05dc\u05d5\u05dd", ["Digital Ebook Purchase"]),
        ("B1", "Digital Ebook Purchase", ["Digital Ebook Purchase"]),
    ]
    day = 1129161600  # 2005-10-13 UTC
    assert sorted(log.interactions.drop("user").rows()) == [
        ("B0", day, "rating", 5.0, None),
        ("B0", day + 86400, "review", 5.0, "I <3 it"),
        ("B1", day + 86400, "review", 5.0, "good"),
    ]


def test_the_newest_version_is_read_unless_another_is_named(tmp_path, prepare, refused):
    base = tmp_path / "movielens" / "1m-ratings"
    write(base / "0.1.1", "movielens", RATINGS, FILMS[:1])
    write(base / "0.10.0", "movielens", RATINGS, FILMS)
    assert prepare("tfds:movielens/1m-ratings", tmp_path).manifest.settings["version"] == "0.10.0"
    assert prepare("tfds:movielens/1m-ratings:0.1.1", tmp_path).items.height == 1
    refused("tfds:movielens/1m-ratings:9.9.9", tmp_path, "no prepared movielens/1m-ratings of ver")


def test_published_counts_hold_for_what_is_rated(tmp_path, prepare, refused, monkeypatch):
    write(tmp_path / "movielens" / "1m-ratings" / "0.1.1", "movielens", RATINGS, FILMS)
    # The catalog holds rated films only, so that of the archive is not asked for.
    monkeypatch.setitem(PUBLISHED, "dat", {4: {"users": 2, "items": 99, "rated": 4}})
    prepare("tfds:movielens/1m-ratings", tmp_path)
    monkeypatch.setitem(PUBLISHED, "dat", {4: {"users": 3, "items": 99, "rated": 4}})
    refused("tfds:movielens/1m-ratings", tmp_path, "2 users, published are 3")


def test_what_is_not_prepared_or_not_known_is_refused(tmp_path, refused):
    refused(
        "tfds:movielens/100k-ratings",
        tmp_path,
        f"{tmp_path}: there is no prepared movielens/100k-ratings",
        "tfds build movielens/100k-ratings --file_format=array_record --data_dir=",
    )
    refused("tfds:movielens/100k-movies", tmp_path, "no ratings", "Use tfds:movielens/100k-ratings")
    refused("tfds:movie_lens/100k", tmp_path, "no reader", "Did you mean 'movielens'?")
    refused("tfds:movielens", tmp_path, "Name its config too")
    refused("tfds:", tmp_path, "no reader for the data set ''")


def test_a_format_for_tensorflow_is_refused(tmp_path, refused):
    folder = tmp_path / "movielens" / "100k-ratings" / "0.1.1"
    write(folder, "movielens", RATINGS, FILMS, suffix="tfrecord")
    messages = ["only TensorFlow reads", "--file_format=array_record"]
    refused("tfds:movielens/100k-ratings", tmp_path, *messages)


@pytest.mark.parametrize("damage", ["shard", "info", "missing", "other"])
def test_damaged_data_sets_are_refused(tmp_path, refused, damage):
    folder = tmp_path / "movielens" / "100k-ratings" / "0.1.1"
    features = {"text": np.str_} if damage == "other" else RATINGS
    write(folder, "movielens", features, [{"text": "x"}] if damage == "other" else FILMS)
    shard = folder / "movielens-train.array_record-00000-of-00002"
    if damage == "shard":
        data = bytearray(shard.read_bytes())
        data[64:] = bytes(len(data) - 64)
        shard.write_bytes(data)
    if damage == "info":
        (folder / "dataset_info.json").write_text("{")
    if damage == "missing":
        shard.unlink()
    refused("tfds:movielens/100k-ratings", tmp_path, str(folder), "--file_format=array_record")
