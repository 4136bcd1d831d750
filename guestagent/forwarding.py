"""Objects that implement a Protocol by forwarding every call, derived from the Protocol itself.

The Protocol is the one list of the calls: a thread or another host needs no second one.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A coroutine method of a Protocol; ``parameters`` are the types of its arguments by name."""

    method: str
    signature: inspect.Signature
    parameters: Mapping[str, Any]
    result: Any

    def arguments(
        self, positional: tuple[object, ...], named: Mapping[str, object]
    ) -> tuple[Any, ...]:
        """Return the arguments of a call in the order of the parameters, defaults included."""
        bound = self.signature.bind(*positional, **named)
        bound.apply_defaults()
        return tuple(bound.arguments.values())

    def on(self, target: object, arguments: tuple[object, ...]) -> Any:
        """Call the method of ``target`` with arguments in the order of the parameters."""
        return getattr(target, self.method)(**dict(zip(self.parameters, arguments, strict=True)))


def wire_name(name: str) -> Callable[[_F], _F]:
    """Give a method of a Protocol another name outside of this program."""

    def mark(method: _F) -> _F:
        method.__dict__["wire_name"] = name
        return method

    return mark


def calls_of(protocol: type, *, but: frozenset[str] = frozenset()) -> Mapping[str, Call]:
    """Return the coroutine methods of a Protocol by their wire names, without those in ``but``."""
    calls = {}
    for method, function in inspect.getmembers(protocol, inspect.iscoroutinefunction):
        if method in but:
            continue
        types = typing.get_type_hints(function)
        whole = inspect.signature(function)
        _, *parameters = whole.parameters.values()
        calls[getattr(function, "wire_name", method)] = Call(
            method=method,
            signature=whole.replace(parameters=parameters),
            parameters={each.name: types[each.name] for each in parameters},
            result=types["return"] if types["return"] is not type(None) else None,
        )
    return calls


Send = Callable[[str, Call, tuple[object, ...]], Awaitable[Any]]


class Forwarder:
    """The methods in ``calls``; each passes its wire name and its arguments to ``send``."""

    def __init__(self, calls: Mapping[str, Call], send: Send) -> None:
        self._names = {call.method: name for name, call in calls.items()}
        self._calls = calls
        self._send = send

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_") or method not in self._names:
            raise AttributeError(method)
        name = self._names[method]

        def forward(*positional: object, **named: object) -> Awaitable[Any]:
            call = self._calls[name]
            return self._send(name, call, call.arguments(positional, named))

        return forward
