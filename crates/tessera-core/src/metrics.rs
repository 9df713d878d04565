//! What is measured: one table of names, kinds, labels and meanings. `docs/metrics.md` says the same at more length.

/// What kind of series a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start of the process.
    Counter,
    /// A value of the moment.
    Gauge,
    /// Counts by size, in the buckets of [`SECONDS`].
    Histogram,
}

impl Kind {
    /// The word of Prometheus.
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
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub meaning: &'static str,
}

/// Upper ends of the buckets of every histogram, in seconds.
pub const SECONDS: [f64; 14] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

/// Requests answered.
pub const HTTP_REQUESTS: &str = "tessera_http_requests_total";
/// The time of requests.
pub const HTTP_REQUEST_SECONDS: &str = "tessera_http_request_seconds";
/// Open connections.
pub const HTTP_CONNECTIONS: &str = "tessera_http_connections";
/// Connections that had their time.
pub const HTTP_CUT_OFF: &str = "tessera_http_connections_cut_off_total";
/// Requests turned away.
pub const HTTP_SHED: &str = "tessera_http_shed_total";
/// Calls of connectors answered.
pub const GRPC_CALLS: &str = "tessera_grpc_calls_total";
/// The time of calls.
pub const GRPC_CALL_SECONDS: &str = "tessera_grpc_call_seconds";
/// Open connections of connectors.
pub const GRPC_CONNECTIONS: &str = "tessera_grpc_connections";
/// Creates, updates and previews.
pub const CHANGES: &str = "tessera_changes_total";
/// The time of `prepare`.
pub const PREPARE_SECONDS: &str = "tessera_prepare_seconds";
/// Scrips considered.
pub const SCRIPS: &str = "tessera_scrips_total";
/// Writes that found something moved.
pub const WRITES_MOVED: &str = "tessera_writes_moved_total";
/// Attempts of deliveries.
pub const DELIVERY_ATTEMPTS: &str = "tessera_delivery_attempts_total";
/// The time of attempts.
pub const DELIVERY_ATTEMPT_SECONDS: &str = "tessera_delivery_attempt_seconds";
/// Unfinished deliveries.
pub const DELIVERIES: &str = "tessera_deliveries";
/// The age of the oldest due delivery.
pub const DELIVERY_OLDEST_DUE: &str = "tessera_delivery_oldest_due_seconds";
/// Whether the database answered.
pub const DATABASE_UP: &str = "tessera_database_up";
/// Connections to the database.
pub const POOL_CONNECTIONS: &str = "tessera_pool_connections";
/// The configuration's version.
pub const CATALOG_VERSION: &str = "tessera_catalog_version";
/// The configuration's size.
pub const CATALOG_OBJECTS: &str = "tessera_catalog_objects";
/// What runs.
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
    metric(HTTP_REQUESTS, Kind::Counter, &["method", "route", "status"], "Requests that were answered."),
    metric(
        HTTP_REQUEST_SECONDS,
        Kind::Histogram,
        &["route"],
        "Time from a request's head to the answer's head.",
    ),
    metric(HTTP_CONNECTIONS, Kind::Gauge, &[], "Open connections of clients."),
    metric(
        HTTP_CUT_OFF,
        Kind::Counter,
        &["reason"],
        "Connections that were ended because they had their time.",
    ),
    metric(HTTP_SHED, Kind::Counter, &[], "Requests that were turned away because too many were at work."),
    metric(GRPC_CALLS, Kind::Counter, &["method", "code"], "Calls of connectors that were answered."),
    metric(
        GRPC_CALL_SECONDS,
        Kind::Histogram,
        &["method"],
        "Time from a call's head to its answer; of a lease with its wait.",
    ),
    metric(GRPC_CONNECTIONS, Kind::Gauge, &[], "Open connections of connectors."),
    metric(
        CHANGES,
        Kind::Counter,
        &["kind", "outcome"],
        "Creates, updates and previews of tickets, by what became of them.",
    ),
    metric(
        PREPARE_SECONDS,
        Kind::Histogram,
        &[],
        "Time that making a plan took, without waiting for its turn.",
    ),
    metric(SCRIPS, Kind::Counter, &["verdict"], "Scrips considered in changes that were made, by verdict."),
    metric(
        WRITES_MOVED,
        Kind::Counter,
        &[],
        "Writes that were prepared anew because the ticket or the configuration had moved.",
    ),
    metric(
        DELIVERY_ATTEMPTS,
        Kind::Counter,
        &["kind", "outcome"],
        "Attempts to deliver that came to an end.",
    ),
    metric(DELIVERY_ATTEMPT_SECONDS, Kind::Histogram, &["kind"], "Time that an attempt to deliver took."),
    metric(DELIVERIES, Kind::Gauge, &["state", "kind"], "Deliveries that are not finished."),
    metric(
        DELIVERY_OLDEST_DUE,
        Kind::Gauge,
        &[],
        "How long the delivery that is due longest has been due; 0 when none is.",
    ),
    metric(DATABASE_UP, Kind::Gauge, &[], "Whether the database answered this scrape: 1 or 0."),
    metric(POOL_CONNECTIONS, Kind::Gauge, &["pool", "state"], "Connections to the database."),
    metric(CATALOG_VERSION, Kind::Gauge, &[], "The version of the configuration that this process uses."),
    metric(CATALOG_OBJECTS, Kind::Gauge, &["kind"], "Things in the configuration that this process uses."),
    metric(BUILD_INFO, Kind::Gauge, &["version"], "1, with the version of Tessera that runs."),
];

/// Tells the recorder of this process what every metric means.
pub fn describe() {
    for Metric { name, kind, meaning, .. } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, meaning),
            Kind::Gauge => metrics::describe_gauge!(name, meaning),
            Kind::Histogram => metrics::describe_histogram!(name, meaning),
        }
    }
}
