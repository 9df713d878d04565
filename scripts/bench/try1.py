import sys, os, json
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house, floor, pathlib
from house import *
pg = Postgres("/usr/lib/postgresql/15/bin")
server = None
try:
    server = Server(pg.url())
    print("ready", server.ready_after, "rss", server.memory())
    furnish(server)
    for _ in range(20): made = server.ask("POST", "/api/tickets", CREATE)
    logged = pg.logged(lambda: [server.ask("POST", "/api/tickets", CREATE) for _ in range(3)])
    number = made["ticket"]["number"]
    print(json.dumps(made)[:3000])
    server.ask("PATCH", f"/api/tickets/{number}", {"status": "open"})
    up = pg.logged(lambda: print(json.dumps(server.ask("PATCH", f"/api/tickets/{number}", {"status": "stalled"}))[:2500]))
    print(len(logged), len(up), [s[:60] for s, _ in logged], [s[:60] for s, _ in up])
    if "-v" in sys.argv:
        for s, v in up: print(s, v)
    script, variables = floor.create(logged)
    uscript, uvariables, make = floor.update(up, 1000)
    d = pathlib.Path(tempfile.mkdtemp()); d.chmod(0o755)
    (d/"create.sql").write_text(script); (d/"update.sql").write_text(uscript)
    base = 10**15
    rounds = int(os.environ.get("ROUNDS", 3)); secs = int(os.environ.get("SECS", 4))
    server.wrk("create.lua", 3, json.dumps(CREATE))
    pg.pgbench(d/"create.sql", 2, variables | {"base": base, "k": 0})
    res = {"c": [], "cf": [], "u": [], "uf": []}
    for r in range(rounds):
        base += 10**11
        c0 = server.cpu(); n0 = int(pg.value("SELECT count(*) FROM tickets"))
        first = int(pg.value("SELECT last_value FROM ticket_number")) + 1
        rate, p99 = server.wrk("create.lua", secs, json.dumps(CREATE))
        cpu = (server.cpu() - c0) / (rate * secs)
        f = pg.pgbench(d/"create.sql", secs, variables | {"base": base, "k": 0})
        print(f"create {rate:.0f}/s p99 {p99:.1f} ms cpu {cpu*1e6:.0f} us floor {f:.0f} ratio {rate/f:.3f}", flush=True)
        res["c"].append(rate); res["cf"].append(f)
        c = server.connect()
        for n in range(first, first + 1000): server.ask("PATCH", f"/api/tickets/{n}", {"status": "open"}, c)
        c0 = server.cpu()
        rate, p99 = server.wrk("update.lua", secs, first, 1000, 500)
        cpu = (server.cpu() - c0) / (rate * secs)
        base += 10**11
        pg.sql(make.replace(":base", str(base)))
        f = pg.pgbench(d/"update.sql", secs, uvariables | {"base": base + 10**10, "k": 0, "tickets": base})
        print(f"update {rate:.0f}/s p99 {p99:.1f} ms cpu {cpu*1e6:.0f} us floor {f:.0f} ratio {rate/f:.3f}", flush=True)
        res["u"].append(rate); res["uf"].append(f)
    print("P1", median(a/b for a, b in zip(res["c"], res["cf"])), "P2", median(a/b for a, b in zip(res["u"], res["uf"])))
    for row in pg.sql("SELECT calls, round(total_exec_time::numeric/calls, 3), round(total_plan_time::numeric,1), left(regexp_replace(query, '\\s+', ' ', 'g'), 80) FROM pg_stat_statements WHERE calls > 50 ORDER BY total_exec_time DESC LIMIT 14"): print(row)
    if "-w" in sys.argv: input("waiting")
finally:
    if server: server.stop()
    pg.stop()
