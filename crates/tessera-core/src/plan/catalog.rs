//! The catalog: the whole configuration, compiled, as one immutable value that is replaced when the configuration changes.

use super::command::Command;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::models::delivery::{DeliveryKind, KindName};
use crate::models::text::{self, fold};
use crate::models::{
    CustomField, CustomFieldId, LifecycleId, Named, Queue, QueueId, ScripId, ScripVersionId, TemplateId,
    TransactionType, User, UserId,
};
use crate::query::{Fields, Purpose};
use crate::scrip::action::Effect;
use crate::scrip::action::ticket::{Column, Message};
use crate::scrip::condition::Resolved;
use crate::scrip::evaluation::Stage;
use crate::scrip::kind::ConnectorKind;
use crate::scrip::template::Template;
use crate::scrip::{Scrip, State};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// The most scrips of an installation.
pub const SCRIPS_MAX: usize = 2_000;
/// The most templates of an installation.
pub const TEMPLATES_MAX: usize = 2_000;
/// The most queues of an installation.
pub const QUEUES_MAX: usize = 500;
/// The most custom fields of an installation.
pub const FIELDS_MAX: usize = 1_000;
/// The most privileged users of an installation.
pub const AGENTS_MAX: usize = 20_000;

/// The name and addresses of an installation, from the settings and not from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The name in mail subjects. RT: `$rtname`.
    pub name: String,
    /// The base URL, without a slash at the end.
    pub base_url: String,
    /// `From` for queues without an address.
    pub mail_from: String,
}

impl Installation {
    /// Returns the URL of the ticket with a number.
    pub fn ticket_url(&self, number: impl fmt::Display) -> String {
        format!("{}/t/{number}", self.base_url)
    }
}

/// A scrip with its position in a stage.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The scrip.
    pub scrip: Arc<Scrip>,
    /// Its position.
    pub sort_order: i32,
}

/// The compiled configuration.
#[derive(Debug)]
pub struct Catalog {
    /// The version of the configuration in the database.
    pub version: i64,
    /// The installation.
    pub installation: Installation,
    /// Queues.
    pub queues: Named<QueueId, Queue>,
    /// Lifecycles.
    pub lifecycles: Named<LifecycleId, Lifecycle>,
    /// Custom fields.
    pub fields: Named<CustomFieldId, CustomField>,
    /// Privileged users and the system user.
    pub agents: Named<UserId, User>,
    /// Scrips.
    pub scrips: Named<ScripId, Scrip>,
    /// Templates.
    pub templates: BTreeMap<TemplateId, Arc<Template>>,
    /// The kinds of connectors.
    pub kinds: BTreeMap<KindName, Arc<ConnectorKind>>,
    template_names: HashMap<(String, Option<QueueId>), TemplateId>,
    agent_addresses: HashMap<String, UserId>,
    own_addresses: Vec<String>,
    scrip_names: HashMap<ScripVersionId, ScripId>,
    candidates: HashMap<(QueueId, Stage, TransactionType), Vec<Candidate>>,
    /// The resolved queries of the scrips whose condition has one.
    queries: HashMap<ScripId, Resolved>,
    /// By queue, the types of the transactions after which a scrip may read the ticket's past messages.
    message_readers: HashMap<QueueId, BTreeSet<TransactionType>>,
}

/// The parts of a catalog.
#[derive(Debug)]
pub struct Parts {
    /// The version of the configuration.
    pub version: i64,
    /// The installation.
    pub installation: Installation,
    /// Queues.
    pub queues: Vec<Arc<Queue>>,
    /// Lifecycles.
    pub lifecycles: Vec<Arc<Lifecycle>>,
    /// Custom fields.
    pub fields: Vec<Arc<CustomField>>,
    /// Privileged users and the system user.
    pub agents: Vec<Arc<User>>,
    /// Scrips.
    pub scrips: Vec<Arc<Scrip>>,
    /// Templates.
    pub templates: Vec<Arc<Template>>,
    /// The kinds of connectors.
    pub kinds: Vec<Arc<ConnectorKind>>,
}

