//! `tessera serve`: connects settings, database, core, API and deliveries, and runs them until a signal.

use crate::admin_token;
use crate::cli::migrate;
use crate::config::Config;
use crate::database::Database;
use crate::notify;
use crate::telemetry;
use anyhow::Context as _;
use axum::Router;
use axum::middleware::from_fn;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::Arc;
use std::time::Duration;
use tessera_api::App;
use tessera_api::app::Scrape;
use tessera_api::server::{self, Limits};
use tessera_core::db::Pools;
use tessera_core::db::ops::maintenance::{self, Retention};
use tessera_core::db::{refold, words};
use tessera_core::delivery::email::FileTransport;
use tessera_core::delivery::guard::Guard;
use tessera_core::delivery::smtp::SmtpTransport;
use tessera_core::delivery::webhook::WebhookTransport;
use tessera_core::delivery::worker::{DRAIN, MailTransport, Tools, Transports, Workers};
use tessera_core::desk::{Tessera, clock};
use tessera_core::failpoint::Failpoint;
use tessera_core::models::DeliveryKind;
use tessera_core::models::secret::Secret;
use tessera_grpc::{Address, Listener};
use time::Date;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Interval of the maintenance of tables.
const MAINTENANCE_EVERY: Duration = Duration::from_secs(3_600);
/// Exit code after a second signal, and after a stop that took too long.
const EXIT_AT_ONCE: i32 = 1;
/// Time limit of a stop until the embedded PostgreSQL is stopped: 10 s for requests, [`WORKERS_MAX`] for deliveries, [`CLOSE_MAX`]
/// for connections, and some to spare. Something hangs if it takes longer, and the process ends without it.
const STOP_MAX: Duration = Duration::from_secs(40);
/// Time limit for the workers: 10 s for attempts and 10 s to record their outcomes, and some to spare. They take longer only if the
/// database hangs.
const WORKERS_MAX: Duration = Duration::from_secs(22);
/// Time limit for closing the connections to the database, which does not answer if it hangs.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// The database, the token's file or the address is unavailable.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let (stop, stopped) = on_signal()?;
    raise_file_limit();
    let http = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (http.listen, TESSERA_HTTP__LISTEN)", config.listen))?;
    let grpc = open_listener(config).await?;
    let Some(database) = unless_stopped(&stop, Database::own(config)).await else { return Ok(()) };
    let database = database?;
    let served = serve(config, &database, (http, grpc), stop).await;
    stopped.cancel();
    database.close().await?;
    served
}

/// Waits for a step of the start, which takes long if the database hangs; `None` if the process is to stop before it is done.
async fn unless_stopped<T>(stop: &CancellationToken, step: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        done = step => Some(done),
    }
}

