//! Prepare: the request applied, then one pass of scrips for each transaction, then one for the batch; nothing but a value comes out.

use super::command::Command;
use super::draft::{Cause, Draft};
use super::effects::{self, Bench, Canonical, Intent, Known, Snapshot, Unready};
use super::hash::{PlanHash, hash};
use super::situation::{Situation, Target};
use super::trial::Trial;
use super::{
    CASCADE_DEPTH_MAX, Catalog, Context, DELIVERIES_MAX, EXTERNAL_DEPTH_MAX, FIRED_MAX, Plan, Rows,
    SHADOWS_MAX, request,
};
use crate::error::{Error, Result};
use crate::models::delivery::Payload;
use crate::models::text::fold;
use crate::models::{Delivery, QueueId, Role, ScripId, Ticket, Transaction, TransactionType, Why};
use crate::scrip::action::Column;
use crate::scrip::condition::Tried;
use crate::scrip::evaluation::{Evaluation, Stage, Verdict};
use crate::scrip::{Scrip, State};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::rc::Rc;

/// Turns a request into everything that it will do. Pure: the same arguments give the same plan.
///
/// # Errors
/// A refusal of the whole request, with every field at fault: `invalid`, `transition_denied`, `no_status_map`,
/// `permission_denied`. A broken scrip is never an error: it is a verdict in the plan.
pub fn prepare(
    catalog: &Catalog,
    situation: &Situation,
    command: &Command,
    context: &Context,
) -> Result<Plan> {
    let mut ids = context.ids.clone();
    let (before, draft) = match (&situation.ticket, command) {
        (Target::New { number }, Command::Create(create)) => {
            let queue = catalog.open_queue(&create.queue)?;
            let ticket = request::blank(queue, *number, context, &mut ids);
            let lifecycle = catalog
                .lifecycle_of(queue.id)
                .ok_or_else(|| Error::not_found("lifecycle of queue", &queue.name))?;
            let mut draft = draft(catalog, situation, context, ids, ticket);
            request::create(&mut draft, queue, lifecycle, create)?;
            (None, draft)
        }
        (Target::Existing(ticket), Command::Update(update)) => {
            let mut draft = draft(catalog, situation, context, ids, (**ticket).clone());
            request::update(&mut draft, update)?;
            (Some((**ticket).clone()), draft)
        }
        _ => {
            return Err(Error::internal(
                "The command does not fit the situation.",
                "create of a ticket that is, or update of none",
            ));
        }
    };
    let mut automation = Automation::new(draft);
    automation.run();
    Ok(automation.into_plan(before))
}

fn draft<'a>(
    catalog: &'a Catalog,
    situation: &'a Situation,
    context: &'a Context,
    ids: crate::models::Ids,
    ticket: Ticket,
) -> Draft<'a> {
    Draft { catalog, situation, context, ids, ticket, transactions: Vec::new(), depths: Vec::new() }
}

/// What is used up when a scrip is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Budget {
    Depth,
    External,
    Fired,
    Deliveries,
    Rendered,
    Shadows,
}

impl Budget {
    fn sentence(self) -> String {
        match self {
            Self::Depth => format!("automation stopped at depth {CASCADE_DEPTH_MAX}"),
            Self::External => format!(
                "nothing is sent at Tessera-Depth {EXTERNAL_DEPTH_MAX}: this change came through so many deliveries, each made because of the one before"
            ),
            Self::Fired => format!("automation stopped after {FIRED_MAX} scrips fired"),
            Self::Deliveries => format!("automation stopped after {DELIVERIES_MAX} deliveries"),
            Self::Rendered => {
                format!("automation stopped after {} bytes of rendered text", super::RENDERED_MAX)
            }
            Self::Shadows => {
                format!("{SHADOWS_MAX} scrips on trial were tried, which is the most of a request")
            }
        }
    }
}

/// What the commit phase of a pass does for a scrip.
enum Act<'a> {
    Do(&'a Scrip, Intent<'a>),
    Report(&'static str, String, &'a Scrip),
}

/// The scrips of a request at work.
struct Automation<'a> {
    draft: Draft<'a>,
    /// Transactions whose pass is still to come, first in, first out.
    work: VecDeque<usize>,
    /// How many transactions have been looked at for passes.
    seen: usize,
    evaluations: Vec<Evaluation>,
    deliveries: Vec<Delivery>,
    canonical: Canonical,
    mailed: HashSet<(ScripId, String)>,
    fired: usize,
    shadows: usize,
    rendered: usize,
    tripped: BTreeSet<Budget>,
}