impl Catalog {
    /// Builds a catalog: the index of names, and the scrips of every queue, stage and transaction type in their order.
    pub fn new(parts: Parts) -> Self {
        let live_templates = parts.templates.iter().filter(|template| !template.source().disabled);
        let template_names = live_templates
            .map(|template| {
                let source = template.source();
                ((source.name.clone(), source.queue), source.id)
            })
            .collect();
        let mut own_addresses: Vec<String> = parts
            .queues
            .iter()
            .flat_map(|queue| [&queue.correspond_address, &queue.comment_address])
            .flatten()
            .map(|address| fold(address))
            .collect();
        own_addresses.push(fold(bare_address(&parts.installation.mail_from)));
        own_addresses.sort();
        let agent_addresses = parts
            .agents
            .iter()
            .filter_map(|agent| agent.email.as_deref().map(|email| (fold(email), agent.id)))
            .collect();
        let mut catalog = Self {
            version: parts.version,
            candidates: candidates(&parts.queues, &parts.scrips),
            template_names,
            agent_addresses,
            own_addresses,
            queries: HashMap::new(),
            message_readers: HashMap::new(),
            scrip_names: parts.scrips.iter().map(|scrip| (scrip.version_id, scrip.id)).collect(),
            queues: Named::new(parts.queues.into_iter().map(|queue| (queue.id, queue.name.clone(), queue))),
            lifecycles: Named::new(
                parts.lifecycles.into_iter().map(|life| (life.id(), life.name().to_owned(), life)),
            ),
            fields: Named::new(parts.fields.into_iter().map(|field| (field.id, field.name.clone(), field))),
            agents: Named::new(parts.agents.into_iter().map(|user| (user.id, user.username.clone(), user))),
            scrips: Named::new(parts.scrips.into_iter().map(|scrip| (scrip.id, scrip.name.clone(), scrip))),
            templates: parts.templates.into_iter().map(|template| (template.source().id, template)).collect(),
            kinds: parts.kinds.into_iter().map(|kind| (kind.name.clone(), kind)).collect(),
            installation: parts.installation,
        };
        catalog.queries = catalog.resolve_queries();
        catalog.message_readers = catalog.find_message_readers();
        catalog
    }

    fn resolve_queries(&self) -> HashMap<ScripId, Resolved> {
        let fields = self.query_fields(Purpose::Condition);
        let asked = self.scrips.iter().filter_map(|scrip| Some((scrip.id, scrip.condition.query.as_ref()?)));
        asked.map(|(scrip, asked)| (scrip, asked.resolve(&fields))).collect()
    }

    /// Returns the lifecycle of a queue.
    pub fn lifecycle_of(&self, queue: QueueId) -> Option<&Arc<Lifecycle>> {
        self.queues.get(queue).and_then(|queue| self.lifecycles.get(queue.lifecycle))
    }

    /// Returns the scrips to consider for a transaction type in a queue and stage, in their order.
    pub fn candidates(&self, queue: QueueId, stage: Stage, kind: TransactionType) -> &[Candidate] {
        self.candidates.get(&(queue, stage, kind)).map_or(&[], Vec::as_slice)
    }

    /// Returns the template of a name for a ticket in `queue`: the queue's own, else the global one.
    pub fn template(&self, name: &str, queue: QueueId) -> Option<&Arc<Template>> {
        let id = [Some(queue), None]
            .into_iter()
            .find_map(|queue| self.template_names.get(&(name.to_owned(), queue)));
        id.and_then(|id| self.templates.get(id))
    }

    /// Returns the agent with a username or address.
    pub fn agent(&self, word: &str) -> Option<&Arc<User>> {
        self.agents
            .find(word)
            .or_else(|| self.agent_addresses.get(&fold(word)).and_then(|id| self.agents.get(*id)))
    }

    /// Whether an address is one of the installation's own, so that mail to it would come back.
    pub fn is_own_address(&self, address: &str) -> bool {
        self.own_addresses.binary_search(&fold(address)).is_ok()
    }

    /// Returns the scrip that has this as its current version.
    pub fn scrip_of_version(&self, version: ScripVersionId) -> Option<&Arc<Scrip>> {
        self.scrip_names.get(&version).and_then(|id| self.scrips.get(*id))
    }

    /// Returns the query of a scrip's condition, if it has one, resolved in this configuration.
    pub fn query_of(&self, scrip: ScripId) -> Option<&Resolved> {
        self.queries.get(&scrip)
    }

    /// Whether the words of a scrip in a queue use the ticket's past messages.
    pub fn uses_messages(&self, scrip: &Scrip, queue: QueueId) -> bool {
        let template = scrip.template.as_deref().and_then(|name| self.template(name, queue));
        template.is_some_and(|template| template.uses_messages())
            || scrip.action.texts().iter().any(|text| text.uses_messages())
    }

    /// Returns the queues whose tickets must be loaded with their past messages, because a scrip may read these after the
    /// command.
    pub fn message_queues(&self, command: &Command) -> Vec<Uuid> {
        // A new ticket has no past messages.
        let Command::Update(update) = command else { return Vec::new() };
        let kinds = update.changes();
        let is_read = |queue: QueueId| {
            self.message_readers.get(&queue).is_some_and(|readers| !readers.is_disjoint(&kinds))
        };
        match update.queue.as_deref().and_then(|word| self.queues.find(word)) {
            // The scrips of the new queue run.
            Some(target) if is_read(target.id) => self.queues.iter().map(|queue| queue.id.0).collect(),
            Some(_) => Vec::new(),
            None => {
                self.message_readers.keys().filter(|queue| is_read(**queue)).map(|queue| queue.0).collect()
            }
        }
    }

