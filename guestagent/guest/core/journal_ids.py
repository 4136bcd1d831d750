"""Ids of the journal messages that programs may rely on; they never change. Pure.

``journalctl MESSAGE_ID=…`` finds them; guestagent(8) lists them with their fields.
"""

from __future__ import annotations

from enum import StrEnum


class JournalId(StrEnum):
    """MESSAGE_ID by event; the comment names the fields beside it."""

    CHANGED = "056b7a0d80c343bc9eafa135c420c78e"
    """A step of a plan was carried out: ACTION, BOND, and LINK for a port."""
    SWITCHED = "0a27483b2cab4174a6c00343721971e9"
    """The active port of a pair has another role now: BOND, PAIR, SIDE (vf or standby)."""
    ANNOUNCED = "622068b712794abea8ac3273eeb6d59c"
    """The addresses of a bond were announced: BOND, FRAMES."""
    LEFT_ALONE = "8e460a7c529d48ad89abb0473c895d54"
    """NICs with one MAC are left alone, with the reason: PAIR."""
    WAITING = "c737bcb328c343e68ea6f69c490b0490"
    """The next step needs a state that is not there yet."""
    FAILED = "737a0a4a9e1b4493b32cf843ced1462a"
    """A step failed; the network is as before, and the step is tried again."""
    HOLD_ENDED = "e60d9d528a4140d3bc79bc94f43d5385"
    """A hold on the standby has expired: PAIR."""
    PATH_LOST = "7bfe4257ed38408585ca56300a54a88d"
    """The gateway does not answer through a VF that has a carrier: BOND, PAIR."""
    CHANNEL_OPEN = "4faba4c76a324812aa87e67105a162e9"
    """The channel to the host is open."""


def fields(message: JournalId, **more: object) -> dict[str, str]:
    """Return the ``extra`` of a log call; fields without a value are left out."""
    named = {key: str(value) for key, value in more.items() if value is not None}
    return {"MESSAGE_ID": str(message), **named}
