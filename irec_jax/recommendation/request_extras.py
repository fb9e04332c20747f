"""Optional parts of a request for recommendations."""

import dataclasses

from irec_jax.recommendation.request_understanding import UnderstandingMode


@dataclasses.dataclass(frozen=True)
class Extras:
    """Optional parts of a request besides history and instruction.

    Attributes:
        preference: The user's taste in a sentence.
        context: Time, place, season or popular items, as a phrase.
        language: Language of the prompt, one of the run's template packs; "" for the first.
        understanding: What is done with the conditions in the instruction.
    """

    preference: str = ""
    context: str = ""
    language: str = ""
    understanding: UnderstandingMode = UnderstandingMode.ON


NO_EXTRAS = Extras()