    /// Finds the transactions whose pass has a scrip that reads past messages, and those after which a scrip makes such a
    /// transaction.
    fn find_message_readers(&self) -> HashMap<QueueId, BTreeSet<TransactionType>> {
        let mut readers: HashMap<QueueId, BTreeSet<TransactionType>> = HashMap::new();
        for ((queue, _, kind), candidates) in &self.candidates {
            if candidates.iter().any(|one| self.uses_messages(&one.scrip, *queue)) {
                readers.entry(*queue).or_default().insert(*kind);
            }
        }
        let mut is_growing = !readers.is_empty();
        while is_growing {
            is_growing = false;
            for ((queue, _, kind), candidates) in &self.candidates {
                let after = readers.get(queue);
                let leads = |effect: &Effect| match effect {
                    // Another queue's scrips run then.
                    Effect::Set(Column::Queue, _) => true,
                    effect => {
                        changes(effect).is_some_and(|made| after.is_some_and(|after| after.contains(&made)))
                    }
                };
                let is_known = after.is_some_and(|after| after.contains(kind));
                if !is_known && candidates.iter().any(|one| leads(&one.scrip.action.effect)) {
                    is_growing |= readers.entry(*queue).or_default().insert(*kind);
                }
            }
        }
        readers
    }

    /// Returns the names that queries can use.
    pub fn query_fields<'a>(&'a self, purpose: Purpose<'a>) -> Fields<'a> {
        Fields {
            queues: &self.queues,
            lifecycles: &self.lifecycles,
            custom_fields: &self.fields,
            agents: &self.agents,
            agent_addresses: &self.agent_addresses,
            purpose,
        }
    }

    /// Returns every kind of delivery: those that Tessera delivers itself, and those of connectors.
    pub fn delivery_kinds(&self) -> Vec<DeliveryKind> {
        let named = self.kinds.keys().cloned().map(DeliveryKind::Connector);
        DeliveryKind::BUILTIN.into_iter().chain(named).collect()
    }

    /// Whether deliveries of a kind are held because no connector for it has ever connected.
    pub fn lacks_connector(&self, kind: &DeliveryKind) -> bool {
        let DeliveryKind::Connector(name) = kind else { return false };
        self.kinds.get(name).is_some_and(|kind| !kind.is_announced)
    }

    /// Returns the names of the enabled scrips that create deliveries of a kind, sorted.
    pub fn makers_of(&self, kind: &str) -> Vec<String> {
        let is_maker = |scrip: &&Arc<Scrip>| {
            scrip.state == State::Enabled && scrip.action.delivers().is_some_and(|made| made.as_str() == kind)
        };
        let mut names: Vec<_> = self.scrips.iter().filter(is_maker).map(|scrip| scrip.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the names of the queues that accept tickets, for error messages.
    pub fn queue_names(&self) -> Vec<&str> {
        self.queues.iter().filter(|queue| !queue.disabled).map(|queue| queue.name.as_str()).collect()
    }

    /// Returns the queue with a name or id, if it accepts tickets.
    ///
    /// # Errors
    /// `invalid` on `queue`, with the names of those that do.
    pub fn open_queue(&self, word: &str) -> Result<&Arc<Queue>> {
        let known = || text::list(self.queue_names());
        let message = match self.queues.find(word) {
            Some(queue) if !queue.disabled => return Ok(queue),
            Some(queue) => format!("the queue \"{}\" is disabled; enabled queues: {}", queue.name, known()),
            None => format!("there is no queue \"{word}\"; existing queues: {}", known()),
        };
        Err(Error::invalid_field("queue", message))
    }
}

/// The type of the transactions that an effect adds; `None` if it only creates deliveries.
fn changes(effect: &Effect) -> Option<TransactionType> {
    match effect {
        Effect::SendEmail(_) | Effect::Webhook(_) | Effect::Connector(_) => None,
        Effect::SetCustomField(_) => Some(TransactionType::CustomField),
        Effect::SetStatus(_) => Some(TransactionType::Status),
        Effect::Set(..) => Some(TransactionType::Set),
        Effect::AddMessage(Message::Comment, _) => Some(TransactionType::Comment),
        Effect::AddMessage(Message::Correspondence, _) => Some(TransactionType::Correspond),
        Effect::AddWatcher(..) => Some(TransactionType::AddWatcher),
        Effect::RemoveWatcher(..) => Some(TransactionType::DelWatcher),
    }
}

fn candidates(
    queues: &[Arc<Queue>],
    scrips: &[Arc<Scrip>],
) -> HashMap<(QueueId, Stage, TransactionType), Vec<Candidate>> {
    let mut candidates: HashMap<_, Vec<Candidate>> = HashMap::new();
    for queue in queues {
        for scrip in scrips.iter().filter(|scrip| scrip.state != State::Disabled) {
            let Some(attachment) = scrip.attachment_in(queue.id) else { continue };
            for kind in &scrip.applicable {
                let candidate = Candidate { scrip: Arc::clone(scrip), sort_order: attachment.sort_order };
                candidates.entry((queue.id, attachment.stage, *kind)).or_default().push(candidate);
            }
        }
    }
    for list in candidates.values_mut() {
        list.sort_by_key(|candidate| (candidate.sort_order, candidate.scrip.id));
    }
    candidates
}

/// Returns the address within `"Name" <address>`, or the text itself.
pub fn bare_address(mailbox: &str) -> &str {
    match mailbox.rsplit_once('<') {
        Some((_, address)) => address.trim_end().trim_end_matches('>'),
        None => mailbox.trim(),
    }
}
