"""From what was read to an HTTP response."""

from starlette.responses import Response

from gateway.reads import Answer


def respond(answer: Answer) -> Response:
    """The bytes as they are, and how fresh they are in the headers."""
    headers = {"X-Cache": answer.source}
    if answer.source != "miss":
        headers["Age"] = str(int(answer.age))
    if answer.source == "stale":
        headers["Warning"] = '110 - "Response is stale"'
    return Response(answer.body, media_type="application/json", headers=headers)
