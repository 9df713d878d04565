//! The commit phase of one scrip: its change is checked again on the current ticket and made, or its delivery is added.

use super::budget::Budget;
use super::intent::{Intent, Message, TicketChange};
use super::progress::{Act, Progress, Try};
use crate::models::delivery::{Email, Payload};
use crate::models::text::fold;
use crate::models::{Delivery, DeliveryId};
use crate::scrip::evaluation::{Evaluation, Verdict};
use serde_json::{Value, json};

/// Carries out a step. `index` is that of the scrip's evaluation, which records the outcome.
pub(super) fn commit<'a>(progress: &mut Progress<'a>, index: usize, one: &Try<'a>, act: Act<'a>) {
    match act {
        Act::Report(reason, sentence) => {
            let id = progress.draft.system_error(reason, sentence, one.cause());
            progress.amend(index, |evaluation| evaluation.transactions.push(id));
        }
        Act::CarryOut(Intent::Send(message, canonical)) => send(progress, index, one, message, canonical),
        Act::CarryOut(Intent::Change(change)) => apply(progress, index, one, change),
    }
}

fn apply<'a>(progress: &mut Progress<'a>, index: usize, one: &Try<'a>, change: TicketChange<'a>) {
    let from = progress.draft.transactions.len();
    let result = (change.carry_out)(&mut progress.draft, one.cause());
    let added: Vec<_> = progress.draft.transactions.iter().skip(from).map(|added| added.id).collect();
    progress.amend(index, |evaluation| match result {
        Ok(true) => evaluation.transactions.extend(added),
        Ok(false) => evaluation.overrule(Verdict::Declined, "effect", "no change".to_owned()),
        Err(error) => evaluation.overrule(Verdict::Refused, "effect", error.detail().to_owned()),
    });
}

/// Adds a delivery, unless the request has already created as many as it may.
fn send<'a>(progress: &mut Progress<'a>, index: usize, one: &Try<'a>, message: Message, canonical: Value) {
    if progress.has_all_deliveries() {
        let stopped = progress.stop(one, one.tried.why.clone(), Budget::Deliveries);
        progress.amend(index, |evaluation| {
            (evaluation.verdict, evaluation.why) = (stopped.verdict, stopped.why);
        });
        if let Some(report) = stopped.act {
            commit(progress, index, one, report);
        }
        return;
    }
    let id: DeliveryId = progress.draft.ids.draw();
    let payload = match message {
        Message::Email(mail) => {
            let email = mail.identified(id, &progress.draft.catalog.installation.name);
            progress.mailed.extend(addresses(&email).map(|address| (one.scrip.id, fold(address))));
            Payload::Email(email)
        }
        Message::Webhook(webhook) => Payload::Webhook(*webhook),
        Message::Connector(message) => Payload::Connector(*message),
    };
    progress.amend(index, |evaluation| evaluation.deliveries.push(id));
    progress.canonical.deliveries.push(json!([one.scrip.version_id, canonical]));
    progress.deliveries.push(Delivery {
        id,
        ticket: progress.draft.ticket.id,
        transaction: one.transaction.id,
        scrip_version: one.scrip.version_id,
        payload,
        created_at: progress.draft.context.now,
    });
}

fn addresses(email: &Email) -> impl Iterator<Item = &String> {
    [&email.to, &email.cc, &email.bcc].into_iter().flatten()
}

impl Evaluation {
    fn overrule(&mut self, verdict: Verdict, predicate: &'static str, reason: String) {
        self.verdict = verdict;
        self.why = self.why.clone().with_action(predicate, reason);
    }
}
