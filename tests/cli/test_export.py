"""`irec export` on a run of random weights, through the real command line."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irec_jax.cli.main import main
from irec_jax.experiment import TOKENS_FOLDER, Experiment, prepare, save_run
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.model.config import T5Config
from irec_jax.model.params import initialize
from irec_jax.model.pretrained import load_hf
from irec_jax.tokens.items import TokenWriter
from irec_jax.tokens.text import TokensConfig
from irec_jax.training.checkpoint import (
    Checkpoints,
    TrainState,
    load_params,
    model_fingerprint,
)

MODEL = T5Config(width=16, head_dim=8, heads=2, hidden=32, encoder_layers=1, decoder_layers=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "shop"
    experiment = Experiment(
        data=DataConfig(simulate=SimulateConfig(users=60, items=100), core=1),
        tokens=TokensConfig(vocabulary=600),
        model=MODEL,
    )
    materials = prepare(experiment)
    save_run(folder, materials)
    model = materials.experiment.model
    checkpoints = Checkpoints(folder, {"model": model_fingerprint(model)})
    for step in (1, 2):
        params = initialize(model, jax.random.key(step))
        state = TrainState(jnp.asarray(step), params, {"count": jnp.zeros(())})
        checkpoints.save(step, state, {})
    checkpoints.close()
    return folder, model


def test_the_newest_weights_are_written_and_an_earlier_export_is_replaced(run, tmp_path, capsys):
    folder, model = run
    out = tmp_path / "hf"
    for words, step in (["--step", "1"], 1), ([], 2):
        assert main(["export", str(folder), "--to", "hf", "--out", str(out), *words]) == 0
        assert str(out) in capsys.readouterr().out.replace("\n", "")
        config, params = load_hf(out)
        assert config == dataclasses.replace(model)
        jax.tree.map(np.testing.assert_array_equal, params, load_params(folder, model, step))


@pytest.mark.parity
def test_transformers_loads_model_and_tokenizer(run, tmp_path):
    pytest.importorskip("torch")
    import transformers

    folder, model = run
    assert main(["export", str(folder), "--out", str(tmp_path / "hf")]) == 0
    peer = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf")
    assert peer.lm_head.weight.shape == (model.vocabulary, model.width)
    embedding = load_params(folder, model)["embedding"]
    np.testing.assert_array_equal(peer.get_input_embeddings().weight.detach(), embedding)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    text = "a gift for someone who walks in the rain"
    ids = TokenWriter.load(folder / TOKENS_FOLDER).encode(text)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    assert TokenWriter.load(tmp_path / "hf").index.names


def fails(words, capsys):
    assert main(["export", *map(str, words)]) == 2
    return capsys.readouterr().err.replace("\n", " ")


def test_mistakes_are_told_and_nothing_is_lost(run, tmp_path, capsys):
    folder, _ = run
    out = tmp_path / "mine"
    out.mkdir()
    (out / "letter.txt").write_text("keep me")
    assert "something else" in fails([folder, "--out", out], capsys)
    assert [path.name for path in out.iterdir()] == ["letter.txt"]
    assert "something else" in fails([folder, "--out", folder], capsys)
    assert "no config.json" in fails([tmp_path / "no-run", "--out", tmp_path / "hf"], capsys)
    assert "no checkpoint of step 7" in fails(
        [folder, "--out", tmp_path / "hf", "--step", 7], capsys
    )
    part = tmp_path / "part"
    shutil.copytree(folder, part)
    shutil.rmtree(part / TOKENS_FOLDER)
    assert "no tokens folder" in fails([part, "--out", tmp_path / "hf"], capsys)
    assert not (tmp_path / "hf").exists()


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--help"])
    assert ended.value.code == 0
    assert "irec export runs/movies" in capsys.readouterr().out
