"""One function per figure of docs/benchmarks.md; each returns rows for the table."""

import json
import pathlib
import subprocess
import threading
import time
from dataclasses import dataclass

import floor
from house import CREATE, QUEUE, ROOT, Server, free_port, furnish, median, processor_times, spent_since, spread, until
from stand import HttpSink, Proxy, SmtpSink

# Number of tickets that the updates cycle through.
TICKETS = 1000
# Start of the pgbench scripts' counters: 16 digits, which become part of ids.
BASE = 10**15


@dataclass
class Row:
    """A row of the table. `at_most`: the ratio must be at most the bound, otherwise at least."""

    number: str
    what: str
    figure: str
    floor: str = ""
    ratio: float | None = None
    spread: float | None = None
    bound: float | None = None
    aim: float | None = None
    at_most: bool = False
    unit: str = ""

    def passes(self, bound):
        if bound is None or self.ratio is None:
            return None
        return self.ratio <= bound if self.at_most else self.ratio >= bound


class Bench:
    """A PostgreSQL, a server with the configuration of P1, and the duration of measurements."""

    def __init__(self, postgres, quick):
        self.pg = postgres
        self.is_quick = quick
        self.seconds, self.rounds = (2, 2) if quick else (5, 5)
        self.base = BASE
        self.server, self.hooks = Server(postgres.url()), free_port()
        furnish(self.server, self.hooks)
        self.server.wrk("create.lua", 2, json.dumps(CREATE))
        self.scripts = pathlib.Path(postgres.dir)

    def restart(self, **how):
        self.server.stop()
        self.server = Server(self.pg.url(), **how)
        return self.server

    def next_base(self):
        self.base += 10**11
        return self.base

    def creates(self, count, connection=None):
        connection = connection or self.server.connect()
        return [self.server.ask("POST", "/api/tickets", CREATE, connection)["ticket"]["number"] for _ in range(count)]

    def open_tickets(self):
        """Creates tickets with the status open, so that all later status changes are alike."""
        numbers = self.creates(TICKETS)
        connection = self.server.connect()
        for number in numbers:
            self.server.ask("PATCH", f"/api/tickets/{number}", {"status": "open"}, connection)
        return numbers

    def script(self, name, text):
        path = self.scripts / name
        path.write_text(text)
        return path

    def counted(self, act):
        """Returns the number of statements that `act` executed, as counted by PostgreSQL, and of transaction ids assigned."""
        xid = "SELECT pg_snapshot_xmax(pg_current_snapshot())"
        self.pg.sql("SELECT pg_stat_statements_reset()")
        before = int(self.pg.value(xid))
        act()
        after = int(self.pg.value(xid))
        calls = self.pg.value("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE '%pg_current_snapshot%'")
        return int(calls), after - before


def rate(values):
    return f"{median(values):,.0f}/s"


def p1_p2(bench):
    """P1 and P2: creates and status changes over HTTP on 16 connections, alternating with pgbench writing the same rows."""
    pg, server, seconds = bench.pg, bench.server, bench.seconds
    opened = bench.open_tickets()
    create, create_values = floor.create(pg.logged(lambda: bench.creates(1)))
    change = {"status": "stalled"}
    update, update_values, tickets = floor.update(pg.logged(lambda: server.ask("PATCH", f"/api/tickets/{opened[0]}", change)), TICKETS)
    create, update = bench.script("create.sql", create), bench.script("update.sql", update)
    server.ask("PATCH", f"/api/tickets/{opened[0]}", {"status": "open"})
    creates, create_floors, updates, update_floors = [], [], [], []
    done = TICKETS // 2
    for number in range(bench.rounds + 1):
        made = server.wrk("create.lua", seconds, json.dumps(CREATE))[0]
        made_floor = pg.pgbench(create, seconds, create_values | {"base": bench.next_base(), "k": 0})
        changed = server.wrk("update.lua", seconds, opened[0], TICKETS, done)[0]
        # Each round starts with every ticket open.
        for ticket in pg.sql(f"SELECT number FROM tickets WHERE status <> 'open' AND number BETWEEN {opened[0]} AND {opened[-1]}"):
            server.ask("PATCH", f"/api/tickets/{ticket[0]}", {"status": "open"})
        first = bench.next_base()
        pg.sql(tickets.replace(":base", str(first)))
        changed_floor = pg.pgbench(update, seconds, update_values | {"base": bench.next_base(), "k": 0, "tickets": first})
        if number:  # The first round is a warm-up.
            creates.append(made), create_floors.append(made_floor), updates.append(changed), update_floors.append(changed_floor)
    return [against("P1", "create over HTTP, 10 scrips of which 4 match", creates, create_floors, 0.35, 0.5),
            against("P2", "status change over HTTP, same scrips, 2 match", updates, update_floors, 0.35, 0.5)]


