//! Where settings come from: the defaults, a file, the environment. Each source is read alone, and a fault names it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::Settings;

/// The files of which the first that is there is read: the working directory's, and a package's.
const FILES: [&str; 2] = ["tessera.toml", "/etc/tessera/tessera.toml"];
/// How messages call what stands in `default.toml`.
pub(super) const DEFAULTS: &str = "the defaults";
/// How messages call the environment.
pub(super) const ENVIRONMENT: &str = "the environment";
/// What names of environment variables begin with.
pub(super) const PREFIX: &str = "TESSERA_";
/// A configuration file or a secret's file that is larger is something else.
const FILE_BYTES: u64 = 64 * 1024;

/// One source, tried alone: what cannot be read in it is its own fault, and no other's. It is left out, so that the rest
/// can be looked at too.
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
        // Each turn takes one setting away, so this ends.
        if !remove(&mut dict, &path) {
            return Figment::from(Named { source: source.to_owned(), dict: Dict::new() });
        }
    }
}

/// Takes away what stands at `path`, or the setting that holds it; answers whether there was one.
fn remove(dict: &mut Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if let Some(Value::Dict(_, below)) = dict.get_mut(first)
        && remove(below, rest)
    {
        return true;
    }
    dict.remove(first).is_some()
}

/// Says what is wrong in one source: figment's own text would name places in our source code, and show values.
pub(super) fn explain(source: &str, error: figment::Error) -> String {
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

/// The environment's name of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The file to read: the one that `--config` names, which must be there, or one that is.
pub(super) fn path(named: Option<&Path>) -> Option<&Path> {
    named.or_else(|| FILES.map(Path::new).into_iter().find(|path| path.exists()))
}

/// The file's name and text.
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
                // A number in the file is one here.
                key if key == "http__connections_max" || key.starts_with("retention__") => {
                    text.trim().parse::<u32>().map_or_else(|_| Value::from(text.clone()), Value::from)
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
