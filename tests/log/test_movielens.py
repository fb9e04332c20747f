"""MovieLens in each of its published layouts, through the command line."""

import numpy as np
import polars as pl
import pytest

from irec_jax.log.readers import movielens

SHALOM = "\u05e9\u05dc\u05d5\u05dd"


def flags(*genres):
    return "|".join(str(int(genre in genres)) for genre in movielens._GENRES)


def write_100k(folder):
    folder.mkdir(exist_ok=True)
    films = [
        f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/t|{flags('Comedy', 'Animation')}",
        f"2|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/M/m|{flags('Drama')}",
        f"267|unknown||||{flags('unknown')}",
        f'4|War | Peace: "The" Film (1956)|01-Jan-1956||x|{flags("War")}',
    ]
    (folder / "u.item").write_bytes("\n".join(films).encode("latin-1") + b"\n")
    (folder / "u.data").write_text("196\t1\t3\t881250949\n186\t2\t4\t891717742\n196\t267\t1\t5\n")
    return folder


def write_1m(folder):
    folder.mkdir(exist_ok=True)
    films = (
        "1::Matrix, The (1999)::Action|Sci-Fi\r\n"
        "2::Leben :: Traum, Das (Life::Dream) (1998)::Drama\n"
        "3::Fürst & König (1997)::Children's\n"
    )
    (folder / "movies.dat").write_bytes(films.encode("latin-1"))
    (folder / "ratings.dat").write_text("1::1::5::978300760\n2::2::3::978302109\n1::9::1::7\n")
    return folder


def write_25m(folder):
    folder.mkdir(exist_ok=True)
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n"
        "1,Toy Story (1995),Adventure|Children\n"
        '11,"American President, The (1995)",Comedy\n'
        '12,"""Great Performances"" Cats (1998)",Musical\n'
        f"13,{SHALOM} \U0001f3ac (2006\N{EN DASH}2007),(no genres listed)\n"
        "14,Babylon 5,Sci-Fi\n",
        encoding="utf-8",
    )
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\r\n1,11,4.5,1147880044\r\n2,1,0.5,1147868817\r\n\r\n"
    )
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,11,x,1\n")
    return folder


def test_100k(tmp_path, prepare):
    log = prepare("movielens", write_100k(tmp_path / "ml-100k"))
    assert log.items.rows() == [
        ("1", "Toy Story", ["Animation", "Comedy"], "1995"),
        ("2", "Misérables, Les", ["Drama"], "1995"),
        ("267", "unknown", [], None),
        ("4", 'War | Peace: "The" Film', ["War"], "1956"),
    ]
    events = log.interactions.sort("time")
    assert events["item"].to_list() == ["267", "1", "2"]
    assert events["rating"].to_list() == [1.0, 3.0, 4.0]
    assert events["time"].to_list() == [5, 881250949, 891717742]
    assert events["event"].unique().to_list() == ["rating"]
    assert log.interactions["user"].n_unique() == 2
    assert log.manifest.source == "movielens"
    assert "GroupLens" in log.manifest.license


def test_1m(tmp_path, prepare):
    log = prepare("movielens", write_1m(tmp_path / "ml-1m"))
    assert log.items.rows() == [
        ("1", "The Matrix", ["Action", "Sci-Fi"], "1999"),
        ("2", "Leben :: Traum, Das (Life::Dream)", ["Drama"], "1998"),
        ("3", "Fürst & König", ["Children's"], "1997"),
    ]
    # The film that has no line is dropped, and counted.
    assert log.interactions["item"].sort().to_list() == ["1", "2"]
    assert sum(log.manifest.dropped.values()) == 1


def test_films_in_utf8_are_read_too(tmp_path, prepare):
    folder = write_1m(tmp_path / "ml-10m")
    text = (folder / "movies.dat").read_bytes().decode("latin-1")
    (folder / "movies.dat").write_bytes(text.encode("utf-8"))
    assert prepare("movielens", folder).items["title"][2] == "Fürst & König"


def test_25m_and_latest(tmp_path, prepare):
    log = prepare("movielens", write_25m(tmp_path / "ml-25m"))
    assert log.items.rows() == [
        ("1", "Toy Story", ["Adventure", "Children"], "1995"),
        ("11", "The American President", ["Comedy"], "1995"),
        ("12", '"Great Performances" Cats', ["Musical"], "1998"),
        ("13", f"{SHALOM} \U0001f3ac", [], "2006"),
        ("14", "Babylon 5", ["Sci-Fi"], None),
    ]
    assert log.interactions.sort("time")["rating"].to_list() == [0.5, 4.5]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Bug's Life, A (1998)", ("A Bug's Life", "1998")),
        ("Postino, Il (The Postman) (1994)", ("Postino, Il (The Postman)", "1994")),
        ("Fargo, North Dakota", ("Fargo, North Dakota", None)),
        ("2001: A Space Odyssey (1968)", ("2001: A Space Odyssey", "1968")),
        ("(500) Days of Summer (2009)", ("(500) Days of Summer", "2009")),
        ("Fawlty Towers (1975-1979)", ("Fawlty Towers", "1975")),
        ("Big Bang Theory, The (2007-)", ("The Big Bang Theory", "2007")),
        ("(1999)", ("(1999)", None)),
        ("Seven (a.k.a. Se7en) (1995) ", ("Seven (a.k.a. Se7en)", "1995")),
    ],
)
def test_names_of_films(name, expected):
    assert movielens.title_and_year(name) == expected


