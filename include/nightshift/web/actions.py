"""What people may do from the pages: each is a run of Airflow's, or a step, and is recorded.

Every action is a page that says what will happen and asks for the reason, and a form on it. The
form carries a number of its own, which names the run: sent twice, it starts one run.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import AfterValidator, AwareDatetime, BaseModel, StringConstraints

from nightshift import registry
from nightshift.data import connect
from nightshift.family import ModelFamily
from nightshift.records import Hold
from nightshift.site import Site
from nightshift.web import templating
from nightshift.web.host import Act, Host, HostDep, User, UserDep, host_of
from nightshift.wording import listed, moment

if TYPE_CHECKING:
    from nightshift.promotion import Approval

_OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
"""The states of a task of Airflow's that nothing follows any more."""

router = APIRouter(include_in_schema=False, prefix="/actions/{family}")

Moment = Annotated[AwareDatetime, AfterValidator(lambda value: value.astimezone(UTC))]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Number = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,32}$")]


@dataclass(frozen=True)
class Offer:
    """What somebody may do to a family: the macros of ``parts/actions.html`` render nothing else.

    ``held`` is who holds the family, which everybody may see.
    """

    root: str
    family: str
    act: bool
    approve: bool
    held: Hold | None

    def url(self, action: str, **parameters: Any) -> str:
        """The page that asks about an action."""
        query = urlencode({key: value for key, value in parameters.items() if value is not None})
        page = f"{self.root}/actions/{quote(self.family)}/{action}"
        return f"{page}?{query}" if query else page


@dataclass(frozen=True)
class Question:
    """What a person is asked before something happens.

    ``sentences`` are about what will happen, ``buttons`` the answers: value to label.
    ``fields`` are sent along with the answer, and ``option`` is one more that may be ticked.
    """

    title: str
    sentences: tuple[str, ...]
    buttons: Mapping[str, str]
    fields: Mapping[str, Any]
    option: tuple[str, str] | None = None
    evidence: str | None = None


class Answered(BaseModel):
    """What every form sends."""

    reason: Reason
    number: Number


class OfModel(Answered):
    model: str | None = None


class Rollback(OfModel):
    version: int | None = None
    rescore: bool = False


class OfNight(Answered):
    as_of: Moment


class Verdict(Answered):
    answer: Literal["approved", "declined"]


def offers(request: Request, host: Host, user: User, families: Iterable[str]) -> dict[str, Offer]:
    """What a user may do to each of some families; asks the host twice, however many there are."""
    names = list(families)
    act, approve = host.allowed(user, names, "act"), host.allowed(user, names, "approve")
    with connect(host.site().database_url).transaction() as tx:
        held = registry.holds_now(tx, datetime.now(UTC))
    return {
        name: Offer(templating.root(request), name, name in act, name in approve, held.get(name))
        for name in names
    }


def offer(request: Request, host: Host, user: User, family: str) -> Offer:
    """What a user may do to one family."""
    return offers(request, host, user, [family])[family]


@dataclass(frozen=True)
class Actor:
    """Somebody who may do what they ask, and to which family."""

    request: Request
    host: Host
    user: User
    family: str
    site: Site

    @property
    def configured(self) -> ModelFamily:
        """The family as its folder says; a ConfigError where it does not load."""
        return self.site.family(self.family)

    def named(self, model: str | None) -> str:
        """The name of a model of the family, as reports take it."""
        return self.family if model in (None, self.family) else f"{self.family}/{model}"

    def question_page(self, question: Question) -> Response:
        """The page that asks a question."""
        return templating.page(
            self.request,
            "confirm.html",
            question=question,
            number=secrets.token_urlsafe(12),
            user=self.user,
            family=self.family,
        )

    async def start(self, kind: str, form: Answered, conf: Mapping[str, Any], **run: Any) -> str:
        """Start a run of `<family>.<kind>`, unless this form has started it; its id."""
        dag_id, run_id = f"{self.family}.{kind}", f"page-{form.number}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf, "note": form.reason}
        try:
            await self.host.call(self.request, "POST", f"/dags/{dag_id}/dagRuns", body | run)
        except HTTPException as refused:
            if refused.status_code != HTTPStatus.CONFLICT:
                raise
            return run_id
        await run_in_threadpool(self.record, kind, form.reason, run=run_id)
        return run_id

    def record(self, action: str, reason: str, **more: Any) -> None:
        """Write into the audit trail who has asked for what, and why."""
        with connect(self.site.database_url).transaction() as tx:
            tx.record(
                "asked",
                now=datetime.now(UTC),
                family=self.family,
                action=action,
                by=self.user.name,
                reason=reason,
                **more,
            )

    def redirect(self, action: str, path: str, run: str | None = None) -> Response:
        """Back to a page, which says what was done."""
        query = {"action": action, **({"run": f"{self.family}.{action}/{run}"} if run else {})}
        where = f"{templating.root(self.request)}{path}?{urlencode(query)}"
        return RedirectResponse(where, HTTPStatus.SEE_OTHER)

    @property
    def family_page(self) -> str:
        """The path of the family's page."""
        return f"/families/{quote(self.family)}"

    def model_page(self, model: str | None) -> str:
        """The path of a model's page."""
        return f"/models/{quote(self.family)}/{quote(model or self.family, safe='')}"


