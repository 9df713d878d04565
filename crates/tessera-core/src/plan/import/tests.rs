//! Tables of lines with the tickets they become, and of invalid lines with their faults.

use super::*;
use crate::error::Fault;
use crate::models::user::SYSTEM_USER;
use crate::models::{Change, Role, StatusClass, Ticket, TransactionType, User, UserId};
use crate::plan::tests::{Desk, id, user};
use crate::plan::{Catalog, People};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

/// A line with only the required members, plus `more`; members that are null in `more` are removed.
fn line(more: Value) -> Vec<u8> {
    let mut line = json!({"queue": "Support", "subject": "Printer", "status": "open", "creator": "ann",
        "created_at": "2020-01-01T10:00:00Z"});
    for (name, value) in more.as_object().unwrap() {
        line.as_object_mut().unwrap().insert(name.clone(), value.clone());
    }
    line.to_string().into_bytes()
}

/// The time of the imports.
const NOW: OffsetDateTime = datetime!(2026-11-23 10:00 UTC);

fn read_from(file: &str, at: u64, bytes: &[u8]) -> Result<Read, Vec<Fault>> {
    Read::of(file, at, bytes, NOW)
}

fn read(more: Value) -> Read {
    read_from("old.jsonl", 1, &line(more)).unwrap()
}

/// ann and bob can own tickets, eve cannot, and gone is disabled.
fn people() -> People {
    let gone = User { disabled: true, ..user(14, "gone", true) };
    let system = User { id: SYSTEM_USER, ..user(0, "tessera", false) };
    [user(11, "ann", true), user(12, "bob", true), user(13, "eve", false), gone, system].into_iter().collect()
}

fn rows(catalog: &Catalog, read: &Read) -> Result<Imported, Vec<Fault>> {
    let people = people();
    let checked = check(&read.line, catalog, &people, &Refused::new())?;
    checked.rows(read, 7, &people, id(900).into(), 1)
}

/// The faults of a line, each as `field: message`.
fn faults(more: Value) -> Vec<String> {
    let catalog = Desk::new().open();
    let faults = read_from("old.jsonl", 1, &line(more)).and_then(|read| rows(&catalog, &read)).unwrap_err();
    faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
}