impl<'a> Automation<'a> {
    fn new(draft: Draft<'a>) -> Self {
        let canonical = Canonical::new(draft.context.now);
        Self {
            draft,
            work: VecDeque::new(),
            seen: 0,
            evaluations: Vec::new(),
            deliveries: Vec::new(),
            canonical,
            mailed: HashSet::new(),
            fired: 0,
            shadows: 0,
            rendered: 0,
            tripped: BTreeSet::new(),
        }
    }

    fn run(&mut self) {
        self.run_passes();
        self.run_batch();
        self.run_passes();
    }

    /// One pass for each transaction, those that scrips make included. The cascade's depth bounds it.
    fn run_passes(&mut self) {
        self.enqueue();
        while let Some(index) = self.work.pop_front() {
            let Some(transaction) = self.draft.transactions.get(index).cloned().map(Rc::new) else {
                continue;
            };
            let depth = self.draft.depths.get(index).copied().unwrap_or_default();
            let queue = self.draft.ticket.queue;
            let candidates =
                self.draft.catalog.candidates(queue, Stage::TransactionCreate, transaction.transaction_type);
            let tries = candidates
                .iter()
                .map(|candidate| Try {
                    scrip: &candidate.scrip,
                    transaction: Rc::clone(&transaction),
                    depth,
                    tried: self.tried(&candidate.scrip, &transaction, std::slice::from_ref(&transaction)),
                })
                .collect();
            self.pass(Stage::TransactionCreate, tries);
            self.enqueue();
        }
    }

    fn enqueue(&mut self) {
        let new = self.draft.transactions.iter().enumerate().skip(self.seen);
        self.work.extend(new.filter(|(_, transaction)| transaction.starts_pass()).map(|(index, _)| index));
        self.seen = self.draft.transactions.len();
    }

    /// One pass over all that the request made: each scrip is tried on the transactions in order; the first match is its own.
    fn run_batch(&mut self) {
        let batch: Vec<(Rc<Transaction>, u32)> = self
            .draft
            .transactions
            .iter()
            .zip(self.draft.depths.iter().copied())
            .filter(|(transaction, _)| transaction.starts_pass())
            .map(|(transaction, depth)| (Rc::new(transaction.clone()), depth))
            .collect();
        let tries = batch_candidates(self.draft.catalog, self.draft.ticket.queue, &batch)
            .into_iter()
            .filter_map(|scrip| {
                let mut tried = batch
                    .iter()
                    .filter(|(transaction, _)| scrip.applicable.contains(&transaction.transaction_type));
                let first = tried.next()?;
                let try_on = |one: &Rc<Transaction>| self.tried(scrip, one, &self.draft.transactions);
                let mut choice = (first, try_on(&first.0));
                while !choice.1.is_settled()
                    && let Some(next) = tried.next()
                {
                    let tried = try_on(&next.0);
                    if tried.is_settled() {
                        choice = (next, tried);
                    }
                }
                let ((transaction, depth), tried) = choice;
                Some(Try { scrip, transaction: Rc::clone(transaction), depth: *depth, tried })
            })
            .collect();
        self.pass(Stage::TransactionBatch, tries);
    }

    /// Tries a scrip's condition on a transaction, on the ticket as it is now; CHANGED looks at `changes`.
    fn tried(&self, scrip: &Scrip, transaction: &Transaction, changes: &[Transaction]) -> Tried {
        let Draft { catalog, situation, context, ticket, .. } = &self.draft;
        let trial = Trial {
            catalog,
            ticket,
            is_new: situation.is_new(),
            people: &situation.people,
            actor: &context.actor,
            channel: context.channel,
            now: context.now,
        };
        trial.of(scrip, transaction, changes)
    }

    /// Prepares all scrips of a pass against one snapshot, then commits the prepared ones in the same order.
    fn pass(&mut self, stage: Stage, tries: Vec<Try<'a>>) {
        let mut acts = Vec::new();
        let (mut known, mut of) = (Known::default(), None);
        for one in &tries {
            if of.replace(one.transaction.id) != Some(one.transaction.id) {
                known = Known::default();
            }
            let index = self.evaluations.len();
            let (verdict, why, would, act) = self.consider(one, &known);
            self.evaluations.push(Evaluation {
                scrip: one.scrip.id,
                name: one.scrip.name.clone(),
                version: one.scrip.version,
                version_id: one.scrip.version_id,
                stage,
                action_type: one.scrip.action.type_name().to_owned(),
                transaction: one.transaction.id,
                verdict,
                why,
                deliveries: Vec::new(),
                transactions: Vec::new(),
                would,
            });
            acts.extend(act.map(|act| (index, one, act)));
        }
        for (index, one, act) in acts {
            self.commit(index, one, act);
        }
    }

