"""Asks people on Airflow's page whether a challenger may serve, and records what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, task_group

from nightshift.family import ModelFamily
from nightshift_airflow.runtime import link, now, site
from nightshift_airflow.wiring import step

if TYPE_CHECKING:
    from nightshift.promotion import Answer


class Approval(ApprovalOperator):
    """Airflow's approval, after which nothing is skipped: what was refused is recorded too."""

    def skip(self, *args: object, **kwargs: object) -> None:
        """Let the tasks that follow run, whatever was answered."""


def ask_after(family: ModelFamily, decision_ids: Any) -> Any:
    """The task ``ask``: the questions that these decisions leave to people, often none."""

    @step()
    def ask(decision_ids: list[int]) -> list[dict[str, Any]]:
        from nightshift.steps import people

        return people.open_approvals(site(family), decision_ids, link=link())

    return ask(decision_ids)


def answer_after(family: ModelFamily, open_approvals: Any) -> Any:
    """The tasks ``approve`` and ``answer`` for each question, skipped where there is none.

    A question waits for nobody but whoever answers it; without an answer in time it is rejected.
    """

    @step()
    def answer(approval_id: int, response: dict[str, Any]) -> int:
        from nightshift.steps import people

        verdict, by, reason = understood(response)
        return people.answer(site(family), approval_id, verdict, by, reason=reason, now=now())

    @task_group(prefix_group_id=False)
    def approval(approval_id: int, subject: str, body: str) -> None:
        approve = Approval(
            task_id="approve",
            subject=subject,
            body=body,
            defaults=Approval.REJECT,
            response_timeout=family.promotion.response_timeout,
            params={"why": _why()},
        )
        answer(approval_id, approve.output)

    return approval.expand_kwargs(open_approvals)


def understood(response: Mapping[str, Any]) -> tuple[Answer, str, str]:
    """What a response of ``approve`` means: the answer, who gave it, and the reason given."""
    user = response["responded_by_user"]
    if user is None:  # the time was up, and Airflow has taken the default
        return "timed_out", "nobody", ""
    verdict: Answer = "approved" if response["chosen_options"] == [Approval.APPROVE] else "declined"
    return verdict, user["name"] or user["id"], response["params_input"].get("why") or ""


def _why() -> Param:
    # Not named as a parameter of the DAG: what a run was asked for with would be filled in.
    return Param(
        None,
        type=["null", "string"],
        title="reason",
        description="Why you approve or reject. It is recorded with your name.",
    )
