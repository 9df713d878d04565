//! The sources of settings: defaults, a file, the environment. Each is validated separately, so that a fault names its source.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::Settings;

/// The files to look for, in this order: in the working directory, and a package's.
const FILES: [&str; 2] = ["tessera.toml", "/etc/tessera/tessera.toml"];
/// The name of `default.toml` in messages.
pub(super) const DEFAULTS: &str = "the defaults";
/// The name of the environment in messages.
pub(super) const ENVIRONMENT: &str = "the environment";
/// The prefix of environment variables.
pub(super) const PREFIX: &str = "TESSERA_";
/// Maximum size of a settings file or a secret's file; a larger one is something else.
const FILE_BYTES: u64 = 64 * 1024;

/// Validates one source. Each invalid setting becomes a fault and is left out, so that the remaining ones are checked too.
pub(super) fn layer(source: &str, provider: impl Provider, faults: &mut Vec<String>) -> Figment {
    let data = provider.data().unwrap_or_else(|error| {
        faults.push(explain(source, error));
        Map::new()
    });
    let mut dict = data.into_values().next().unwrap_or_default();
    loop {
        let figment = Figment::from(Named { source: source.to_owned(), dict: dict.clone() });
        let Err(error) = figment.extract::<Settings>() else { return figment };
        let mut path = error.path.clone();
        if let figment::error::Kind::UnknownField(name, _) = &error.kind
            && path.last() != Some(name)
        {
            path.push(name.clone());
        }
        faults.push(explain(source, error));
        // Each round removes one setting, so this ends.
        if !remove(&mut dict, &path) {
            return Figment::from(Named { source: source.to_owned(), dict: Dict::new() });
        }
    }
}

/// Removes the value at `path`, or the setting that contains it. Returns whether it existed.
fn remove(dict: &mut Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if let Some(Value::Dict(_, below)) = dict.get_mut(first)
        && remove(below, rest)
    {
        return true;
    }
    dict.remove(first).is_some()
}

/// Describes an error in one source. Figment's own text would name places in our source code and show values.
pub(super) fn explain(source: &str, error: figment::Error) -> String {
    use figment::error::Kind;
    let mut path = error.path;
    let problem = match error.kind {
        Kind::UnknownField(name, known) => {
            if path.last() != Some(&name) {
                path.push(name);
            }
            format!("is not a known setting; known here: {}", known.join(", "))
        }
        Kind::InvalidType(_, expected) if expected.starts_with("struct ") => {
            "is a section with settings of its own, not a value".into()
        }
        Kind::InvalidType(_, expected) if expected.contains("string") => "expected text, in quotes".into(),
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if expected == "u32" => {
            "expected a whole number".into()
        }
        Kind::InvalidType(_, expected) => format!("expected {expected}"),
        // The parser's report shows the line, which may contain a secret, so keep only its position and reason.
        Kind::Message(report) => {
            report.lines().filter(|line| !line.contains('|')).collect::<Vec<_>>().join(": ")
        }
        other => other.to_string(),
    };
    if path.is_empty() {
        return format!("{source}: {problem}");
    }
    fault(source, &path.join("."), problem)
}

pub(super) fn fault(source: &str, key: &str, problem: impl Display) -> String {
    if source == ENVIRONMENT {
        format!("{}: {problem}", variable(key))
    } else {
        format!("{key} in {source}: {problem}")
    }
}

/// Returns the environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Returns the file to read: the one given with `--config`, even if it does not exist, or the first existing one.
pub(super) fn path(named: Option<&Path>) -> Option<&Path> {
    named.or_else(|| FILES.map(Path::new).into_iter().find(|path| path.exists()))
}

/// Returns the file's name and text.
pub(super) fn file(named: Option<&Path>) -> Result<Option<(String, String)>, String> {
    let Some(path) = path(named) else { return Ok(None) };
    let source = path.display().to_string();
    let text = read_small(path).map_err(|problem| format!("{source}: {problem}"))?;
    Ok(Some((source, text)))
}

pub(super) fn read_small(path: &Path) -> Result<String, String> {
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

/// The values of one source under its name.
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

/// The `TESSERA_` variables. Everything except lists and numbers is text, so that a token of digits stays text.
pub(super) struct Environment<'a>(pub &'a BTreeMap<String, String>);

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
                "webhook__allow" | "delivery__builtin" => list(text),
                "delivery__enabled" | "grpc__enabled" => truth(text),
                // Settings that are numbers in the file are numbers here.
                key if key == "http__connections_max"
                    || key.starts_with("retention__")
                    || key.starts_with("database__connections__") =>
                {
                    text.trim().parse::<u32>().map_or_else(|_| Value::from(text.clone()), Value::from)
                }
                _ => Value::from(text.clone()),
            };
            insert(&mut dict, &key, value);
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// Parses `true` or `false`; anything else stays text, which the validation rejects.
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

/// Inserts a value at `section__key`. A section that already is text stays text, which the validation rejects.
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