    /// The prepare phase of one scrip.
    fn consider(
        &mut self,
        one: &Try<'a>,
        known: &Known,
    ) -> (Verdict, Why, Vec<serde_json::Value>, Option<Act<'a>>) {
        let Tried { why, failure } = one.tried.clone();
        if !one.tried.is_settled() {
            return (Verdict::NotApplicable, why, Vec::new(), None);
        }
        let is_shadow = one.scrip.state == State::Shadow;
        if let Some(budget) = self.exhausted(one, is_shadow) {
            return self.stop(one, why, budget);
        }
        // What a scrip on trial renders counts against nothing but its own budget, and nobody else sees it.
        let (mut free, mut aside, apart) = (0, Canonical::new(self.draft.context.now), Known::default());
        let known = if is_shadow { &apart } else { known };
        let snapshot =
            Snapshot { draft: &self.draft, transaction: &one.transaction, mailed: &self.mailed, known };
        let (spent, canonical) =
            if is_shadow { (&mut free, &mut aside) } else { (&mut self.rendered, &mut self.canonical) };
        let intent = match failure {
            Some(message) => Err(Unready::Unclear(message)),
            None => Bench { snapshot: &snapshot, scrip: one.scrip, spent, canonical }.intend(),
        };
        if is_shadow {
            self.shadows += 1;
            let (why, would) = match intent {
                Ok(intent) => (why, vec![effects::describe(&intent)]),
                Err(unready) => (unready.explain(why), Vec::new()),
            };
            return (Verdict::Shadow, why, would, None);
        }
        match intent {
            Ok(intent) => {
                self.fired += 1;
                (Verdict::Fired, why, Vec::new(), Some(Act::Do(one.scrip, intent)))
            }
            Err(Unready::OverBudget) => self.stop(one, why, Budget::Rendered),
            Err(unready) => {
                let report = match &unready {
                    Unready::Failed(message) | Unready::Unclear(message) => {
                        let sentence =
                            format!("scrip {} v{} failed: {message}", one.scrip.name, one.scrip.version);
                        Some(Act::Report("failed", sentence, one.scrip))
                    }
                    _ => None,
                };
                (unready.verdict(), unready.explain(why), Vec::new(), report)
            }
        }
    }

    fn exhausted(&self, one: &Try<'_>, is_shadow: bool) -> Option<Budget> {
        let spent = [
            (is_shadow && self.shadows >= SHADOWS_MAX, Budget::Shadows),
            (one.depth >= CASCADE_DEPTH_MAX, Budget::Depth),
            (
                one.scrip.action.is_external() && self.draft.context.depth >= EXTERNAL_DEPTH_MAX,
                Budget::External,
            ),
            (self.fired >= FIRED_MAX, Budget::Fired),
        ];
        spent.into_iter().find_map(|(is_spent, budget)| is_spent.then_some(budget))
    }

    /// A scrip that a budget stops; the first of each budget is told of in the ticket's history.
    fn stop(
        &mut self,
        one: &Try<'a>,
        why: Why,
        budget: Budget,
    ) -> (Verdict, Why, Vec<serde_json::Value>, Option<Act<'a>>) {
        let sentence = match budget {
            Budget::Depth => format!("{}: {}", budget.sentence(), self.chain(one)),
            _ => format!("{}; next was {}", budget.sentence(), one.scrip.name),
        };
        let report = self.tripped.insert(budget).then(|| Act::Report("stopped", sentence.clone(), one.scrip));
        (Verdict::Stopped, why.with_action("budget", sentence), Vec::new(), report)
    }

    /// The scrips that led here, by name: "A -> B -> A".
    fn chain(&self, one: &Try<'_>) -> String {
        let mut names = vec![one.scrip.name.as_str()];
        let mut at = Some(one.transaction.as_ref());
        while let Some(transaction) = at
            && let Some(scrip) =
                transaction.scrip_version.and_then(|version| self.draft.catalog.scrip_of_version(version))
            && names.len() <= CASCADE_DEPTH_MAX as usize
        {
            names.push(&scrip.name);
            at = self.draft.transactions.iter().find(|cause| Some(cause.id) == transaction.caused_by);
        }
        names.reverse();
        names.join(" -> ")
    }

