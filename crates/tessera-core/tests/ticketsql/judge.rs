//! A slow and obvious evaluation of TicketSQL on the raw rows, which shares no code with the resolver and the two back ends.

use crate::calendar::{rt_second, stretch};
use crate::read::{Node, Test, Word, read};
use serde_json::Value;
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// All tickets as PostgreSQL has them, with the rows that belong to them.
const ROWS: &str = "
    SELECT to_jsonb(t) || jsonb_build_object(
        'queue', q.name, 'lifecycle', l.name, 'lifecycle_id', l.id, 'lists', l.definition, 'owner', to_jsonb(o), 'creator', to_jsonb(c),
        'last', (SELECT to_jsonb(u) FROM transactions x JOIN users u ON u.id = x.creator_id WHERE x.ticket_id = t.id AND x.seq = t.version),
        'watchers', (SELECT jsonb_agg(to_jsonb(w) || jsonb_build_object('user', to_jsonb(u)))
                     FROM ticket_watchers w LEFT JOIN users u ON u.id = w.user_id WHERE w.ticket_id = t.id),
        'values', (SELECT jsonb_agg(jsonb_build_object('field', f.name, 'value', v.value))
                   FROM custom_field_values v JOIN custom_fields f ON f.id = v.custom_field_id WHERE v.ticket_id = t.id),
        'history', (SELECT jsonb_agg(to_jsonb(x) || jsonb_build_object('user', to_jsonb(u), 'body', b.body))
                    FROM transactions x JOIN users u ON u.id = x.creator_id
                    LEFT JOIN transaction_contents b ON b.transaction_id = x.id WHERE x.ticket_id = t.id))
    FROM tickets t JOIN queues q ON q.id = t.queue_id JOIN lifecycles l ON l.id = q.lifecycle_id
    JOIN users c ON c.id = t.creator_id LEFT JOIN users o ON o.id = t.owner_id
    ORDER BY t.number";

/// The tickets, and the user, time and time zone of a search.
#[derive(Clone)]
pub struct Judge {
    pub rows: Vec<Value>,
    /// The user who searches.
    pub asker: String,
    pub now: OffsetDateTime,
    pub zone: String,
    pub is_rt: bool,
}

/// A person of a ticket, as far as known.
#[derive(Debug, Default)]
struct Somebody {
    name: Option<String>,
    address: Option<String>,
    id: Option<String>,
}

impl Judge {
    pub async fn of(pool: &PgPool, asker: &str, now: OffsetDateTime) -> Self {
        let rows = sqlx::query_scalar(ROWS).fetch_all(pool).await.unwrap();
        Self { rows, asker: asker.to_owned(), now, zone: "UTC".to_owned(), is_rt: false }
    }

    /// Returns the numbers of the matching tickets in order.
    pub fn find(&self, query: &str) -> Vec<i64> {
        let node = read(query, self.is_rt);
        let shows_deleted = node.as_ref().is_some_and(names_deleted);
        let is_found = |row: &&Value| {
            (shows_deleted || row["status"] != "deleted")
                && node.as_ref().is_none_or(|node| self.holds(node, row))
        };
        self.rows.iter().filter(is_found).map(|row| row["number"].as_i64().unwrap()).collect()
    }

    fn holds(&self, node: &Node, row: &Value) -> bool {
        match node {
            Node::Not(inner) => !self.holds(inner, row),
            Node::Any(members) => members.iter().any(|member| self.holds(member, row)),
            Node::Test(test) => self.passes(test, row),
            Node::All(members) => {
                let (history, others): (Vec<&Node>, Vec<&Node>) =
                    members.iter().partition(|member| is_of_history(member));
                let one = |transaction: &&Value| {
                    history.iter().all(|member| match member {
                        Node::Test(test) => self.transaction_passes(test, transaction),
                        _ => unreachable!(),
                    })
                };
                others.iter().all(|member| self.holds(member, row))
                    && (history.is_empty() || history_of(row).any(|x| one(&x)))
            }
        }
    }

