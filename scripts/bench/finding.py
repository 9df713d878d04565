"""P9 and P10: searches over generated tickets: compiled SQL against the best handwritten SQL, and a late page against the first."""

import base64
import json
import os
import re
import subprocess
import sys
import time

import searches
from figures import Row
from house import BINARY, HERE, Server, median, spread, until

SIZES = (100_000, 1_000_000)
SEED = 1
# Seconds for which a statement is repeated in each round, and the minimum and maximum number of repetitions.
STRETCH, TIMES_MIN, TIMES_MAX = 0.3, 3, 3000
# Tickets per page. With 1,000,000 tickets, this makes page 10,000 the middle one.
PAGE = 50
# Session settings.
PREPARED = "SET jit = off; SET plan_cache_mode = force_custom_plan;"


class Store:
    """A database with generated tickets, imported with `tessera import`, and a server on it."""

    def __init__(self, bench, tickets):
        self.pg, self.tickets, self.name = bench.pg, tickets, f"tickets_{tickets}"
        self.pg.sql(f"CREATE DATABASE {self.name}", database="postgres")
        url = self.pg.url(database=self.name)
        self.server = Server(url)
        # The memory has no room for gigabytes of WAL in addition to the tickets.
        self.pg.setting("max_wal_size", "1GB")
        begun = time.monotonic()
        generated = subprocess.Popen([sys.executable, HERE / "generate.py", "--tickets", str(tickets), "--seed", str(SEED)], stdout=subprocess.PIPE)
        settings = {"TESSERA_DATA_DIR": str(self.server.dir), "TESSERA_DATABASE__URL": url}
        imported = subprocess.run([BINARY, "import", "--create-missing", "-"], stdin=generated.stdout, env=os.environ | settings, capture_output=True, text=True)
        if imported.returncode or generated.wait():
            raise SystemExit(f"the import failed: {imported.stderr[-3000:]}")
        self.imported_in = time.monotonic() - begun
        self.pg.setting("max_wal_size")
        self.sql("VACUUM ANALYZE")
        self.sql("CHECKPOINT")
        self.ids = self.known()

    def sql(self, text):
        return self.pg.sql(text, self.name)

    def known(self):
        """Returns the ids that the handwritten SQL refers to."""
        named = self.sql("SELECT name, id FROM custom_fields UNION ALL SELECT name, id FROM queues UNION ALL SELECT username, id FROM users WHERE username = 'agent7'"
                         f" UNION ALL SELECT 'person', id FROM users WHERE lower(email) = '{searches.PERSON}'")
        days = [(name, f"rpad(lpad(to_hex((extract(epoch FROM timestamptz '{day}+00') * 1000)::bigint), 12, '0'), 32, '0')::uuid")
                for name, day in zip(("since", "until"), searches.WEEK)]
        return {name: f"'{one}'::uuid" for name, one in named} | {name: f"'{self.sql(f'SELECT {day}')[0][0]}'::uuid" for name, day in days}

    def compiled(self, query, order=(), cursor=None):
        """Returns the statement that a search compiles to, with its parameters."""
        body = {"query": query, "order": [{"field": one, "direction": "desc"} for one in order], "limit": PAGE, "cursor": cursor}
        told = self.server.ask("POST", "/api/tickets/search/explain", body)
        return Statement(self, told["sql"], told["binds"])

    def stop(self):
        self.server.stop()
        until(lambda: not self.sql("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"), "closing the server's connections")
        self.pg.sql(f"DROP DATABASE {self.name}", database="postgres")


class Statement:
    """A statement with its parameters, timed the way a server sends it."""

    def __init__(self, store, text, binds=()):
        self.store, self.text, self.binds = store, " ".join(text.split()), list(binds)
        self.script = store.pg.dir / f"search-{id(self)}.sql"
        named = self.text
        for number in range(len(self.binds), 0, -1):
            named = named.replace(f"${number}::", f":p{number}::")
        self.script.write_text(named + ";\n")
        self.took, self.times = [], TIMES_MIN

    def execute(self, before=""):
        """Runs the statement in psql with its parameters."""
        if not self.binds:
            return self.store.sql(f"{PREPARED} {before} {self.text}")
        values = ", ".join("'" + value.replace("'", "''") + "'" for value in self.binds)
        # Parameters that the statement does not use have no cast; declare them as text.
        casts = dict(re.findall(r"\$(\d+)::(\w+(?:\[\])?)", self.text))
        types = ", ".join(casts.get(str(number), "text") for number in range(1, len(self.binds) + 1))
        return self.store.sql(f"{PREPARED} PREPARE search ({types}) AS {self.text}; {before} EXECUTE search ({values})")

    def tickets(self):
        """Returns the ids of the tickets found, in order."""
        return [row[0] for row in self.execute()]

    def buffers(self):
        """Returns the number of buffers that the statement reads."""
        plan = json.loads(self.execute("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)")[0][0])[0]["Plan"]
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    def once(self, times):
        variables = {f"p{number}": value for number, value in enumerate(self.binds, 1)}
        return self.store.pg.latency(self.script, times, variables, self.store.name)

    def warm(self):
        """Warms up, and determines how many repetitions fit into STRETCH seconds."""
        took = self.once(TIMES_MIN)
        if took < 20:
            # A new connection starts with empty catalog caches.
            took = self.once(20 * TIMES_MIN)
        self.times = max(TIMES_MIN, min(TIMES_MAX, int(STRETCH * 1000 / took)))

    def measure(self):
        self.took.append(self.once(self.times))

    def median(self):
        return median(self.took)


