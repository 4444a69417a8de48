"""What tells that the API is there; health, readiness and metrics are the runtime's."""

from fastapi import APIRouter, Depends

from gateway.policies import Policies


async def ping() -> dict[str, str]:
    """Answers without asking anything."""
    return {"ping": "pong"}


def add_to(router: APIRouter, policies: Policies) -> None:
    """Register the route."""
    router.add_api_route(
        "/ping",
        ping,
        methods=["GET"],
        tags=["operations"],
        summary="Whether the API answers",
        dependencies=[Depends(policies.open)],
    )
