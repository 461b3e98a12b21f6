"""Starting the proxy, and asking it what it did."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIXTURE = {
    **{"slow_down": 0.3, "internal_error": 0.2, "reset": 0.15, "reset_after": 0.15},
    **{"reset_inside": 0.1, "cut": 0.1},
}
"""Shares of the faults; silence apart, which costs a test the seconds of a timeout each time."""


def rates(share: float, stalls: float = 0.0) -> dict[str, float]:
    """Rates of all faults together, and of silence, in shares of all requests."""
    return {name: part * share for name, part in MIXTURE.items()} | {"stall": stalls}


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs.

    Attributes:
        address: Where it listens.
    """

    address: str

    def counts(self) -> dict[str, int]:
        """Requests so far, and faults by name."""
        with urllib.request.urlopen(f"{self.address}/-/faults", timeout=10) as answer:
            return dict(json.loads(answer.read()))

    def set(self, rates: Mapping[str, float]) -> None:
        """Other rates from now on."""
        body = json.dumps(rates).encode()
        urllib.request.urlopen(f"{self.address}/-/rates", body, timeout=10).close()


@contextmanager
def proxy(
    upstream: str, rates: Mapping[str, float], seed: int = 0, port: int = 0
) -> Iterator[Proxy]:
    """A proxy before a server of this machine, for as long as the block lasts; port 0: any."""
    behind = upstream.rpartition(":")[2]
    command = [
        sys.executable,
        "-m",
        "tests.faults.proxy",
        "--upstream",
        behind,
        "--port",
        str(port),
    ]
    command += ["--rates", json.dumps(rates), "--seed", str(seed)]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout is not None
        yield Proxy(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.communicate()