async fn serve(
    config: &Config,
    database: &Database,
    (http, grpc): (TcpListener, Option<Listener>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let pools = Pools::new(&database.options(), config.pool_sizes);
    let prepared = async {
        pools.check_settings().await?;
        migrate::run_on(database).await?;
        // Requests need the partitions. The rest of the maintenance may take long and runs while requests are served.
        maintenance::make_partitions(&pools.write, clock::now()).await;
        anyhow::Ok(())
    };
    match unless_stopped(&stop, prepared).await {
        Some(prepared) => prepared?,
        None => return Ok(()),
    }
    let guard = Guard::new(config.webhook_allow.clone());
    let (mail, mail_to) = mail_transport(config)?;
    let mail_to = if config.sends(&DeliveryKind::Email) { mail_to } else { "connectors".to_owned() };
    let transports = Arc::new(Transports { mail, webhook: WebhookTransport::new(guard.clone())? });
    let opened = Tessera::open(pools.clone(), config.installation(), Arc::new(guard));
    let Some(tessera) = unless_stopped(&stop, opened).await else { return Ok(()) };
    let tessera = Arc::new(tessera?);
    let address = http.local_addr()?;
    let router = router(config, Arc::clone(&tessera), &stop)?;
    // From here on, nothing can fail.
    let workers = DeliveryKind::BUILTIN.iter().any(|kind| config.sends(kind)).then(|| {
        Workers::start(Tools {
            pool: pools.write.clone(),
            transports,
            kinds: config.builtin.clone(),
            wakeup: Arc::clone(tessera.wakeup()),
            clock: clock::now,
            seed: clock::seed,
            drain: DRAIN,
        })
    });
    let maintenance = tokio::spawn(Maintenance::new(pools.clone(), config.retention).run());
    tracing::info!("listening on http://{address}, database {}, mail to {mail_to}", place(config, database));
    let connectors = grpc.map(|grpc| {
        tracing::info!("listening for connectors at {grpc}");
        let limits = tessera_grpc::Limits::default();
        tokio::spawn(tessera_grpc::serve(grpc, Arc::clone(&tessera), limits, stop.clone()))
    });
    let limits = Limits { connections: config.connections_max, ..Limits::default() };
    notify::ready();
    let cut_off = server::serve(http, router, limits, stop).await;
    warn_cut_off(cut_off, "requests", limits.drain);
    if let Some(connectors) = connectors {
        match connectors.await {
            Ok(cut_off) => {
                warn_cut_off(cut_off, "calls of connectors", tessera_grpc::Limits::default().drain);
            }
            Err(error) => tracing::error!(%error, "the listener for connectors failed"),
        }
    }
    maintenance.abort();
    if let Some(workers) = workers
        && tokio::time::timeout(WORKERS_MAX, workers.stop()).await.is_err()
    {
        tracing::warn!(
            "the workers did not end within {} s; their deliveries are repeated",
            WORKERS_MAX.as_secs()
        );
    }
    if tokio::time::timeout(CLOSE_MAX, pools.close()).await.is_err() {
        tracing::warn!("the database did not close its connections within {} s", CLOSE_MAX.as_secs());
    }
    Ok(())
}

/// Opens the listener for connectors, if one is configured.
async fn open_listener(config: &Config) -> anyhow::Result<Option<Listener>> {
    let Some(address) = &config.grpc else { return Ok(None) };
    let grpc = Listener::open(address).await.with_context(|| {
        let (place, setting) = match address {
            Address::Tcp(address) | Address::Tls(address, _) => (address.to_string(), "listen"),
            Address::Unix(path) => (path.display().to_string(), "socket"),
        };
        let variable = setting.to_uppercase();
        format!("cannot serve connectors at {place} (grpc.{setting}, TESSERA_GRPC__{variable})")
    })?;
    Ok(Some(grpc))
}

fn warn_cut_off(connections: usize, what: &str, drain: Duration) {
    if connections > 0 {
        tracing::warn!(
            connections,
            "closed connections: not all {what} finished within {} s",
            drain.as_secs()
        );
    }
}

/// Describes the location of the data, for the log.
fn place(config: &Config, database: &Database) -> String {
    if database.is_embedded() {
        format!("embedded in {}", config.data_dir.join("postgres").display())
    } else {
        "at database.url".to_owned()
    }
}

/// Builds the API with this process's metrics and traces.
fn router(config: &Config, tessera: Arc<Tessera>, stop: &CancellationToken) -> anyhow::Result<Router> {
    let token = admin_token::find_or_create(config)?;
    let scrape = Scrape::new(telemetry::metrics()?, config.metrics_token.as_ref().map(Secret::expose));
    let app = App::new(tessera, token.expose()).with_stop(stop.clone()).with_scrape(scrape);
    let router = tessera_api::router(app);
    Ok(match config.otlp_endpoint {
        Some(_) => router.layer(from_fn(telemetry::continue_trace)),
        None => router,
    })
}

/// Returns the mail server, or the folder for mail if none is configured, with its description for the log.
fn mail_transport(config: &Config) -> anyhow::Result<(MailTransport, String)> {
    match &config.smtp_url {
        Some(url) => {
            let hello = config.base_url.split("://").nth(1).unwrap_or_default();
            let hello = hello.split([':', '/']).next().filter(|host| !host.is_empty()).unwrap_or("localhost");
            let transport = SmtpTransport::new(url.expose(), hello)?;
            Ok((MailTransport::Smtp(transport), "the server of mail.smtp_url".to_owned()))
        }
        None => {
            let folder = config.data_dir.join("mail");
            let description = format!("files in {} (mail.smtp_url is not set)", folder.display());
            Ok((MailTransport::File(FileTransport::new(folder)), description))
        }
    }
}

/// The periodic maintenance of tables.
struct Maintenance {
    pools: Pools,
    retention: Retention,
    cleanup: Cleanup,
}

/// The progress of the cleanup that empties the messages of old deliveries.
struct Cleanup {
    /// The last delivery that was emptied.
    emptied_to: Uuid,
    /// The day on which this pass began.
    day: Date,
}

impl Cleanup {
    fn new(today: Date) -> Self {
        Self { emptied_to: Uuid::nil(), day: today }
    }

    /// Returns the delivery to continue after; starts over on a new day, for deliveries that had not ended when passed.
    fn position(&mut self, today: Date) -> &mut Uuid {
        if today != self.day {
            *self = Self::new(today);
        }
        &mut self.emptied_to
    }
}

impl Maintenance {
    fn new(pools: Pools, retention: Retention) -> Self {
        Self { pools, retention, cleanup: Cleanup::new(clock::now().date()) }
    }

    /// Runs each task once. A failure is logged and retried after [`MAINTENANCE_EVERY`].
    async fn run_once(&mut self) {
        let (pool, now) = (&self.pools.write, clock::now());
        let Retention { traces_days, attempts_days, payloads_days } = self.retention;
        maintenance::make_partitions(pool, now).await;
        if let Err(error) = maintenance::forget_keys(pool, now).await {
            tracing::warn!(%error, "cannot delete old idempotency keys");
        }
        if let Err(error) = words::fill(pool).await {
            tracing::warn!(%error, "cannot index the words of older tickets and messages");
        }
        if let Err(error) = refold::run(pool, now).await {
            tracing::warn!(%error, "cannot fold older subjects, values and words again");
        }
        if let Err(error) = maintenance::drop_traces(pool, traces_days, now).await {
            tracing::warn!(%error, "cannot delete old traces");
        }
        if let Err(error) = maintenance::drop_attempts(pool, attempts_days, now).await {
            tracing::warn!(%error, "cannot delete old attempts of deliveries");
        }
        let from = self.cleanup.position(now.date());
        if let Err(error) = maintenance::empty_messages(pool, payloads_days, now, from).await {
            tracing::warn!(%error, "cannot empty the messages of old deliveries");
        }
    }

    async fn run(mut self) {
        loop {
            self.run_once().await;
            tokio::time::sleep(MAINTENANCE_EVERY).await;
        }
    }
}

/// Raises the limit of file descriptors to the maximum, as each connection needs one; the usual limit of 1,024 exists for
/// programs that use `select`. If this fails, fewer connections are possible, and the accept loop logs when they run out.
fn raise_file_limit() {
    if let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE)
        && now < most
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Returns a token that the first SIGINT or SIGTERM cancels, and one to cancel when all that may hang has stopped. A second signal
/// ends the process immediately, and so does a stop that takes longer than [`STOP_MAX`].
///
/// The signals have a thread and a runtime of their own, so that nothing that occupies the others delays them.
fn on_signal() -> anyhow::Result<(CancellationToken, CancellationToken)> {
    let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let watch = watch_signals(signals, stop.clone(), stopped.clone());
    std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(watch))?;
    Ok((stop, stopped))
}

