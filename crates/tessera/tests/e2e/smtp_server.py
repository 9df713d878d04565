"""A real mail server for the tests: takes mail on a free port of the loopback and writes each message into a directory.

    smtp_server.py DIRECTORY [--silent]

DIRECTORY/port says where it listens, once it does. Each accepted message becomes a file of JSON, `from`, `to` and `data`.
With --silent it takes the text of a message and says nothing more until DIRECTORY/let-go is there; DIRECTORY/holding
says that it does so. It ends when its standard input does, so that it outlives no test.

DIRECTORY/manners.json, when it is there, says how it behaves: a list of `{"at", "match", "answer", "times", "then"}`. At the
command `at` (MAIL, RCPT or DATA) whose address, or whose message, has `match` in it, it gives `answer`, so many `times`; with
`then` = "hang up" it takes the message, and breaks the connection instead of answering.
"""

import asyncio
import itertools
import json
import pathlib
import sys

from aiosmtpd.smtp import SMTP

POLL_SECONDS = 0.02


class Mailbox:
    """What aiosmtpd asks at each command, and when a message is complete."""

    def __init__(self, directory, silent):
        self.directory = directory
        self.silent = silent
        self.numbers = itertools.count()
        self.used = {}

    def manner(self, at, text):
        """The manner that is told for this, if it is not used up."""
        try:
            manners = json.loads((self.directory / "manners.json").read_text())
        except FileNotFoundError:
            return None
        for number, manner in enumerate(manners):
            used = self.used.get(number, 0)
            if manner["at"] == at and manner["match"] in text and used < manner["times"]:
                self.used[number] = used + 1
                return manner
        return None

    async def answer(self, server, manner):
        """Says what the manner says. A server that says 421 closes the connection (RFC 5321, 3.8)."""
        if manner["answer"].startswith("421"):
            asyncio.get_running_loop().call_later(POLL_SECONDS, server.transport.close)
        return manner["answer"]

    async def handle_MAIL(self, server, session, envelope, address, options):
        manner = self.manner("MAIL", address)
        if manner:
            return await self.answer(server, manner)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 sender taken"

    async def handle_RCPT(self, server, session, envelope, address, options):
        manner = self.manner("RCPT", address)
        if manner:
            return await self.answer(server, manner)
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 recipient taken"

    async def handle_DATA(self, server, session, envelope):
        if self.silent:
            (self.directory / "holding").touch()
            while not (self.directory / "let-go").exists():
                await asyncio.sleep(POLL_SECONDS)
        # Every byte is one character, so that nothing is lost and nothing refused.
        text = envelope.content.decode("latin-1")
        manner = self.manner("DATA", text)
        if manner and manner.get("then") != "hang up":
            return await self.answer(server, manner)
        message = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "data": text}
        write(self.directory / f"{next(self.numbers)}.json", json.dumps(message))
        if manner:
            server.transport.abort()
        return "250 taken"


def write(path, text):
    """All of it or nothing: whoever sees the file sees it whole."""
    aside = path.with_suffix(".part")
    aside.write_text(text)
    aside.rename(path)


async def serve(directory, silent):
    loop = asyncio.get_running_loop()
    mailbox = Mailbox(directory, silent)
    server = await loop.create_server(lambda: SMTP(mailbox, hostname="mail.test", loop=loop), "127.0.0.1", 0)
    write(directory / "port", str(server.sockets[0].getsockname()[1]))
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(pathlib.Path(sys.argv[1]), "--silent" in sys.argv[2:]))
