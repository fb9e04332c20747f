"""Rewrites a user's request from the first person to the third, as prompts are written."""

import functools
import re
from collections.abc import Sequence


def _word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ENGLISH = re.compile(r"\b[IiWw][EeMm]?\b")
_TOKEN = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*|\s+|.", re.DOTALL)
_OPENING = frozenset(".,;:!?(\"\u201c'")
_STOPS = frozenset(".!?")

_SUBJECTS = frozenset(("i", "we"))
_CONTRACTIONS = {"m": "is", "re": "is", "ve": "has", "ll": "will", "d": "would"}
_CHANGING = {
    "am": "is",
    "are": "is",
    "was": "was",
    "were": "was",
    "have": "has",
    "do": "does",
    "aren't": "isn't",
    "wasn't": "wasn't",
    "weren't": "wasn't",
    "haven't": "hasn't",
    "don't": "doesn't",
    "dont": "doesn't",
}
_SAME = _word_set(
    "can could should would will may might must shall cannot did had can't couldn't shouldn't "
    "wouldn't won't didn't hadn't cant couldnt shouldnt wouldnt wont didnt"
)
# A list, as "i robot" and "i spy" are titles: a verb that is not in it changes nothing.
_PRESENT = _word_set(
    "want need like love prefer look wish enjoy hate dislike adore miss seek search hope plan "
    "intend try think feel know guess believe remember mean use wear own buy get order choose take "
    "pick find see watch read hear listen play cook bake eat drink run hike travel go live work "
    "study learn teach make build collect keep ask say tell spend save pay earn invest join meet "
    "start begin stop give grow help bring carry drive ride commute sleep suffer tend care crave "
    "open rent borrow owe expect wonder understand share shop visit stay move practice train "
    "appreciate require recommend consider"
)
_PAST = _word_set(
    "got bought saw went made found thought felt said took chose gave came lost broke left wore "
    "ran ate drank knew told kept spent began heard met paid sold grew built wrote held forgot "
    "meant slept taught drove rode understood"
)
_ADVERBS = _word_set(
    "really also just usually always never often still already only mostly recently sometimes "
    "currently actually absolutely definitely generally normally especially simply truly mainly "
    "rarely too now even probably particularly desperately urgently specifically kinda "
    "totally"
)
_MOST_ADVERBS = 2
# Verbs that follow "and" with the same subject; none of these is also a noun.
_CONTINUING = _word_set("am want prefer enjoy have don't dont haven't dislike")
_HAD_BEFORE = _word_set("been had better got bought seen found")
_OTHERS = {
    "my": "their",
    "me": "them",
    "mine": "theirs",
    "myself": "themselves",
    "our": "their",
    "ours": "theirs",
    "ourselves": "themselves",
}

# Names between title marks and words that only contain the sign are left alone.
_CHINESE = re.compile(
    r"《[^》]*》|自我|忘我|本我|超我|大我|小我|我国|我行我素|唯我独尊|(我们|咱们|我|咱)"
)
_CHINESE_VERB = re.compile(
    r"(?:自己|最近|现在|目前|今天|平时|一直|已经|正|也|还|很|非常|特别|比较|更|都|只|不太|不|没|有点|打算|刚|刚刚"
    r"|曾|曾经|常|经常|常常|通常|总是|急){0,3}"
    r"(?:想|要|需|喜欢|喜爱|爱|希望|打算|准备|计划|正在|在|有|买|购|找|看|听|读|用|玩|穿|住|偏好|讨厌|受不了|怕"
    r"|觉得|认为|习惯|应该|该|能|可以|会|加入|选|是(?:一|个|位|名))"
)


@functools.lru_cache(maxsize=64)  # the audit reads each text right after
def to_third_person(text: str, language: str, person: str) -> str:
    """Turns a request in the user's own words into the model's view of the user.

    Only a text that has a first person as its subject changes, so titles such as "I, Robot" and
    "my little pony" stay. Doing it twice changes nothing more.

    Args:
        text: What the user says.
        language: Of the text, BCP 47; texts in other languages than English and Chinese stay.
        person: What a user is called, without an article, such as `TemplatePack.person`.

    >>> to_third_person("I'm looking for boots , and I need them for my son", "en", "shopper")
    'the shopper is looking for boots , and the shopper needs them for their son'
    >>> to_third_person("what do i need for a rainy hike", "en", "shopper")
    'what does the shopper need for a rainy hike'
    >>> to_third_person("my little pony doll", "en", "shopper")
    'my little pony doll'
    >>> to_third_person("我想给我的女儿买一顶帐篷", "zh", "顾客")
    '顾客想给顾客的女儿买一顶帐篷'
    """
    spoken = language.partition("-")[0].lower()
    if spoken == "en":
        previous = ""
        # After a rewrite, another first person between its words may be a subject, too.
        while text != previous and _ENGLISH.search(text):
            previous, text = text, _english(text, person)
        return text
    if spoken == "zh" and ("我" in text or "咱" in text):
        return _chinese(text, person)
    return text


