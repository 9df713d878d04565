"""Filters out test cases that schemathesis would report wrongly."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    # The document lists the headers that have a meaning. Other headers are allowed, as everywhere in HTTP.
    return "x-schemathesis-unknown-property" not in (case.headers or {})
