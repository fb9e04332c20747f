"""Free text of a run folder, and its errors."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from irec_jax.batches.pipeline import encode_prompt
from irec_jax.decoding.sample import SampleConfig, sample
from irec_jax.errors import InputError
from irec_jax.model import params as parameters
from irec_jax.model.seq2seq import shift_right
from irec_jax.recommendation.run_parts import read_settings, read_writer
from irec_jax.recommendation.writer import AnswerWriter
from irec_jax.run_checksums import Sources, write_checksums
from irec_jax.tokens.text import EOS, PAD, UNKNOWN
from irec_jax.training.checkpoint import load_params

PROMPTS = [f"what does a user want who has bought {'a blue tent ' * n}?" for n in range(11)]
SAMPLED = SampleConfig(temperature=1.0, length=12)


@pytest.fixture(scope="module")
def answers(run_of, kind):
    return AnswerWriter.load(run_of(kind))


@pytest.fixture(scope="module")
def sampled(run_of, kind):
    return AnswerWriter.load(run_of(kind), SAMPLED)


def greedy_text(run, prompt):
    """Greedy text tokens, one after another, by the whole model without a cache."""
    settings, writer = read_settings(run), read_writer(run)
    model = parameters.merge(parameters.structure(settings.model), load_params(run, settings.model))
    source = jnp.array([encode_prompt(prompt, writer, settings.tokens.source_length)], jnp.int32)
    seen = jnp.ones_like(source)
    encoded = model.encode(source, seen)
    answer = np.zeros((1, settings.tokens.target_length), np.int32)
    ones = jnp.ones_like(answer)
    for position in range(answer.shape[1]):
        hidden_states = model.decode(shift_right(jnp.array(answer), ones), ones, encoded, seen)
        logits = np.array(model.logits(hidden_states))[0, position]
        logits[[PAD, UNKNOWN]] = -np.inf
        logits[writer.index.text_vocabulary :] = -np.inf
        answer[0, position] = logits.argmax()
        if answer[0, position] == EOS:
            break
    return writer.codec.decode(answer[0].tolist())


def test_answers_are_the_most_likely_text(answers, run_of, kind):
    texts = answers(PROMPTS[:4])
    assert texts == [greedy_text(run_of(kind), prompt) for prompt in PROMPTS[:4]]
    assert any(texts)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_depends_on_its_prompt_alone(answers, sampled, temperature):
    write = sampled if temperature else answers
    together = write(PROMPTS, seed=5)
    assert len(set(together)) > 1
    order = np.random.default_rng(0).permutation(len(PROMPTS)).tolist()
    assert write([PROMPTS[number] for number in order], seed=5) == [together[n] for n in order]
    assert [write([prompt], seed=5)[0] for prompt in PROMPTS[:3]] == together[:3]
    assert write([PROMPTS[2]] * 6, seed=5) == [together[2]] * 6


def test_another_seed_gives_other_texts_unless_the_temperature_is_zero(answers, sampled):
    assert answers(PROMPTS, seed=1) == answers(PROMPTS)
    assert len({tuple(sampled(PROMPTS, seed)) for seed in (0, 1, 2**40, -7)}) == 4


def test_an_answer_names_no_item_token(sampled):
    for seed in range(4):
        for answer in sampled(PROMPTS, seed):
            assert "<item_" not in answer
            assert "\u2047" not in answer, "that is how an unknown token reads"


def test_few_programs_are_compiled_for_any_prompts(run_of):
    write = AnswerWriter.load(run_of("title"))
    sample.clear_cache()
    for count in (1, 2, 3, 5, 9):
        write(PROMPTS[:count], seed=count)
    compiled = sample._cache_size()
    assert compiled <= 6, "3 lengths of prompts times 2 sizes of batches"
    for count in (2, 9, 4):
        write([f"{prompt} now" for prompt in PROMPTS[:count]], seed=9)
    assert sample._cache_size() == compiled


def test_any_text_is_a_prompt(answers):
    unusual = ["", "<item_3> </s> <pad>", "\ud83d half a pair", "מתנה 礼物 🎁", "long " * 500]
    assert len(answers(unusual)) == 5
    assert answers([]) == []


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("config.json", "the run has no config.json"),
        ("tokens", "tokens/index.json: the file is missing"),
        ("checkpoints", "checkpoints: no checkpoint"),
    ],
)
def test_a_run_without_one_of_its_parts_is_refused(run_of, tmp_path, part, message):
    run = tmp_path / "run"
    shutil.copytree(run_of("title"), run)
    path = run / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=message):
        AnswerWriter.load(run)


def test_tokens_of_another_run_are_refused(run_of, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_of("title"), run)
    settings = json.loads((run / "tokens" / "index.json").read_text())
    vocabulary = settings["vocabulary"]
    settings["vocabulary"] += 128
    (run / "tokens" / "index.json").write_text(json.dumps(settings))
    write_checksums(run, Sources(log={}, catalog="", teacher=""))
    message = f"{vocabulary + 128} token ids in tokens/, {vocabulary} in the model"
    with pytest.raises(InputError, match=message):
        AnswerWriter.load(run)
