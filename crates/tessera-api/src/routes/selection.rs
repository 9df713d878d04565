//! Selection of the members of a ticket that a search or an export returns.

use crate::views::{FieldValues, TICKET_MEMBERS, Ticket};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};
use tessera_core::error::{Error, Fault};
use tessera_core::models::text::{list, quote};
use tessera_core::plan::Catalog;

/// The most members that can be chosen.
const CHOSEN_MAX: usize = 200;
/// The member that holds the values of the custom fields.
const CUSTOM_FIELDS: &str = "custom_fields";

/// Members of a ticket's JSON, in the order of the request.
#[derive(Debug, Clone)]
pub(super) struct Selection(Vec<Member>);

/// A member of a ticket's JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Member {
    /// A member of the ticket itself.
    Own(&'static str),
    /// The values of a custom field, by its name.
    Custom(String),
}

impl Member {
    /// The name in `fields`, which is also the heading of its column.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Own(name) => (*name).to_owned(),
            Self::Custom(name) => format!("{CUSTOM_FIELDS}.{name}"),
        }
    }

    /// The value of a ticket's member; null if the ticket has none.
    pub(super) fn of<'t>(&self, ticket: &'t Value) -> &'t Value {
        let value = match self {
            Self::Own(name) => ticket.get(name),
            Self::Custom(name) => ticket.get(CUSTOM_FIELDS).and_then(|fields| fields.get(name)),
        };
        value.unwrap_or(&Value::Null)
    }

    fn parse(word: &str, catalog: &Catalog) -> Result<Self, String> {
        if let Some(own) = TICKET_MEMBERS.into_iter().find(|own| *own == word) {
            return Ok(Self::Own(own));
        }
        let Some(name) = word.strip_prefix(CUSTOM_FIELDS).and_then(|rest| rest.strip_prefix('.')) else {
            return Err(format!(
                "{} is not a member of a ticket; use {} or {CUSTOM_FIELDS}.Name",
                quote(word),
                TICKET_MEMBERS.join(", ")
            ));
        };
        let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
        let field = catalog.fields.find(name).filter(|field| !field.disabled).ok_or_else(|| {
            let enabled = catalog.fields.iter().filter(|field| !field.disabled);
            let known = list(enabled.map(|field| &field.name));
            format!("there is no custom field {}; existing custom fields: {known}", quote(name))
        })?;
        Ok(Self::Custom(field.name.clone()))
    }
}

/// The selected members of a ticket.
#[derive(Debug, Default)]
pub(super) struct Picked {
    own: Vec<(&'static str, Value)>,
    fields: Option<FieldValues>,
}

impl Serialize for Picked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.own {
            map.serialize_entry(name, value)?;
        }
        if let Some(fields) = &self.fields {
            map.serialize_entry(CUSTOM_FIELDS, fields)?;
        }
        map.end()
    }
}

impl Selection {
    /// Parses the members in `fields`.
    ///
    /// # Errors
    /// `invalid` for `fields`, with the members that exist.
    pub(super) fn parse(words: &[String], catalog: &Catalog) -> Result<Self, Error> {
        if words.is_empty() || words.len() > CHOSEN_MAX {
            let message = format!("has {} members; it must have 1 to {CHOSEN_MAX}", words.len());
            return Err(Error::invalid_field("fields", message));
        }
        let (mut members, mut faults) = (Vec::new(), Vec::new());
        for (at, word) in words.iter().enumerate() {
            match Member::parse(word, catalog) {
                Ok(member) => members.push(member),
                Err(message) => faults.push(Fault::new(format!("fields[{at}]"), message)),
            }
        }
        if faults.is_empty() { Ok(Self(members)) } else { Err(Error::invalid(faults)) }
    }

    /// Returns the selected members of a ticket, and no others.
    pub(super) fn pick(&self, ticket: &Ticket) -> Picked {
        let whole = json!(ticket);
        let mut picked = Picked::default();
        for member in &self.0 {
            match member {
                Member::Own(CUSTOM_FIELDS) => picked.fields = Some(ticket.custom_fields.clone()),
                Member::Own(name) => {
                    if !picked.own.iter().any(|(chosen, _)| chosen == name) {
                        picked.own.push((*name, member.of(&whole).clone()));
                    }
                }
                Member::Custom(name) => {
                    let FieldValues(fields) = picked.fields.get_or_insert_default();
                    if !fields.iter().any(|(chosen, _)| chosen == name) {
                        fields.push((name.clone(), member.of(&whole).clone()));
                    }
                }
            }
        }
        picked
    }

    /// The columns of a table: the selected members, or all, with a column for each custom field.
    pub(super) fn columns(chosen: Option<&Self>, catalog: &Catalog) -> Vec<Member> {
        let all = || TICKET_MEMBERS.map(Member::Own).to_vec();
        let members = chosen.map_or_else(all, |chosen| chosen.0.clone());
        let custom = || {
            let shown = catalog.fields.iter().filter(|field| !field.disabled);
            shown.map(|field| Member::Custom(field.name.clone())).collect()
        };
        members
            .into_iter()
            .flat_map(|member| if member == Member::Own(CUSTOM_FIELDS) { custom() } else { vec![member] })
            .collect()
    }
}
