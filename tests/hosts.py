"""Two hosts for tests: network namespaces with an address and a name each, a wire between them and nothing else."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """The names of two namespaces, 10.77.0.1 and 10.77.0.2."""
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip`: install iproute2")
    names = [f"ragvec-{os.getpid()}-{host}" for host in (1, 2)]
    made = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            wires = [f"rv{os.getpid()}{host}"[-15:] for host in (1, 2)]
            ip("link", "add", wires[0], "netns", names[0], "type", "veth", "peer", "name", wires[1], "netns", names[1])
            for host, (name, wire) in enumerate(zip(names, wires, strict=True), 1):
                ip("-n", name, "addr", "add", f"10.77.0.{host}/24", "dev", wire)
                ip("-n", name, "link", "set", wire, "name", "wire")
                ip("-n", name, "link", "set", "wire", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.strip()}")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)


def on(host: str, *command: str) -> list[str]:
    """A command as it runs on a host, in the process that starts it."""
    return ["ip", "netns", "exec", host, *command]


def under_its_name(host: str, *command: str) -> list[str]:
    """As `on`, where the machine is called like the host, too."""
    return on(host, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host, *command)
