"""Calls of a Protocol, and objects that forward them."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import pytest

from guestagent.forwarding import Call, Forwarder, calls_of, wire_name


class Shop(Protocol):
    """Samples of each kind of method."""

    async def buy(self, what: str, *, price: float = 1.0) -> int:
        """Take both kinds of arguments, with a default."""
        ...

    @wire_name("end")
    async def close(self) -> None:
        """Have another name outside."""
        ...

    def name(self) -> str:
        """Be no coroutine, and so no call."""
        ...


CALLS = calls_of(Shop)


def test_the_calls_are_the_coroutine_methods_with_their_types() -> None:
    assert set(CALLS) == {"buy", "end"}
    assert CALLS["buy"].parameters == {"what": str, "price": float}
    assert CALLS["buy"].result is int
    assert CALLS["end"].result is None
    assert set(calls_of(Shop, but=frozenset({"close"}))) == {"buy"}


def test_a_forwarder_sends_the_arguments_in_order_with_defaults() -> None:
    sent: list[tuple[object, ...]] = []

    async def send(name: str, call: Call, arguments: tuple[object, ...]) -> object:
        sent.append((name, call.method, *arguments))
        return len(sent)

    async def scenario() -> None:
        shop: Any = Forwarder(CALLS, send)
        assert await shop.buy("x") == 1
        assert await shop.buy(what="y", price=2.0) == 2
        await shop.close()
        with pytest.raises(AttributeError):
            shop.sell()
        with pytest.raises(TypeError):
            await shop.buy()

    asyncio.run(scenario())
    assert sent == [("buy", "buy", "x", 1.0), ("buy", "buy", "y", 2.0), ("end", "close")]


def test_a_call_reaches_the_target_by_the_names_of_the_parameters() -> None:
    class Kiosk:
        async def buy(self, what: str, *, price: float = 1.0) -> int:
            return len(what) * int(price)

    async def scenario() -> int:
        result: int = await CALLS["buy"].on(Kiosk(), ("abc", 2.0))
        return result

    assert asyncio.run(scenario()) == 6