    /// The commit phase of one scrip: its effect is checked again on the ticket as it has become.
    fn commit(&mut self, index: usize, one: &Try<'a>, act: Act<'a>) {
        let cause = |scrip: &Scrip| Cause {
            transaction: Some(one.transaction.id),
            scrip: Some(scrip.version_id),
            depth: one.depth + 1,
        };
        match act {
            Act::Report(reason, sentence, scrip) => {
                let id = self.draft.system_error(reason, sentence, cause(scrip));
                self.amend(index, |evaluation| evaluation.transactions.push(id));
            }
            Act::Do(scrip, Intent::Email(mail, canonical)) => {
                let addresses: Vec<_> = [&mail.email.to, &mail.email.cc, &mail.email.bcc]
                    .into_iter()
                    .flatten()
                    .map(|a| (scrip.id, fold(a)))
                    .collect();
                let installation = &self.draft.catalog.installation.name;
                if self.deliver(index, one, scrip, canonical, |id| {
                    Payload::Email(mail.identified(id, installation))
                }) {
                    self.mailed.extend(addresses);
                }
            }
            Act::Do(scrip, Intent::Webhook(webhook, canonical)) => {
                self.deliver(index, one, scrip, canonical, |_| Payload::Webhook(*webhook));
            }
            Act::Do(scrip, Intent::Connector(custom, canonical)) => {
                self.deliver(index, one, scrip, canonical, |_| Payload::Connector(*custom));
            }
            Act::Do(scrip, intent) => {
                let from = self.draft.transactions.len();
                let result = carry_out(&mut self.draft, &intent, cause(scrip));
                let made: Vec<_> =
                    self.draft.transactions.iter().skip(from).map(|transaction| transaction.id).collect();
                self.amend(index, |evaluation| match result {
                    Ok(true) => evaluation.transactions.extend(made),
                    Ok(false) => evaluation.overrule(Verdict::Declined, "effect", "no change".to_owned()),
                    Err(error) => evaluation.overrule(Verdict::Refused, "effect", error.detail().to_owned()),
                });
            }
        }
    }

    /// Adds a delivery, unless the request has made as many as it may.
    fn deliver(
        &mut self,
        index: usize,
        one: &Try<'a>,
        scrip: &'a Scrip,
        canonical: serde_json::Value,
        message: impl FnOnce(crate::models::DeliveryId) -> Payload,
    ) -> bool {
        if self.deliveries.len() >= DELIVERIES_MAX {
            let why = one.tried.why.clone();
            let (verdict, why, _, report) = self.stop(one, why, Budget::Deliveries);
            self.amend(index, |evaluation| (evaluation.verdict, evaluation.why) = (verdict, why));
            if let Some(report) = report {
                self.commit(index, one, report);
            }
            return false;
        }
        let delivery = effects::deliver(&mut self.draft, &one.transaction, scrip, message);
        self.amend(index, |evaluation| evaluation.deliveries.push(delivery.id));
        self.canonical.deliveries.push(serde_json::json!([scrip.version_id, canonical]));
        self.deliveries.push(delivery);
        true
    }

    fn amend(&mut self, index: usize, change: impl FnOnce(&mut Evaluation)) {
        if let Some(evaluation) = self.evaluations.get_mut(index) {
            change(evaluation);
        }
    }

    fn into_plan(mut self, before: Option<Ticket>) -> Plan {
        let base = before.as_ref().map_or(0, |ticket| ticket.version);
        let mut ticket = self.draft.ticket;
        for (transaction, place) in self.draft.transactions.iter_mut().zip(1_i32..) {
            transaction.batch_seq = place;
            transaction.seq = Some(base + i64::from(place));
            ticket.version = base + i64::from(place);
            ticket.updated_at = transaction.created_at;
        }
        let context = self.draft.context;
        let rows = difference(before.as_ref(), &ticket, &mut self.draft.ids);
        let mut plan = Plan {
            request: context.request,
            actor: context.actor.id,
            channel: context.channel,
            now: context.now,
            config_version: self.draft.catalog.version,
            before,
            ticket,
            transactions: self.draft.transactions,
            deliveries: self.deliveries,
            evaluations: self.evaluations,
            rows,
            hash: PlanHash([0; 32]),
        };
        plan.hash = hash(&plan, &self.canonical);
        plan
    }
}

/// A scrip tried on a transaction.
struct Try<'a> {
    scrip: &'a Scrip,
    transaction: Rc<Transaction>,
    depth: u32,
    tried: Tried,
}