def against(number, what, figures, floors, bound, aim):
    ratios = [figure / bottom for figure, bottom in zip(figures, floors)]
    return Row(number, what, rate(figures), rate(floors), median(ratios), spread(ratios), bound, aim)


def p3(bench):
    """P3: statements counted by pg_stat_statements and round trips counted by a proxy; warm, no other load, workers off."""
    asked = {"create": (2, "POST", "/api/tickets", lambda n: CREATE),
             "update": (2, "PATCH", None, lambda n: {"status": "open" if n % 2 else "stalled"}),
             "preview": (1, "POST", "/preview", lambda n: {"status": "open" if n % 2 else "stalled"})}
    rows, times = [], 100
    proxy = Proxy(bench.pg.port)
    through = Server(bench.pg.url(proxy.port))
    try:
        for name, (bound, method, path, body) in asked.items():
            ticket = bench.creates(1)[0]
            target = path if path == "/api/tickets" else f"/api/tickets/{ticket}{path or ''}"

            def ask(server, count=times):
                connection = server.connect()
                for n in range(count):
                    server.ask(method, target, body(n), connection)

            ask(bench.server, 4), ask(through, 4)
            calls, xids = bench.counted(lambda: ask(bench.server))
            before = proxy.trips
            ask(through)
            trips = proxy.trips - before
            rows.append(Row("P3", f"statements per {name}", f"{calls / times:.2f}", "", calls / times, None, bound, bound, True))
            rows.append(Row("P3", f"network round trips per {name}", f"{trips / times:.2f}", "", trips / times, None, bound, bound, True))
            # A sequence writes a WAL record once per 33 numbers.
            most = {"create": 1.05, "update": 1.0, "preview": 0.0}[name]
            rows.append(Row("P3", f"transaction ids per {name}", f"{xids / times:.2f}", "", xids / times, None, most, most, True))
    finally:
        through.stop()
        proxy.stop()
    return rows


def p4(bench):
    """P4: after VACUUM and a warm-up, a preview has no transaction id and writes no WAL; its CPU time against a create's."""
    server, times = bench.server, 200 * bench.rounds // 2
    ticket, body = bench.creates(1)[0], CREATE
    connection = server.connect()

    def previews(count):
        for n in range(count):
            server.ask("POST", "/api/tickets/preview", body, connection)
            server.ask("POST", f"/api/tickets/{ticket}/preview", {"status": "open"}, connection)

    bench.pg.sql("VACUUM")
    previews(20)
    written = []
    for _ in range(3):
        # The minimum of three runs: PostgreSQL itself writes WAL from time to time.
        before = bench.pg.value("SELECT pg_current_wal_insert_lsn()")
        _, xids = bench.counted(lambda: previews(20))
        written.append(int(bench.pg.value(f"SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')")))
    asks = {"create": lambda: server.ask("POST", "/api/tickets", body, connection),
            "preview": lambda: server.ask("POST", "/api/tickets/preview", body, connection)}
    spent, whole = {name: [] for name in asks}, {name: [] for name in asks}
    for _ in range(bench.rounds):
        for name, ask in asks.items():
            backends = bench.pg.backends()
            before = processor_times(backends)
            spent[name].append(processor(server, ask, times))
            whole[name].append(spent[name][-1] + spent_since(before, processor_times(backends)) / times)
    return [Row("P4", "transaction ids of 40 previews", str(xids), "", xids, None, 0, 0, True),
            Row("P4", "WAL of 40 previews after VACUUM and a warm-up, bytes", str(min(written)), "", min(written), None, 0, 0, True),
            cheaper("CPU time of a preview compared with a create, including PostgreSQL", whole, 0.7),
            cheaper("the same, server only", spent, None)]


