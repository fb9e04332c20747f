"""The experiment of a run: written to its folder, read again, and compared."""

import json
import shutil
from pathlib import Path

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.materials import Materials, sources_of
from irec_jax.files import replaced_file, write_text
from irec_jax.instructions.pack_files import copy_packs
from irec_jax.log.dataset import SIMULATED
from irec_jax.model.lora import LoraConfig
from irec_jax.run_checksums import refuse_other_sources, write_checksums
from irec_jax.run_folder import CATALOG_FILE, CONFIG_FILE, PACKS_FOLDER, TOKENS_FOLDER
from irec_jax.run_settings import from_run_json
from irec_jax.settings import flatten, to_json
from irec_jax.training.checkpoint import has_started


def save_run(run: Path, materials: Materials) -> None:
    """Writes what a run needs besides its weights: config, catalog and tokens.

    Until its first checkpoint a run may change, and all of it is written again.

    Raises:
        InputError: If the run was started with another config, log, catalog or teacher, naming
            the first that differs.
    """
    config, sources = to_json(materials.experiment), sources_of(materials)
    started = has_started(run)
    if started and (run / CONFIG_FILE).exists():
        _refuse_other(run, fingerprint(load_run(run)), fingerprint(materials.experiment))
        refuse_other_sources(run, sources)
    run.mkdir(parents=True, exist_ok=True)
    if not started or not (run / TOKENS_FOLDER).is_dir():
        materials.writer.save(run / TOKENS_FOLDER)
        if materials.requests is not None:
            materials.requests.lexicon.save(run / TOKENS_FOLDER)
    if not started:
        shutil.rmtree(run / PACKS_FOLDER, ignore_errors=True)
    copy_packs(materials.experiment.instructions, run / PACKS_FOLDER)
    if not started or not (run / CATALOG_FILE).exists():
        with replaced_file(run / CATALOG_FILE) as temporary:
            materials.split.catalog.write_parquet(temporary)
    write_checksums(run, sources)
    write_text(run / CONFIG_FILE, json.dumps(config, indent=2) + "\n")


def load_run(run: Path) -> Experiment:
    """Reads the resolved experiment of a run.

    Raises:
        InputError: The folder does not hold a run, or its config does not fit this version.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        hint = "Give the folder that `irec tune` wrote."
        raise InputError("the run has no config.json", where=str(run), hint=hint)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"it is not JSON: {error}", where=str(path)) from error
    return from_run_json(Experiment, data, where=str(path))


def fingerprint(experiment: Experiment) -> dict:
    """The part of the config that a checkpoint depends on; the rest may change on resume.

    The path of a prepared log is not in it: `sources_of` has the checksums of its files.
    """
    config = to_json(experiment)
    if experiment.data.log != SIMULATED:
        config["data"]["log"] = "prepared"
    if not experiment.lora.rank:
        config["lora"] = to_json(LoraConfig())  # without a rank the rest says nothing
    names = ("data", "instructions", "tokens", "model", "lora", "optimizer", "seed")
    return {key: config[key] for key in names} | {"batch_size": config["train"]["batch_size"]}


def _refuse_other(run: Path, old: dict, new: dict) -> None:
    for key, value in flatten(new).items():
        before = flatten(old).get(key)
        if before != value:
            raise InputError(
                f"this run was started with {key} = {before!r}, not {value!r}",
                where=str(run),
                hint="Use the same config, or another folder: --out.",
            )
