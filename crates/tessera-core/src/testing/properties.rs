//! Properties that hold for any input. `fuzz/` tests them for a long time, the unit tests briefly. Each panics if it is violated.

use super::desk::Desk;
use crate::delivery::email;
use crate::error::Fault;
use crate::lifecycle::{Definition, Lifecycle, definition, lint};
use crate::models::delivery::{Email, Payload};
use crate::models::text::{ADDRESS_MAX, fold, is_address};
use crate::models::user::ADMIN_USER;
use crate::models::{Change, CustomFieldId, DeliveryId, Role, Ticket, User};
use crate::plan::catalog::bare_address;
use crate::plan::{
    CASCADE_DEPTH_MAX, Catalog, DELIVERIES_MAX, FIRED_MAX, Plan, RENDERED_MAX, SHADOWS_MAX, past_passes,
    prepare,
};
use crate::query::ast::QUERY_MAX;
use crate::query::filter;
use crate::query::sql::{self, Asker, Frequencies, Keys, Statement};
use crate::query::{self, Dialect, Meaning, Purpose, Query, QueryError, Span, Test, Zone};
use crate::scrip::evaluation::Verdict;
use crate::scrip::template::{
    Compiled, FAULTS_MAX, LINE_MAX, Mode, OUTPUT_MAX, VARIABLES, Variable, VariableKind,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use time::OffsetDateTime;
use uuid::Uuid;

/// The stack of the smallest thread that runs any of this in production, in bytes: Tokio's default.
const STACK: usize = 2 * 1024 * 1024;

/// Tests a property on a thread with a stack of 2 MiB, so that a fuzzer finds what overflows it.
pub fn on_small_stack(property: fn(&[u8]), data: &[u8]) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || property(data));
        thread.unwrap().join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// A property and its name.
pub type Property = (&'static str, fn(&[u8]));

/// Every property, with the name of its fuzz target and its folder of seeds.
pub const ALL: [Property; 5] = [
    ("templates", templates),
    ("addresses", addresses),
    ("lifecycles", lifecycles),
    ("prepare", plans),
    ("ticketsql", ticketsql),
];

/// The longest line of a mail, in bytes (RFC 5322).
const MAIL_LINE_MAX: usize = 998;

// Templates -----------------------------------------------------------------------------------------------------------

/// Input: a byte for the mode, then a text. It compiles or has faults at positions within it, and renders the same twice, within its
/// limits.
pub fn templates(data: &[u8]) {
    let Some((mode, source)) = data.split_first() else { return };
    let modes = [Mode::Text, Mode::Html, Mode::Json, Mode::UrlPart, Mode::Line];
    let mode = *modes.iter().cycle().nth(usize::from(*mode)).unwrap();
    let source = String::from_utf8_lossy(source);
    match Compiled::compile(&source, mode) {
        Err(faults) => assert_told(&source, &faults),
        Ok(text) => {
            let variables = tera::Context::from_serialize(&variables()).unwrap();
            let rendered = text.render(&variables);
            assert_eq!(rendered, text.render(&variables), "two renderings differ");
            match rendered {
                Ok(rendered) => assert_fits(&rendered, mode),
                Err(failure) => assert_inside(&source, failure.line.zip(failure.column)),
            }
        }
    }
}

fn assert_told(source: &str, faults: &[Fault]) {
    assert!((1..=FAULTS_MAX).contains(&faults.len()), "{} faults", faults.len());
    for fault in faults {
        assert!(!fault.message.is_empty());
        assert_inside(source, fault.line.zip(fault.column));
    }
}

/// Checks that a position is that of a character of the text, or the end of a line.
fn assert_inside(source: &str, place: Option<(usize, usize)>) {
    let Some((line, column)) = place else { return };
    let width = source.split('\n').nth(line - 1).map(|line| line.chars().count());
    assert!(width.is_some_and(|width| (1..=width + 1).contains(&column)), "{line}:{column} of {source:?}");
}

fn assert_fits(rendered: &str, mode: Mode) {
    assert!(rendered.len() <= OUTPUT_MAX && !rendered.contains('\0'));
    if matches!(mode, Mode::Line | Mode::UrlPart) {
        assert!(!rendered.contains(char::is_control), "{rendered:?} is no line");
    }
    assert!(mode != Mode::Line || rendered.len() <= LINE_MAX);
    if mode == Mode::Json && !rendered.trim().is_empty() {
        // Not a value, which has no room for a number such as 1e999.
        serde_json::from_str::<serde::de::IgnoredAny>(rendered).unwrap();
    }
}

/// Returns the variables of the published table, with its examples, and fields with values that could break escaping.
fn variables() -> Value {
    let mut root = Map::new();
    for variable in VARIABLES.iter().filter(|variable| !variable.path.contains("[]")) {
        let value = match variable.kind {
            VariableKind::List => json!([parts(variable), parts(variable)]),
            VariableKind::Fields => json!({
                "Severity": "high", "First Name": "Eve", "Components": ["web", "mail"], "Note": null,
                "Lines": "one\r\nBcc: evil@example.org", "Zero": "a\0b", "Marks": "\\\"'{{ now }}<b>&amp;",
            }),
            _ => example(variable),
        };
        put(&mut root, variable.path, value);
    }
    Value::Object(root)
}

/// Returns an item of a list: the parts in the table, or those of a transaction.
fn parts(list: &Variable) -> Value {
    let (of, prefix) = match list.path {
        "batch" => ("transaction.", "transaction.".to_owned()),
        "ticket.cc" | "ticket.admin_cc" => ("ticket.requestors[].", "ticket.requestors[].".to_owned()),
        path => (path, format!("{path}[].")),
    };
    let mut one = Map::new();
    for variable in VARIABLES.iter().filter(|variable| variable.path.starts_with(of)) {
        if let Some(path) = variable.path.strip_prefix(&prefix) {
            put(&mut one, path, example(variable));
        }
    }
    Value::Object(one)
}

fn example(variable: &Variable) -> Value {
    match variable.kind {
        VariableKind::Number => variable.example.parse::<i64>().unwrap().into(),
        _ => variable.example.into(),
    }
}

fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(object.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Map::new().into());
            put(inner.as_object_mut().unwrap(), rest, value);
        }
    }
}

