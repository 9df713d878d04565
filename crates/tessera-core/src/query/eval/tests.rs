//! Every field and operator on a ticket with all values, on a ticket with none, and on current changes.

use super::*;
use crate::models::transaction::Content;
use crate::models::user::ADMIN_USER;
use crate::models::*;
use crate::plan::Catalog;
use crate::plan::tests::{Desk, NOW, id, user};
use crate::query::{Dialect, Purpose, parse, resolve};
use std::collections::BTreeMap;
use time::macros::datetime;

fn query(catalog: &Catalog, text: &str) -> Query<Test> {
    let parsed = parse(text, Dialect::Tessera).unwrap_or_else(|error| panic!("{text}: {error}"));
    let fields = catalog.query_fields(Purpose::Condition);
    resolve(&parsed.query, &fields).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn watcher(n: u128, user: Option<u128>, address: Option<&str>) -> Watcher {
    let user = user.map(|user| UserId(id(user)));
    Watcher { id: WatcherId(id(n)), user, address: address.map(str::to_owned) }
}

/// A ticket with a value in every field.
fn full() -> Ticket {
    Ticket {
        id: TicketId(id(1_000)),
        number: Some(42),
        version: 3,
        subject: "Printer 100% on FIRE_2".to_owned(),
        queue: QueueId(id(100)),
        status: "open".to_owned(),
        status_class: StatusClass::Active,
        owner: Some(UserId(id(11))),
        creator: ADMIN_USER,
        priority: 10,
        created_at: datetime!(2026-11-20 23:30 UTC),
        updated_at: datetime!(2026-11-22 12:00 UTC),
        started_at: Some(datetime!(2026-11-20 23:30 UTC)),
        resolved_at: None,
        due_at: Some(NOW),
        told_at: Some(datetime!(2026-11-23 00:00 UTC)),
        requestors: vec![watcher(1, Some(21), None), watcher(2, None, Some("Joe@Example.net"))],
        cc: Vec::new(),
        admin_cc: vec![watcher(3, Some(12), None)],
        values: BTreeMap::from([
            (CustomFieldId(id(300)), vec!["high".to_owned()]),
            (CustomFieldId(id(301)), vec!["web".to_owned(), "db".to_owned()]),
            (CustomFieldId(id(302)), vec!["9.50".to_owned()]),
        ]),
    }
}

/// A new ticket with no optional values.
fn empty() -> Ticket {
    Ticket {
        number: None,
        subject: "x".to_owned(),
        owner: None,
        priority: 0,
        started_at: None,
        due_at: None,
        told_at: None,
        requestors: Vec::new(),
        admin_cc: Vec::new(),
        values: BTreeMap::new(),
        ..full()
    }
}

/// A catalog and a ticket; ann asks, and bob made the last change.
struct World {
    catalog: Catalog,
    ticket: Ticket,
    people: HashMap<UserId, User>,
    ann: User,
    zone: Zone,
}

impl World {
    fn of(ticket: Ticket) -> Self {
        let eve = user(21, "Eve", false);
        let people = HashMap::from([(eve.id, eve)]);
        Self { catalog: Desk::new().open(), ticket, people, ann: user(11, "ann", true), zone: Zone::utc() }
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            ticket: &self.ticket,
            number: self.ticket.number,
            people: &self.people,
            fields: self.catalog.query_fields(Purpose::Condition),
            current_user: Some(&self.ann),
            last_updated_by: Some(UserId(id(12))),
            now: NOW,
            zone: &self.zone,
            occasion: None,
        }
    }
}

/// A trace with as many steps as it takes.
fn traced(query: &Query<Test>, scene: &Scene<'_>) -> Why {
    why(query, scene, &Steps::new(u64::MAX))
}

/// Asserts the result of a query on a scene, its trace, and the opposite result with NOT.
#[track_caller]
fn assert_holds(catalog: &Catalog, scene: &Scene<'_>, text: &str, expected: bool, found: Value) {
    let (asked, opposite) = (query(catalog, text), query(catalog, &format!("NOT ({text})")));
    let why = traced(&asked, scene);
    assert_eq!((holds(&asked, scene), why.result), (expected, expected), "{text}: {why:?}");
    assert_eq!(why.actual, found, "{text}");
    let not = traced(&opposite, scene);
    assert_eq!((holds(&opposite, scene), not.result), (!expected, !expected), "NOT ({text})");
}

