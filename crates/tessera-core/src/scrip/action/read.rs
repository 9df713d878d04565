//! Reading the configuration of an action: its members, its templates and its limits.

use crate::error::Fault;
use crate::scrip::template::{Compiled, Mode as Escape};
use serde_json::Value;

/// The most addressees, headers or values in one configuration.
pub(super) const ITEMS_MAX: usize = 100;

/// Deserializes a configuration.
pub(super) fn read<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T, Vec<Fault>> {
    T::deserialize(config).map_err(|error| vec![Fault::new("action_config", error.to_string())])
}

/// Compiles a template of a configuration. Its faults name the member, and the line and column in it.
pub(super) fn template(place: &str, source: &str, escape: Escape) -> Result<Compiled, Vec<Fault>> {
    Compiled::compile(source, escape).map_err(|faults| {
        let placed = |fault: Fault| Fault { field: format!("action_config.{place}"), ..fault };
        faults.into_iter().map(placed).collect()
    })
}

/// Rejects a list of more than [`ITEMS_MAX`] items.
pub(super) fn bounded(place: &str, items: usize) -> Result<(), Vec<Fault>> {
    if items > ITEMS_MAX {
        let message = format!("has {items} items; at most {ITEMS_MAX} are allowed");
        return Err(vec![Fault::new(format!("action_config.{place}"), message)]);
    }
    Ok(())
}
