"""Input from outside is accepted or refused with a message, and never ends the agent."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from guestagent.errors import ConfigurationError, GuestAgentError
from guestagent.guest.api.server import LineSplitter, serve_stream
from guestagent.guest.report.status import Status
from guestagent.guest.service.requests import Requests
from guestagent.guest.state.config import load
from guestagent.guest.state.holds import Holds
from guestagent.json_fields import JsonError, Obj
from guestagent.protocol import MAX_LINE_BYTES, Request, WireError, parse_request
from tests.fakes.system import FakeSystem
from tests.unit.guest.service.test_requests import FakeAgent

Error = TypeVar("Error", bound=Exception)
MAC = "52:54:00:00:00:01"
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([MAC, "bond0", "standby", "vf", "auto"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
keys = st.sampled_from(["v", "id", "request", "arguments", "to", "bond", "hold_s", "x"])
lines = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(keys, values, max_size=6).map(lambda form: json.dumps(form).encode()),
    st.just(b"[" * 2_000),
)


def refusal(call: Callable[[], object], kind: type[Error]) -> Error | None:
    """Return the error of this kind that a call ends with, None for a good end."""
    try:
        call()
    except kind as error:
        return error
    return None


def answered(requests: Requests, request: Request) -> str:
    return json.dumps(dict(asyncio.run(requests(request))))


def read_status(form: object) -> Status:
    return Status.from_json(Obj.of(form))


@given(lines)
def test_a_line_is_a_request_or_is_refused(line: bytes) -> None:
    refused = refusal(lambda: parse_request(line), WireError)
    assert refused is None or refused.hint


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(min_value=1, max_value=50))
def test_lines_do_not_depend_on_how_they_come_in(parts: list[bytes], size: int) -> None:
    stream = b"\n".join(parts) + b"\n"
    whole, pieces = LineSplitter(), LineSplitter()
    found: list[bytes | WireError] = []
    for at in range(0, len(stream), size):
        found += pieces.feed(stream[at : at + size])
    assert found == whole.feed(stream)


@given(st.lists(lines, min_size=1, max_size=6))
def test_every_line_gets_one_answer_and_the_conversation_goes_on(sent: list[bytes]) -> None:
    stream = b"\n".join([*sent, b'{"v": 1, "id": "last", "request": "hello"}']) + b"\n"
    expected = sum(bool(line.strip()) for line in stream.split(b"\n"))
    answers: list[bytes] = []

    async def incoming() -> AsyncIterator[bytes]:
        yield stream

    async def send(data: bytes) -> None:
        answers.append(data)

    async def handle(_: Request) -> Mapping[str, object]:
        return {"done": True}

    asyncio.run(serve_stream(incoming(), send, handle))
    assert len(answers) == expected
    assert all(answer.endswith(b"\n") and len(answer) <= MAX_LINE_BYTES for answer in answers)
    last = Obj.parse(answers[-1])
    assert (last.string("id"), last.boolean("ok")) == ("last", True)


names = st.sampled_from(["hello", "status", "switch", "announce", "undo", "adopt", "dance"])
arguments = st.dictionaries(
    st.sampled_from(["to", "bond", "hold_s", "after", "active"]), values, max_size=4
)
at_once = st.sampled_from([0, 0.0, -1, "0", None, float("nan"), float("inf")])


@given(st.lists(st.tuples(names, arguments), max_size=4), at_once)
def test_no_argument_ends_the_agent(
    asked: list[tuple[str, dict[str, object]]], timeout_s: object
) -> None:
    system = FakeSystem()
    system.kernel.plug("ens2", MAC, driver="virtio_net")
    system.kernel.plug("ens3", MAC)
    system.engine().converge()
    with tempfile.TemporaryDirectory() as directory:
        holds = Holds(Path(directory), lambda: system.now_s)
        requests = Requests(FakeAgent(system=system, holds=holds))
        for name, given_arguments in asked:
            # None stands for the default, half a minute, which nobody waits for here.
            own = {"timeout_s": 0 if timeout_s is None else timeout_s} | given_arguments
            request = Request(id=1, name=name, arguments=Obj(own, "arguments"))
            refused = refusal(partial(answered, requests, request), GuestAgentError)
            assert refused is None or 0 < len(str(refused)) < 1000, "nothing comes back at length"


@given(values)
def test_a_report_is_a_status_or_is_refused(value: object) -> None:
    for form in (value, {"version": 1, "agent": "running", "pairs": [value]}):
        refused = refusal(partial(read_status, form), JsonError)
        assert refused is None or str(refused)


toml_keys = st.sampled_from(
    ["bond-name", "exclude", "control-group", "bond", "health", "pair", "miimon-ms", "nics", "x"]
)
toml_values = st.one_of(
    st.booleans().map(lambda value: str(value).lower()),
    st.integers(min_value=-(2**63), max_value=2**63 - 1).map(str),
    st.sampled_from(['""', '"%d"', '"bond%d"', '"always"', "[]", "[1]", '["x"]', "{}", "nan"]),
    st.sampled_from(["9" * 5000, "0x" + "f" * 5000, f"[0x{'f' * 5000}]", "[" * 2000]),
    st.sampled_from([f'["{MAC}"]', f'{{"{MAC}" = {{}}}}', "{ miimon-ms = 50 }", "1979-05-27"]),
)
toml = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.one_of(
            st.tuples(toml_keys, toml_values).map(" = ".join),
            toml_keys.map(lambda key: f"[{key}]"),
        ),
        max_size=6,
    ).map("\n".join),
)


@given(st.lists(toml, min_size=1, max_size=3))
def test_a_configuration_is_a_policy_or_names_what_is_wrong(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        main = Path(directory) / "guestagent.toml"
        main.write_bytes(texts[0].encode(errors="surrogatepass"))
        drop_ins = Path(directory) / "guestagent.toml.d"
        drop_ins.mkdir()
        for number, text in enumerate(texts[1:]):
            (drop_ins / f"{number}.toml").write_bytes(text.encode(errors="surrogatepass"))
        refused = refusal(lambda: load(main), ConfigurationError)
        assert refused is None or (directory in refused.message and refused.hint)
