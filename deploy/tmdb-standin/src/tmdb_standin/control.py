"""Control for tests, under `/_control`: faults on demand and what was asked. And `/health`."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request

from tmdb_standin.faults import FaultPlan
from tmdb_standin.traffic import Standin

router = APIRouter()


def standin_of(request: Request) -> Standin:
    return request.app.state.standin


StandinDep = Annotated[Standin, Depends(standin_of)]


def _state(standin: Standin) -> dict[str, Any]:
    faults = standin.faults
    return {"plan": faults.plan.model_dump(mode="json"), "pending": faults.pending()}


@router.get("/health")
async def health(standin: StandinDep) -> dict[str, Any]:
    return {"status": "ok", "films": len(standin.catalogue)}


@router.get("/_control/faults")
async def read_faults(standin: StandinDep) -> dict[str, Any]:
    return _state(standin)


@router.post("/_control/faults")
async def follow_plan(standin: StandinDep, plan: FaultPlan) -> dict[str, Any]:
    unknown = sorted(set(plan.overrides) - set(standin.original.films))
    if unknown:
        raise HTTPException(422, f"overrides: no such film in the catalogue: {unknown}")
    standin.follow(plan, datetime.now(UTC).date().isoformat())
    return _state(standin)


@router.delete("/_control/faults", status_code=204)
async def reset_faults(standin: StandinDep) -> None:
    standin.reset_faults()


@router.get("/_control/requests")
async def read_requests(standin: StandinDep) -> dict[str, Any]:
    return standin.log.snapshot()


@router.delete("/_control/requests", status_code=204)
async def reset_requests(standin: StandinDep) -> None:
    standin.reset_requests()
