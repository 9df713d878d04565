//! The settings: what `default.toml`, a file and the environment say, checked, with every fault named by setting and source.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use ipnet::IpNet;
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use tessera_core::models::secret::Secret;
use url::Url;

/// Every setting with its meaning, its unit and its default.
pub const DEFAULT: &str = include_str!("default.toml");
/// The file that is read from the working directory when it is there.
const FILE: &str = "tessera.toml";
/// How messages call the environment.
const ENVIRONMENT: &str = "the environment";
/// What names of environment variables begin with.
const PREFIX: &str = "TESSERA_";
/// A configuration file or a secret's file that is larger is something else.
const FILE_BYTES: u64 = 64 * 1024;
/// Connections of clients that a setting may allow; each takes a file descriptor and some 20 KB.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 1..=100_000;
/// A token that is shorter could be guessed.
const TOKEN_CHARS: usize = 16;

/// The settings of a process, all checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The instance's name, the tag in subjects. RT: `$rtname`.
    pub name: String,
    /// Where people reach the instance; no slash at the end.
    pub base_url: String,
    /// Everything that is kept on the disk; absolute.
    pub data_dir: PathBuf,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Connections of clients at a time.
    pub connections_max: usize,
    /// The database to use; without one the embedded cluster.
    pub database_url: Option<Secret>,
    /// Where the embedded cluster's programs are; without it they are looked for.
    pub bin_dir: Option<PathBuf>,
    /// The administrator's token; without it the data directory has one.
    pub admin_token: Option<Secret>,
    /// The mail server; without it mails become files.
    pub smtp_url: Option<Secret>,
    /// The sender of mails where the queue has none.
    pub mail_from: String,
    /// Private networks that webhooks may reach.
    pub webhook_allow: Vec<IpNet>,
    /// Whether this process makes deliveries.
    pub delivers: bool,
    /// The token that opens the metrics and nothing else.
    pub metrics_token: Option<Secret>,
    /// The collector that traces are sent to; without it there are none.
    pub otlp_endpoint: Option<String>,
}

/// A setting that cannot be, or a source that cannot be read; one sentence that names both.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ConfigError(String);

/// What the settings are made from; a value, so that tests need not change the process.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The file that `--config` names.
    pub file: Option<PathBuf>,
    /// The environment.
    pub vars: BTreeMap<String, String>,
    /// Whether the process is root's.
    pub is_root: bool,
    /// This machine's name.
    pub hostname: String,
}

impl Surroundings {
    /// Those of this process. Variables that are not UTF-8 can be none of ours.
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
    /// Reads the settings: the defaults, under the file, under the environment.
    ///
    /// # Errors
    /// Names the setting and where it was read: `TESSERA_HTTP__LISTEN: ...`, `http.listen in tessera.toml: ...`.
    pub fn load(surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let mut figment = layer("the defaults", Toml::string(DEFAULT))?;
        if let Some((source, text)) = file(surroundings.file.as_deref())? {
            figment = figment.merge(layer(&source, Toml::string(&text))?);
        }
        figment = figment.merge(layer(ENVIRONMENT, Environment(&surroundings.vars))?);
        let settings = figment.extract().map_err(|error| explain("the settings", error))?;
        Reader { figment, settings }.read(surroundings)
    }
}

/// The settings as they are written; what they mean is read afterwards.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    name: Option<String>,
    base_url: Option<String>,
    data_dir: Option<String>,
    http: Http,
    database: Database,
    auth: Auth,
    mail: Mail,
    webhook: Webhook,
    delivery: Delivery,
    metrics: Metrics,
    telemetry: Telemetry,
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
    embedded: EmbeddedDatabase,
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
}

