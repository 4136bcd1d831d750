"""Programs that are run to their end, and the end of those that are not."""

from __future__ import annotations

import subprocess
from pathlib import Path

from guestagent.errors import SystemLacksError


def run(
    *argv: str | Path,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float = 600,
) -> str:
    """Run a program and return what it wrote to stdout.

    :raise SystemLacksError: it is missing, failed, or took longer than ``timeout_s``;
        the text carries the end of its stderr.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            env=env,
            timeout=timeout_s,
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError as error:
        raise SystemLacksError(
            f"{words[0]} is missing", hint="install it with: sudo ./dev setup"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SystemLacksError(f"{' '.join(words)} took longer than {timeout_s} s") from error
    except subprocess.CalledProcessError as error:
        raise SystemLacksError(
            f"{' '.join(words)} failed with {error.returncode}: {error.stderr.strip()[-2000:]}"
        ) from error
    return done.stdout


def end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Ask a program to end, and end it when it has not by then."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