#[test]
fn every_field_and_operator_says_what_it_says_of_a_ticket_with_everything() {
    let world = World::of(full());
    let scene = world.scene();
    let subject = json!("Printer 100% on FIRE_2");
    let requestors = json!(["Eve@desk.example", "Joe@Example.net"]);
    let (created, due) = (json!("2026-11-20T23:30:00Z"), json!("2026-11-23T10:00:00.123456Z"));
    let uuid = id(1_000).to_string();
    let ann_id = id(11).to_string();
    let table: Vec<(String, bool, Value)> = [
        ("id = 42", true, json!(42)),
        ("id != 42", false, json!(42)),
        ("id = 41", false, json!(42)),
        ("id IN (1, 42)", true, json!(42)),
        ("id < 42", false, json!(42)),
        ("id <= 42", true, json!(42)),
        ("id > 42", false, json!(42)),
        ("id >= 42", true, json!(42)),
        ("id BETWEEN 42 AND 50", true, json!(42)),
        ("id BETWEEN 40 AND 42", true, json!(42)),
        ("id NOT BETWEEN 43 AND 50", true, json!(42)),
        ("id > Priority", true, json!(42)),
        ("Priority = 10", true, json!(10)),
        ("Priority != 10", false, json!(10)),
        ("Priority > 9", true, json!(10)),
        ("Priority > 10", false, json!(10)),
        ("Priority < -1", false, json!(10)),
        ("Priority NOT IN (1, 2)", true, json!(10)),
        ("Priority >= id", false, json!(10)),
        ("Priority = id", false, json!(10)),
        ("Subject = 'PRINTER 100% ON fire_2'", true, subject.clone()),
        ("Subject = 'Printer'", false, subject.clone()),
        ("Subject != 'Printer'", true, subject.clone()),
        ("Subject LIKE 'on fire'", true, subject.clone()),
        ("Subject LIKE 'on%fire'", false, subject.clone()),
        ("Subject LIKE 'printer%'", true, subject.clone()),
        (r"Subject LIKE '100\%'", true, subject.clone()),
        (r"Subject LIKE '10\%'", false, subject.clone()),
        ("Subject NOT LIKE 'water'", true, subject.clone()),
        ("Subject STARTSWITH 'print'", true, subject.clone()),
        ("Subject STARTSWITH 'rinter'", false, subject.clone()),
        ("Subject ENDSWITH 'fire_2'", true, subject.clone()),
        ("Subject NOT ENDSWITH '3'", true, subject.clone()),
        ("Subject MATCHES 'fire -water'", true, subject.clone()),
        ("Subject MATCHES 'fire -printer'", false, subject.clone()),
        ("Subject IN ('a', 'printer 100% on fire_2')", true, subject.clone()),
        ("Status = open", true, json!("open")),
        ("Status = 'Open'", true, json!("open")),
        ("Status != open", false, json!("open")),
        ("Status IN (new, stalled)", false, json!("open")),
        ("Status = __Active__", true, json!("open (active)")),
        ("Status = __Inactive__", false, json!("open (active)")),
        ("Status LIKE 'op%'", true, json!("open")),
        ("Queue = Support", true, json!("Support")),
        ("Queue = 'support'", true, json!("Support")),
        ("Queue != Billing", true, json!("Support")),
        ("Queue IN (Billing)", false, json!("Support")),
        ("Queue LIKE 'bill'", false, json!("Support")),
        ("Lifecycle = default", true, json!("default")),
        ("Lifecycle != default", false, json!("default")),
        ("Owner = ann", true, json!("ann")),
        ("Owner = 'ANN@desk.example'", true, json!("ann")),
        ("Owner = bob", false, json!("ann")),
        ("Owner != bob", true, json!("ann")),
        ("Owner = Nobody", false, json!("ann")),
        ("Owner = __CurrentUser__", true, json!("ann")),
        ("Owner IS NULL", false, json!("ann")),
        ("Owner IS NOT NULL", true, json!("ann")),
        ("Owner LIKE 'an%'", true, json!("ann")),
        ("Owner LIKE 'desk.example'", false, json!("ann")),
        ("Owner.Name = ann", true, json!("ann")),
        ("Creator.Name = 'admin@desk.example'", false, json!("admin")),
        ("Owner.EmailAddress = 'ann@desk.example'", true, json!("ann@desk.example")),
        ("Owner = 'ANN@desk.example' OR Owner.Name = 'ANN'", true, Value::Null),
        ("Owner.EmailAddress ENDSWITH '@desk.example'", true, json!("ann@desk.example")),
        ("Owner IN (bob, ann)", true, json!("ann")),
        ("Owner = Creator", false, json!("ann")),
        ("Creator = admin", true, json!("admin")),
        ("Creator = __CurrentUser__", false, json!("admin")),
        ("LastUpdatedBy = bob", true, json!("bob")),
        ("LastUpdatedBy = ann", false, json!("bob")),
        ("Requestor = eve", true, requestors.clone()),
        ("Requestor = 'eve@desk.example'", true, requestors.clone()),
        ("Requestor = 'joe@example.net'", true, requestors.clone()),
        ("Requestor != 'joe@example.net'", false, requestors.clone()),
        ("Requestor = 'sue@example.net'", false, requestors.clone()),
        ("Requestor LIKE '%@EXAMPLE.net'", true, requestors.clone()),
        ("Requestor NOT LIKE '%@other.net'", true, requestors.clone()),
        ("Requestor.Name LIKE 'joe'", false, json!(["Eve"])),
        ("Requestor.Name LIKE 'ev'", true, json!(["Eve"])),
        ("Requestor IS NULL", false, requestors.clone()),
        ("Cc IS NULL", true, Value::Null),
        ("Cc != 'eve@desk.example'", true, Value::Null),
        ("AdminCc = bob", true, json!("bob@desk.example")),
        ("Watcher = bob", true, json!(["Eve@desk.example", "Joe@Example.net", "bob@desk.example"])),
        ("Created = '2026-11-20'", true, created.clone()),
        ("Created = '2026-11-21'", false, created.clone()),
        ("Created < '2026-11-20'", false, created.clone()),
        ("Created <= '2026-11-20'", true, created.clone()),
        ("Created > '2026-11-20'", false, created.clone()),
        ("Created >= '2026-11-20'", true, created.clone()),
        ("Created BETWEEN '2026-11-19' AND '2026-11-20'", true, created.clone()),
        ("Created IN ('2026-11-19', '2026-11-21')", false, created.clone()),
        ("Created > '3 days ago'", true, created.clone()),
        ("Created > '2 days ago'", false, created.clone()),
        ("Created = Started", true, created.clone()),
        ("Created < Due", true, created.clone()),
        ("Created > Resolved", false, created.clone()),
        ("LastUpdated = yesterday", true, json!("2026-11-22T12:00:00Z")),
        ("Started = Created", true, created.clone()),
        ("Due = now", true, due.clone()),
        ("Due <= now", true, due.clone()),
        ("Due < now", false, due.clone()),
        ("Due IS NOT NULL", true, due.clone()),
        ("Resolved IS NULL", true, Value::Null),
        ("Resolved < now", false, Value::Null),
        ("Resolved != '2026-11-20'", true, Value::Null),
        ("Told = today", true, json!("2026-11-23T00:00:00Z")),
        ("Told < today", false, json!("2026-11-23T00:00:00Z")),
        ("CF.Severity = HIGH", true, json!("high")),
        ("CF.{Severity} != 'low'", true, json!("high")),
        ("CF.Support.{Severity} = 'high'", true, json!("high")),
        ("CF.Components = web", true, json!(["web", "db"])),
        ("CF.Components = mail", false, json!(["web", "db"])),
        ("CF.Components != web", false, json!(["web", "db"])),
        ("CF.Components NOT IN (mail, sms)", true, json!(["web", "db"])),
        ("CF.Components LIKE '_b'", true, json!(["web", "db"])),
        ("CF.Note > 9", true, json!("9.50")),
        ("CF.Note > 10", false, json!("9.50")),
        ("CF.Note > '10'", true, json!("9.50")),
        ("CF.Note BETWEEN 9.5 AND 9.5", true, json!("9.50")),
        ("CF.Note IS NULL", false, json!("9.50")),
    ]
    .into_iter()
    .map(|(text, expected, found)| (text.to_owned(), expected, found))
    .chain([
        (format!("id = '{uuid}'"), true, json!(uuid)),
        (format!("id != '{uuid}'"), false, json!(uuid)),
        (format!("Owner.id = '{ann_id}'"), true, json!(ann_id)),
        (format!("Creator.id = '{ann_id}'"), false, json!(ADMIN_USER.to_string())),
    ])
    .collect();
    for (text, expected, found) in table {
        // One value is shown without a list, and so is a list of one.
        let found = match found {
            Value::Array(items) if items.len() == 1 => items[0].clone(),
            found => found,
        };
        assert_holds(&world.catalog, &scene, &text, expected, found);
    }
    let berlin = Zone::parse("Europe/Berlin").unwrap();
    let scene = Scene { zone: &berlin, ..scene };
    assert_holds(&world.catalog, &scene, "Created = '2026-11-21'", true, created);
    assert_holds(&world.catalog, &scene, "Told < today", false, json!("2026-11-23T00:00:00Z"));
}

