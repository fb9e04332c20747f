"""Weights from and to a Hugging Face folder, read by slices and without torch."""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from irec_jax.errors import InputError
from irec_jax.files import replaced_folder
from irec_jax.model.config import T5Config
from irec_jax.model.hf_names import (
    CONFIG,
    EMBEDDINGS,
    HEAD,
    REPEATED,
    WeightMapping,
    from_hf_config,
    table,
    to_hf_config,
)
from irec_jax.model.params import Params, abstract

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FILE_BYTES = 5 * 10**9
"""Largest file of an export, as in transformers."""
READ_BYTES = 64 * 2**20
"""Approximate number of bytes read from a file at a time."""
DTYPES = ("F32", "BF16", "F16")

Index = tuple[slice, ...]


class StoredArray:
    """A parameter in the files of a folder; reading a slice reads no other part.

    Attributes:
        shape: Its shape, layer axis included.
        ndim: Its number of axes.
    """

    def __init__(
        self, files: list[Any], names: list[str], row: WeightMapping, shape: tuple
    ) -> None:
        self.shape, self.ndim = shape, len(shape)
        self._files, self._names, self._row = files, names, row

    def __getitem__(self, index: Index) -> Float[np.ndarray, "..."]:
        """Reads the part at `index` (a slice of step 1 for each axis) as a new float32 array."""
        spans = [
            range(*part.indices(length)) for part, length in zip(index, self.shape, strict=True)
        ]
        part = np.empty([len(span) for span in spans], np.float32)
        if part.size:
            layers, body = (spans[0], spans[1:]) if self._row.stacked else (range(1), spans)
            for layer, output in zip(layers, part if self._row.stacked else [part], strict=True):
                self._read(layer, body, output)
        return part

    def _read(self, layer: int, body: list[range], output: np.ndarray) -> None:
        stored = self._files[layer].get_slice(self._names[layer])
        if self._row.transposed:
            body, output = body[::-1], output.T
        rows, rest = body[0], tuple(slice(span.start, span.stop) for span in body[1:])
        count = max(READ_BYTES // (4 * math.prod(len(span) for span in body[1:])), 1)
        for start in range(rows.start, rows.stop, count):
            stop = min(start + count, rows.stop)
            output[start - rows.start : stop - rows.start] = stored[(slice(start, stop), *rest)]


@contextlib.contextmanager
def open_hf(folder: Path) -> Iterator[tuple[T5Config, Params]]:
    """Opens a folder of T5, T5 v1.1, Flan-T5, mT5 or umT5 as transformers saves it.

    Names, shapes and dtypes of all arrays are checked; no array is read.

    Args:
        folder: Holds `config.json` and `model.safetensors`, or an index file and its parts.

    Yields:
        The config (compute and loop settings at their defaults), and a `StoredArray` in place of
        each array.

    Raises:
        InputError: A file or an array is missing, unexpected, damaged or of another shape.
    """
    config = read_hf_config(folder)
    shapes = abstract(config)
    stored: Params = {}
    with contextlib.ExitStack() as stack:
        files = _open(folder, stack)
        expected = set()
        for row in table(config):
            names = [_stored_as(name, config, files) for name in row.names(config)]
            expected.update(names)
            shape = _leaf(shapes, row.path).shape
            body = shape[1:] if row.stacked else shape
            for name in names:
                _check(files, name, body[::-1] if row.transposed else body, folder)
            _put(stored, row.path, StoredArray([files[name] for name in names], names, row, shape))
        unexpected = sorted(set(files) - expected - REPEATED)
        if unexpected == [HEAD] and config.tied_head:
            _check_tied(files, stored["embedding"], folder)
        elif unexpected:
            raise InputError(f"unexpected arrays {unexpected[:5]}", where=str(folder))
        yield config, stored


def read_hf_config(folder: Path) -> T5Config:
    """Reads the settings of the model in a folder, which need not hold its arrays.

    Raises:
        InputError: `config.json` is missing or of a model outside the T5 family.
    """
    hint = "Give a folder that save_pretrained of transformers wrote."
    return from_hf_config(_read_json(folder / CONFIG, hint), str(folder / CONFIG))


def load_hf(folder: Path, shardings: Any = None) -> tuple[T5Config, Params]:
    """Reads the weights of a folder as float32.

    Args:
        folder: As in `open_hf`.
        shardings: A sharding, or a tree of them; None for numpy arrays.

    Returns:
        The config and the arrays. With shardings, each process reads the slices that its own
        devices hold, one array after the other.

    Raises:
        InputError: As `open_hf`.
    """
    with open_hf(folder) as (config, stored):
        if shardings is None:
            return config, jax.tree.map(lambda array: array[(slice(None),) * array.ndim], stored)
        return config, place(stored, shardings)


def place(stored: Params, shardings: Any) -> Params:
    """Makes sharded arrays from leaves that are read by slices, one leaf after the other.

    Args:
        stored: Leaves have a `shape` and return float32 numpy arrays for an index of slices.
        shardings: A sharding, or a tree of them.
    """
    return jax.tree.map(
        lambda array, sharding: from_slices(array.shape, sharding, array.__getitem__),
        stored,
        jax.tree.broadcast(shardings, stored),
    )


def from_slices(
    shape: tuple[int, ...], sharding: jax.sharding.Sharding, read: Callable[[Index], np.ndarray]
) -> jax.Array:
    """Makes a sharded array; devices with the same part share one read."""
    parts: dict[tuple, np.ndarray] = {}

    def part(index: Any) -> np.ndarray:
        key = slice_key(index)
        if key not in parts:
            parts[key] = read(index)
        return parts[key]

    # Blocks, so that the host holds one array at a time.
    return jax.block_until_ready(jax.make_array_from_callback(shape, sharding, part))


def slice_key(index: Index) -> tuple:
    """Makes a hashable key of an index; slices are not hashable before Python 3.12."""
    return tuple((part.start, part.stop) for part in index)


def save_hf(
    folder: Path,
    config: T5Config,
    params: Params,
    *,
    beside: Mapping[str, bytes] | None = None,
    file_bytes: int = FILE_BYTES,
) -> None:
    """Writes a folder that `AutoModelForSeq2SeqLM.from_pretrained` of transformers loads.

    Args:
        folder: Created, or replaced as a whole.
        config: The model's settings.
        params: The parameters, all addressable by this process; written in float32.
        beside: Other files of the folder by name, such as the tokenizer's.
        file_bytes: Larger weights are split into several files with an index; at most one
            file's arrays are on the host at a time.
    """
    files = _members_of_files(config, file_bytes)
    settings = to_hf_config(config)
    special = {key: settings[key] for key in settings if key.endswith("_token_id")}
    with replaced_folder(folder) as temporary:
        for name, content in (beside or {}).items():
            (temporary / name).write_bytes(content)
        for file, members in files.items():
            arrays = {name: _to_hf_array(params, row, layer) for name, row, layer in members}
            save_file(arrays, temporary / file, metadata={"format": "pt"})
        if len(files) > 1:
            _write_json(temporary / INDEX, _index(config, files))
        _write_json(temporary / CONFIG, settings)
        _write_json(temporary / "generation_config.json", special)


Member = tuple[str, WeightMapping, int]


def _members_of_files(config: T5Config, file_bytes: int) -> dict[str, list[Member]]:
    """Assigns arrays, as name, row and layer, to files."""
    shapes = abstract(config)
    groups: list[list[Member]] = [[]]
    size = 0
    for row in table(config):
        shape = _leaf(shapes, row.path).shape
        bytes_each = 4 * math.prod(shape[1:] if row.stacked else shape)
        for layer, name in enumerate(row.names(config)):
            if groups[-1] and size + bytes_each > file_bytes:
                groups.append([])
                size = 0
            groups[-1].append((name, row, layer))
            size += bytes_each
    if len(groups) == 1:
        return {WEIGHTS: groups[0]}
    stem, ending = WEIGHTS.split(".")
    return {
        f"{stem}-{number:05}-of-{len(groups):05}.{ending}": group
        for number, group in enumerate(groups, start=1)
    }


def _to_hf_array(params: Params, row: WeightMapping, layer: int) -> np.ndarray:
    leaf = _leaf(params, row.path)
    array = np.asarray(leaf[layer] if row.stacked else leaf, np.float32)
    return np.ascontiguousarray(array.T if row.transposed else array)


def _index(config: T5Config, files: Mapping[str, list[Member]]) -> dict:
    shapes = jax.tree.leaves(abstract(config))
    size = sum(4 * math.prod(leaf.shape) for leaf in shapes)
    places = {name: file for file, members in files.items() for name, _, _ in members}
    return {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path, hint: str) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("is missing", where=str(path), hint=hint) from None
    except ValueError as error:
        raise InputError(f"is not JSON: {error}", where=str(path), hint=hint) from None
    if not isinstance(content, dict):
        raise InputError("is not a JSON object", where=str(path), hint=hint)
    return content


def _open(folder: Path, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Opens the file of each array: the single file, or the parts of an index."""
    parts = [WEIGHTS]
    if (folder / INDEX).exists():
        places = _read_json(folder / INDEX, _AGAIN).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(x, str) for x in places.values()):
            raise InputError("has no weight_map", where=str(folder / INDEX), hint=_AGAIN)
        parts = sorted(set(places.values()))
    files = {}
    for part in parts:
        path = folder / part
        if not path.exists():
            torch = (folder / "pytorch_model.bin").exists() or part == WEIGHTS
            raise InputError("is missing", where=str(path), hint=_CONVERT if torch else _AGAIN)
        try:
            file = stack.enter_context(safe_open(path, "np"))
        except SafetensorError as error:
            raise InputError(f"is damaged: {error}", where=str(path), hint=_AGAIN) from None
        files.update(dict.fromkeys(file.keys(), file))
    return files


_AGAIN = "Download the folder again."
_CONVERT = (
    "Write it once with transformers and torch (docs/pretrained.md): "
    "AutoModelForSeq2SeqLM.from_pretrained(...).save_pretrained(...)."
)


def _stored_as(name: str, config: T5Config, files: Mapping[str, Any]) -> str:
    """Returns the stored name of an array that can have several names."""
    others: tuple[str, ...] = ()
    if name == EMBEDDINGS[0]:
        others = (*EMBEDDINGS, HEAD) if config.tied_head else EMBEDDINGS
    elif name == HEAD:
        # Saved by transformers 5 with one array for both: the head is the embedding.
        others = EMBEDDINGS
    return name if name in files else next((other for other in others if other in files), name)


def _check_tied(files: Mapping[str, Any], embedding: StoredArray, folder: Path) -> None:
    """Refuses an untied head where the config ties it to the embedding."""
    _check(files, HEAD, embedding.shape, folder)
    head = StoredArray(
        [files[HEAD]], [HEAD], WeightMapping("embedding", HEAD, False), embedding.shape
    )
    for start in range(0, head.shape[0], 4_096):
        rows = (slice(start, start + 4_096), slice(None))
        if not np.array_equal(head[rows], embedding[rows]):
            raise InputError(
                f"has an untied head ({HEAD}), but its {CONFIG} says that it is tied",
                where=str(folder),
                hint=f"For T5 v1.1, set tie_word_embeddings to false in {CONFIG}.",
            )


def _check(files: Mapping[str, Any], name: str, shape: tuple[int, ...], folder: Path) -> None:
    if name not in files:
        raise InputError(f"the array {name!r} is missing", where=str(folder), hint=_AGAIN)
    stored = files[name].get_slice(name)
    if tuple(stored.get_shape()) != shape:
        raise InputError(
            f"the array {name!r} has the wrong shape {tuple(stored.get_shape())}",
            where=str(folder),
            hint=f"Use weights of the shape {shape}, which belong to {CONFIG}.",
        )
    if stored.get_dtype() not in DTYPES:
        raise InputError(
            f"the array {name!r} is of dtype {stored.get_dtype()}",
            where=str(folder),
            hint="Give weights in float32, bfloat16 or float16, not quantized ones.",
        )


def _leaf(tree: Params, path: str) -> Any:
    return functools.reduce(lambda branch, key: branch[key], path.split("."), tree)


def _put(tree: Params, path: str, array: object) -> None:
    *branches, last = path.split(".")
    for key in branches:
        tree = tree.setdefault(key, {})
    tree[last] = array
