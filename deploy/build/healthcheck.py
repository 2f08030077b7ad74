"""Exit code 0 if the gateway in this container answers 200, else 1 and a sentence. `healthcheck.py [/livez|/readyz]`.

The standard library alone, and no import of ours: it runs every few seconds.
"""

import http.client
import os
import sys
from urllib.parse import urlsplit

_SECONDS = 4


def main(path: str) -> int:
    port = int(os.environ.get("PORT", "8000"))
    # A name that is always among the allowed ones, whatever ALLOWED_HOSTS says.
    host = urlsplit(os.environ.get("PUBLIC_URL", "")).hostname or "127.0.0.1"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        said = answer.read(1024).decode(errors="replace")
    except (OSError, http.client.HTTPException) as fault:
        sys.stdout.write(f"{path}: no answer ({type(fault).__name__}).\n")
        return 1
    sys.stdout.write(f"{path}: {answer.status} {said}\n")
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "/livez"))