def _may(act: Act) -> Any:
    def actor(request: Request, family: str, user: UserDep, host: HostDep) -> Actor:
        if not host.allowed(user, [family], "read"):
            raise HTTPException(
                HTTPStatus.NOT_FOUND, f"No family is called {family!r}, or you may not see it."
            )
        if not host.allowed(user, [family], act):
            what = "start runs of" if act == "act" else "approve or reject challengers of"
            raise HTTPException(
                HTTPStatus.FORBIDDEN,
                f"{user.name} may not {what} {family!r}; whoever manages Airflow's users decides"
                " that (docs/pages.md says which permissions it takes)",
            )
        return Actor(request, host, user, family, host.site())

    return Depends(actor)


Acting = Annotated[Actor, _may("act")]
Approving = Annotated[Actor, _may("approve")]


@router.get("/retrain")
def ask_retrain(actor: Acting, model: str | None = None) -> Response:
    sentences = [
        "A challenger is trained on what is known by the last night, and compared with the"
        " champion on later rows.",
        "It serves only if it proves to be better, by the family's rules of promotion.",
    ]
    if actor.configured.models is not None and model is None:
        sentences.insert(0, "This is about every model of the family that has enough labels.")
    held = _held(actor)
    if held:
        sentences.append(f"{held} So nothing is promoted by itself: you will be asked.")
    title = f"Retrain {actor.named(model)} now"
    return actor.question_page(
        Question(title, tuple(sentences), {"": "Retrain now"}, {"model": model})
    )


@router.post("/retrain")
async def retrain(actor: Acting, form: Annotated[OfModel, Form()]) -> Response:
    conf = {"reason": form.reason, "members": [form.model] if form.model else None}
    run = await actor.start("retrain", form, conf)
    where = actor.model_page(form.model) if form.model else actor.family_page
    return actor.redirect("retrain", where, run)


@router.get("/rollback")
def ask_rollback(actor: Acting, model: str | None = None, version: int | None = None) -> Response:
    from nightshift import registry

    with connect(actor.site.database_url).transaction() as tx:
        record = registry.known_model(tx, actor.family, model or actor.family)
        served = registry.promotions(tx, record.model_id)
        bad, good = registry.way_back(record, served, version, again=True)
    sentences = (
        f"Version {bad.number}, which has served since {moment(bad.effective_from)}, makes"
        f" way for version {good.number}. Nothing is trained.",
        "The next night is scored by it; published nights stay as they are, unless you tick the"
        " box.",
    )
    return actor.question_page(
        Question(
            f"Roll {actor.named(model)} back to version {good.number}",
            sentences,
            {"": "Roll back"},
            {"model": model, "version": good.number},
            option=("rescore", "Score and publish anew the nights that the bad version scored"),
        )
    )


@router.post("/rollback")
async def rollback(actor: Acting, form: Annotated[Rollback, Form()]) -> Response:
    conf = form.model_dump(include={"model", "version", "rescore", "reason"})
    run = await actor.start("rollback", form, conf)
    return actor.redirect("rollback", actor.model_page(form.model), run)


@router.get("/score")
def ask_score(actor: Acting, as_of: Moment) -> Response:
    _with_night(actor, as_of)
    sentences = (
        "A night that was published stays as it is: its snapshot is not taken again, and its rows"
        " do not change.",
        "Where its snapshot was rejected or is missing, it is taken, validated, scored and"
        " published now.",
    )
    title = f"Run the night of {moment(as_of)} of {actor.family} again"
    return actor.question_page(
        Question(title, sentences, {"": "Run again"}, {"as_of": as_of.isoformat()})
    )


@router.post("/score")
async def score(actor: Acting, form: Annotated[OfNight, Form()]) -> Response:
    family = await run_in_threadpool(_with_night, actor, form.as_of)
    night = actor.host.partition_key(family, form.as_of)
    run = await actor.start("score", form, {}, partition_key=night)
    return actor.redirect("score", f"/nights/{quote(actor.family)}/{form.as_of.isoformat()}", run)


@router.get("/approval/{approval_id}")
def ask_approval(actor: Approving, approval_id: int) -> Response:
    approval = _pending(actor, approval_id)
    sentences = (
        approval.headline,
        f"Asked since {moment(approval.asked_at)}. What you have seen is kept with your"
        f" answer: SHA-256 {approval.evidence_hash}.",
    )
    buttons = {"approved": "Approve", "declined": "Reject"}
    return actor.question_page(
        Question(approval.subject, sentences, buttons, {}, evidence=approval.evidence)
    )


@router.post("/approval/{approval_id}")
async def answer(actor: Approving, approval_id: int, form: Annotated[Verdict, Form()]) -> Response:
    approval = await run_in_threadpool(_pending, actor, approval_id)
    waiting = await _waiting(actor, approval)
    if waiting is None:
        await run_in_threadpool(_answer, actor, approval, form)
    else:
        chosen = "Approve" if form.answer == "approved" else "Reject"
        body = {"chosen_options": [chosen], "params_input": {"why": form.reason}}
        await actor.host.call(actor.request, "PATCH", waiting, body)
    await run_in_threadpool(actor.record, form.answer, form.reason, approval=approval_id)
    return actor.redirect(form.answer, actor.model_page(approval.model.name))


