//! Generates a configuration and requests from bytes: mostly valid names, occasionally arbitrary texts.

use crate::lifecycle::{Definition, Lifecycle};
use crate::models::template::ContentType;
use crate::models::transaction::Content;
use crate::models::user::{ADMIN_USER, SYSTEM_USER};
use crate::models::{
    CustomField, CustomFieldId, Ids, LifecycleId, LifecycleVersionId, Queue, QueueId, Role, ScripId,
    ScripVersionId, StatusClass, TemplateId, TemplateSource, TemplateVersionId, Ticket, TransactionType,
    User, UserId, Watcher, WatcherId, custom_field,
};
use crate::plan::catalog::{Installation, Parts};
use crate::plan::command::{CreateTicket, Difference, FieldChange, UpdateTicket};
use crate::plan::situation::PastMessage;
use crate::plan::{Access, Catalog, Command, Context, People, Situation, Target};
use crate::scrip::action::{ACTIONS, Action};
use crate::scrip::condition::Condition;
use crate::scrip::evaluation::Stage;
use crate::scrip::template::Template;
use crate::scrip::{Attachment, Scrip, State};
use arbitrary::Unstructured;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// The server that every webhook is sent to.
pub(super) const RECEIVER: &str = "https://hooks.example";

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-23 10:00:00.123456 UTC);
const SCRIPS_MAX: usize = 24;
const UPDATES_MAX: usize = 6;

const STATUSES: [&str; 9] =
    ["new", "open", "stalled", "resolved", "rejected", "deleted", "waiting", "paid", "OPEN"];
const QUEUES: [&str; 5] = ["Support", "billing", "Closed", "Nowhere", ""];
const PEOPLE: [&str; 12] = [
    "ann",
    "bob",
    "dan",
    "eve",
    "Nobody",
    "system",
    "EVE@example.net",
    "a@example.net",
    "support@desk.example",
    "\"q\\\" x\"@example.net",
    "ü@exämple.net",
    "no address",
];
const FIELDS: [&str; 4] = ["Severity", "Components", "Note", "Nope"];
const VALUES: [&str; 7] = ["low", "HIGH", "web", "mail", "a1", "", "a\0b"];
const RIGHTS: [&str; 6] =
    ["CreateTicket", "ModifyTicket", "ReplyToTicket", "CommentOnTicket", "ModifyCustomField", "DeleteTicket"];
/// Tests of queries; one names an unknown field.
const QUERIES: [&str; 12] = [
    "CF.Severity = high",
    "CF.Components != web",
    "Status CHANGED TO __Active__",
    "Owner CHANGED",
    "Priority > 0",
    "id > 0",
    "Requestor LIKE '@'",
    "(Owner IS NULL OR Owner = ann)",
    "LastUpdatedBy = Actor",
    "Transaction.Content MATCHES 'burns'",
    "Due < Created",
    "CF.Gone = 1",
];
const WORDS: [&str; 30] = [
    "x",
    " ",
    "\n",
    "9",
    "-1",
    "99999999999",
    "open",
    "active",
    "ann",
    "a@example.net, b@example.net",
    "high",
    "2026-11-23T10:00:00Z",
    "\r\nBcc: evil@example.net",
    "[tessera #42]",
    "{{ ticket.subject }}",
    "{{ ticket.number }}",
    "{{ ticket.status }}",
    "{{ ticket.requestor_addresses }}",
    "{{ ticket.owner.email }}",
    "{{ ticket.cf.Note }}",
    "{{ cf.Nope }}",
    "{{ transaction.id }}",
    "{{ transaction.new_value }}",
    "{{ transaction.content | quote }}",
    "{{ now }}",
    "{% for one in batch %}{{ one.description }}\n{% endfor %}",
    "{% for one in messages %}{{ one.content }}{% endfor %}",
    "{% if ticket.priority > 3 %}urgent{% else %}{{ ticket.priority + 1 }}{% endif %}",
    "{% for n in range(end=200) %}{{ ticket.subject }}{{ ticket.cf.Note }}{% endfor %}",
    "{{ ticket.priority / 0 }}",
];

/// A configuration, a person and their requests, the first of which creates a ticket.
pub(crate) struct Desk {
    pub catalog: Catalog,
    pub commands: Vec<Command>,
    people: People,
    actor: User,
    access: Access,
}