def cheaper(what, spent, bound):
    ratios = [preview / create for preview, create in zip(spent["preview"], spent["create"])]
    return Row("P4", what, micro(spent["preview"]), micro(spent["create"]), median(ratios), spread(ratios), bound, None, True)


def processor(server, ask, times):
    """Returns the server's CPU time per call, in seconds."""
    before = processor_times([server.process.pid])
    for _ in range(times):
        ask()
    return spent_since(before, processor_times([server.process.pid])) / times


def micro(values):
    return f"{median(values) * 1e6:,.0f} µs"


def p5(bench):
    """P5: the cost of one more scrip per create, as a share of the create's CPU time."""
    server, times = bench.server, 60 * bench.rounds
    connection = server.connect()
    create = lambda: server.ask("POST", "/api/tickets", CREATE, connection)
    # Considered for the CustomField transaction of each create, but does not match, because the value differs.
    idle = {"condition_type": "OnCustomFieldChange", "condition_config": {"field": "Severity", "to": "low"}, "action_type": "SetPriority", "action_config": {"value": "1"}}
    # Matches each create and renders its text, but changes nothing.
    busy = {"condition_type": "OnCreate", "action_type": "SetSubject", "action_config": {"value": "{{ ticket.subject }}"}}
    # The same with a query for the Create transaction: two predicates, of which the second is false or true.
    query = "Queue = '" + QUEUE + "' AND Subject {} 'on fire'"
    asked, answered = ({"condition_type": "OnCreate", "condition_config": {"query": query.format(like)}} for like in ("NOT LIKE", "LIKE"))

    def cost(kind, counts):
        made, spent = [], {}
        for count in counts:
            for n in range(len(made), count):
                scrip = {"name": f"Measured {n}", "queue": QUEUE, "sort_order": 100 + n} | kind
                made.append(server.ask("POST", "/api/scrips", scrip, connection)["id"])
            for _ in range(20):
                create()
            spent[count] = median([processor(server, create, times) for _ in range(5)])
        for scrip in made:
            server.ask("PATCH", f"/api/scrips/{scrip}", {"state": "disabled", "name": f"Gone {scrip}"}, connection)
        first, last = counts[0], counts[-1]
        figures = ", ".join(f"{count}: {spent[count] * 1e6:,.0f} µs" for count in counts)
        return figures, 100 * (spent[last] - spent[first]) / (last - first) / spent[first]

    rows = []
    for what, kind, counts, bound in [("does not match", idle, [0, 10, 100, 1000], 0.2), ("does not match by its query", idle | asked, [0, 10, 100, 1000], 0.2),
                                      ("matches in memory", busy, [0, 10, 100], 2.0), ("matches by its query", busy | answered, [0, 10, 100], 2.0)]:
        figures, percent = cost(kind, counts)
        rows.append(Row("P5", f"each additional scrip that {what}, % of a create's CPU time", figures, "", percent, None, bound, None, True))
    return rows


