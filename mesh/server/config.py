"""The configuration of the embedded server."""

from __future__ import annotations

import json
from pathlib import Path

from mesh.durability import PROFILES
from mesh.errors import ServerError

ACCOUNT = "MESH"
SYSTEM_USER = "sys"

# 2.15 allows 1,000 consumers per stream unless told otherwise.
MAX_CONSUMERS = 20_000

TEMPLATE = """\
server_name: {server_name}
host: {host}
port: {port}
jetstream {{
  store_dir: {store_dir}
  {sync}
  limits {{ default_max_consumers: {max_consumers} }}
}}
accounts {{
  {account} {{ jetstream: enabled, users: [ {{ user: anyone }} ] }}
  SYS {{ users: [ {{ user: {system_user}, password: {system_password} }} ] }}
}}
system_account: SYS
no_auth_user: anyone
{extra}
"""


def render(
    store_dir: Path,
    *,
    server_name: str,
    host: str,
    port: int | None,
    durability: str,
    system_password: str,
    extra: str,
) -> str:
    """The text of `nats.conf`.

    Whoever connects without credentials is in the account `MESH`; the system account is for disconnect events. With a
    system account of its own the server has no global account, so JetStream is enabled for ours by name.
    """
    return TEMPLATE.format(
        server_name=_quoted(server_name),
        host=_quoted(host),
        port=-1 if port is None else port,
        store_dir=_quoted(str(store_dir)),
        sync=_sync(durability),
        max_consumers=MAX_CONSUMERS,
        account=ACCOUNT,
        system_user=SYSTEM_USER,
        system_password=_quoted(system_password),
        extra=extra,
    )


def _sync(durability: str) -> str:
    if durability not in PROFILES:
        raise ServerError(f"durability {durability!r} is not known", hint=", ".join(PROFILES))
    return "sync_interval: always" if PROFILES[durability].flushed else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
