//! `tessera serve`: wires settings, database, core, API and deliveries together, and runs them until it is told to stop.

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
use tessera_core::db::words;
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
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the upkeep of tables is done.
const UPKEEP_EVERY: Duration = Duration::from_secs(3_600);
/// How the process ends after a second signal.
const EXIT_AT_ONCE: i32 = 1;

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// The database, the token's file or the address cannot be had.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let stop = on_signal()?;
    raise_file_limit();
    let http = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (http.listen, TESSERA_HTTP__LISTEN)", config.listen))?;
    let grpc = open_listener(config).await?;
    let database = Database::own(config).await?;
    let served = serve(config, &database, (http, grpc), stop).await;
    database.close().await?;
    served
}

async fn serve(
    config: &Config,
    database: &Database,
    (http, grpc): (TcpListener, Option<Listener>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let pools = Pools::new(database.options());
    migrate::run_on(database).await?;
    // What requests need; the rest of the upkeep may take long, and waits until they are served.
    make_partitions(&pools).await;
    let guard = Guard::new(config.webhook_allow.clone());
    let (mail, mail_to) = mail_transport(config)?;
    let mail_to = if config.makes(&DeliveryKind::Email) { mail_to } else { "connectors".to_owned() };
    let transports = Arc::new(Transports { mail, webhook: WebhookTransport::new(guard.clone())? });
    let tessera = Arc::new(Tessera::open(pools.clone(), config.installation(), Arc::new(guard)).await?);
    let address = http.local_addr()?;
    let router = router(config, Arc::clone(&tessera), &stop)?;
    // From here on nothing can fail any more.
    let workers = DeliveryKind::BUILTIN.iter().any(|kind| config.makes(kind)).then(|| {
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
    let upkeep = tokio::spawn(Upkeep::new(pools.clone(), config.retention).keep_up_always());
    tracing::info!("listening on http://{address}, database {}, mail to {mail_to}", place(config, database));
    let connectors = grpc.map(|grpc| {
        tracing::info!("connectors at {grpc}");
        let limits = tessera_grpc::Limits::default();
        tokio::spawn(tessera_grpc::serve(grpc, Arc::clone(&tessera), limits, stop.clone()))
    });
    let limits = Limits { connections: config.connections_max, ..Limits::default() };
    notify::ready();
    let cut_off = server::serve(http, router, limits, stop).await;
    tell_cut_off(cut_off, "requests", limits.drain);
    if let Some(connectors) = connectors {
        match connectors.await {
            Ok(cut_off) => {
                tell_cut_off(cut_off, "calls of connectors", tessera_grpc::Limits::default().drain);
            }
            Err(error) => tracing::error!(%error, "connectors were not served to the end"),
        }
    }
    upkeep.abort();
    if let Some(workers) = workers {
        workers.stop().await;
    }
    pools.close().await;
    Ok(())
}

/// Listens for connectors, where they are served.
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

fn tell_cut_off(connections: usize, what: &str, drain: Duration) {
    if connections > 0 {
        tracing::warn!(connections, "cut off: not all {what} ended within {} s", drain.as_secs());
    }
}

/// Where the data is, for the log.
fn place(config: &Config, database: &Database) -> String {
    if database.is_embedded() {
        format!("embedded in {}", config.data_dir.join("postgres").display())
    } else {
        "as database.url says".to_owned()
    }
}

/// The API, with what this process tells of itself.
fn router(config: &Config, tessera: Arc<Tessera>, stop: &CancellationToken) -> anyhow::Result<Router> {
    let token = admin_token::find_or_make(config)?;
    let scrape = Scrape::new(telemetry::metrics()?, config.metrics_token.as_ref().map(Secret::expose));
    let app = App::new(tessera, token.expose()).with_stop(stop.clone()).with_scrape(scrape);
    let router = tessera_api::router(app);
    Ok(match config.otlp_endpoint {
        Some(_) => router.layer(from_fn(telemetry::continue_trace)),
        None => router,
    })
}

/// The mail server, or the folder that takes its place.
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
            let told = format!("files in {} (no mail.smtp_url is set)", folder.display());
            Ok((MailTransport::File(FileTransport::new(folder)), told))
        }
    }
}

