//! Scrips: compiled before they are stored; everything that they name literally must exist.

use super::mentions::{self, Thing};
use super::templates::unknown_template;
use super::{Document, Edit, Versioned, limit};
use crate::db::configuration::scrips::{self, NewVersion};
use crate::db::configuration::{Version, Which, users};
use crate::db::secrets;
use crate::error::{Fault, Result};
use crate::lifecycle::Lifecycle;
use crate::models::delivery::KindName;
use crate::models::text::{fold, is_address, list, name_fault, quote};
use crate::models::user::NOBODY;
use crate::models::{QueueId, ScripId, TransactionType};
use crate::plan::Catalog;
use crate::plan::catalog::SCRIPS_MAX;
use crate::plan::documents::{PlaceAt, ScripDocument, Stored};
use crate::query::{Purpose, Read, reads};
use crate::scrip::action::{ACTIONS, Action, ActionType, Effect, ticket};
use crate::scrip::condition::Condition;
use crate::scrip::evaluation::Stage;
use crate::scrip::kind::{ConnectorKind, Misfit, Schema};
use crate::scrip::template::{Compiled, Mode, Template};
use crate::scrip::{Attachment, State};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

impl Document for ScripDocument {
    const WHAT: &'static str = "scrip";

    async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
        scrips::id_of(db, word).await
    }

    async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<Self>>> {
        scrips::read(db, which).await
    }

    async fn write(&self, change: &mut Edit<'_>, before: Option<&Stored<Self>>) -> Result<Uuid> {
        change.fault_if("name", name_fault(&self.name));
        change.description(self.description.as_deref());
        let mut document = match self.clone().settled() {
            Ok(settled) => settled,
            Err(faults) => {
                change.faults.extend(faults);
                self.clone()
            }
        };
        let attachments = document.attach(change);
        document.compile(change).await?;
        change.check()?;
        if before.is_none() {
            limit("scrips", change.catalog.scrips.len(), SCRIPS_MAX)?;
        }
        let id = before.map_or_else(|| change.ids.draw(), |before| ScripId(before.id));
        let version = NewVersion {
            id,
            version_id: change.ids.draw(),
            version: before.and_then(|before| before.version).unwrap_or(0) + 1,
            document: &document,
            attachments: &attachments,
            creator: change.actor,
        };
        scrips::write(&mut change.db, &version, change.version).await?;
        Ok(id.0)
    }

    fn is_equivalent(&self, other: &Self) -> bool {
        self.clone().settled().ok() == other.clone().settled().ok()
    }

    fn remove_superseded(document: &mut Map<String, Value>, patch: &Map<String, Value>) {
        // A stored document has both forms: `queue` and `queues`, `disabled` and `state`. A patch has one of them.
        document.remove("disabled");
        match patch.get("disabled").and_then(Value::as_bool) {
            Some(true) => document.remove("state"),
            Some(false) if document.get("state") == Some(&json!(State::Disabled)) => document.remove("state"),
            _ => None,
        };
        if patch.contains_key("queue") {
            document.remove("queues");
        }
        if patch.contains_key("queues") {
            document.remove("queue");
        }
        let places = document.get_mut("queues").and_then(Value::as_array_mut).into_iter().flatten();
        for place in places.filter_map(Value::as_object_mut) {
            for member in ["stage", "sort_order"].into_iter().filter(|member| patch.contains_key(*member)) {
                place.remove(member);
            }
        }
        // Another type has another configuration; that of the old type would be invalid.
        for (kind, config) in [("condition_type", "condition_config"), ("action_type", "action_config")] {
            if patch.get(kind).is_some_and(|wanted| document.get(kind) != Some(wanted)) {
                document.remove(config);
            }
        }
    }
}

impl Versioned for ScripDocument {
    async fn versions(
        db: &mut PgConnection,
        id: Uuid,
        below: Option<i32>,
        limit: i64,
    ) -> Result<Vec<Version>> {
        scrips::versions(db, id, below, limit).await
    }
}