    fn passes(&self, test: &Test, row: &Value) -> bool {
        self.is_so(test, row) != test.is_negated
    }

    /// The test without its NOT.
    fn is_so(&self, test: &Test, row: &Value) -> bool {
        let field = test.field[0].to_lowercase();
        match field.as_str() {
            "id" => self.is_id(test, row),
            "priority" => number(test, row, row["priority"].as_i64().unwrap()),
            "subject" | "cf" | "customfield" | "customfieldvalue" if other_texts(test, row).is_some() => {
                let others = other_texts(test, row).unwrap();
                let own = texts(&test.field, row).unwrap();
                own.iter().any(|own| others.iter().any(|other| compares(&test.op, own, other)))
            }
            "subject" => text(test, row["subject"].as_str().unwrap()),
            "status" => is_status(test, row),
            "queue" => is_named(test, &row["queue"], &row["queue_id"]),
            "lifecycle" => is_named(test, &row["lifecycle"], &row["lifecycle_id"]),
            "owner" | "creator" | "lastupdatedby" => self.is_person(test, &field, row),
            "requestor" | "requestors" | "cc" | "admincc" | "watcher" | "watchers" => {
                let role = match field.as_str() {
                    "requestor" | "requestors" => "requestor",
                    "cc" => "cc",
                    "admincc" => "admin_cc",
                    _ => "",
                };
                let people = watchers(role, row);
                match test.values.first().and_then(|word| people_named(word, row)) {
                    Some(others) => people.iter().any(|one| others.iter().any(|other| is_same(one, other))),
                    None => self.any_of(&people, test, true),
                }
            }
            "created" | "lastupdated" | "started" | "due" | "resolved" | "told" => self.is_date(test, row),
            "cf" | "customfield" | "customfieldvalue" => {
                let name = test.field.last().unwrap().to_lowercase();
                let values = list(&row["values"])
                    .iter()
                    .filter(|value| value["field"].as_str().unwrap().to_lowercase() == name);
                let is_blank = test.op == "=" && test.values[0].plain().trim().is_empty();
                values.clone().any(|value| text(test, value["value"].as_str().unwrap()))
                    || ((test.op == "NULL" || is_blank) && values.count() == 0)
            }
            "content" | "historycontent" => {
                let bodies = list(&row["history"]).iter().filter_map(|one| one["body"].as_str());
                bodies.chain(row["subject"].as_str()).any(|one| text(test, one))
            }
            "updated" | "updatedby" => history_of(row).any(|one| self.transaction_passes(test, one)),
            other => panic!("no field {other}"),
        }
    }

    fn transaction_passes(&self, test: &Test, transaction: &Value) -> bool {
        match test.field[0].to_lowercase().as_str() {
            "updated" => test.op != "NULL" && self.is_when(test, time(&transaction["created_at"]).unwrap()),
            _ => self.any_of(&[somebody(&transaction["user"])], test, false),
        }
    }

    fn is_id(&self, test: &Test, row: &Value) -> bool {
        let id = row["id"].as_str().unwrap();
        let is_own = |word: &Word| word.plain().to_lowercase() == id;
        let is_equal = ["=", "IN"].contains(&test.op.as_str());
        (is_equal && test.values.iter().any(is_own)) || number(test, row, row["number"].as_i64().unwrap())
    }

    fn is_person(&self, test: &Test, field: &str, row: &Value) -> bool {
        let of = |name: &str| match name.to_lowercase().as_str() {
            "owner" => Some(&row["owner"]),
            "creator" => Some(&row["creator"]),
            "lastupdatedby" => Some(&row["last"]),
            _ => None,
        };
        let own = of(field).unwrap();
        if let Some(others) = test.values.first().and_then(|word| people_named(word, row))
            && test.values[0].name().is_none_or(|name| of(&name[0]).is_none())
        {
            return !own.is_null() && others.iter().any(|other| is_same(&somebody(own), other));
        }
        if let Some([other]) = test.values.first().and_then(Word::name)
            && let Some(other) = of(other)
        {
            return !own.is_null() && own["id"] == other["id"];
        }
        let is_nobody = |word: &Word| word.plain().to_lowercase() == "nobody";
        if field == "owner" && ["=", "IN"].contains(&test.op.as_str()) && own.is_null() {
            return test.values.iter().any(is_nobody);
        }
        let people: Vec<Somebody> =
            Some(own).filter(|own| !own.is_null()).map(somebody).into_iter().collect();
        self.any_of(&people, test, false)
    }

