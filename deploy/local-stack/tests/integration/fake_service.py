"""A small program that keeps to the contract of the services.

`fake_service.py STATE [migrate]`: the file STATE holds the ids of the events that it was given, by
somebody who signed in with the password in its environment. It fails to migrate while the file
`STATE.broken` exists.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

STATE = Path(sys.argv[1])
TOKEN = "token-of-the-administrator"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/ready":
            self.answer({})
        elif self.path.startswith("/api/v1/movies"):
            known = set(STATE.read_text().split())
            self.answer({"items": [], "total": len(known)})
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/api/v1/auth/token":
            form = dict(parse_qsl(body.decode()))
            if (form["username"], form["password"]) == ("admin", os.environ["EXPECTED_PASSWORD"]):
                self.answer({"access_token": TOKEN, "expires_in": 600})
            else:
                self.send_error(400)
            return
        if self.headers["authorization"] != f"Bearer {TOKEN}":
            self.send_error(401)
            return
        events = json.loads(body)
        if self.headers["content-type"] != "application/cloudevents-batch+json":
            self.send_error(415)
            return
        with STATE.open("a") as state:
            state.writelines(f"{event['id']}\n" for event in events)
        self.answer({})

    def answer(self, body: object) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the log for what the tests look for."""


def main() -> None:
    if sys.argv[2:] == ["migrate"]:
        if STATE.with_name(f"{STATE.name}.broken").exists():
            raise SystemExit("relation movies is not what it should be")
        STATE.touch()
        return
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["HTTP_PORT"])), Handler)

    def stop(*_: object) -> None:
        sys.stderr.write("stopped in an orderly way\n")
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()


main()