impl ScripDocument {
    /// Looks up the queues, and replaces the names in the document by those of the queues.
    fn attach(&mut self, change: &mut Edit<'_>) -> Vec<(Uuid, Attachment)> {
        let mut attachments: Vec<(Uuid, Attachment)> = Vec::new();
        let mut places = self.places();
        let is_short = self.queue.is_some();
        for (at, place) in places.iter_mut().enumerate() {
            let field = if is_short { "queue".to_owned() } else { format!("queues[{at}]") };
            let queue = match &place.queue {
                None => None,
                Some(word) => match change.queue(&field, word) {
                    None => continue,
                    found => found,
                },
            };
            if attachments.iter().any(|(_, other)| other.queue == queue) {
                change.fault(field, "is a duplicate: the scrip is already attached to this queue");
                continue;
            }
            if let Some(found) = queue.and_then(|id| change.catalog.queues.get(id)) {
                place.queue = Some(found.name.clone());
            }
            let PlaceAt { stage, sort_order, .. } = *place;
            let (stage, sort_order) = (stage.unwrap_or_default(), sort_order.unwrap_or_default());
            attachments.push((change.ids.draw(), Attachment { queue, stage, sort_order }));
        }
        if self.queues.is_some() {
            if is_short {
                self.queue = places.first().and_then(|only| only.queue.clone());
            }
            self.queues = Some(places.into_iter().map(crate::plan::documents::Place::At).collect());
        }
        attachments
    }

    /// Compiles the condition and the action, and looks up everything that they name. A disabled scrip may name missing objects.
    async fn compile(&mut self, change: &mut Edit<'_>) -> Result<()> {
        let mut missing = self.missing_things(change);
        match Condition::parse(&self.condition_type, &self.condition_config) {
            Ok(condition) => {
                self.check_types(change, &condition);
                missing.extend(check_query(change, &condition).await?);
            }
            Err(faults) => change.faults.extend(faults),
        }
        match Action::compile(&self.action_type, &self.action_config) {
            Ok(action) => {
                self.check_action(change, &action);
                missing.extend(self.missing_secrets(change, &action).await?);
                missing.extend(missing_kind(change, &action));
                let texts = action.texts();
                change.warn_of_fields(
                    &texts.iter().flat_map(|text| text.custom_fields()).map(String::as_str).collect(),
                );
            }
            Err(faults) => change.faults.extend(faults),
        }
        missing.extend(self.missing_template(change));
        if self.state == Some(State::Disabled) {
            change.warnings.extend(missing.iter().map(Fault::to_string));
        } else {
            change.faults.extend(missing);
        }
        Ok(())
    }

    /// Checks that the condition can hold for the transaction types, and normalizes their names.
    fn check_types(&mut self, change: &mut Edit<'_>, condition: &Condition) {
        let Some(types) = &self.applicable_types else { return };
        let natural = condition.natural_types();
        let exist = list(natural.iter().map(|kind| kind.as_str()));
        let mut named = BTreeSet::new();
        if types.is_empty() {
            change.fault("applicable_types", format!("is empty; omit it to allow all types: {exist}"));
        }
        for (at, name) in types.iter().enumerate() {
            match TransactionType::parse(name).filter(|kind| natural.contains(kind)) {
                Some(kind) => _ = named.insert(kind),
                None => {
                    let message = format!(
                        "{} never matches transactions of the type {}; allowed types: {exist}",
                        self.condition_type,
                        quote(name)
                    );
                    change.fault(format!("applicable_types[{at}]"), message);
                }
            }
        }
        self.applicable_types = Some(named.into_iter().map(|kind| kind.as_str().to_owned()).collect());
    }

    fn check_action(&self, change: &mut Edit<'_>, action: &Action) {
        if action.needs_template() && self.template.is_none() {
            change.fault("template", format!("is missing; {} requires a template", self.action_type));
        }
        if let Effect::Webhook(webhook) = &action.effect
            && let Err(reason) = change.guard.check_url_at_save(&webhook.origin)
        {
            change.fault("action_config.url", reason);
        }
        if let Effect::Webhook(webhook) = &action.effect
            && webhook.body.is_none()
            && self.template.is_none()
            && webhook.escape != Mode::Json
        {
            let message =
                "is missing; without it, the body is JSON, which the Content-Type header does not name";
            change.fault("action_config.body", message);
        }
        if let Effect::SetCustomField(set) = &action.effect
            && let Some(field) = change.catalog.fields.find(&set.field).cloned()
            && matches!(set.mode, ticket::Mode::Set | ticket::Mode::Add)
        {
            for value in set.values.iter().filter_map(Compiled::literal).filter(|value| !value.is_empty()) {
                change.fault_if("action_config.value", field.check_value(value).err());
            }
        }
        if let Effect::Connector(connector) = &action.effect
            && let Some(kind) = change.catalog.kinds.get(&connector.kind)
        {
            let fault = |misfit: &Misfit| {
                Fault::new(format!("action_config.payload{}", misfit.pointer), &*misfit.message)
            };
            change.faults.extend(connector.misfits(kind).iter().map(fault));
        }
    }

