//! Random desks and random queries, the same for the same seed.

use crate::desk::{Desk, TicketRow};
use std::collections::BTreeMap;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

/// Pieces of texts: letters with unusual folding, wildcards, quotes, numbers.
const PIECES: [&str; 39] = [
    "a", "A", "b", "%", "_", "\\", "É", "é", "ß", "SS", "İ", "i", "i\u{307}", "ΟΔΟΣ", "οδος", "οδοσ", "Σ",
    "日本", "日", "'", "\"", " ", "10", "9", "-1", "1.50", "007", "1e3", "print", "Printer", "er", ",", "😀",
    "null", "ǅ", "ﬁ", "K", "-", "e\u{301}",
];
const ADDRESSES: [&str; 8] = [
    "eve@example.net",
    "EVE@example.net",
    "a_b@example.com",
    "axb@example.com",
    "a%b@Example.com",
    "ü@exämple.net",
    "ops@example.com",
    "o'hara@example.com",
];
const WHOLE: [&str; 20] = [
    "Printer on fire",
    "printer",
    "",
    "low",
    "HIGH",
    "Critical",
    "web",
    "mail",
    "db_core",
    "dbxcore",
    "a%b",
    "ab",
    "a\\b",
    "ΟΔΟΣ",
    "日本",
    "10",
    "9",
    "10.0",
    "-3",
    "1234567890123456789",
];
const DATES: [&str; 40] = [
    "now",
    "today",
    "yesterday",
    "tomorrow",
    "2 days ago",
    "in 3 hours",
    "a week ago",
    "5 months ago",
    "in 1 year",
    "90 minutes ago",
    "beginning of this week",
    "end of last month",
    "beginning of last year",
    "end of this year",
    "start of today",
    "end of this hour",
    "beginning of this minute",
    "2026-03-29",
    "2026-03-28",
    "2025-10-26",
    "2026-02-28",
    "2026-03-29 02:30",
    "2025-10-26 02:30",
    "2025-10-26 02:00:00",
    "2025-10-26 02:59:59",
    "2025-10-26 03:00",
    "day of 2025-10-26 02:30",
    "day of 2 days ago",
    "day of 2026-03-28T23:30Z",
    "2026-03-29T01:00Z",
    "2026-03-29 03:00:00",
    "2026-03-29 01:00:00.000001Z",
    "2025-10-26 01:00:00+00:00",
    "2026-03-30 12:30:15,5 +02:00",
    "2026-01-01",
    "2025-12-31 23:59:59",
    "9000-12-31",
    "0001-01-01",
    "2024-02-29",
    "beginning of next month",
];

