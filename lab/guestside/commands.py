"""Runs the commands that the lab sends over a virtio-serial port (lab/machine/commands.py).

Standard library only. One JSON object a line: ``{"id", "script", "stdin", "timeout_s"}`` in,
``{"id", "code", "stdout", "stderr"}`` out, in the order in which commands end. ``code`` is None
for a command that was killed because ``timeout_s`` had passed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

# read() returns nothing at once while no host is connected (K: drivers/char/virtio_console.c,
# port_fops_read), and only SIGIO would tell of its coming.
RECONNECT_POLL_S = 0.1


def main(path: str) -> None:
    """Serve the port at ``path`` for ever."""
    port = os.open(path, os.O_RDWR)
    lock = threading.Lock()
    rest = b""
    while True:
        received = os.read(port, 65536)
        if not received:
            time.sleep(RECONNECT_POLL_S)
            continue
        *lines, rest = (rest + received).split(b"\n")
        for line in lines:
            try:
                request = json.loads(line)
            except ValueError:
                # The end of a line whose beginning went to the sender's last connection.
                continue
            threading.Thread(target=answer, args=(port, lock, request), daemon=True).start()


def answer(port: int, lock: threading.Lock, request: dict[str, Any]) -> None:
    """Run one command and write its result to the port."""
    reply = json.dumps({"id": request["id"], **execute(request)}).encode() + b"\n"
    with lock:
        while reply:
            reply = reply[os.write(port, reply) :]


def execute(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command; its background processes live on."""
    process = subprocess.Popen(
        ["/bin/bash", "-c", request["script"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(request["stdin"], timeout=request["timeout_s"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return {"code": None, "stdout": out, "stderr": err}
    return {"code": process.returncode, "stdout": out, "stderr": err}


if __name__ == "__main__":
    main(sys.argv[1])