// Addresses -----------------------------------------------------------------------------------------------------------

/// Input: a text that is tried in each part of a mail. A valid address appears in envelope and headers, with its domain in ASCII, and
/// no text adds a line.
pub fn addresses(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let bare = bare_address(&text);
    if is_address(&text) {
        assert!(text.len() <= ADDRESS_MAX && !text.contains(char::is_control));
        assert_eq!(bare, text, "the address within an address is another");
        let mail = Email { to: vec![text.to_string()], ..mail() };
        let built = email::build(id(), OffsetDateTime::UNIX_EPOCH, &mail).unwrap();
        let [to] = built.receivers.as_slice() else { panic!("one recipient becomes {:?}", built.receivers) };
        assert_eq!(to.address, text, "the envelope holds another address");
        let mailbox = to.mailbox.clone().unwrap();
        let (local, domain) = mailbox.rsplit_once('@').unwrap();
        assert!(text.starts_with(local) && domain.is_ascii() && !mailbox.contains(char::is_control));
        if mailbox.is_ascii() {
            assert_eq!(header(&built.message, "To"), [mailbox]);
        }
        assert_sound(&built.message, &HEADERS);
    }
    let anywhere = [
        Email { from: text.to_string(), ..mail() },
        Email { cc: vec![text.to_string()], ..mail() },
        Email { cc: vec![bare.to_owned()], ..mail() },
        Email { bcc: vec![text.to_string()], subject: text.to_string(), ..mail() },
        Email { text: text.to_string(), html: Some(text.to_string()), ..mail() },
        Email { headers: BTreeMap::from([("X-Note".to_owned(), text.to_string())]), ..mail() },
    ];
    for mail in anywhere {
        if let Ok(built) = email::build(id(), OffsetDateTime::UNIX_EPOCH, &mail) {
            assert_sound(&built.message, &HEADERS);
        }
    }
}

/// The headers of the mails in this property.
const HEADERS: [&str; 9] = [
    "Date",
    "From",
    "To",
    "Cc",
    "Subject",
    "X-Note",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

fn id() -> DeliveryId {
    Uuid::from_u128(0x0193_5b0c_9f00_7000_8000_0000_0000_0001).into()
}

fn mail() -> Email {
    Email {
        from: "Desk <desk@example.com>".to_owned(),
        to: vec!["to@example.org".to_owned()],
        cc: Vec::new(),
        bcc: Vec::new(),
        subject: "Hello".to_owned(),
        headers: BTreeMap::new(),
        text: "Hello.".to_owned(),
        html: None,
        recipients: Vec::new(),
        as_comment: false,
    }
}

/// Returns the header fields of a mail, with folded lines joined.
fn fields(message: &[u8]) -> Vec<(String, String)> {
    let message = std::str::from_utf8(message).unwrap();
    let (head, _) = message.split_once("\r\n\r\n").unwrap();
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    // The value of a field may be empty, as that of a mail without a subject.
    let split = |line: &str| {
        line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim_start_matches(' ').to_owned()))
    };
    head.split("\r\n").map(|line| split(line).unwrap_or_else(|| panic!("{line:?} is no header"))).collect()
}