#[test]
fn a_test_of_what_is_not_there_is_false_and_its_negation_true() {
    let world = World::of(empty());
    let scene = world.scene();
    for text in [
        "id = 42",
        "id < 42",
        "id >= 0",
        "id BETWEEN 0 AND 99",
        "id = Priority",
        "Priority >= id",
        "Owner = ann",
        "Owner IS NOT NULL",
        "Owner LIKE '%'",
        "Owner = __CurrentUser__",
        "Owner = Creator",
        "LastUpdatedBy = ann",
        "Requestor = 'joe@example.net'",
        "Requestor LIKE '%'",
        "Watcher IS NOT NULL",
        "Started IS NOT NULL",
        "Started = '2026-11-20'",
        "Due < tomorrow",
        "Due >= yesterday",
        "Due BETWEEN '2000-01-01' AND '2100-01-01'",
        "Due = Told",
        "Created > Due",
        "CF.Severity = high",
        "CF.Severity LIKE '%'",
        "CF.Note < 5",
        "CF.Note >= ''",
        "CF.Note IS NOT NULL",
        "Actor = ann",
        "Channel LIKE '%'",
        "Transaction.Type = Create",
        "Transaction.Content LIKE '%'",
        "Transaction.OldValue IS NOT NULL",
        "Status CHANGED",
    ] {
        let asked = query(&world.catalog, text);
        assert!(!holds(&asked, &scene), "{text}");
        assert!(holds(&query(&world.catalog, &format!("NOT {text}")), &scene), "NOT {text}");
    }
    for text in ["Owner = Nobody", "id != 42", "CF.Severity != high", "Due NOT IN ('2026-11-20')"] {
        assert!(holds(&query(&world.catalog, text), &scene), "{text}");
    }
    assert!(holds(&Query(None), &scene) && traced(&Query(None), &scene).result, "no test at all");
}

