"""The manuals say all that there is, their examples work, and groff has nothing to object to."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from guestagent import errors, protocol
from guestagent.guest.cli import main as guest_cli
from guestagent.guest.core.journal_ids import JournalId
from guestagent.guest.report.metrics import METRICS
from guestagent.guest.report.status import PairStatus, PortStatus, RefusalStatus, Status
from guestagent.guest.state import config as guest_config
from guestagent.guest.state.holds import Holds
from guestagent.host.cli import main as host_cli
from guestagent.host.config import description as host_config
from guestagent.json_fields import Obj
from tests.fakes.system import FakeSystem
from tests.lint.test_interfaces import PROGRAMS, commands, options
from tests.lint.tree import ROOT
from tests.unit.guest.service.test_requests import FakeAgent, ask

MANUALS = ROOT / "packaging" / "man"
PAGES = sorted(path.name for path in MANUALS.iterdir())
EXAMPLES = {
    "guestagent.toml.5": guest_config.EXAMPLE,
    "guestagent-host.toml.5": host_config.EXAMPLE,
}
PARSERS = {"guestagent": guest_cli._parser, "guestagent-host": host_cli._parser}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_well_formed_and_in_a_package(page: str) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", str(MANUALS / page)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    lists = (ROOT / "packaging" / "debian").glob("*.manpages")
    assert f"packaging/man/{page}" in "".join(path.read_text() for path in lists).split()


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_option_and_exit_code_has_its_place(program: str) -> None:
    page = plain(f"{program}.8")
    words = set(commands(program)).union(*(options(program, name) for name in commands(program)))
    assert sorted(word for word in words if not has(page, word)) == []
    status = page.partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {int(number) for number in re.findall(r"\b\d+\b", status)} == codes


@pytest.mark.parametrize("page", EXAMPLES)
def test_every_key_of_a_configuration_has_its_place(page: str) -> None:
    keys = re.findall(r"^(?:# )?([\w-]+) =", EXAMPLES[page], re.MULTILINE)
    assert keys
    assert sorted(key for key in keys if not has(plain(page), key)) == []


def test_every_request_error_and_key_of_the_status_has_its_place(tmp_path: Path) -> None:
    page = plain("guestagent-protocol.7")
    forms = (Status, PairStatus, PortStatus, RefusalStatus)
    keys = [field.name for form in forms for field in fields(form)]
    words = [*known_requests(tmp_path), *keys, *error_codes()]
    assert sorted(word for word in words if not has(page, word)) == []
    for limit in (protocol.MAX_LINE_BYTES, protocol.MAX_DEPTH, protocol.VERSION):
        assert has(page, str(limit))


def test_every_message_id_and_metric_has_its_place() -> None:
    page = plain("guestagent.8")
    assert [word for word in [*JournalId, *METRICS] if not has(page, word)] == []


def test_the_examples_of_commands_can_be_typed() -> None:
    typed = [
        shlex.split(line)
        for page in PAGES
        for line in "\n".join(examples(page)).splitlines()
        if line.partition(" ")[0] in PROGRAMS
    ]
    assert {words[0] for words in typed} == set(PROGRAMS)
    for words in typed:
        PARSERS[words[0]]().parse_args(words[1:])


def test_the_examples_of_the_protocol_are_of_the_protocol(tmp_path: Path) -> None:
    lines = "\n".join(examples("guestagent-protocol.7")).splitlines()
    seen = [Obj.parse(line) for line in lines if line.startswith("{")]
    assert [item.has("request") for item in seen] == [True, False, False]
    for line in lines:
        found = re.search(r"\{.*\}", line)
        if found is not None and '"request"' in line:
            assert protocol.parse_request(found[0].encode()).name in known_requests(tmp_path)


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_examples_of_configurations_are_read(page: str, tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    texts = examples(page)
    assert texts
    for text in texts:
        file.write_text(text)
        if page == "guestagent.toml.5":
            guest_config.load(file)
        else:
            host_config.load(file)


def known_requests(directory: Path) -> list[str]:
    """Ask an agent what it can be asked."""
    agent = FakeAgent(system=FakeSystem(), holds=Holds(directory))
    names = ask(agent, "hello")["requests"]
    assert isinstance(names, list)
    return names


def error_codes() -> set[str]:
    """Return the codes by which an answer tells what kind of error it is."""
    kinds = (errors.GuestAgentError("x"), errors.BusyError("x"), protocol.WireError("x"))
    replies = [protocol.parse_object(protocol.encode_error(None, error)) for error in kinds]
    return {reply.object("error").string("code") for reply in replies}


def plain(page: str) -> str:
    """Return the source of a page as it is read."""
    text = (MANUALS / page).read_text()
    return text.replace("\\-", "-").replace("\\(aq", "'").replace("\\(oq", "'")


def examples(page: str) -> list[str]:
    """Return the texts between .EX and .EE."""
    return re.findall(r"^\.EX\n(.*?)^\.EE$", plain(page), re.MULTILINE | re.DOTALL)


def has(text: str, word: str) -> bool:
    """Whether a word stands there by itself."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None
