"""A stand-in for AWS's session-manager-plugin, as the aws command starts it: SESSION REGION StartSession PROFILE TARGET ENDPOINT.

Speaks the data channel of the session over a WebSocket made by hand: what it reads on its standard input is typed, what the
command says is written to its standard output. Lines of input that begin with ! are orders: !size COLS ROWS, !ignore (the next
message of the command is not acknowledged), !again (the last message is sent once more), !end (the session is terminated).
"""
import base64
import hashlib
import json
import os
import queue
import socket
import struct
import sys
import threading
import time
import urllib.parse
import uuid

HEAD = ">I32sIQqQ16s32sI"


def frame(kind, sequence, flags, payload_type, payload):
    own = uuid.uuid4().bytes
    return struct.pack(
        HEAD, 116, kind.encode().ljust(32), 1, int(time.time() * 1000), sequence, flags, own[8:] + own[:8],
        hashlib.sha256(payload).digest(), payload_type,
    ) + struct.pack(">I", len(payload)) + payload


def parsed(wire):
    head, kind, version, created, sequence, _, own, digest, payload_type = struct.unpack(HEAD, wire[:116])
    (length,) = struct.unpack(">I", wire[head:head + 4])
    payload = wire[head + 4:]
    assert (head, version, length) == (116, 1, len(payload)) and created, wire
    assert hashlib.sha256(payload).digest() == digest, wire
    return kind.decode().strip(), sequence, uuid.UUID(bytes=own[8:] + own[:8]), payload_type, payload


class WebSocket:
    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        fields = {}
        while (line := self.file.readline().strip()):
            name, value = line.decode().split(":", 1)
            fields[name.lower()] = value.strip()
        if self.status == 101:
            accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert fields["sec-websocket-accept"] == base64.b64encode(accept).decode(), fields

    def send(self, payload, opcode=2):
        mask = os.urandom(4)
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack(">H", size)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def receive(self):
        """Opcode and payload; (8, b"") when it is over."""
        head = self.file.read(2)
        if len(head) < 2:
            return 8, b""
        size = head[1] & 0x7f
        if size == 126:
            (size,) = struct.unpack(">H", self.file.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.file.read(8))
        return head[0] & 0x0f, self.file.read(size)


class Session:
    def __init__(self, session, told):
        self.told, self.sent, self.expected, self.last = told, 0, 0, b""
        self.ignore, self.waiting, self.resent = False, set(), 0
        self.socket = WebSocket(session["streamUrl"])
        assert self.socket.status == 101, self.socket.status
        self.socket.send(json.dumps({
            "MessageSchemaVersion": "1.0", "RequestId": str(uuid.uuid4()), "TokenValue": session["tokenValue"],
            "ClientId": str(uuid.uuid4()), "ClientVersion": "1.2.707.0"}).encode(), opcode=1)

    def type(self, payload, payload_type=1):
        self.last = frame("input_stream_data", self.sent, 0, payload_type, payload)
        self.waiting.add(self.sent)
        self.sent += 1
        self.socket.send(self.last)

    def acknowledge(self, kind, sequence, own):
        self.socket.send(frame("acknowledge", 0, 3, 0, json.dumps({
            "AcknowledgedMessageType": kind, "AcknowledgedMessageId": str(own),
            "AcknowledgedMessageSequenceNumber": sequence, "IsSequentialMessage": True}).encode()))

    def run(self):
        """Until the channel is closed; what it closes with."""
        while True:
            opcode, wire = self.socket.receive()
            if opcode == 8:
                return None
            kind, sequence, own, payload_type, payload = parsed(wire)
            if kind == "acknowledge":
                self.waiting.discard(json.loads(payload)["AcknowledgedMessageSequenceNumber"])
            elif kind == "channel_closed":
                return json.loads(payload)
            elif kind == "output_stream_data":
                if sequence == self.expected and self.ignore and payload_type == 1:
                    self.ignore = False
                    continue
                if sequence > self.expected:
                    continue
                self.acknowledge(kind, sequence, own)
                if sequence < self.expected:
                    self.resent += 1
                    continue
                self.expected += 1
                self.hear(payload_type, payload)

    def hear(self, payload_type, payload):
        if payload_type == 5:
            (action,) = json.loads(payload)["RequestedClientActions"]
            assert action["ActionType"] == "SessionType", action
            assert action["ActionParameters"]["SessionType"] == "InteractiveCommands", action
            done = {"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": None, "Error": ""}
            self.type(json.dumps({
                "ClientVersion": "1.2.707.0", "ProcessedClientActions": [done], "Errors": None}).encode(), 6)
        elif payload_type == 7:
            assert json.loads(payload)["HandshakeTimeToComplete"] >= 0, payload
            self.told("ready", b"")
        else:
            assert payload_type == 1, payload_type
            self.told("said", payload)

    def order(self, line):
        word, *more = line.split()
        if word == "!size":
            self.type(json.dumps({"cols": int(more[0]), "rows": int(more[1])}).encode(), 3)
        elif word == "!ignore":
            self.ignore = True
        elif word == "!again":
            self.socket.send(self.last)
        elif word == "!end":
            self.type(struct.pack(">I", 2), 10)


def main():
    session, _, operation, _, target, _ = sys.argv[1:7]
    assert operation == "StartSession", sys.argv
    assert json.loads(target)["Target"].startswith("ecs:"), target
    session = {name[0].lower() + name[1:]: value for name, value in json.loads(session).items()}
    ready = queue.Queue()

    def told(what, payload):
        if what == "ready":
            ready.put(True)
        sys.stdout.buffer.write(payload)
        sys.stdout.buffer.flush()

    channel = Session(session, told)

    def typing():
        ready.get()
        for line in sys.stdin:
            if line.startswith("!"):
                channel.order(line)
            else:
                channel.type(line.encode().replace(b"\n", b"\r"))

    threading.Thread(target=typing, daemon=True).start()
    closed = channel.run()
    assert closed and closed["SessionId"] == session["sessionId"], closed
    print(f"\nExiting session with sessionId: {session['sessionId']}. {closed['Output']}")
    assert not channel.waiting, f"not acknowledged: {channel.waiting}"


if __name__ == "__main__":
    main()
