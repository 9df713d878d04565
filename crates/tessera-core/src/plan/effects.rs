//! Effects: what an action comes to when its words are rendered against the snapshot of a pass. Nothing is applied here.

use super::RENDERED_MAX;
use super::command::{Difference, FieldChange};
use super::draft::{Draft, date, parse_date};
use super::mail::{self, Mail};
use super::situation::Target;
use super::variables::{FIXED_TIME, Tense, Variables};
use crate::models::delivery::{Custom, DEPTH_HEADER, HeaderValue, Webhook};
use crate::models::transaction::Content;
use crate::models::{Delivery, Role, ScripId, Transaction, TransactionType};
use crate::scrip::Scrip;
use crate::scrip::action::{
    self, Action, Column, Message, Mode, SendEmail, SetCustomField, SetStatusConfig, WebhookHeader,
};
use crate::scrip::template::{Compiled, Failure, OUTPUT_MAX, Rendered, Template};
use serde_json::{Map, Value, json};
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use tera::Context as Values;
use time::OffsetDateTime;
use url::Url;

/// What an action will do if nothing forbids it.
#[derive(Debug)]
pub(super) enum Intent<'a> {
    Email(Box<Mail>, Value),
    Webhook(Box<Webhook>, Value),
    Connector(Box<Custom>, Value),
    Status(&'a SetStatusConfig),
    Field(&'a str, FieldChange),
    Column(Column, String),
    Message(TransactionType, Content),
    AddWatcher(Role, String),
    RemoveWatcher(Role, String),
}

/// Why an action comes to nothing.
#[derive(Debug)]
pub(super) enum Unready {
    /// There is nothing to do.
    Declined(&'static str, String),
    /// It is not allowed.
    Refused(&'static str, String),
    /// Its words broke.
    Failed(String),
    /// The query of its condition names what there is not.
    Unclear(String),
    /// The request's budget of rendered text is used up.
    OverBudget,
}

/// What the hash needs beyond the plan: deliveries in canonical form, and fixed texts for those that differ from one
/// preparing to the next.
#[derive(Debug)]
pub(super) struct Canonical {
    pub deliveries: Vec<Value>,
    pub fixed: HashMap<String, String>,
    /// How many such texts were rendered by now; they may stand in the ticket, so that any other text may show them.
    learned: usize,
}

impl Canonical {
    /// Of a request made at `now`, which stands in its history as text.
    pub fn new(now: OffsetDateTime) -> Self {
        let fixed = HashMap::from([(date(now), date(FIXED_TIME))]);
        Self { deliveries: Vec::new(), fixed, learned: 0 }
    }

    fn learn(&mut self, rendered: String, fixed: String) {
        self.fixed.insert(rendered, fixed);
        self.learned += 1;
    }

    fn is_spread(&self) -> bool {
        self.learned > 0
    }
}

fn values(variables: Map<String, Value>) -> Values {
    let mut values = Values::new();
    for (name, value) in variables {
        values.insert(name, &value);
    }
    values
}

/// The values of one transaction in one pass, made when first asked for: they are the dearest part of a plan, and all
/// scrips of a pass see the same.
#[derive(Default)]
pub(super) struct Known {
    real: OnceCell<Values>,
    /// With how many texts the hash had learned by then.
    fixed: RefCell<Option<(usize, Values)>>,
}

impl Known {
    fn real(&self, draft: &Draft<'_>, transaction: &Transaction) -> Values {
        let made = || values(Variables::new(draft, Tense::Real).of(transaction));
        self.real.get_or_init(made).clone()
    }

    fn fixed(&self, draft: &Draft<'_>, transaction: &Transaction, canonical: &Canonical) -> Values {
        let mut known = self.fixed.borrow_mut();
        match known.as_ref() {
            Some((learned, values)) if *learned == canonical.learned => values.clone(),
            _ => {
                let tense = Tense::Fixed(&canonical.fixed);
                let made = values(Variables::new(draft, tense).of(transaction));
                known.insert((canonical.learned, made)).1.clone()
            }
        }
    }
}

/// What the scrips of a pass see: the ticket as it was when the pass began, and one transaction.
pub(super) struct Snapshot<'d, 'a> {
    pub draft: &'d Draft<'a>,
    pub transaction: &'d Transaction,
    /// Who was mailed by which scrip in this request.
    pub mailed: &'d HashSet<(ScripId, String)>,
    pub known: &'d Known,
}

/// Renders the texts of one scrip in one tense.
pub(super) struct Words<'s, 'd, 'a> {
    pub snapshot: &'s Snapshot<'d, 'a>,
    pub scrip: &'a Scrip,
    pub tense: Tense<'s>,
    values: Values,
    /// Bytes rendered by the request so far.
    spent: &'s mut usize,
}

impl<'s, 'd, 'a> Words<'s, 'd, 'a> {
    /// The words as they will be.
    fn real(snapshot: &'s Snapshot<'d, 'a>, scrip: &'a Scrip, spent: &'s mut usize) -> Self {
        let values = snapshot.known.real(snapshot.draft, snapshot.transaction);
        Self { snapshot, scrip, tense: Tense::Real, values, spent }.with_scrip()
    }

    /// The words that stand for them in the hash.
    fn fixed(
        snapshot: &'s Snapshot<'d, 'a>,
        scrip: &'a Scrip,
        spent: &'s mut usize,
        canonical: &'s Canonical,
    ) -> Self {
        let tense = Tense::Fixed(&canonical.fixed);
        let values = snapshot.known.fixed(snapshot.draft, snapshot.transaction, canonical);
        Self { snapshot, scrip, tense, values, spent }.with_scrip()
    }

    fn with_scrip(mut self) -> Self {
        let (scrip, draft) = (self.scrip, self.snapshot.draft);
        self.values.insert("scrip", &Variables::scrip(scrip));
        if draft.catalog.uses_messages() {
            let comments = matches!(&scrip.action, Action::SendEmail(send) if send.as_comment);
            self.values.insert("messages", &Variables::new(draft, self.tense).messages(comments));
        }
        self
    }

    pub fn render(&mut self, what: &str, text: &Compiled) -> Result<String, Unready> {
        let named =
            |failure: Failure| Unready::Failed(Failure { field: what.to_owned(), ..failure }.to_string());
        let rendered = text.render(&self.values).map_err(named)?;
        self.spend(rendered.len())?;
        Ok(rendered)
    }

    /// Renders a whole template.
    pub fn render_all(&mut self, template: &Template) -> Result<Rendered, Unready> {
        let name = &template.source().name;
        let rendered = template
            .render(&self.values)
            .map_err(|failure| Unready::Failed(format!("template {name}: {failure}")))?;
        self.spend(
            rendered.subject.len()
                + rendered.body.len()
                + rendered.headers.values().map(String::len).sum::<usize>(),
        )?;
        Ok(rendered)
    }

    /// What a delivery says of its depth: one more than the request that makes it.
    pub fn depth(&self) -> String {
        self.snapshot.draft.context.depth.saturating_add(1).to_string()
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Unready> {
        *self.spent = self.spent.saturating_add(bytes);
        if *self.spent > RENDERED_MAX { Err(Unready::OverBudget) } else { Ok(()) }
    }
}

/// Where one scrip's action is worked out: the snapshot it sees, what the request has spent, and what the hash learns.
pub(super) struct Bench<'w, 'd, 'a> {
    pub snapshot: &'w Snapshot<'d, 'a>,
    pub scrip: &'a Scrip,
    /// Bytes rendered by the request so far.
    pub spent: &'w mut usize,
    pub canonical: &'w mut Canonical,
}

impl<'a> Bench<'_, '_, 'a> {
    /// What the scrip's action comes to.
    pub fn intend(mut self) -> Result<Intent<'a>, Unready> {
        match &self.scrip.action {
            Action::SendEmail(send) => self.email(send),
            Action::Webhook(action) => self.webhook(action),
            Action::Connector(action) => self.connector(action),
            Action::SetStatus(config) => set_status(self.snapshot, config),
            Action::SetCustomField(set) => {
                let values = set.values.iter().map(|text| self.value(text)).collect::<Result<Vec<_>, _>>()?;
                Ok(Intent::Field(&set.field, field_change(set, values)))
            }
            Action::Set(column, text) => Ok(Intent::Column(*column, self.value(text)?)),
            Action::AddMessage(message, content) => self.message(*message, content.as_ref()),
            Action::AddWatcher(role, who) => Ok(Intent::AddWatcher(*role, self.value(who)?)),
            Action::RemoveWatcher(role, who) => Ok(Intent::RemoveWatcher(*role, self.value(who)?)),
        }
    }

    fn email(&mut self, send: &SendEmail) -> Result<Intent<'a>, Unready> {
        let template =
            self.template()?.ok_or_else(|| Unready::Failed("the scrip names no template".to_owned()))?;
        let mail = mail::compose(&mut self.real(), send, template)?;
        let canonical = if self.differs(template) || self.texts_differ() {
            mail::canonical(&mail::compose(&mut self.fixed(), send, template)?, template)
        } else {
            mail::canonical(&mail, template)
        };
        Ok(Intent::Email(Box::new(mail), canonical))
    }

    fn webhook(&mut self, action: &action::Webhook) -> Result<Intent<'a>, Unready> {
        let template = self.template()?;
        let webhook = compose_webhook(&mut self.real(), action, template)?;
        let body_differs = match (&action.body, template) {
            (Some(_), _) => false,
            (None, Some(template)) => self.differs(template),
            // The default document holds ids and times.
            (None, None) => true,
        };
        let canonical = if body_differs || self.texts_differ() {
            canonical_webhook(&compose_webhook(&mut self.fixed(), action, template)?)
        } else {
            canonical_webhook(&webhook)
        };
        Ok(Intent::Webhook(Box::new(webhook), canonical))
    }

    fn connector(&mut self, action: &action::Connector) -> Result<Intent<'a>, Unready> {
        let catalog = self.snapshot.draft.catalog;
        let kind = catalog
            .kinds
            .get(&action.kind)
            .ok_or_else(|| Unready::Failed(format!("there is no kind \"{}\" of connectors", action.kind)))?;
        let render = |words: &mut Words<'_, '_, '_>| {
            action.render(|pointer, text| words.render(&format!("payload{pointer}"), text))
        };
        let real = render(&mut self.real())?;
        let fixed = if self.texts_differ() { Some(render(&mut self.fixed())?) } else { None };
        // The number of a ticket that is only previewed is not drawn: what it will be fits, or fails then.
        let has_number = self.snapshot.draft.ticket.number.is_some();
        let json =
            action.fit(kind, real, |text| !has_number && text.is_volatile(true)).map_err(|misfits| {
                let misfits: Vec<_> = misfits.iter().map(ToString::to_string).collect();
                Unready::Failed(format!(
                    "payload does not fit the schema of \"{}\": {}",
                    action.kind,
                    misfits.join("; ")
                ))
            })?;
        let bytes = json.to_string().len();
        if bytes > OUTPUT_MAX {
            let message =
                format!("payload has {bytes} bytes when it is rendered; at most {OUTPUT_MAX} are allowed");
            return Err(Unready::Failed(message));
        }
        let depth = self.snapshot.draft.context.depth.saturating_add(1);
        // Fixed texts are no numbers: what they become is in the hash by what the schema makes of them.
        let hashed = fixed.map_or_else(|| json!([json]), |fixed| json!([fixed, action.typed(kind)]));
        let canonical = json!(["connector", action.kind, hashed, depth]);
        Ok(Intent::Connector(Box::new(Custom { connector: action.kind.clone(), json, depth }), canonical))
    }

    fn message(&mut self, message: Message, content: Option<&Compiled>) -> Result<Intent<'a>, Unready> {
        if self.snapshot.transaction.scrip_version.is_some() {
            let reason =
                "a scrip's own change does not make messages, so that scrips do not talk to each other";
            return Err(Unready::Refused("trigger", reason.to_owned()));
        }
        let body = match (content, self.template()?) {
            (Some(text), _) => self.value(text)?,
            (None, Some(template)) => self.value(template.body())?,
            (None, None) => {
                return Err(Unready::Failed("the scrip has neither content nor template".to_owned()));
            }
        };
        if body.is_empty() {
            return Err(Unready::Declined("content", "template rendered nothing".to_owned()));
        }
        let kind = match message {
            Message::Comment => TransactionType::Comment,
            Message::Correspondence => TransactionType::Correspond,
        };
        Ok(Intent::Message(kind, Content { content_type: "text/plain".to_owned(), body }))
    }

    /// Renders a value, trimmed; where it holds an id, a time or a new number, the hash learns what stands for it.
    fn value(&mut self, text: &Compiled) -> Result<String, Unready> {
        let rendered =
            |mut words: Words<'_, '_, '_>| words.render("value", text).map(|text| text.trim().to_owned());
        let real = rendered(self.real())?;
        if self.canonical.is_spread() || text.is_volatile(self.is_new()) {
            let fixed = rendered(self.fixed())?;
            if let Ok(Some(due)) = parse_date(&real) {
                self.canonical.learn(date(due), fixed.clone());
            }
            self.canonical.learn(real.clone(), fixed);
        }
        Ok(real)
    }

    /// The template of the scrip, resolved by name in the ticket's queue.
    fn template(&self) -> Result<Option<&'a Template>, Unready> {
        let Some(name) = &self.scrip.template else { return Ok(None) };
        let draft = self.snapshot.draft;
        let found = draft.catalog.template(name, draft.ticket.queue);
        found
            .map(|template| Some(template.as_ref()))
            .ok_or_else(|| Unready::Failed(format!("there is no template {name}")))
    }

    fn real(&mut self) -> Words<'_, '_, 'a> {
        Words::real(self.snapshot, self.scrip, self.spent)
    }

    fn fixed(&mut self) -> Words<'_, '_, 'a> {
        Words::fixed(self.snapshot, self.scrip, self.spent, self.canonical)
    }

    fn is_new(&self) -> bool {
        self.snapshot.draft.situation.is_new()
    }

    /// Whether the template may render to something else the next time.
    fn differs(&self, template: &Template) -> bool {
        self.canonical.is_spread() || template.is_volatile(self.is_new())
    }

    /// The same of the action's own texts.
    fn texts_differ(&self) -> bool {
        self.canonical.is_spread()
            || self.scrip.action.texts().iter().any(|text| text.is_volatile(self.is_new()))
    }
}

