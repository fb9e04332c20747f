"""Stored texts: equal bytes, equal to a brute-force search, refused for another split."""

import dataclasses
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import Intention, TaskName
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import Teacher
from irec_jax.log.split import Split
from irec_jax.random_draws import scramble
from irec_jax.teachers.teacher_texts import (
    MANIFEST_FILE,
    TEXTS_FILE,
    StoredTextsTeacher,
    TeacherText,
    TeacherTextsManifest,
    TextKind,
    read_teacher_texts,
    split_sha256,
    write_teacher_texts,
)

pytestmark = pytest.mark.fast

LANGUAGES = ("en", "zh")


def manifest_for(split: Split) -> TeacherTextsManifest:
    return TeacherTextsManifest(teacher="chat", model="m", split_sha256=split_sha256(split), seed=0)


def teacher_text(split: Split, row: int, event_index: int, kind: TextKind, **more) -> TeacherText:
    variant, language = more.get("variant", 0), more.get("language", "en")
    text = f"{kind.value} {row} {event_index} {variant} {language}"
    return TeacherText(
        int(split.users[row]), event_index, kind, variant, language, text, "0" * 64, "chat:m"
    )


def half_of_all_texts(split: Split) -> list[TeacherText]:
    """Returns half of all possible texts."""
    found = []
    for row, length in enumerate(np.diff(split.offsets).tolist()):
        every = itertools.product(range(length), TextKind, range(3), LANGUAGES)
        for number, (event_index, kind, variant, language) in enumerate(every):
            is_preference = kind is TextKind.PREFERENCE
            if (is_preference and not event_index) or (variant and not is_preference):
                continue
            if scramble(number * 97 + row) % 2:
                found.append(
                    teacher_text(split, row, event_index, kind, variant=variant, language=language)
                )
    return found


def expected_preference(
    split: Split, texts: list[TeacherText], position: int, language: str
) -> list[str]:
    """Returns the texts of the latest event index up to an event, by a search of all texts."""
    row = int(np.searchsorted(split.offsets, position, side="right")) - 1
    event_index = position - int(split.offsets[row])
    candidates = [
        n
        for n in texts
        if n.kind is TextKind.PREFERENCE
        and n.user == split.users[row]
        and n.language == language
        and n.event_index <= event_index
    ]
    latest = max((n.event_index for n in candidates), default=-1)
    return [n.text for n in sorted(candidates, key=lambda n: n.variant) if n.event_index == latest]


def test_the_teacher_agrees_with_a_search_of_all_texts(split: Split, tmp_path: Path):
    texts = half_of_all_texts(split)
    write_teacher_texts(tmp_path / "texts", texts, manifest_for(split))
    teacher = StoredTextsTeacher.load(tmp_path / "texts", split)
    assert isinstance(teacher, Teacher)
    by_key = {(n.user, n.event_index, n.kind, n.language): n.text for n in texts}
    owners = split.event_users()
    for language in (*LANGUAGES, "fr"):
        liked = teacher.has_preference(language)
        has = {i: teacher.has_query(i, language) for i in Intention}
        reasons = teacher.has_reason(language)
        for position in range(len(split.items)):
            preferences = expected_preference(split, texts, position, language)
            assert liked[position] == bool(preferences)
            for variant in range(5):
                expected = preferences[variant % len(preferences)] if preferences else ""
                assert teacher.preference(position, variant, language) == expected
            user = int(split.users[owners[position]])
            event_index = position - int(split.offsets[owners[position]])
            for intention in (Intention.VAGUE, Intention.SPECIFIC):
                typed = teacher.typed.query(position, intention, language)
                key = (user, event_index, TextKind(intention.value), language)
                expected = typed or by_key.get(key, "")
                assert teacher.query(position, intention, language) == expected
                assert has[intention][position] == bool(expected)
            assert not has[Intention.NONE][position]
            expected = by_key.get((user, event_index, TextKind.REASON, language), "")
            assert teacher.reason(position, language) == expected
            assert reasons[position] == bool(expected)
    assert any(teacher.typed.queries), "queries that were typed are among them"
    assert teacher.variants == 3
    unpickled = pickle.loads(pickle.dumps(teacher))
    assert unpickled.preference(4, 1, "en") == teacher.preference(4, 1, "en")


@settings(deadline=None, max_examples=60)
@given(
    uptos=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), unique=True, max_size=12),
    lengths=st.lists(st.integers(0, 10), min_size=4, max_size=4),
)
def test_a_preference_is_never_of_a_later_event_or_another_user(make, tmp_path_factory, **case):
    lengths = case["lengths"]
    split = make([[0] * length for length in lengths], ["a lamp"])
    texts = [
        teacher_text(split, row, cutoff, TextKind.PREFERENCE)
        for row, cutoff in case["uptos"]
        if cutoff < lengths[row]
    ]
    folder = tmp_path_factory.mktemp("case") / "texts"
    write_teacher_texts(folder, texts, manifest_for(split))
    teacher = StoredTextsTeacher.load(folder, split)
    owners = split.event_users()
    for position in range(len(split.items)):
        text = teacher.preference(position, 0, "en")
        expected = expected_preference(split, texts, position, "en")
        assert text == (expected[0] if expected else "")
        if text:
            _, row, cutoff, _, _ = text.split()
            assert int(row) == owners[position]
            assert int(cutoff) <= position - split.offsets[owners[position]]


