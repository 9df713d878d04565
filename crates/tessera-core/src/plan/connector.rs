//! Connector messages: the payload that an action creates for the connector of a kind, checked against the kind's schema.

use super::intent::{Intent, Message};
use super::words::{Bench, Unready, Words};
use crate::models::delivery::Custom;
use crate::scrip::action::connector::Connector;
use serde_json::json;

/// The longest rendered payload, in bytes.
const PAYLOAD_MAX: usize = 256 * 1024;

/// Prepares a connector message.
pub(super) fn intend<'a>(bench: &mut Bench<'_, '_, 'a>, action: &Connector) -> Result<Intent<'a>, Unready> {
    let catalog = bench.snapshot.draft.catalog;
    let kind = catalog
        .kinds
        .get(&action.kind)
        .ok_or_else(|| Unready::Failed(format!("there is no connector kind \"{}\"", action.kind)))?;
    let render = |words: &mut Words<'_, '_, '_>| {
        action.render(|pointer, text| words.render(&format!("payload{pointer}"), text))
    };
    let real = render(&mut bench.real())?;
    let fixed = if bench.texts_differ() { Some(render(&mut bench.fixed())?) } else { None };
    bench.work(kind.schema.as_ref().map_or(0, |schema| schema.cost(&real)))?;
    // A ticket that is only previewed has no number yet. Whether the number fits is checked when the ticket is created.
    let has_number = bench.snapshot.draft.ticket.number.is_some();
    let json = action.fit(kind, real, |text| !has_number && text.is_volatile(true)).map_err(|misfits| {
        let misfits: Vec<_> = misfits.iter().map(ToString::to_string).collect();
        Unready::Failed(format!(
            "payload does not match the schema of \"{}\": {}",
            action.kind,
            misfits.join("; ")
        ))
    })?;
    let bytes = json.to_string().len();
    if bytes > PAYLOAD_MAX {
        let message = format!("rendered payload has {bytes} bytes; at most {PAYLOAD_MAX} are allowed");
        return Err(Unready::Failed(message));
    }
    let depth = bench.snapshot.depth();
    // Fixed texts are not numbers, so the hash covers how the schema converts each text instead.
    let hashed = fixed.map_or_else(|| json!([json]), |fixed| json!([fixed, action.typed(kind)]));
    let canonical = json!(["connector", action.kind, hashed, depth]);
    let message = Custom { connector: action.kind.clone(), json, depth };
    Ok(Intent::Send(Message::Connector(Box::new(message)), canonical))
}
