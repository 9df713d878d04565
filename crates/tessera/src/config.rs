//! The settings from `default.toml`, a file and the environment, validated; each fault names its setting and source.

mod grpc;
mod show;
mod sources;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use figment::Figment;
use figment::providers::{Format as _, Toml};
use grpc::Grpc;
use ipnet::IpNet;
use serde::Deserialize;
use sources::{DEFAULTS, ENVIRONMENT, Environment, PREFIX, explain, layer, read_small};
use sqlx::postgres::PgConnectOptions;
use tessera_core::db::PoolSizes;
use tessera_core::db::ops::maintenance::Retention;
use tessera_core::delivery::smtp::SmtpTransport;
use tessera_core::models::DeliveryKind;
use tessera_core::models::secret::Secret;
use tessera_core::plan::Installation;
use tessera_grpc::Address;
use url::Url;

use crate::postgres::tools::unknown_parameter;

/// Every setting with its meaning, its unit and its default.
pub const DEFAULT: &str = include_str!("default.toml");
/// The range of `http.connections_max`; each connection takes a file descriptor and some 20 KB.
const CONNECTIONS: RangeInclusive<u32> = 1..=100_000;
/// The range of the settings in `[database.connections]`. Each connection is a process of PostgreSQL.
const POOL: RangeInclusive<u32> = 1..=200;
/// The range of `database.connections.searches`: at least one for exports and one for searches.
const POOL_OF_SEARCHES: RangeInclusive<u32> = 2..=200;
/// The minimum length of a token; a shorter one could be guessed.
const TOKEN_CHARS: usize = 16;

/// The validated settings of a process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The instance's name, used as the tag in subjects. RT: `$rtname`.
    pub name: String,
    /// The public URL of the instance, without a trailing slash.
    pub base_url: String,
    /// The directory of everything kept on disk; absolute.
    pub data_dir: PathBuf,
    /// The address of the HTTP server.
    pub listen: SocketAddr,
    /// Maximum number of simultaneous client connections.
    pub connections_max: usize,
    /// The address of the gRPC server for connectors; `None` = disabled.
    pub grpc: Option<Address>,
    /// The database; `None` = the embedded cluster.
    pub database_url: Option<Secret>,
    /// Maximum numbers of connections to the database.
    pub pool_sizes: PoolSizes,
    /// The directory of PostgreSQL's programs for the embedded cluster; `None` = search the usual places.
    pub bin_dir: Option<PathBuf>,
    /// The administrator token; `None` = the file in the data directory.
    pub admin_token: Option<Secret>,
    /// The mail server; `None` = write mail to files.
    pub smtp_url: Option<Secret>,
    /// The sender of mail from queues that have none.
    pub mail_from: String,
    /// Private networks that webhooks may reach.
    pub webhook_allow: Vec<IpNet>,
    /// Whether this process sends deliveries.
    pub delivers: bool,
    /// The kinds of deliveries that this process sends itself; connectors send the others.
    pub builtin: Vec<DeliveryKind>,
    /// The token that gives access to the metrics only.
    pub metrics_token: Option<Secret>,
    /// The collector that receives traces; `None` = no traces.
    pub otlp_endpoint: Option<String>,
    /// How long traces, attempts and messages are kept.
    pub retention: Retention,
}

/// Invalid settings and unreadable sources: a message for each, which names both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems in the order in which they were found; never empty.
    pub faults: Vec<String>,
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "{} settings are invalid:\n  {}", many.len(), many.join("\n  ")),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The inputs that settings are read from; a value, so that tests need not change the process.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The file given with `--config`.
    pub file: Option<PathBuf>,
    /// The environment variables.
    pub vars: BTreeMap<String, String>,
    /// Whether the process runs as root.
    pub is_root: bool,
    /// This machine's name.
    pub hostname: String,
}

