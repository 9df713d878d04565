"""The searches of P9: each in TicketSQL, and as handwritten SQL.

The handwritten SQL is correct for any tickets (a person may be on a ticket as a user or as an address; a ticket may have
a value twice in two spellings), but may exploit the distribution of these. If there are several ways, all are included,
and the fastest is the floor.
"""

from dataclasses import dataclass, field

import generate

# Words by frequency; the rare ones are planted.
VOCABULARY = generate.vocabulary()
FREQUENT, OFTEN, SELDOM = VOCABULARY[9], VOCABULARY[19], VOCABULARY[999]
RARE, RARER = sorted(generate.RARE, key=generate.RARE.get, reverse=True)

LIMIT = 51
SEEN = "t.status <> 'deleted'"
ACTIVE = "t.status_class IN ('i', 'a')"
NEWEST = f"ORDER BY t.id DESC LIMIT {LIMIT}"
PERSON, STRANGER = generate.REQUESTORS[0], generate.REQUESTORS[9001]
WEEK = ("2023-02-01", "2023-02-08")


@dataclass
class Search:
    """A search. `is_gate`: the number of buffers that it reads is a figure, too."""

    what: str
    query: str
    by_hand: list
    order: list = field(default_factory=list)
    is_gate: bool = False


def value(name, test, alias="v", more=""):
    """Returns a join to the values of a custom field; `{name}` becomes its id."""
    return f" JOIN custom_field_values {alias} ON {alias}.ticket_id = t.id AND {alias}.custom_field_id = {{{name}}} AND {alias}.value_folded {test}{more}"


def joined(*joins, where=SEEN, order=NEWEST, keys="t.id"):
    return f"SELECT DISTINCT ON ({keys}) t.id FROM tickets t{''.join(joins)} WHERE {where} {order}"


def walked(where, order=NEWEST):
    return f"SELECT t.id FROM tickets t WHERE {where} AND {SEEN} {order}"


def either(*selects):
    """Returns the newest tickets found by several selects, each of which finds its newest."""
    return f"SELECT DISTINCT t.id FROM ({' UNION ALL '.join(f'({select})' for select in selects)}) t {NEWEST}"


def has(words):
    """Returns a condition on `t`, tested ticket by ticket: OFFSET keeps PostgreSQL from finding all matches first."""
    return (f"(t.subject_words @@ $q${words}$q$::tsquery OR EXISTS (SELECT FROM transaction_contents c WHERE c.ticket_id = t.id"
            f" AND c.words @@ $q${words}$q$::tsquery OFFSET 0))")


def found(words, *joins):
    """Finds all tickets with the words, then tests the rest for each: OFFSET keeps PostgreSQL from reading whole tables."""
    return (f"WITH m AS MATERIALIZED (SELECT c.ticket_id FROM transaction_contents c WHERE c.words @@ $q${words}$q$::tsquery"
            f" UNION SELECT s.id FROM tickets s WHERE s.subject_words @@ $q${words}$q$::tsquery)"
            f" SELECT DISTINCT f.id FROM m CROSS JOIN LATERAL (SELECT t.id FROM tickets t{''.join(joins)} WHERE t.id = m.ticket_id AND {SEEN} OFFSET 0) f"
            f" ORDER BY f.id DESC LIMIT {LIMIT}")


def requestor(address, who):
    """Returns the joins for a person's tickets as a user and as an address."""
    return [joined(f" JOIN ticket_watchers w ON w.ticket_id = t.id AND w.role = 'requestor' AND {is_it}")
            for is_it in (f"w.user_id = {{{who}}}", f"w.address IS NOT NULL AND lower(w.address) = '{address}'")]


def within(column, since, until):
    return f"{column} >= '{since}+00' AND {column} < '{until}+00'"


# Ids contain their creation time: `{since}` and `{until}` become the first ids of these days.
IN_WEEK = " AND {0} >= {{since}} AND {0} < {{until}}"