/// `from` speaks of the status before the request: "reply and resolve" must not open what it just resolved.
fn set_status<'a>(snapshot: &Snapshot<'_, 'a>, config: &'a SetStatusConfig) -> Result<Intent<'a>, Unready> {
    if config.from.is_empty() {
        return Ok(Intent::Status(config));
    }
    let draft = snapshot.draft;
    let is_status = |one: &Transaction| one.transaction_type == TransactionType::Status;
    let by_request = |one: &&Transaction| is_status(one) && one.scrip_version.is_none();
    if !is_status(snapshot.transaction) && draft.transactions.iter().any(|one| by_request(&one)) {
        return Err(Unready::Declined("from", "the request itself says what the status is to be".to_owned()));
    }
    let before = match &draft.situation.ticket {
        Target::Existing(ticket) => ticket,
        Target::New { .. } => &draft.ticket,
    };
    let (status, class) = (&before.status, before.status_class);
    if config
        .from
        .iter()
        .any(|word| word.eq_ignore_ascii_case(status) || word.eq_ignore_ascii_case(class.as_str()))
    {
        return Ok(Intent::Status(config));
    }
    let reason = format!("status was {status} ({class}), not {}", config.from.join(" or "));
    Err(Unready::Declined("from", reason))
}

fn field_change(set: &SetCustomField, values: Vec<String>) -> FieldChange {
    let values = values.into_iter().filter(|value| !value.is_empty()).collect();
    match set.mode {
        Mode::Set => FieldChange::Replace(values),
        Mode::Clear => FieldChange::Replace(Vec::new()),
        Mode::Add => FieldChange::Difference(Difference { add: values, remove: Vec::new() }),
        Mode::Remove => FieldChange::Difference(Difference { add: Vec::new(), remove: values }),
    }
}

