"""A project: the files that ``nightshift init`` writes, and how they follow upgrades."""

from nightshift.project.project import Renewal, begin, outdated, renew
