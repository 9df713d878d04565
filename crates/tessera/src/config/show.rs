//! Prints the current settings as a valid settings file, with the source of each.

use figment::value::Value;
use tessera_grpc::Address;

use super::sources::{DEFAULTS, ENVIRONMENT, variable};
use super::{Config, DEFAULT, Reader};

/// Width up to which a line is padded to align its source.
const COLUMN_MAX: usize = 64;

/// Prints every setting in the order of `default.toml`. Unset settings and secrets are comments.
pub(super) fn show(reader: &Reader, config: &Config) -> String {
    let keys = keys();
    let lines: Vec<(String, String)> = keys.iter().map(|key| line(key, &keys, reader, config)).collect();
    let column = lines.iter().map(|(text, _)| text.chars().count()).max().unwrap_or_default().min(COLUMN_MAX);
    let mut shown = String::new();
    let mut section = "";
    for (key, (text, source)) in keys.iter().zip(lines) {
        let own = key.rsplit_once('.').map_or("", |(section, _)| section);
        if own != section {
            section = own;
            shown.push_str(&format!("\n[{section}]\n"));
        }
        shown.push_str(&format!("{text:column$}  # {source}\n"));
    }
    shown
}

fn line(key: &str, keys: &[String], reader: &Reader, config: &Config) -> (String, String) {
    let name = key.rsplit('.').next().unwrap_or(key);
    // A setting that can be read from its own file is a secret.
    let is_secret = keys.contains(&format!("{key}_file"));
    match reader.figment.find_value(key) {
        Ok(_) if is_secret => (format!("# {name} = (set)"), source(key, reader)),
        Ok(value) => (format!("{name} = {}", written(&value)), source(key, reader)),
        Err(_) => match computed(key, config) {
            Some(value) => {
                (format!("# {name} = {}", written(&Value::from(value))), "not set; computed".into())
            }
            None => (format!("# {name}"), "not set".into()),
        },
    }
}

fn source(key: &str, reader: &Reader) -> String {
    match reader.source(key) {
        source if source == ENVIRONMENT => variable(key),
        source if source == DEFAULTS => "default".into(),
        source => source,
    }
}

/// Returns the value of an unset setting that is computed from the machine or from other settings.
fn computed(key: &str, config: &Config) -> Option<String> {
    match key {
        "base_url" => Some(config.base_url.clone()),
        "data_dir" => Some(config.data_dir.display().to_string()),
        "grpc.listen" => match config.grpc.as_ref()? {
            Address::Tcp(address) | Address::Tls(address, _) => Some(address.to_string()),
            Address::Unix(_) => None,
        },
        "mail.from" => Some(config.mail_from.clone()),
        _ => None,
    }
}

/// Formats a value as TOML, which for text, numbers and lists is the same as JSON.
fn written(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Returns the keys in `default.toml` as `section.name`, in its order.
pub(super) fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    let mut section = "";
    for line in DEFAULT.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        }
        let mut words = line.strip_prefix("# ").unwrap_or(line).split(' ');
        if let (Some(name), Some("=")) = (words.next(), words.next()) {
            let dot = if section.is_empty() { "" } else { "." };
            keys.push(format!("{section}{dot}{name}"));
        }
    }
    keys
}