fn compose_webhook(
    words: &mut Words<'_, '_, '_>,
    action: &action::Webhook,
    template: Option<&Template>,
) -> Result<Webhook, Unready> {
    let target = words.render("url", &action.target)?;
    let origin = action.origin.as_str().trim_end_matches('/');
    let separator = if target.is_empty() || target.starts_with(['/', '?']) { "" } else { "/" };
    let url = Url::parse(&format!("{origin}{separator}{target}"))
        .ok()
        .filter(|url| url.origin() == action.origin.origin())
        .ok_or_else(|| Unready::Failed(format!("url: {origin}{target} is not a URL of {origin}")))?;
    let mut headers = BTreeMap::new();
    for (name, header) in &action.headers {
        let value = match header {
            WebhookHeader::Text(text) => HeaderValue::Text(words.render(&format!("headers.{name}"), text)?),
            WebhookHeader::Secret(secret) => HeaderValue::Secret { secret: secret.clone() },
        };
        headers.insert(name.clone(), value);
    }
    if !headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
        headers.insert("Content-Type".to_owned(), HeaderValue::Text("application/json".to_owned()));
    }
    headers.insert(DEPTH_HEADER.to_owned(), HeaderValue::Text(words.depth()));
    let body = match (&action.body, template) {
        (Some(text), _) => words.render("body", text)?,
        (None, Some(template)) => {
            let text = template
                .json_body()
                .map_err(|fault| Unready::Failed(format!("body_template as JSON: {fault}")))?;
            words.render("body_template", text)?
        }
        (None, None) => default_body(words)?,
    };
    Ok(Webhook {
        method: action.method.clone(),
        url: url.into(),
        headers,
        body,
        secret: action.secret.clone(),
    })
}