def p6(bench):
    """P6: the 99th percentile of creates at 100 a second with hanging mail server and webhook receiver, against healthy ones."""
    healthy, hanging = [], []
    for _ in range(bench.rounds):
        for hangs, figures in ((False, healthy), (True, hanging)):
            bench.pg.sql("DELETE FROM delivery_queue")
            smtp, http = SmtpSink(hangs), HttpSink(hangs, bench.hooks)
            server = bench.restart(delivers=True, environment={"TESSERA_MAIL__SMTP_URL": f"smtp://127.0.0.1:{smtp.port}"})
            figures.append(paced(server, 100, bench.seconds + 2))
            server.process.kill()
            smtp.stop(), http.stop()
    bench.restart()
    ratio = median(hanging) / median(healthy)
    return [Row("P6", "create p99 at 100/s, hanging receivers compared with healthy ones", f"{median(hanging):.2f} ms", f"{median(healthy):.2f} ms",
                ratio, spread(hanging), 1.2, 1.05, True)]


def paced(server, a_second, seconds):
    """Returns the 99th percentile of creates at a steady rate, in ms, excluding the first second."""
    connection, took, begun = server.connect(), [], time.perf_counter()
    for n in range(a_second * seconds):
        due = begun + n / a_second
        time.sleep(max(0, due - time.perf_counter()))
        sent = time.perf_counter()
        server.ask("POST", "/api/tickets", CREATE, connection)
        if n >= a_second:
            took.append((time.perf_counter() - sent) * 1000)
    return sorted(took)[int(len(took) * 0.99)]


