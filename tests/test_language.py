"""The vocabulary of the project: plain words, one name for one thing, titles that are nouns."""

import ast
import collections
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "irec_jax"
THIS_FILE = Path(__file__)
CODE = [
    path
    for folder in ("irec_jax", "configs", "bench", "docs", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != THIS_FILE
]
DOCS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "launch").glob("*.md")),
]
# Words in which readers from many countries stop; `_` and digits count as the end of a word.
BANNED = re.compile(
    r"(?<![a-z])(told|mend|mended|anew|for ever|endless|is none|that is none|nobody|in money"
    r"|sign of life|without a word|by heart|whoever|begun|stands|lies|goes on|speaks"
    r"|(?<!there )is no (?!longer\b)[a-z]+)(?![a-z])",
    re.IGNORECASE,
)
TITLE_START = re.compile(r"(What|Who|How far)\b")
HEADING = re.compile(r"^#+ (?:\d+\. )?(.*)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Banned words that a file must hold as data, each with its reason.
EXEMPT = {
    "CHANGELOG.md": (("told",), "the former name of a renamed argument"),
}
SAME_NAME_ALLOWED = {"__init__.py", "config.py"}


def banned(text: str) -> list[str]:
    return [match.group() for match in BANNED.finditer(" ".join(text.split()))]


def banned_in(path: Path, text: str) -> list[str]:
    exempt, _ = EXEMPT.get(path.relative_to(ROOT).as_posix(), ((), ""))
    return [word for word in banned(text) if word.lower() not in exempt]


def words_of_code(path: Path) -> Iterator[tuple[int, str]]:
    """Yields identifiers, comments and texts with their line, a camel-case name as its words."""
    with tokenize.open(path) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.NAME:
                yield token.start[0], re.sub(r"(?<=[a-z])(?=[A-Z])", "_", token.string)
            elif token.type in (tokenize.COMMENT, tokenize.STRING):
                yield token.start[0], token.string


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_has_no_banned_word(path: Path):
    found = [(line, word) for line, text in words_of_code(path) for word in banned_in(path, text)]
    assert not found, f"{path}: {found}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_has_no_banned_word_and_its_titles_are_nouns(path: Path):
    text = path.read_text(encoding="utf-8")
    assert not banned_in(path, text), f"{path}: {banned_in(path, text)}"
    titles = HEADING.findall(FENCE.sub("", text))
    assert not [title for title in titles if TITLE_START.match(title)], path


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_docstring_starts_with_a_noun_or_an_imperative(path: Path):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)
    ]
    first_lines = [(ast.get_docstring(node) or "").partition("\n")[0] for node in nodes]
    assert not [line for line in first_lines if TITLE_START.match(line)], path


@pytest.mark.parametrize("name", EXEMPT)
def test_an_exempt_word_is_still_used(name: str):
    words, reason = EXEMPT[name]
    found = {word.lower() for word in banned((ROOT / name).read_text(encoding="utf-8"))}
    assert found >= set(words), name
    assert reason, name


def test_a_file_name_occurs_once():
    names = collections.Counter(path.name for path in PACKAGE.rglob("*.py"))
    repeated = {name for name, count in names.items() if count > 1} - SAME_NAME_ALLOWED
    assert not repeated


def test_a_public_class_name_occurs_once():
    classes = collections.Counter(
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not {name for name, count in classes.items() if count > 1}


@pytest.mark.parametrize(
    "text",
    [
        "it is told once",
        "mend_it",
        "what was begun",
        "for\n    ever",
        "0.5 is no share",
        "It Stands",
    ],
)
def test_banned_words_are_found(text: str):
    assert banned(text)


@pytest.mark.parametrize("text", ["there is no item", "is no longer there", "bystanders", "relies"])
def test_plain_words_pass(text: str):
    assert not banned(text)


def hint_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the literal hints of errors with their line; `{}` for what is inserted."""
    for node in ast.walk(tree):
        is_hint = isinstance(node, ast.keyword) and node.arg == "hint"
        waiting = [node.value] if isinstance(node, ast.keyword) and is_hint else []
        while waiting:
            value = waiting.pop()
            if isinstance(value, ast.IfExp):
                waiting += [value.body, value.orelse]
            elif isinstance(value, ast.Constant) and value.value:
                yield value.lineno, str(value.value)
            elif isinstance(value, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "{}" for p in value.values]
                yield value.lineno, "".join(map(str, parts))


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_hint_is_a_sentence(path: Path):
    for line, hint in hint_texts(ast.parse(path.read_text("utf-8"))):
        assert re.match(r"[A-Z`{]", hint), f"{path}:{line}: start with a capital: {hint}"
        assert re.search(r"[.?}]$", hint), f"{path}:{line}: end with a full stop: {hint}"
