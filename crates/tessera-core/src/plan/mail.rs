//! Mail: the recipients, with a reason for each, and the message. The transport sends exactly these parts.

use super::catalog::bare_address;
use super::intent::{Intent, Mail, Message, host_part};
use super::variables::same_address;
use super::words::{Bench, Unready, Words};
use crate::models::delivery::{DEPTH_HEADER, Email, Recipient, RecipientOutcome};
use crate::models::html;
use crate::models::steps::{READ, steps};
use crate::models::template::ContentType;
use crate::models::text::{fold, is_address};
use crate::models::{Role, TransactionType, UserId, Watcher};
use crate::scrip::action::mail::{Addressee, Header, MailRole, SendEmail};
use crate::scrip::template::{NEW_NUMBER, Template};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// The most addresses considered for one mail.
const RECIPIENTS_MAX: usize = 1_000;

/// Prepares a mail.
pub(super) fn intend<'a>(bench: &mut Bench<'_, '_, 'a>, send: &SendEmail) -> Result<Intent<'a>, Unready> {
    let template =
        bench.template()?.ok_or_else(|| Unready::Failed("the scrip names no template".to_owned()))?;
    let mail = compose(&mut bench.real(), send, template)?;
    let canonical = if bench.differs(template) || bench.texts_differ() {
        canonical(&compose(&mut bench.fixed(), send, template)?, template)
    } else {
        canonical(&mail, template)
    };
    Ok(Intent::Send(Message::Email(Box::new(mail)), canonical))
}

/// Composes a mail, or returns the reason why none is sent.
fn compose(words: &mut Words<'_, '_, '_>, send: &SendEmail, template: &Template) -> Result<Mail, Unready> {
    let chosen = choose(words, send)?;
    if chosen.iter().all(Vec::is_empty) {
        let reasons: Vec<_> =
            chosen.considered.iter().map(|one| format!("{}: {}", one.shown(), one.reason)).collect();
        let reason =
            if reasons.is_empty() { "nobody is in these roles".to_owned() } else { reasons.join("; ") };
        return Err(Unready::Declined("recipients", format!("no recipients ({reason})")));
    }
    let rendered = words.render_all(template)?;
    if rendered.is_blank() {
        return Err(Unready::Declined("template", "template rendered nothing".to_owned()));
    }
    let (text, html) = match template.content_type() {
        ContentType::Html => {
            words.work(steps(rendered.body.len(), READ))?;
            (html::to_text(&rendered.body), Some(rendered.body))
        }
        ContentType::Text => (rendered.body, None),
    };
    let draft = words.snapshot.draft;
    let mut bare_subject = rendered.subject.trim().to_owned();
    if bare_subject.is_empty() {
        bare_subject.clone_from(&draft.ticket.subject);
    }
    let number = match draft.ticket.number {
        Some(number) if !(draft.situation.is_new() && words.tense.is_fixed()) => number.to_string(),
        _ => NEW_NUMBER.to_owned(),
    };
    let tag = format!("[{} #{number}]", draft.catalog.installation.name);
    let subject =
        if bare_subject.contains(&tag) { bare_subject.clone() } else { format!("{tag} {bare_subject}") };
    let mut headers = standing_headers(words, send, &number);
    headers.extend(rendered.headers.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case(DEPTH_HEADER)));
    let [to, cc, bcc] = chosen.lists;
    let from = sender(words, send);
    let recipients = chosen.considered;
    let email =
        Email { from, to, cc, bcc, subject, headers, text, html, recipients, as_comment: send.as_comment };
    Ok(Mail { email, bare_subject, number })
}

