"""What checks say travels between environments as lines among others."""

from acceptance.finding import Finding, checked, expect, read_findings


def fails(subject: int) -> str:
    expect(subject == 1, f"{subject} is not 1")
    return "it is"


def test_a_check_says_what_it_found_or_what_is_wrong() -> None:
    found = [*checked({"one": fails}, 1), *checked({"two": fails, "boom": lambda subject: str(1 // subject)}, 0)]
    assert [finding.passed for finding in found] == [True, False, False]
    assert [finding.found for finding in found][:2] == ["it is", "Wrong: 0 is not 1"]
    assert "ZeroDivisionError" in found[2].found


def test_findings_are_read_among_other_lines() -> None:
    findings = [Finding('a "quoted"\nname', True, "\u2028"), Finding("b", False, "")]
    output = "\n".join(["a warning", *(finding.as_json() for finding in findings), '{"other": 1}'])
    assert read_findings(output.splitlines()) == findings