def test_a_folder_name_is_not_a_glob_pattern(tmp_path: Path, split: Split):
    texts = half_of_all_texts(split)
    write_teacher_texts(tmp_path / "n1", texts, manifest_for(split))
    write_teacher_texts(tmp_path / "n[1]", texts[:1], manifest_for(split))
    assert read_teacher_texts(tmp_path / "n[1]")[0].height == 1


def test_equal_texts_in_any_order_give_equal_bytes(split: Split, tmp_path: Path):
    texts = half_of_all_texts(split)
    first = write_teacher_texts(tmp_path / "a", texts, manifest_for(split))
    second = write_teacher_texts(tmp_path / "b", texts[::-1], manifest_for(split))
    assert first == second
    for name in (TEXTS_FILE, MANIFEST_FILE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    table, manifest = read_teacher_texts(tmp_path / "a")
    assert manifest == first
    assert table.height == len(texts)
    other = dataclasses.replace(texts[0], text="something else")
    assert write_teacher_texts(tmp_path / "a", [other, *texts[1:]], manifest_for(split)) != first
    assert StoredTextsTeacher.load(tmp_path / "a", split).fingerprint() != (
        StoredTextsTeacher.load(tmp_path / "b", split).fingerprint()
    )


def test_texts_of_another_split_are_refused(split: Split, make, titles, tmp_path: Path):
    write_teacher_texts(tmp_path / "texts", half_of_all_texts(split), manifest_for(split))
    histories = [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9], [1, 3, 5], [11, 10], [2]]
    for other in (
        make(histories, titles),
        dataclasses.replace(split, users=split.users + 1),
        dataclasses.replace(
            split, catalog=split.catalog.with_columns(title=pl.col("title").str.to_uppercase())
        ),
    ):
        with pytest.raises(InputError, match="written for another log"):
            StoredTextsTeacher.load(tmp_path / "texts", other)


def test_texts_are_valid_for_other_item_numbers(split: Split, tmp_path: Path):
    write_teacher_texts(tmp_path / "texts", half_of_all_texts(split), manifest_for(split))
    count = split.num_items
    renumbered = dataclasses.replace(
        split,
        catalog=split.catalog.reverse(),
        items=(count - 1 - split.items).astype(np.int32),
    )
    StoredTextsTeacher.load(tmp_path / "texts", renumbered)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / TEXTS_FILE).unlink(), "miss their file texts.parquet"),
        (lambda folder: (folder / MANIFEST_FILE).unlink(), "miss their file manifest.json"),
        (lambda folder: (folder / MANIFEST_FILE).write_text("{"), "not JSON"),
        (
            lambda folder: (folder / MANIFEST_FILE).write_text("[]"),
            "not a manifest of teacher texts",
        ),
        (
            lambda folder: (folder / MANIFEST_FILE).write_text(json.dumps({"format": 2})),
            "is missing",
        ),
        (lambda folder: (folder / TEXTS_FILE).write_bytes(b"PAR1"), "sha256 differs"),
    ],
)
def test_damaged_teacher_texts_are_refused(split: Split, tmp_path: Path, damage, message):
    write_teacher_texts(tmp_path / "texts", half_of_all_texts(split), manifest_for(split))
    damage(tmp_path / "texts")
    with pytest.raises(InputError, match=message):
        StoredTextsTeacher.load(tmp_path / "texts", split)


def test_a_folder_with_other_files_is_never_replaced(split: Split, tmp_path: Path):
    with pytest.raises(InputError, match="no such folder of teacher texts"):
        StoredTextsTeacher.load(tmp_path / "nowhere", split)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"not teacher texts: thesis\.txt"):
        write_teacher_texts(tmp_path, [], manifest_for(split))
    with pytest.raises(InputError, match="a file, not a folder"):
        write_teacher_texts(tmp_path / "thesis.txt", [], manifest_for(split))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_instructions_are_rendered_from_texts(split: Split, titles, tmp_path: Path):
    write_teacher_texts(tmp_path / "texts", half_of_all_texts(split), manifest_for(split))
    config = InstructionsConfig(
        tasks=(TaskName.PREFERENCE_RECOMMENDATION, TaskName.HISTORY_TO_PREFERENCE),
        teacher="texts",
        teacher_texts=str(tmp_path / "texts"),
    )
    renderer = Renderer.build(
        split,
        config,
        names=titles,
        seed=0,
        teacher=StoredTextsTeacher.load(tmp_path / "texts", split),
    )
    assert len(renderer)
    for number in range(len(renderer)):
        record = renderer.record(number)
        assert "preference " in record.inputs + record.targets
