"""The floor: a pgbench script generated from what the server wrote for a real request, so that the two cannot drift apart.

The statement and its parameters come from PostgreSQL's log. Ids created by the request (those that begin with the time of
the request's id) and the ticket's number, id and version become expressions over a counter. Everything else is kept and
sent as a parameter with each execution.
"""

import re

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Prefix of ids, followed by a counter of 16 digits: the ids are sequential, like those of the server.
PREFIX = "0190000000007000"
IDS_MAX = 64


class Script:
    """A pgbench script under construction."""

    def __init__(self, statement, values):
        self.statement = re.sub(r"--[^\n]*", "", statement)
        self.values = values
        self.variables = {}
        self.minted = {}

    def text(self, expressions):
        """Returns the statement with each `$n` replaced by an expression or variable, with the cast of its first occurrence."""
        casts = {}
        for number, cast in re.findall(r'\$(\d+)(::"?[a-z]+"?(?:\[\])?)', self.statement):
            casts.setdefault(int(number), cast)

        def place(match):
            number = int(match[1])
            cast = casts.get(number, "")
            if number in expressions:
                return f"({expressions[number]}){cast}"
            if self.values[number] is None:
                return f"NULL{cast}"
            if cast in ("::uuid", "::uuid[]") and (ids := self.ids(self.values[number])):
                return f"({ids}){cast}"
            self.variables[f"p{number}"] = self.values[number]
            return f":p{number}{cast}"

        return re.sub(r'\$(\d+)(?:::"?[a-z]+"?(?:\[\])?)?', place, self.statement)

    def ids(self, text):
        """Returns the SQL for an id or an array of ids, new ids as counter expressions; None if no id is new."""
        ids = text.strip("{}").split(",")
        if not any(one in self.minted for one in ids):
            return None
        said = [self.minted.get(one, "NULL" if one == "NULL" else f"'{one}'") for one in ids]
        return f"ARRAY[{', '.join(f'({one})::uuid' for one in said)}]" if text.startswith("{") else said[0]

    def mint(self, request):
        """Collects the ids that the request created."""
        for text in self.values.values():
            for one in UUID.findall(text or ""):
                if one[:13] == request[:13]:
                    self.minted.setdefault(one, f"'{PREFIX}' || :id{len(self.minted)}")
        assert len(self.minted) <= IDS_MAX, "the request creates more ids than IDS_MAX"

    def counter(self):
        """Returns the lines that count: each transaction gets its own number, increasing over all clients."""
        lines = [f"\\set n :base + (:k * 8 + :client_id) * {IDS_MAX}", "\\set k :k + 1"]
        return lines + [f"\\set id{place} :n + {place}" for place in range(len(self.minted))]


def number_of(statement, pattern):
    """Returns the number of the parameter that a pattern matches in a statement."""
    return int(re.search(pattern, statement)[1])


def find(logged, what):
    return next((statement, values) for statement, values in logged if what in statement)


def create(logged):
    """Returns the script and the variables for the floor of a create."""
    statement, values = find(logged, "INSERT INTO tickets")
    script = Script(statement, values)
    number = number_of(statement, r"SELECT \$\d+::uuid, \$(\d+)::bigint, \$\d+::bigint")
    request = number_of(statement, r"idempotency_keys [^$]*\$\d+::uuid, \$\d+::text, \$\d+::bytea, \$(\d+)::uuid")
    script.mint(values[request])
    text = script.text({number: ":n"})
    return "\n".join([*script.counter(), one_line(text)]), script.variables


def update(logged, tickets):
    """Returns the script and variables for the floor of an update, with `tickets` tickets per client, and the SQL to create them."""
    statement, values = find(logged, "UPDATE tickets")
    script = Script(statement, values)
    ticket, version, grown = (number_of(statement, rf"unnest\({skip}\$(\d+)::") for skip in ("", r"\$\d+::uuid\[\], ", r"\$\d+::uuid\[\], \$\d+::bigint\[\], "))
    request = number_of(statement, r"idempotency_keys [^$]*\$\d+::uuid, \$\d+::text, \$\d+::bytea, \$(\d+)::uuid")
    script.mint(values[request])
    real, first, growth = (values[n].strip("{}") for n in (ticket, version, grown))
    script.minted[real] = f"'{PREFIX}' || :ticket"
    text = script.text({version: f"ARRAY[:version]"})
    lines = [*script.counter(), f"\\set ticket :tickets + :client_id * {tickets} + :k % {tickets}",
             f"\\set version {first} + ((:k - 1) / {tickets}) * {growth}"]
    lines[-2] = f"\\set ticket :tickets + :client_id * {tickets} + (:k - 1) % {tickets}"
    make = f"""INSERT INTO tickets (id, number, version, subject, subject_folded, subject_words, queue_id, status, status_class, priority,
        owner_id, creator_id, created_at, updated_at, started_at)
        SELECT ('{PREFIX}' || n)::uuid, n, {first}, subject, subject_folded, subject_words, queue_id, status, status_class, priority, owner_id,
        creator_id, created_at, updated_at, started_at
        FROM tickets, generate_series(:base::bigint, :base::bigint + {8 * tickets - 1}) n WHERE id = '{real}'"""
    return "\n".join([*lines, one_line(text)]), script.variables, make


def one_line(text):
    return " ".join(text.split()) + ";"


# Leases and settles a delivery: the rows that the workers write for it, in two prepared statements.
DELIVERIES = f"""\\set n :base + :k * 8 + :client_id
\\set k :k + 1
WITH leased AS (
  UPDATE delivery_queue SET due_at = now() + interval '30 s', lease_token = nextval('delivery_lease'), attempts = attempts + 1
  WHERE delivery_id = ('{PREFIX}' || :n)::uuid RETURNING delivery_id, attempts, lease_token
), noted AS (
  INSERT INTO delivery_attempts (delivery_id, lease_token, attempt, started_at) SELECT delivery_id, lease_token, attempts, now() FROM leased
)
SELECT d.*, l.lease_token FROM leased l JOIN deliveries d ON d.id = l.delivery_id;
WITH noted AS (
  UPDATE delivery_attempts SET finished_at = now(), outcome = 'delivered', status_code = 250, detail = 'nothing was sent'
  WHERE delivery_id = ('{PREFIX}' || :n)::uuid AND finished_at IS NULL RETURNING delivery_id
), finished AS (
  DELETE FROM delivery_queue q USING noted n WHERE q.delivery_id = n.delivery_id
)
INSERT INTO transactions (id, ticket_id, request_id, batch_seq, transaction_type, new_value, data, creator_id, created_at, caused_by,
                          scrip_version_id, delivery_id)
SELECT d.id, d.ticket_id, c.request_id, 0, 'EmailRecord', 'nothing was sent',
       jsonb_build_object('change', 'outcome', 'delivery', d.id, 'kind', 'email', 'answer', 'nothing was sent', 'attempts', 1, 'to', '["team@example.org"]'::jsonb),
       c.creator_id, now(), c.id, d.scrip_version_id, d.id
FROM noted n JOIN deliveries d ON d.id = n.delivery_id JOIN transactions c ON c.id = d.transaction_id;
"""
