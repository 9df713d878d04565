//! The parts of a plan that its hash covers, and those that it does not.

use super::*;
use crate::plan::hash::hash;
use crate::plan::words::Canonical;
use time::Duration;

/// A change of one part of a plan.
type Part = (&'static str, fn(&mut Plan));

/// Plans a create and an update, each with many kinds of changes.
fn plans() -> [Plan; 2] {
    let catalog =
        Desk::new().scrip("Up", ("OnCreate", json!({})), ("SetPriority", json!({"value": "9"})), json!({}));
    let catalog = catalog.open();
    let made =
        create(&catalog, CreateTicket { cc: vec!["a@example.net".to_owned()], ..new_ticket() }).unwrap();
    let change = UpdateTicket {
        comment: Some(text("hm")),
        owner: Some(Some("ann".to_owned())),
        due_at: Some(Some(NOW + Duration::days(1))),
        custom_fields: BTreeMap::from([("Severity".to_owned(), replace(&["low"]))]),
        ..status("open")
    };
    let changed = update(&catalog, &made.ticket, change).unwrap();
    [made, changed]
}

fn hashed(plan: &Plan) -> PlanHash {
    hash(plan, &Canonical::new(plan.now))
}

fn watcher(n: u128) -> Watcher {
    Watcher { id: WatcherId(id(n)), user: None, address: Some(format!("{n}@example.net")) }
}

#[test]
fn every_part_that_a_plan_changes_is_in_its_hash_by_itself() {
    const EARLIER: OffsetDateTime = datetime!(2020-01-01 00:00 UTC);
    let parts: [Part; 25] = [
        ("subject", |plan| plan.ticket.subject.push('!')),
        ("queue", |plan| plan.ticket.queue = QueueId(id(110))),
        ("status", |plan| plan.ticket.status.push('!')),
        ("class", |plan| plan.ticket.status_class = StatusClass::Inactive),
        ("owner", |plan| plan.ticket.owner = Some(UserId(id(12)))),
        ("creator", |plan| plan.ticket.creator = UserId(id(12))),
        ("priority", |plan| plan.ticket.priority += 1),
        ("started_at", |plan| plan.ticket.started_at = Some(EARLIER)),
        ("resolved_at", |plan| plan.ticket.resolved_at = Some(EARLIER)),
        ("due_at", |plan| plan.ticket.due_at = Some(EARLIER)),
        ("told_at", |plan| plan.ticket.told_at = Some(EARLIER)),
        ("requestors", |plan| plan.ticket.requestors.push(watcher(1))),
        ("cc", |plan| plan.ticket.cc.push(watcher(1))),
        ("admin_cc", |plan| plan.ticket.admin_cc.push(watcher(1))),
        ("values", |plan| drop(plan.ticket.values.insert(CustomFieldId(id(301)), vec!["web".to_owned()]))),
        ("transaction", |plan| drop(plan.transactions.pop())),
        ("type", |plan| plan.transactions[0].transaction_type = TransactionType::SystemError),
        ("field", |plan| plan.transactions[0].field = Some("Other".to_owned())),
        ("old_value", |plan| plan.transactions[0].old_value = Some("other".to_owned())),
        ("new_value", |plan| plan.transactions[0].new_value = Some("other".to_owned())),
        ("change", |plan| plan.transactions[0].change = Change::Priority { old: 0, new: 77 }),
        ("content", |plan| plan.transactions[0].content = Some(text("other"))),
        ("derived", |plan| plan.transactions[0].derived = true),
        ("creator", |plan| plan.transactions[0].creator = UserId(id(12))),
        ("scrip", |plan| plan.transactions[0].scrip_version = Some(ScripVersionId(id(1)))),
    ];
    for plan in plans() {
        let before = hashed(&plan);
        for (name, change) in parts {
            let mut other = plan.clone();
            change(&mut other);
            assert_ne!(hashed(&other), before, "{name} is not in the hash");
        }
    }
}

#[test]
fn what_a_change_holds_is_in_the_hash_each_value_of_it() {
    let base = || plans()[1].clone();
    let of = |change: Change| {
        let mut plan = base();
        plan.transactions[0].change = change;
        hashed(&plan)
    };
    let cc = |n| Change::AddWatcher { role: Role::Cc, watcher: watcher(n) };
    let due = |new| Change::Due { old: None, new };
    let mut initial = base().ticket;
    let first = of(Change::Create(Box::new(initial.clone())));
    initial.subject.push('!');
    let all = [
        first,
        of(Change::Create(Box::new(initial))),
        of(cc(1)),
        of(cc(2)),
        of(Change::AddWatcher { role: Role::AdminCc, watcher: watcher(1) }),
        of(due(None)),
        of(due(Some(NOW))),
        of(due(Some(NOW + Duration::days(9)))),
    ];
    let different: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn ids_and_times_of_a_preparing_are_not_in_the_hash() {
    let parts: [Part; 8] = [
        ("ticket.id", |plan| plan.ticket.id = TicketId(id(9))),
        ("version", |plan| plan.ticket.version += 1),
        ("updated_at", |plan| plan.ticket.updated_at += Duration::days(1)),
        ("created_at", |plan| plan.ticket.created_at += Duration::days(1)),
        ("transaction.id", |plan| plan.transactions[0].id = TransactionId(id(9))),
        ("transaction.created_at", |plan| plan.transactions[0].created_at += Duration::days(1)),
        ("request", |plan| plan.transactions[0].request = RequestId(id(9))),
        ("watcher.id", |plan| plan.ticket.cc[0].id = WatcherId(id(9))),
    ];
    for plan in plans() {
        for (name, change) in parts {
            let mut other = plan.clone();
            change(&mut other);
            assert_eq!(hashed(&other), hashed(&plan), "{name} is in the hash");
        }
    }
    let [made, _] = plans();
    let numbered = Plan { ticket: Ticket { number: Some(77), ..made.ticket.clone() }, ..made.clone() };
    assert_eq!(hashed(&numbered), hashed(&made), "the number of a new ticket is in the hash");
}

#[test]
fn the_moment_of_the_request_is_one_in_the_hash_whenever_it_is() {
    let at = |now: OffsetDateTime| {
        let [_, mut plan] = plans();
        plan.now = now;
        plan.ticket.started_at = Some(now);
        plan.transactions[0].new_value = Some(crate::plan::draft::date(now));
        plan.transactions[0].change = Change::Started { old: None, new: Some(now) };
        hashed(&plan)
    };
    assert_eq!(at(NOW), at(NOW + Duration::hours(3)));
    let [_, mut other] = plans();
    other.ticket.started_at = Some(NOW + Duration::days(2));
    assert_ne!(hashed(&other), at(NOW));
}

#[test]
fn a_text_with_a_fixed_form_is_in_the_hash_in_that_form() {
    let with = |subject: &str, known: &[(&str, &str)]| {
        let [_, mut plan] = plans();
        plan.ticket.subject = subject.to_owned();
        plan.transactions[0].content = Some(text(subject));
        plan.transactions[0].change = Change::Subject { old: String::new(), new: subject.to_owned() };
        plan.ticket.values = BTreeMap::from([(CustomFieldId(id(302)), vec![subject.to_owned()])]);
        let mut canonical = Canonical::new(plan.now);
        canonical.fixed.extend(known.iter().map(|(text, form)| ((*text).to_owned(), (*form).to_owned())));
        hash(&plan, &canonical)
    };
    assert_eq!(with("T77", &[("T77", "Tnew")]), with("T78", &[("T78", "Tnew")]));
    assert_eq!(with("T77", &[("T77", "Tnew")]), with("Tnew", &[]));
    assert_ne!(with("T77", &[]), with("T78", &[]));
}

#[test]
fn every_part_of_a_webhook_is_in_the_hash_and_the_number_of_a_new_ticket_in_none() {
    let hash = |config: Value, number| {
        let catalog =
            Desk::new().scrip("Hook", ("OnCreate", json!({})), ("Webhook", config), json!({})).open();
        let situation = Situation {
            ticket: Target::New { number: Some(number) },
            people: People::default(),
            messages: Vec::new(),
        };
        prepare(&catalog, &situation, &Command::Create(new_ticket()), &context(1)).unwrap().hash
    };
    let base = json!({"url": "https://hooks.example/a", "headers": {"X": "1"}, "body": "1"});
    let with = |key: &str, value: Value| {
        let mut config = base.clone();
        config[key] = value;
        config
    };
    let others = [
        with("url", json!("https://hooks.example/b")),
        with("method", json!("PUT")),
        with("headers", json!({"X": "2"})),
        with("body", json!("2")),
        with("secret", json!("key")),
    ];
    for other in others {
        assert_ne!(hash(base.clone(), 1), hash(other.clone(), 1), "{other}");
    }
    let numbered = with("body", json!("{{ ticket.number }}"));
    assert_eq!(hash(numbered.clone(), 1), hash(numbered, 2));
}

#[test]
fn a_hash_reads_back_from_how_it_is_shown() {
    let [plan, _] = plans();
    let shown = plan.hash.to_string();
    assert_eq!(shown.len(), 64);
    assert_eq!(shown.parse::<PlanHash>().unwrap(), plan.hash);
    assert_eq!(format!(" \"{shown}\" ").parse::<PlanHash>().unwrap(), plan.hash);
    assert_eq!(format!("{:?}", plan.hash), format!("PlanHash({shown})"));
    assert!("00".parse::<PlanHash>().is_err());
}