impl Desk {
    /// Generates a configuration. The same bytes give the same result.
    pub fn of(bytes: &[u8]) -> Self {
        let mut source = Source(Unstructured::new(bytes));
        let agents = agents();
        let people: People = agents.iter().map(|agent| User::clone(agent)).chain([eve()]).collect();
        let actor = source.one(&["admin", "ann", "eve"]);
        let actor = people.find(actor).unwrap().clone();
        let access = if source.rarely() {
            Access::Only(source.list(6, |source| source.one(&RIGHTS).to_owned()).into_iter().collect())
        } else {
            Access::All
        };
        let mut commands = vec![Command::Create(source.create())];
        commands.extend(source.list(UPDATES_MAX, |source| Command::Update(source.update())));
        let parts = Parts {
            kinds: Vec::new(),
            version: 7,
            installation: Installation {
                name: "tessera".to_owned(),
                base_url: "https://desk.example".to_owned(),
                mail_from: "Desk <desk@desk.example>".to_owned(),
            },
            lifecycles: vec![default_lifecycle(), source.lifecycle()],
            fields: source.fields(),
            queues: vec![
                source.queue(100, "Support", 200),
                source.queue(110, "Billing", 210),
                Arc::new(Queue { disabled: true, ..Queue::clone(&source.queue(120, "Closed", 200)) }),
            ],
            agents,
            templates: (0..3).filter_map(|n| source.template(n)).collect(),
            scrips: (0..source.below(SCRIPS_MAX + 1)).filter_map(|n| source.scrip(n)).collect(),
        };
        Self { catalog: Catalog::new(parts), commands, people, actor, access }
    }

    /// Returns the situation that a load would return.
    pub fn situation(&self, ticket: Option<&Ticket>) -> Situation {
        let message = PastMessage {
            transaction_type: TransactionType::Create,
            creator: self.actor.id,
            created_at: NOW,
            content: "It burns.".to_owned(),
            is_cut: false,
        };
        let (ticket, messages) = match ticket {
            None => (Target::New { number: Some(42) }, Vec::new()),
            Some(ticket) => (Target::Existing(Box::new(ticket.clone())), vec![message]),
        };
        Situation { ticket, people: self.people.clone(), messages }
    }

    /// Returns the context of a request. Each round is an hour later.
    pub fn context(&self, round: u32, seed: u32) -> Context {
        let now = NOW + Duration::hours(round.into());
        let mut ids = Ids::new(now, seed.into());
        let (actor, access) = (self.actor.clone(), self.access.clone());
        Context { actor, channel: "test", now, request: ids.draw(), ids, access, depth: 0 }
    }
}

/// Bytes that each choice consumes. When they are used up, every choice is the first.
struct Source<'b>(Unstructured<'b>);

