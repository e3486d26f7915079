"""From labelled snapshots to a challenger, and back: what a manifest says can be made again."""

from nightshift.training.estimators import THREADS, build
from nightshift.training.exclusions import Exclusion, exclude, goes_on_from
from nightshift.training.fitting import estimator_problems, fit, fresh, truth_of
from nightshift.training.onnx_export import Parity, export
from nightshift.training.rehearsal import fit_problem, rehearse
from nightshift.training.reproduction import Reproduction, as_learnt, planned, reproduce
from nightshift.training.rivalry import Choice, choose, rival_gains, spans
from nightshift.training.rows import (
    INSTANT,
    Plan,
    Rows,
    Span,
    labelled_rows,
    learnt_until,
    least_rows,
    plan,
    with_holdout,
    without_learnt,
    young,
)
