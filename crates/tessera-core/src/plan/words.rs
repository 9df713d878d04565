//! Words: the templates of a scrip, rendered against the snapshot of a pass, within a budget, and prepared for the hash.

use super::RENDERED_MAX;
use super::budget::Budget;
use super::draft::{Draft, date};
use super::variables::{FIXED_TIME, MESSAGE_MAX, Tense, Variables};
use crate::models::steps::steps;
use crate::models::template::ContentType;
use crate::models::{ScripId, Steps, Transaction};
use crate::scrip::Scrip;
use crate::scrip::action::Effect;
use crate::scrip::action::ticket::parse_due;
use crate::scrip::template::{Compiled, Failure, Rendered, Template, one_line, within};
use serde_json::{Map, Value};
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use tera::Context as Values;
use time::OffsetDateTime;

/// The reason why an action has no effect.
#[derive(Debug)]
pub(super) enum Unready {
    /// There is nothing to do: the predicate that does not hold, and why.
    Declined(&'static str, String),
    /// It is not allowed: the predicate that does not hold, and why.
    Refused(&'static str, String),
    /// A template failed, or its result is invalid.
    Failed(String),
    /// The query of the condition names something unknown. The condition's own explanation has the details.
    Unclear(String),
    /// A budget of the request is used up.
    OverBudget(Budget),
}

/// The input of the plan's hash besides the plan: deliveries in canonical form, and replacements for rendered texts that
/// differ between two plans for the same request.
#[derive(Debug)]
pub(super) struct Canonical {
    pub deliveries: Vec<Value>,
    /// Replacements by rendered text.
    pub fixed: HashMap<String, String>,
    /// The number of texts learned so far. They may be in the ticket, so any text rendered later may contain them.
    learned: usize,
}

impl Canonical {
    /// Starts with the time of the request, which the history contains as text.
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

/// The variables of one transaction in one pass. Building them is the most expensive part of a plan, so it happens at first
/// use, and all scrips of the pass share them.
#[derive(Default)]
pub(super) struct Known {
    real: OnceCell<Values>,
    /// The number of learned texts at that time, and the variables.
    fixed: RefCell<Option<(usize, Values)>>,
}

impl Known {
    fn real(&self, draft: &Draft<'_>, transaction: &Transaction, left: &Steps) -> Values {
        let build = || values(Variables::new(draft, Tense::Real).of(transaction), left);
        self.real.get_or_init(build).clone()
    }

    fn fixed(
        &self,
        draft: &Draft<'_>,
        transaction: &Transaction,
        canonical: &Canonical,
        left: &Steps,
    ) -> Values {
        let mut known = self.fixed.borrow_mut();
        match known.as_ref() {
            Some((learned, values)) if *learned == canonical.learned => values.clone(),
            _ => {
                let tense = Tense::Fixed(&canonical.fixed);
                let built = values(Variables::new(draft, tense).of(transaction), left);
                known.insert((canonical.learned, built)).1.clone()
            }
        }
    }
}

fn values(variables: Map<String, Value>, left: &Steps) -> Values {
    let mut values = Values::new();
    for (name, value) in variables {
        insert(&mut values, &name, &value, left);
    }
    values
}

/// Adds a variable, and takes the steps for building it. If there were too few, none are left for rendering.
fn insert(values: &mut Values, name: &str, value: &Value, left: &Steps) {
    let _ = left.spend(cost(value));
    values.insert(name.to_owned(), value);
}

/// Returns the steps for building a variable: it is built once, and converted once for the engine.
pub(super) fn cost(value: &Value) -> u64 {
    /// Steps for a value, or for a member's name.
    const NODE: u64 = 3;
    /// Bytes of text for one step.
    const BYTES: usize = 16;
    match value {
        Value::String(text) => NODE + steps(text.len(), BYTES),
        Value::Array(items) => NODE + items.iter().map(cost).sum::<u64>(),
        Value::Object(members) => NODE + members.values().map(|member| NODE + cost(member)).sum::<u64>(),
        _ => NODE,
    }
}

/// The input of all scrips of a pass: the ticket as it was when the pass began, and one transaction.
pub(super) struct Snapshot<'d, 'a> {
    pub draft: &'d Draft<'a>,
    pub transaction: &'d Transaction,
    /// Folded addresses that a scrip has already sent a mail to in this request.
    pub mailed: &'d HashSet<(ScripId, String)>,
    pub known: &'d Known,
}

impl Snapshot<'_, '_> {
    /// The depth of a delivery: one more than that of the request that creates it.
    pub fn depth(&self) -> u32 {
        self.draft.context.depth.saturating_add(1)
    }
}

/// Renders the texts of one scrip, with real or with fixed variables.
pub(super) struct Words<'s, 'd, 'a> {
    pub snapshot: &'s Snapshot<'d, 'a>,
    pub scrip: &'a Scrip,
    pub tense: Tense<'s>,
    values: Values,
    /// Bytes rendered by the request so far.
    spent: &'s mut usize,
    /// Steps that the request has left.
    left: &'s Steps,
}

impl<'s, 'd, 'a> Words<'s, 'd, 'a> {
    /// The texts as they will be sent and stored.
    fn real(snapshot: &'s Snapshot<'d, 'a>, scrip: &'a Scrip, spent: &'s mut usize, left: &'s Steps) -> Self {
        let values = snapshot.known.real(snapshot.draft, snapshot.transaction, left);
        Self { snapshot, scrip, tense: Tense::Real, values, spent, left }.with_scrip()
    }

    /// The texts that replace them in the hash.
    fn fixed(
        snapshot: &'s Snapshot<'d, 'a>,
        scrip: &'a Scrip,
        spent: &'s mut usize,
        left: &'s Steps,
        canonical: &'s Canonical,
    ) -> Self {
        let tense = Tense::Fixed(&canonical.fixed);
        let values = snapshot.known.fixed(snapshot.draft, snapshot.transaction, canonical, left);
        Self { snapshot, scrip, tense, values, spent, left }.with_scrip()
    }

    fn with_scrip(mut self) -> Self {
        let (scrip, Snapshot { draft, transaction, .. }) = (self.scrip, self.snapshot);
        let variables = Variables::new(draft, self.tense);
        self.values.insert("scrip", &Variables::scrip(scrip));
        let mail = match &scrip.action.effect {
            Effect::SendEmail(send) => Some(send),
            _ => None,
        };
        if draft.catalog.uses_messages(scrip, draft.ticket.queue) {
            let messages = variables.messages(mail.is_some_and(|send| send.as_comment));
            insert(&mut self.values, "messages", &messages, self.left);
        }
        let is_long = transaction.content.as_ref().is_some_and(|content| content.body.len() > MESSAGE_MAX);
        if mail.is_some() && is_long {
            insert(&mut self.values, "transaction", &variables.whole(transaction), self.left);
        }
        self
    }

    /// Renders a text. `name` is its name in a failure.
    pub fn render(&mut self, name: &str, text: &Compiled) -> Result<String, Unready> {
        let named =
            |failure: Failure| Unready::Failed(Failure { field: name.to_owned(), ..failure }.to_string());
        let rendered = within(self.left, || text.render(&self.values));
        self.check_steps()?;
        let rendered = rendered.map_err(named)?;
        self.spend(rendered.len())?;
        Ok(rendered)
    }

    /// Renders subject, body and headers of a template.
    pub fn render_all(&mut self, template: &Template) -> Result<Rendered, Unready> {
        let name = &template.source().name;
        let variables = Variables::new(self.snapshot.draft, self.tense);
        if template.content_type() == ContentType::Html {
            self.work(variables.cleaning(self.snapshot.transaction))?;
            for (name, value) in variables.of_html(self.snapshot.transaction) {
                insert(&mut self.values, name, &value, self.left);
            }
        }
        let rendered = within(self.left, || template.render(&self.values, &variables.mail_mark()));
        self.check_steps()?;
        let rendered = rendered.map_err(|failure| Unready::Failed(format!("template {name}: {failure}")))?;
        self.spend(
            rendered.subject.len()
                + rendered.body.len()
                + rendered.headers.values().map(String::len).sum::<usize>(),
        )?;
        Ok(rendered)
    }

    /// Counts rendered bytes against the budget of the request.
    pub fn spend(&mut self, bytes: usize) -> Result<(), Unready> {
        *self.spent = self.spent.saturating_add(bytes);
        if *self.spent > RENDERED_MAX { Err(Unready::OverBudget(Budget::Rendered)) } else { Ok(()) }
    }

    /// Takes steps for other work on the texts.
    pub fn work(&self, steps: u64) -> Result<(), Unready> {
        work(self.left, steps)
    }

    fn check_steps(&self) -> Result<(), Unready> {
        work(self.left, 0)
    }
}

fn work(left: &Steps, steps: u64) -> Result<(), Unready> {
    let _ = left.spend(steps);
    if left.are_used_up() { Err(Unready::OverBudget(Budget::Work)) } else { Ok(()) }
}

/// Everything that the action of one scrip is prepared with: the snapshot, the request's budget of text, and the texts that
/// the hash replaces.
pub(super) struct Bench<'w, 'd, 'a> {
    pub snapshot: &'w Snapshot<'d, 'a>,
    pub scrip: &'a Scrip,
    /// Bytes rendered by the request so far.
    pub spent: &'w mut usize,
    /// Steps that the request has left.
    pub left: &'w Steps,
    pub canonical: &'w mut Canonical,
}

impl<'a> Bench<'_, '_, 'a> {
    /// Renders a value and trims it. If it depends on an id, a time or the number of a new ticket, the hash learns the text
    /// that replaces it.
    pub fn value(&mut self, text: &Compiled) -> Result<String, Unready> {
        self.learned(text, str::to_owned)
    }

