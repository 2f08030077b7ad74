"""What every door of a tenant answers that refuses, in OpenAI's words."""

from gateway.openapi.schemas import MAYBE_TEXT, TEXT, Schema, answer, shown, told


def refusal(message: str, code: Schema) -> Schema:
    """`message` is an example of one. A provider's own refusals may have no code."""
    return answer(
        error=answer(
            message=shown(told(TEXT, "One sentence for whoever reads it."), message),
            type=shown(TEXT, "invalid_request_error"),
            param=told(MAYBE_TEXT, "Which part of the request is meant."),
            code=told(code, "What programs decide by."),
        )
    )