def p9_p10(bench):
    """P9 and P10: searches over 100,000 and 1,000,000 tickets against the best handwritten SQL, and a late page against the first."""
    rows = []
    for tickets in SIZES[:1] if bench.is_quick else SIZES:
        store = Store(bench, tickets)
        try:
            print(f"    {tickets:,} tickets imported in {store.imported_in:,.0f} s", file=sys.stderr, flush=True)
            rows += against_hand(bench, store) + far_down(bench, store)
        finally:
            store.stop()
    return rows


def against_hand(bench, store):
    """P9: each search, alternating with its handwritten statements."""
    rows, ratios = [], []
    for search in searches.searches():
        ours = store.compiled(search.query, search.order)
        hands = [Statement(store, text.format(**store.ids)) for text in search.by_hand]
        found = ours.tickets()
        for hand in hands:
            if hand.tickets() != found:
                raise SystemExit(f"{search.query}: the handwritten and the compiled statement return different tickets:\n{hand.text}\n{ours.text}")
        for one in (ours, *hands):
            one.warm()
        for _ in range(bench.rounds):
            for one in (ours, *hands):
                one.measure()
        best = min(hands, key=Statement.median)
        each = [mine / floor for mine, floor in zip(ours.took, best.took)]
        ratios.append((ours.median() / best.median(), search.what))
        rows.append(Row("P9", f"{store.tickets:,}: {search.what}", f"{ours.median():.3g} ms", f"{best.median():.3g} ms", ratios[-1][0], spread(each), 1.5, 1.2, True))
        if search.is_gate:
            pages, floor = ours.buffers(), min(hand.buffers() for hand in hands)
            rows.append(Row("P9", f"{store.tickets:,}: buffers read, {search.what}", str(pages), str(floor), pages / floor, None, 1.5, 1.2, True))
    worst, what = max(ratios)
    return rows + [Row("P9", f"{store.tickets:,}: worst ratio, {what}", "", "", worst, None, 1.5, 1.2, True)]


# The searches that P10 pages through: description, query, order, and the SQL of each sort key as a cursor carries it.
PAGED = [("all, newest first", "", [], {}),
         ("a frequent value, newest first", "CF.{Severity} = 'low'", [], {}),
         ("all, last updated first", "", ["LastUpdated"], {"LastUpdated": "(extract(epoch FROM t.updated_at) * 1000000)::bigint::text"}),
         ("all, by a field", "", ["CF.{Customer}"], {"CF.{Customer}": "(SELECT min(v.value_folded) FROM custom_field_values v WHERE v.ticket_id = t.id AND v.custom_field_id = {Customer})"})]


def far_down(bench, store):
    """P10: the page after half of the tickets (page 10,000 of 1,000,000 tickets) against the first."""
    rows = []
    page = store.tickets // 2 // PAGE
    for what, query, order, keys in PAGED:
        first = store.compiled(query, order)
        cursor = store.server.ask("POST", "/api/tickets/search", {"query": query, "order": [{"field": one, "direction": "desc"} for one in order], "limit": PAGE})["next_cursor"]
        signature, _, _ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        last = last_before(store, query, page, [key.format(**store.ids) for key in keys.values()])
        cursor = base64.urlsafe_b64encode(json.dumps([signature, *last]).encode()).decode().rstrip("=")
        far = store.compiled(query, order, cursor)
        if len(far.tickets()) != PAGE + 1:
            raise SystemExit(f"page {page:,} of {what} is not full")
        for one in (first, far):
            one.warm()
        for _ in range(bench.rounds):
            first.measure(), far.measure()
        each = [there / here for there, here in zip(far.took, first.took)]
        rows.append(Row("P10", f"{store.tickets:,}: page {page:,} of {what}", f"{far.median():.3g} ms", f"{first.median():.3g} ms",
                        far.median() / first.median(), spread(each), 1.5, 1.0, True))
        pages, floor = far.buffers(), first.buffers()
        rows.append(Row("P10", f"{store.tickets:,}: buffers read, page {page:,} of {what}", str(pages), str(floor), pages / floor, None, 1.5, 1.0, True))
    return rows


def last_before(store, query, page, keys):
    """Returns the id and the sort keys of the last ticket before a page."""
    joined = " JOIN custom_field_values v ON v.ticket_id = t.id AND v.custom_field_id = {Severity} AND v.value_folded = 'low'".format(**store.ids) if query else ""
    columns = "".join(f", {key} AS key{at}" for at, key in enumerate(keys))
    order = "".join(f"({key}) DESC NULLS LAST, " for key in keys)
    found = f"SELECT t.id{columns} FROM tickets t{joined} WHERE {searches.SEEN} ORDER BY {order}t.id DESC"
    row = store.sql(f"SELECT * FROM ({found}) f OFFSET {(page - 1) * PAGE - 1} LIMIT 1")[0]
    return [row[0], row[1:]]


FIGURES = {"P9": p9_p10, "P10": p9_p10}