def searches():
    low, product = value("Severity", "= 'low'", "a"), value("Product", "= 'product 1'", "b")
    rare_customer, critical, old = value("Customer", "= 'customer 4000'", "c"), value("Severity", "= 'critical'", "d"), value("Version", "= '3.0'", "e")
    first, oldest, third = value("Customer", "= 'customer 1'", "f"), value("Version", "= '0.0'", "g"), value("Customer", "= 'customer 3'", "h")
    owned = "t.owner_id = {agent7}"
    week = within("t.created_at", *WEEK)
    both, phrase = f"'{FREQUENT}' & '{OFTEN}'", f"'{VOCABULARY[0]}' <-> '{VOCABULARY[1]}'"
    by_agent = " JOIN transactions x ON x.ticket_id = t.id AND x.seq IS NOT NULL AND x.creator_id = {agent7}"
    updated = "t.updated_at, t.id", f"ORDER BY t.updated_at DESC, t.id DESC LIMIT {LIMIT}"
    return [
        Search("a rare value", "CF.{Customer} = 'Customer 4000'", [joined(rare_customer)]),
        Search("a frequent value", "CF.{Severity} = 'low'", [joined(low)]),
        Search("a value found only in old tickets", "CF.{Version} = '3.0'", [joined(old)]),
        Search("two fields, both frequent", "CF.{Severity} = 'low' AND CF.{Product} = 'Product 1'", [joined(low, product)], is_gate=True),
        Search("two fields, one rare", "CF.{Severity} = 'low' AND CF.{Customer} = 'Customer 4000'", [joined(low, rare_customer)], is_gate=True),
        Search("two fields, rarely together", "CF.{Severity} = 'critical' AND CF.{Version} = '3.0'", [joined(critical, old)], is_gate=True),
        Search("two fields, one only where the other is rare", "CF.{Customer} = 'Customer 1' AND CF.{Version} = '0.0'", [joined(first, oldest)], is_gate=True),
        Search("four fields", "CF.{Severity} = 'low' AND CF.{Product} = 'Product 1' AND CF.{Customer} = 'Customer 3' AND CF.{Tags} = 'tag1'",
               [joined(low, product, third, value("Tags", "= 'tag1'", "i"))]),
        Search("two values of one field", "CF.{Tags} = 'tag1' AND CF.{Tags} = 'tag2'", [joined(value("Tags", "= 'tag1'", "i"), value("Tags", "= 'tag2'", "j"))]),
        Search("field, status and queue", "CF.{Severity} = 'low' AND Status = '__Active__' AND Queue = 'Facilities'",
               [joined(low, where=f"{SEEN} AND {ACTIVE} AND t.queue_id = {{Facilities}}")]),
        Search("any of three values", "CF.{Customer} IN ('Customer 1', 'Customer 2', 'Customer 4000')",
               [joined(value("Customer", "IN ('customer 1', 'customer 2', 'customer 4000')"))]),
        Search("part of a value", "CF.{Customer} LIKE 'omer 4000'", [joined(value("Customer", "LIKE '%omer 4000%'"))]),
        Search("not a value", "CF.{Severity} != 'low'",
               [walked("NOT EXISTS (SELECT FROM custom_field_values v WHERE v.ticket_id = t.id AND v.custom_field_id = {Severity} AND v.value_folded = 'low')")]),
        Search("no value", "CF.{Version} IS NULL", [walked("NOT EXISTS (SELECT FROM custom_field_values v WHERE v.ticket_id = t.id AND v.custom_field_id = {Version})")]),
        Search("a rare value or a frequent one", "CF.{Customer} = 'Customer 4000' OR CF.{Severity} = 'low'", [either(joined(rare_customer), joined(low))]),
        Search("requestor with many tickets", f"Requestor = '{PERSON}'", [either(*requestor(PERSON, "person"))]),
        Search("requestor with few tickets, not a user", f"Requestor = '{STRANGER}'", [requestor(STRANGER, "person")[1]]),
        Search("mine and active", "Owner = 'agent7' AND Status = '__Active__'", [walked(f"{owned} AND {ACTIVE}")]),
        Search("owned or requested", f"Owner = 'agent7' OR Requestor = '{PERSON}'", [either(walked(owned), *requestor(PERSON, "person"))]),
        Search("a rare word", f"Content MATCHES '{RARER}'", [found(f"'{RARER}'"), walked(has(f"'{RARER}'"))], is_gate=True),
        Search("a less rare word", f"Content MATCHES '{RARE}'", [found(f"'{RARE}'"), walked(has(f"'{RARE}'"))], is_gate=True),
        Search("an uncommon word", f"Content MATCHES '{SELDOM}'", [found(f"'{SELDOM}'"), walked(has(f"'{SELDOM}'"))]),
        Search("a frequent word", f"Content MATCHES '{FREQUENT}'", [walked(has(f"'{FREQUENT}'"))]),
        Search("two frequent words", f"Content MATCHES '{FREQUENT} {OFTEN}'", [walked(has(both))]),
        Search("a frequent phrase", f"Content MATCHES '\"{VOCABULARY[0]} {VOCABULARY[1]}\"'", [walked(has(phrase))]),
        Search("a rare word and a frequent value", f"Content MATCHES '{RARE}' AND CF.{{Severity}} = 'low'",
               [found(f"'{RARE}'", low), joined(low, where=f"{SEEN} AND {has(repr(RARE))}")], is_gate=True),
        Search("a frequent word and a rare value", f"Content MATCHES '{FREQUENT}' AND CF.{{Customer}} = 'Customer 4000'",
               [joined(rare_customer, where=f"{SEEN} AND {has(repr(FREQUENT))}")], is_gate=True),
        Search("an uncommon word and a value", f"Content MATCHES '{SELDOM}' AND CF.{{Severity}} = 'critical'",
               [found(f"'{SELDOM}'", critical), joined(critical, where=f"{SEEN} AND {has(repr(SELDOM))}")]),
        Search("a rare word in subjects", f"Subject LIKE '{RARE}'", [walked(f"t.subject_folded LIKE '%{RARE}%'")]),
        Search("a frequent word in subjects", f"Subject LIKE '{FREQUENT}'", [walked(f"t.subject_folded LIKE '%{FREQUENT}%'")]),
        Search("created in one week long ago", f"Created >= '{WEEK[0]}' AND Created < '{WEEK[1]}'",
               [walked(week + IN_WEEK.format("t.id")), f"WITH t AS MATERIALIZED ({joined(where=f'{week} AND {SEEN}', order='')}) SELECT t.id FROM t {NEWEST}"]),
        Search("created in that week, with a value", f"Created >= '{WEEK[0]}' AND Created < '{WEEK[1]}' AND CF.{{Severity}} = 'low'",
               [joined(value("Severity", "= 'low'", more=IN_WEEK.format("v.ticket_id")), where=f"{week}{IN_WEEK.format('t.id')} AND {SEEN}")]),
        Search("updated by one user in that week", f"UpdatedBy = 'agent7' AND Updated >= '{WEEK[0]}' AND Updated < '{WEEK[1]}'",
               [joined(by_agent + " AND " + within("x.created_at", *WEEK)),
                f"WITH x AS MATERIALIZED (SELECT DISTINCT x.ticket_id FROM transactions x WHERE x.creator_id = {{agent7}} AND x.seq IS NOT NULL AND {within('x.created_at', *WEEK)})"
                f" SELECT t.id FROM x JOIN tickets t ON t.id = x.ticket_id WHERE {SEEN} {NEWEST}"]),
        Search("a high priority", "Priority > 95", [walked("t.priority > 95")]),
        Search("mine and active, last updated first", "Owner = 'agent7' AND Status = '__Active__'",
               [walked(f"{owned} AND {ACTIVE}", updated[1])], ["LastUpdated"]),
        Search("two fields, last updated first", "CF.{Severity} = 'critical' AND CF.{Product} = 'Product 1'",
               [joined(critical, product, keys=updated[0], order=updated[1]), walked(
                   "t.id IN (SELECT v.ticket_id FROM custom_field_values v WHERE v.custom_field_id = {Severity} AND v.value_folded = 'critical')"
                   " AND t.id IN (SELECT v.ticket_id FROM custom_field_values v WHERE v.custom_field_id = {Product} AND v.value_folded = 'product 1')", updated[1])],
               ["LastUpdated"]),
    ]
