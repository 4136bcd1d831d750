"""``/etc/guestagent/guestagent.toml`` and its drop-ins, as a Policy.

Without a file every option has its default. Drop-ins of ``guestagent.toml.d`` are read in the
order of their names; a key in a later file replaces the earlier one, table by table. An unknown
key or an invalid value is an error that names the file and the key, and the agent does nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from guestagent.errors import ConfigurationError
from guestagent.guest.core.policy import BondOptions, HealthOptions, PairPolicy, Policy
from guestagent.strict_toml import Table, read

CONFIGURATION = Path("/etc/guestagent/guestagent.toml")
EXAMPLE = """\
# /etc/guestagent/guestagent.toml: every key with its default
bond-name = "bond%d"      # name of new bonds; %d is the smallest free number
exclude = []              # NICs that are never bonded, by MAC, PCI address or driver:
                          # ["52:54:00:12:34:56", "0000:07:00.0", "sfc"]
control-group = ""        # group that may use the control socket beside root

[bond]                    # bond = "always" is short for a table with nics alone
nics = "pairs"            # those that have or had a VF; "always" is every virtio-net NIC;
                          # or a list as in exclude: these, and no others
miimon-ms = 100           # how often the kernel looks at the carrier of the ports
fail-over-mac = "none"    # or "active", for a VF whose driver lets nobody write its MAC
announcements = 3         # how often each address is announced after the path has moved
announcement-spacing-ms = 100

# [pair."52:54:00:12:34:56"]    the same for one pair, and what its bond is called
# bond-name = "lan0"
# miimon-ms = 50

[health]
gateway = false           # ask the default gateway through the active port
interval-s = 5
hold-down-s = 30          # a VF without a path is avoided so long, doubling up to an hour
"""
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_NIC = re.compile(
    rf"{_MAC.pattern}|[0-9a-f]{{4,}}:[0-9a-f]{{2}}:[0-9a-f]{{2}}\.[0-7]|[a-z][a-z0-9_-]*"
)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_FAIL_OVER_MAC = {"none": 0, "active": 1}
_HINT = "see guestagent.toml(5); `guestagent plan` shows the effect of a corrected file"
_NICS = "a list of NICs, each by MAC (aa:bb:cc:dd:ee:ff), PCI address (0000:07:00.0) or driver"


def load(path: Path = CONFIGURATION) -> Policy:
    """Return the policy of a file and its drop-ins. Raises ConfigurationError."""
    if path != CONFIGURATION and not path.exists():
        raise ConfigurationError(f"{path} does not exist", hint="check the path after --config")
    merged: dict[str, Any] = {}
    drop_ins = sorted(path.with_name(f"{path.name}.d").glob("*.toml"))
    for file in (item for item in (path, *drop_ins) if item.exists()):
        values = _spelled_out(read(file, hint="make it a readable UTF-8 TOML file"))
        _policy(values, file)  # an error names the file that has it
        merged = _merged(merged, values)
    return _policy(merged, path)


def _policy(values: dict[str, Any], file: Path) -> Policy:
    table = Table(values, file, hint=_HINT, separator="-")
    bond_values = table.taken("bond", f'a table, "pairs", "always", or {_NICS}', _is_table, {})
    bond = table.nested("bond", bond_values)
    health, pairs = table.optional_table("health"), table.optional_table("pair")
    nics = bond.taken("nics", f'"pairs", "always", or {_NICS}', _is_nics, "pairs")
    options = _options(bond, BondOptions())
    bond.finish()
    excluded = table.taken("exclude", _NICS, _is_nic_list, [])
    policy = Policy(
        bond_name=table.taken(
            "bond-name",
            'a short interface name with one %d, such as "bond%d"',
            _is_bond_pattern,
            Policy().bond_name,
        ),
        only=None if isinstance(nics, str) else _names(nics),
        unseen=nics != "pairs",
        excluded=_names(excluded),
        pairs=tuple(_pair(pairs, mac, options) for mac in sorted(pairs.names())),
        control_group=table.taken("control-group", "the name of a group", _is_text, "") or None,
        options=options,
        health=health.filled(HealthOptions),
    )
    table.finish()
    return policy


def _pair(pairs: Table, mac: str, options: BondOptions) -> PairPolicy:
    raw = pairs.take(mac)
    if not _MAC.fullmatch(mac) or not isinstance(raw, dict):
        raise pairs.wrong(f'"{mac}"', 'must be a table, such as [pair."52:54:00:12:34:56"]')
    table = pairs.nested(f'"{mac}"', raw)
    name = table.taken("bond-name", "an interface name of at most 15 characters", _is_name, None)
    policy = PairPolicy(mac=mac, bond_name=name, options=_options(table, options))
    table.finish()
    return policy


def _options(table: Table, default: BondOptions) -> BondOptions:
    word = table.taken(
        "fail-over-mac", '"active" or "none"', lambda value: value in (None, *_FAIL_OVER_MAC), None
    )
    number = default.fail_over_mac if word is None else _FAIL_OVER_MAC[word]
    return table.fill(BondOptions, default=default, fail_over_mac=number)


def _names(items: list[str] | tuple[str, ...]) -> frozenset[str]:
    return frozenset(item.lower() for item in items)


def _spelled_out(values: dict[str, Any]) -> dict[str, Any]:
    """Expand ``bond = "always"`` to its table, and write the MACs of pairs in lower case."""
    spelled = dict(values)
    if isinstance(spelled.get("bond"), str | list):
        spelled["bond"] = {"nics": spelled["bond"]}
    if isinstance(spelled.get("pair"), dict):
        spelled["pair"] = {mac.lower(): table for mac, table in spelled["pair"].items()}
    return spelled


def _merged(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Merge two configurations, table by table at every depth."""
    merged = {**earlier, **later}
    for name in earlier.keys() & later.keys():
        if isinstance(earlier[name], dict) and isinstance(later[name], dict):
            merged[name] = _merged(earlier[name], later[name])
    return merged


def _is_bond_pattern(value: object) -> bool:
    if not isinstance(value, str) or value.count("%d") != 1 or value.count("%") != 1:
        return False
    # The number takes four characters at most of the fifteen that a name may have.
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,11}", value.replace("%d", "0")) is not None


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return value is None or (
        isinstance(value, str) and _NAME.fullmatch(value) is not None and value.strip(".") != ""
    )


def _is_nics(value: object) -> bool:
    return value in ("pairs", "always") or _is_nic_list(value)


def _is_nic_list(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) and _NIC.fullmatch(item.lower()) for item in value
    )
