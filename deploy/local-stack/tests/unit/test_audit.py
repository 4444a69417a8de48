import json

import pytest
from local_stack.audit import AuditError, Finding, judge, read_answers, read_report

# As pip-audit 2.10 writes it.
REPORT = json.dumps(
    {
        "dependencies": [
            {"name": "anyio", "version": "4.9.0", "vulns": []},
            {
                "name": "certifi",
                "version": "2022.12.7",
                "vulns": [
                    {
                        "id": "PYSEC-2023-135",
                        "fix_versions": ["2023.7.22"],
                        "aliases": ["CVE-2023-37920"],
                        "description": "…",
                    }
                ],
            },
            {"name": "private", "skip_reason": "Dependency not found on PyPI"},
        ],
        "fixes": [],
    }
)
FINDING = Finding("certifi", "2022.12.7", ("PYSEC-2023-135", "CVE-2023-37920"), ("2023.7.22",))


def test_a_report_names_findings_and_what_was_left_out() -> None:
    audit = read_report(REPORT)
    assert audit.findings == (FINDING,)
    assert audit.not_audited == ("private",)


def test_a_finding_without_an_answer_fails() -> None:
    lines, well = judge(read_report(REPORT), {})
    assert not well
    assert lines[0] == (
        "VULNERABLE: certifi 2022.12.7: PYSEC-2023-135, CVE-2023-37920 (fixed in 2023.7.22)"
    )
    assert "not audited: private" in lines


def test_an_answer_may_use_any_name_of_the_finding() -> None:
    lines, well = judge(read_report(REPORT), {"CVE-2023-37920": "only used in tests"})
    assert well
    assert lines[0].endswith(": only used in tests")


def test_an_answer_that_nothing_needs_is_named() -> None:
    lines, well = judge(read_report('{"dependencies": [], "fixes": []}'), {"CVE-1": "why"})
    assert well
    assert lines == ["no longer needed: the answer to CVE-1", "No known vulnerability."]


def test_answers_are_an_id_and_a_reason() -> None:
    assert read_answers("# none\n\nCVE-1  not used  # since May\n") == {"CVE-1": "not used"}
    with pytest.raises(AuditError, match="line 2 of the answers: CVE-2 has no reason"):
        read_answers("CVE-1 why\nCVE-2\n")
