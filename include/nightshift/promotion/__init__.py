"""The proof a challenger owes, what comes after it, and the answers of people."""

from nightshift.promotion.approvals import (
    NOBODY,
    Answer,
    Approval,
    answer,
    approval,
    ask,
    held,
    pending,
    supersede,
)
from nightshift.promotion.comparison import (
    EARLIER,
    Unopened,
    border_problems,
    compare,
    get,
    register,
    registered,
)
from nightshift.promotion.tracking import log, wanted
from nightshift.promotion.trials import Probation, Shadow, begin_shadow, beside, decided, judge
