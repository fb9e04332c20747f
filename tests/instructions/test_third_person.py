"""A request in the first person becomes one about the user, and titles stay titles."""

import hypothesis
import hypothesis.strategies as st
import pytest

from irec_jax.instructions.templates import load_pack
from irec_jax.instructions.third_person import to_third_person

pytestmark = pytest.mark.fast

PERSONS = ("user", "shopper", "member", "client")

# Words among which every rule finds something to do, in any order.
ENGLISH = (
    "i I I'm i'd I'll I've we We we're im IM am was were have do don't can will could want Want "
    "need love had bought liked really also just my My me Me mine myself our us and but titles "
    "robot legend phone, . ! , ( \" 's the a looking foo i-pad i5 been better"
)
CHINESE = (
    *("我", "我们", "我的", "咱们", "想", "要", "很", "喜欢", "是", "一位", "学生", "自我", "我国"),
    *("《我不是药神》", "《", "》", "\uff0c", "给", "推荐", "帐篷", "的", "顾客", " ", "tent"),
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("I want", "the shopper wants"),
        ("I'm looking for a tent", "the shopper is looking for a tent"),
        ("I\u2019m looking for a tent", "the shopper is looking for a tent"),
        ("im looking for a tent", "the shopper is looking for a tent"),
        ("i've lost my gloves", "the shopper has lost their gloves"),
        ("i'd like this for me", "the shopper would like this for them"),
        ("i'd bought mine before", "the shopper had bought theirs before"),
        ("I'll take it myself", "the shopper will take it themselves"),
        ("i am tall and have big feet", "the shopper is tall and has big feet"),
        ("i really also need it", "the shopper really also needs it"),
        ("i carry it , i watch it , i go", "the shopper carries it , the shopper watches it , "
         "the shopper goes"),
        ("i play and i can't stop", "the shopper plays and the shopper can't stop"),
        ("i enjoyed it but don't want more", "the shopper enjoyed it but doesn't want more"),
        ("what do i need for my first place", "what does the shopper need for their first place"),
        ("Can I get a tent", "can the shopper get a tent"),
        ("where can i get a tent", "where can the shopper get a tent"),
        ("am i too late", "is the shopper too late"),
        ("we were happy , help us with our home", "the shopper was happy , help them with their "
         "home"),
        ("i wear us size 10", "the shopper wears us size 10"),
        ("Gift wanted. I have a son. My son is 6", "Gift wanted. The shopper has a son. Their son "
         "is 6"),
        ("I WANT MY SHOES", "the shopper wants their SHOES"),
        ("I loved Despicable Me and My Little Pony", "the shopper loved Despicable Me and My "
         "Little Pony"),
        ("i want   i robot", "the shopper wants   i robot"),
    ],
)  # fmt: skip
def test_what_i_say_becomes_what_the_user_says(said: str, expected: str):
    assert to_third_person(said, "en", "shopper") == expected
    assert to_third_person(said, "en-GB", "client") == expected.replace(
        "shopper", "client"
    ).replace("Shopper", "Client")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my little pony doll",
        "I, Robot",
        "i robot",
        "I Am Legend",
        "I Know What You Did Last Summer",
        "who am i",
        "Am I Ok",
        "What Can I Do",
        "will.i.am",
        "iphone i5 want",
        "i-want cable",
        "q&i want cards",
        "type i error",
        "we , the drowned",
        "gifts for my son",
        "can you find me a tent",
        "the weather wins",
        "é i",
    ],
)
def test_a_text_without_a_first_person_as_subject_stays(text: str):
    assert to_third_person(text, "en", "shopper") == text


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("我想买一顶帐篷", "顾客想买一顶帐篷"),
        ("我最近一直在看科幻片\uff0c请给我推荐", "顾客最近一直在看科幻片\uff0c请给顾客推荐"),
        ("我们正在为我们的孩子找礼物", "顾客正在为顾客的孩子找礼物"),
        ("我不太喜欢恐怖片", "顾客不太喜欢恐怖片"),
        ("我是一名学生\uff0c我的预算不高", "顾客是一名学生\uff0c顾客的预算不高"),
        ("咱们需要大一点的", "顾客需要大一点的"),
        ("我喜欢《我不是药神》和自我提升", "顾客喜欢《我不是药神》和自我提升"),
    ],
)
def test_chinese_names_the_person_instead_of_me(said: str, expected: str):
    assert to_third_person(said, "zh", "顾客") == expected
    assert to_third_person(said, "zh-Hans", "用户") == expected.replace("顾客", "用户")


@pytest.mark.parametrize(
    "text",
    ["我的世界", "我是传奇", "我不是药神", "给我推荐一部电影", "我国历史", "防水帐篷", "i want"],
)
def test_chinese_titles_and_requests_without_me_as_subject_stay(text: str):
    assert to_third_person(text, "zh", "顾客") == text


def test_other_languages_stay():
    for language in ("de", "fr", "", "eng"):
        assert to_third_person("I want 我想要", language, "user") == "I want 我想要"


@hypothesis.given(st.lists(st.sampled_from(ENGLISH.split()), max_size=9), st.sampled_from(PERSONS))
@hypothesis.settings(max_examples=500)
def test_english_twice_is_once(words: list[str], person: str):
    once = to_third_person(" ".join(words), "en", person)
    assert to_third_person(once, "en", person) == once


@hypothesis.given(st.lists(st.sampled_from(CHINESE), max_size=9))
@hypothesis.settings(max_examples=300)
def test_chinese_twice_is_once(words: list[str]):
    once = to_third_person("".join(words), "zh", "顾客")
    assert to_third_person(once, "zh", "顾客") == once


@hypothesis.given(st.text(), st.sampled_from(("en", "zh")))
def test_any_text_twice_is_once(text: str, language: str):
    once = to_third_person(text, language, "user")
    assert to_third_person(once, language, "user") == once
    if not set(text) & set("iIwW我咱"):
        assert once == text


@hypothesis.given(st.lists(st.sampled_from(ENGLISH.split()), max_size=9))
def test_nothing_but_persons_and_verbs_changes(words: list[str]):
    result = to_third_person(" ".join(["i want", *words]), "en", "shopper")
    assert result.startswith("the shopper wants")
    kept = {"robot", "legend", "phone,", "a", "looking", "foo", "i-pad", "i5", "titles"}
    assert [w for w in result.split() if w in kept] == [w for w in words if w in kept]


@pytest.mark.parametrize("domain", ["shop", "content", "social", "finance"])
def test_the_persons_of_the_packs_are_named(domain: str):
    english, chinese = (load_pack(name, domain) for name in ("en", "zh"))
    result = to_third_person("i want boots", english.language, english.person)
    assert result == f"the {english.person} wants boots"
    result = to_third_person("我想要靴子", chinese.language, chinese.person)
    assert result == f"{chinese.person}想要靴子"
