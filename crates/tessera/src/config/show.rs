//! The settings as they stand: a file that could be used, with the source of each setting behind it.

use figment::value::Value;
use tessera_grpc::Address;

use super::sources::{DEFAULTS, ENVIRONMENT, variable};
use super::{Config, DEFAULT, Reader};

/// A line of text is not made longer than this to bring its source into the column.
const COLUMN_MAX: usize = 64;

/// Every setting in the order of `default.toml`. What is not set, and every secret, stands in a comment.
pub(super) fn show(reader: &Reader, config: &Config) -> String {
    let keys = keys();
    let lines: Vec<(String, String)> = keys.iter().map(|key| line(key, &keys, reader, config)).collect();
    let column = lines.iter().map(|(text, _)| text.chars().count()).max().unwrap_or_default().min(COLUMN_MAX);
    let mut shown = String::new();
    let mut section = "";
    for (key, (text, source)) in keys.iter().zip(lines) {
        let its = key.rsplit_once('.').map_or("", |(section, _)| section);
        if its != section {
            section = its;
            shown.push_str(&format!("\n[{section}]\n"));
        }
        shown.push_str(&format!("{text:column$}  # {source}\n"));
    }
    shown
}

fn line(key: &str, keys: &[String], reader: &Reader, config: &Config) -> (String, String) {
    let name = key.rsplit('.').next().unwrap_or(key);
    // What may stand in a file of its own is a secret.
    let is_secret = keys.contains(&format!("{key}_file"));
    match reader.figment.find_value(key) {
        Ok(_) if is_secret => (format!("# {name} = (set)"), source(key, reader)),
        Ok(value) => (format!("{name} = {}", written(&value)), source(key, reader)),
        Err(_) => match worked_out(key, config) {
            Some(value) => {
                (format!("# {name} = {}", written(&Value::from(value))), "not set; worked out".into())
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

/// What a setting comes to when nobody sets it, where that depends on the machine or on other settings.
fn worked_out(key: &str, config: &Config) -> Option<String> {
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

/// A value as TOML has it; for text, numbers and lists of them that is what JSON has.
fn written(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The settings of `default.toml`, `section.name`, in its order.
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
