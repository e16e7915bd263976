"""Interfaces by name and address."""

from __future__ import annotations

import socket

import pytest

from weiml.errors import ClusterError
from weiml.group import WorkerGroupConfig
from weiml.group.rendezvous import Rendezvous, interface_address, interface_name


def test_loopback_has_its_address_and_name() -> None:
    name = interface_name("127.0.0.1")
    assert name in [known for _, known in socket.if_nameindex()]
    assert interface_address(name) == "127.0.0.1"


def test_an_unknown_interface_names_the_known() -> None:
    with pytest.raises(ClusterError, match="interface 'eth77' has no IPv4 address.*it has .*lo"):
        interface_address("eth77")
    with pytest.raises(ClusterError, match=r"has the address 203\.0\.113\.7"):
        interface_name("203.0.113.7")


@pytest.mark.parametrize("interface", ["loopback", "auto", interface_name("127.0.0.1")])
def test_the_store_listens_on_the_chosen_interface_only(interface: str) -> None:
    config = WorkerGroupConfig(num_workers=2, interface=interface)
    meeting = Rendezvous(config, 0, 2, node_address="127.0.0.1")
    host, port = meeting.listen()
    assert host == "127.0.0.1"
    socket.create_connection((host, port), timeout=5).close()
    with open("/proc/net/tcp", encoding="ascii") as table, open("/proc/net/tcp6") as table6:
        lines = [*table.readlines()[1:], *table6.readlines()[1:]]
    listening = [words[1] for words in map(str.split, lines) if words[3] == "0A"]
    assert [at for at in listening if at.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
