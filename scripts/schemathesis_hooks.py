"""What schemathesis would hold against the API wrongly."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    # A document lists the headers that mean something. Others are allowed, as everywhere in HTTP.
    return "x-schemathesis-unknown-property" not in (case.headers or {})
