"""Hugging Face names of the arrays and settings of T5, mT5 and umT5."""

from typing import Literal, NamedTuple, cast

from irec_jax.errors import InputError
from irec_jax.model.config import Activation, T5Config
from irec_jax.model.layers import NORM_EPSILON
from irec_jax.model.positions import BUCKETS, MAX_DISTANCE

CONFIG = "config.json"
FAMILIES = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}


class WeightMapping(NamedTuple):
    """The Hugging Face name of one parameter.

    Attributes:
        path: Keys of the parameter in our dict, joined by dots.
        name: Name in Hugging Face; `{}` is the layer, for arrays with a layer axis.
        transposed: Whether the matrix is transposed there (torch stores outputs first).
    """

    path: str
    name: str
    transposed: bool

    @property
    def stacked(self) -> bool:
        """Whether our array has a layer axis; Hugging Face then has one array per layer."""
        return "{}" in self.name

    def names(self, config: T5Config) -> list[str]:
        """Returns the name of each layer's array, or the single name."""
        if not self.stacked:
            return [self.name]
        encoder = self.name.startswith("encoder")
        layers = config.encoder_layers if encoder else config.decoder_layers
        return [self.name.format(layer) for layer in range(layers)]


def table(config: T5Config) -> list[WeightMapping]:
    """Lists every parameter of a model with its Hugging Face name."""
    rows = [WeightMapping("embedding", EMBEDDINGS[0], False)]
    if not config.tied_head:
        rows.append(WeightMapping("head", HEAD, True))
    block = 0 if config.shared_positions else "{}"
    for side, feed_forward in (("encoder", 1), ("decoder", 2)):
        rows += _attention_rows(side, "attention", 0, "SelfAttention")
        if side == "decoder":
            rows += _attention_rows(side, "across", 1, "EncDecAttention")
        rows += _feed_forward_rows(config, side, feed_forward)
        bias = f"{side}.block.{block}.layer.0.SelfAttention.relative_attention_bias.weight"
        rows.append(WeightMapping(f"{side}.bias", bias, False))
        rows.append(WeightMapping(f"{side}.norm.scale", f"{side}.final_layer_norm.weight", False))
    return rows


def _attention_rows(side: str, ours: str, place: int, theirs: str) -> list[WeightMapping]:
    block = f"{side}.block.{{}}.layer.{place}"
    names = {"query": "q", "key": "k", "value": "v", "output": "o"}
    rows = [
        WeightMapping(f"{side}.layers.{ours}.{our}", f"{block}.{theirs}.{their}.weight", True)
        for our, their in names.items()
    ]
    norm = WeightMapping(f"{side}.layers.{ours}_norm.scale", f"{block}.layer_norm.weight", False)
    return [*rows, norm]


def _feed_forward_rows(config: T5Config, side: str, place: int) -> list[WeightMapping]:
    block = f"{side}.block.{{}}.layer.{place}"
    names = {"gate": "wi_0", "up": "wi_1"} if config.is_gated else {"gate": "wi"}
    rows = [
        WeightMapping(
            f"{side}.layers.feed_forward.{our}", f"{block}.DenseReluDense.{their}.weight", True
        )
        for our, their in {**names, "down": "wo"}.items()
    ]
    norm = WeightMapping(
        f"{side}.layers.feed_forward_norm.scale", f"{block}.layer_norm.weight", False
    )
    return [*rows, norm]


EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Names of one array; some versions of transformers store all, some only one."""

HEAD = "lm_head.weight"

# Stored by older versions of transformers: copies of the embedding, and an unused array.
REPEATED = {
    *EMBEDDINGS,
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
}

_FIELDS = {
    "vocabulary": "vocab_size",
    "width": "d_model",
    "head_dim": "d_kv",
    "heads": "num_heads",
    "mlp_dim": "d_ff",
    "encoder_layers": "num_layers",
    "decoder_layers": "num_decoder_layers",
    "dropout": "dropout_rate",
}
_CONSTANTS = {
    "relative_attention_num_buckets": BUCKETS,
    "relative_attention_max_distance": MAX_DISTANCE,
    "layer_norm_epsilon": NORM_EPSILON,
}
_ACTIVATIONS: dict[str, Activation] = {
    "gated-gelu": "gated_gelu",
    "relu": "relu",
    "gated-relu": "gated_relu",
    "gelu_new": "gelu",
}
_PROJECTIONS = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}


def to_hf_config(config: T5Config) -> dict:
    """Makes the `config.json` of transformers."""
    return {
        "architectures": [f"{FAMILIES[config.family]}ForConditionalGeneration"],
        "model_type": config.family,
        **{theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()},
        **_CONSTANTS,
        "feed_forward_proj": _PROJECTIONS[config.activation],
        "tie_word_embeddings": config.tied_head,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "is_encoder_decoder": True,
    }


def from_hf_config(settings: dict, where: str = CONFIG) -> T5Config:
    """Reads the `config.json` of transformers.

    Raises:
        InputError: It is of another model type, a setting is missing, or a constant of all
            published models has another value.
    """
    family = settings.get("model_type")
    if family not in FAMILIES:
        raise InputError(
            f"model_type is {family!r}, not 't5', 'mt5' or 'umt5'",
            where=where,
            hint="Give a folder of T5, T5 v1.1, Flan-T5, mT5 or umT5.",
        )
    settings = {"num_decoder_layers": settings.get("num_layers"), **_HF_DEFAULTS, **settings}
    missing = [name for name in _FIELDS.values() if settings.get(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} missing", where=where)
    for name, constant in _CONSTANTS.items():
        if settings.get(name, constant) != constant:
            problem = f"{name} is {settings[name]}, and all published T5 models have {constant}"
            raise InputError(problem, where=where, hint="Give a folder of a published model.")
    projection = settings.get("feed_forward_proj", "relu" if family == "t5" else "gated-gelu")
    activation = _ACTIVATIONS.get(projection)
    if activation is None:
        allowed = ", ".join(_ACTIVATIONS)
        raise InputError(
            f"feed_forward_proj {projection!r} is not supported",
            where=where,
            hint=f"Use one of {allowed}.",
        )
    sizes = {ours: settings[theirs] for ours, theirs in _FIELDS.items()}
    return T5Config(
        **sizes,
        family=cast(Literal["t5", "mt5", "umt5"], family),
        activation=activation,
        tied_head=_is_tied(settings),
        unroll_layers=False,  # published models have many layers, which would compile for long
    )


def _is_tied(settings: dict) -> bool:
    """Whether the head is the embedding, scaled.

    transformers 5 always writes `tie_word_embeddings` true, so the scaling decides for T5 and
    umT5; it never scales the output of mT5.
    """
    if settings["model_type"] == "mt5":
        return False
    return settings.get("scale_decoder_outputs", settings.get("tie_word_embeddings", True))


_HF_DEFAULTS = {"dropout_rate": 0.1}
