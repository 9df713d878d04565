"""The server's surroundings: receivers that respond or hang, and a proxy that counts round trips."""

import socket
import socketserver
import struct
import threading
import time


class Listener:
    """A TCP server on this machine with one thread per connection."""

    def __init__(self, handle, port=0):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    handle(self.request)
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, block_on_close, request_queue_size = True, True, False, 128

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def lines(tcp):
    """Yields the lines received."""
    rest = b""
    while chunk := tcp.recv(65536):
        *whole, rest = (rest + chunk).split(b"\r\n")
        yield from whole


class SmtpSink(Listener):
    """Accepts and discards every mail; when hanging, accepts connections but sends nothing."""

    def __init__(self, hangs):
        self.hangs = hangs
        super().__init__(self.serve)

    def serve(self, tcp):
        if self.hangs:
            while tcp.recv(65536):
                pass
            return
        tcp.sendall(b"220 sink\r\n")
        in_data = False
        for line in lines(tcp):
            if in_data:
                in_data = line != b"."
                answer = None if in_data else b"250 taken\r\n"
            else:
                in_data = line.upper() == b"DATA"
                answer = b"354 go on\r\n" if in_data else b"250 sink\r\n"
            if answer:
                tcp.sendall(answer)


class HttpSink(Listener):
    """Responds to every request with 204 and records when each ticket's request arrived; when hanging, sends nothing."""

    def __init__(self, hangs, port=0):
        self.hangs, self.arrived = hangs, []
        super().__init__(self.serve, port)

    def serve(self, tcp):
        begun = b""
        while chunk := tcp.recv(65536):
            now = time.time()
            if self.hangs:
                continue
            if not begun:
                # The first line is `POST /hooks/7 HTTP/1.1`.
                self.arrived.append((int(chunk.split(b" ")[1].rsplit(b"/", 1)[1]), now))
            begun += chunk
            head, end, body = begun.partition(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
            if end and len(body) >= length:
                tcp.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                begun = b""


class Proxy(Listener):
    """Forwards to PostgreSQL and counts round trips: the client waits for a response to each Query and each Sync."""

    def __init__(self, port):
        self.target, self.trips = port, 0
        super().__init__(self.serve)

    def serve(self, tcp):
        server = socket.create_connection(("127.0.0.1", self.target))
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self.back, args=(server, tcp), daemon=True).start()
        rest, is_begun = b"", False
        while chunk := tcp.recv(65536):
            server.sendall(chunk)
            rest += chunk
            while len(rest) >= 5:
                # The startup message, and a TLS request before it, have no type byte.
                start = 1 if is_begun else 0
                length = struct.unpack(">I", rest[start:start + 4])[0] + start
                if len(rest) < length:
                    break
                if is_begun and rest[:1] in (b"Q", b"S"):
                    self.trips += 1
                elif not is_begun:
                    is_begun = struct.unpack(">I", rest[4:8])[0] == 196608
                rest = rest[length:]
        server.close()

    def back(self, server, tcp):
        try:
            while chunk := server.recv(65536):
                tcp.sendall(chunk)
        except OSError:
            pass
