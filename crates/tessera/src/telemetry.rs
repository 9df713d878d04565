//! Telemetry of this process: the log on stderr, metrics, and traces if a collector is configured.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{FutureExt as _, TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use tessera_core::metrics as names;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

/// Time limit for a collector to accept a batch of spans, and for the last batch when the process stops.
const COLLECTOR_PATIENCE: Duration = Duration::from_secs(5);
/// Interval at which measurements are folded into histograms, which bounds their number in memory.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// Handles that must be closed before the process ends.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Sets up the log of this process, and its traces if there is a collector: text on a terminal, otherwise one JSON object
/// per line. `RUST_LOG` sets the filter, by default `info` and above. Must be called on a Tokio runtime.
///
/// # Errors
/// `RUST_LOG` or the collector's address is invalid, or a log was already set up.
pub fn init(collector: Option<&str>) -> anyhow::Result<Telemetry> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).context("RUST_LOG is invalid")?,
        _ => EnvFilter::new("info"),
    };
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = if std::io::stderr().is_terminal() { log.boxed() } else { log.json().boxed() };
    let traces = collector.map(traces).transpose()?;
    // Only Tessera's own spans: tracing the exporter's connection would create spans without end.
    let ours = Targets::new().with_target("tessera", LevelFilter::INFO);
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer::<Registry>().with_tracer(traces.tracer("tessera")).with_filter(ours)
    });
    tracing_subscriber::registry()
        .with(spans)
        .with(log.with_filter(filter))
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot set up the log: {error}"))?;
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends the remaining spans. Waits up to [`COLLECTOR_PATIENCE`] for the collector.
    pub async fn close(self) {
        let Some(traces) = self.traces else { return };
        let closed = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(COLLECTOR_PATIENCE));
        if !matches!(closed.await, Ok(Ok(()))) {
            tracing::warn!("cannot send the last traces to the collector (telemetry.otlp_endpoint)");
        }
    }
}

fn traces(collector: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector)
        .with_timeout(COLLECTOR_PATIENCE)
        .build()
        .context("telemetry.otlp_endpoint")?;
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name("tessera").with_attribute(version).build();
    let exporter = LoggedExporter { exporter, is_failing: AtomicBool::new(false) };
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// An exporter that logs once when the collector becomes unavailable, and once when it is back. Spans in between are
/// dropped: traces are worth less than the requests that they describe.
struct LoggedExporter {
    exporter: SpanExporter,
    is_failing: AtomicBool,
}

impl fmt::Debug for LoggedExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exporter.fmt(f)
    }
}

impl opentelemetry_sdk::trace::SpanExporter for LoggedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_failing => {
                tracing::warn!(%error, "the collector (telemetry.otlp_endpoint) accepts no traces; dropping them until it does");
            }
            Ok(()) if was_failing => {
                tracing::info!("the collector (telemetry.otlp_endpoint) accepts traces again")
            }
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Continues the trace of a request's client (W3C `traceparent`).
pub async fn continue_trace(request: Request, next: Next) -> Response {
    let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
    next.run(request).with_context(parent).await
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// Installs the metrics recorder and returns a function that renders Prometheus' text format. Must be called on a Tokio
/// runtime.
///
/// # Errors
/// A recorder is already installed in this process.
pub fn metrics() -> anyhow::Result<impl Fn() -> String + Send + Sync + 'static> {
    let recorder = PrometheusBuilder::new().set_buckets(&names::SECONDS)?.install_recorder()?;
    names::describe();
    let folded = recorder.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FOLD_EVERY).await;
            folded.run_upkeep();
        }
    });
    Ok(move || recorder.render())
}