    /// Returns a fault for each secret that does not exist or cannot sign.
    async fn missing_secrets(&self, change: &mut Edit<'_>, action: &Action) -> Result<Vec<Fault>> {
        let Effect::Webhook(webhook) = &action.effect else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        for name in action.secrets() {
            let signs = webhook.secret.as_deref() == Some(name);
            let place = if signs { "action_config.secret" } else { "action_config.headers" };
            let found =
                if name.contains('\0') { None } else { secrets::is_signing(&mut change.db, name).await? };
            let name = quote(name);
            let message = match found {
                None => {
                    let plain = name.trim_matches('"');
                    format!("there is no secret {name}; create it with PUT /api/secrets/{plain}")
                }
                Some(false) if signs => {
                    format!("the secret {name} does not begin with \"whsec_\", so it cannot sign")
                }
                Some(_) => continue,
            };
            missing.push(Fault::new(place, message));
        }
        Ok(missing)
    }

    /// Returns a fault for each name that does not exist, without those in queries.
    fn missing_things(&self, change: &Edit<'_>) -> Vec<Fault> {
        let lifecycles = lifecycles_of(&change.catalog, self);
        let is_missing = |mention: mentions::Mention| {
            let name = quote(&mention.name);
            let message = match mention.thing {
                Thing::Field if change.catalog.fields.find(&mention.name).is_none() => {
                    let names = change.catalog.fields.iter().map(|field| field.name.as_str());
                    format!("there is no custom field {name}; existing custom fields: {}", list(names))
                }
                Thing::Status if lifecycles.iter().all(|one| one.class_of(&mention.name).is_none()) => {
                    let names: BTreeSet<_> = lifecycles.iter().flat_map(|one| one.statuses()).collect();
                    format!(
                        "there is no status {name} in the lifecycles of these queues; existing statuses: {}",
                        list(names)
                    )
                }
                Thing::Queue if change.catalog.queues.find(&mention.name).is_none() => {
                    let names = list(change.catalog.queue_names());
                    format!("there is no queue {name}; existing queues: {names}")
                }
                Thing::Owner if !change.is_owner(&mention.name) => {
                    format!("there is no privileged user {name}; only privileged users can own tickets")
                }
                Thing::Person
                    if change.catalog.agent(&mention.name).is_none() && !is_address(&mention.name) =>
                {
                    format!("{name} is neither a privileged user nor a mail address")
                }
                _ => return None,
            };
            Some(Fault::new(mention.place, message))
        };
        let mentions = mentions::of(&change.catalog, self).into_iter();
        mentions.filter(|mention| mention.place != mentions::QUERY).filter_map(is_missing).collect()
    }

    /// Checks that the template exists for the queues of the scrip, at least for one if it is for every queue, and fits if it is
    /// the body of a webhook.
    fn missing_template(&self, change: &mut Edit<'_>) -> Vec<Fault> {
        let Some(name) = &self.template else { return Vec::new() };
        let queues = queues_of(&change.catalog, self);
        let found: BTreeMap<_, Arc<Template>> = queues
            .iter()
            .filter_map(|queue| change.catalog.template(name, *queue))
            .map(|template| (template.source().id, Arc::clone(template)))
            .collect();
        if found.is_empty() {
            return vec![Fault::new("template", unknown_template(change, name))];
        }
        let without: Vec<String> = queues
            .iter()
            .filter(|queue| change.catalog.template(name, **queue).is_none())
            .filter_map(|queue| change.catalog.queues.get(*queue).map(|queue| queue.name.clone()))
            .collect();
        let mut faults = Vec::new();
        if !without.is_empty() {
            let (name, queues) = (quote(name), list(&without));
            if self.places().iter().all(|place| place.queue.is_some()) {
                let message = format!(
                    "{name} does not exist for the queues {queues}, nor globally; create it there, or remove the queues"
                );
                faults.push(Fault::new("template", message));
            } else {
                change.warnings.push(format!(
                    "Template {name} does not exist for the queues {queues}; the scrip fails in these queues."
                ));
            }
        }
        let Some(escape) = self.takes_body_from(name) else { return faults };
        let wrong =
            found.values().filter_map(|template| template.webhook_body(escape).err().map(str::to_owned));
        faults.extend(wrong.map(|reason| {
            Fault::new("template", format!("{} cannot be the body of this webhook: {reason}", quote(name)))
        }));
        faults
    }
}

