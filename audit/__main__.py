"""Known vulnerabilities of pinned packages, and the licences of installed ones. ``make audit``.

Exit codes: 0 nothing was found; 1 a vulnerability, or a licence that is not allowed; 3 the
vulnerability service could not be asked, so that nobody knows (licences are told all the same).
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import yaml

HOME = Path(__file__).resolve().parents[1]
FOUND, UNKNOWN = 1, 3
OURS = "nightshift"


@dataclass(frozen=True)
class Licence:
    """What a package says of its licence; ``allowed`` says why that will do, None that it won't."""

    package: str
    version: str
    told: str
    allowed: str | None


class Rules:
    """``licences.yaml``, read."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._names = {
            name.lower(): licence
            for licence, names in told["allowed"].items()
            for name in (licence, *names)
        }
        self._ignored = {name.lower() for name in told["ignored"]}
        self._packages: Mapping[str, str] = told["packages"]

    def judge(self, package: str, version: str, licences: Iterable[str]) -> Licence:
        """Whether a package may be used that says these licences all hold, each an expression."""
        told = [one for one in licences if one.lower() not in self._ignored]
        chosen = self._packages.get(package)
        if chosen is None and told and all(map(self._holds, told)):
            chosen = "licences.yaml"
        return Licence(package, version, "; ".join(told) or "nothing", chosen)

    def _holds(self, expression: str) -> bool:
        """SPDX, as far as packages use it: ``A AND B``, ``A OR B``, ``(A OR B) AND C``."""
        if expression.lower() in self._names:
            return True
        for word, enough in ((" AND ", all), (" OR ", any)):
            parts = _split(expression, word)
            if len(parts) > 1:
                return enough(map(self._holds, parts))
        inner = re.fullmatch(r"\((.*)\)", expression)
        return inner is not None and self._holds(inner[1])


def _split(expression: str, word: str) -> list[str]:
    """The parts between a word, where that is in no brackets."""
    parts, depth, start = [], 0, 0
    for place, sign in enumerate(expression):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and expression.startswith(word, place):
            parts.append(expression[start:place])
            start = place + len(word)
    return [*parts, expression[start:]]


def licences_of(distribution: Distribution) -> list[str]:
    """What a package says: an expression, or classifiers, or the first line of a text."""
    about = distribution.metadata
    if "License-Expression" in about:
        return [about["License-Expression"]]
    classified = [
        str(one).rpartition(" :: ")[2]
        for one in about.get_all("Classifier") or ()
        if str(one).startswith("License ::")
    ]
    text = about["License"].strip().splitlines() if "License" in about else []
    return classified or text[:1]


def installed(rules: Rules) -> list[Licence]:
    """The licence of each installed package but ours, by name."""
    found = {
        one.metadata["Name"]: rules.judge(one.metadata["Name"], one.version, licences_of(one))
        for one in distributions()
        if one.metadata["Name"] != OURS
    }
    return [found[name] for name in sorted(found, key=str.lower)]


def audit_licences(report: Path) -> int:
    """Write the list, print what is not allowed; the exit code."""
    rules = Rules(yaml.safe_load((Path(__file__).parent / "licences.yaml").read_text()))
    found = installed(rules)
    report.parent.mkdir(parents=True, exist_ok=True)
    with report.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["package", "version", "licence", "allowed by"])
        lines.writerows([one.package, one.version, one.told, one.allowed] for one in found)
    refused = [one for one in found if one.allowed is None]
    for one in refused:
        print(f"{one.package} {one.version} says {one.told}: not in audit/licences.yaml")
    print(f"licences: {len(found)} packages, {len(refused)} not allowed; {report}")
    return FOUND if refused else 0


def vulnerabilities(command: list[str], report: Path) -> int:
    """Ask about the pinned packages, write the answer, print what is known; the exit code."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        print(
            "vulnerabilities: UNKNOWN, for the service could not be asked. Run this where it can"
            f" be reached. pip-audit said: {said[:300]}"
        )
        return UNKNOWN
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(packages, indent=2))
    unasked = [one["name"] for one in packages if "skip_reason" in one]
    known = [(one, bug) for one in packages for bug in one.get("vulns", ())]
    for one, bug in known:
        fixed = ", ".join(bug["fix_versions"]) or "no version"
        print(f"{one['name']} {one['version']}: {bug['id']}, mended in {fixed}")
    print(f"vulnerabilities: {len(packages)} packages, {len(known)} known; {report}")
    if unasked:
        print(f"vulnerabilities: UNKNOWN of {', '.join(unasked)}")
    return FOUND if known else UNKNOWN if unasked else 0


def main() -> int:
    build = HOME / "build" / "audit"
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(HOME / "requirements.txt"),
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    codes = (
        audit_licences(build / "licences.csv"),
        vulnerabilities(command, build / "vulnerabilities.json"),
    )
    return FOUND if FOUND in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