    fn any_of(&self, people: &[Somebody], test: &Test, is_role: bool) -> bool {
        let part = test.field.get(1).map(|part| part.to_lowercase());
        let part = part.as_deref();
        let has = |one: &&Somebody| match part {
            Some("name") => one.name.is_some(),
            Some("emailaddress") => one.address.is_some(),
            Some("id") => one.id.is_some(),
            _ => true,
        };
        if test.op == "NULL" {
            return people.iter().filter(has).count() == 0;
        }
        people.iter().any(|one| {
            if ["=", "IN"].contains(&test.op.as_str()) {
                return test
                    .values
                    .iter()
                    .any(|word| self.is_called(one, &word.plain().to_lowercase(), part));
            }
            let looked_at = match part {
                Some("name") => &one.name,
                Some("emailaddress") => &one.address,
                _ if is_role => &one.address,
                _ => &one.name,
            };
            looked_at.as_ref().is_some_and(|looked_at| text(test, looked_at))
        })
    }

    fn is_called(&self, one: &Somebody, word: &str, part: Option<&str>) -> bool {
        let is = |known: &Option<String>| known.as_deref() == Some(word);
        if word == "__currentuser__" {
            return one.name.as_deref() == Some(&self.asker.to_lowercase());
        }
        is(&one.id)
            || (part.is_none_or(|part| part == "name") && is(&one.name))
            || (part.is_none_or(|part| part == "emailaddress") && is(&one.address))
    }

    fn is_date(&self, test: &Test, row: &Value) -> bool {
        let Some(own) = date(&test.field[0], row).unwrap() else { return test.op == "NULL" };
        if test.is_rt && test.op == ">" && test.values[0].plain() == "0" {
            return true;
        }
        match test.values.first().and_then(Word::name).and_then(|name| date(&name[0], row)) {
            Some(other) => other.is_some_and(|other| ordered(&test.op, &own, &other)),
            None => test.op != "NULL" && self.is_when(test, own),
        }
    }

    fn is_when(&self, test: &Test, own: OffsetDateTime) -> bool {
        let is_equal = ["=", "IN"].contains(&test.op.as_str());
        let read = |word: &Word| {
            let text = match (test.is_rt, is_equal) {
                (true, true) => format!("day of {}", word.plain()),
                (true, false) => return rt_second(&word.plain(), self.now, &self.zone),
                (false, _) => word.plain(),
            };
            stretch(&text, self.now, &self.zone)
        };
        let stretches: Vec<_> =
            test.values.iter().map(|word| read(word).is_before(own, &self.zone)).collect();
        let (is_before, is_before_end) = stretches[0];
        match test.op.as_str() {
            "=" | "IN" => stretches.iter().any(|(is_before, is_before_end)| !is_before && *is_before_end),
            "<" => is_before,
            "<=" => is_before_end,
            ">" => !is_before_end,
            ">=" => !is_before,
            "BETWEEN" => !is_before && stretches[1].1,
            other => panic!("{other} of a date"),
        }
    }
}

fn names_deleted(node: &Node) -> bool {
    match node {
        Node::All(members) | Node::Any(members) => members.iter().any(names_deleted),
        Node::Not(inner) => names_deleted(inner),
        Node::Test(test) => {
            test.field[0].eq_ignore_ascii_case("status")
                && ["=", "IN"].contains(&test.op.as_str())
                && test.values.iter().any(|word| word.plain().to_lowercase() == "deleted")
        }
    }
}