/// Returns a fault if no connector was ever added for the kind of the action.
fn missing_kind(change: &Edit<'_>, action: &Action) -> Option<Fault> {
    let Effect::Connector(connector) = &action.effect else { return None };
    let (kinds, kind) = (&change.catalog.kinds, &connector.kind);
    if kinds.contains_key(kind) {
        return None;
    }
    let known = list(kinds.keys().map(KindName::as_str));
    let message = format!(
        "there is no connector kind \"{kind}\"; existing kinds: {known}. To create it, run `tessera connector add NAME --kind {kind}`"
    );
    Some(Fault::new("action_config.kind", message))
}

/// Returns a fault if the query of a condition cannot be resolved, and warns of unknown people. The catalog has only privileged users,
/// so other people are looked up here.
async fn check_query(change: &mut Edit<'_>, condition: &Condition) -> Result<Option<Fault>> {
    let fields = change.catalog.query_fields(Purpose::Condition);
    let query = match condition.query.as_ref().map(|asked| asked.resolve(&fields)) {
        None => return Ok(None),
        Some(Err(fault)) => return Ok(Some(fault)),
        Some(Ok(query)) => query,
    };
    for read in reads(&query) {
        if let Read::Person(word) = read
            && !is_address(&word)
            && users::id_of(&mut change.db, &word).await?.is_none()
        {
            let name = quote(&word);
            change.warnings.push(format!(
                "User {name} does not exist; tests on this user match nothing until the user exists."
            ));
        }
    }
    Ok(None)
}

/// Returns the queues to which a scrip applies: all queues if it names no existing one.
pub(super) fn queues_of(catalog: &Catalog, scrip: &ScripDocument) -> Vec<QueueId> {
    let words: Option<Vec<String>> = scrip.places().into_iter().map(|place| place.queue).collect();
    let found = words.into_iter().flatten().filter_map(|word| catalog.queues.find(&word));
    let found: Vec<QueueId> = found.map(|queue| queue.id).collect();
    if found.is_empty() { catalog.queues.iter().map(|queue| queue.id).collect() } else { found }
}

/// Returns the lifecycles of the queues to which a scrip applies.
pub(super) fn lifecycles_of(catalog: &Catalog, scrip: &ScripDocument) -> Vec<Arc<Lifecycle>> {
    let of_queues: BTreeMap<_, _> = queues_of(catalog, scrip)
        .into_iter()
        .filter_map(|queue| catalog.lifecycle_of(queue))
        .map(|lifecycle| (lifecycle.id(), Arc::clone(lifecycle)))
        .collect();
    of_queues.into_values().collect()
}

impl Edit<'_> {
    fn is_owner(&self, name: &str) -> bool {
        fold(name) == fold(NOBODY)
            || name.is_empty()
            || self.catalog.agent(name).is_some_and(|agent| agent.privileged)
    }
}

/// Describes the parts of scrips as JSON: the types of conditions and actions with the JSON Schema of their configuration, and the kinds
/// of connectors with the JSON Schema of their payloads.
pub fn scrip_types(catalog: &Catalog) -> Value {
    let condition = |name: &str| {
        // The transaction types do not depend on the configuration, so a minimal valid one is enough.
        let sample = match name {
            "OnCustomFieldChange" => json!({ "field": "any" }),
            "UserDefined" => json!({ "query": "Priority > 0" }),
            _ => json!({}),
        };
        let natural =
            Condition::parse(name, &sample).map(|condition| condition.natural_types()).unwrap_or_default();
        (name.to_owned(), json!({ "schema": Condition::schema(name), "transaction_types": natural }))
    };
    let action = |action: &ActionType| (action.name.to_owned(), json!({ "schema": action.schema() }));
    let kind = |kind: &Arc<ConnectorKind>| {
        let schema = kind.schema.as_ref().map(Schema::source);
        (kind.name.to_string(), json!({ "schema": schema, "is_announced": kind.is_announced }))
    };
    let activating: Vec<_> = TransactionType::ALL.into_iter().filter(|kind| kind.is_activating()).collect();
    json!({
        "conditions": Condition::TYPES.into_iter().map(condition).collect::<Map<_, _>>(),
        "actions": ACTIONS.iter().map(action).collect::<Map<_, _>>(),
        "kinds": catalog.kinds.values().map(kind).collect::<Map<_, _>>(),
        "stages": [Stage::TransactionCreate, Stage::TransactionBatch],
        "states": [State::Enabled, State::Disabled, State::Shadow],
        "transaction_types": activating,
    })
}