#[test]
fn a_whole_line_becomes_a_ticket_with_people_values_and_a_history_that_ends_with_an_import() {
    let catalog = Desk::new().open();
    let read = read(json!({
        "number": 7, "status": "RESOLVED", "owner": "Bob@desk.example", "priority": 5,
        "requestors": ["eve", "EVE@desk.example", "Max@example.net"], "cc": ["Stranger <ann@desk.example>"], "admin_cc": null,
        "created_at": "2020-01-01T12:00:00.123456789+02:00", "due_at": "2020-02-01T00:00:00Z", "told_at": null,
        "started_at": "2020-01-02T00:00:00Z", "resolved_at": "2020-01-03T00:00:00Z",
        "custom_fields": {"severity": "HIGH", "Components": ["web", "mail", "web"], "Note": null},
        "transactions": [
            {"type": "Status", "created_at": "2020-01-03T00:00:00Z", "creator": "bob", "old_value": "new", "new_value": "resolved"},
            {"type": "create", "created_at": "2020-01-01T10:00:00Z", "creator": "eve", "content": "It burns.\u{1F525}"},
            {"type": "Set", "created_at": "2020-01-01T10:00:00Z", "creator": "tessera", "field": "Owner", "new_value": "bob", "content": ""}
        ]
    }));
    let Imported { ticket, values, transactions } = rows(&catalog, &read).unwrap();
    assert_eq!((ticket.number, ticket.version, ticket.priority), (Some(7), 4, 5));
    assert_eq!((ticket.status.as_str(), ticket.status_class), ("resolved", StatusClass::Inactive));
    assert_eq!((ticket.owner, ticket.creator), (Some(UserId(id(12))), UserId(id(11))));
    assert_eq!(ticket.created_at, datetime!(2020-01-01 10:00:00.123456 UTC));
    assert_eq!(ticket.updated_at, datetime!(2020-01-03 0:00 UTC), "that of its last transaction");
    assert_eq!((ticket.due_at, ticket.told_at), (Some(datetime!(2020-02-01 0:00 UTC)), None));
    let person = |role, at: usize| {
        let watcher = &ticket.watchers(role)[at];
        (watcher.user, watcher.address.as_deref())
    };
    assert_eq!((ticket.requestors.len(), ticket.cc.len(), ticket.admin_cc.len()), (2, 1, 0));
    assert_eq!(person(Role::Requestor, 0), (Some(UserId(id(13))), None), "an address of a user is the user");
    assert_eq!(person(Role::Requestor, 1), (None, Some("Max@example.net")));
    assert_eq!(person(Role::Cc, 0).0, Some(UserId(id(11))), "found by the address");
    let said: Vec<_> = values.iter().map(|(_, field, value)| (field.0, value.as_str())).collect();
    assert_eq!(said, [(id(300), "high"), (id(301), "web"), (id(301), "mail")]);

    let history: Vec<_> = transactions.iter().map(|one| (one.seq, one.transaction_type.as_str())).collect();
    assert_eq!(history, [(Some(1), "Create"), (Some(2), "Set"), (Some(3), "Status"), (Some(4), "Import")]);
    assert_eq!(transactions[0].content.as_ref().unwrap().body, "It burns.\u{1F525}");
    assert!(transactions[1].content.is_none(), "no text is no message");
    assert!(transactions[..3].iter().all(|one| one.change == Change::Imported && !one.starts_pass()));
    assert!(!TransactionType::Import.is_activating());
    assert_eq!(transactions[3].created_at, ticket.updated_at);
    assert_eq!(transactions[3].creator, UserId(id(12)), "bob changed it last");
    let folded = Ticket::fold(transactions.iter().map(|one| (&one.change, one.seq.unwrap(), one.created_at)));
    assert_eq!(folded.as_ref(), Some(&ticket));
    assert_eq!(Ticket::fold(transactions[..3].iter().map(|one| (&one.change, 1, one.created_at))), None);
    let words = &read.content_words;
    assert!(words[0].contains("burns") && words[1].is_empty(), "{words:?}");
}

