"""The proof a challenger owes, what comes after it, and the answers of people."""

from nightshift.promotion.approvals import (
    NOBODY,
    Answer,
    Approval,
    approval,
    ask,
    open_approvals,
    pending,
    supersede,
)
from nightshift.promotion.comparison import (
    EARLIER,
    Scorer,
    Unopened,
    border_problems,
    compare,
    opened,
    register,
    registered,
    stored_comparison,
)
from nightshift.promotion.memory import KEPT, PAUSE, recall
from nightshift.promotion.outcome import Proof, answer, by_hand, carry_out, end_probation, roll_back
from nightshift.promotion.tracking import log, wanted
from nightshift.promotion.trials import (
    Probation,
    Shadow,
    begin_shadow,
    beside,
    decided,
    judge,
    learning,
    looked_at,
)