#[test]
fn and_or_and_not_join_and_a_trace_makes_every_test() {
    let world = World::of(full());
    let scene = world.scene();
    let (yes, no) = ("id = 42", "id = 1");
    for (text, expected) in [
        (format!("{yes} AND {yes}"), true),
        (format!("{yes} AND {no}"), false),
        (format!("{no} OR {yes}"), true),
        (format!("{no} OR {no}"), false),
        (format!("{yes} OR {no} AND {no}"), true),
        (format!("({yes} OR {no}) AND {no}"), false),
        (format!("NOT {no} AND {yes}"), true),
        (format!("NOT ({yes} AND {no})"), true),
        (format!("NOT NOT {no}"), false),
    ] {
        let asked = query(&world.catalog, &text);
        assert_eq!((holds(&asked, &scene), traced(&asked, &scene).result), (expected, expected), "{text}");
    }
    let asked = query(
        &world.catalog,
        "Status = new AND (CF.{Severity} != 'low' OR NOT (Owner IS NULL)) AND Subject NOT LIKE 'x'",
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&traced(&asked, &scene)).unwrap());
}

#[test]
fn a_trace_keeps_so_many_nodes_and_counts_the_rest_which_count_all_the_same() {
    fn nodes(why: &Why) -> usize {
        1 + why.children.iter().map(nodes).sum::<usize>()
    }
    let world = World::of(full());
    let scene = world.scene();
    let many = |join: &str, count: usize, last: &str| {
        let tests: Vec<&str> = std::iter::repeat_n("Priority = 10", count - 1).chain([last]).collect();
        traced(&query(&world.catalog, &tests.join(join)), &scene)
    };
    let whole = many(" AND ", TRACE_MAX - 1, "id = 1");
    assert_eq!((nodes(&whole), whole.result, whole.reason), (TRACE_MAX, false, None));
    let one = many(" AND ", TRACE_MAX, "id = 1");
    assert_eq!((nodes(&one), one.result), (TRACE_MAX, false), "what is not shown decides");
    assert_eq!(one.reason.as_deref(), Some("1 more test is not shown"));
    let more = many(" AND ", 200, "id = 42");
    assert_eq!((nodes(&more), more.result), (TRACE_MAX, true));
    assert_eq!(more.reason.as_deref(), Some("137 more tests are not shown"));
    let nested = many(" AND ", TRACE_MAX - 1, "NOT (id = 42 OR id = 1)");
    assert_eq!((nodes(&nested), nested.result), (TRACE_MAX, false));
    assert_eq!(nested.reason.as_deref(), Some("2 more tests are not shown"));
}

