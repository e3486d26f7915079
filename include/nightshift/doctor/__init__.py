"""Whether an installation is in order: what is wrong, and what to do about each thing."""

from nightshift.doctor.examination import CHECKS, Examination, examine
from nightshift.doctor.findings import Finding, Limits
