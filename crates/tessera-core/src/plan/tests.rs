//! Tests of planning: pure, with a configuration in memory.

mod automation;
mod conditions;
mod connectors;
mod details;
mod explaining;
mod hashed;
mod hashing;
mod mails;
mod requests;
mod webhooks;
mod words;
mod work;

use super::catalog::{Installation, Parts};
use super::command::{CreateTicket, FieldChange, UpdateTicket};
use super::*;
use crate::lifecycle::{Definition, Lifecycle};
use crate::models::custom_field;
use crate::models::delivery::KindName;
use crate::models::template::ContentType;
use crate::models::transaction::Content;
use crate::models::user::{ADMIN_USER, SYSTEM_USER};
use crate::models::*;
use crate::scrip::action::Action;
use crate::scrip::condition::Condition;
use crate::scrip::evaluation::{Stage, Verdict};
use crate::scrip::kind::{ConnectorKind, Schema};
use crate::scrip::template::Template;
use crate::scrip::{Attachment, Scrip, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use time::macros::datetime;
use uuid::Uuid;

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-23 10:00:00.123456 UTC);

/// A configuration in memory: queues Support and Billing, agents ann and bob, fields Severity, Components, Note.
pub(crate) struct Desk {
    parts: Parts,
}

pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128((0x7 << 76) | (0b10 << 62) | n)
}

pub(crate) fn user(n: u128, username: &str, privileged: bool) -> User {
    let email = Some(format!("{username}@desk.example"));
    User { id: UserId(id(n)), username: username.to_owned(), email, name: None, privileged, disabled: false }
}

pub(crate) fn admin() -> User {
    User { id: ADMIN_USER, ..user(0, "admin", true) }
}

const SIMPLE: &str = r#"{"initial": ["waiting"], "active": ["open"], "inactive": ["paid"],
    "transitions": {"": ["waiting"], "waiting": ["open"], "open": ["paid"], "paid": []}}"#;

impl Desk {
    pub fn new() -> Self {
        let mut stock = Definition::stock();
        stock.maps = serde_json::from_value(json!({"billing": {"new": "waiting", "open": "open"}})).unwrap();
        let lifecycle = |n, name: &str, definition| {
            Arc::new(
                Lifecycle::compile(LifecycleId(id(n)), LifecycleVersionId(id(n + 1)), name, definition)
                    .unwrap(),
            )
        };
        let field = |n, definition: Value| {
            let definition: custom_field::Definition = serde_json::from_value(definition).unwrap();
            Arc::new(CustomField::define(CustomFieldId(id(n)), definition).unwrap())
        };
        let queue = |n, name: &str, lifecycle, fields: &[u128]| {
            Arc::new(Queue {
                id: QueueId(id(n)),
                name: name.to_owned(),
                description: None,
                lifecycle: LifecycleId(id(lifecycle)),
                correspond_address: Some(format!("{}@desk.example", name.to_lowercase())),
                comment_address: None,
                cc: Vec::new(),
                admin_cc: vec![Watcher {
                    id: WatcherId(id(n + 50)),
                    user: Some(UserId(id(12))),
                    address: None,
                }],
                custom_fields: fields.iter().map(|n| CustomFieldId(id(*n))).collect(),
                disabled: false,
            })
        };
        let installation = Installation {
            name: "tessera".to_owned(),
            base_url: "https://desk.example".to_owned(),
            mail_from: "Desk <desk@desk.example>".to_owned(),
        };
        let system = User { id: SYSTEM_USER, email: None, ..user(0, "system", false) };
        Self {
            parts: Parts {
                kinds: Vec::new(),
                version: 7,
                installation,
                queues: vec![
                    queue(100, "Support", 200, &[300, 301, 302]),
                    queue(110, "Billing", 210, &[300]),
                ],
                lifecycles: vec![
                    lifecycle(200, "default", stock),
                    lifecycle(210, "billing", serde_json::from_str(SIMPLE).unwrap()),
                ],
                fields: vec![
                    field(
                        300,
                        json!({"name": "Severity", "field_type": "SelectSingle", "values": ["low", "high"]}),
                    ),
                    field(
                        301,
                        json!({"name": "Components", "field_type": "SelectMulti", "values": ["web", "mail", "db"]}),
                    ),
                    field(302, json!({"name": "Note", "field_type": "Freeform"})),
                ],
                agents: vec![
                    Arc::new(system),
                    Arc::new(admin()),
                    Arc::new(user(11, "ann", true)),
                    Arc::new(user(12, "bob", true)),
                ],
                scrips: Vec::new(),
                templates: Vec::new(),
            },
        }
    }

    pub fn template(self, name: &str, subject: &str, body: &str) -> Self {
        self.template_of(ContentType::Text, name, subject, body)
    }

    pub fn html_template(self, name: &str, subject: &str, body: &str) -> Self {
        self.template_of(ContentType::Html, name, subject, body)
    }

    fn template_of(mut self, content_type: ContentType, name: &str, subject: &str, body: &str) -> Self {
        let n = 400 + 2 * self.parts.templates.len() as u128;
        let source = TemplateSource {
            id: TemplateId(id(n)),
            version_id: TemplateVersionId(id(n + 1)),
            version: 1,
            name: name.to_owned(),
            queue: None,
            subject: subject.to_owned(),
            body: body.to_owned(),
            content_type,
            headers: BTreeMap::new(),
            disabled: false,
        };
        self.parts.templates.push(Arc::new(Template::compile(&source).unwrap()));
        self
    }