#[test]
fn what_a_trace_shows_of_a_text_and_a_list_has_an_end() {
    let mut ticket = full();
    ticket.subject = "ü".repeat(TEXT_SHOWN + 1);
    let values = (0..LIST_SHOWN + 2).map(|n| n.to_string()).collect();
    ticket.values.insert(CustomFieldId(id(301)), values);
    let world = World::of(ticket);
    let scene = world.scene();
    let told = traced(&query(&world.catalog, &format!("Subject = '{}'", "x".repeat(500))), &scene);
    assert_eq!(told.actual, json!("ü".repeat(TEXT_SHOWN) + "..."));
    assert_eq!(told.expected.as_str().unwrap().len(), TEXT_SHOWN + 3);
    let told = traced(&query(&world.catalog, "CF.Components IS NULL"), &scene);
    assert_eq!(told.actual.as_array().unwrap().len(), LIST_SHOWN + 1);
    assert_eq!(told.actual[LIST_SHOWN], "and 2 more");
}

/// A change: its type, its readable field, old and new value, and its exact data.
fn made(
    kind: TransactionType,
    words: (Option<&str>, Option<&str>, Option<&str>),
    change: Change,
) -> Transaction {
    let word = |word: Option<&str>| word.map(str::to_owned);
    Transaction {
        id: TransactionId(id(2_000)),
        ticket: TicketId(id(1_000)),
        seq: None,
        transaction_type: kind,
        field: word(words.0),
        old_value: word(words.1),
        new_value: word(words.2),
        change,
        content: None,
        creator: UserId(id(12)),
        created_at: NOW,
        derived: false,
        caused_by: None,
        scrip_version: None,
        request: RequestId(id(3_000)),
        batch_seq: 0,
    }
}

fn status_change(old: &str, new: &str) -> Transaction {
    let change = Change::Status {
        old: old.to_owned(),
        new: new.to_owned(),
        old_class: StatusClass::Initial,
        class: StatusClass::Active,
        lifecycle_version: LifecycleVersionId(id(201)),
        mapped: false,
    };
    made(TransactionType::Status, (None, Some(old), Some(new)), change)
}

