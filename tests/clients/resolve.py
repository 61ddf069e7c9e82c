"""Asks the DNS server of DNS_ADDRESS, with no library: one UDP query for an address."""
import os
import random
import socket
import struct


def resolve(name):
    """The IPv4 addresses of a name; none when it has none."""
    host, port = os.environ["DNS_ADDRESS"].rsplit(":", 1)
    number = random.getrandbits(16)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    query = struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.sendto(query, (host, int(port)))
        answer = asking.recv(4096)
    found, _, _, answers, _, _ = struct.unpack(">6H", answer[:12])
    assert found == number, "the answer to another question"
    at, addresses = len(query), []
    for _ in range(answers):
        # The name is a pointer of two bytes, or labels.
        while answer[at] and answer[at] < 0xC0:
            at += answer[at] + 1
        at += 2 if answer[at] else 1
        kind, _, _, length = struct.unpack(">HHIH", answer[at:at + 10])
        at += 10
        if kind == 1:
            addresses.append(socket.inet_ntoa(answer[at:at + length]))
        at += length
    return addresses