impl Default for Delivery {
    fn default() -> Self {
        Self { enabled: true }
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

/// One source, tried alone: what cannot be read in it is its own fault, and no other's.
fn layer(source: &str, provider: impl Provider) -> Result<Figment, ConfigError> {
    let data = provider.data().map_err(|error| explain(source, error))?;
    let dict = data.into_values().next().unwrap_or_default();
    let figment = Figment::from(Named { source: source.to_owned(), dict });
    figment.extract::<Settings>().map_err(|error| explain(source, error))?;
    Ok(figment)
}

/// Says what is wrong in one source: figment's own text would name places in our source code, and show values.
fn explain(source: &str, error: figment::Error) -> ConfigError {
    use figment::error::Kind;
    let mut path = error.path;
    let problem = match error.kind {
        Kind::UnknownField(name, known) => {
            if path.last() != Some(&name) {
                path.push(name);
            }
            format!("there is no such setting; here are {}", known.join(", "))
        }
        Kind::InvalidType(_, expected) if expected.starts_with("struct ") => {
            "this is a section with settings of its own, not a value".into()
        }
        Kind::InvalidType(_, expected) if expected.contains("string") => "expected text, in quotes".into(),
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if expected == "u32" => {
            "expected a whole number".into()
        }
        Kind::InvalidType(_, expected) => format!("expected {expected}"),
        // The parser's report shows the line, which may hold a secret: its place and its reason must do.
        Kind::Message(report) => {
            report.lines().filter(|line| !line.contains('|')).collect::<Vec<_>>().join(": ")
        }
        other => other.to_string(),
    };
    if path.is_empty() {
        return ConfigError(format!("{source}: {problem}"));
    }
    fault(source, &path.join("."), problem)
}

fn fault(source: &str, key: &str, problem: impl Display) -> ConfigError {
    ConfigError(if source == ENVIRONMENT {
        format!("{PREFIX}{}: {problem}", key.replace('.', "__").to_uppercase())
    } else {
        format!("{key} in {source}: {problem}")
    })
}

/// The file's name and text. One that `--config` names must be there.
fn file(named: Option<&Path>) -> Result<Option<(String, String)>, ConfigError> {
    let path = named.unwrap_or(Path::new(FILE));
    if named.is_none() && !path.exists() {
        return Ok(None);
    }
    let source = path.display().to_string();
    let text = read_small(path).map_err(|problem| ConfigError(format!("{source}: {problem}")))?;
    Ok(Some((source, text)))
}

fn read_small(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES {
        return Err(format!("is larger than {FILE_BYTES} bytes"));
    }
    Ok(text)
}

/// A source's values under its own name.
struct Named {
    source: String,
    dict: Dict,
}

impl Provider for Named {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// The environment's `TESSERA_` variables. What is no list and no number is text, so that a token of digits stays what it is.
struct Environment<'a>(&'a BTreeMap<String, String>);

impl Provider for Environment<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(ENVIRONMENT)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut dict = Dict::new();
        for (name, text) in self.0 {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            let key = key.to_ascii_lowercase();
            let value = match key.as_str() {
                "webhook__allow" => list(text),
                "delivery__enabled" => truth(text),
                "http__connections_max" => {
                    text.parse::<u32>().map_or_else(|_| Value::from(text.clone()), Value::from)
                }
                _ => Value::from(text.clone()),
            };
            insert(&mut dict, &key, value);
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// `true` or `false`; anything else stays text, and is refused as such.
fn truth(text: &str) -> Value {
    text.trim().parse::<bool>().map_or_else(|_| text.to_owned().into(), Value::from)
}

fn list(text: &str) -> Value {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into()
}

/// Puts a value at `section__key`. A section that is text already stays so, and is refused as such.
fn insert(dict: &mut Dict, key: &str, value: Value) {
    let Some((section, rest)) = key.split_once("__") else {
        dict.insert(key.to_owned(), value);
        return;
    };
    let below = dict.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, below) = below {
        insert(below, rest, value);
    }
}

/// Reads what the settings mean, and knows for a fault which source said so.
struct Reader {
    figment: Figment,
    settings: Settings,
}

impl Reader {
    fn read(&self, surroundings: &Surroundings) -> Result<Config, ConfigError> {
        let Settings {
            name,
            base_url,
            data_dir,
            http,
            database,
            auth,
            mail,
            webhook,
            delivery,
            metrics,
            telemetry,
        } = &self.settings;
        let listen = self.listen(http.listen.as_deref())?;
        let path =
            |key, value: &Option<String>| self.text(key, value.as_deref()).map(|it| it.map(PathBuf::from));
        let data_dir = match path("data_dir", data_dir)? {
            Some(dir) => dir,
            None => default_data_dir(surroundings)?,
        };
        let sender = format!("tessera@{}", surroundings.hostname);
        Ok(Config {
            name: self.text("name", name.as_deref())?.unwrap_or("tessera").to_owned(),
            base_url: self.base_url(base_url.as_deref(), listen)?,
            data_dir: std::path::absolute(&data_dir)
                .map_err(|error| self.fault("data_dir", format_args!("{}: {error}", data_dir.display())))?,
            listen,
            connections_max: self.connections_max(http.connections_max)?,
            database_url: self.database_url(database)?,
            bin_dir: path("database.embedded.bin_dir", &database.embedded.bin_dir)?,
            admin_token: self.token(
                "auth.admin_token",
                auth.admin_token.as_deref(),
                auth.admin_token_file.as_deref(),
            )?,
            smtp_url: self.smtp_url(mail)?,
            mail_from: self.mail_from(mail.from.as_deref())?.unwrap_or(sender),
            webhook_allow: self.networks(&webhook.allow)?,
            delivers: delivery.enabled,
            metrics_token: self.token(
                "metrics.token",
                metrics.token.as_deref(),
                metrics.token_file.as_deref(),
            )?,
            otlp_endpoint: self.otlp_endpoint(telemetry.otlp_endpoint.as_deref())?,
        })
    }

    fn fault(&self, key: &str, problem: impl Display) -> ConfigError {
        let source = self.figment.find_metadata(key).map(|metadata| metadata.name.to_string());
        fault(source.as_deref().unwrap_or("the defaults"), key, problem)
    }

    /// A text that says something. An empty one is refused: somebody meant to give a value, and an empty token or
    /// address must never count as one.
    fn text<'t>(&self, key: &str, text: Option<&'t str>) -> Result<Option<&'t str>, ConfigError> {
        match text {
            Some(text) if text.trim().is_empty() => {
                Err(self.fault(key, "is empty; leave it out to go without"))
            }
            Some(text) if text.contains(char::is_control) => {
                Err(self.fault(key, "contains a control character"))
            }
            text => Ok(text),
        }
    }