#[test]
fn ids_carry_the_times_of_the_line_and_sort_by_them() {
    let catalog = Desk::new().open();
    let at = |seconds: u8| json!({"type": "Comment", "created_at": format!("2020-01-01T10:00:{seconds:02}Z"), "creator": "ann"});
    let read = read(json!({"transactions": [at(5), at(0), at(5), at(9)]}));
    let Imported { ticket, transactions, .. } = rows(&catalog, &read).unwrap();
    let millis = |id: Uuid| id.as_u128() >> 80;
    let seconds: Vec<u128> =
        transactions.iter().map(|one| (millis(one.id.0) - millis(ticket.id.0)) / 1_000).collect();
    assert_eq!(seconds, [0, 5, 5, 9, 9]);
    let mut ids: Vec<Uuid> = transactions.iter().map(|one| one.id.0).collect();
    assert!(ids.is_sorted());
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[test]
fn a_line_with_nothing_but_what_it_must_have_is_a_ticket() {
    let catalog = Desk::new().open();
    let all_null = json!({"number": null, "owner": null, "requestors": null, "priority": null, "custom_fields": null,
        "transactions": null, "updated_at": null});
    for more in [json!({}), all_null, json!({"owner": "nobody"})] {
        let Imported { ticket, values, transactions } = rows(&catalog, &read(more)).unwrap();
        assert_eq!((ticket.owner, ticket.priority, ticket.version), (None, 0, 1));
        assert_eq!((values.len(), transactions.len()), (0, 1));
        assert_eq!(ticket.updated_at, ticket.created_at);
    }
    let before = json!({"owner": "gone", "created_at": "2020-01-01T10:00:00.9Z", "updated_at": "2020-01-01T10:00:00Z"});
    let gone = rows(&catalog, &read(before)).unwrap();
    assert_eq!(gone.ticket.owner, Some(UserId(id(14))), "who left owns what she owned");
    assert_eq!(gone.ticket.updated_at, datetime!(2020-01-01 10:00 UTC), "as given");
    assert_eq!(gone.transactions[0].created_at, gone.ticket.created_at, "a history reads forwards");
}

#[test]
fn what_is_no_line_is_told_with_the_place_and_what_would_be_right() {
    let told = |text: &str| {
        let faults = read_from("old.jsonl", 1, text.as_bytes()).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        format!("{}: {}", faults[0].field, faults[0].message)
    };
    let object = "line: is not a JSON object; every line must be one, such as {\"queue\": …, \"subject\": …}";
    for text in ["", "42", "[\"Support\"]", "null", "\u{feff}{}"] {
        assert_eq!(told(text), object, "{text}");
    }
    assert_eq!(told("{\"queue\": \"a\""), "line: is not JSON: EOF while parsing an object, at byte 13");
    assert_eq!(told("{} {}"), "queue: missing field `queue`");
    let whole = String::from_utf8(line(json!({}))).unwrap();
    assert_eq!(
        told(&format!("{whole} {{}}")),
        format!("line: is not JSON: trailing characters, at byte {}", whole.len() + 2)
    );
    let cases = [
        (json!({"creator": null}), "creator: invalid type: null, expected a string"),
        (
            json!({"Subject": "x"}),
            "Subject: unknown field `Subject`, expected one of `number`, `queue`, `subject`",
        ),
        (json!({"number": "7"}), "number: invalid type: string \"7\", expected i64"),
        (json!({"number": 1.5}), "number: invalid type: floating point `1.5`, expected i64"),
        (
            json!({"priority": 3_000_000_000_u32}),
            "priority: invalid value: integer `3000000000`, expected i32",
        ),
        (
            json!({"created_at": "yesterday"}),
            "created_at: \"yesterday\" is not a time; write 2026-11-23T10:00:00Z",
        ),
        (json!({"due_at": "9999-12-31T23:59:59-01:00"}), "due_at: is outside the years 1 to 9999 in UTC"),
        (
            json!({"custom_fields": ["a"]}),
            "custom_fields: invalid type: sequence, expected an object with a member for each field, or null",
        ),
        (
            json!({"custom_fields": {"Note": 7}}),
            "custom_fields.Note: invalid type: integer `7`, expected a text, a list of texts, or null",
        ),
        (
            json!({"custom_fields": {"Note": [null]}}),
            "custom_fields.Note[0]: invalid type: null, expected a string",
        ),
        (json!({"transactions": [{}]}), "transactions[0].type: missing field `type`"),
        (
            json!({"transactions": [{"type": "Set", "created_at": "2020-01-01T00:00:00Z", "creator": "ann", "text": 1}]}),
            "transactions[0].text: unknown field `text`, expected one of `type`, `created_at`",
        ),
    ];
    for (more, expected) in cases {
        let said = told(std::str::from_utf8(&line(more)).unwrap());
        assert!(said.starts_with(expected), "{said}\n{expected}");
    }
}

#[test]
fn what_a_line_says_and_cannot_be_is_told_all_at_once() {
    let all = faults(
        json!({"number": 0, "subject": "a\nb", "creator": "Nobody", "requestors": ["ann <no>"], "cc": [" "]}),
    );
    assert_eq!(
        all,
        [
            "number: is not a valid ticket number; ticket numbers are 1 to 1000000000000",
            "creator: Nobody means no owner, so it cannot name a person",
            "subject: contains a line break or another control character; it must be one line",
            "requestors[0]: \"no\" is not a mail address; write a username, an address, or Eve Moore <eve@example.net>",
            "cc[0]: \"\" is empty; a name has 1 to 200 bytes",
        ]
    );
    let past = |more: Value| {
        let mut past = json!({"type": "Set", "created_at": "2020-01-01T00:00:00Z", "creator": "ann"});
        past.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        faults(json!({"transactions": [past]}))
    };
    let types = "the types are \"Create\", \"Status\", \"Set\", \"Correspond\", \"Comment\", \"CustomField\", \"AddWatcher\", \
                 \"DelWatcher\", \"EmailRecord\", \"CommentEmailRecord\", \"WebhookDelivery\", \"ConnectorDelivery\", \
                 \"DeliveryFailed\" and \"SystemError\"";
    for kind in ["Import", "Told"] {
        let expected = format!("transactions[0].type: \"{kind}\" is not a transaction type; {types}");
        assert_eq!(past(json!({"type": kind})), [expected]);
    }
    let nul = "contains the character U+0000, which cannot be stored; remove it";
    assert_eq!(past(json!({"content": "a\u{0}b"})), [format!("transactions[0].content: {nul}")]);
    assert_eq!(past(json!({"new_value": "\u{0}"})), [format!("transactions[0].new_value: {nul}")]);
    let html = "transactions[0].content_type: \"text/markdown\" is not a supported content type; use text/plain or text/html";
    assert_eq!(past(json!({"content_type": "text/markdown"})), [html]);
    let many = vec!["a@example.net"; 201];
    assert_eq!(faults(json!({"cc": many})), ["cc: names 201 people; at most 200 are allowed"]);
    let twice = read_from("f", 1, br#"{"queue":"Support","subject":"S","status":"open","creator":"ann","created_at":"2020-01-01T00:00:00Z","custom_fields":{"Note":"a","note":"b"}}"#);
    assert_eq!(twice.unwrap_err()[0].message, "occurs twice (names ignore case); remove one");
}

#[test]
fn what_the_desk_does_not_have_is_told_with_what_it_has() {
    let cases = [
        (
            json!({"queue": "Nowhere"}),
            "queue: there is no queue \"Nowhere\"; existing queues: \"Support\" and \"Billing\". Create it, or use --create-missing",
        ),
        (
            json!({"queue": "Billing", "status": "resolved"}),
            "status: \"resolved\" is not a status of the queue \"Billing\", which has \"waiting\", \"open\" and \"paid\"",
        ),
        (
            json!({"owner": "zoe"}),
            "owner: there is no user \"zoe\"; create a privileged user, or use --create-missing",
        ),
        (
            json!({"owner": "eve"}),
            "owner: eve cannot own tickets: only privileged users can. Make this user privileged, or use --create-missing",
        ),
        (
            json!({"creator": "zoe"}),
            "creator: \"zoe\" is not a user, and creating one failed; create the user manually",
        ),
        (json!({"cc": ["tessera"]}), "cc: tessera is the system user and cannot watch a ticket"),
        (
            json!({"custom_fields": {"Severity": "huge"}}),
            "custom_fields.Severity: \"huge\" is not a value of \"Severity\"; valid values are \"low\" and \"high\"",
        ),
        (
            json!({"custom_fields": {"Note": ["a", "b"]}}),
            "custom_fields.Note: \"Note\" allows at most 1 value, and this would make 2; to allow more, set its max_values to 0",
        ),
        (
            json!({"custom_fields": {"Nope": null}}),
            "custom_fields.Nope: there is no custom field \"Nope\"; the queue \"Support\" has \"Severity\", \"Components\" and \"Note\". Create it, or use --create-missing",
        ),
        (
            json!({"queue": "Billing", "custom_fields": {"Note": "x"}}),
            "custom_fields.Note: is not attached to the queue \"Billing\"; attach it, or use --create-missing",
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(faults(more), [expected]);
    }
}

#[test]
fn what_is_missing_is_named_once_whatever_its_case() {
    let (catalog, people) = (Desk::new().open(), people());
    let mut missing = Missing::default();
    missing.add(&read(json!({})).line, &catalog, &people, &HashSet::new());
    assert!(missing.is_empty(), "{missing:?}");
    for more in [
        json!({"queue": "Old", "owner": "Zoe <zoe@example.net>", "custom_fields": {"Colour": "red", "Note": "x"}}),
        json!({"queue": "OLD", "owner": "zoe", "custom_fields": {"COLOUR": ["red"]}}),
        json!({"queue": "Billing", "owner": "eve", "custom_fields": {"Severity": "low", "Note": null}}),
        json!({"owner": "tessera"}),
    ] {
        missing.add(&read(more).line, &catalog, &people, &HashSet::new());
    }
    let names = |map: &std::collections::BTreeMap<String, String>| map.values().cloned().collect::<Vec<_>>();
    assert_eq!(names(&missing.queues), ["Old"]);
    assert_eq!(missing.fields["colour"], ("Colour".to_owned(), true), "a list once is a list");
    assert_eq!(missing.fields.len(), 1);
    assert_eq!(missing.queue_fields["old"], ["Colour", "Note"]);
    assert_eq!(missing.queue_fields["billing"], ["Note"]);
    let agents: Vec<_> =
        missing.agents.values().map(|(name, address)| (name.as_str(), address.as_deref())).collect();
    assert_eq!(agents, [("eve", None), ("zoe", None), ("Zoe", Some("zoe@example.net"))]);
    let refused = Refused::from([(Thing::Queue("old".to_owned()), "it is too late".to_owned())]);
    let told = check(&read(json!({"queue": "Old"})).line, &catalog, &people, &refused).unwrap_err();
    assert_eq!(told[0].message, "could not be created: it is too late");
}

#[test]
fn a_key_is_the_number_or_else_the_file_the_line_and_its_place() {
    let key = |file: &str, at: u64, more: Value| read_from(file, at, &line(more)).unwrap().key;
    let numbered = key("a", 1, json!({"number": 7}));
    assert_eq!(numbered.key, 7_i64.to_be_bytes());
    assert_eq!(numbered, key("b", 2, json!({"number": 7})));
    let other = key("a", 1, json!({"number": 7, "priority": 1}));
    assert!(other.key == numbered.key && other.line != numbered.line);
    let without = key("a", 1, json!({}));
    assert_eq!(without, key("a", 1, json!({})));
    for other in [key("b", 1, json!({})), key("a", 2, json!({})), key("a", 1, json!({"priority": 1}))] {
        assert_ne!(other.key, without.key);
    }
}

#[test]
fn the_number_of_a_line_is_seen_ahead_where_the_line_can_be_read() {
    let ahead = |more: Value| number_of(&line(more), NOW);
    assert_eq!(ahead(json!({"number": 7})), Some(7));
    assert_eq!(ahead(json!({"number": NUMBER_MAX})), Some(NUMBER_MAX));
    assert_eq!(ahead(json!({"number": null})), None);
    assert_eq!(ahead(json!({"number": NUMBER_MAX + 1})), None);
    assert_eq!(ahead(json!({"number": 7, "subject": " "})), None, "a bad line moves nothing");
    assert_eq!(number_of(br#"{"number": 7}"#, NOW), None);
    assert_eq!(number_of(b"[7", NOW), None);
}

#[test]
fn what_has_happened_did_not_happen_in_the_future() {
    let past = json!([{"type": "Comment", "created_at": "2062-01-01T00:00:00Z", "creator": "ann"}]);
    let cases = [
        (json!({"created_at": "2062-01-01T00:00:00Z"}), "created_at"),
        (json!({"updated_at": "2026-11-23T10:05:00.000001Z"}), "updated_at"),
        (json!({"transactions": past}), "transactions[0].created_at"),
    ];
    for (more, place) in cases {
        let expected = "is in the future; write a time in the past";
        assert_eq!(faults(more), [format!("{place}: {expected}")]);
    }
    let soon = read(json!({"updated_at": "2026-11-23T10:05:00Z", "due_at": "2062-01-01T00:00:00Z"}));
    assert_eq!(
        soon.line.updated_at,
        Some(NOW + AHEAD_MAX),
        "clocks differ a little, and what is due is due later"
    );
}

#[test]
fn a_time_that_cannot_be_is_told_with_its_member() {
    let (ahead, before, first) = ("is in the future", "is before created_at", "is before 1970-01-02");
    let cases = [
        (json!({"resolved_at": "2010-01-01T00:00:00Z"}), "resolved_at", before),
        (json!({"updated_at": "2010-01-01T00:00:00Z"}), "updated_at", before),
        (json!({"started_at": "2020-01-01T09:59:59Z"}), "started_at", before),
        (json!({"told_at": "2020-01-01T10:00:00+01:00"}), "told_at", before),
        (json!({"resolved_at": "2099-01-01T00:00:00Z"}), "resolved_at", ahead),
        (json!({"started_at": "2099-01-01T00:00:00Z"}), "started_at", ahead),
        (json!({"told_at": "2099-01-01T00:00:00Z"}), "told_at", ahead),
        (json!({"created_at": "1970-01-01T00:00:00Z"}), "created_at", first),
        (json!({"created_at": "0001-01-01T00:00:00Z"}), "created_at", first),
        (json!({"due_at": "1969-12-31T23:59:59Z"}), "due_at", first),
        (json!({"due_at": "1970-01-01T00:00:00+01:00"}), "due_at", first),
        (json!({"due_at": "1904-01-01T00:00:00Z"}), "due_at", first),
        (json!({"due_at": "2020-02-30T00:00:00Z"}), "due_at", "is not a time"),
        (json!({"due_at": "2020-02-03T00:00:00"}), "due_at", "with its offset from UTC"),
        (json!({"due_at": "2020-02-03T24:00:00Z"}), "due_at", "is not a time"),
        (json!({"due_at": "2020-02-03T10:00:00+25:00"}), "due_at", "is not a time"),
    ];
    for (more, place, message) in cases {
        let told = faults(more);
        assert!(
            told.len() == 1 && told[0].starts_with(&format!("{place}: ")) && told[0].contains(message),
            "{told:?}"
        );
    }
    // RT writes a date that is not set so, in whatever time zone; and a leap second is the end of its minute.
    let unset = read(json!({"due_at": "1970-01-01T00:00:00Z", "started_at": "1970-01-01T01:00:00+01:00",
        "resolved_at": "1970-01-01T00:00:00.000Z", "told_at": "1969-12-31T19:00:00-05:00", "updated_at": "1970-01-01T00:00:00Z"}));
    let Line { due_at, started_at, resolved_at, told_at, updated_at, .. } = unset.line;
    assert_eq!([due_at, started_at, resolved_at, told_at, updated_at], [None; 5]);
    read(json!({"created_at": "2016-12-31T23:59:60Z"}));
}

#[test]
fn a_person_is_read_as_mail_programs_write_one() {
    let named = |word: &str| {
        let who = Who::parse(word).unwrap_or_else(|error| panic!("{word}: {error}"));
        (who.username.into_owned(), who.address.map(|address| address.into_owned()), who.is_bare)
    };
    let address = || Some("jane@example.net".to_owned());
    for bare in ["jane@example.net", " <jane@example.net> ", "\"\" <jane@example.net>", "jane@example.net ()"]
    {
        assert_eq!(named(bare), ("jane@example.net".to_owned(), address(), true), "{bare}");
    }
    for (word, name) in [
        ("Jane Doe <jane@example.net>", "Jane Doe"),
        ("Jane<jane@example.net>", "Jane"),
        ("\"Doe, Jane\" <jane@example.net>", "Doe, Jane"),
        (r#""Jane \"JD\" Doe" <jane@example.net>"#, "Jane \"JD\" Doe"),
        (r#""back\\slash" <jane@example.net>"#, r"back\slash"),
        ("Jane (the other (one)) Doe <jane@example.net>", "Jane Doe"),
        ("jane@example.net (Jane Doe)", "Jane Doe"),
        ("J. Doe < jane@example.net >", "J. Doe"),
        ("\"jane@work\" <jane@example.net>", "jane@work"),
        ("jane@example.net <jane@example.net>", "jane@example.net"),
        ("Ju\u{308}rgen <jane@example.net>", "J\u{fc}rgen"),
        ("\u{a0}Jane\u{3000}Doe <jane@example.net>", "Jane Doe"),
    ] {
        assert_eq!(named(word), (name.to_owned(), address(), false), "{word}");
    }
    for username in ["ann", "Doe, Jane", "old hand", "jdoe (left)", r"DOMAIN\ann", "O'Hara"] {
        assert_eq!(named(username), (username.to_owned(), None, false));
    }
    for (word, message) in [
        ("a@example.net, b@example.net", "several people"),
        ("Jane <a@example.net>, Bob <b@example.net>", "several people"),
        ("a@example.net; b@example.net", "several people"),
        ("Doe, Jane <jane@example.net>", "put a name with a comma in quotes"),
        ("undisclosed-recipients:;", "several people"),
        ("jane5..x@example.net", "is not a mail address"),
        ("jane6@", "is not a mail address"),
        ("@example.net", "is not a mail address"),
        ("jane@example.net bob@example.net", "is not a mail address"),
        ("Jane <jane>", "is not a mail address"),
        ("Jane <>", "is not a mail address"),
        ("Jane <<jane@example.net>>", "without its beginning"),
        ("Jane <jane@example.net", "lacks the >"),
        ("\"Jane <jane@example.net>", "lacks the \""),
        ("jane@example.net (Jane", "lacks the )"),
        ("Jane> jane@example.net", "without its beginning"),
        ("Nobody <jane@example.net>", "means no owner"),
        ("Ja\u{202e}ne <jane@example.net>", "U+202E"),
    ] {
        let told = Who::parse(word).map(|who| format!("{who:?}")).unwrap_err();
        assert!(told.contains(message), "{word}: {told}");
    }
    for name in ["ann", "Doe, Jane", "a (b) c", "\"", r"a\b", "two  spaces", "x@y", "<"] {
        let written = Who::named(name, "jane@example.net");
        assert_eq!(named(&written), (name.to_owned(), address(), false), "{written}");
    }
}

#[test]
fn people_are_told_apart_by_their_addresses() {
    let mute = User { email: None, ..user(15, "mute", false) };
    let people: People = people().iter().cloned().chain([mute]).collect();
    let found = |word: &str| Who::parse(word).unwrap().find(&people).map(|user| user.username.clone());
    assert_eq!(found("Ann <ann@desk.example>").as_deref(), Some("ann"));
    assert_eq!(found("Stranger <ANN@desk.example>").as_deref(), Some("ann"));
    assert_eq!(found("ann <ann@elsewhere.example>"), None, "somebody else of that name");
    assert_eq!(found("ann").as_deref(), Some("ann"));
    assert_eq!(found("mute <mute@example.net>").as_deref(), Some("mute"), "nothing says otherwise");
    let catalog = Desk::new().open();
    let line = read(json!({"requestors": ["ann <ann@elsewhere.example>", "ann"]}));
    let checked = check(&line.line, &catalog, &people, &Refused::new()).unwrap();
    let refused = checked.rows(&line, 7, &people, id(900).into(), 1).unwrap_err();
    assert!(refused[0].message.contains("ann@elsewhere.example"), "{refused:?}");
    let line = read(json!({"cc": ["mute <mute@example.net>", "mute"]}));
    let checked = check(&line.line, &catalog, &people, &Refused::new()).unwrap();
    let cc = checked.rows(&line, 7, &people, id(900).into(), 1).unwrap().ticket.cc;
    assert_eq!(cc[0].address.as_deref(), Some("mute@example.net"), "the mail goes where the line says");
    assert_eq!(cc[1].user, Some(UserId(id(15))));
}

#[test]
fn whoever_changed_a_ticket_last_made_its_last_transaction() {
    let catalog = Desk::new().open();
    let last = |more: Value| rows(&catalog, &read(more)).unwrap().transactions.last().unwrap().creator;
    assert_eq!(last(json!({})), UserId(id(11)), "the creator");
    assert_eq!(last(json!({"updated_by": "Bob <bob@desk.example>"})), UserId(id(12)));
    let past = json!([{"type": "Set", "created_at": "2020-01-02T00:00:00Z", "creator": "eve"}]);
    assert_eq!(last(json!({"transactions": past})), UserId(id(13)));
    assert_eq!(last(json!({"transactions": past, "updated_by": "tessera"})), SYSTEM_USER);
    assert_eq!(faults(json!({"updated_by": "x@"}))[0].split(':').next(), Some("updated_by"));
}

#[test]
fn what_people_typed_is_composed_and_without_blanks_around_it() {
    let Imported { ticket, values, .. } = rows(
        &Desk::new().open(),
        &read(json!({"queue": " Support ", "subject": "\u{a0} Bu\u{308}ro ", "status": "open\n", "custom_fields": {" Note": " A1\t"}})),
    )
    .unwrap();
    assert_eq!(ticket.subject, "B\u{fc}ro");
    assert_eq!(values[0].2, "A1");
    assert_eq!(
        faults(json!({"subject": "\u{200b} "}))[0],
        "subject: is empty; lists show tickets by their subject"
    );
    assert_eq!(
        faults(json!({"custom_fields": {"Note": "  "}}))[0],
        "custom_fields.Note: is empty; use null to clear \"Note\""
    );
}

#[test]
fn bytes_that_are_not_utf_8_are_told_with_their_place() {
    let mut bytes = line(json!({}));
    bytes.truncate(bytes.len() - 1);
    bytes.extend(b", \"told_at\": \"\xfc\"}");
    let told = read_from("f", 1, &bytes).unwrap_err();
    assert!(told[0].message.starts_with("is not in UTF-8 from byte "), "{told:?}");
}

#[test]
fn whoever_becomes_a_user_has_a_name_that_a_user_may_have() {
    let long = |bytes: usize| {
        let labels = format!("{}.{}.{}", "b".repeat(60), "c".repeat(60), "d".repeat(60));
        format!("{}@{labels}", "a".repeat(bytes - labels.len() - 1))
    };
    let fault = "is 201 bytes long; at most 200 are allowed";
    let told = faults(json!({"creator": long(201)}));
    assert!(told[0].starts_with("creator: \"aaa") && told[0].ends_with(fault), "{told:?}");
    let past = json!([{"type": "Set", "created_at": "2020-01-01T00:00:00Z", "creator": long(201)}]);
    let told = faults(json!({"transactions": past}));
    assert!(told[0].starts_with("transactions[0].creator: ") && told[0].ends_with(fault), "{told:?}");
    let named = Who::named(&"n".repeat(200), &long(240));
    read(json!({"creator": named, "cc": [long(201)], "admin_cc": [Who::named("ann", &long(200))]}));
    let longest = format!("{}.{}@{}", "x", "y".repeat(62), long(240).split_once('@').unwrap().1);
    let longest = format!("{longest}.{}", "z".repeat(254 - longest.len() - 1));
    read(json!({"creator": Who::named(&"n".repeat(200), &longest)}));
}

#[test]
fn the_name_of_a_field_is_one_line_and_no_longer_than_a_name() {
    let told = faults(json!({"custom_fields": {"\u{1b}[2J": "x"}}));
    assert_eq!(
        told,
        [
            "custom_fields: \"\\u{1b}[2J\" contains a line break or another control character; it must be one line"
        ]
    );
    let told = faults(json!({"custom_fields": {"x".repeat(201): "x"}}));
    assert!(told[0].ends_with("is 201 bytes long; at most 200 are allowed"), "{told:?}");
}

#[test]
fn a_line_that_is_written_is_read_as_it_was() {
    let more = json!({"number": 9, "owner": "bob", "requestors": ["eve <eve@desk.example>"], "priority": -3,
        "due_at": "2020-02-01T00:00:00.5Z", "custom_fields": {"Note": "x", "Components": ["web"], "Severity": null},
        "transactions": [{"type": "Comment", "created_at": "2020-01-01T10:00:00Z", "creator": "ann", "content": "<b>",
                          "content_type": "text/html", "field": "f", "old_value": "o", "new_value": "\u{2028}"}]});
    let first = read(more).line;
    let text = serde_json::to_vec(&first).unwrap();
    assert_eq!(read_from("f", 1, &text).unwrap().line, first);
    let bare: Map<String, Value> =
        serde_json::from_slice(&serde_json::to_vec(&read(json!({})).line).unwrap()).unwrap();
    let members: Vec<&str> = bare.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["created_at", "creator", "priority", "queue", "status", "subject"],
        "and nothing that is not there"
    );
}