/// A generator of pseudo-random numbers.
pub struct Dice {
    seed: u64,
    /// The ids of the tickets of the generated desk.
    tickets: Vec<String>,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { seed, tickets: Vec::new() }
    }

    fn roll(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(end).unwrap()).unwrap()
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.once_in(3)).then(|| make(self))
    }

    fn several<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn text(&mut self) -> String {
        if self.once_in(3) {
            self.one(&WHOLE).to_owned()
        } else {
            self.several(3, |dice| dice.one(&PIECES)).concat()
        }
    }

    // A desk --------------------------------------------------------------------------------------------------------

    /// The fixed desk with other tickets.
    pub fn desk(&mut self, tickets: usize) -> Desk {
        let mut desk = Desk::fixed();
        let numbers = 1..=i64::try_from(tickets).unwrap();
        desk.tickets = numbers.map(|number| self.ticket(&desk, number)).collect();
        self.tickets = desk.tickets.iter().map(|ticket| ticket.id().to_string()).collect();
        desk
    }

    fn ticket(&mut self, desk: &Desk, number: i64) -> TicketRow {
        let queues: Vec<&String> = desk.queues.keys().collect();
        let queue = self.one(&queues).clone();
        let lists = &desk.lifecycles[&desk.queues[&queue]];
        let statuses = [lists.initial.as_slice(), &lists.active, &lists.inactive].concat();
        let created = self.moment();
        let mut history: Vec<Vec<String>> = self.several(3, |dice| {
            let kind = dice.one(&["Comment", "Correspond", "Status", "EmailRecord"]).to_owned();
            let mut line = vec![dice.moment(), dice.user(desk), kind];
            if line[2].starts_with("Co") {
                line.push(dice.text());
            }
            line
        });
        history.sort();
        TicketRow {
            number,
            queue,
            subject: self.text(),
            status: self.one(&statuses),
            owner: self.some(|dice| dice.user(desk)),
            creator: self.user(desk),
            priority: i32::try_from(self.below(8)).unwrap() - 3,
            // Dates of a ticket are often equal, so that = finds something.
            started: self.some(|dice| if dice.once_in(4) { created.clone() } else { dice.moment() }),
            due: self.some(|dice| if dice.once_in(4) { created.clone() } else { dice.moment() }),
            told: self.some(Self::moment),
            resolved: self.some(Self::moment),
            created,
            requestors: self.people(desk),
            cc: self.people(desk),
            admin_cc: self.people(desk),
            fields: self.values(desk),
            says: self.some(Self::text),
            history,
        }
    }

    fn user(&mut self, desk: &Desk) -> String {
        desk.users[self.below(desk.users.len())].username.clone()
    }

    fn people(&mut self, desk: &Desk) -> Vec<String> {
        let mut people =
            self.several(
                3,
                |dice| if dice.once_in(2) { dice.user(desk) } else { dice.one(&ADDRESSES).to_owned() },
            );
        people.sort();
        people.dedup();
        people
    }

    fn values(&mut self, desk: &Desk) -> BTreeMap<String, Vec<String>> {
        let mut fields = BTreeMap::new();
        for field in &desk.fields {
            let mut values = self.several(3, Self::text);
            values.retain(|value| !value.trim().is_empty());
            values.sort();
            values.dedup();
            fields.insert(field.name.clone(), values);
        }
        fields
    }

    /// A moment, often one of a few, or close to a change of the clocks.
    fn moment(&mut self) -> String {
        let base = self.one(&[
            datetime!(2026-03-29 01:00 UTC),
            datetime!(2025-10-26 01:00 UTC),
            datetime!(2025-10-26 00:30 UTC),
            datetime!(2025-10-26 01:30 UTC),
            datetime!(2026-03-30 10:30:15.5 UTC),
            datetime!(2026-01-01 00:00 UTC),
            datetime!(2026-02-28 23:30 UTC),
        ]);
        let minutes = if self.once_in(2) { 0 } else { i64::try_from(self.below(6_000)).unwrap() - 3_000 };
        let micros = self.one(&[0, 0, 1, -1]);
        let at: OffsetDateTime = base + Duration::minutes(minutes) + Duration::microseconds(micros);
        at.format(&Rfc3339).unwrap()
    }

    // A query -------------------------------------------------------------------------------------------------------

    /// A query of at most this depth. Without `history`, it contains only tests that memory can evaluate.
    pub fn query(&mut self, depth: usize, history: bool) -> String {
        if depth == 0 || self.once_in(4) {
            return self.test(history);
        }
        let inner = |dice: &mut Self| dice.query(depth - 1, history);
        match self.below(6) {
            0 => format!("NOT {}", inner(self)),
            1 => format!("NOT ({})", inner(self)),
            2 => format!("({})", inner(self)),
            3 => format!("{} OR {}", inner(self), inner(self)),
            4 => format!("({} OR {}) AND {}", inner(self), inner(self), inner(self)),
            _ => format!("{} AND {}", inner(self), inner(self)),
        }
    }

    fn test(&mut self, history: bool) -> String {
        match self.below(if history { 11 } else { 8 }) {
            0 => self.number(),
            1 => {
                let field = self.one(&["Status", "Queue", "Lifecycle"]);
                self.enumeration(field)
            }
            2 => self.texts("Subject", true, false),
            3 => self.person(),
            4 => self.role(),
            5 => {
                let field = self.one(&["Created", "LastUpdated", "Started", "Due", "Resolved", "Told"]);
                self.date(field, true)
            }
            6 | 7 => {
                let field =
                    self.one(&["Severity", "Components", "Note", "Amount", "Tags", "Room No.", "From"]);
                self.texts(&format!("CF.{{{field}}}"), false, true)
            }
            8 => self.date("Updated", false),
            9 => {
                let field = self.one(&["UpdatedBy", "UpdatedBy.Name", "UpdatedBy.EmailAddress"]);
                self.named(field, false)
            }
            _ => self.content(),
        }
    }

    fn number(&mut self) -> String {
        let (field, other) = self.one(&[("Priority", "id"), ("id", "Priority"), ("Priority", "id")]);
        let number = |dice: &mut Self| i64::try_from(dice.below(9)).unwrap() - 3;
        match self.below(6) {
            0 => format!("{field} {}IN ({}, {}, '{}')", self.not(), number(self), number(self), number(self)),
            1 => format!("{field} {}BETWEEN {} AND {}", self.not(), number(self), number(self)),
            2 => format!("{field} {} {other}", self.sign()),
            3 => format!("id {} '{}'", self.one(&["=", "!="]), self.one(&self.tickets.clone())),
            _ => format!("{field} {} {}", self.sign(), number(self)),
        }
    }

    fn enumeration(&mut self, field: &str) -> String {
        let values: &[&str] = match field {
            "Status" => &[
                "new",
                "'open'",
                "STALLED",
                "resolved",
                "'Paid'",
                "deleted",
                "waiting",
                "__Active__",
                "'__inactive__'",
            ],
            "Queue" => &["Support", "'billing'", "\"r&d LAB's\"", "'00000000-0000-7000-8000-200000000000'"],
            _ => &["default", "'BILLING'", "'00000000-0000-7000-8000-500000000001'"],
        };
        let one = |dice: &mut Self| dice.one(values);
        match self.below(4) {
            0 => format!("{field} {}IN ({}, {})", self.not(), one(self), one(self)),
            1 => format!(
                "{field} {}{} '{}'",
                self.not(),
                self.like(),
                self.one(&["e", "%e%", "re", "b_lling", "de", "%d", "s", "R&D"])
            ),
            _ => format!("{field} {} {}", self.one(&["=", "!="]), one(self)),
        }
    }

    fn texts(&mut self, field: &str, has_words: bool, is_ordered: bool) -> String {
        let value = |dice: &mut Self| {
            let text = dice.text();
            dice.quoted(&text)
        };
        if self.once_in(8) {
            let sign = if is_ordered { self.sign() } else { self.one(&["=", "!="]) };
            let others =
                ["Subject", "CF.{Tags}", "CF.{Amount}", "CF.note", "CF.Billing.{Tags}", "CF.{Room No.}"];
            return format!("{field} {sign} {}", self.one(&others));
        }
        if is_ordered && self.once_in(20) {
            return format!("{field} {} '{}'", self.one(&["=", "!="]), self.one(&["", " "]));
        }
        match self.below(if is_ordered { 10 } else { 6 }) {
            // A list of values of a custom field has no empty one.
            0 if is_ordered => {
                let value = |dice: &mut Self| {
                    let text = format!("{}a", dice.text());
                    let text =
                        if dice.once_in(2) { text } else { dice.one(&["low", "HIGH", "10", "b"]).to_owned() };
                    dice.quoted(&text)
                };
                format!("{field} {}IN ({}, {})", self.not(), value(self), value(self))
            }
            0 => format!("{field} {}IN ({}, {})", self.not(), value(self), value(self)),
            1 | 2 => format!("{field} {} {}", self.one(&["=", "!="]), value(self)),
            3 if has_words => format!("{field} {}MATCHES {}", self.not(), self.words()),
            3..=5 => format!("{field} {}{} {}", self.not(), self.like(), self.pattern()),
            6 => format!("{field} IS {}NULL", self.not()),
            7 => format!("{field} {} {}", self.sign(), value(self)),
            8 => format!(
                "{field} {} {}",
                self.sign(),
                self.one(&["9", "10", "-1", "1.5", "+7", "0.000000001"])
            ),
            _ if self.once_in(2) => {
                format!("{field} {}BETWEEN {} AND {}", self.not(), value(self), value(self))
            }
            _ => format!(
                "{field} {}BETWEEN {} AND {}",
                self.not(),
                self.one(&["-3", "1.5"]),
                self.one(&["9", "10.00"])
            ),
        }
    }

    fn person(&mut self) -> String {
        let field = self.one(&["Owner", "Creator", "LastUpdatedBy"]);
        if self.once_in(6) {
            let other = self.one(&["Owner", "Creator", "LastUpdatedBy", "Requestor", "AdminCc", "Watcher"]);
            if other != field {
                return format!("{field} {} {other}", self.one(&["=", "!="]));
            }
        }
        if self.once_in(6) {
            return format!("Owner {}IN (Nobody, ann)", self.not());
        }
        let field = format!("{field}{}", self.one(&["", "", ".Name", ".EmailAddress"]));
        self.named(&field, true)
    }

    fn role(&mut self) -> String {
        let field = self.one(&["Requestor", "Cc", "AdminCc", "Watcher"]);
        if self.once_in(5) {
            let other = self.one(&["Owner", "Creator", "LastUpdatedBy", "Requestor", "Cc", "Watcher"]);
            if other != field {
                return format!("{field} {} {other}", self.one(&["=", "!="]));
            }
        }
        if self.once_in(2) {
            let addresses = [&ADDRESSES[..], &["nobody@nowhere.example", "Ann@desk.EXAMPLE"]].concat();
            let one = |dice: &mut Self| {
                let address = dice.one(&addresses);
                dice.quoted(address)
            };
            let field = format!("{field}{}", self.one(&["", ".EmailAddress"]));
            return if self.once_in(3) {
                format!("{field} {}IN ({}, {})", self.not(), one(self), one(self))
            } else {
                format!("{field} {} {}", self.one(&["=", "!="]), one(self))
            };
        }
        let field = format!("{field}{}", self.one(&["", ".Name", ".EmailAddress"]));
        self.named(&field, true)
    }

    /// A value that every part of a person accepts.
    fn named(&mut self, field: &str, may_be_unset: bool) -> String {
        let known: &[&str] = if field.ends_with(".EmailAddress") {
            &[
                "'ANN@desk.example'",
                "'bob@desk.example'",
                "'jörg@EXÄMPLE.org'",
                "'eve@example.net'",
                "__CurrentUser__",
            ]
        } else {
            &[
                "ann",
                "'BOB'",
                "dan",
                "'Jörg'",
                "eve",
                "'fay'",
                "'mia@example.org'",
                "__CurrentUser__",
                "'00000000-0000-7000-8000-300000000003'",
            ]
        };
        let one = |dice: &mut Self| dice.one(known);
        match self.below(if may_be_unset { 6 } else { 5 }) {
            0 => format!("{field} {}IN ({}, {})", self.not(), one(self), one(self)),
            1 | 2 => {
                let pattern = self.one(&[
                    "an",
                    "a",
                    "%b",
                    "j_rg",
                    "@example.",
                    "a\\\\_b",
                    "a\\\\%",
                    "example",
                    "%@desk%",
                    "e",
                    "é",
                    "ü",
                ]);
                format!("{field} {}{} '{}'", self.not(), self.like(), pattern.replace("\\\\", "\\"))
            }
            5 => format!("{field} IS {}NULL", self.not()),
            _ => format!("{field} {} {}", self.one(&["=", "!="]), one(self)),
        }
    }

    fn date(&mut self, field: &str, may_be_unset: bool) -> String {
        let one = |dice: &mut Self| format!("'{}'", dice.one(&DATES));
        match self.below(if may_be_unset { 8 } else { 6 }) {
            0 => format!("{field} {}IN ({}, {})", self.not(), one(self), one(self)),
            1 => format!("{field} {}BETWEEN {} AND {}", self.not(), one(self), one(self)),
            6 => format!("{field} IS {}NULL", self.not()),
            7 => format!(
                "{field} {} {}",
                self.sign(),
                self.one(&["Created", "LastUpdated", "Started", "Due", "Resolved", "Told"])
            ),
            _ => format!("{field} {} {}", self.sign(), one(self)),
        }
    }

    fn content(&mut self) -> String {
        if self.once_in(3) {
            // PostgreSQL folds the bodies of messages, and must do so as Tessera does.
            let pattern = self.one(&[
                "'a'",
                "'%A'",
                "'_'",
                "'print'",
                "'日'",
                "'\\\\'",
                "'\\%'",
                "'printer%'",
                "\"'\"",
                "'é'",
                "'e\u{301}'",
                "'SS'",
                "'ß'",
                "'İ'",
                "'ΟΔΟΣ'",
                "'FI'",
                "'10'",
            ]);
            return format!("Content {}{} {pattern}", self.not(), self.like());
        }
        format!("Content {}MATCHES {}", self.not(), self.words())
    }

    fn words(&mut self) -> String {
        self.one(&[
            "'print'",
            "'print*'",
            "'Printer -fire'",
            "'a'",
            "'ΟΔΟΣ'",
            "'οδοσ'",
            "'\"on fire\"'",
            "'日'",
            "'日本'",
            "'10 9'",
            "'é*'",
            "'a b'",
            "'i\u{307}*'",
            "'1.50'",
        ])
        .to_owned()
    }

    /// Fields to order by, and whether each is descending.
    pub fn order(&mut self) -> Vec<(String, bool)> {
        const FIELDS: [&str; 20] = [
            "id",
            "Subject",
            "status",
            "Queue",
            "Lifecycle",
            "PRIORITY",
            "Owner",
            "Creator",
            "LastUpdatedBy",
            "Created",
            "LastUpdated",
            "Started",
            "Due",
            "Resolved",
            "Told",
            "CF.{Severity}",
            "CF.{Tags}",
            "CF.Note",
            "CF.R&D Lab's.{Room No.}",
            "Owner.Name",
        ];
        let mut order: Vec<(String, bool)> =
            self.several(3, |dice| (dice.one(&FIELDS).to_owned(), dice.once_in(2)));
        order.sort_by_key(|(field, _)| field.replace(".Name", ""));
        order.dedup_by_key(|(field, _)| field.replace(".Name", ""));
        if order.len() > 1 && self.once_in(2) {
            order.reverse();
        }
        order
    }

    fn not(&mut self) -> &'static str {
        self.one(&["", "NOT "])
    }

    fn sign(&mut self) -> &'static str {
        self.one(&["=", "!=", "<", "<=", ">", ">="])
    }

    fn like(&mut self) -> &'static str {
        self.one(&["LIKE", "LIKE", "STARTSWITH", "ENDSWITH"])
    }

    /// A text written so that it is literal.
    fn quoted(&mut self, text: &str) -> String {
        let quote = self.one(&["'", "\""]);
        format!("{quote}{}{quote}", text.replace('\\', "\\\\").replace(quote, &format!("\\{quote}")))
    }

    /// A text whose `%` and `_` are wildcards or escaped, at random.
    fn pattern(&mut self) -> String {
        let mut text = self.text().replace('\\', "\\\\").replace('\'', "\\'");
        if self.once_in(3) {
            text = text.replace('%', "\\%").replace('_', "\\_");
        }
        let around = self.one(&[("", ""), ("%", ""), ("", "%"), ("%", "%"), ("_", "%")]);
        format!("'{}{text}{}'", around.0, around.1)
    }
}