def _english(text: str, person: str) -> str:
    tokens = _TOKEN.findall(text)
    words = [token.lower().replace("\u2019", "'") for token in tokens]
    # In a text of capitals they say nothing, nor at its start; elsewhere they mark a title.
    titled = [
        token[0].isupper() and not text.isupper() and not _starts_sentence(words, position)
        for position, token in enumerate(tokens)
    ]
    changed: dict[int, str] = {}
    for position, word in enumerate(words):
        if word.partition("'")[0] in _SUBJECTS or word == "im":
            changed |= _subject(words, titled, position, person)
    if not changed:
        return text
    first = min(changed)
    plural = any(words[position].partition("'")[0] == "we" for position in changed)
    for position, word in enumerate(words):
        if titled[position]:
            continue
        if word in _OTHERS:
            changed[position] = _OTHERS[word]
        elif word == "us" and plural:
            changed[position] = "them"
        elif word in _CONTINUING and position > first + 1 and words[position - 2] in ("and", "but"):
            changed.setdefault(position, _agreed(word))
    for position, new in changed.items():
        capital = tokens[position][0].isupper() and _starts_sentence(words, position)
        tokens[position] = new[0].upper() + new[1:] if capital and position else new
    return "".join(tokens)


def _subject(
    words: Sequence[str], titled: Sequence[bool], position: int, person: str
) -> dict[int, str]:
    """Returns the new words of a first person and its verb, none if it is not a subject."""
    if position and not (words[position - 1].isspace() or words[position - 1] in _OPENING):
        return {}
    somebody = f"the {person}"
    head, _, tail = words[position].partition("'")
    verb = _verb_after(words, position)
    following = words[verb] if verb else ""
    if tail:
        if tail not in _CONTRACTIONS:
            return {}
        had = following in _HAD_BEFORE or _is_regular_past(following)
        auxiliary = "had" if tail == "d" and had else _CONTRACTIONS[tail]
        return {position: f"{somebody} {auxiliary}"}
    if head == "im":
        return {position: f"{somebody} is"} if following.endswith("ing") else {}
    if not verb or titled[verb]:
        return {}
    asked = position - 2
    if asked >= 0 and words[position - 1].isspace():
        before = words[asked]
        if (before in _CHANGING or before in _SAME) and not titled[asked]:
            return {asked: _agreed(before), position: somebody}
    known = following in _CHANGING or following in _SAME
    if known or following in _PRESENT or following in _PAST or _is_regular_past(following):
        return {position: somebody, verb: _agreed(following)}
    return {}


def _verb_after(words: Sequence[str], position: int) -> int:
    """Returns the position of the next word but adverbs, 0 if a mark or the end is before it."""
    for _ in range(_MOST_ADVERBS + 1):
        space, position = position + 1, position + 2
        if position >= len(words) or not words[space].isspace() or not words[position][0].isalnum():
            return 0
        if words[position] not in _ADVERBS:
            return position
    return 0


def _is_regular_past(word: str) -> bool:
    return len(word) > 4 and word.endswith("ed") and word not in _PRESENT


def _agreed(verb: str) -> str:
    """Returns the form of a verb that goes with "the user"."""
    if verb in _CHANGING:
        return _CHANGING[verb]
    if verb not in _PRESENT:
        return verb
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return f"{verb}es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}s"


def _starts_sentence(words: Sequence[str], position: int) -> bool:
    position -= 1
    while position >= 0 and words[position].isspace():
        position -= 1
    return position < 0 or words[position] in _STOPS


def _chinese(text: str, person: str) -> str:
    found = [match for match in _CHINESE.finditer(text) if match[1]]
    if not any(_CHINESE_VERB.match(text, match.end()) for match in found):
        return text
    return _CHINESE.sub(lambda match: person if match[1] else match[0], text)
