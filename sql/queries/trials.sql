-- name: begin_shadow
-- A challenger scores beside the champion from now on.
insert into nightshift.shadows
    (model_id, version_id, instead_of, decision_id, comparison_id, starts, ends, carried)
values
    (:model_id, :version_id, :instead_of, :decision_id, :comparison_id, :starts, :ends, cast(:carried as jsonb))
on conflict (decision_id) do nothing;

-- name: shadows
-- The shadows that have begun by a moment and that nothing was decided about, the oldest first: of a family or of a model.
select s.shadow_id, s.model_id, m.name as model, s.version_id as newer, s.instead_of as older, s.comparison_id,
       v.number, s.starts, s.ends, champion.version_id as champion, s.carried,
       coalesce(cast(o.inputs ->> 'below' as boolean), false) as below, c.champion_value, c.perfect
from nightshift.open_shadows() s
join nightshift.models m using (model_id)
join nightshift.versions v using (version_id)
join nightshift.comparisons c using (comparison_id)
join nightshift.decisions o on o.decision_id = c.decision_id
join lateral nightshift.promotion_at(s.model_id, 'infinity') champion on true
where m.family = :family
  and (cast(:model_id as int) is null or s.model_id = :model_id)
  and s.starts <= cast(:as_of as timestamptz)
order by s.shadow_id;

-- name: probations
-- The champions of a family whose probation a moment lies in, with the champions before them, unless they were rolled back to.
select p.model_id, m.name as model, p.seq, p.version_id as newer, v.number, p.effective_from as starts,
       q.version_id as older, w.number as older_number, q.reference
from nightshift.models m
join lateral nightshift.promotion_at(m.model_id, 'infinity') p on true
join nightshift.decisions d on d.decision_id = p.decision_id and d.kind = 'promote'
join nightshift.promotions q on q.model_id = p.model_id and q.seq = p.seq - 1 and q.version_id <> p.version_id
join nightshift.versions v on v.version_id = p.version_id
join nightshift.versions w on w.version_id = q.version_id
where m.family = :family
  and p.effective_from <= cast(:as_of as timestamptz)
  and p.effective_from > cast(:since as timestamptz)
order by p.model_id;

-- name: rows
-- What versions told of the nights in (start, end], each row with its latest label known by a moment.
select r.entity_id, r.as_of, r.version_id, r.role, r.score, r.label, r.value
from nightshift.labelled_rows(:family, cast(:start as timestamptz), cast(:end as timestamptz), cast(:known_by as timestamptz)) r
where r.version_id = any(cast(string_to_array(cast(:versions as text), ',') as int[]))
order by r.as_of, r.entity_id;

-- name: append
-- Store what a trial has come to at a moment; the first one stays.
insert into nightshift.trials
    (model_id, as_of, kind, older, newer, metric, nights, row_count, difference, evidence, needed, judged_at)
values
    (:model_id, :as_of, :kind, :older, :newer, :metric, :nights, :row_count, :difference, :evidence, :needed,
     :judged_at)
on conflict (model_id, as_of, kind, newer) do nothing;

-- name: append_approval
-- Keep what a person is asked to approve; the first evidence of a comparison stays.
insert into nightshift.approvals (comparison_id, evidence, evidence_hash, asked_at)
values (:comparison_id, :evidence, :evidence_hash, :asked_at)
on conflict (comparison_id) do nothing;

-- name: approvals
-- Approvals, the oldest first: all of them, or only one, those of a comparison, of a model, about whose comparison or shadow something was decided, unanswered.
select a.approval_id, d.decision_id, m.model_id, m.family, m.name as model, v.version_id, v.number,
       c.champion_version, champion.number as champion_number, a.evidence, a.asked_at, d.as_of, c.reference
from nightshift.approvals a
join nightshift.comparisons c using (comparison_id)
join nightshift.decisions d using (decision_id)
join nightshift.versions v on v.version_id = c.challenger_version
left join nightshift.versions champion on champion.version_id = c.champion_version
join nightshift.models m on m.model_id = v.model_id
where (cast(:approval_id as int) is null or a.approval_id = :approval_id)
  and (cast(:comparison_id as int) is null or a.comparison_id = :comparison_id)
  and (cast(:model_id as int) is null or m.model_id = :model_id)
  and (cast(:decision_ids as int[]) is null or exists (
      select from nightshift.decisions about
      left join nightshift.shadows s on about.about = 'shadow' and s.shadow_id = about.about_id
      where about.decision_id = any(:decision_ids)
        and (about.about = 'comparison' and about.about_id = a.comparison_id or s.comparison_id = a.comparison_id)))
  and (not :pending or a.approval_id in (select o.approval_id from nightshift.open_approvals() o))
order by a.approval_id;

-- name: find_answer
-- What an approval was answered with.
select decision_id from nightshift.answers where approval_id = :approval_id;

-- name: append_answer
-- Who has answered an approval, how, and on which evidence.
insert into nightshift.answers (approval_id, answer, said_by, evidence_hash, decision_id, answered_at)
values (:approval_id, :answer, :said_by, :evidence_hash, :decision_id, :answered_at);

-- name: lock_answers
-- One answer at a time, and none while another decision is made: the lock that every decision takes.
select pg_advisory_xact_lock(hashtext('nightshift.decisions'));
