"""A real mail server for the tests: takes mail on a free port of the loopback and writes each message into a directory.

    smtp_server.py DIRECTORY [--silent]

DIRECTORY/port says where it listens, once it does. Each accepted message becomes a file of JSON, `from`, `to` and `data`.
With --silent it takes the text of a message and says nothing more until DIRECTORY/let-go is there; DIRECTORY/holding
says that it does so. It ends when its standard input does, so that it outlives no test.
"""

import asyncio
import itertools
import json
import pathlib
import sys

from aiosmtpd.smtp import SMTP

POLL_SECONDS = 0.02


class Mailbox:
    """What aiosmtpd asks when a message is complete."""

    def __init__(self, directory, silent):
        self.directory = directory
        self.silent = silent
        self.numbers = itertools.count()

    async def handle_DATA(self, server, session, envelope):
        if self.silent:
            (self.directory / "holding").touch()
            while not (self.directory / "let-go").exists():
                await asyncio.sleep(POLL_SECONDS)
        message = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            # Every byte is one character, so that nothing is lost and nothing refused.
            "data": envelope.content.decode("latin-1"),
        }
        write(self.directory / f"{next(self.numbers)}.json", json.dumps(message))
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