    fn listen(&self, text: Option<&str>) -> Result<SocketAddr, ConfigError> {
        let text = self.text("http.listen", text)?.unwrap_or("127.0.0.1:8080");
        text.parse().map_err(|_| {
            self.fault("http.listen", format_args!("\"{text}\" is no address and port, as in 127.0.0.1:8080"))
        })
    }

    fn connections_max(&self, number: Option<u32>) -> Result<usize, ConfigError> {
        let number = number.unwrap_or(1_024);
        if !CONNECTIONS.contains(&number) {
            let (least, most) = CONNECTIONS.into_inner();
            let problem = format_args!("{number} must be {least} to {most}");
            return Err(self.fault("http.connections_max", problem));
        }
        Ok(number as usize)
    }

    fn otlp_endpoint(&self, text: Option<&str>) -> Result<Option<String>, ConfigError> {
        let key = "telemetry.otlp_endpoint";
        let Some(text) = self.text(key, text)? else { return Ok(None) };
        match Url::parse(text) {
            // The connection to a collector is made without TLS: it stands on this machine or in its network.
            Ok(url) if url.scheme() == "http" && url.has_host() => Ok(Some(text.to_owned())),
            _ => Err(self.fault(key, format_args!("\"{text}\" is no http URL, as in http://127.0.0.1:4317"))),
        }
    }