impl Source<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.0.int_in_range(0..=end - 1).unwrap_or_default()
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn rarely(&mut self) -> bool {
        self.below(8) == 7
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        *of.get(self.below(of.len())).unwrap()
    }

    fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn list<T>(&mut self, max: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(max + 1)).map(|_| make(self)).collect()
    }

    /// Returns one of the words, or occasionally an arbitrary text.
    fn word(&mut self, known: &[&str]) -> String {
        if self.rarely() {
            self.0.arbitrary::<&str>().unwrap_or_default().to_owned()
        } else {
            self.one(known).to_owned()
        }
    }

    fn words(&mut self, known: &[&str]) -> Vec<String> {
        self.list(3, |source| source.word(known))
    }

    /// Returns a few concatenated pieces of templates.
    fn text(&mut self) -> String {
        self.list(3, |source| source.word(&WORDS)).concat()
    }

    // Requests ------------------------------------------------------------------------------------------------------

    fn create(&mut self) -> CreateTicket {
        CreateTicket {
            queue: self.word(&QUEUES),
            subject: self.word(&["Printer on fire", "9", "Ä <b>\"&", " ", "a\nb"]),
            status: self.some(|source| source.word(&STATUSES)),
            owner: self.some(|source| source.word(&PEOPLE)),
            priority: self.number(),
            due_at: self.moment(),
            requestors: self.words(&PEOPLE),
            cc: self.words(&PEOPLE),
            admin_cc: self.words(&PEOPLE),
            custom_fields: self.list(3, |s| (s.word(&FIELDS), s.words(&VALUES))).into_iter().collect(),
            content: self.content(),
        }
    }

    fn update(&mut self) -> UpdateTicket {
        let difference = |source: &mut Self, known: &[&str]| Difference {
            add: source.words(known),
            remove: source.words(known),
        };
        let field = |source: &mut Self| {
            let change = if source.flag() {
                FieldChange::Replace(source.words(&VALUES))
            } else {
                FieldChange::Difference(difference(source, &VALUES))
            };
            (source.word(&FIELDS), change)
        };
        UpdateTicket {
            subject: self.some(|source| source.word(&["Printer drowned", "", "{{ now }}"])),
            status: self.some(|source| source.word(&STATUSES)),
            owner: self.some(|source| source.some(|source| source.word(&PEOPLE))),
            queue: self.some(|source| source.word(&QUEUES)),
            priority: self.number(),
            due_at: self.some(Self::moment),
            watchers: self.list(3, |s| (s.one(&Role::ALL), difference(s, &PEOPLE))).into_iter().collect(),
            custom_fields: self.list(3, field).into_iter().collect(),
            comment: self.content(),
            reply: self.content(),
        }
    }

    fn number(&mut self) -> Option<i32> {
        self.some(|source| source.0.arbitrary().unwrap_or_default())
    }

    fn moment(&mut self) -> Option<OffsetDateTime> {
        let seconds = self.some(|source| source.0.arbitrary().unwrap_or_default())?;
        OffsetDateTime::from_unix_timestamp(seconds).ok()
    }

    fn content(&mut self) -> Option<Content> {
        let body = self.some(|source| source.word(&["It burns.", " ", "a\0b", "\n.\nMAIL FROM:<x@y>"]))?;
        Some(if self.one(&[true, false]) { Content::html(body) } else { Content::plain(body) })
    }

    // Configuration -------------------------------------------------------------------------------------------------

    /// Generates a lifecycle with few statuses, arbitrary transitions and an arbitrary map; a simple one if that is invalid.
    fn lifecycle(&mut self) -> Arc<Lifecycle> {
        let active = self.list(2, |source| source.one(&["open", "busy"]));
        let inactive = self.list(2, |source| source.one(&["paid", "deleted"]));
        let all: Vec<&str> = ["waiting"].iter().chain(&active).chain(&inactive).copied().collect();
        let mut transitions = BTreeMap::from([("", vec!["waiting"])]);
        for from in &all {
            let ways: BTreeSet<_> = self.list(3, |source| source.one(&all)).into_iter().collect();
            transitions.insert(from, ways.into_iter().filter(|to| to != from).collect());
        }
        let map: BTreeMap<_, _> = all.iter().map(|from| (from, self.one(&STATUSES))).collect();
        let definition = json!({"initial": ["waiting"], "active": active, "inactive": inactive,
            "transitions": transitions, "maps": {"default": map}});
        let simple = json!({"initial": ["waiting"], "active": ["open"], "inactive": ["paid"],
            "transitions": {"": ["waiting"], "waiting": ["open"], "open": ["paid"]}});
        let made = |definition| compile(210, "billing", serde_json::from_value(definition).unwrap());
        Arc::new(made(definition).or_else(|| made(simple)).unwrap())
    }

    fn fields(&mut self) -> Vec<Arc<CustomField>> {
        let pattern = self.some(|source| source.one(&["[a-z0-9]*", ".*"]));
        let count = self.below(4);
        let definitions = [
            json!({"name": "Severity", "field_type": "SelectSingle", "values": ["low", "high"]}),
            json!({"name": "Components", "field_type": "SelectMulti", "values": ["web", "mail"], "max_values": count}),
            json!({"name": "Note", "field_type": "Freeform", "pattern": pattern}),
        ];
        let field = |(n, definition): (u128, Value)| {
            let definition: custom_field::Definition = serde_json::from_value(definition).unwrap();
            Arc::new(CustomField::define(CustomFieldId(id(n)), definition).unwrap())
        };
        (300..).zip(definitions).map(field).collect()
    }

    fn queue(&mut self, n: u128, name: &str, lifecycle: u128) -> Arc<Queue> {
        let bob = Watcher { id: WatcherId(id(n + 5)), user: Some(UserId(id(12))), address: None };
        let address = Some("team@example.org".to_owned());
        let team = Watcher { id: WatcherId(id(n + 6)), user: None, address };
        let fields: BTreeSet<u128> =
            self.list(6, |source| source.one(&[300, 301, 302])).into_iter().collect();
        Arc::new(Queue {
            id: QueueId(id(n)),
            name: name.to_owned(),
            description: None,
            lifecycle: LifecycleId(id(lifecycle)),
            correspond_address: self.some(|_| format!("{}@desk.example", name.to_lowercase())),
            comment_address: self.some(|_| format!("{}-team@desk.example", name.to_lowercase())),
            cc: self.some(|_| team).into_iter().collect(),
            admin_cc: self.some(|_| bob).into_iter().collect(),
            custom_fields: fields.into_iter().map(|n| CustomFieldId(id(n))).collect(),
            disabled: false,
        })
    }

    fn template(&mut self, n: usize) -> Option<Arc<Template>> {
        let number = 400 + 2 * n as u128;
        let header = self.some(|source| ("Reply-To".to_owned(), source.text()));
        let source = TemplateSource {
            id: TemplateId(id(number)),
            version_id: TemplateVersionId(id(number + 1)),
            version: 1,
            name: format!("T{n}"),
            queue: None,
            subject: self.text(),
            body: self.text(),
            content_type: self.one(&[ContentType::Text, ContentType::Html]),
            headers: header.into_iter().collect(),
            disabled: self.rarely(),
        };
        Template::compile(&source).ok().map(Arc::new)
    }

    fn scrip(&mut self, n: usize) -> Option<Arc<Scrip>> {
        let number = 600 + 2 * n as u128;
        let (condition, action) = (self.condition()?, self.action()?);
        let state = if self.rarely() { State::Shadow } else { State::Enabled };
        let stage = if self.rarely() { Stage::TransactionBatch } else { Stage::TransactionCreate };
        Some(Arc::new(Scrip {
            id: ScripId(id(number)),
            version_id: ScripVersionId(id(number + 1)),
            version: 1,
            name: format!("Scrip {n}"),
            description: None,
            applicable: condition.natural_types(),
            condition,
            action,
            template: self.some(|source| source.one(&["T0", "T1", "T2", "None"]).to_owned()),
            state,
            attachments: vec![Attachment {
                queue: self.some(|source| QueueId(id(source.one(&[100, 110])))),
                stage,
                sort_order: self.one(&[0, 10, -10]),
            }],
        }))
    }

    fn condition(&mut self) -> Option<Condition> {
        let kind = self.one(&Condition::TYPES);
        let mut config = match kind {
            "OnStatusChange" => json!({"from": self.words(&STATUSES), "to": self.words(&STATUSES)}),
            "OnCustomFieldChange" => json!({"field": self.word(&FIELDS), "to": self.words(&VALUES)}),
            _ => json!({}),
        };
        if kind == "UserDefined" || self.rarely() {
            let tests = [self.one(&QUERIES), self.one(&QUERIES)];
            let query = tests.join(self.one(&[" AND ", " OR ", " AND NOT "]));
            config.as_object_mut()?.insert("query".to_owned(), json!(query));
        }
        Condition::parse(kind, &config).ok()
    }

    fn action(&mut self) -> Option<Action> {
        let kind = self.one(&ACTIONS.each_ref().map(|action| action.name));
        let role = self.one(&Role::ALL).as_str();
        let classes = StatusClass::ALL.map(StatusClass::as_str);
        let config = match kind {
            "SendEmail" => {
                let mut known =
                    vec!["requestor", "owner", "cc", "admin_cc", "queue_cc", "queue_admin_cc", "creator"];
                known.extend(PEOPLE.iter().chain(&WORDS));
                json!({"to": self.words(&known), "cc": self.words(&known), "bcc": self.words(&known),
                    "notify_actor": self.flag(), "as_comment": self.flag()})
            }
            "Webhook" => {
                let end = self.one(&["/", "?", "/%", ":443/", "\\"]);
                json!({"url": format!("{RECEIVER}{end}{}", self.text()), "body": self.some(Self::text),
                    "headers": {"X-Note": self.text()}, "secret": self.some(|_| "key")})
            }
            "SetCustomField" => {
                let value = [self.text()];
                let mode = self.one(&["set", "add", "remove", "clear"]);
                let value = Some(value).filter(|_| mode != "clear");
                json!({"field": self.word(&FIELDS), "value": value, "mode": mode})
            }
            "SetStatus" => {
                let known: Vec<&str> = STATUSES.into_iter().chain(classes).collect();
                json!({"status": self.word(&known), "from": self.words(&known)})
            }
            "AddComment" | "AddCorrespondence" => json!({"content": self.some(Self::text)}),
            "AddWatcher" | "RemoveWatcher" => json!({"role": role, "who": self.text()}),
            _ => json!({"value": self.text()}),
        };
        Action::compile(kind, &config).ok()
    }
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128((0x7 << 76) | (0b10 << 62) | n)
}