    /// Adds a scrip: `(name, condition, its config, action, its config)`; `more` can contain template, stage, sort_order,
    /// state, types.
    pub fn scrip(mut self, name: &str, when: (&str, Value), then: (&str, Value), more: Value) -> Self {
        let n = 600 + 2 * self.parts.scrips.len() as u128;
        let condition = Condition::parse(when.0, &when.1).unwrap();
        let text = |key: &str| more[key].as_str();
        let applicable = match more["types"].as_array() {
            Some(types) => {
                types.iter().map(|kind| TransactionType::parse(kind.as_str().unwrap()).unwrap()).collect()
            }
            None => condition.natural_types(),
        };
        self.parts.scrips.push(Arc::new(Scrip {
            id: ScripId(id(n)),
            version_id: ScripVersionId(id(n + 1)),
            version: 3,
            name: name.to_owned(),
            description: None,
            applicable,
            condition,
            action: Action::compile(then.0, &then.1).unwrap(),
            template: text("template").map(str::to_owned),
            state: text("state").map_or(State::Enabled, |state| State::parse(state).unwrap()),
            attachments: vec![Attachment {
                queue: None,
                stage: text("stage").map_or(Stage::TransactionCreate, |stage| Stage::parse(stage).unwrap()),
                sort_order: i32::try_from(more["sort_order"].as_i64().unwrap_or(0)).unwrap(),
            }],
        }));
        self
    }

    /// Adds a kind of connectors; null means no schema.
    pub fn kind(mut self, name: &str, schema: Value) -> Self {
        let schema = (!schema.is_null()).then(|| Schema::compile(schema).unwrap());
        let name = KindName::parse(name).unwrap();
        self.parts.kinds.push(Arc::new(ConnectorKind { name, schema, is_announced: true }));
        self
    }

    pub fn open(self) -> Catalog {
        Catalog::new(self.parts)
    }
}

pub(crate) fn context(seed: u64) -> Context {
    let mut ids = Ids::new(NOW, seed);
    Context {
        actor: admin(),
        channel: "test",
        now: NOW,
        request: ids.draw(),
        ids,
        access: Access::All,
        depth: 0,
    }
}

pub(crate) fn new_ticket() -> CreateTicket {
    CreateTicket {
        queue: "Support".to_owned(),
        subject: "Printer on fire".to_owned(),
        ..CreateTicket::default()
    }
}

pub(crate) fn text(body: &str) -> Content {
    Content::plain(body.to_owned())
}

pub(crate) fn create(catalog: &Catalog, command: CreateTicket) -> Result<Plan, crate::Error> {
    let people = People::default();
    let situation = Situation { ticket: Target::New { number: Some(42) }, people, messages: Vec::new() };
    prepare(catalog, &situation, &Command::Create(command), &context(1))
}

/// Updates a ticket an hour after its creation.
pub(crate) fn update(
    catalog: &Catalog,
    ticket: &Ticket,
    command: UpdateTicket,
) -> Result<Plan, crate::Error> {
    let ticket = Box::new(ticket.clone());
    let situation =
        Situation { ticket: Target::Existing(ticket), people: People::default(), messages: Vec::new() };
    let mut context = context(2);
    context.now += time::Duration::hours(1);
    prepare(catalog, &situation, &Command::Update(command), &context)
}

pub(crate) fn status(status: &str) -> UpdateTicket {
    UpdateTicket { status: Some(status.to_owned()), ..UpdateTicket::default() }
}

/// The history of a plan in short: `Status new -> open`, `Set Priority 0 -> 5`, with `*` where derived.
pub(crate) fn history(plan: &Plan) -> Vec<String> {
    let line = |transaction: &Transaction| {
        let values = match (&transaction.old_value, &transaction.new_value) {
            (None, None) => String::new(),
            (old, new) => {
                format!(" {} -> {}", old.as_deref().unwrap_or("()"), new.as_deref().unwrap_or("()"))
            }
        };
        let field = transaction.field.as_ref().map(|field| format!(" {field}")).unwrap_or_default();
        format!(
            "{}{field}{values}{}",
            transaction.transaction_type,
            if transaction.derived { " *" } else { "" }
        )
    };
    plan.transactions.iter().map(line).collect()
}

/// `scrip: verdict` of every scrip considered, in order.
pub(crate) fn verdicts(plan: &Plan) -> Vec<String> {
    plan.evaluations.iter().map(|one| format!("{}: {}", one.name, one.verdict)).collect()
}

pub(crate) fn verdict_of(plan: &Plan, scrip: &str) -> Verdict {
    plan.evaluations.iter().find(|one| one.name == scrip).unwrap().verdict
}

pub(crate) fn why_of(plan: &Plan, scrip: &str) -> String {
    serde_json::to_string(&plan.evaluations.iter().find(|one| one.name == scrip).unwrap().why).unwrap()
}

/// Checks that the history before and that of the plan fold to the ticket (I2).
pub(crate) fn assert_folds(before: &[&Plan], plan: &Plan) {
    let history = before.iter().copied().chain([plan]).flat_map(|plan| &plan.transactions);
    let folded = Ticket::fold(history.map(|one| (&one.change, one.seq.unwrap(), one.created_at))).unwrap();
    assert_eq!(folded, plan.ticket);
}

pub(crate) fn replace(values: &[&str]) -> FieldChange {
    FieldChange::Replace(values.iter().map(|value| (*value).to_owned()).collect())
}