async fn watch_signals(
    (mut interrupt, mut terminate): (Signal, Signal),
    stop: CancellationToken,
    stopped: CancellationToken,
) {
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    next().await;
    tracing::info!(
        "stopping: finishing requests and deliveries in progress; send a second signal to stop immediately"
    );
    notify::stopping();
    Failpoint::Stopping.pass();
    stop.cancel();
    let hangs = async {
        tokio::time::sleep(STOP_MAX).await;
        if stopped.is_cancelled() {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = next() => tracing::warn!("stopped immediately; deliveries in progress are repeated after the next start"),
        () = hangs => tracing::error!(
            "stopped by force: not everything ended within {} s; deliveries in progress are repeated after the next start",
            STOP_MAX.as_secs()
        ),
    }
    std::process::exit(EXIT_AT_ONCE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn the_cleanup_of_old_messages_starts_over_once_a_day() {
        let (mut cleanup, last) = (Cleanup::new(date!(2026 - 11 - 23)), Uuid::max());
        *cleanup.position(date!(2026 - 11 - 23)) = last;
        assert_eq!(*cleanup.position(date!(2026 - 11 - 23)), last);
        assert_eq!(*cleanup.position(date!(2026 - 11 - 24)), Uuid::nil());
        *cleanup.position(date!(2026 - 11 - 24)) = last;
        assert_eq!(*cleanup.position(date!(2026 - 11 - 24)), last);
    }
}
