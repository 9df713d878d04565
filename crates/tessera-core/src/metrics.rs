//! The metrics: one table of names, kinds, labels and meanings. `docs/metrics.md` describes them in more detail.

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A count that only increases, from 0 at the start of the process.
    Counter,
    /// A current value.
    Gauge,
    /// Durations, counted in the buckets of [`SECONDS`].
    Histogram,
}

impl Kind {
    /// The word in the Prometheus text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// The meaning, in one sentence.
    pub meaning: &'static str,
}

/// The upper bounds of the buckets of every histogram, in seconds.
pub const SECONDS: [f64; 14] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

/// The number of HTTP requests.
pub const HTTP_REQUESTS: &str = "tessera_http_requests_total";
/// The duration of HTTP requests.
pub const HTTP_REQUEST_SECONDS: &str = "tessera_http_request_seconds";
/// The number of open HTTP connections.
pub const HTTP_CONNECTIONS: &str = "tessera_http_connections";
/// The number of connections closed after a time limit.
pub const HTTP_CUT_OFF: &str = "tessera_http_connections_cut_off_total";
/// The number of rejected requests.
pub const HTTP_SHED: &str = "tessera_http_shed_total";
/// The number of gRPC calls.
pub const GRPC_CALLS: &str = "tessera_grpc_calls_total";
/// The duration of gRPC calls.
pub const GRPC_CALL_SECONDS: &str = "tessera_grpc_call_seconds";
/// The number of open gRPC connections.
pub const GRPC_CONNECTIONS: &str = "tessera_grpc_connections";
/// The number of creates, updates and previews.
pub const CHANGES: &str = "tessera_changes_total";
/// The duration of planning.
pub const PREPARE_SECONDS: &str = "tessera_prepare_seconds";
/// The number of evaluated scrips.
pub const SCRIPS: &str = "tessera_scrips_total";
/// The number of writes that were planned again.
pub const WRITES_MOVED: &str = "tessera_writes_moved_total";
/// The number of delivery attempts.
pub const DELIVERY_ATTEMPTS: &str = "tessera_delivery_attempts_total";
/// The duration of delivery attempts.
pub const DELIVERY_ATTEMPT_SECONDS: &str = "tessera_delivery_attempt_seconds";
/// The number of unfinished deliveries.
pub const DELIVERIES: &str = "tessera_deliveries";
/// The age of the oldest due delivery.
pub const DELIVERY_OLDEST_DUE: &str = "tessera_delivery_oldest_due_seconds";
/// 1 if the database responded, otherwise 0.
pub const DATABASE_UP: &str = "tessera_database_up";
/// The number of database connections.
pub const POOL_CONNECTIONS: &str = "tessera_pool_connections";
/// The version of the configuration.
pub const CATALOG_VERSION: &str = "tessera_catalog_version";
/// The number of configuration objects.
pub const CATALOG_OBJECTS: &str = "tessera_catalog_objects";
/// The version of Tessera.
pub const BUILD_INFO: &str = "tessera_build_info";

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    Metric { name, kind, labels, meaning }
}

/// Every metric.
pub const ALL: [Metric; 21] = [
    metric(
        HTTP_REQUESTS,
        Kind::Counter,
        &["method", "route", "status"],
        "HTTP requests that got a response.",
    ),
    metric(
        HTTP_REQUEST_SECONDS,
        Kind::Histogram,
        &["route"],
        "Time from the head of a request to the head of its response.",
    ),
    metric(HTTP_CONNECTIONS, Kind::Gauge, &[], "Open HTTP connections."),
    metric(
        HTTP_CUT_OFF,
        Kind::Counter,
        &["reason"],
        "Connections that were closed after exceeding a time limit, or because others needed their slot or memory.",
    ),
    metric(
        HTTP_SHED,
        Kind::Counter,
        &[],
        "Requests that were rejected because of a limit on concurrent requests or their memory.",
    ),
    metric(GRPC_CALLS, Kind::Counter, &["method", "code"], "gRPC calls that got a response."),
    metric(
        GRPC_CALL_SECONDS,
        Kind::Histogram,
        &["method"],
        "Time from the head of a gRPC call to its response, including the wait of a lease.",
    ),
    metric(GRPC_CONNECTIONS, Kind::Gauge, &[], "Open gRPC connections."),
    metric(
        CHANGES,
        Kind::Counter,
        &["kind", "outcome"],
        "Creates, updates and previews of tickets, by outcome.",
    ),
    metric(
        PREPARE_SECONDS,
        Kind::Histogram,
        &[],
        "Time to prepare a plan, without the wait for a free planner.",
    ),
    metric(SCRIPS, Kind::Counter, &["verdict"], "Scrips evaluated in changes that were written, by verdict."),
    metric(
        WRITES_MOVED,
        Kind::Counter,
        &[],
        "Writes that were planned again because the ticket or the configuration had changed.",
    ),
    metric(DELIVERY_ATTEMPTS, Kind::Counter, &["kind", "outcome"], "Delivery attempts that ended."),
    metric(DELIVERY_ATTEMPT_SECONDS, Kind::Histogram, &["kind"], "Duration of delivery attempts."),
    metric(DELIVERIES, Kind::Gauge, &["state", "kind"], "Unfinished deliveries."),
    metric(
        DELIVERY_OLDEST_DUE,
        Kind::Gauge,
        &[],
        "Time for which the oldest due delivery has been due; 0 if none is due.",
    ),
    metric(DATABASE_UP, Kind::Gauge, &[], "1 if the database responded to this scrape, otherwise 0."),
    metric(POOL_CONNECTIONS, Kind::Gauge, &["pool", "state"], "Connections to the database."),
    metric(CATALOG_VERSION, Kind::Gauge, &[], "The version of the configuration that this process uses."),
    metric(CATALOG_OBJECTS, Kind::Gauge, &["kind"], "Objects in the configuration that this process uses."),
    metric(BUILD_INFO, Kind::Gauge, &["version"], "Always 1; the label is the version of Tessera."),
];

/// Registers the meaning of every metric with the recorder of this process.
pub fn describe() {
    for Metric { name, kind, meaning, .. } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, meaning),
            Kind::Gauge => metrics::describe_gauge!(name, meaning),
            Kind::Histogram => metrics::describe_histogram!(name, meaning),
        }
    }
}