impl Surroundings {
    /// Returns those of this process. Skips variables that are not UTF-8, as no setting has such a name.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self {
            file,
            vars: std::env::vars_os().filter_map(text).collect(),
            is_root: nix::unistd::Uid::effective().is_root(),
            hostname: hostname.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into()),
        }
    }
}

impl Config {
    /// Returns the installation's name and addresses, for the core.
    pub fn installation(&self) -> Installation {
        Installation {
            name: self.name.clone(),
            base_url: self.base_url.clone(),
            mail_from: self.mail_from.clone(),
        }
    }

    /// Returns whether this process sends deliveries of a kind itself.
    pub fn sends(&self, kind: &DeliveryKind) -> bool {
        self.delivers && self.builtin.contains(kind)
    }

    /// Reads the settings: the environment overrides the file, which overrides the defaults.
    ///
    /// # Errors
    /// Names every invalid setting and its source: `TESSERA_HTTP__LISTEN: ...`, `http.listen in tessera.toml: ...`.
    pub fn load(surroundings: &Surroundings) -> Result<Self, ConfigError> {
        Reader::new(surroundings).read(surroundings)
    }

    /// Returns every setting with its value and source, as a valid settings file; secrets are hidden.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn show(surroundings: &Surroundings) -> Result<String, ConfigError> {
        let reader = Reader::new(surroundings);
        let config = reader.read(surroundings)?;
        Ok(show::show(&reader, &config))
    }

    /// Describes the sources of the settings: the file and the number of variables.
    pub fn sources(surroundings: &Surroundings) -> String {
        let path = sources::path(surroundings.file.as_deref());
        let file = path.map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
        let variables = surroundings.vars.keys().filter(|name| name.starts_with(PREFIX)).count();
        format!("{file} and {variables} environment variables")
    }
}