/// Only positive tests apply to the same transaction; a negated test means that no transaction passes it.
fn is_of_history(node: &Node) -> bool {
    matches!(node, Node::Test(test) if !test.is_negated && ["updated", "updatedby"].contains(&test.field[0].to_lowercase().as_str()))
}

/// The people of a role; `""` = of all roles.
fn watchers(role: &str, row: &Value) -> Vec<Somebody> {
    list(&row["watchers"])
        .iter()
        .filter(|watcher| role.is_empty() || watcher["role"] == role)
        .map(|watcher| match watcher["address"].as_str() {
            Some(address) => Somebody { address: Some(address.to_lowercase()), ..Somebody::default() },
            None => somebody(&watcher["user"]),
        })
        .collect()
}

/// The people in the field that a value names; `None` = it names no such field.
fn people_named(word: &Word, row: &Value) -> Option<Vec<Somebody>> {
    let [name] = word.name()? else { return None };
    let one = |person: &Value| if person.is_null() { Vec::new() } else { vec![somebody(person)] };
    Some(match name.to_lowercase().as_str() {
        "owner" => one(&row["owner"]),
        "creator" => one(&row["creator"]),
        "lastupdatedby" => one(&row["last"]),
        "requestor" => watchers("requestor", row),
        "cc" => watchers("cc", row),
        "admincc" => watchers("admin_cc", row),
        "watcher" => watchers("", row),
        _ => return None,
    })
}

/// The same user, or the same address without a user.
fn is_same(one: &Somebody, other: &Somebody) -> bool {
    if one.id.is_none() && other.id.is_none() { one.address == other.address } else { one.id == other.id }
}

/// The texts in a field; `None` = it is no field of texts.
fn texts(name: &[String], row: &Value) -> Option<Vec<String>> {
    match name[0].to_lowercase().as_str() {
        "subject" if name.len() == 1 => Some(vec![row["subject"].as_str().unwrap().to_owned()]),
        "cf" if name.len() > 1 => {
            let field = name.last().unwrap().to_lowercase();
            let values = list(&row["values"]).iter();
            let values = values.filter(|value| value["field"].as_str().unwrap().to_lowercase() == field);
            Some(values.map(|value| value["value"].as_str().unwrap().to_owned()).collect())
        }
        _ => None,
    }
}

/// The texts in the field that the value names.
fn other_texts(test: &Test, row: &Value) -> Option<Vec<String>> {
    if !["=", "<", "<=", ">", ">="].contains(&test.op.as_str()) {
        return None;
    }
    match &test.values[0] {
        Word::Name(name) => texts(name, row),
        Word::Text(text) if test.is_rt && text.to_lowercase().starts_with("cf.{") => {
            texts(&["cf".to_owned(), text[4..text.len() - 1].to_owned()], row)
        }
        _ => None,
    }
}

fn compares(op: &str, own: &str, other: &str) -> bool {
    match (decimal(own), decimal(other)) {
        (Some(own), Some(other)) if op != "=" => ordered(op, &own, &other),
        _ => ordered(op, caseless(own).as_bytes(), caseless(other).as_bytes()),
    }
}

/// The numbered transactions, which exclude records of sent mail.
fn history_of(row: &Value) -> impl Iterator<Item = &Value> {
    list(&row["history"]).iter().filter(|one| !one["seq"].is_null())
}

fn list(rows: &Value) -> &[Value] {
    rows.as_array().map_or(&[], Vec::as_slice)
}

fn somebody(user: &Value) -> Somebody {
    let lower = |member: &str| user[member].as_str().map(str::to_lowercase);
    Somebody { name: lower("username"), address: lower("email"), id: lower("id") }
}

fn time(value: &Value) -> Option<OffsetDateTime> {
    value.as_str().map(|text| OffsetDateTime::parse(text, &Rfc3339).unwrap())
}

/// The date in a field; `None` = the field is not a date.
pub fn date(name: &str, row: &Value) -> Option<Option<OffsetDateTime>> {
    let column = match name.to_lowercase().as_str() {
        "created" => "created_at",
        "lastupdated" => "updated_at",
        "started" => "started_at",
        "due" => "due_at",
        "resolved" => "resolved_at",
        "told" => "told_at",
        _ => return None,
    };
    Some(time(&row[column]))
}

