"""A D-Bus client that checks every answer: bus.py SOCKET. Says "ready" after the first ones, and PASS with their number on SIGTERM."""

import os
import signal
import socket
import struct
import sys

stopped = False


def stop(*_):
    global stopped
    stopped = True


def padded(data, to):
    return data + b"\0" * (-len(data) % to)


def text(value):
    return struct.pack("<I", len(value)) + value.encode() + b"\0"


def call(serial, member, *arguments):
    body = b""
    for argument in arguments:
        body = padded(body, 4) + text(argument)
    wanted = [(1, "o", "/org/freedesktop/DBus"), (6, "s", "org.freedesktop.DBus"), (2, "s", "org.freedesktop.DBus"), (3, "s", member)]
    fields = b""
    for code, kind, value in wanted:
        fields = padded(fields, 8) + bytes([code, 1]) + kind.encode() + b"\0" + text(value)
    if arguments:
        signature = "s" * len(arguments)
        fields = padded(fields, 8) + bytes([8, 1]) + b"g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
    head = b"l\1\0\1" + struct.pack("<III", len(body), serial, len(fields))
    return padded(head + fields, 8) + body


def exactly(bus, count):
    data = b""
    while len(data) < count:
        got = bus.recv(count - len(data))
        if not got:
            sys.exit("FAIL: the bus closed the connection")
        data += got
    return data


def message(bus):
    """Type, serial that it answers, and the body."""
    head = exactly(bus, 16)
    body, _, fields = struct.unpack("<III", head[4:])
    rest = exactly(bus, fields + (-fields % 8) + body)
    at, answers = 0, 0
    while at < fields:
        at += -at % 8
        code, length = rest[at], rest[at + 1]
        kind = rest[at + 2 : at + 2 + length].decode()
        at += 3 + length
        if kind == "u":
            at += -at % 4
            if code == 5:
                (answers,) = struct.unpack_from("<I", rest, at)
            at += 4
        elif kind == "g":
            at += rest[at] + 2
        else:
            at += -at % 4
            at += struct.unpack_from("<I", rest, at)[0] + 5
    return head[1], answers, rest[fields + (-fields % 8) :]


def main():
    signal.signal(signal.SIGTERM, stop)
    bus = socket.socket(socket.AF_UNIX)
    bus.connect(sys.argv[1])
    bus.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
    if not bus.recv(200).startswith(b"OK "):
        sys.exit("FAIL: not let in")
    bus.sendall(b"BEGIN\r\n")
    serial = 0

    def ask(member, *arguments):
        nonlocal serial
        serial += 1
        bus.sendall(call(serial, member, *arguments))
        while True:
            kind, answers, body = message(bus)
            if kind == 2 and answers == serial:
                return body
            if kind == 3:
                sys.exit(f"FAIL: {member} was answered with an error")

    name = ask("Hello")[4:].rstrip(b"\0").decode()
    bus_id = ask("GetId")
    print("ready", flush=True)
    while not stopped:
        if ask("GetId") != bus_id:
            sys.exit("FAIL: the bus is another one")
        if struct.unpack("<I", ask("GetConnectionUnixProcessID", name))[0] != os.getpid():
            sys.exit("FAIL: the bus takes us for another process")
        if struct.unpack("<I", ask("NameHasOwner", name))[0] != 1:
            sys.exit("FAIL: the name is gone")
    print(f"PASS {serial}", flush=True)


main()
