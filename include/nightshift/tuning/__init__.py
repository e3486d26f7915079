"""A laboratory: many configurations of a family lived through on versions that were fitted once.

Which data to train on, how often, and what threshold: :func:`tune` tells.
"""

from nightshift.tuning.configurations import duration, read
from nightshift.tuning.tuning import Line, Outcome, Progress, Question, Report, tune
