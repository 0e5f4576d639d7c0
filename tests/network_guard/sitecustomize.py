"""Refuses and records every network attempt of this process.

The test session puts this folder on PYTHONPATH, so that Python loads it at the start of every child process too.
Attempts are written to a file, because a library may swallow the error. A test that starts a server of its own names
its port in LUMBAR_LOOPBACK_PORT: connections to that port of this machine are let through. "any" stands for all ports
of the loopback interface, for servers that choose theirs.
"""

import os
import socket
import traceback
from typing import Any

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _refuse(what: str) -> None:
    path = os.environ.get("LUMBAR_NETWORK_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123  # runs before anything is imported
            file.write(what + "\n" + "".join(traceback.format_stack(limit=12)) + "\n")
    raise OSError(f"network attempt in a test: {what}")


def _is_loopback(address: Any) -> bool:
    if os.environ.get("LUMBAR_LOOPBACK_PORT") != "any":
        return False
    host = address[0] if isinstance(address, tuple) else address
    return isinstance(host, str) and (host in ("localhost", "::1") or host.startswith("127."))


def _guarded(original: Any) -> Any:
    def connect(self: socket.socket, address: Any) -> Any:
        port = os.environ.get("LUMBAR_LOOPBACK_PORT", "")
        here = _is_loopback(address) or (port.isdigit() and address == ("127.0.0.1", int(port)))
        if self.family != socket.AF_UNIX and not here:
            _refuse(f"connect to {address!r}")
        return original(self, address)

    return connect


def _lookup(name: str) -> Any:
    original = getattr(socket, name)

    def refuse(*arguments: Any, **more: Any) -> Any:
        if arguments and _is_loopback(arguments[0]):
            return original(*arguments, **more)
        return _refuse(f"{name} of {arguments[:1]!r}")

    return refuse


if os.environ.get("LUMBAR_NETWORK_LOG"):
    socket.socket.connect = _guarded(_connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = _guarded(_connect_ex)  # type: ignore[method-assign]
    for _name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "create_connection"):
        setattr(socket, _name, _lookup(_name))
