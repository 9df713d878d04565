"""Runs the benchmarks of docs/benchmarks.md: measures the requested figures and prints one table."""

import argparse
import sys

import figures
import finding
from house import Postgres


FIGURES = dict(sorted((figures.FIGURES | finding.FIGURES).items(), key=lambda figure: int(figure[0][1:])))


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench/run.sh", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"one of {', '.join(FIGURES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="two rounds of two seconds: a rough result, not for publication")
    parser.add_argument("--postgres", metavar="DIR", help="the directory of PostgreSQL's programs")
    arguments = parser.parse_args()
    unknown = set(arguments.figures) - set(FIGURES)
    if unknown:
        parser.error(f"unknown figure: {', '.join(sorted(unknown))}; choose from {', '.join(FIGURES)}")
    wanted = [measure for name, measure in FIGURES.items() if name in arguments.figures or not arguments.figures]
    postgres, bench, rows = Postgres(arguments.postgres), None, []
    try:
        bench = figures.Bench(postgres, arguments.quick)
        for measure in dict.fromkeys(wanted):
            print(f"==> {measure.__doc__.splitlines()[0]}", file=sys.stderr, flush=True)
            rows += measure(bench)
    finally:
        if bench:
            bench.server.stop()
        postgres.stop()
        # Print the figures measured so far, even if the next one failed.
        print(table(rows))
    return all(row.passes(row.bound) is not False for row in rows)


def table(rows):
    def number(value):
        return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"

    def word(row):
        verdict = {None: "", True: "yes", False: "**no**"}[row.passes(row.bound)]
        return verdict + (", target too" if row.aim is not None and verdict == "yes" and row.passes(row.aim) else "")

    head = ["", "what", "figure", "floor", "ratio", "spread", "bound", "target", "met"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        sign = "≤ " if row.at_most else "≥ "
        lines.append([row.number, row.what, row.figure, row.floor, number(row.ratio),
                      "" if row.spread is None else f"± {row.spread:.0%}",
                      "" if row.bound is None else sign + number(row.bound), "" if row.aim is None else sign + number(row.aim), word(row)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