#[test]
fn changed_speaks_of_the_changes_at_hand_and_of_their_sides() {
    let role = Role::Requestor;
    let field = CustomFieldId(id(300));
    let owner = Change::Owner { old: None, new: Some(UserId(id(11))) };
    let events = [
        made(TransactionType::Create, (None, None, None), Change::Create(Box::new(full()))),
        status_change("new", "open"),
        made(TransactionType::Set, (Some("Owner"), Some("Nobody"), Some("ann")), owner),
        made(
            TransactionType::Set,
            (Some("Priority"), Some("5"), Some("10")),
            Change::Priority { old: 5, new: 10 },
        ),
        made(
            TransactionType::Set,
            (Some("Due"), None, Some("2026-11-23T10:00:00Z")),
            Change::Due { old: None, new: Some(NOW) },
        ),
        made(
            TransactionType::CustomField,
            (Some("Severity"), Some("low"), Some("high")),
            Change::CustomField { field, removed: Some("low".to_owned()), added: Some("high".to_owned()) },
        ),
        made(
            TransactionType::AddWatcher,
            (Some("Requestor"), None, Some("Eve")),
            Change::AddWatcher { role, watcher: watcher(1, Some(21), None) },
        ),
        made(
            TransactionType::DelWatcher,
            (Some("Cc"), Some("joe@example.net"), None),
            Change::DelWatcher { role: Role::Cc, watcher: watcher(4, None, Some("joe@example.net")) },
        ),
    ];
    let world = World::of(full());
    let scene = |changes| Scene {
        occasion: Some(Occasion { transaction: &events[0], changes, channel: "rest" }),
        ..world.scene()
    };
    let made = scene(&events[..1]);
    for text in
        ["Status CHANGED", "Owner CHANGED", "CF.Severity CHANGED", "Watcher CHANGED", "Priority CHANGED"]
    {
        assert_holds(&world.catalog, &made, text, false, Value::Null);
    }
    let (status, severity) = (json!("new -> open"), json!("low -> high"));
    let (owner, added, removed) =
        (json!("Nobody -> ann"), json!("nothing -> Eve"), json!("joe@example.net -> nothing"));
    let all = scene(&events);
    for (text, expected, found) in [
        ("Status CHANGED", true, &status),
        ("Changed.Status FROM 'NEW' TO open", true, &status),
        ("Status CHANGED FROM open", false, &status),
        ("Status CHANGED TO new", false, &status),
        ("Status CHANGED FROM __Active__", true, &status),
        ("Status CHANGED TO __Inactive__", false, &status),
        ("Owner CHANGED FROM Nobody TO ann", true, &owner),
        ("Owner CHANGED TO 'ann@desk.example'", true, &owner),
        ("Owner CHANGED TO __CurrentUser__", true, &owner),
        ("Owner CHANGED FROM __CurrentUser__", false, &owner),
        ("Owner CHANGED FROM ann", false, &owner),
        ("Priority CHANGED FROM 5 TO '10'", true, &json!("5 -> 10")),
        ("Priority CHANGED FROM 10", false, &json!("5 -> 10")),
        ("Due CHANGED", true, &json!("nothing -> 2026-11-23T10:00:00Z")),
        ("Started CHANGED", false, &Value::Null),
        ("Subject CHANGED", false, &Value::Null),
        ("Queue CHANGED FROM Support", false, &Value::Null),
        ("CF.Severity CHANGED FROM LOW TO HIGH", true, &severity),
        ("CF.Severity CHANGED FROM high", false, &severity),
        ("CF.Severity CHANGED TO low", false, &severity),
        ("CF.Note CHANGED", false, &Value::Null),
        ("Requestor CHANGED TO eve", true, &added),
        ("Requestor CHANGED TO 'EVE@desk.example'", true, &added),
        ("Requestor CHANGED FROM eve", false, &added),
        ("Requestor CHANGED FROM ''", true, &added),
        ("CF.Severity CHANGED TO ''", false, &severity),
        ("Cc CHANGED FROM 'joe@example.net'", true, &removed),
        ("Cc CHANGED TO 'joe@example.net'", false, &removed),
        ("Cc CHANGED TO ''", true, &removed),
        ("AdminCc CHANGED", false, &Value::Null),
        ("Watcher CHANGED FROM 'joe@example.net'", true, &json!([added, removed])),
    ] {
        assert_holds(&world.catalog, &all, text, expected, found.clone());
    }
    // FROM and TO must match the same change.
    let twice = [events[1].clone(), status_change("open", "stalled")];
    let found = json!(["new -> open", "open -> stalled"]);
    assert_holds(&world.catalog, &scene(&twice), "Status CHANGED FROM new TO stalled", false, found.clone());
    assert_holds(&world.catalog, &scene(&twice), "Status CHANGED FROM open TO stalled", true, found);
}

