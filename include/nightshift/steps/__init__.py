"""What a task calls, by the DAG that calls it; nothing is imported before it is needed.

Every step takes the site and the present moment ``now`` (aware, UTC); ``as_of`` is the moment that
the step's work claims to know. Each step may run twice: the second run finds what the first did.
Every refusal is in the audit trail before it leaves a step.
"""