/// The headers of every mail. A template can add headers such as `Reply-To`, but cannot replace these.
fn standing_headers(words: &Words<'_, '_, '_>, send: &SendEmail, number: &str) -> BTreeMap<String, String> {
    let draft = words.snapshot.draft;
    let name = &draft.catalog.installation.name;
    let thread = format!("<ticket-{}@{}>", draft.ticket.id, host_part(name));
    let is_to_requestor = send
        .lists
        .iter()
        .flat_map(|(_, list)| list)
        .any(|addressee| matches!(addressee, Addressee::Role(MailRole::Ticket(Role::Requestor))));
    // RFC 3834: a mail to a person who has just written is a reply; all other mail from scrips is generated.
    let is_reply = words.snapshot.transaction.transaction_type == TransactionType::Create && is_to_requestor;
    let headers = [
        ("Auto-Submitted", if is_reply { "auto-replied" } else { "auto-generated" }.to_owned()),
        ("In-Reply-To", thread.clone()),
        ("Precedence", "bulk".to_owned()),
        ("References", thread),
        (DEPTH_HEADER, words.snapshot.depth().to_string()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("X-Tessera-Loop-Prevention", name.clone()),
        ("X-Tessera-Scrip", format!("{} v{}", words.scrip.name, words.scrip.version)),
        ("X-Tessera-Ticket", number.to_owned()),
    ];
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns `From`: the queue's address for this kind of mail, with the queue's name. A queue without one sends from the
/// installation's address, with the name that is configured with it, or that of the installation.
fn sender(words: &Words<'_, '_, '_>, send: &SendEmail) -> String {
    let draft = words.snapshot.draft;
    let installation = &draft.catalog.installation;
    let own = draft.queue_now().ok().and_then(|queue| {
        let address = if send.as_comment { &queue.comment_address } else { &queue.correspond_address };
        Some(mailbox(&queue.name, address.as_deref()?))
    });
    own.unwrap_or_else(|| match installation.mail_from.contains('<') {
        true => installation.mail_from.clone(),
        false => mailbox(&installation.name, &installation.mail_from),
    })
}

/// Writes a mailbox with a display name.
fn mailbox(name: &str, address: &str) -> String {
    format!("\"{}\" <{address}>", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns the form of a mail that is hashed: without ids, its time and a new ticket's number.
fn canonical(mail: &Mail, template: &Template) -> Value {
    let email = &mail.email;
    let own: BTreeMap<_, _> =
        email.headers.iter().filter(|(name, _)| template.source().headers.contains_key(*name)).collect();
    json!([
        "email",
        template.source().version_id,
        email.from,
        email.to,
        email.cc,
        email.bcc,
        mail.bare_subject,
        own,
        email.headers.get("Auto-Submitted"),
        email.headers.get(DEPTH_HEADER),
        email.text,
        email.html,
        email.recipients,
        email.as_comment,
    ])
}

/// The recipients of a mail: To, Cc and Bcc, and every address considered, with the reason.
struct Chosen {
    lists: [Vec<String>; 3],
    /// The header of each address that is in one, by the address as it is compared.
    headers: HashMap<String, Header>,
    considered: Vec<Recipient>,
}

impl Chosen {
    fn iter(&self) -> impl Iterator<Item = &Vec<String>> {
        self.lists.iter()
    }
}

/// The steps for considering a person: addresses are compared, and the reason is written.
const RECIPIENT: u64 = 40;

/// A possible recipient.
struct Person {
    user: Option<UserId>,
    address: Option<String>,
}

fn choose(words: &mut Words<'_, '_, '_>, send: &SendEmail) -> Result<Chosen, Unready> {
    let mut chosen = Chosen { lists: Default::default(), headers: HashMap::new(), considered: Vec::new() };
    for (index, (header, addressees)) in send.lists.iter().enumerate() {
        for addressee in addressees {
            let (role, people) = expand(words, addressee)?;
            for person in people {
                if chosen.considered.len() >= RECIPIENTS_MAX {
                    return Err(Unready::Failed(format!("more than {RECIPIENTS_MAX} recipients")));
                }
                words.work(RECIPIENT)?;
                let (outcome, reason) = match objection(words, send, &chosen, &person) {
                    Some(reason) => (RecipientOutcome::Dropped, reason),
                    None => (RecipientOutcome::Included, header.as_str().to_owned()),
                };
                let address = person.address.unwrap_or_default();
                if let (RecipientOutcome::Included, Some(list)) = (outcome, chosen.lists.get_mut(index)) {
                    list.push(address.clone());
                    chosen.headers.insert(fold(&address), *header);
                }
                chosen.considered.push(Recipient { address, role: role.to_owned(), outcome, reason });
            }
        }
    }
    promote(&mut chosen);
    Ok(chosen)
}

/// Moves Cc to To if To is empty. RT: `Notify.pm`.
fn promote(chosen: &mut Chosen) {
    let [to, cc, _] = &mut chosen.lists;
    if to.is_empty() && !cc.is_empty() {
        std::mem::swap(to, cc);
        let promoted = chosen.considered.iter_mut().filter(|one| one.reason == Header::Cc.as_str());
        for recipient in promoted.filter(|one| one.outcome == RecipientOutcome::Included) {
            Header::To.as_str().clone_into(&mut recipient.reason);
        }
    }
}

fn expand(
    words: &mut Words<'_, '_, '_>,
    addressee: &Addressee,
) -> Result<(&'static str, Vec<Person>), Unready> {
    let draft = words.snapshot.draft;
    let user = |id: UserId| Person {
        user: Some(id),
        address: draft.user(id).filter(|user| !user.disabled).and_then(|user| user.email.clone()),
    };
    let watchers = |watchers: &[Watcher]| -> Vec<Person> {
        watchers.iter().map(|one| Person { user: one.user, address: draft.watcher_address(one) }).collect()
    };
    let queue = draft.queue_now().ok();
    Ok(match addressee {
        Addressee::Role(role) => {
            let people = match role {
                MailRole::Ticket(role) => watchers(draft.ticket.watchers(*role)),
                MailRole::Owner => draft.ticket.owner.into_iter().map(user).collect(),
                MailRole::Creator => vec![user(draft.ticket.creator)],
                MailRole::QueueCc => queue.map(|queue| watchers(&queue.cc)).unwrap_or_default(),
                MailRole::QueueAdminCc => queue.map(|queue| watchers(&queue.admin_cc)).unwrap_or_default(),
            };
            (role.as_str(), people)
        }
        Addressee::Address(address) => {
            ("address", vec![Person { user: None, address: Some(address.clone()) }])
        }
        Addressee::Template(text) => {
            let rendered = words.render("recipients", text)?;
            let addresses = rendered.split([',', ';']).map(str::trim).filter(|address| !address.is_empty());
            let person =
                |address: &str| Person { user: None, address: Some(bare_address(address).to_owned()) };
            ("address", addresses.map(person).collect())
        }
    })
}

/// Returns the reason to drop a recipient, if there is one. RT: `SendEmail.pm`, `RecipientFilter`.
fn objection(
    words: &Words<'_, '_, '_>,
    send: &SendEmail,
    chosen: &Chosen,
    person: &Person,
) -> Option<String> {
    let snapshot = words.snapshot;
    let actor = &snapshot.draft.context.actor;
    let Some(address) = person.address.as_deref().filter(|address| !address.is_empty()) else {
        return Some("has no mail address".to_owned());
    };
    let is_actor =
        person.user == Some(actor.id) || actor.email.as_deref().is_some_and(|own| same_address(own, address));
    if !is_address(address) {
        return Some("is not a mail address".to_owned());
    }
    if snapshot.draft.catalog.is_own_address(address) {
        return Some("is an address of this desk".to_owned());
    }
    if is_actor && !send.notify_actor {
        return Some("made this change, and notify_actor is false".to_owned());
    }
    if snapshot.mailed.contains(&(words.scrip.id, fold(address))) {
        return Some("was already mailed by this scrip in this request".to_owned());
    }
    chosen.headers.get(&fold(address)).map(|header| format!("is already in {}", header.as_str()))
}

impl Recipient {
    fn shown(&self) -> &str {
        if self.address.is_empty() { &self.role } else { &self.address }
    }
}
