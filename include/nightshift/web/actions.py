"""What people may do from the pages: each is a run of Airflow's, or a step, and is recorded."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
