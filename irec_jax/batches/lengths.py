"""How long a text is for a model."""

import dataclasses

from irec_jax.tokens.items import TokenWriter


@dataclasses.dataclass(frozen=True)
class TokenCount:
    """Counts the tokens of a prompt or an answer, `EOS` included; it can be pickled.

    Attributes:
        writer: What they are written with.
    """

    writer: TokenWriter

    def __call__(self, text: str) -> int:
        """Returns how many tokens a text has."""
        return self.writer.length(text) + 1