def example(*arguments):
    """Runs a function of the Rust example and returns the number that it prints."""
    done = subprocess.run([ROOT / "target/release/examples/deliveries", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the example {arguments[0]} failed: {done.stderr}")
    return float(done.stdout)


def p7(bench):
    """P7: leasing and settling without sending, against pgbench writing the same rows; webhooks against both, and the client."""
    pg, count = bench.pg, 2000 * bench.rounds
    own, floors, sent, alone = [], [], [], []
    script = bench.script("deliveries.sql", floor.DELIVERIES)
    bench.creates(50)
    for _ in range(bench.rounds):
        fill(pg, bench.next_base(), count, "email")
        own.append(example("settle", pg.url(), count))
        base = bench.next_base()
        fill(pg, base, 25_000 * bench.seconds, "email")
        floors.append(pg.pgbench(script, bench.seconds, {"base": base, "k": 0}))
        pg.sql("DELETE FROM delivery_queue")
    sink = subprocess.Popen([ROOT / "target/release/examples/deliveries", "sink"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(sink.stdout.readline())
        for _ in range(bench.rounds):
            alone.append(example("send", port, count))
            bench.server.stop()
            fill(pg, bench.next_base(), count, "webhook", port=port)
            bench.server = Server(pg.url(), delivers=True)
            left = lambda: int(pg.value("SELECT count(*) FROM delivery_queue"))
            until(lambda: left() < count, "the first delivery")
            begun, first = time.monotonic(), left()
            # Poll rarely: a query costs more than a delivery.
            until(lambda: left() == 0, "the last delivery", 120, pause=0.1)
            sent.append(first / (time.monotonic() - begun))
            bench.restart()
    finally:
        sink.kill()
        sink.wait()
    # A webhook is sent and then recorded, so the floor is the time of the client plus that of the rows (docs/adr/0013).
    both = [1 / (1 / sending + 1 / recording) for sending, recording in zip(alone, floors)]
    return [against("P7", "lease and settle without sending", own, floors, 0.5, 0.8),
            against("P7", "signed and recorded webhooks, compared with client and rows one after the other", sent, both, 0.5, 0.7),
            against("P7", "the same, compared with the client alone", sent, alone, None, None)]


def fill(pg, base, count, kind, port=None):
    """Fills the delivery queue with copies of a create's delivery; webhooks go to eight addresses of this machine."""
    endpoint, payload = "d.endpoint", "d.payload"
    if port:
        endpoint = f"'http://127.0.0.' || 1 + n % 8 || ':{port}'"
        payload = "jsonb_set(d.payload, '{url}', to_jsonb(" + endpoint + " || '/hooks/' || n))"
    pg.sql(f"""
        DELETE FROM delivery_queue;
        CREATE TEMPORARY TABLE copies AS
            SELECT ('{floor.PREFIX}' || n)::uuid AS id, {endpoint} AS endpoint, {payload} AS payload, d.transaction_id, d.ticket_id, d.scrip_version_id, d.kind, d.body
            FROM (SELECT * FROM deliveries WHERE kind = '{kind}' ORDER BY id DESC LIMIT 1) d, generate_series({base}, {base + count - 1}) n;
        INSERT INTO deliveries (id, transaction_id, ticket_id, scrip_version_id, kind, endpoint, payload, body, created_at)
            SELECT id, transaction_id, ticket_id, scrip_version_id, kind, endpoint, payload, body, now() FROM copies;
        INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at) SELECT id, kind, endpoint, now() FROM copies;
        ANALYZE delivery_queue""")


def p8(bench):
    """P8: time from the commit of a create (PostgreSQL's commit timestamp) to the first byte at the receiver, on an idle system."""
    count = 60 * bench.rounds
    # On an idle system, autovacuum has already run.
    bench.pg.sql("DELETE FROM delivery_queue")
    bench.pg.sql("VACUUM delivery_queue")
    smtp, http = SmtpSink(False), HttpSink(False, bench.hooks)
    server = bench.restart(delivers=True, environment={"TESSERA_MAIL__SMTP_URL": f"smtp://127.0.0.1:{smtp.port}"})
    connection = server.connect()
    try:
        for n in range(count + 20):
            server.ask("POST", "/api/tickets", CREATE, connection)
            until(lambda: len(http.arrived) == n + 1, "a webhook")
            time.sleep(0.03)
        rows = bench.pg.sql("SELECT t.number, extract(epoch FROM pg_xact_commit_timestamp(t.xmin)) FROM tickets t ORDER BY number DESC LIMIT %d" % (count + 20))
    finally:
        smtp.stop(), http.stop()
        bench.restart()
    committed = {int(number): float(at) for number, at in rows}
    took = sorted((at - committed[number]) * 1000 for number, at in http.arrived[20:] if number in committed)
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    return [Row("P8", "commit to first byte at the receiver, p50, ms", f"{p50:.2f} ms", "", p50, None, 5, 2, True),
            Row("P8", "the same, p99, ms", f"{p99:.2f} ms", "", p99, None, 25, 10, True)]


def p11(bench):
    """P11: resident memory when idle and under the load of P1; time from start to the first response on a migrated database."""
    ready, idle, loaded = [], [], []
    for _ in range(bench.rounds):
        server = bench.restart(delivers=True)
        ready.append(server.ready_after * 1000)
        time.sleep(1)
        idle.append(server.memory())
    server, most = bench.restart(), [0.0]
    load = threading.Thread(target=server.wrk, args=("create.lua", 2 * bench.seconds, json.dumps(CREATE)))
    load.start()
    while load.is_alive():
        most[0] = max(most[0], server.memory())
        time.sleep(0.05)
    loaded.append(most[0])
    return [Row("P11", "memory when idle, MB", f"{median(idle):.0f} MB", "", median(idle), spread(idle), 60, 40, True),
            Row("P11", "memory under P1's load, MB", f"{max(loaded):.0f} MB", "", max(loaded), None, 200, 120, True),
            Row("P11", "time from start to ready on a migrated database, ms", f"{median(ready):.0f} ms", "", median(ready), spread(ready), 300, None, True)]


def p12(bench):
    """P12: statements per second of an idle node with workers."""
    bench.pg.sql("DELETE FROM delivery_queue")
    bench.restart(delivers=True)
    time.sleep(2)
    seconds = 4 * bench.seconds
    calls, _ = bench.counted(lambda: time.sleep(seconds))
    bench.restart()
    return [Row("P12", "statements per second when idle", f"{calls / seconds:.2f}/s", "", calls / seconds, None, 2, None, True)]


FIGURES = {"P1": p1_p2, "P2": p1_p2, "P3": p3, "P4": p4, "P5": p5, "P6": p6, "P7": p7, "P8": p8, "P11": p11, "P12": p12}