fn header(message: &[u8], name: &str) -> Vec<String> {
    fields(message).into_iter().filter(|(found, _)| found == name).map(|(_, value)| value).collect()
}

/// Checks that each header is a known one and occurs once, and that lines have valid ends and lengths.
fn assert_sound(message: &[u8], known: &[&str]) {
    let text = std::str::from_utf8(message).unwrap();
    let mut seen = BTreeSet::new();
    for (name, value) in fields(message) {
        assert!(known.contains(&name.as_str()) && seen.insert(name.clone()), "{name} was slipped in");
        // An own address that is not ASCII can be written in no other way (RFC 6532).
        assert!(value.is_ascii() || name == "From", "{name} is not ASCII");
    }
    assert!(text.split_once("\r\n\r\n").unwrap().1.is_ascii(), "{text:?} is not ASCII");
    let mut lines = text.split("\r\n");
    assert!(lines.all(|line| line.len() <= MAIL_LINE_MAX && !line.contains(['\r', '\n'])), "{text:?}");
}

// Lifecycles ----------------------------------------------------------------------------------------------------------

/// Input: JSON. It is not a definition, or has faults that are reported, or gives a lifecycle that follows its own rules and survives
/// serialization.
pub fn lifecycles(data: &[u8]) {
    let Ok(definition) = serde_json::from_slice::<Definition>(data) else { return };
    let compile = |definition| Lifecycle::compile(id().0.into(), id().0.into(), "Tried", definition);
    let lifecycle = match compile(definition) {
        Ok(lifecycle) => lifecycle,
        Err(faults) => {
            // One more reports the number of omitted faults.
            assert!((1..=definition::FAULTS_MAX + 1).contains(&faults.len()));
            return assert!(faults.iter().all(|fault| !fault.message.is_empty() && !fault.field.is_empty()));
        }
    };
    let written = serde_json::to_vec(lifecycle.definition()).unwrap();
    assert_eq!(compile(serde_json::from_slice(&written).unwrap()).as_ref(), Ok(&lifecycle));

    lifecycle.create_status(None).unwrap();
    for from in lifecycle.statuses() {
        assert_eq!(lifecycle.canonical(from), Some(from.as_str()));
        for to in lifecycle.statuses() {
            let allowed = lifecycle.transitions_from(from).contains(to);
            assert_eq!(lifecycle.transition(from, to).is_ok(), allowed, "{from} -> {to}");
        }
    }
    let stock = Lifecycle::compile(Uuid::nil().into(), Uuid::nil().into(), "default", Definition::stock());
    let stock = stock.unwrap();
    let around = lint::Surroundings { before: Some(&stock), others: &[&stock], ..Default::default() };
    lint::lint(&lifecycle, &around);
    for status in lifecycle.statuses() {
        if let Ok(Some(change)) = lifecycle.map_to(&stock, status) {
            assert_eq!(stock.class_of(change.new_status()), Some(change.class()));
        }
    }
}

// Plans ---------------------------------------------------------------------------------------------------------------

/// Input: bytes for a configuration and requests. Each request is refused or gives a plan: the same twice, with a hash that does not
/// depend on ids, within its budgets, with passes that the history reproduces. Its mails can be sent, its webhooks go to the
/// configured server, and the history of all plans folds to the ticket.
pub fn plans(data: &[u8]) {
    let desk = Desk::of(data);
    let mut plans: Vec<Plan> = Vec::new();
    for (round, command) in (1..).zip(&desk.commands) {
        let situation = desk.situation(plans.last().map(|plan| &plan.ticket));
        let plan = |seed| prepare(&desk.catalog, &situation, command, &desk.context(round, seed));
        let (one, two, other) = (plan(round), plan(round), plan(round + 1_000));
        assert_eq!(format!("{one:?}"), format!("{two:?}"), "two plans of one request differ");
        let Ok(one) = one else { continue };
        assert_eq!(one.hash, other.unwrap().hash, "the hash follows the ids");
        assert_within_budgets(&one);
        assert_eq!(
            past_passes(&one.transactions, &one.evaluations),
            one.passes,
            "the history gives other passes"
        );
        assert_rows(&one);
        one.deliveries.iter().for_each(|delivery| assert_leaves_well(&desk.catalog, &delivery.payload));
        let lifecycle = desk.catalog.lifecycle_of(one.ticket.queue).unwrap();
        assert_eq!(lifecycle.class_of(&one.ticket.status), Some(one.ticket.status_class));
        plans.push(one);
        let history = plans.iter().flat_map(|plan| &plan.transactions);
        let folded = Ticket::fold(history.map(|one| (&one.change, one.seq.unwrap(), one.created_at)));
        assert_eq!(folded.as_ref(), plans.last().map(|plan| &plan.ticket), "the history is another ticket's");
    }
}

