"""The pages: fleet, model, night, decision."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
def fleet() -> str:
    """Every model on one screen."""
    return "<!doctype html><title>Nightshift</title>"
