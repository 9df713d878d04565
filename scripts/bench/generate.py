"""Generates tickets for search benchmarks, one line each in the format of `tessera import`, reproducible from seed and number.

    python3 scripts/bench/generate.py --tickets 1000000 --seed 1 | tessera import --create-missing -

Distribution: 8 queues, 5,000 customers, 20 products, 20,000 requestors and the words of texts follow Zipf's law. Versions
are correlated with time: old versions occur only in old tickets. Half of the requestors create their own tickets and so
become users; for the others an agent does, and they remain addresses. `RARE` lists words that occur in exactly that many
of a million tickets, and proportionally fewer in smaller sets.
"""

import argparse
import bisect
import datetime
import itertools
import random
import sys

WORDS = 20_000
QUEUES = ["Support", "Billing", "Network", "Hardware", "Accounts", "Sales", "Facilities", "Security"]
SEVERITIES = {"low": 60, "normal": 25, "high": 12, "critical": 3}
STATUSES = {"new": 5, "open": 14, "stalled": 6, "resolved": 65, "rejected": 7, "deleted": 3}
PRODUCTS = [f"Product {n}" for n in range(1, 21)]
CUSTOMERS = [f"Customer {n}" for n in range(1, 5001)]
TAGS = [f"tag{n}" for n in range(1, 51)]
VERSIONS = 200
AGENTS = [f"agent{n}" for n in range(1, 41)]
REQUESTORS = [f"person{n}@example.net" for n in range(1, 20_001)]
# Number of tickets per million: always in the first message, and in every second ticket also in the subject.
RARE = {"quixotry": 20, "exequatur": 500}
BEGIN = datetime.datetime(2023, 1, 1, tzinfo=datetime.timezone.utc)
SPAN = datetime.timedelta(days=3 * 365)


def vocabulary():
    """Returns the words, most frequent first. They do not depend on the seed, so a query can select one by its rank."""
    chance = random.Random(0)
    syllables = [a + b for a in "bdfghklmnprstv" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = {}
    while len(words) < WORDS:
        # Frequent words are short.
        words.setdefault("".join(chance.choices(syllables, k=2 + (len(words) > 500) + (len(words) > 8000))))
    return list(words)


class Draw:
    """Draws from a list by weight."""

    def __init__(self, chance, entries, weights):
        self.entries, self.random = list(entries), chance.random
        self.sums = list(itertools.accumulate(weights))

    @classmethod
    def zipf(cls, chance, entries):
        return cls(chance, entries, [1 / rank for rank in range(1, len(entries) + 1)])

    def one(self):
        return self.entries[bisect.bisect(self.sums, self.random() * self.sums[-1])]

    def some(self, count):
        entries, sums, draw, total = self.entries, self.sums, self.random, self.sums[-1]
        find = bisect.bisect
        return [entries[find(sums, draw() * total)] for _ in range(count)]


def tickets(count, seed):
    """Yields the lines. All texts are generated here and need no JSON escapes."""
    chance = random.Random(seed)
    uniform = chance.random
    words = Draw.zipf(chance, vocabulary())
    queues, products, customers = (Draw.zipf(chance, entries) for entries in (QUEUES, PRODUCTS, CUSTOMERS))
    requestors = Draw.zipf(chance, range(len(REQUESTORS)))
    severities, statuses = (Draw(chance, shares, shares.values()) for shares in (SEVERITIES, STATUSES))
    planted = plant(chance, count)
    step = SPAN / count
    for n in range(count):
        created = BEGIN + n * step
        subject, message = words.some(4 + int(uniform() * 6)), words.some(30 + int(uniform() * 51))
        for place, rare in planted.get(n, ()):
            message.insert(len(message) // 2, rare)
            if place % 2:
                subject.insert(2, rare)
        person = requestors.one()
        address, agent = REQUESTORS[person], AGENTS[int(uniform() * len(AGENTS))]
        creator = agent if person % 2 else address
        status, is_owned = statuses.one(), uniform() < 0.7
        transactions, last = [f'{{"type":"Create","created_at":"{text(created)}","creator":"{creator}","content":"{" ".join(message)}"}}'], created
        for reply in range(int(uniform() * 3)):
            last += datetime.timedelta(minutes=5 + int(uniform() * 4000))
            transactions.append(f'{{"type":"Correspond","created_at":"{text(last)}","creator":"{creator if reply else agent}",'
                                f'"content":"{" ".join(words.some(30 + int(uniform() * 51)))}"}}')
        updated = last + datetime.timedelta(minutes=1 + int(uniform() * 9000))
        dates = "" if status == "new" else f',"started_at":"{text(created + datetime.timedelta(minutes=3))}"'
        if uniform() < 0.3:
            dates += f',"due_at":"{text(created + datetime.timedelta(days=1 + int(uniform() * 30)))}"'
        if status in ("resolved", "rejected"):
            dates += f',"resolved_at":"{text(updated)}"'
        requested = f'"{address}"' if uniform() < 0.95 else f'"{address}","{REQUESTORS[(person * 7 + 1) % len(REQUESTORS)]}"'
        copied = f',"cc":["{REQUESTORS[requestors.one()]}"]' if uniform() < 0.1 else ""
        # Of 200 versions, the newest at that time or one a few releases older.
        version = max(0, int(n * VERSIONS / count) - int(chance.expovariate(0.4)))
        fields = f'"Severity":["{severities.one()}"],"Product":["{products.one()}"],"Customer":["{customers.one()}"]'
        if uniform() < 0.8:
            fields += f',"Version":["{version // 10}.{version % 10}"]'
        if tags := int(uniform() * 5):
            fields += ',"Tags":["' + '","'.join(chance.sample(TAGS, tags)) + '"]'
        yield (f'{{"number":{n + 1},"queue":"{queues.one()}","subject":"{" ".join(subject)}","status":"{status}"'
               f'{f""","owner":"{agent}" """.rstrip() if is_owned else ""},"creator":"{creator}","requestors":[{requested}]{copied}'
               f',"priority":{int(uniform() * 100)},"created_at":"{text(created)}","updated_at":"{text(updated)}"{dates}'
               f',"custom_fields":{{{fields}}},"transactions":[{",".join(transactions)}]}}\n')


def plant(chance, count):
    """Chooses the tickets with rare words: `{ticket: [(index among the tickets with that word, word)]}`."""
    planted = {}
    for word, many in RARE.items():
        for place, n in enumerate(sorted(chance.sample(range(count), min(count, max(1, many * count // 1_000_000))))):
            planted.setdefault(n, []).append((place, word))
    return planted


def text(moment):
    return moment.isoformat(timespec="seconds")[:19] + "Z"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.stdout.writelines(tickets(arguments.tickets, arguments.seed))


if __name__ == "__main__":
    main()