fn assert_within_budgets(plan: &Plan) {
    let count = |verdict| plan.evaluations.iter().filter(|one| one.verdict == verdict).count();
    assert!(count(Verdict::Fired) <= FIRED_MAX && count(Verdict::Shadow) <= SHADOWS_MAX);
    assert!(plan.deliveries.len() <= DELIVERIES_MAX);
    let rendered = plan.deliveries.iter().map(|delivery| match &delivery.payload {
        Payload::Email(email) => email.html.as_ref().unwrap_or(&email.text).len(),
        Payload::Webhook(webhook) => webhook.body.len(),
        Payload::Connector(custom) => custom.json.to_string().len(),
    });
    assert!(rendered.sum::<usize>() <= RENDERED_MAX);
    let mut depths = BTreeMap::new();
    for one in &plan.transactions {
        let depth = one.caused_by.map_or(0, |cause| depths.get(&cause).map_or(0, |depth| depth + 1));
        depths.insert(one.id, depth);
        // The SystemError that reports the stop is caused by the deepest transaction.
        let is_told = matches!(one.change, Change::SystemError { .. });
        assert!(depth <= CASCADE_DEPTH_MAX + u32::from(is_told), "a cascade {depth} deep");
    }
}

/// Checks that the rows of a plan turn the ticket before into the ticket after.
fn assert_rows(plan: &Plan) {
    type Values<'p> = BTreeSet<(CustomFieldId, &'p str)>;
    fn values(ticket: &Ticket) -> Values<'_> {
        ticket.values.iter().flat_map(|(id, all)| all.iter().map(|one| (*id, one.as_str()))).collect()
    }
    let mut found: Values<'_> = plan.before.as_ref().map(values).unwrap_or_default();
    found.retain(|(id, value)| !plan.rows.values_out.iter().any(|gone| gone.0 == *id && gone.1 == *value));
    found.extend(plan.rows.values_in.iter().map(|(_, id, value)| (*id, value.as_str())));
    assert_eq!(found, values(&plan.ticket));
    for role in Role::ALL {
        let there = plan.before.as_ref().map_or(&[][..], |ticket| ticket.watchers(role)).iter();
        let stays = there.filter(|one| !plan.rows.watchers_out.contains(&one.id)).map(|one| one.id);
        let comes = plan.rows.watchers_in.iter().filter(|one| one.0 == role).map(|(_, one)| one.id);
        let found: BTreeSet<_> = stays.chain(comes).collect();
        assert_eq!(found, plan.ticket.watchers(role).iter().map(|one| one.id).collect());
    }
}

fn assert_leaves_well(catalog: &Catalog, payload: &Payload) {
    match payload {
        Payload::Email(mail) => {
            let everybody = mail.to.iter().chain(&mail.cc).chain(&mail.bcc);
            let mut seen = BTreeSet::new();
            for address in everybody {
                assert!(!catalog.is_own_address(address), "{address} would come back");
                assert!(seen.insert(fold(address)), "{address} is listed twice");
            }
            let built = email::build(id(), OffsetDateTime::UNIX_EPOCH, mail).unwrap();
            let own = mail.headers.keys().map(String::as_str);
            assert_sound(&built.message, &HEADERS.into_iter().chain(own).collect::<Vec<_>>());
        }
        Payload::Webhook(webhook) => {
            let url = url::Url::parse(&webhook.url).unwrap();
            assert_eq!(url.origin().ascii_serialization(), super::desk::RECEIVER, "{url} goes elsewhere");
        }
        Payload::Connector(_) => {}
    }
}

// TicketSQL -----------------------------------------------------------------------------------------------------------

