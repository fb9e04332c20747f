"""Packs are checked when they are read, and the ones that come along are as promised."""

import collections
import dataclasses
import itertools
import re
from pathlib import Path
from typing import get_args

import hypothesis
import hypothesis.strategies as st
import pytest

from irec_jax.errors import InputError
from irec_jax.instructions.built_in_tasks import NAMED_TASKS, TASKS, task_named
from irec_jax.instructions.config import BUILT_IN_PACKS, Domain, InstructionsConfig
from irec_jax.instructions.forms import (
    Group,
    Intention,
    Preference,
    Slot,
    Strategy,
    TaskForm,
    TaskName,
)
from irec_jax.instructions.pack_files import copy_packs, pack_text, with_copied_packs
from irec_jax.instructions.templates import (
    CONTEXT_WORDS,
    TemplatePack,
    load_pack,
    load_packs,
    read_pack,
)
from irec_jax.text_cleaning import clean

pytestmark = pytest.mark.fast

DOMAINS = get_args(Domain)
CONTEXT = "\n".join(f'{word} = "{word} said"' for word in CONTEXT_WORDS)
PACK = f"""
language = "en"
[answers]
yes = "aye"
no = "nay"
[context]
{CONTEXT}
[words.shop]
item = "product"
person = "shopper"
[words.content]
item = "moving picture"
person = "viewer"
[[template]]
id = "one"
task = "personalized_search"
text = "{{history}} then {{query}} : which {{item}} ?"
[[template]]
id = "two"
task = "personalized_search"
intentions = ["specific"]
text = "find the   {{item}}-like for {{query}} \\n {{history}} in {{context}}"
[[template]]
id = "three"
task = "personalized_search"
held_out = true
text = "{{query}} {{history}}"
"""
DATA = {slot: f"<{slot.value}>" for slot in Slot}


def packs() -> list[TemplatePack]:
    return [load_pack(*which) for which in itertools.product(BUILT_IN_PACKS, DOMAINS)]


def test_a_template_is_split_at_its_slots_and_domain_words_are_put_in():
    pack = read_pack(PACK, "own.toml", "content")
    assert (pack.language, pack.domain) == ("en", "content")
    assert (pack.yes, pack.no, pack.context["winter"]) == ("aye", "nay", "winter said")
    template = pack.named("one")
    assert template.slots == (Slot.HISTORY, Slot.QUERY)
    assert template.fill({Slot.HISTORY: "A ; B", Slot.QUERY: "c {item} {query} {0}"}) == (
        "A ; B then c {item} {query} {0} : which moving picture ?"
    )
    two = read_pack(PACK, "own.toml", "shop").named("two")
    assert two.fill(DATA) == "find the product-like for <query> <history> in <context>"
    assert pack.named("three").fill(DATA) == "<query> <history>"


