"""The smallest network stack: the example of CONTRIBUTING.md, which keeps the contract."""

from __future__ import annotations

from pathlib import Path

from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.base import NetworkStack, Nic, Ownership, Strength
from guestagent.guest.stacks.files import read_or_none, stack_file


class Example(NetworkStack):
    """Configures ``ens3`` by the file ``/etc/example/ens3``, and notices new files itself."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.etc, self.run = root / "etc/example", root / "run/example"
        self.directories = (self.run,)

    def ownership(self, nic: Nic) -> Ownership:
        configured = (self.etc / nic.link.name).exists()
        return Ownership(Strength.CONFIGURED if configured else Strength.NO)

    def files(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        content = read_or_none(self.etc / nic.link.name) if owned else None
        return () if content is None else (stack_file(self.run / nic.bond, content),)

    def give_back(self, bond: str) -> None:
        (self.run / bond).unlink(missing_ok=True)