/// Input: a text, parsed as a query in both dialects and for both purposes. It is valid, or rejected with a message and a position
/// within it. Its tree prints to a text that parses to the same tree. Once resolved it compiles to SQL with a value for each
/// parameter, and has the same meaning as JSON.
pub fn ticketsql(data: &[u8]) {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Desk::of(&[]).catalog);
    let text = String::from_utf8_lossy(data);
    let users: Vec<User> = CATALOG.agents.iter().map(|agent| User::clone(agent)).collect();
    for dialect in [Dialect::Tessera, Dialect::Rt] {
        let parsed = match query::parse(&text, dialect) {
            Ok(parsed) => parsed,
            Err(error) => {
                assert_refusal(&text, &error);
                continue;
            }
        };
        parsed.warnings.iter().for_each(|warning| assert_refusal(&text, warning));
        let printed = parsed.query.to_string();
        if printed.len() <= QUERY_MAX {
            let again = query::parse(&printed, Dialect::Tessera).map(|parsed| parsed.query);
            assert_eq!(again.as_ref(), Ok(&parsed.query), "{printed}");
        }
        for purpose in [Purpose::Search(&users), Purpose::Condition] {
            match query::resolve(&parsed.query, &CATALOG.query_fields(purpose)) {
                Err(error) => assert_refusal(&text, &error),
                Ok(resolved) => {
                    assert_compiles(&resolved);
                    let filter = filter::write(&parsed.query);
                    let again =
                        filter::read(&filter).unwrap_or_else(|fault| panic!("{filter}: {}", fault.message));
                    let again = query::resolve(&again, &CATALOG.query_fields(purpose));
                    assert_eq!(again.as_ref().map(meanings), Ok(meanings(&resolved)), "{filter}");
                }
            }
        }
    }
}

/// Returns the meanings of the tests of a query, in order.
fn meanings(query: &Query<Test>) -> Vec<(bool, &Meaning)> {
    query.tests().into_iter().map(|test| (test.is_negated, &test.meaning)).collect()
}

fn assert_refusal(text: &str, error: &QueryError) {
    let Span { start, end } = error.span;
    assert!(text.get(start..end).is_some(), "{start}..{end} is no part of {text:?}");
    assert!(
        !error.message.is_empty() && error.hint.as_ref().is_some_and(|hint| !hint.is_empty()),
        "{error:?}"
    );
    let place = error.span.place(text);
    assert_inside(text, Some((place.line, place.column)));
}

fn assert_compiles(query: &Query<Test>) {
    let asker = Asker { user: ADMIN_USER, now: OffsetDateTime::UNIX_EPOCH, zone: Zone::utc() };
    let (frequencies, keys) = (Frequencies::default(), Keys::default());
    let compiler = sql::Compiler { query, asker: &asker, frequencies: &frequencies, keys: &keys };
    let Statement { text, binds } = compiler.all();
    // Where no digits follow, it ends a regular expression.
    let named = text.split('$').skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap());
    let mut named = named.filter_map(|digits| digits.parse::<usize>().ok());
    assert!(named.all(|named| (1..=binds.len()).contains(&named)), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

    /// The seeds of a target, in order of their names.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    #[test]
    fn every_seed_keeps_the_property_of_its_target() {
        for (target, property) in ALL {
            let seeds = seeds(target);
            assert!(!seeds.is_empty(), "{target} has no seeds");
            seeds.iter().for_each(|seed| property(seed));
        }
    }

    #[test]
    fn no_bytes_break_a_property_whether_random_or_a_bent_seed() {
        let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
        for (target, property) in ALL {
            let seeds = seeds(target);
            let bends = prop::collection::vec((any::<Index>(), any::<Index>(), any::<[u8; 2]>()), 1..12);
            let bent = (prop::sample::select(seeds), bends).prop_map(|(mut bytes, bends)| {
                for (from, length, by) in bends {
                    let from = from.index(bytes.len() + 1);
                    let to = (from + length.index(4)).min(bytes.len());
                    bytes.splice(from..to, by);
                }
                bytes
            });
            let random = prop::collection::vec(any::<u8>(), 0..600);
            let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            let mut runner = TestRunner::new_with_rng(config.clone(), rng);
            let outcome = runner.run(&prop_oneof![bent, random], |bytes| {
                property(&bytes);
                Ok(())
            });
            outcome.unwrap_or_else(|error| panic!("{target}: {error}"));
        }
    }

    #[test]
    fn the_variables_that_are_tried_are_those_that_are_published() {
        let variables = tera::Context::from_serialize(&variables()).unwrap();
        for variable in VARIABLES {
            let path = variable.path.replace("[]", "[0]");
            let text =
                Compiled::compile(&format!("{{% set x = {path} %}}{{{{ x is defined }}}}"), Mode::Text);
            assert_eq!(text.unwrap().render(&variables).as_deref(), Ok("true"), "{path}");
        }
    }
}