fn ordered<T: PartialOrd + ?Sized>(op: &str, own: &T, other: &T) -> bool {
    match op {
        "=" | "IN" => own == other,
        "<" => own < other,
        "<=" => own <= other,
        ">" => own > other,
        ">=" => own >= other,
        other => panic!("{other} of an order"),
    }
}

fn number(test: &Test, row: &Value, own: i64) -> bool {
    let value = |word: &Word| match word.plain().to_lowercase().as_str() {
        "id" => row["number"].as_i64(),
        "priority" => row["priority"].as_i64(),
        "low" if test.is_rt => Some(0),
        "medium" if test.is_rt => Some(50),
        "high" if test.is_rt => Some(100),
        digits => digits.parse().ok(),
    };
    let values: Vec<Option<i64>> = test.values.iter().map(value).collect();
    match test.op.as_str() {
        "BETWEEN" => values[0].unwrap() <= own && own <= values[1].unwrap(),
        op => values.iter().flatten().any(|value| ordered(op, &own, value)),
    }
}

fn is_status(test: &Test, row: &Value) -> bool {
    let own = row["status"].as_str().unwrap();
    let is_in =
        |lists: &[&str]| lists.iter().any(|name| list(&row["lists"][*name]).iter().any(|one| one == own));
    match test.op.as_str() {
        "=" | "IN" => test.values.iter().any(|word| match word.plain().to_lowercase().as_str() {
            "__active__" => is_in(&["initial", "active"]),
            "__inactive__" => is_in(&["inactive"]),
            word => word == own.to_lowercase(),
        }),
        _ => own != "deleted" && text(test, own),
    }
}

/// A test of an object with a name and an id.
fn is_named(test: &Test, name: &Value, id: &Value) -> bool {
    let is_id = |word: &Word| id.as_str() == Some(&word.plain().to_lowercase());
    (["=", "IN"].contains(&test.op.as_str()) && test.values.iter().any(is_id))
        || text(test, name.as_str().unwrap())
}

/// A test of an existing text.
fn text(test: &Test, own: &str) -> bool {
    let folded = caseless(own);
    let value = |at: usize| caseless(&test.values[at].plain());
    let is_number = |at: usize| matches!(test.values[at], Word::Number(_));
    match test.op.as_str() {
        "NULL" => false,
        "=" | "IN" => (0..test.values.len()).any(|at| value(at) == folded),
        "LIKE" | "STARTSWITH" | "ENDSWITH" if test.is_rt => {
            rt_like(&test.op, &test.values[0].plain(), &folded)
        }
        "LIKE" | "STARTSWITH" | "ENDSWITH" => like(&test.op, &test.values[0].pattern(), &folded),
        "MATCHES" => matches(&value(0), own),
        "BETWEEN" if is_number(0) => decimal(own)
            .is_some_and(|own| decimal(&value(0)).unwrap() <= own && own <= decimal(&value(1)).unwrap()),
        "BETWEEN" => value(0).as_bytes() <= folded.as_bytes() && folded.as_bytes() <= value(1).as_bytes(),
        op if is_number(0) => decimal(own).is_some_and(|own| ordered(op, &own, &decimal(&value(0)).unwrap())),
        op => ordered(op, folded.as_bytes(), value(0).as_bytes()),
    }
}

/// A number of at most 18 digits, a point and 9 more, in billionths.
pub fn decimal(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let fits = |digits: &str, most: usize| {
        (1..=most).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit())
    };
    if !fits(whole, 18) || !fits(part, 9) {
        return None;
    }
    let billionths = format!("{whole}{part:0<9}").parse::<i128>().unwrap();
    Some(if text.starts_with('-') { -billionths } else { billionths })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece {
    One,
    Any,
    Char(char),
}