def write_many(folder, *, users=943, films=1_682, ratings=100_000):
    """A data set with exactly these counts, in the layout of 100k."""
    folder.mkdir()
    lines = [f"{n}|Film {n} (1995)|01-Jan-1995||x|{flags('Drama')}" for n in range(films)]
    (folder / "u.item").write_text("\n".join(lines))
    rows = np.arange(ratings)
    table = pl.DataFrame([rows % users, rows % films, rows % 5 + 1, rows + 800_000_000])
    table.write_csv(folder / "u.data", separator="\t", include_header=False)
    return folder


def test_as_many_ratings_as_published_with_other_users_are_refused(tmp_path, prepare, refused):
    log = prepare("movielens", write_many(tmp_path / "whole"))
    assert log.manifest.counts["users"] == 943
    damaged = write_many(tmp_path / "damaged", users=942, films=1_681)
    messages = ["942 users, published are 943", "1,681 items, published are 1,682"]
    refused("movielens", damaged, str(damaged), *messages)
    assert prepare("movielens", write_many(tmp_path / "b", users=9, ratings=99_999))


def test_every_published_count_is_well_formed():
    for layout, sets in movielens.PUBLISHED.items():
        assert layout in movielens.LAYOUTS
        for counts in sets.values():
            assert set(counts) <= {"users", "items", "rated"}


@pytest.mark.parametrize(
    ("write", "name", "data", "parts"),
    [
        (write_100k, "u.data", b"1\t1\t3\t5\n1\t1\t3\n", ["u.data, line 2", "is not user"]),
        (write_100k, "u.data", b"1\t1\t3\t5\t9\n", ["u.data, line 1"]),
        (write_100k, "u.data", b"1\t1\tgood\t5\n", ["u.data, line 1", "good"]),
        (write_100k, "u.data", b"\n1\t1\t3\t5\n", ["u.data, line 1: ''"]),
        (write_100k, "u.data", b"", ["u.data: the file is empty"]),
        (write_100k, "u.data", b"\n\n", ["u.data: the file has no rows"]),
        (write_100k, "u.data", b"1\t1\t3\t5\n1\t1\t3\t-5\n", ["row 2: negative time -5"]),
        (write_100k, "u.data", b"1\t1\tNaN\t5\n", ["row 1: rating nan is not finite"]),
        (write_100k, "u.data", b"1\t1\t3\t5\n1\t\xff\t3\t5\n", ["u.data, line 2: not UTF-8", "ff"]),
        (write_100k, "u.data", b"1\t77\t3\t5\n", ["no event is with any of the items"]),
        (write_100k, "u.item", b"1|Toy Story (1995)|x\n", ["u.item, line 1", "19 flags"]),
        (write_1m, "movies.dat", b"1::A (1990)::X\n2;;B\n", ["movies.dat, line 2", "::genres"]),
        (write_1m, "movies.dat", b"1::A::X\n1::B::Y\n", ["duplicate item '1'"]),
        (write_1m, "ratings.dat", b"1::1::5::978300760\n1:1:5:7\n", ["ratings.dat, line 2"]),
        (write_25m, "ratings.csv", b"user,item\n1,1\n", ["ratings.csv, line 1: the header is"]),
        (
            write_25m,
            "ratings.csv",
            b"userId,movieId,rating,timestamp\n1,1,3,5\n1,1,3,soon\n",
            ["ratings.csv, line 3: '1,1,3,soon'"],
        ),
        (write_25m, "movies.csv", b"id,title\n1,A\n", ["movies.csv, line 1: there is no column"]),
        (write_25m, "movies.csv", b"movieId,title,genres\n1,\xe9,A\n", ["line 2: not UTF-8"]),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, refused, write, name, data, parts):
    folder = write(tmp_path / "ml")
    (folder / name).write_bytes(data)
    refused("movielens", folder, *parts)


def test_wrong_folders_are_refused(tmp_path, refused):
    refused("movielens", tmp_path / "nowhere", "there is no such folder")
    refused("movielens", tmp_path, "no MovieLens", "u.data and u.item", "ratings.dat")
    folder = write_1m(tmp_path / "ml-1m")
    refused("movielens", tmp_path, f"Give the folder {folder}")
    (folder / "movies.dat").unlink()
    refused("movielens", folder, "there is ratings.dat and no movies.dat")
    refused("movielns", folder, "no source is called 'movielns'", "Did you mean 'movielens'?")
