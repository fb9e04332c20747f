"""The mesh axes of each parameter of T5 and of its adapters."""

from irec_jax.model.seq2seq import ShardingRules

RANK = "rank"
"""Placeholder for the inner axis of an adapter, which is never sharded: the sum over its shards
would be a collective of the size of the weight."""

RULES: ShardingRules = (
    (r"(^|/)(scale|bias)$", ()),
    (r"/(query|key|value|gate|up)/down$", ("fsdp", RANK)),
    (r"/(query|key|value|gate|up)/up$", (RANK, "tensor")),
    (r"/(output|down)/down$", ("tensor", RANK)),
    (r"/(output|down)/up$", (RANK, "fsdp")),
    (r"(^|/)embedding/down$", ("tensor", RANK)),
    (r"(^|/)embedding/up$", (RANK, "fsdp")),
    (r"(^|/)head/down$", ("fsdp", RANK)),
    (r"(^|/)head/up$", (RANK, "tensor")),
    (r"(^|/)embedding$", ("tensor", "fsdp")),
    (r"(^|/)head$", ("fsdp", "tensor")),
    (r"/(query|key|value|gate|up)$", ("fsdp", "tensor")),
    (r"/(output|down)$", ("tensor", "fsdp")),
)
"""Rules by parameter path, first match wins: a mesh axis per array axis without the layer axis;
`()` is replicated.

The tensor axis shards heads, the feed-forward dimension and the vocabulary, so that a layer needs
one sum over it at its end. An adapter's `down` and `up` are sharded like the rows and the columns
of their weight.
"""