/// The upkeep of tables.
struct Upkeep {
    pools: Pools,
    retention: Retention,
    walk: Walk,
}

/// The walk over old deliveries that empties messages.
struct Walk {
    /// The delivery up to which it has come.
    emptied_to: Uuid,
    /// The day on which it began.
    day: Date,
}

impl Walk {
    fn new(today: Date) -> Self {
        Self { emptied_to: Uuid::nil(), day: today }
    }

    /// Begins anew on a new day, for what was not finished when it was passed.
    fn goes_on(&mut self, today: Date) -> &mut Uuid {
        if today != self.day {
            *self = Self::new(today);
        }
        &mut self.emptied_to
    }
}

/// Makes the partitions of the months to come. A failure is told and tried again the next time.
async fn make_partitions(pools: &Pools) {
    if let Err(error) = maintenance::make_partitions(&pools.write, clock::now()).await {
        tracing::warn!(%error, "no partitions for the months to come; rows go to the default partition");
    }
}

impl Upkeep {
    fn new(pools: Pools, retention: Retention) -> Self {
        Self { pools, retention, walk: Walk::new(clock::now().date()) }
    }

    /// What is done every [`UPKEEP_EVERY`]. A failure is told and tried again the next time.
    async fn keep_up(&mut self) {
        let (pool, now) = (&self.pools.write, clock::now());
        let Retention { traces_days, attempts_days, payloads_days } = self.retention;
        make_partitions(&self.pools).await;
        if let Err(error) = maintenance::forget_keys(pool, now).await {
            tracing::warn!(%error, "old idempotency keys were not deleted");
        }
        if let Err(error) = words::fill(pool).await {
            tracing::warn!(%error, "the words of older tickets and messages were not filled in");
        }
        if let Err(error) = maintenance::drop_traces(pool, traces_days, now).await {
            tracing::warn!(%error, "old traces were not deleted");
        }
        if let Err(error) = maintenance::drop_attempts(pool, attempts_days, now).await {
            tracing::warn!(%error, "old attempts of deliveries were not deleted");
        }
        let from = self.walk.goes_on(now.date());
        if let Err(error) = maintenance::empty_messages(pool, payloads_days, now, from).await {
            tracing::warn!(%error, "old messages of deliveries were not emptied");
        }
    }

    async fn keep_up_always(mut self) {
        loop {
            self.keep_up().await;
            tokio::time::sleep(UPKEEP_EVERY).await;
        }
    }
}

/// Takes as many file descriptors as this process may have: each connection needs one, and the usual limit of 1,024 is there
/// for programs that use `select`. Without it fewer connections are to be had, and the accept loop says so.
fn raise_file_limit() {
    if let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE)
        && now < most
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Cancelled by the first SIGINT or SIGTERM; the second ends the process at once, for who has seen enough.
fn on_signal() -> anyhow::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        tracing::info!(
            "stopping: requests and deliveries under way are finished first; a second signal ends this at once"
        );
        notify::stopping();
        Failpoint::Stopping.pass();
        told.cancel();
        next().await;
        tracing::warn!("ended at once; deliveries under way are made again after the next start");
        std::process::exit(EXIT_AT_ONCE);
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn the_walk_over_old_messages_begins_anew_once_a_day() {
        let (mut walk, last) = (Walk::new(date!(2026 - 11 - 23)), Uuid::max());
        *walk.goes_on(date!(2026 - 11 - 23)) = last;
        assert_eq!(*walk.goes_on(date!(2026 - 11 - 23)), last);
        assert_eq!(*walk.goes_on(date!(2026 - 11 - 24)), Uuid::nil());
        *walk.goes_on(date!(2026 - 11 - 24)) = last;
        assert_eq!(*walk.goes_on(date!(2026 - 11 - 24)), last);
    }
}