fn compile(n: u128, name: &str, definition: Definition) -> Option<Lifecycle> {
    Lifecycle::compile(LifecycleId(id(n)), LifecycleVersionId(id(n + 1)), name, definition).ok()
}

fn default_lifecycle() -> Arc<Lifecycle> {
    let mut stock = Definition::stock();
    stock.maps = serde_json::from_value(json!({"billing": {"new": "waiting", "open": "open"}})).unwrap();
    Arc::new(compile(200, "default", stock).unwrap())
}

fn user(n: u128, username: &str) -> User {
    let email = Some(format!("{username}@desk.example"));
    let username = username.to_owned();
    User { id: UserId(id(n)), username, email, name: None, privileged: true, disabled: false }
}

fn eve() -> User {
    let email = Some("eve@example.net".to_owned());
    User { email, name: Some("Eve \"E\" Poe".to_owned()), privileged: false, ..user(21, "eve") }
}

fn agents() -> Vec<Arc<User>> {
    let system = User { id: SYSTEM_USER, email: None, privileged: false, ..user(1, "system") };
    let admin = User { id: ADMIN_USER, ..user(2, "admin") };
    let dan = User { disabled: true, ..user(13, "dan") };
    [system, admin, user(11, "ann"), user(12, "bob"), dan].map(Arc::new).to_vec()
}
