"""schemathesis on the server's OpenAPI page: whatever it sends, nothing is a 5xx, and answers are as documented."""

import re
from collections.abc import Iterator

from acceptance.finding import Finding
from acceptance.programs import Failed, Program

SECONDS = 120
SEED = 1
# A body that is too large is refused with 413 before anyone looks at it.
SETTINGS = """
[checks]
negative_data_rejection.expected-statuses = ["4xx"]
"""
# What a schema cannot say is refused too, such as a token that the vocabulary has not.
EXCLUDED = "positive_data_acceptance"


def fuzzed(program: Program, url: str) -> Iterator[Finding]:
    """All its checks but `EXCLUDED`, for two minutes."""
    program.folder.mkdir(parents=True, exist_ok=True)
    (program.folder / "schemathesis.toml").write_text(SETTINGS, encoding="utf-8")
    try:
        said = program.run(
            *("schemathesis", "run", f"{url}/openapi.json", "--max-time", str(SECONDS), "--seed", str(SEED)),
            *(
                "--checks",
                "all",
                "--exclude-checks",
                EXCLUDED,
                "--continue-on-failure",
                "--request-timeout",
                str(SECONDS),
            ),
        )
    except Failed as error:
        yield Finding("the OpenAPI page", False, str(error))
        return
    cases = re.search(r"(\d+) generated", said)
    yield Finding("the OpenAPI page", cases is not None, f"{cases and cases[1]} requests, no 5xx")