    fn base_url(&self, text: Option<&str>, listen: SocketAddr) -> Result<String, ConfigError> {
        let Some(text) = self.text("base_url", text)? else {
            let host = if listen.ip().is_unspecified() { "localhost".into() } else { host(listen) };
            return Ok(format!("http://{host}:{}", listen.port()));
        };
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.query().is_none() => {
                Ok(text.trim_end_matches('/').to_owned())
            }
            _ => Err(self.fault("base_url", format_args!("\"{text}\" is no http or https URL"))),
        }
    }

    /// A value that stands here or in the file that `<key>_file` names.
    fn secret(
        &self,
        key: &str,
        value: Option<&str>,
        file: Option<&str>,
    ) -> Result<Option<Secret>, ConfigError> {
        let value = self.text(key, value)?;
        let file_key = format!("{key}_file");
        let Some(file) = self.text(&file_key, file)? else { return Ok(value.map(Secret::new)) };
        if value.is_some() {
            return Err(self.fault(&file_key, format_args!("{key} is set too; keep one of the two")));
        }
        let text = read_small(Path::new(file))
            .map_err(|problem| self.fault(&file_key, format_args!("{file} {problem}")))?;
        let text = self.text(&file_key, Some(text.trim_end_matches(['\n', '\r'])))?;
        Ok(text.map(Secret::new))
    }

    fn database_url(&self, database: &Database) -> Result<Option<Secret>, ConfigError> {
        let key = "database.url";
        let url = self.secret(key, database.url.as_deref(), database.url_file.as_deref())?;
        let is_postgres = |url: &Secret| {
            let text = url.expose();
            ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
                && PgConnectOptions::from_str(text).is_ok()
        };
        match url {
            Some(url) if !is_postgres(&url) => {
                Err(self.fault(key, "is no postgres://user:password@host/name URL"))
            }
            url => Ok(url),
        }
    }

    fn token(
        &self,
        key: &str,
        value: Option<&str>,
        file: Option<&str>,
    ) -> Result<Option<Secret>, ConfigError> {
        match self.secret(key, value, file)? {
            Some(token) if token.expose().chars().count() < TOKEN_CHARS => {
                Err(self.fault(key, format_args!("is shorter than {TOKEN_CHARS} characters")))
            }
            Some(token) if !token.expose().chars().all(|it| it.is_ascii_graphic()) => Err(self
                .fault(key, "may only hold letters, digits and signs of ASCII, as it travels in a header")),
            token => Ok(token),
        }
    }

    fn smtp_url(&self, mail: &Mail) -> Result<Option<Secret>, ConfigError> {
        let key = "mail.smtp_url";
        let url = self.secret(key, mail.smtp_url.as_deref(), mail.smtp_url_file.as_deref())?;
        let is_smtp = |url: &Secret| {
            Url::parse(url.expose())
                .is_ok_and(|url| matches!(url.scheme(), "smtp" | "smtps") && url.has_host())
        };
        match url {
            Some(url) if !is_smtp(&url) => Err(self.fault(key, "is no smtp:// or smtps:// URL with a host")),
            url => Ok(url),
        }
    }

    fn mail_from(&self, text: Option<&str>) -> Result<Option<String>, ConfigError> {
        match self.text("mail.from", text)? {
            Some(text) if !text.contains('@') => {
                Err(self.fault("mail.from", format_args!("\"{text}\" is no mail address")))
            }
            text => Ok(text.map(str::to_owned)),
        }
    }

    fn networks(&self, texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                let problem = format!("\"{text}\" is no network, as in 127.0.0.0/8 or 10.1.2.3/32");
                self.fault("webhook.allow", problem)
            })
        };
        texts.iter().map(parse).collect()
    }
}

fn host(listen: SocketAddr) -> String {
    match listen {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

fn default_data_dir(surroundings: &Surroundings) -> Result<PathBuf, ConfigError> {
    if surroundings.is_root {
        return Ok(PathBuf::from("/var/lib/tessera"));
    }
    let absolute =
        |name: &str| surroundings.vars.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local/share"));
    absolute("XDG_DATA_HOME").or_else(home).map(|share| share.join("tessera")).ok_or_else(|| {
        ConfigError(format!(
            "{PREFIX}DATA_DIR: there is no HOME to put data under; say where the data shall be"
        ))
    })
}

#[cfg(test)]
mod tests;
