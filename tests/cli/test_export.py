"""`irec export` on a run of random weights, through the real command line."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from irec_jax.cli.export_check import LogitComparison
from irec_jax.cli.main import main
from irec_jax.model.config import T5Config
from irec_jax.model.pretrained import INDEX, load_hf, save_hf
from irec_jax.run_folder import TOKENS_FOLDER
from irec_jax.tokens.items import TokenWriter
from irec_jax.training.checkpoint import (
    load_params,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def write_run(make_run, tiny_experiment):
    """Returns a function that writes a run of a model with two checkpoints."""

    def write(folder: Path, model: T5Config) -> tuple[Path, T5Config]:
        experiment = dataclasses.replace(tiny_experiment, model=model)
        return folder, make_run(folder, experiment, steps=(1, 2)).experiment.model

    return write


@pytest.fixture(scope="module")
def run(tmp_path_factory, write_run, tiny_model):
    return write_run(tmp_path_factory.mktemp("runs") / "shop", tiny_model)


def test_the_newest_weights_are_written_and_an_earlier_export_is_replaced(run, tmp_path, capsys):
    folder, model = run
    out = tmp_path / "hf"
    for words, step in (["--step", "1"], 1), ([], 2):
        assert main(["export", str(folder), "--to", "hf", "--out", str(out), *words]) == 0
        assert str(out) in capsys.readouterr().out.replace("\n", "")
        config, params = load_hf(out)
        assert config == dataclasses.replace(model, unroll_layers=False)
        jax.tree.map(np.testing.assert_array_equal, params, load_params(folder, model, step))


@pytest.mark.parity
@pytest.mark.parametrize("family", ["t5", "mt5", "umt5"])
def test_a_check_compares_with_transformers_on_prompts_of_the_run(
    family, tmp_path, capsys, write_run, tiny_model
):
    pytest.importorskip("torch")
    model = dataclasses.replace(tiny_model, family=family, compute="bfloat16")
    folder, _ = write_run(tmp_path / family, model)
    out = tmp_path / "hf"
    assert main(["export", str(folder), "--out", str(out), "--check"]) == 0
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "8 prompts" in printed
    assert "they agree" in printed
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    text = "a gift for someone who walks in the rain"
    ids = TokenWriter.load(folder / TOKENS_FOLDER).encode(text)
    assert tokenizer(text)["input_ids"] == [*ids, 1]
    assert len(tokenizer) == 512  # no sentinels where items are


@pytest.mark.parity
def test_a_failed_check_prints_the_difference_and_exits_with_1(run, tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")
    from irec_jax.cli import export

    def save_changed(folder, config, params, **rest):
        embedding = params["embedding"].at[5:].add(0.01)
        save_hf(folder, config, {**params, "embedding": embedding}, **rest)

    monkeypatch.setattr(export, "save_hf", save_changed)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run[0]), "--out", str(tmp_path / "hf"), "--check"])
    assert ended.value.code == 1
    assert "do NOT agree" in capsys.readouterr().out.replace("\n", " ")


def test_logits_agree_within_the_tolerance_and_nan_never_does():
    assert LogitComparison(9e-5, 0.1, 1).agrees
    assert not LogitComparison(2e-4, 0.1, 1).agrees
    assert not LogitComparison(float("nan"), 1.0, 1).agrees


def test_a_check_without_transformers_is_refused_before_anything_is_written(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torch", None)
    error = fails([run[0], "--out", tmp_path / "hf", "--check"], capsys)
    assert "pip install 'irec-jax[parity]'" in error
    assert not (tmp_path / "hf").exists()


def test_an_export_in_several_files_is_an_export(run, tmp_path, monkeypatch):
    from irec_jax.cli import export

    folder, model = run
    out = tmp_path / "hf"
    cut = functools.partial(save_hf, file_bytes=20_000)
    monkeypatch.setattr(export, "save_hf", cut)
    for _ in range(2):
        assert main(["export", str(folder), "--out", str(out)]) == 0
        assert (out / INDEX).is_file()
    jax.tree.map(np.testing.assert_array_equal, load_hf(out)[1], load_params(folder, model))


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


def test_a_wrong_folder_is_refused_and_left_unchanged(run, tmp_path, capsys):
    folder, _ = run
    out = tmp_path / "mine"
    out.mkdir()
    (out / "letter.txt").write_text("keep me")
    assert "not an export" in fails([folder, "--out", out], capsys)
    assert [path.name for path in out.iterdir()] == ["letter.txt"]
    assert "not an export" in fails([folder, "--out", folder], capsys)
    assert "no config.json" in fails([tmp_path / "no-run", "--out", tmp_path / "hf"], capsys)
    assert "no checkpoint of step 7" in fails(
        [folder, "--out", tmp_path / "hf", "--step", 7], capsys
    )
    incomplete = tmp_path / "incomplete"
    shutil.copytree(folder, incomplete)
    shutil.rmtree(incomplete / TOKENS_FOLDER)
    assert "tokens/index.json: the file is missing" in fails(
        [incomplete, "--out", tmp_path / "hf"], capsys
    )
    assert not (tmp_path / "hf").exists()


def test_a_damaged_checkpoint_is_a_message_without_tracebacks(run, tmp_path, cached):
    copy = tmp_path / "copy"
    shutil.copytree(run[0], copy)
    damaged = [path for path in copy.rglob("checkpoints/*/params/d/*") if path.is_file()]
    assert damaged
    for path in damaged:
        path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
    command = [sys.executable, "-m", "irec_jax.cli.main", "export", copy, "--out", tmp_path / "hf"]
    environment = {**os.environ, **cached, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "every checkpoint is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Event loop" not in done.stderr


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--help"])
    assert ended.value.code == 0
    assert "irec export runs/movies" in capsys.readouterr().out
