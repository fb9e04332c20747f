import json
import pickle
import subprocess
import sys

import pytest
import sentencepiece
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.tokens.text import EOS, PAD, UNKNOWN, train_codec
from irec_jax.tokens.text import open_codec as open_tokenizer

pytestmark = pytest.mark.fast

T5_TEXT = "translate English to German: The house is wonderful."
T5_IDS = [13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5]

BOTH = pytest.mark.parametrize("file", ["tokenizer.json", "spiece.model"])


def bert_like(path):
    names = {name: number for number, name in enumerate(("[PAD]", "[UNK]", "word"))}
    model = tokenizers.models.WordLevel(names, unk_token="[UNK]")
    tokenizers.Tokenizer(model).save(str(path))


def byte_level(path):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([T5_TEXT, "the red kettle and the lamp"] * 4, trainer)
    tokenizer.save(str(path))
    return tokenizer


@BOTH
def test_t5_ids(shared, file):
    codec = open_tokenizer(shared / "tokenizer" / "t5" / file)
    assert codec.by_word
    assert codec.encode(T5_TEXT) == T5_IDS
    assert codec.decode([*T5_IDS, EOS, PAD]) == T5_TEXT
    assert codec.size == {"tokenizer.json": 32_100, "spiece.model": 32_000}[file]


@BOTH
def test_ids_of_the_words_are_the_ids_of_the_text(shared, file):
    path = shared / "tokenizer" / "t5" / file
    codec = open_tokenizer(path)
    if file == "spiece.model":
        whole = sentencepiece.SentencePieceProcessor(model_file=str(path)).encode
    else:
        plain = tokenizers.Tokenizer.from_file(str(path))
        plain.encode_special_tokens = True

        def whole(text):
            ids = plain.encode(text, add_special_tokens=False).ids
            return [token if token > EOS else UNKNOWN for token in ids]

    @given(
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=40)
    )
    def check(text):
        assert codec.encode(text) == whole(text)

    check()


@BOTH
def test_no_text_writes_padding_or_the_end(shared, file):
    codec = open_tokenizer(shared / "tokenizer" / "t5" / file)
    for text in ("</s>", "<pad> <unk>", "a</s>b", "\ud800", "", "   "):
        assert not {PAD, EOS} & set(codec.encode(text)), text


def test_folder_with_a_tokenizer(shared):
    assert open_tokenizer(shared / "tokenizer" / "t5").encode(T5_TEXT) == T5_IDS


def test_a_tokenizer_that_joins_pieces_across_spaces_encodes_whole_texts(tmp_path):
    plain = byte_level(tmp_path / "tokenizer.json")
    codec = open_tokenizer(tmp_path)
    assert not codec.by_word
    text = "the red kettle and the lamp"
    assert codec.encode(text) == plain.encode(text).ids
    assert codec.encode(text) == plain.encode(text).ids  # the cached answer
    assert codec.length(text) == len(plain.encode(text).ids)
    marked = codec.with_words({"<item_3>": [500]})
    first, second = "the red", "kettle and"
    assert marked.encode(f"{first} <item_3> {second} <item_3>") == [
        *plain.encode(first).ids,
        500,
        *plain.encode(second).ids,
        500,
    ]


def test_an_answer_can_be_changed_without_harm(codec, tmp_path):
    byte_level(tmp_path / "tokenizer.json")
    for one in (codec, open_tokenizer(tmp_path)):
        ids = one.encode("bamboo lamp")
        ids.clear()
        assert one.encode("bamboo lamp")


@pytest.mark.parametrize("name", ["absent.json", "tokenizer.json", "spiece.model", "folder"])
def test_a_file_that_is_not_a_tokenizer_is_refused(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "tokenizer.json":
        path.write_text(json.dumps({"a": 1}))
    elif name == "spiece.model":
        path.write_bytes(b"not a model at all")
    with pytest.raises(InputError) as error:
        open_tokenizer(path)
    assert str(path) in str(error.value)
    assert error.value.hint


def test_tokenizer_without_the_special_tokens_is_refused(tmp_path):
    bert_like(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match=r"<pad> None, </s> None"):
        open_tokenizer(tmp_path)


def test_training_gives_the_same_bytes_everywhere(codec, tmp_path):
    codec.save(tmp_path)
    program = (
        "import sys, pathlib; sys.path[:0] = [sys.argv[1], sys.argv[2]];"
        "from conftest import TITLES; from irec_jax.tokens.text import train_codec;"
        "train_codec(iter(TITLES), 640, seed=0).save(pathlib.Path(sys.argv[3]))"
    )
    other = tmp_path / "other"
    other.mkdir()
    here = __file__.rsplit("/", 1)[0]
    root = here.rsplit("/", 2)[0]
    subprocess.run([sys.executable, "-c", program, here, root, str(other)], check=True)
    assert (tmp_path / "spiece.model").read_bytes() == (other / "spiece.model").read_bytes()


def test_trained_codec_knows_its_words_and_can_write_any(codec):
    assert codec.by_word
    assert 259 < codec.size <= 640
    assert len(codec.encode("Waterproof bamboo kettle")) < 8
    for text in ("Waterproof bamboo kettle", "東京 🏔 Ünïcödé", "{braces} #17 (2019)"):
        assert codec.decode(codec.encode(text)) == text.casefold()
        assert codec.encode(text.upper()) == codec.encode(text), "in any case"


@given(
    words=st.lists(st.text(max_size=8), min_size=1, max_size=4),
    others=st.lists(st.text(max_size=8), min_size=1, max_size=4),
)
def test_texts_side_by_side_are_their_ids_side_by_side(codec, words, others):
    left, right = " ".join(words), " ".join(others)
    assert codec.encode(f"{left} {right}") == codec.encode(left) + codec.encode(right)
    assert codec.length(f"{left} {right}") == len(codec.encode(f"{left} {right}"))


def test_save_load_and_pickle(codec, tmp_path):
    codec.save(tmp_path)
    text = "Vintage leather backpack by Norden 99"
    for copy in (open_tokenizer(tmp_path), pickle.loads(pickle.dumps(codec))):
        assert copy.encode(text) == codec.encode(text)
        assert copy.size == codec.size
    byte_level(tmp_path / "tokenizer.json")
    opened = open_tokenizer(tmp_path / "tokenizer.json")
    assert pickle.loads(pickle.dumps(opened)).encode(text) == opened.encode(text)


def test_training_without_text_is_refused():
    with pytest.raises(InputError, match="no text"):
        train_codec(["", "  "], 640)


def test_too_few_ids_for_the_characters():
    many = [
        "".join(chr(0x4E00 + k) for k in range(start, start + 40)) for start in range(0, 800, 40)
    ]
    with pytest.raises(InputError, match=r"tokens\.vocabulary"):
        train_codec(many, 512)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokenizer", ""),
        ("vocabulary", 10),
        ("max_item_tokens", 2),
        ("source_length", 0),
        ("target_length", 15),
    ],
)
def test_impossible_settings_name_the_key(field, value):
    with pytest.raises(InputError, match=rf"tokens\.{field}"):
        TokensConfig(**{field: value})


def test_default_settings():
    assert TokensConfig().index is IndexKind.ATOMIC
