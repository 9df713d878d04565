//! The codes of errors: one table from which the documentation, the OpenAPI document and both edges take what they say of a code.

use super::Kind;
use std::fmt;

/// The explanation of a code in `docs/api.md`, in Markdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The circumstances under which a request gets this code.
    pub meaning: &'static str,
    /// The next step of the person or program that sent the request (empty: nothing to do).
    pub user: &'static str,
    /// The next step of the person who runs the server (empty: nothing to do).
    pub operator: &'static str,
}

macro_rules! codes {
    ($($name:ident: $code:literal, $kind:ident, $title:literal,
        meaning: $meaning:literal, user: $user:literal, operator: $operator:literal;)+) => {
        /// A stable name for one way in which a request can fail. Programs match on it; its wire form never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $code, "`: ", $meaning, ".")] $name,)+
        }

        impl Code {
            /// Every code, in the order of `docs/api.md`.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The wire form: `transition_denied`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The class, which decides the status that the edges send.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)+ }
            }

            /// The code in a few words, as the title of a problem document.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// Its row in `docs/api.md`.
            pub fn explanation(self) -> Explanation {
                match self {
                    $(Self::$name => Explanation { meaning: $meaning, user: $user, operator: $operator },)+
                }
            }
        }
    };
}

codes! {
    Forbidden: "forbidden", Forbidden, "Connector not allowed",
        meaning: "gRPC only: the connector is not bound to this kind, or is not bound to a user and therefore cannot read or change tickets",
        user: "ask for a token with that binding",
        operator: "add a connector with that binding: `tessera connector add`";
    Invalid: "invalid", Invalid, "Invalid request",
        meaning: "the request is well-formed but has invalid values",
        user: "correct the fields in `errors`; each error says what exists or is allowed",
        operator: "";
    IdempotencyKeyReused: "idempotency_key_reused", Invalid, "Idempotency key reused",
        meaning: "the key was already used for a different request",
        user: "use a new key for a new request",
        operator: "";
    MalformedJson: "malformed_json", Malformed, "Malformed JSON",
        meaning: "the body is not valid JSON",
        user: "send JSON; `detail` has the position",
        operator: "";
    MalformedBody: "malformed_body", Malformed, "Incomplete body",
        meaning: "the body was cut off",
        user: "send it again",
        operator: "if this recurs, check whether a reverse proxy truncates bodies";
    MalformedMessage: "malformed_message", Malformed, "Malformed message",
        meaning: "gRPC only: the message does not have the type that the method expects",
        user: "regenerate the client from `proto/tessera/v1`",
        operator: "";
    MalformedHeader: "malformed_header", Malformed, "Malformed header",
        meaning: "a request header is malformed",
        user: "see `detail` for the format",
        operator: "";
    MalformedQuery: "malformed_query", Malformed, "Malformed query string",
        meaning: "the URL's query string is malformed or has an unknown parameter",
        user: "see `detail`",
        operator: "";
    InvalidQuery: "invalid_query", Malformed, "Invalid query",
        meaning: "the TicketSQL query has a syntax error or names something that does not exist",
        user: "see `span` and `hint`; `GET /api/ticketsql/schema` lists what exists",
        operator: "";
    QueryTimeout: "query_timeout", Invalid, "Query timed out",
        meaning: "the search took longer than 10 s",
        user: "narrow the search as `detail` suggests; `…/search/explain` shows which part is slow",
        operator: "check the query plan; run `ANALYZE` after a large import";
    MalformedPath: "malformed_path", Malformed, "Malformed path",
        meaning: "the path is not valid UTF-8",
        user: "percent-encode it as UTF-8",
        operator: "";
    MalformedCursor: "malformed_cursor", Malformed, "Malformed cursor",
        meaning: "the cursor does not belong to this list, query or order",
        user: "pass `next_cursor` unchanged, to the same list",
        operator: "";
    UnsupportedMediaType: "unsupported_media_type", Malformed, "Unsupported media type",
        meaning: "the `Content-Type` is not JSON",
        user: "send `Content-Type: application/json`",
        operator: "";
    MethodNotAllowed: "method_not_allowed", Malformed, "Method not allowed",
        meaning: "the route does not support this method",
        user: "see [Routes](#routes)",
        operator: "";
    BodyTooLarge: "body_too_large", TooLarge, "Body too large",
        meaning: "the body is larger than 1 MiB",
        user: "send less; store files elsewhere and link to them",
        operator: "";
    Unauthenticated: "unauthenticated", Unauthenticated, "Authentication required",
        meaning: "the token is missing, invalid or revoked",
        user: "send a valid token",
        operator: "`tessera token` prints the administrator's token; a proxy must pass `Authorization` on";
    PermissionDenied: "permission_denied", Forbidden, "Permission denied",
        meaning: "you lack a right; `detail` names it",
        user: "ask an administrator",
        operator: "";
    NotFound: "not_found", NotFound, "Not found",
        meaning: "the object or the route does not exist",
        user: "check the name",
        operator: "";
    TransitionDenied: "transition_denied", Conflict, "Transition denied",
        meaning: "the lifecycle does not allow this status change",
        user: "choose one from `allowed`",
        operator: "add the transition to the lifecycle if people need it";
    NoStatusMap: "no_status_map", Conflict, "No status map",
        meaning: "the lifecycle does not define which status the ticket gets in the other queue",
        user: "ask the person who maintains the lifecycles",
        operator: "add the map that `detail` names";
    PlanChanged: "plan_changed", Conflict, "Plan changed",
        meaning: "the plan is no longer the one in `If-Plan`",
        user: "review `plan`, decide again, and send its `plan_hash`",
        operator: "";
    VersionMismatch: "version_mismatch", Precondition, "Precondition failed",
        meaning: "the ticket has changed",
        user: "read it again and decide again",
        operator: "";
    DeliveryFinished: "delivery_finished", Conflict, "Delivery finished",
        meaning: "the delivery is already finished and cannot be held, released or cancelled",
        user: "resend it if it should be sent once more",
        operator: "";
    DeliveryUnfinished: "delivery_unfinished", Conflict, "Delivery unfinished",
        meaning: "the delivery is not finished and will be attempted automatically",
        user: "release it to attempt it now",
        operator: "";
    EndpointHeld: "endpoint_held", Conflict, "Endpoint held",
        meaning: "all deliveries to this endpoint are held",
        user: "release the endpoint first",
        operator: "";
    PayloadGone: "payload_gone", Conflict, "Payload no longer stored",
        meaning: "the content of the delivery is no longer stored",
        user: "make the change again, or write the message yourself",
        operator: "keep payloads longer: `retention.payloads_days`";
    NameTaken: "name_taken", Conflict, "Name taken",
        meaning: "the name is already in use, perhaps in different case or by a disabled object",
        user: "use another name, or change the existing object",
        operator: "";
    InUse: "in_use", Conflict, "In use",
        meaning: "tickets, scrips, templates or maps still use the object; `detail` counts or names them",
        user: "change them first; `?force=true` overrides the use by scrips, templates and maps, but not by tickets",
        operator: "";
    LimitReached: "limit_reached", Conflict, "Limit reached",
        meaning: "the maximum number of these objects is reached, an edit would move too many tickets at once, or a ticket has too many transactions for a view of an earlier time",
        user: "reuse one that is no longer needed, or do what `detail` says",
        operator: "";
    Busy: "busy", Busy, "Service busy",
        meaning: "a queue is full, all database connections are in use, all exports that may run at once are running, or the data kept changing under the request",
        user: "send it again after `Retry-After`",
        operator: "if this recurs, the machine is overloaded or something holds locks; check PostgreSQL's activity";
    Locked: "locked", Busy, "Locked",
        meaning: "another session is changing the same data and did not finish within 2 s",
        user: "send it again",
        operator: "if this recurs, find the session that holds the lock (`pg_stat_activity`, `pg_locks`)";
    Overloaded: "overloaded", Busy, "Service overloaded",
        meaning: "the limit of 256 concurrent requests, or of the memory for bodies and unread responses, is reached",
        user: "send it again after `Retry-After`",
        operator: "check `tessera_http_shed_total`; the machine is overloaded";
    BodyTooSlow: "body_too_slow", Malformed, "Request timed out",
        meaning: "the body did not arrive within 15 s; the connection is closed",
        user: "send it again over a better connection",
        operator: "";
    Timeout: "timeout", Busy, "Request timed out",
        meaning: "the request took longer than 15 s and was stopped; it may or may not have taken effect",
        user: "send it again with the same `Idempotency-Key`; without one, check first",
        operator: "check the database and the disk";
    PlanTooSlow: "plan_too_slow", Busy, "Planning timed out",
        meaning: "planning took longer than 2 s",
        user: "contact the operator",
        operator: "look for a scrip with a very large template, or a machine without a free core";
    DatabaseUnavailable: "database_unavailable", Unavailable, "Database unavailable",
        meaning: "the database does not respond, or cannot accept this request now",
        user: "send it again",
        operator: "check PostgreSQL's log and the disk; Tessera reconnects automatically";
    DatabaseNewer: "database_newer", Conflict, "Database is newer",
        meaning: "at startup: a newer Tessera has used this database",
        user: "",
        operator: "start the newer version, or restore a backup from before it";
    Internal: "internal", Internal, "Internal error",
        meaning: "an error in Tessera or on the disk",
        user: "report it with the `request_id`; you can retry with an `Idempotency-Key`",
        operator: "find the `request_id` in the log, which has the error and its causes";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
