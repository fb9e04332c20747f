"""Packs are checked when they are read, and the one that comes along is as promised."""

import pytest

from irec_jax.errors import InputError
from irec_jax.instructions.forms import Intention, Preference, Scenario, TaskForm
from irec_jax.instructions.tasks import PERSONALIZED_SEARCH, PRODUCT_SEARCH, TASKS
from irec_jax.instructions.templates import DATA_SLOTS, load_pack, read_pack

DOMAINS = ("shop", "content", "social", "finance")

PACK = """
language = "en"
[words.shop]
item = "product"
[words.content]
item = "moving picture"
[[template]]
id = "one"
preference = "implicit"
intentions = ["vague", "specific"]
form = "matching"
text = "{history} then {query} : which {item} ?"
[[template]]
id = "two"
preference = "none"
intentions = ["specific"]
form = "matching"
text = "find the   {item} for {query}"
"""

PERSONAL = Scenario(Preference.IMPLICIT, Intention.VAGUE, TaskForm.MATCHING)


def test_a_template_is_split_at_its_slots_and_domain_words_are_put_in():
    pack = read_pack(PACK, "own.toml", "content")
    (template,) = pack.of(PERSONAL)
    assert template.slots == ("history", "query")
    assert template.fill("A ; B", "c {item} {query} {0}") == (
        "A ; B then c {item} {query} {0} : which moving picture ?"
    )
    (search,) = pack.of(Scenario(Preference.NONE, Intention.SPECIFIC, TaskForm.MATCHING))
    assert search.fill("never", "q") == "find the moving picture for q"


def test_slots_side_by_side_keep_one_space():
    text = PACK.replace("{history} then {query} :", "{query} {history} :")
    (template,) = read_pack(text, "own.toml", "shop").of(PERSONAL)
    assert template.fill("H", "Q") == "Q H : which product ?"


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ('language = "en"', "language = en", "own.toml", "not valid TOML"),
        ('language = "en"', "", "own.toml", "'language' is missing"),
        ('language = "en"', "language = 3", "own.toml.language", "not a text"),
        ('id = "two"', 'id = "one"', "own.toml: template.id", "'one' is used 2 times"),
        ('id = "two"', "", "own.toml: template 2", "'id' is missing"),
        ('id = "two"', 'id = "two"\nweight = 2', "own.toml: template 2", "unknown key 'weight'"),
        ("{item} ?", "{itme} ?", "template 1 ('one').text", "did you mean 'item'"),
        ("{item} ?", "{item}?", "template 1 ('one').text", "'{item}?' does not stand alone"),
        ("{item} ?", "{item ?", "template 1 ('one').text", "does not stand alone"),
        ("{item} ?", "{{item}} ?", "template 1 ('one').text", "does not stand alone"),
        ("{history} then", "then", "template 1 ('one').text", "{history} stands there 0 times"),
        ("for {query}", "", "template 2 ('two').text", "{query} stands there 0 times"),
        ("for {query}", "for {query} {query}", "('two').text", "{query} stands there 2 times"),
        ("for {query}", "{query} {history}", "('two').text", "must stand there never"),
        ('["specific"]', '["exact"]', "template 2 ('two').intentions", "'exact'"),
        ('["specific"]', "[]", "template 2 ('two').intentions", "not a list"),
        ('preference = "none"', 'preference = "non"', "('two').preference", "did you mean 'none'"),
        ('form = "matching"\ntext = "find', 'form = 1\ntext = "find', "('two').form", "'1'"),
        ('item = "moving picture"', 'thing = "x"', "words.shop.thing", "not a text"),
        ('item = "product"', 'item = ""', "words.shop.item", "not a text"),
    ],
)
def test_a_bad_pack_is_refused_with_file_and_key(old: str, new: str, where: str, what: str):
    assert old in PACK
    with pytest.raises(InputError) as caught:
        read_pack(PACK.replace(old, new), "own.toml", "shop")
    assert caught.value.where.startswith("own.toml")
    assert where in caught.value.where
    assert what in caught.value.what


def test_an_unknown_domain_and_an_unworded_scenario_name_what_there_is():
    with pytest.raises(InputError, match="did you mean 'shop'"):
        read_pack(PACK, "own.toml", "shops")
    pairwise = Scenario(Preference.IMPLICIT, Intention.NONE, TaskForm.PAIRWISE)
    with pytest.raises(InputError, match="implicit-vague-matching"):
        read_pack(PACK, "own.toml", "shop").of(pairwise)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_english_pack_has_four_short_templates_for_every_scenario(domain: str):
    pack = load_pack("en", domain)
    scenarios = [scenario for task in TASKS for scenario in task.scenarios]
    assert len(scenarios) == 5
    for scenario in scenarios:
        templates = pack.of(scenario)
        assert len(templates) >= 4
        for template in templates:
            words = " ".join(template.literals).split()
            assert 8 <= len(words) <= 16, (template.name, words)
            assert not set("{}") & set("".join(template.literals))
            filled = template.fill("<h>", "<q>").split(" ")
            assert "" not in filled
            assert filled.count("<h>") == template.slots.count("history")
            assert filled.count("<q>") == template.slots.count("query")
            assert set(template.slots) <= set(DATA_SLOTS)


def test_vague_and_specific_queries_are_worded_alike():
    pack = load_pack("en", "shop")
    for task in (PRODUCT_SEARCH, PERSONALIZED_SEARCH):
        vague, specific = (pack.of(scenario) for scenario in task.scenarios)
        assert vague == specific


def test_domains_change_words_and_nothing_else():
    packs = [load_pack("en", domain) for domain in DOMAINS]
    for templates in zip(*(pack.templates for pack in packs), strict=True):
        assert len({(t.name, t.scenarios, t.slots) for t in templates}) == 1
        assert len({t.literals for t in templates}) > 1, "no domain word in it"
