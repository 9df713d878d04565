//! Prepare: applies the request to the ticket in memory, runs the passes of scrips, and puts the plan together.

use super::command::Command;
use super::draft::Draft;
use super::hash::{PlanHash, hash};
use super::passes::{self, Pass};
use super::progress::Progress;
use super::situation::{Situation, Target};
use super::{Catalog, Context, Plan, Rows, request};
use crate::error::{Error, Result};
use crate::models::Ticket;

/// Turns a request into everything that it will do. Pure: the same arguments give the same plan.
///
/// # Errors
/// A refusal of the whole request, with every invalid field: `invalid`, `transition_denied`, `no_status_map`,
/// `permission_denied`. A broken scrip is never an error: it has a verdict in the plan.
pub fn prepare(
    catalog: &Catalog,
    situation: &Situation,
    command: &Command,
    context: &Context,
) -> Result<Plan> {
    let (before, draft) = apply(catalog, situation, command, context)?;
    let (progress, passes) = passes::run(draft);
    Ok(assemble(before, progress, passes))
}

/// Applies the request. Returns the ticket before, and the draft after.
fn apply<'a>(
    catalog: &'a Catalog,
    situation: &'a Situation,
    command: &Command,
    context: &'a Context,
) -> Result<(Option<Ticket>, Draft<'a>)> {
    let mut ids = context.ids.clone();
    match (&situation.ticket, command) {
        (Target::New { number }, Command::Create(create)) => {
            let queue = catalog.open_queue(&create.queue)?;
            let ticket = request::blank(queue, *number, context, &mut ids);
            let lifecycle = catalog
                .lifecycle_of(queue.id)
                .ok_or_else(|| Error::not_found("lifecycle of queue", &queue.name))?;
            let mut draft = Draft::new(catalog, situation, context, ids, ticket);
            request::create(&mut draft, queue, lifecycle, create)?;
            Ok((None, draft))
        }
        (Target::Existing(ticket), Command::Update(update)) => {
            let mut draft = Draft::new(catalog, situation, context, ids, (**ticket).clone());
            request::update(&mut draft, update)?;
            Ok((Some((**ticket).clone()), draft))
        }
        _ => Err(Error::internal(
            "The command does not match the situation.",
            "create with an existing ticket, or update without one",
        )),
    }
}

/// Numbers the transactions, and puts the plan together.
fn assemble(before: Option<Ticket>, progress: Progress<'_>, passes: Vec<Pass>) -> Plan {
    let steps = progress.work();
    let Progress { draft, evaluations, deliveries, canonical, .. } = progress;
    let Draft { catalog, context, mut ids, mut ticket, mut transactions, .. } = draft;
    let base = before.as_ref().map_or(0, |ticket| ticket.version);
    for (transaction, place) in transactions.iter_mut().zip(1_i32..) {
        transaction.batch_seq = place;
        transaction.seq = Some(base + i64::from(place));
        ticket.version = base + i64::from(place);
        ticket.updated_at = transaction.created_at;
    }
    let rows = Rows::between(before.as_ref(), &ticket, &mut ids);
    let mut plan = Plan {
        request: context.request,
        actor: context.actor.id,
        channel: context.channel,
        now: context.now,
        config_version: catalog.version,
        before,
        ticket,
        transactions,
        deliveries,
        evaluations,
        passes,
        rows,
        steps,
        hash: PlanHash([0; 32]),
    };
    plan.hash = hash(&plan, &canonical);
    plan
}