def test_templates_are_found_by_task_intention_and_whether_they_are_held_out():
    pack = read_pack(PACK, "own.toml", "shop")
    search = TaskName.PERSONALIZED_SEARCH

    def names(intention: Intention, held_out: bool) -> list[str]:
        return [template.name for template in pack.of(search, intention, held_out=held_out)]

    assert names(Intention.VAGUE, False) == ["one"]
    assert names(Intention.SPECIFIC, False) == ["one", "two"]
    assert names(Intention.VAGUE, True) == names(Intention.SPECIFIC, True) == ["three"]
    with pytest.raises(InputError, match="product_search") as caught:
        pack.of(TaskName.PRODUCT_SEARCH, Intention.VAGUE)
    assert (caught.value.where, "personalized_search" in caught.value.hint) == ("own.toml", True)
    only = dataclasses.replace(pack, templates=pack.templates[:1])
    with pytest.raises(InputError, match=r"held-out.*personalized_search \(vague\)"):
        only.of(search, Intention.VAGUE, held_out=True)
    with pytest.raises(InputError, match="Did you mean 'three'"):
        pack.named("tree")


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ('language = "en"', "language = en", "own.toml", "not valid TOML"),
        ('language = "en"', "", "own.toml", "'language' is missing"),
        ('language = "en"', "language = 3", "own.toml.language", "3 is not a text"),
        ('language = "en"', 'language = "e\\nn"', "own.toml.language", "not a plain phrase"),
        ('language = "en"', 'languages = "en"', "own.toml", "Did you mean 'language'"),
        ('[answers]\nyes = "aye"\nno = "nay"', "", "own.toml", "'answers' is missing"),
        ('[answers]\nyes = "aye"\nno = "nay"', "answers = 3", "own.toml: answers", "not a table"),
        ('no = "nay"', 'no = "aye"', "own.toml: answers", "the same word"),
        ('no = "nay"', "", "own.toml: answers", "'no' is missing"),
        ('no = "nay"', 'no = "nay "', "own.toml: answers.no", "not a plain phrase"),
        ('night = "night said"', "", "own.toml: context", "'night' is missing"),
        ('night = "night said"', 'night = " "', "own.toml: context.night", "not a text"),
        ('night = "', 'dusk = "dusk"\nnight = "', "own.toml: context", "unknown key 'dusk'"),
        ("[words.content]", "[words.shops]", "own.toml: words", "Did you mean 'shop'"),
        ('item = "moving picture"', 'thing = "x"', "words.shop.thing", "None is not a text"),
        ('item = "moving picture"', 'item = "x"\nacts = "y"', "words.shop.acts", "not a text"),
        ('item = "product"', 'item = ""', "words.shop.item", "not a text"),
        ('item = "product"', 'item = "a  b"', "words.shop.item", "not a plain phrase"),
        ('item = "product"', 'item = "{query}"', "words.shop.item", "not a plain phrase"),
        ('person = "shopper"', "", "words.shop.person", "not a text"),
        ('id = "two"', 'id = "one"', "own.toml: template.id", "'one' is used 2 times"),
        ('id = "two"', "", "own.toml: template 2", "'id' is missing"),
        ('id = "two"', 'id = "two"\nweight = 2', "own.toml: template 2", "unknown key 'weight'"),
        ("{item} ?", "{itme} ?", "template 1 ('one').text", "Did you mean 'item'"),
        (
            "{history} then",
            "{history}, then",
            "('one').text",
            "'{history}' has no spaces",
        ),
        ("then {query}", "then:{query}", "('one').text", "'{query}' has no spaces around it"),
        ("{item} ?", "{item ?", "template 1 ('one').text", "belongs to no slot"),
        ("{item} ?", "{ item } ?", "template 1 ('one').text", "belongs to no slot"),
        ("{item} ?", "{{item}} ?", "template 1 ('one').text", "belongs to no slot"),
        ("{item} ?", "item} ?", "template 1 ('one').text", "belongs to no slot"),
        ("{history} then", "then", "('one').text", "{history} occurs 0 times"),
        ("{query} :", "{query} {query} :", "('one').text", "{query} occurs 2 times"),
        ("which {item}", "{target}", "('one').text", "{target} occurs 1 times"),
        ("in {context}", "{context} {context}", "('two').text", "may occur at most once"),
        ("which {item}", "{preference}", "('one').text", "may occur never"),
        ('["specific"]', '["exact"]', "template 2 ('two').intentions", "'exact'"),
        ('["specific"]', '["none"]', "('two').intentions", "has no none intention"),
        ('["specific"]', "[]", "template 2 ('two').intentions", "no intention"),
        ('["specific"]', '"specific"', "template 2 ('two').intentions", "not a list"),
        ('["specific"]', "2", "template 2 ('two').intentions", "not a list"),
        ("held_out = true", 'held_out = "yes"', "('three').held_out", "not true or false"),
        ('task = "personalized_search"\nint', "task = 1\nint", "('two').task", "'1'"),
        ('"personalized_search"\nint', '"personal_search"\nint', "('two').task", "Did you mean"),
    ],
)
def test_a_bad_pack_is_refused_with_file_and_key(old: str, new: str, where: str, what: str):
    assert PACK.count(old) >= 1
    with pytest.raises(InputError) as caught:
        read_pack(PACK.replace(old, new, 1), "own.toml", "shop")
    assert caught.value.where.startswith("own.toml")
    assert where in caught.value.where
    assert what in str(caught.value)


def test_a_word_may_not_be_called_like_a_slot_of_data():
    text = PACK.replace("person =", 'query = "x"\nperson =')
    with pytest.raises(InputError, match="name of a data slot") as caught:
        read_pack(text, "own.toml", "shop")
    assert caught.value.where.endswith(".query")


def test_a_pack_without_templates_or_without_the_domain_is_refused():
    bare = PACK[: PACK.index("[[template]]")]
    for text in (f"template = []\n{bare}", f'template = "x"\n{bare}'):
        with pytest.raises(InputError, match="no templates"):
            read_pack(text, "own.toml", "shop")
    with pytest.raises(InputError, match="no words for the domain 'finance'"):
        read_pack(PACK, "own.toml", "finance")
    tables = 'words = ["x"]\n' + re.sub(r"\[words[^[]*", "", PACK)
    with pytest.raises(InputError, match=r"own\.toml: words: not a table"):
        read_pack(tables, "own.toml", "shop")


@hypothesis.given(st.text(max_size=40) | st.text("{}a \n", max_size=8))
def test_any_wording_is_read_as_clean_text_or_refused(wording: str):
    quoted = "".join(f"\\U{ord(c):08x}" for c in wording if not 0xD800 <= ord(c) < 0xE000)
    text = PACK.replace("{query} {history}", f"{quoted} {{query}} {{history}}")
    if set("{}") & set(wording):
        with pytest.raises(InputError) as caught:
            read_pack(text, "own.toml", "shop")
        assert caught.value.where.startswith("own.toml: template 3 ('three')")
        return
    template = read_pack(text, "own.toml", "shop").named("three")
    filled = template.fill(DATA)
    assert filled == clean(filled)
    assert filled.endswith("<query> <history>")