@router.get("/{action}", name="hold")
def ask_hold(actor: Acting, action: Literal["hold", "release"]) -> Response:
    if action == "hold":
        sentences = (
            "No model of the family is retrained or replaced by itself any more, until somebody"
            " releases it.",
            "Nights are scored, labels collected, models measured as before. What would have been"
            " done is in the decisions. A retrain by hand is possible; its challenger then waits"
            " for an approval.",
        )
        return actor.question_page(Question(f"Hold {actor.family}", sentences, {"": "Hold"}, {}))
    sentences = (
        _held(actor) or "It is not held.",
        "From now on its models are retrained by its rules.",
    )
    return actor.question_page(Question(f"Release {actor.family}", sentences, {"": "Release"}, {}))


@router.post("/{action}")
def hold(
    actor: Acting, action: Literal["hold", "release"], form: Annotated[Answered, Form()]
) -> Response:
    from nightshift.steps import people

    change = people.hold if action == "hold" else people.release
    change(
        actor.site,
        actor.family,
        reason=form.reason,
        by=actor.user.name,
        now=datetime.now(UTC),
    )
    return actor.redirect(action, actor.family_page)


def last_action(request: Request) -> dict[str, str | None] | None:
    """What was just done, where a page is shown after an action: its name, and its run's page."""
    action = request.query_params.get("action")
    if action is None:
        return None
    dag_id, _, run_id = request.query_params.get("run", "").partition("/")
    return {"action": action, "run": host_of(request).run_url(dag_id, run_id) if run_id else None}


def _with_night(actor: Actor, as_of: datetime) -> ModelFamily:
    """The family, which must have a night at this moment, and that in the past."""
    family = actor.configured
    if family.previous_tick(min(as_of, datetime.now(UTC))) != as_of:
        raise HTTPException(
            HTTPStatus.CONFLICT,
            f"{family.family} has no night at {moment(as_of, seconds=as_of.second > 0)} that is"
            f" over: its nights are those of schedule.score, {family.schedule.score!r} in"
            f" {family.schedule.timezone}",
        )
    return family


def _held(actor: Actor) -> str | None:
    with connect(actor.site.database_url).transaction() as tx:
        held = registry.hold_on(tx, actor.family, datetime.now(UTC))
    return f"{actor.family} is {held}." if held else None


def _pending(actor: Actor, approval_id: int) -> Approval:
    """The approval, if it is one of the family's that nobody has answered."""
    from nightshift import promotion

    with connect(actor.site.database_url).transaction() as tx:
        approval = promotion.approval(tx, approval_id)
        waits = any(waiting.approval_id == approval_id for waiting in promotion.pending(tx))
    if approval.model.family != actor.family:
        sentence = f"approval {approval_id} is not about {actor.family}"
        raise HTTPException(HTTPStatus.NOT_FOUND, sentence)
    if not waits:
        raise HTTPException(
            HTTPStatus.CONFLICT,
            f"approval {approval_id} ({approval.versions}) has been answered, or a newer challenger"
            " has taken its place; the model's page says how",
        )
    return approval


async def _waiting(actor: Actor, approval: Approval) -> str | None:
    """Where Airflow takes the answer; None where no run of it waits for one any more.

    Raises
    ------
    HTTPException
        It has been given, and the run is about to carry it out.
    """
    dag = f"/dags/{actor.family}.retrain/dagRuns"
    query = urlencode({"body_search": approval.evidence_hash, "limit": 100})
    reply = await actor.host.call(actor.request, "GET", f"{dag}/~/hitlDetails?{query}")
    mark = f"Approval {approval.approval_id};"
    for detail in reply["hitl_details"]:
        task = detail["task_instance"]
        if mark not in (detail["body"] or ""):
            continue
        if detail["response_received"]:
            raise HTTPException(
                HTTPStatus.CONFLICT,
                f"{(detail['responded_by_user'] or {}).get('name') or 'nobody'} has answered in"
                f" Airflow: {listed(detail['chosen_options'] or ())}; its run carries that out",
            )
        if task["state"] not in _OVER:
            run, place = quote(task["dag_run_id"], safe=""), task["map_index"]
            return f"{dag}/{run}/taskInstances/{task['task_id']}/{place}/hitlDetails"
    return None


def _answer(actor: Actor, approval: Approval, form: Verdict) -> None:
    """Answer as the command line does, unless somebody was faster."""
    from nightshift import registry
    from nightshift.steps import people

    decision_id = people.answer(
        actor.site,
        approval.approval_id,
        form.answer,
        actor.user.name,
        reason=form.reason,
        now=datetime.now(UTC),
    )
    with connect(actor.site.database_url).transaction() as tx:
        decision = registry.decision(tx, decision_id)
    if decision.rule != form.answer:
        raise HTTPException(HTTPStatus.CONFLICT, decision.reason)
