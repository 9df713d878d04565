"""The measured system: a private PostgreSQL with its data in memory, the release binary, and a configuration."""

import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target" / "release" / "tessera"
TOKEN = "tessera_a_token_for_the_benchmark"
HERE = pathlib.Path(__file__).resolve().parent
# Use generic plans, as the server does.
GENERIC = "-c plan_cache_mode=force_generic_plan -c jit=off"


def until(holds, what, seconds=60, pause=0.002):
    """Waits until a condition holds and returns its value; exits after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not happen within {seconds} s")
        time.sleep(pause)
    return value


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A private cluster with its data in memory. Started by root, it runs as the user postgres, because PostgreSQL refuses root."""

    SETTINGS = {
        "listen_addresses": "127.0.0.1",
        "shared_buffers": "512MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "30min",
        "max_connections": "200",
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.track": "top",
        "track_commit_timestamp": "on",
        "logging_collector": "on",
        "log_destination": "jsonlog",
        "log_directory": "log",
        "log_rotation_size": "0",
    }

    def __init__(self, bin_dir):
        self.bin = pathlib.Path(bin_dir)
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tessera-bench.", dir=memory))
        self.dir.chmod(0o755)
        self.port = free_port()
        self.as_owner = []
        for name in ("data", "run"):
            (self.dir / name).mkdir(mode=0o700)
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            self.as_owner = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
            for name in ("data", "run"):
                os.chown(self.dir / name, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "-D", self.dir / "data", "-U", "tessera", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        # In the file, not on the command line, so that a setting can be changed temporarily.
        with (self.dir / "data" / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in self.SETTINGS.items())
        self._run("pg_ctl", "-D", self.dir / "data", "-w", "-l", self.dir / "data" / "start.log",
                  "-o", f"-c port={self.port} -k {self.dir / 'run'}", "start")
        self.sql("CREATE DATABASE bench", database="postgres")
        self.sql("CREATE EXTENSION pg_stat_statements")

    def _run(self, program, *arguments):
        command = [*self.as_owner, str(self.bin / program), *map(str, arguments)]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL)

    def url(self, port=None, database="bench"):
        """Returns a URL for the cluster's socket, or for TCP if a port is given."""
        host = urllib.parse.quote(str(self.dir / "run"), safe="")
        return f"postgres://tessera@127.0.0.1:{port}/{database}" if port else f"postgres://tessera@localhost:{self.port}/{database}?host={host}"

    def environment(self):
        return os.environ | {"PGHOST": str(self.dir / "run"), "PGPORT": str(self.port), "PGUSER": "tessera", "PGOPTIONS": GENERIC}

    def sql(self, text, database="bench"):
        """Returns the rows of a query, each as a list of strings."""
        command = [self.bin / "psql", "-XqAt", "-F", "\x1f", "-R", "\x1e", "-v", "ON_ERROR_STOP=1", "-d", database]
        done = subprocess.run(command, input=text, env=self.environment(), check=True, capture_output=True, text=True)
        return [row.split("\x1f") for row in done.stdout.rstrip("\n").split("\x1e") if row.strip()]

    def value(self, text, database="bench"):
        return self.sql(text, database)[0][0]

    def setting(self, name, value=None):
        """Sets a parameter for every session, or resets it."""
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'" if value else f"ALTER SYSTEM RESET {name}")
        self.sql("SELECT pg_reload_conf()")

    def logged(self, act):
        """Returns the statements executed while `act` ran, as (statement, {number: text or None})."""
        logs = self.dir / "data" / "log"
        before = {file: file.stat().st_size for file in logs.glob("*.json")}
        self._all_statements(True)
        act()
        self._all_statements(False)
        found = []
        for file in logs.glob("*.json"):
            text = file.read_bytes()[before.get(file, 0):].decode()
            for line in text.splitlines():
                entry = json.loads(line)
                said = re.match(r"duration: [\d.]+ ms  execute [^:]*: (.*)", entry.get("message", ""), re.S)
                if said and entry.get("dbname") == "bench":
                    found.append((said[1], parameters(entry.get("detail", ""))))
        return found

    def backends(self):
        """Returns the ids of the processes that serve clients."""
        return [pid for (pid,) in self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")]

    def _all_statements(self, on):
        self.sql(f"ALTER SYSTEM SET log_min_duration_statement = {0 if on else -1}")
        self.sql("SELECT pg_reload_conf()")
        # Backends read the new settings at their next statement.
        time.sleep(0.3)

    def pgbench(self, script, seconds, variables, clients=8):
        """Returns transactions per second."""
        defined = [part for name, value in variables.items() for part in ("-D", f"{name}={value}")]
        command = [self.bin / "pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(seconds), "-f", script, *defined, "bench"]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True)
        rate = re.search(r"tps = ([\d.]+)", done.stdout)
        failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
        if done.returncode or not rate or (failed and int(failed[1])):
            raise SystemExit(f"pgbench failed:\n{done.stdout}\n{done.stderr[:2000]}")
        return float(rate[1])

    def latency(self, script, times, variables, database):
        """Returns the latency of a script's single statement in ms, sent like a search: planned for its values, on one connection."""
        defined = [part for name, value in variables.items() for part in ("-D", f"{name}={value}")]
        command = [self.bin / "pgbench", "-n", "-M", "extended", "-c", "1", "-t", str(times), "-f", script, *defined, database]
        done = subprocess.run(command, env=self.environment() | {"PGOPTIONS": "-c jit=off"}, capture_output=True, text=True)
        took = re.search(r"latency average = ([\d.]+) ms", done.stdout)
        if done.returncode or not took:
            raise SystemExit(f"pgbench failed:\n{done.stdout}\n{done.stderr[:2000]}")
        return float(took[1])

    def stop(self):
        subprocess.run([*self.as_owner, self.bin / "pg_ctl", "-D", self.dir / "data", "-m", "immediate", "stop"], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


def parameters(detail):
    """Parses `parameters: $1 = 'a', $2 = NULL` into a dictionary."""
    pairs = re.findall(r"\$(\d+) = (NULL|'(?:[^']|'')*')", detail)
    return {int(n): None if text == "NULL" else text[1:-1].replace("''", "'") for n, text in pairs}


class Server:
    """A running `tessera serve`, and HTTP to it."""

    def __init__(self, database_url, delivers=False, environment=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tessera-bench-data."))
        self.port = free_port()
        settings = {
            "TESSERA_DATA_DIR": str(self.dir),
            "TESSERA_HTTP__LISTEN": f"127.0.0.1:{self.port}",
            "TESSERA_GRPC__LISTEN": "127.0.0.1:0",
            "TESSERA_DATABASE__URL": database_url,
            "TESSERA_AUTH__ADMIN_TOKEN": TOKEN,
            "TESSERA_WEBHOOK__ALLOW": "127.0.0.0/8",
            "TESSERA_DELIVERY__ENABLED": "true" if delivers else "false",
        }
        self.log = open(self.dir / "log", "w+")
        self.begun = time.monotonic()
        self.process = subprocess.Popen([BINARY, "serve"], env=os.environ | settings | (environment or {}), stderr=self.log)
        until(self._answers, "the start of tessera")
        self.ready_after = time.monotonic() - self.begun

    def _answers(self):
        if self.process.poll() is not None:
            raise SystemExit("tessera exited:\n" + (self.dir / "log").read_text()[-3000:])
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as tcp:
                tcp.sendall(b"GET /api/health HTTP/1.0\r\n\r\n")
                return b" 200 " in tcp.recv(64)
        except OSError:
            return False

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method, path, body=None, connection=None):
        connection = connection or self.connect()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:2000].decode()}")
        return json.loads(text) if text else None

    def wrk(self, script, seconds, *arguments, connections=16):
        """Returns requests per second and the 99th percentile in ms."""
        command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", HERE / script,
                   f"http://127.0.0.1:{self.port}", "--", TOKEN, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        if done.returncode or not rate or "Non-2xx" in done.stdout:
            raise SystemExit(f"wrk failed:\n{done.stdout}\n{done.stderr}\n{(self.dir / 'log').read_text()[-3000:]}")
        number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout).groups()
        return float(rate[1]), float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]

    def memory(self):
        """Returns the resident memory in MB."""
        status = (pathlib.Path("/proc") / str(self.process.pid) / "status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def processor_times(pids):
    """Returns the CPU time of each thread of the given processes, in seconds with nanosecond resolution."""
    files = [file for pid in pids for file in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return {file: int(file.read_text().split()[0]) / 1e9 for file in files}


def spent_since(before, after):
    """Returns the CPU seconds between two readings, excluding threads that have exited."""
    return sum(seconds - before.get(thread, 0) for thread, seconds in after.items())


QUEUE = "Bench"
CREATE = {
    "queue": QUEUE,
    "subject": "The printer on the second floor is on fire again",
    "content": "It burns since this morning. " * 8,
    "requestors": ["eve@example.net"],
    "custom_fields": {"Severity": "low", "Customer": "The paper mill of Upper Thornbury"},
}


def furnish(server, hooks, mail="team@example.org"):
    """Creates the configuration of P1: 10 active scrips, of which 4 match a create and 2 a status change; 2 custom fields.

    Its webhooks go to the port `hooks` on this machine.
    """
    for scrip in server.ask("GET", "/api/scrips?limit=200")["items"]:
        server.ask("PATCH", f"/api/scrips/{scrip['id']}", {"state": "disabled"})
    server.ask("PUT", "/api/secrets/signing", {"value": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    server.ask("POST", "/api/queues", {"name": QUEUE, "correspond_address": "desk@example.org"})
    server.ask("POST", "/api/custom-fields", {"name": "Severity", "field_type": "SelectSingle", "values": ["low", "high"]})
    server.ask("POST", "/api/custom-fields", {"name": "Customer", "field_type": "Freeform"})
    server.ask("PUT", f"/api/queues/{QUEUE}/custom-fields", {"custom_fields": ["Severity", "Customer"]})
    hook = {"url": f"http://127.0.0.1:{hooks}/hooks/{{{{ ticket.number }}}}", "secret": "signing",
            "body": '{"ticket": {{ ticket.number }}, "subject": {{ ticket.subject | json }}, "status": {{ ticket.status | json }}}'}
    scrips = [
        ("Autoreply", "OnCreate", "SendEmail", {"to": ["requestor"]}, "Autoreply"),
        ("Notify the team", "OnCreate", "SendEmail", {"to": [mail]}, "Transaction"),
        ("Notify the store", "OnCreate", "Webhook", hook, None),
        ("Raise the severity", "OnCreate", "SetCustomField", {"field": "Severity", "value": "high"}, None),
        ("Notify the team of a status", "OnStatusChange", "SendEmail", {"to": [mail]}, "Status Change"),
        ("Notify the store of a status", "OnStatusChange", "Webhook", hook, None),
        ("Notify the requestor", "OnResolve", "SendEmail", {"to": ["requestor"]}, "Resolved"),
        ("Notify the team of a comment", "OnComment", "SendEmail", {"to": [mail], "as_comment": True}, "Admin Comment"),
        ("Send a reply", "OnCorrespond", "SendEmail", {"to": ["requestor"]}, "Correspondence"),
        ("Notify a new owner", "OnOwnerChange", "SendEmail", {"to": ["owner"]}, "Transaction"),
    ]
    for place, (name, when, what, how, template) in enumerate(scrips):
        words = {"template": template} if template else {}
        server.ask("POST", "/api/scrips", {"name": name, "queue": QUEUE, "condition_type": when, "action_type": what,
                                           "action_config": how, "sort_order": place, **words})


def median(values):
    return statistics.median(values)


def spread(values):
    """Returns half the range, as a fraction of the median."""
    return (max(values) - min(values)) / 2 / median(values) if len(values) > 1 else 0.0