    /// As [`Self::value`], with blanks for line breaks.
    pub fn line(&mut self, text: &Compiled) -> Result<String, Unready> {
        self.learned(text, one_line)
    }

    fn learned(&mut self, text: &Compiled, form: fn(&str) -> String) -> Result<String, Unready> {
        let rendered =
            |mut words: Words<'_, '_, '_>| words.render("value", text).map(|text| form(text.trim()));
        let real = rendered(self.real())?;
        if self.canonical.is_spread() || text.is_volatile(self.is_new()) {
            let fixed = rendered(self.fixed())?;
            if let Ok(Some(due)) = parse_due(&real) {
                self.canonical.learn(date(due), fixed.clone());
            }
            self.canonical.learn(real.clone(), fixed);
        }
        Ok(real)
    }

    /// Returns the template that the scrip names, in the ticket's queue or global; `None` if it names none.
    pub fn template(&self) -> Result<Option<&'a Template>, Unready> {
        let Some(name) = &self.scrip.template else { return Ok(None) };
        let draft = self.snapshot.draft;
        let found = draft.catalog.template(name, draft.ticket.queue);
        found
            .map(|template| Some(template.as_ref()))
            .ok_or_else(|| Unready::Failed(format!("there is no template \"{name}\"")))
    }

    /// Takes steps for work that is not on a text.
    pub fn work(&self, steps: u64) -> Result<(), Unready> {
        work(self.left, steps)
    }

    pub fn real(&mut self) -> Words<'_, '_, 'a> {
        Words::real(self.snapshot, self.scrip, self.spent, self.left)
    }

    pub fn fixed(&mut self) -> Words<'_, '_, 'a> {
        Words::fixed(self.snapshot, self.scrip, self.spent, self.left, self.canonical)
    }

    fn is_new(&self) -> bool {
        self.snapshot.draft.situation.is_new()
    }

    /// Whether the template may render differently in another plan for the same request.
    pub fn differs(&self, template: &Template) -> bool {
        self.canonical.is_spread() || template.is_volatile(self.is_new())
    }

    /// Whether a text of the action's configuration may.
    pub fn texts_differ(&self) -> bool {
        self.canonical.is_spread()
            || self.scrip.action.texts().iter().any(|text| text.is_volatile(self.is_new()))
    }
}