/// The scrips of the batch stage that are candidates for any of the transactions, in their order.
fn batch_candidates<'a>(
    catalog: &'a Catalog,
    queue: QueueId,
    batch: &[(Rc<Transaction>, u32)],
) -> Vec<&'a Scrip> {
    let kinds: BTreeSet<TransactionType> =
        batch.iter().map(|(transaction, _)| transaction.transaction_type).collect();
    let candidates =
        kinds.into_iter().flat_map(|kind| catalog.candidates(queue, Stage::TransactionBatch, kind));
    let ordered: BTreeMap<_, _> = candidates
        .map(|candidate| ((candidate.sort_order, candidate.scrip.id), candidate.scrip.as_ref()))
        .collect();
    ordered.into_values().collect()
}

/// Makes an internal effect, by the operations that requests use.
fn carry_out(draft: &mut Draft<'_>, intent: &Intent<'_>, cause: Cause) -> Result<bool> {
    match intent {
        Intent::Status(config) => match config.class() {
            Some(class) if class == draft.ticket.status_class => Ok(false),
            Some(class) => match draft.first_allowed(class)? {
                Some(status) => draft.set_status(status, cause),
                None => {
                    let reason = format!(
                        "no transition leads from {} to a status that is {class}",
                        draft.ticket.status
                    );
                    Err(Error::invalid_field("status", reason))
                }
            },
            None => draft.set_status(&config.status, cause),
        },
        Intent::Field(name, change) => draft.change_field(name, change, cause),
        Intent::Column(column, value) => set_column(draft, *column, value, cause),
        Intent::Message(kind, content) => draft.message(*kind, content.clone(), cause),
        Intent::AddWatcher(role, who) => draft.add_watcher(*role, who, cause),
        Intent::RemoveWatcher(role, who) => draft.remove_watcher(*role, who, cause),
        Intent::Email(..) | Intent::Webhook(..) | Intent::Connector(..) => Ok(false),
    }
}

fn set_column(draft: &mut Draft<'_>, column: Column, value: &str, cause: Cause) -> Result<bool> {
    match column {
        Column::Owner => draft.set_owner(Some(value).filter(|value| !value.is_empty()), cause),
        Column::Subject => draft.set_subject(value, cause),
        Column::Queue => draft.move_to_queue(value, cause),
        Column::Due => draft.set_due(super::draft::parse_date(value)?, cause),
        Column::Priority => {
            let priority = value.parse().map_err(|_| {
                Error::invalid_field("priority", format!("\"{value}\" is not a whole number"))
            })?;
            draft.set_priority(priority, cause)
        }
    }
}

/// The rows that make one ticket of the other.
fn difference(before: Option<&Ticket>, after: &Ticket, ids: &mut crate::models::Ids) -> Rows {
    let mut rows = Rows::default();
    let nobody = BTreeMap::new();
    let old_values = before.map_or(&nobody, |ticket| &ticket.values);
    for (field, values) in &after.values {
        let old = old_values.get(field).map_or(&[][..], Vec::as_slice);
        let new = values.iter().filter(|value| !old.contains(value));
        rows.values_in.extend(new.map(|value| (ids.draw::<uuid::Uuid>(), *field, value.clone())));
    }
    for (field, values) in old_values {
        let gone = values.iter().filter(|value| !after.values_of(*field).contains(value));
        rows.values_out.extend(gone.map(|value| (*field, value.clone())));
    }
    for role in Role::ALL {
        let old = before.map_or(&[][..], |ticket| ticket.watchers(role));
        let new = after.watchers(role);
        rows.watchers_in.extend(new.iter().filter(|one| !old.contains(one)).map(|one| (role, one.clone())));
        rows.watchers_out.extend(old.iter().filter(|one| !new.contains(one)).map(|one| one.id));
    }
    rows
}

impl Unready {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Declined(..) => Verdict::Declined,
            Self::Refused(..) => Verdict::Refused,
            Self::Failed(_) | Self::Unclear(_) => Verdict::Failed,
            Self::OverBudget => Verdict::Stopped,
        }
    }

    fn explain(self, why: Why) -> Why {
        match self {
            Self::Declined(predicate, reason) | Self::Refused(predicate, reason) => {
                why.with_action(predicate, reason)
            }
            Self::Failed(message) => why.with_action("template", message),
            // The condition's own tree says it.
            Self::Unclear(_) => why,
            Self::OverBudget => why.with_action("budget", Budget::Rendered.sentence()),
        }
    }
}

impl Evaluation {
    fn overrule(&mut self, verdict: Verdict, predicate: &'static str, reason: String) {
        self.verdict = verdict;
        self.why = self.why.clone().with_action(predicate, reason);
    }
}