/// What a webhook without words of its own says: the event, in the shape that Standard Webhooks recommends.
fn default_body(words: &mut Words<'_, '_, '_>) -> Result<String, Unready> {
    let snapshot = words.snapshot;
    let mut values = Variables::new(words.snapshot.draft, words.tense).of(words.snapshot.transaction);
    let mut take = |name: &str| values.remove(name).unwrap_or_default();
    let kind = snapshot.transaction.transaction_type.as_str().to_lowercase();
    let document = json!({
        "type": format!("ticket.{kind}"),
        "timestamp": take("now"),
        "data": { "ticket": take("ticket"), "transaction": take("transaction"), "actor": take("actor") },
    });
    let body = document.to_string();
    words.spend(body.len())?;
    Ok(body)
}

fn canonical_webhook(webhook: &Webhook) -> Value {
    json!(["webhook", webhook.method, webhook.url, webhook.headers, webhook.body, webhook.secret])
}

/// What an intent would do, for the answer about a scrip on trial.
pub(super) fn describe(intent: &Intent<'_>) -> Value {
    match intent {
        Intent::Email(mail, _) => json!({ "kind": "email", "email": mail.email }),
        Intent::Webhook(webhook, _) => {
            json!({ "kind": "webhook", "method": webhook.method, "url": webhook.url, "headers": webhook.headers, "body": webhook.body })
        }
        Intent::Connector(custom, _) => {
            json!({ "kind": "connector", "connector": custom.connector, "json": custom.json })
        }
        Intent::Status(config) => json!({ "status": config.status }),
        Intent::Field(name, FieldChange::Replace(values)) => json!({ "field": name, "values": values }),
        Intent::Field(name, FieldChange::Difference(difference)) => {
            json!({ "field": name, "add": difference.add, "remove": difference.remove })
        }
        Intent::Column(column, value) => {
            json!({ "column": format!("{column:?}").to_lowercase(), "value": value })
        }
        Intent::Message(kind, content) => json!({ "message": kind, "content": content.body }),
        Intent::AddWatcher(role, who) => json!({ "role": role, "add": who }),
        Intent::RemoveWatcher(role, who) => json!({ "role": role, "remove": who }),
    }
}

/// Makes the delivery of a message.
pub(super) fn deliver(
    draft: &mut Draft<'_>,
    transaction: &Transaction,
    scrip: &Scrip,
    message: impl FnOnce(crate::models::DeliveryId) -> crate::models::delivery::Payload,
) -> Delivery {
    let id = draft.ids.draw();
    Delivery {
        id,
        ticket: draft.ticket.id,
        transaction: transaction.id,
        scrip_version: scrip.version_id,
        payload: message(id),
        created_at: draft.context.now,
    }
}