/// The pieces of a pattern, in which a wildcard is itself unless the pattern has them.
fn pieces(pattern: &str, has_wildcards: bool) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let pattern = pattern.replace("e\u{301}", "é");
    let mut chars = pattern.chars();
    let plain = |c: char| caseless(&c.to_string()).chars().map(Piece::Char).collect::<Vec<_>>();
    while let Some(c) = chars.next() {
        match c {
            '\\' => pieces.extend(plain(chars.next().unwrap_or('\\'))),
            '%' if has_wildcards => pieces.push(Piece::Any),
            '_' if has_wildcards => pieces.push(Piece::One),
            c => pieces.extend(plain(c)),
        }
    }
    pieces
}

fn like(op: &str, pattern: &str, folded: &str) -> bool {
    let pieces = pieces(pattern, op == "LIKE");
    let is_plain = !pieces.iter().any(|piece| matches!(piece, Piece::One | Piece::Any));
    let is_within = op == "LIKE" && is_plain;
    fits_with(pieces, op == "ENDSWITH" || is_within, op == "STARTSWITH" || is_within, folded)
}

/// In RT, every pattern has wildcards and matches anywhere.
fn rt_like(op: &str, pattern: &str, folded: &str) -> bool {
    fits_with(pieces(pattern, true), op != "STARTSWITH", op != "ENDSWITH", folded)
}

/// Returns true if a pattern fits a text, after anything and before anything.
fn fits_with(mut pieces: Vec<Piece>, is_open_before: bool, is_open_after: bool, folded: &str) -> bool {
    if is_open_before {
        pieces.insert(0, Piece::Any);
    }
    if is_open_after {
        pieces.push(Piece::Any);
    }
    fits(&pieces, &folded.chars().collect::<Vec<_>>())
}

fn fits(pieces: &[Piece], text: &[char]) -> bool {
    match pieces {
        [] => text.is_empty(),
        [Piece::Any, rest @ ..] => (0..=text.len()).any(|skipped| fits(rest, &text[skipped..])),
        [Piece::One, rest @ ..] => !text.is_empty() && fits(rest, &text[1..]),
        [Piece::Char(c), rest @ ..] => text.first() == Some(c) && fits(rest, &text[1..]),
    }
}

/// Evaluates MATCHES.
fn matches(asked: &str, text: &str) -> bool {
    let own = words(text);
    let mut rest = asked.trim();
    while !rest.is_empty() {
        let is_wanted = !rest.starts_with('-');
        let from = rest.trim_start_matches('-');
        let (term, is_prefix) = match from.strip_prefix('"') {
            Some(quoted) => {
                let (phrase, after) = quoted.split_once('"').unwrap();
                rest = after.trim_start();
                (phrase, false)
            }
            None => {
                let end = from.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(from.len());
                rest = from[end..].trim_start();
                (from[..end].trim_end_matches('*'), from[..end].ends_with('*'))
            }
        };
        let term = words(term);
        let is_last = |at: usize| at + 1 == term.len();
        let is_at = |start: usize| {
            (0..term.len()).all(|at| {
                own.get(start + at).is_some_and(|word| {
                    word == &term[at] || (is_prefix && is_last(at) && word.starts_with(&term[at]))
                })
            })
        };
        if !term.is_empty() && (0..own.len()).any(is_at) != is_wanted {
            return false;
        }
    }
    true
}

/// A text in lower case, with the letters of the dice that have more than one form in one of them.
pub fn caseless(text: &str) -> String {
    let lower = text.to_lowercase().replace('ς', "σ").replace('ß', "ss").replace('ﬁ', "fi");
    lower.replace("e\u{301}", "é")
}

/// The words of a text: runs of letters and digits; each Chinese or Japanese character is a word.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in caseless(text).chars() {
        let is_mark = ('\u{300}'..='\u{36f}').contains(&c);
        if matches!(c, '\u{3005}'..='\u{312f}' | '\u{4e00}'..='\u{9fff}') && c.is_alphanumeric() {
            words.extend([c.to_string(), String::new()]);
        } else if c.is_alphanumeric() || is_mark {
            words.last_mut().unwrap().push(c);
        } else {
            words.push(String::new());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
