"""Writes docs/images/how-it-works.json: one record of a run at each stage of the program.

Command: python docs/scripts/picture_record.py runs/picture   (docs/scripts/picture_run.py)
"""

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from irec_jax.batches.pipeline import encode_prompt
from irec_jax.decoding.score import score_items
from irec_jax.decoding.steps import PromptTokens
from irec_jax.experiment.materials import prepare
from irec_jax.experiment.run_config import load_run
from irec_jax.instructions.built_in_tasks import PERSONALIZED_SEARCH
from irec_jax.instructions.forms import Request
from irec_jax.instructions.prompts import PromptWriter
from irec_jax.log.split import Role, Split
from irec_jax.model.params import count, structure
from irec_jax.recommendation.recommender import Recommender
from irec_jax.tokens.items import TokenWriter
from irec_jax.training.checkpoint import load_params

FILE = Path(__file__).parents[1] / "images" / "how-it-works.json"
SHOWN_EVENTS, SHOWN_ITEMS, SHOWN_TOKENS = 4, 3, 40
LONGEST_QUERY, MAX_HISTORY = 60, 9
CERTAIN = 0.97


def main() -> None:
    """Reads the run that is named on the command line and writes the file."""
    run = Path(sys.argv[1])
    materials = prepare(load_run(run), run)
    split, writer = materials.split, materials.writer
    recommender = Recommender.load(run)
    position, answers = choose_record(recommender, split)
    request = PERSONALIZED_SEARCH.request(split, position)
    prompt = PromptWriter.build(materials.experiment.instructions, writer.index.names).prompt(
        request
    )
    ids = encode_prompt(prompt, writer, materials.experiment.tokens.source_length)
    params = load_params(run, recommender.settings.model)
    model = recommender.settings.model
    sequences = list(writer.index.sequences())
    shown = [list(sequences[answer.number]) for answer in answers[:SHOWN_ITEMS]]

    def probabilities(given: list[list[int]]) -> list[float]:
        """P(sequence | prompt) of beginnings of items."""
        padded = np.zeros((1, len(given), max(map(len, given))), np.int32)
        for row, sequence in enumerate(given):
            padded[0, row, : len(sequence)] = sequence
        inputs = np.array([ids], np.int32)
        scores = score_items(
            structure(model), params, PromptTokens(inputs, np.ones_like(inputs)), padded
        )
        return np.exp(np.asarray(scores)[0]).tolist()

    target = int(split.items[position])
    record = {
        "events": events_of(split, position),
        "query": request.instruction,
        "target": split.catalog["title"][target],
        "prompt": prompt,
        "tokens": [[piece_of(writer, token), int(token)] for token in ids[:SHOWN_TOKENS]],
        "prompt_tokens": len(ids),
        "answer": [[piece_of(writer, token), int(token)] for token in sequences[target]],
        "parameters": count(params),
        "layers": [model.encoder_layers, model.decoder_layers],
        "vocabulary": model.vocabulary,
        "items": split.num_items,
        "first_tokens": len({sequence[0] for sequence in sequences}),
        "paths": [
            path_of(writer, sequence, step_probabilities(sequence, probabilities))
            for sequence in shown
        ],
        "ranking": [
            {
                "title": answer.title,
                "probability": round(float(np.exp(answer.score)), 4),
                "is_target": answer.number == target,
            }
            for answer in answers
        ],
    }
    FILE.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def choose_record(recommender: Recommender, split: Split) -> tuple[int, list[Any]]:
    """Takes the first test request whose texts fit the picture and whose answer is not first.

    A picture with the target at rank 1 would show less: the model is not always right.
    """
    for position in PERSONALIZED_SEARCH.eligible(split, Role.TEST):
        request: Request = PERSONALIZED_SEARCH.request(split, int(position))
        if len(request.instruction) > LONGEST_QUERY or len(request.history) > MAX_HISTORY:
            continue
        answers = recommender.recommend(request.history, request.instruction, k=5)
        ranks = [answer.rank for answer in answers if answer.number == split.items[position]]
        if ranks == [2]:
            return int(position), answers
    raise SystemExit("no request of this run fits the picture")


def events_of(split: Split, position: int) -> list[dict[str, str]]:
    """The last events before the target, and the target's."""
    titles = split.catalog["title"]
    return [
        {
            "day": str(datetime.datetime.fromtimestamp(int(split.times[p]), datetime.UTC).date()),
            "title": titles[int(split.items[p])],
            "query": split.queries[p],
        }
        for p in range(position - SHOWN_EVENTS + 1, position + 1)
    ]


def piece_of(writer: TokenWriter, token: int) -> str:
    """The text of one token; the end of a sequence as "end"."""
    return writer.codec.decode([int(token)]).strip() or ("end" if token == 1 else "\u2423")


def path_of(writer: TokenWriter, sequence: list[int], steps: list[float]) -> dict[str, Any]:
    """The steps of one item: single tokens as long as they are uncertain, then the rest as text."""
    end = max(place for place, step in enumerate(steps) if step < CERTAIN) + 1
    return {
        "pieces": [piece_of(writer, token) for token in sequence[:end]],
        "steps": steps[:end],
        "rest": writer.codec.decode(sequence[end:]),
        "rest_step": round(float(np.prod(steps[end:])), 3),
    }


def step_probabilities(sequence: list[int], probabilities: Any) -> list[float]:
    """P(token | prompt, tokens before it) of each token."""
    whole = probabilities([sequence[: end + 1] for end in range(len(sequence))])
    return [round(a / b, 3) for a, b in zip(whole, [1.0, *whole[:-1]], strict=True)]


if __name__ == "__main__":
    main()
