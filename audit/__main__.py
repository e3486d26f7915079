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
REFUSED, UNKNOWN = 1, 3
OURS = "nightshift"


@dataclass(frozen=True)
class Licence:
    """What a package says of its licence; ``allowed`` says why that will do, None that it won't."""

    package: str
    version: str
    stated: str
    allowed: str | None


class Rules:
    """``licences.yaml``, read."""

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self._names = {
            name.lower(): licence
            for licence, names in rules["allowed"].items()
            for name in (licence, *names)
        }
        self._ignored = {name.lower() for name in rules["ignored"]}
        self._packages: Mapping[str, str] = rules["packages"]

    def judge(self, package: str, version: str, licences: Iterable[str]) -> Licence:
        """Whether a package may be used that says these licences all hold, each an expression."""
        stated = [name for name in licences if name.lower() not in self._ignored]
        chosen = self._packages.get(package)
        if chosen is None and stated and all(map(self._holds, stated)):
            chosen = "licences.yaml"
        return Licence(package, version, "; ".join(stated) or "nothing", chosen)

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
        str(line).rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or ()
        if str(line).startswith("License ::")
    ]
    text = about["License"].strip().splitlines() if "License" in about else []
    return classified or text[:1]


def installed(rules: Rules) -> list[Licence]:
    """The licence of each installed package but ours, by name."""
    licences = {
        package.metadata["Name"]: rules.judge(
            package.metadata["Name"], package.version, licences_of(package)
        )
        for package in distributions()
        if package.metadata["Name"] != OURS
    }
    return [licences[name] for name in sorted(licences, key=str.lower)]


def audit_licences(report: Path) -> int:
    """Write the list, print what is not allowed; the exit code."""
    rules = Rules(yaml.safe_load((Path(__file__).parent / "licences.yaml").read_text()))
    licences = installed(rules)
    report.parent.mkdir(parents=True, exist_ok=True)
    with report.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["package", "version", "licence", "allowed by"])
        lines.writerows([of.package, of.version, of.stated, of.allowed] for of in licences)
    refused = [licence for licence in licences if licence.allowed is None]
    for licence in refused:
        print(
            f"{licence.package} {licence.version} says {licence.stated}: not in audit/licences.yaml"
        )
    print(f"licences: {len(licences)} packages, {len(refused)} not allowed; {report}")
    return REFUSED if refused else 0


def vulnerabilities(command: list[str], report: Path) -> int:
    """Ask about the pinned packages, write the answer, print what is known; the exit code."""
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(completed.stdout)["dependencies"]
    except (ValueError, KeyError):
        message = (completed.stderr.strip().splitlines() or ["nothing"])[-1]
        print(
            "vulnerabilities: UNKNOWN, for the service could not be asked. Run this where it can"
            f" be reached. pip-audit said: {message[:300]}"
        )
        return UNKNOWN
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(packages, indent=2))
    unasked = [package["name"] for package in packages if "skip_reason" in package]
    flaws = [(package, bug) for package in packages for bug in package.get("vulns", ())]
    for package, bug in flaws:
        fixed = ", ".join(bug["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {bug['id']}, mended in {fixed}")
    print(f"vulnerabilities: {len(packages)} packages, {len(flaws)} known; {report}")
    if unasked:
        print(f"vulnerabilities: UNKNOWN of {', '.join(unasked)}")
    return REFUSED if flaws else UNKNOWN if unasked else 0


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
    return REFUSED if REFUSED in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