def test_a_pack_of_your_own_is_read_by_its_path(tmp_path: Path):
    path = tmp_path / "own.toml"
    path.write_text(PACK, encoding="utf-8-sig")
    pack = load_pack(str(path), "shop")
    assert pack == dataclasses.replace(read_pack(PACK, "own.toml", "shop"), file=str(path))
    with pytest.raises(InputError, match="no such template pack") as caught:
        load_pack(str(tmp_path / "other.toml"), "shop")
    assert str(tmp_path / "other.toml") in caught.value.where
    path.write_bytes(PACK.encode() + b"# \xff")
    with pytest.raises(InputError, match="not UTF-8") as caught:
        load_pack(str(path), "shop")
    assert caught.value.where == str(path)


def test_one_pack_a_language(tmp_path: Path):
    path = tmp_path / "own.toml"
    path.write_text(PACK, encoding="utf-8")
    with pytest.raises(InputError, match=r"packs/en.toml and .*own.toml are both in.*'en'"):
        load_packs(["zh", "en", str(path)], "shop")
    path.write_text(PACK.replace('language = "en"', 'language = "de"'), encoding="utf-8")
    assert [p.language for p in load_packs([str(path), "en", "zh"], "shop")] == ["de", "en", "zh"]


def test_copies_of_packs_are_read_when_the_originals_are_gone(tmp_path: Path):
    path = tmp_path / "own.toml"
    path.write_text(PACK.replace('language = "en"', 'language = "de"'), encoding="utf-8")
    config = InstructionsConfig(packs=("zh", str(path)))
    before = load_packs(config.packs, "shop")
    copy_packs(config, tmp_path / "run")
    path.write_text("changed", encoding="utf-8")
    copy_packs(config, tmp_path / "run")
    copied = load_packs(with_copied_packs(config, tmp_path / "run").packs, "shop")
    assert [p.language for p in copied] == ["zh", "de"]
    assert [p.templates for p in copied] == [p.templates for p in before]
    assert with_copied_packs(config, tmp_path / "elsewhere") == config


@pytest.mark.parametrize("language", BUILT_IN_PACKS)
def test_there_are_at_least_the_templates_of_the_paper(language: str):
    training = [t for t in load_pack(language, "shop").templates if not t.held_out]
    groups = collections.Counter(task_named(t.task).group for t in training)
    assert len(training) >= 39
    assert groups[Group.PREFERENCE] >= 17
    assert groups[Group.INTENTION] >= 9
    assert groups[Group.COMBINED] >= 13
    counts = collections.Counter(template.task for template in training)
    for task in TASKS:
        ranking = task.form in (TaskForm.MATCHING, TaskForm.RERANKING)
        least = 2 if task.strategy is Strategy.PLAIN and ranking else 1
        assert counts[task.name] >= (5 if task.name in NAMED_TASKS else least), task.name


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("language", BUILT_IN_PACKS)
def test_every_scenario_can_be_worded_from_what_it_surely_has(language: str, domain: str):
    pack = load_pack(language, domain)
    for task in TASKS:
        for intention, held_out in itertools.product(task.intentions, (False, True)):
            templates = pack.of(task.name, intention, held_out=held_out)
            plain = [t for t in templates if set(t.slots) == set(task.required_slots)]
            assert plain, (task.name, intention, held_out)
            assert held_out or plain[0] is templates[0], "the one for serving has optional slots"


@pytest.mark.parametrize("language", BUILT_IN_PACKS)
def test_optional_slots_are_used(language: str):
    pack = load_pack(language, "shop")
    for task in TASKS:
        used = {slot for t in pack.templates if t.task is task.name for slot in t.slots}
        if task.strategy is not Strategy.PLAIN or task.form is TaskForm.POINTWISE:
            continue
        if Slot.HISTORY in task.optional_slots:
            assert Slot.HISTORY in used, task.name
        if Slot.CONTEXT in task.optional_slots and task.form is not TaskForm.PAIRWISE:
            assert Slot.CONTEXT in used, task.name
    both = {Slot.HISTORY, Slot.CONTEXT, Slot.PREFERENCE}
    for task in (TaskName.PREFERENCE_RECOMMENDATION, TaskName.PREFERENCE_SEARCH):
        assert any(both <= set(t.slots) for t in pack.templates if t.task is task)
    assert task_named(TaskName.PREFERENCE_SEARCH).preference is Preference.EXPLICIT


