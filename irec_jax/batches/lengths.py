"""Length of a text in tokens."""

import dataclasses

from irec_jax.tokens.items import TokenWriter


@dataclasses.dataclass(frozen=True)
class TokenCount:
    """Counts the tokens of a prompt or an answer, with `EOS`; it can be pickled.

    Attributes:
        writer: Encodes the texts.
    """

    writer: TokenWriter

    def __call__(self, text: str) -> int:
        """Counts the tokens of a text."""
        return self.writer.length(text) + 1
