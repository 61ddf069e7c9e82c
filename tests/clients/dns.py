"""Raw DNS queries over UDP to DNS_ADDRESS: what is answered, as text."""
import os
import random
import socket
import struct

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "CAA": 257}
NAMES = {number: name for name, number in TYPES.items()}
CODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


def _name(message, at):
    labels, after = [], None
    while message[at]:
        if message[at] >= 0xC0:
            after = after or at + 2
            at = struct.unpack(">H", message[at : at + 2])[0] & 0x3FFF
        else:
            labels.append(message[at + 1 : at + 1 + message[at]].decode())
            at += 1 + message[at]
    return ".".join(labels), after or at + 1


def _data(kind, message, at, length):
    raw = message[at : at + length]
    if kind == "A":
        return socket.inet_ntop(socket.AF_INET, raw)
    if kind == "AAAA":
        return socket.inet_ntop(socket.AF_INET6, raw)
    if kind in ("CNAME", "NS", "PTR"):
        return _name(message, at)[0]
    if kind == "SRV":
        return "%d %d %d " % struct.unpack(">HHH", raw[:6]) + _name(message, at + 6)[0]
    if kind == "MX":
        return "%d " % struct.unpack(">H", raw[:2]) + _name(message, at + 2)[0]
    if kind == "TXT":
        texts = []
        while raw:
            texts.append('"%s"' % raw[1 : 1 + raw[0]].decode())
            raw = raw[1 + raw[0] :]
        return " ".join(texts)
    if kind == "SOA":
        primary, after = _name(message, at)
        mailbox, after = _name(message, after)
        return "%s %s %d %d %d %d %d" % (primary, mailbox, *struct.unpack(">IIIII", message[after : after + 20]))
    if kind == "CAA":
        end = 2 + raw[1]
        return '%d %s "%s"' % (raw[0], raw[2:end].decode(), raw[end:].decode())
    return raw.hex()


def ask(name, kind):
    """The response code and the answers, sorted, as `NAME TTL TYPE DATA`."""
    host, port = os.environ["DNS_ADDRESS"].rsplit(":", 1)
    number = random.randrange(65536)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    query = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", TYPES[kind], 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(query, (host.strip("[]"), int(port)))
        message = client.recv(65535)
    found, flags, questions, count, _, _ = struct.unpack(">HHHHHH", message[:12])
    assert found == number and questions == 1, message
    at = _name(message, 12)[1] + 4
    answers = []
    for _ in range(count):
        owner, at = _name(message, at)
        of, _, ttl, length = struct.unpack(">HHIH", message[at : at + 10])
        of = NAMES.get(of, str(of))
        answers.append(f"{owner} {ttl} {of} {_data(of, message, at + 10, length)}")
        at += 10 + length
    return CODES.get(flags & 15, flags & 15), sorted(answers)