#[test]
fn the_transaction_at_hand_who_made_it_and_through_what_can_be_asked() {
    let mut world = World::of(full());
    world.ticket.updated_at = datetime!(2026-11-01 00:00 UTC);
    let content = Some(Content::plain("It burns again.".to_owned()));
    let comment =
        Transaction { content, ..made(TransactionType::Comment, (None, None, None), Change::Comment) };
    let change = Change::Priority { old: 5, new: 10 };
    let set = made(TransactionType::Set, (Some("Priority"), Some("5"), Some("10")), change);
    let on = |transaction, channel| Scene {
        occasion: Some(Occasion { transaction, changes: &[], channel }),
        ..world.scene()
    };
    let (burns, nothing) = (json!("It burns again."), Value::Null);
    for (scene, text, expected, found) in [
        (on(&comment, "rest"), "Transaction.Type = Comment", true, json!("Comment")),
        (on(&comment, "rest"), "Transaction.Type IN (Correspond, Create)", false, json!("Comment")),
        (on(&comment, "rest"), "Transaction.Type LIKE 'com'", true, json!("Comment")),
        (on(&set, "rest"), "Transaction.Type != Comment", true, json!("Set")),
        (on(&comment, "rest"), "Transaction.Content LIKE 'BURNS'", true, burns.clone()),
        (on(&comment, "rest"), "Transaction.Content MATCHES 'again burn*'", true, burns.clone()),
        (on(&comment, "rest"), "Transaction.Content MATCHES 'water'", false, burns),
        (on(&set, "rest"), "Transaction.Content IS NULL", true, nothing.clone()),
        (on(&set, "rest"), "Transaction.Field = priority", true, json!("Priority")),
        (on(&comment, "rest"), "Transaction.Field IS NULL", true, nothing.clone()),
        (on(&set, "rest"), "Transaction.OldValue < 6", true, json!("5")),
        (on(&set, "rest"), "Transaction.NewValue > 9", true, json!("10")),
        (on(&set, "rest"), "Transaction.NewValue = '5'", false, json!("10")),
        (on(&set, "rest"), "Transaction.OldValue < Transaction.NewValue", true, json!("5")),
        (on(&set, "rest"), "Transaction.OldValue = Transaction.NewValue", false, json!("5")),
        (on(&set, "rest"), "Transaction.NewValue = CF.{Severity}", false, json!("10")),
        (on(&set, "rest"), "Transaction.Field = Subject", false, json!("Priority")),
        (on(&comment, "rest"), "Transaction.NewValue != Transaction.OldValue", true, nothing.clone()),
        (on(&comment, "rest"), "Transaction.NewValue != 'x'", true, nothing),
        (on(&set, "rest"), "Channel = REST", true, json!("rest")),
        (on(&set, "cli"), "Channel = rest", false, json!("cli")),
        (on(&set, "rest"), "Actor = ann", true, json!("ann")),
        (on(&set, "rest"), "Actor = bob", false, json!("ann")),
        (on(&set, "rest"), "Actor = Owner", true, json!("ann")),
        (on(&set, "rest"), "Owner != Actor", false, json!("ann")),
        (on(&set, "rest"), "Actor.EmailAddress LIKE '@desk'", true, json!("ann@desk.example")),
        (on(&set, "rest"), "Actor = __CurrentUser__", true, json!("ann")),
        (on(&set, "rest"), "LastUpdatedBy = bob", true, json!("bob")),
        (on(&set, "rest"), "LastUpdated = now", true, json!("2026-11-23T10:00:00.123456Z")),
    ] {
        assert_holds(&world.catalog, &scene, text, expected, found);
    }
    let bytes = CONTENT_MAX - 5;
    let body = format!("start {}é water", " ".repeat(bytes - 7));
    let content = Some(Content::plain(format!("{body} burns")));
    let long = Transaction { content, ..comment.clone() };
    assert_eq!(body.find("water"), Some(CONTENT_MAX - 3));
    for (text, expected) in [
        ("Transaction.Content MATCHES 'start'", true),
        ("Transaction.Content LIKE 'é wat'", true),
        ("Transaction.Content LIKE 'water'", false),
        ("Transaction.Content MATCHES 'burns'", false),
        ("Transaction.Content NOT MATCHES 'burns'", true),
    ] {
        let why = traced(&query(&world.catalog, text), &on(&long, "rest"));
        assert_eq!(why.result, expected, "{text}");
    }
    let scene = Scene { last_updated_by: Some(ADMIN_USER), ..on(&set, "rest") };
    let found = json!("bob");
    assert_holds(&world.catalog, &scene, "LastUpdatedBy = admin", false, found);
}