/// The settings as written, before they are parsed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    name: Option<String>,
    base_url: Option<String>,
    data_dir: Option<String>,
    http: Http,
    grpc: Grpc,
    database: Database,
    auth: Auth,
    mail: Mail,
    webhook: Webhook,
    delivery: Delivery,
    metrics: Metrics,
    telemetry: Telemetry,
    retention: Retention,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    listen: Option<String>,
    connections_max: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Database {
    url: Option<String>,
    url_file: Option<String>,
    connections: DatabaseConnections,
    embedded: EmbeddedDatabase,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DatabaseConnections {
    changes: Option<u32>,
    previews: Option<u32>,
    read: Option<u32>,
    searches: Option<u32>,
    write: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EmbeddedDatabase {
    bin_dir: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Auth {
    admin_token: Option<String>,
    admin_token_file: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mail {
    smtp_url: Option<String>,
    smtp_url_file: Option<String>,
    from: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Webhook {
    allow: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Delivery {
    enabled: bool,
    builtin: Vec<String>,
}

impl Default for Delivery {
    fn default() -> Self {
        let builtin = DeliveryKind::BUILTIN.iter().map(ToString::to_string).collect();
        Self { enabled: true, builtin }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Metrics {
    token: Option<String>,
    token_file: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Telemetry {
    otlp_endpoint: Option<String>,
}

/// Parses the settings, and collects each fault with its source.
struct Reader {
    figment: Figment,
    settings: Settings,
    faults: RefCell<Vec<String>>,
}

impl Reader {
    fn new(surroundings: &Surroundings) -> Self {
        let mut faults = Vec::new();
        let mut figment = layer(DEFAULTS, Toml::string(DEFAULT), &mut faults);
        match sources::file(surroundings.file.as_deref()) {
            Ok(None) => {}
            Ok(Some((source, text))) => {
                figment = figment.merge(layer(&source, Toml::string(&text), &mut faults));
            }
            Err(fault) => faults.push(fault),
        }
        figment = figment.merge(layer(ENVIRONMENT, Environment(&surroundings.vars), &mut faults));
        let settings = figment.extract().unwrap_or_else(|error| {
            faults.push(explain("the settings", error));
            Settings::default()
        });
        Self { figment, settings, faults: RefCell::new(faults) }
    }

    fn read(&self, surroundings: &Surroundings) -> Result<Config, ConfigError> {
        let Settings {
            name,
            base_url,
            data_dir,
            http,
            grpc,
            database,
            auth,
            mail,
            webhook,
            delivery,
            metrics,
            telemetry,
            retention,
        } = &self.settings;
        let listen = self.kept(self.listen(http.listen.as_deref()), SocketAddr::from(([127, 0, 0, 1], 8080)));
        let bin_dir = ("database.embedded.bin_dir", database.embedded.bin_dir.as_deref());
        let sender = format!("tessera@{}", surroundings.hostname);
        let config = Config {
            name: self.kept(self.text("name", name.as_deref()), None).unwrap_or("tessera").to_owned(),
            base_url: self.kept(self.base_url(base_url.as_deref(), listen), String::new()),
            data_dir: self.kept(self.data_dir(data_dir.as_deref(), surroundings), PathBuf::new()),
            listen,
            connections_max: self.kept(self.connections_max(http.connections_max), 0),
            grpc: self.grpc(grpc, listen),
            database_url: self.kept(self.database_url(database), None),
            pool_sizes: self.pool_sizes(database.connections),
            bin_dir: self.kept(self.text(bin_dir.0, bin_dir.1), None).map(PathBuf::from),
            admin_token: self.kept(
                self.token("auth.admin_token", auth.admin_token.as_deref(), auth.admin_token_file.as_deref()),
                None,
            ),
            smtp_url: self.kept(self.smtp_url(mail), None),
            mail_from: self.kept(self.mail_from(mail.from.as_deref()), None).unwrap_or(sender),
            webhook_allow: self.networks(&webhook.allow),
            delivers: delivery.enabled,
            builtin: self.builtin(&delivery.builtin),
            metrics_token: self.kept(
                self.token("metrics.token", metrics.token.as_deref(), metrics.token_file.as_deref()),
                None,
            ),
            otlp_endpoint: self.kept(self.otlp_endpoint(telemetry.otlp_endpoint.as_deref()), None),
            retention: *retention,
        };
        match self.faults.take() {
            faults if faults.is_empty() => Ok(config),
            faults => Err(ConfigError { faults }),
        }
    }

    /// Returns the value; or, after recording the fault, a placeholder that lets the remaining settings be checked.
    fn kept<T>(&self, read: Result<T, String>, instead: T) -> T {
        read.unwrap_or_else(|fault| {
            self.faults.borrow_mut().push(fault);
            instead
        })
    }

    /// Prefixes a problem with the source of the setting. A secret without a source was read from the file in `<key>_file`.
    fn fault(&self, key: &str, problem: impl Display) -> String {
        let twin = format!("{key}_file");
        let key = if self.figment.find_value(key).is_ok() { key } else { &twin };
        sources::fault(&self.source(key), key, problem)
    }

    /// Returns the source that set this setting last.
    fn source(&self, key: &str) -> String {
        self.figment
            .find_metadata(key)
            .map_or_else(|| DEFAULTS.to_owned(), |metadata| metadata.name.to_string())
    }

    /// Validates a text. Rejects an empty one: somebody meant to set a value, and an empty token or address must never count
    /// as one.
    fn text<'t>(&self, key: &str, text: Option<&'t str>) -> Result<Option<&'t str>, String> {
        match text {
            Some(text) if text.trim().is_empty() => {
                Err(self.fault(key, "is empty; remove it to use the default"))
            }
            Some(text) if text.contains(char::is_control) => {
                Err(self.fault(key, "contains a control character"))
            }
            text => Ok(text),
        }
    }

    fn listen(&self, text: Option<&str>) -> Result<SocketAddr, String> {
        let text = self.text("http.listen", text)?.unwrap_or("127.0.0.1:8080");
        text.parse().map_err(|_| {
            self.fault(
                "http.listen",
                format_args!("\"{text}\" is not an address with a port, such as 127.0.0.1:8080"),
            )
        })
    }

    fn connections_max(&self, number: Option<u32>) -> Result<usize, String> {
        let number = self.within("http.connections_max", CONNECTIONS, number.unwrap_or(1_024))?;
        Ok(number as usize)
    }

    /// Checks that a number is in the range of its setting.
    fn within(&self, key: &str, range: RangeInclusive<u32>, number: u32) -> Result<u32, String> {
        if range.contains(&number) {
            return Ok(number);
        }
        let (least, most) = range.into_inner();
        Err(self.fault(key, format_args!("{number} must be {least} to {most}")))
    }

    fn pool_sizes(&self, connections: DatabaseConnections) -> PoolSizes {
        let DatabaseConnections { changes, previews, read, searches, write } = connections;
        let size = |key: &str, range, number: Option<u32>, default| {
            let key = format!("database.connections.{key}");
            self.kept(self.within(&key, range, number.unwrap_or(default)), default)
        };
        let default = PoolSizes::DEFAULT;
        PoolSizes {
            changes: size("changes", POOL, changes, default.changes),
            previews: size("previews", POOL, previews, default.previews),
            read: size("read", POOL, read, default.read),
            searches: size("searches", POOL_OF_SEARCHES, searches, default.searches),
            write: size("write", POOL, write, default.write),
        }
    }

    fn otlp_endpoint(&self, text: Option<&str>) -> Result<Option<String>, String> {
        let key = "telemetry.otlp_endpoint";
        let Some(text) = self.text(key, text)? else { return Ok(None) };
        match Url::parse(text) {
            // The connection to a collector does not use TLS: it runs on this machine or in its network.
            Ok(url) if url.scheme() == "http" && url.has_host() => Ok(Some(text.to_owned())),
            _ => {
                Err(self
                    .fault(key, format_args!("\"{text}\" is not an http URL, such as http://127.0.0.1:4317")))
            }
        }
    }

    fn base_url(&self, text: Option<&str>, listen: SocketAddr) -> Result<String, String> {
        let Some(text) = self.text("base_url", text)? else {
            let host = if listen.ip().is_unspecified() { "localhost".into() } else { host(listen) };
            return Ok(format!("http://{host}:{}", listen.port()));
        };
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.query().is_none() => {
                Ok(text.trim_end_matches('/').to_owned())
            }
            _ => Err(self.fault("base_url", format_args!("\"{text}\" is not an http or https URL"))),
        }
    }

    fn data_dir(&self, text: Option<&str>, surroundings: &Surroundings) -> Result<PathBuf, String> {
        let dir = match self.text("data_dir", text)? {
            Some(dir) => PathBuf::from(dir),
            None => default_data_dir(surroundings)?,
        };
        std::path::absolute(&dir)
            .map_err(|error| self.fault("data_dir", format_args!("{}: {error}", dir.display())))
    }

    /// Reads a secret from its setting or from the file in `<key>_file`.
    fn secret(&self, key: &str, value: Option<&str>, file: Option<&str>) -> Result<Option<Secret>, String> {
        let value = self.text(key, value)?;
        let file_key = format!("{key}_file");
        let Some(file) = self.text(&file_key, file)? else { return Ok(value.map(Secret::new)) };
        if value.is_some() {
            return Err(self.fault(&file_key, format_args!("{key} is also set; remove one of them")));
        }
        let text = read_small(Path::new(file))
            .map_err(|problem| self.fault(&file_key, format_args!("{file} {problem}")))?;
        let text = self.text(&file_key, Some(text.trim_end_matches(['\n', '\r'])))?;
        Ok(text.map(Secret::new))
    }

    fn database_url(&self, database: &Database) -> Result<Option<Secret>, String> {
        let key = "database.url";
        let url = self.secret(key, database.url.as_deref(), database.url_file.as_deref())?;
        let is_postgres = |url: &Secret| {
            let text = url.expose();
            ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
                && PgConnectOptions::from_str(text).is_ok()
        };
        match url {
            // Checked first, as sqlx would log an unknown parameter with its value.
            Some(url) if let Some(name) = unknown_parameter(url.expose()) => {
                Err(self.fault(key, format_args!("has an unknown parameter: {name}")))
            }
            Some(url) if !is_postgres(&url) => {
                Err(self.fault(key, "is not a postgres://user:password@host/name URL"))
            }
            url => Ok(url),
        }
    }

    fn token(&self, key: &str, value: Option<&str>, file: Option<&str>) -> Result<Option<Secret>, String> {
        match self.secret(key, value, file)? {
            Some(token) if token.expose().chars().count() < TOKEN_CHARS => {
                Err(self.fault(key, format_args!("is shorter than {TOKEN_CHARS} characters")))
            }
            Some(token) if !token.expose().chars().all(|it| it.is_ascii_graphic()) => {
                Err(self
                    .fault(key, "may contain only visible ASCII characters, because it is sent in a header"))
            }
            token => Ok(token),
        }
    }

    /// Parses the mail server's address. Also creates the transport, to report its errors here and not at the start.
    fn smtp_url(&self, mail: &Mail) -> Result<Option<Secret>, String> {
        let key = "mail.smtp_url";
        let Some(url) = self.secret(key, mail.smtp_url.as_deref(), mail.smtp_url_file.as_deref())? else {
            return Ok(None);
        };
        let is_smtp = Url::parse(url.expose())
            .is_ok_and(|url| matches!(url.scheme(), "smtp" | "smtps") && url.has_host());
        if !is_smtp {
            return Err(self.fault(key, "is not an smtp:// or smtps:// URL with a host"));
        }
        match SmtpTransport::new(url.expose(), "localhost") {
            Ok(_) => Ok(Some(url)),
            Err(error) => {
                let message = error.faults().first().map_or(error.detail(), |fault| fault.message.as_str());
                Err(self.fault(key, message))
            }
        }
    }

    fn mail_from(&self, text: Option<&str>) -> Result<Option<String>, String> {
        match self.text("mail.from", text)? {
            Some(text) if !text.contains('@') => {
                Err(self.fault("mail.from", format_args!("\"{text}\" is not a mail address")))
            }
            text => Ok(text.map(str::to_owned)),
        }
    }

    fn builtin(&self, words: &[String]) -> Vec<DeliveryKind> {
        let parse = |word: &String| {
            DeliveryKind::BUILTIN.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
                let problem = format!("\"{word}\" is not email or webhook; connectors deliver other kinds");
                self.fault("delivery.builtin", problem)
            })
        };
        let kinds: BTreeSet<_> =
            words.iter().filter_map(|word| self.kept(parse(word).map(Some), None)).collect();
        kinds.into_iter().collect()
    }

    fn networks(&self, texts: &[String]) -> Vec<IpNet> {
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                let problem = format!("\"{text}\" is not a network, such as 127.0.0.0/8 or 10.1.2.3/32");
                self.fault("webhook.allow", problem)
            })
        };
        texts.iter().filter_map(|text| self.kept(parse(text).map(Some), None)).collect()
    }
}

fn host(listen: SocketAddr) -> String {
    match listen {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

fn default_data_dir(surroundings: &Surroundings) -> Result<PathBuf, String> {
    if surroundings.is_root {
        return Ok(PathBuf::from("/var/lib/tessera"));
    }
    let absolute =
        |name: &str| surroundings.vars.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local/share"));
    absolute("XDG_DATA_HOME").or_else(home).map(|share| share.join("tessera")).ok_or_else(|| {
        format!("{PREFIX}DATA_DIR: HOME is not set, so there is no default; set this to the directory for the data")
    })
}

#[cfg(test)]
mod tests;
