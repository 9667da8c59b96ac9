"""python -m acceptance.openai_client (all|small) URL MODEL [KEY]: prints findings as lines of JSON."""

import sys

from acceptance.finding import checked
from acceptance.openai_client import chat, completions, failures
from acceptance.openai_client.clients import NO_KEY, Server

SETS = {
    "all": {**completions.CHECKS, **chat.CHECKS, **failures.CHECKS},
    "small": failures.SMALL_SERVER_CHECKS,
}

if __name__ == "__main__":
    which, url, model, *key = sys.argv[1:]
    server = Server(url, model, key[0] if key else NO_KEY)
    for finding in checked(SETS[which], server):
        print(finding.as_json(), flush=True)