def test_no_two_templates_say_the_same_and_none_leaves_anything_open():
    for pack in packs():
        assert len({t.name for t in pack.templates}) == len(pack.templates)
        filled = [template.fill(DATA) for template in pack.templates]
        assert len(set(filled)) == len(filled)
        for template, text in zip(pack.templates, filled, strict=True):
            assert text == clean(text)
            assert not set("{}") & set(text)
            for slot in Slot:
                assert text.split(" ").count(DATA[slot]) == template.slots.count(slot)


def test_domains_change_words_and_languages_texts_and_nothing_else():
    read = packs()
    for templates in zip(*(pack.templates for pack in read), strict=True):
        assert len({(t.name, t.task, t.intentions, t.held_out) for t in templates}) == 1
        assert len({frozenset(t.slots) for t in templates}) == 1
    for language in BUILT_IN_PACKS:
        domains = [pack for pack in read if pack.language == language]
        for templates in zip(*(pack.templates for pack in domains), strict=True):
            assert len({t.slots for t in templates}) == 1
    worded = [{t.literals for t in pack.templates} for pack in read]
    for one, other in itertools.combinations(worded, 2):
        assert len(one - other) > len(one) / 2


def test_held_out_wordings_are_not_small_changes_of_those_for_training():
    for language in BUILT_IN_PACKS:
        for task in TASKS:
            named = [t for t in load_pack(language, "shop").templates if t.task is task.name]
            for held, trained in itertools.product(named, named):
                if held.held_out and not trained.held_out:
                    ours, theirs = (_pieces(language, t.literals) for t in (held, trained))
                    shared = len(ours & theirs) / len(ours | theirs)
                    assert shared < 0.4, (held.name, trained.name, shared)


def _pieces(language: str, literals: tuple[str, ...]) -> set[str]:
    """Pairs of neighboring words (English) or characters (Chinese)."""
    pairs: set[str] = set()
    for literal in literals:
        parts = literal.split() if language == "en" else literal.strip()
        pairs |= {f"{one} {two}" for one, two in itertools.pairwise(parts)}
    return pairs


@pytest.mark.parametrize("domain", DOMAINS)
def test_english_templates_are_short_and_spaced_for_tokenizers(domain: str):
    for template in load_pack("en", domain).templates:
        text = " ".join(template.literals)
        words = text.split()
        assert 8 <= len(words) <= 20, (template.name, len(words))
        assert all(re.fullmatch(r"[A-Za-z]+|[.,:?()]", word) for word in words), template.name
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", text), template.name
        assert template.fill(DATA)[-1] in ".?"


@pytest.mark.parametrize("domain", DOMAINS)
def test_chinese_templates_hold_no_latin_letters_and_no_spaces_but_around_data(domain: str):
    pack = load_pack("zh", domain)
    for phrase in (pack.yes, pack.no, *pack.context.values()):
        assert re.fullmatch(r"[\u4e00-\u9fff]+\uff1a?", phrase), phrase
    marks = "\uff0c\u3002\uff1f\uff1a\uff08\uff09\u3001"
    for template in pack.templates:
        *_, last = template.literals
        for number, literal in enumerate(template.literals):
            # A piece between two slots has a space at each end: nothing else may have one.
            start = 1 if number else 0
            end = len(literal) - (literal is not last)
            assert re.fullmatch(rf"[\u4e00-\u9fff{marks}]*", literal[start:end]), literal
        assert template.fill(DATA)[-1] in "\u3002\uff1f"
        assert 8 <= len("".join(template.literals).replace(" ", "")) <= 45, template.name


@pytest.mark.parametrize("language", BUILT_IN_PACKS)
def test_pointwise_templates_ask_and_the_main_ones_say_how_to_answer(language: str):
    pack = load_pack(language, "shop")
    for task in TASKS:
        if task.form is TaskForm.POINTWISE:
            texts = [t.fill(DATA) for t in pack.templates if t.task is task.name]
            explicit = [text for text in texts if pack.yes in text and pack.no in text]
            assert explicit, task.name
            assert all("?" in text or "\uff1f" in text or text in explicit for text in texts)


def test_the_text_of_a_pack_is_the_file():
    for name in BUILT_IN_PACKS:
        assert read_pack(pack_text(name), f"packs/{name}.toml", "shop") == load_pack(name, "shop")


def test_the_guide_lists_the_slots_of_every_task():
    guide = Path(__file__).parents[2] / "docs" / "template-packs.md"
    lines = guide.read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line[:1] == "|"]
    listed = {row[1]: tuple(row[2:4]) for row in rows}

    def cell(slots: tuple[Slot, ...]) -> str:
        return " ".join(f"`{{{slot.value}}}`" for slot in slots)

    for task in TASKS:
        assert listed[f"`{task.name.value}`"] == (
            cell(task.required_slots),
            cell(task.optional_slots),
        )
