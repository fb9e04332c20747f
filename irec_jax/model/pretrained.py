"""Weights from and to a Hugging Face folder, without torch: one table of names, read both ways."""

import contextlib
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from irec_jax.errors import InputError
from irec_jax.files import replaced_folder
from irec_jax.model.config import T5Config
from irec_jax.model.params import Params, abstract

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        path: Where our dict holds it, keys joined by dots.
        name: What Hugging Face calls it; `{}` is the layer, for arrays with a layer axis.
        transposed: Whether the matrix is the other way round there (torch stores outputs first).
    """

    path: str
    name: str
    transposed: bool


def table(config: T5Config) -> list[Row]:
    """Every array of a model, with its name there."""
    rows = [Row("embedding", "shared.weight", False)]
    if not config.tied_head:
        rows.append(Row("head", "lm_head.weight", True))
    for side, feed_forward in (("encoder", 1), ("decoder", 2)):
        rows += _attention_rows(side, "attention", 0, "SelfAttention")
        if side == "decoder":
            rows += _attention_rows(side, "across", 1, "EncDecAttention")
        rows += _feed_forward_rows(config, side, feed_forward)
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        rows.append(Row(f"{side}.bias", bias, False))
        rows.append(Row(f"{side}.norm.scale", f"{side}.final_layer_norm.weight", False))
    return rows


def _attention_rows(side: str, ours: str, place: int, theirs: str) -> list[Row]:
    block = f"{side}.block.{{}}.layer.{place}"
    names = {"query": "q", "key": "k", "value": "v", "output": "o"}
    rows = [
        Row(f"{side}.layers.{ours}.{our}", f"{block}.{theirs}.{their}.weight", True)
        for our, their in names.items()
    ]
    norm = Row(f"{side}.layers.{ours}_norm.scale", f"{block}.layer_norm.weight", False)
    return [*rows, norm]


def _feed_forward_rows(config: T5Config, side: str, place: int) -> list[Row]:
    block = f"{side}.block.{{}}.layer.{place}"
    names = {"gate": "wi_0", "up": "wi_1"} if config.gated else {"gate": "wi"}
    rows = [
        Row(f"{side}.layers.feed_forward.{our}", f"{block}.DenseReluDense.{their}.weight", True)
        for our, their in {**names, "down": "wo"}.items()
    ]
    norm = Row(f"{side}.layers.feed_forward_norm.scale", f"{block}.layer_norm.weight", False)
    return [*rows, norm]


# The same array again, or (the last) one that no T5 uses: left by older versions of transformers.
REPEATED = {
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
}

_FIELDS = {
    "vocabulary": "vocab_size",
    "width": "d_model",
    "head_dim": "d_kv",
    "heads": "num_heads",
    "hidden": "d_ff",
    "encoder_layers": "num_layers",
    "decoder_layers": "num_decoder_layers",
    "relative_buckets": "relative_attention_num_buckets",
    "relative_max_distance": "relative_attention_max_distance",
    "dropout": "dropout_rate",
    "norm_epsilon": "layer_norm_epsilon",
}
_PROJECTIONS: dict[tuple[Literal["gelu", "relu"], bool], str] = {
    ("gelu", True): "gated-gelu",
    ("relu", False): "relu",
    ("relu", True): "gated-relu",
    ("gelu", False): "gelu_new",
}


def to_hf_config(config: T5Config) -> dict:
    """The `config.json` of transformers for a model of ours."""
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        **{theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()},
        "feed_forward_proj": _PROJECTIONS[config.activation, config.gated],
        "tie_word_embeddings": config.tied_head,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "is_encoder_decoder": True,
    }


def from_hf_config(settings: dict, where: str = CONFIG) -> T5Config:
    """Our config from the `config.json` of transformers.

    Raises:
        InputError: If it is not a T5 or misses a setting.
    """
    if settings.get("model_type") != "t5":
        raise InputError(
            f"model_type is {settings.get('model_type')!r}, not 't5'",
            where=where,
            mend="give a folder of T5, T5 v1.1 or Flan-T5",
        )
    settings = {"num_decoder_layers": settings.get("num_layers"), **_HF_DEFAULTS, **settings}
    missing = [name for name in _FIELDS.values() if settings.get(name) is None]
    if missing:
        raise InputError(f"misses {', '.join(missing)}", where=where)
    projection = settings.get("feed_forward_proj", "relu")
    form = next((form for form, name in _PROJECTIONS.items() if name == projection), None)
    if form is None:
        allowed = ", ".join(_PROJECTIONS.values())
        raise InputError(
            f"feed_forward_proj {projection!r} is not supported",
            where=where,
            mend=f"one of {allowed}",
        )
    # transformers 5 writes tie_word_embeddings true for every T5, so the scaling tells.
    tied = settings.get("scale_decoder_outputs", settings.get("tie_word_embeddings", True))
    sizes = {ours: settings[theirs] for ours, theirs in _FIELDS.items()}
    return T5Config(**sizes, activation=form[0], gated=form[1], tied_head=tied)


_HF_DEFAULTS = {
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
}


def load_hf(folder: Path) -> tuple[T5Config, Params]:
    """Reads a folder of T5, T5 v1.1 or Flan-T5 as transformers saves it (safetensors).

    Args:
        folder: Holds `config.json` and `model.safetensors`, or an index file and its parts.

    Returns:
        The config (compute and loop settings at their defaults) and float32 numpy arrays.

    Raises:
        InputError: If a file or an array is missing, superfluous or of another shape.
    """
    config = from_hf_config(_read_json(folder / CONFIG), str(folder / CONFIG))
    shapes = abstract(config)
    params: Params = {}
    with contextlib.ExitStack() as stack:
        files = _open(folder, stack)
        expected = set()
        for row in table(config):
            if row.path == "head" and row.name not in files:
                # Saved by transformers 5 with one array for both: the head is the embedding.
                row = Row("head", "shared.weight", True)
            names = _names(config, row)
            expected.update(names)
            shape = _leaf(shapes, row.path).shape[1 if "{}" in row.name else 0 :]
            arrays = [_read(files, name, folder) for name in names]
            _check_shapes(arrays, shape[::-1] if row.transposed else shape, names, folder)
            arrays = [array.T if row.transposed else array for array in arrays]
            _put(params, row.path, np.stack(arrays) if "{}" in row.name else arrays[0])
    strangers = sorted(set(files) - expected - REPEATED)
    if strangers:
        raise InputError(f"holds arrays this T5 has not: {strangers[:5]}", where=str(folder))
    return config, params


def save_hf(
    folder: Path,
    config: T5Config,
    params: Params,
    *,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Writes a folder that `T5ForConditionalGeneration.from_pretrained` loads.

    Args:
        folder: Made or replaced as a whole.
        config: Of the model.
        params: Its arrays; written in float32.
        beside: Other files of the folder, such as the tokenizer's, by name.
    """
    arrays: dict[str, np.ndarray] = {}
    for row in table(config):
        ours = np.asarray(_leaf(params, row.path), np.float32)
        slices = ours if "{}" in row.name else ours[None]
        for name, array in zip(_names(config, row), slices, strict=True):
            arrays[name] = np.ascontiguousarray(array.T if row.transposed else array)
    settings = to_hf_config(config)
    special = {key: settings[key] for key in settings if key.endswith("_token_id")}
    with replaced_folder(folder) as temporary:
        for name, content in (beside or {}).items():
            (temporary / name).write_bytes(content)
        save_file(arrays, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")
        (temporary / "generation_config.json").write_text(json.dumps(special, indent=2) + "\n")


def _names(config: T5Config, row: Row) -> list[str]:
    if "{}" not in row.name:
        return [row.name]
    layers = config.encoder_layers if row.name.startswith("encoder") else config.decoder_layers
    return [row.name.format(layer) for layer in range(layers)]


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        mend = "give a folder as transformers' save_pretrained writes it"
        raise InputError("is missing", where=str(path), mend=mend) from None
    except ValueError as error:
        raise InputError(f"is not JSON: {error}", where=str(path)) from None


def _open(folder: Path, stack: contextlib.ExitStack) -> dict[str, Any]:
    """The open file that holds each array, from one file or from the parts of an index."""
    if (folder / INDEX).exists():
        parts = sorted(set(_read_json(folder / INDEX)["weight_map"].values()))
    else:
        parts = [WEIGHTS]
    files = {}
    for part in parts:
        path = folder / part
        if not path.exists():
            mend = "save it with save_pretrained of transformers (safetensors, not .bin)"
            raise InputError("is missing", where=str(path), mend=mend)
        try:
            file = stack.enter_context(safe_open(path, "np"))
        except SafetensorError as error:
            raise InputError(f"is damaged: {error}", where=str(path)) from None
        files.update(dict.fromkeys(file.keys(), file))
    return files


def _read(files: dict[str, Any], name: str, folder: Path) -> np.ndarray:
    if name not in files:
        raise InputError(f"the array {name!r} is missing", where=str(folder))
    return files[name].get_tensor(name).astype(np.float32)


def _check_shapes(
    arrays: list[np.ndarray], shape: tuple[int, ...], names: list[str], folder: Path
) -> None:
    for name, array in zip(names, arrays, strict=True):
        if array.shape != shape:
            raise InputError(
                f"the array {name!r} has the wrong shape {array.shape}",
                where=str(folder),
                mend=f"{CONFIG} asks for {shape}; they must belong together",
            )


def _leaf(tree: Params, path: str) -> Any:
    return functools.reduce(lambda branch, key: branch[key], path.split("."), tree)


def _put(tree: Params, path: str, array: np.ndarray) -> None:
    *branches, last = path.split(".")
    for key in branches:
        tree = tree.setdefault(key, {})
    tree[last] = array
