"""The guard itself: an attempt is refused here and in a child process, and leaves a trace."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def test_attempts_are_refused_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "attempts.txt"
    monkeypatch.setenv("LUMBAR_NETWORK_LOG", str(record))
    with pytest.raises(OSError, match="network attempt"):
        socket.create_connection(("example.org", 80))
    with pytest.raises(OSError, match="network attempt"), socket.socket() as item:
        item.connect(("127.0.0.1", 9))
    code = "import socket; socket.getaddrinfo('example.org', 80)"
    child = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)
    assert child.returncode != 0
    text = record.read_text()
    assert "create_connection" in text
    assert "127.0.0.1" in text
    assert "getaddrinfo" in text


def test_only_the_port_of_a_tests_own_server_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "attempts.txt"
    monkeypatch.setenv("LUMBAR_NETWORK_LOG", str(record))
    with socket.socket() as server, socket.socket() as client, socket.socket() as other:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = server.getsockname()[1]
        monkeypatch.setenv("LUMBAR_LOOPBACK_PORT", str(port))
        client.connect(("127.0.0.1", port))
        assert not record.exists()
        with pytest.raises(OSError, match="network attempt"):
            other.connect(("127.0.0.1", port + 1))
