"""One pure module per wire format; `dialect` finds it by its name."""

from providers.dialects import azure, openai
from providers.dialects.base import Dialect

_DIALECTS: dict[str, Dialect] = {openai.NAME: openai, azure.NAME: azure}


def dialect(name: str) -> Dialect:
    """The wire format of that name. Raises KeyError for one that is not spoken here."""
    return _DIALECTS[name]
