"""Torch T5 of transformers as a side of `bench/train.py`: eager, SDPA, or compiled attention."""

from typing import Any

from train_data import Prepared, Rows, Shape


def prepare(
    shape: Shape, rate: float, compute: str, *, variant: str, lengths: str, threads: int
) -> Prepared:
    """Builds one step of transformers' T5 v1.1 with transformers' Adafactor.

    Args:
        shape: Model shape.
        rate: Learning rate, relative to the scale of each weight.
        compute: `float32`, or `bfloat16` for autocast.
        variant: `eager`, `sdpa`, or `compiled` (`torch.compile` of the model with SDPA).
        lengths: Layout of the batches; `grouped` ones are compiled with dynamic shapes.
        threads: Number of threads of torch.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = _model(shape, "eager" if variant == "eager" else "sdpa")
    optimizer = transformers.Adafactor(
        model.parameters(), lr=rate, relative_step=False, scale_parameter=True
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    run: Any = model
    if variant == "compiled":
        run = torch.compile(model, dynamic=lengths == "grouped")

    def step(rows: Rows) -> float:
        inputs, segments, targets, target_segments = (
            torch.from_numpy(array).long() for array in rows
        )
        labels = targets.masked_fill(target_segments == 0, -100)
        with torch.autocast("cpu", torch.bfloat16, enabled=compute == "bfloat16"):
            loss = run(input_ids=inputs, attention_mask=segments, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return Prepared(step, parameters, versions)


def _model(shape: Shape, attention: str) -> Any:
    import torch
    import transformers

    config = transformers.T5Config(
        vocab_size=shape["vocabulary"],
        d_model=shape["width"],
        d_kv=shape["size"],
        num_heads=shape["heads"],
        d_ff=shape["mlp_dim"],
        num_layers=shape["layers"],
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        use_cache=False,
    )
    config._attn_implementation = attention
    model = transformers.T5ForConditionalGeneration(config).train()
    assert model.config._attn_implementation == attention
    # transformers 5 ties the head in spite of the config; T5 v1.1 has an untied one.
    head = torch.randn(shape["vocabulary"], shape["width"]) * shape["width"] ** -0.5
    model.lm_head.weight = torch.nn.Parameter(head)
    model.config.tie_word_embeddings = False
    assert model.lm_head.weight is not model.shared.weight
    return model
