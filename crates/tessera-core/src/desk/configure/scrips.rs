//! Scrips: compiled before they are stored, and everything that they name in plain words looked up.

use super::mentions::{self, Thing};
use super::templates::unknown_template;
use super::{Change, Document, Versioned, limit};
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
use crate::scrip::action::{ACTIONS, Action, ActionType, Effect};
use crate::scrip::condition::Condition;
use crate::scrip::evaluation::Stage;
use crate::scrip::kind::{ConnectorKind, Misfit, Schema};
use crate::scrip::template::Template;
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

    async fn write(&self, change: &mut Change<'_>, before: Option<&Stored<Self>>) -> Result<Uuid> {
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

    fn says_the_same(&self, other: &Self) -> bool {
        self.clone().settled().ok() == other.clone().settled().ok()
    }

    fn make_room(document: &mut Map<String, Value>, patch: &Map<String, Value>) {
        // The document has both forms of where and whether; a patch says one.
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
        // Another type needs another configuration; that of the old one would only be refused.
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
    /// Looks up its queues, and writes their names into the document as they are.
    fn attach(&mut self, change: &mut Change<'_>) -> Vec<(Uuid, Attachment)> {
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
                change.fault(field, "stands here already; a scrip is attached to a queue once");
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

    /// Compiles its condition and action, and looks up what they name. A disabled scrip may name what is not there.
    async fn compile(&mut self, change: &mut Change<'_>) -> Result<()> {
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

    /// The types of transactions are activating ones that the condition can hold for, under their own names.
    fn check_types(&mut self, change: &mut Change<'_>, condition: &Condition) {
        let Some(types) = &self.applicable_types else { return };
        let natural = condition.natural_types();
        let exist = list(natural.iter().map(|kind| kind.as_str()));
        let mut named = BTreeSet::new();
        if types.is_empty() {
            change.fault("applicable_types", format!("is empty; leave it out for all of {exist}"));
        }
        for (at, name) in types.iter().enumerate() {
            match TransactionType::parse(name).filter(|kind| natural.contains(kind)) {
                Some(kind) => _ = named.insert(kind),
                None => {
                    let message =
                        format!("{} cannot be for {}; there are {exist}", quote(name), self.condition_type);
                    change.fault(format!("applicable_types[{at}]"), message);
                }
            }
        }
        self.applicable_types = Some(named.into_iter().map(|kind| kind.as_str().to_owned()).collect());
    }

    fn check_action(&self, change: &mut Change<'_>, action: &Action) {
        if action.needs_template() && self.template.is_none() {
            change.fault("template", format!("is missing; {} takes its words from one", self.action_type));
        }
        if let Effect::Webhook(webhook) = &action.effect
            && let Err(reason) = change.guard.check_url_at_save(&webhook.origin)
        {
            change.fault("action_config.url", reason);
        }
        if let Effect::Connector(connector) = &action.effect
            && let Some(kind) = change.catalog.kinds.get(&connector.kind)
        {
            let told = |misfit: &Misfit| {
                Fault::new(format!("action_config.payload{}", misfit.pointer), &*misfit.message)
            };
            change.faults.extend(connector.misfits(kind).iter().map(told));
        }
    }

    /// Secrets that there are not, or that cannot do what they are named for.
    async fn missing_secrets(&self, change: &mut Change<'_>, action: &Action) -> Result<Vec<Fault>> {
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
                    format!("there is no secret {name}; store it with PUT /api/secrets/{plain}")
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

    fn missing_things(&self, change: &Change<'_>) -> Vec<Fault> {
        let lifecycles = lifecycles_of(&change.catalog, self);
        let is_missing = |mention: mentions::Mention| {
            let name = quote(&mention.name);
            let message = match mention.thing {
                Thing::Field if change.catalog.fields.find(&mention.name).is_none() => {
                    let names = change.catalog.fields.iter().map(|field| field.name.as_str());
                    format!("there is no custom field {name}; there are {}", list(names))
                }
                Thing::Status if lifecycles.iter().all(|one| one.class_of(&mention.name).is_none()) => {
                    let names: BTreeSet<_> = lifecycles.iter().flat_map(|one| one.statuses()).collect();
                    format!(
                        "there is no status {name} in the lifecycles of these queues; there are {}",
                        list(names)
                    )
                }
                Thing::Queue if change.catalog.queues.find(&mention.name).is_none() => {
                    format!("there is no queue {name}; there are {}", list(change.catalog.queue_names()))
                }
                Thing::Owner if !change.is_owner(&mention.name) => {
                    format!("there is no privileged user {name}, so they cannot own")
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

    /// The template is there in one of its queues or for all; as the body of a webhook it is JSON.
    fn missing_template(&self, change: &mut Change<'_>) -> Vec<Fault> {
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
        if !without.is_empty() {
            let sentence = format!(
                "There is no template {} for the queues {}; in these the scrip fails.",
                quote(name),
                list(&without)
            );
            change.warnings.push(sentence);
        }
        if !self.takes_json_from(name) {
            return Vec::new();
        }
        let wrong = found.values().filter_map(|template| template.json_body().err().map(str::to_owned));
        wrong
            .map(|reason| {
                Fault::new("template", format!("{} cannot be a webhook's JSON body: {reason}", quote(name)))
            })
            .collect()
    }
}

/// A kind for which nobody ever added a connector.
fn missing_kind(change: &Change<'_>, action: &Action) -> Option<Fault> {
    let Effect::Connector(connector) = &action.effect else { return None };
    let (kinds, kind) = (&change.catalog.kinds, &connector.kind);
    if kinds.contains_key(kind) {
        return None;
    }
    let known = match kinds.is_empty() {
        true => "there are none yet".to_owned(),
        false => format!("there are {}", list(kinds.keys().map(KindName::as_str))),
    };
    let message = format!(
        "there is no kind \"{kind}\" of connectors; {known}. `tessera connector add NAME --kind {kind}` adds one"
    );
    Some(Fault::new("action_config.kind", message))
}

/// What a condition's query names and there is not. Only agents are known to conditions; others are looked up here once.
async fn check_query(change: &mut Change<'_>, condition: &Condition) -> Result<Option<Fault>> {
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
            change.warnings.push(format!("There is no user {name}; until there is, no test of them holds."));
        }
    }
    Ok(None)
}

/// The queues where a scrip runs; all of them where it names none that there is.
fn queues_of(catalog: &Catalog, scrip: &ScripDocument) -> Vec<QueueId> {
    let words: Option<Vec<String>> = scrip.places().into_iter().map(|place| place.queue).collect();
    let found = words.into_iter().flatten().filter_map(|word| catalog.queues.find(&word));
    let found: Vec<QueueId> = found.map(|queue| queue.id).collect();
    if found.is_empty() { catalog.queues.iter().map(|queue| queue.id).collect() } else { found }
}

/// The lifecycles of the queues where a scrip runs.
pub(super) fn lifecycles_of(catalog: &Catalog, scrip: &ScripDocument) -> Vec<Arc<Lifecycle>> {
    let of_queues: BTreeMap<_, _> = queues_of(catalog, scrip)
        .into_iter()
        .filter_map(|queue| catalog.lifecycle_of(queue))
        .map(|lifecycle| (lifecycle.id(), Arc::clone(lifecycle)))
        .collect();
    of_queues.into_values().collect()
}

impl Change<'_> {
    fn is_owner(&self, name: &str) -> bool {
        fold(name) == fold(NOBODY)
            || name.is_empty()
            || self.catalog.agent(name).is_some_and(|agent| agent.privileged)
    }
}

/// What a scrip can be made of: the types of conditions and actions with the JSON Schema of what each needs to know, and the
/// kinds that connectors deliver with that of their payloads.
pub fn scrip_types(catalog: &Catalog) -> Value {
    let condition = |name: &str| {
        // The types of transactions do not depend on the configuration, and most can be read from an empty one.
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
