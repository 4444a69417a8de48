"""`make audit`: known vulnerabilities among the locked dependencies, as pip-audit finds them.

A finding fails unless `deploy/audit-answers.txt` answers it: one a line, `<id> <reason>`, and `#`
starts a comment. Without the vulnerability service nothing can be audited; that is said, and does
not fail. Whether the service answers is asked with a release that certainly has a vulnerability: a
mirror of the package index knows of none, and pip-audit then takes every package for clean.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# PYSEC-2023-135: root certificates that were withdrawn.
_VULNERABLE: Final = "certifi==2022.12.7\n"
_TIMEOUT: Final = 600.0


class AuditError(Exception):
    """pip-audit or the answers cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A known vulnerability of a locked release."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fix yet"
        return f"{self.package} {self.version}: {', '.join(self.ids)} ({fix})"


@dataclass(frozen=True, slots=True)
class Audit:
    """What pip-audit said."""

    findings: tuple[Finding, ...]
    not_audited: tuple[str, ...]


def read_report(text: str) -> Audit:
    """pip-audit's JSON."""
    findings: list[Finding] = []
    not_audited: list[str] = []
    dependencies: list[dict[str, Any]] = json.loads(text)["dependencies"]
    for dependency in dependencies:
        name: str = dependency["name"]
        if "skip_reason" in dependency:
            not_audited.append(name)
            continue
        findings += [
            Finding(
                name,
                dependency["version"],
                (vulnerability["id"], *vulnerability["aliases"]),
                tuple(vulnerability["fix_versions"]),
            )
            for vulnerability in dependency["vulns"]
        ]
    return Audit(tuple(findings), tuple(not_audited))


def read_answers(text: str) -> dict[str, str]:
    """Reasons by vulnerability id.

    Raises:
        AuditError: an answer without a reason.
    """
    answers: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        id_, _, reason = line.partition("#")[0].strip().partition(" ")
        if id_ and not reason.strip():
            msg = f"line {number} of the answers: {id_} has no reason; write `<id> <reason>`"
            raise AuditError(msg)
        if id_:
            answers[id_] = reason.strip()
    return answers


def judge(audit: Audit, answers: Mapping[str, str]) -> tuple[list[str], bool]:
    """What to print, and whether all is well."""
    lines: list[str] = []
    well = True
    used: set[str] = set()
    for finding in audit.findings:
        answered = [id_ for id_ in finding.ids if id_ in answers]
        used.update(answered)
        if answered:
            lines.append(f"answered: {finding}: {answers[answered[0]]}")
        else:
            well = False
            lines.append(f"VULNERABLE: {finding}")
    lines += [f"not audited: {name}" for name in audit.not_audited]
    lines += [f"no longer needed: the answer to {id_}" for id_ in answers if id_ not in used]
    if not well:
        lines.append("Update the package (make lock), or answer it in deploy/audit-answers.txt.")
    elif not audit.findings:
        lines.append("No known vulnerability.")
    return lines, well


def _pip_audit(requirements: Path) -> Audit:
    """Raises AuditError: the vulnerability service did not answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements)]
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        result = subprocess.run(  # noqa: S603 - no shell, our own interpreter
            [*command, *options], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        msg = f"no answer within {_TIMEOUT:g} seconds"
        raise AuditError(msg) from None
    # With findings it fails as well, but not without a report.
    if not result.stdout.lstrip().startswith("{"):
        reason = result.stderr.strip().splitlines() or [f"pip-audit ended with {result.returncode}"]
        raise AuditError(reason[-1])
    return read_report(result.stdout)


def _why_not() -> str | None:
    """Why nothing can be audited here, None if it can."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(_VULNERABLE, encoding="utf-8")
        try:
            audit = _pip_audit(requirements)
        except AuditError as error:
            return str(error)
    if audit.findings:
        return None
    return "what answers in its place knows of no vulnerability"


def main(lock: Path, answers: Path) -> int:
    """Audit `lock`; the exit status."""
    known = read_answers(answers.read_text(encoding="utf-8"))
    if (reason := _why_not()) is not None:
        sys.stdout.write(f"SKIPPED: the vulnerability service cannot be reached ({reason}).\n")
        return 0
    lines, well = judge(_pip_audit(lock), known)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except AuditError as error:
        sys.exit(f"audit: {error}")
