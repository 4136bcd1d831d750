"""One writer: the second is refused, or waits until the first has ended."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from guestagent.errors import BusyError
from guestagent.guest.state.lock import WriterLock


def test_a_second_writer_is_refused_or_waits(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path), WriterLock(tmp_path)
    first.take()
    with pytest.raises(BusyError):
        second.take()
    waiting = threading.Thread(target=second.wait)
    waiting.start()
    first.release()
    waiting.join(30)
    assert not waiting.is_alive()
    with pytest.raises(BusyError):
        first.take()
    second.release()
    first.take()
    first.release()
