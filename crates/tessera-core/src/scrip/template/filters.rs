//! Filters, functions and tests: a closed set, each with a limit on what it returns, and charged for what it reads.

use super::costs::{self, spend};
use super::{FILTERED_MAX, LIST_MAX};
use crate::models::steps::{COPIED, steps};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tera::{Error, Kwargs, State, Tera, TeraResult, Value};
use time::OffsetDateTime;
use time::format_description::{parse_strftime_owned, well_known::Rfc3339};

/// A filter, function or test, for the documentation and for the check at save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Its name.
    pub name: &'static str,
    /// The names of its arguments.
    pub arguments: &'static [&'static str],
    /// An example of its use.
    pub example: &'static str,
    /// A description for the documentation.
    pub doc: &'static str,
}

const fn offer(
    name: &'static str,
    arguments: &'static [&'static str],
    example: &'static str,
    doc: &'static str,
) -> Offered {
    Offered { name, arguments, example, doc }
}

/// Every filter. A filter of texts returns null for null, which prints as an empty text.
pub const FILTERS: &[Offered] = &[
    offer("append", &["text"], "queue.name | append(text=\"!\")", "Appends another text."),
    offer(
        "date",
        &["format", "timezone"],
        "ticket.due_at | date(format=\"%d.%m.%Y\")",
        "Formats a time with strftime codes, always in UTC; the default format is %Y-%m-%d %H:%M.",
    ),
    offer(
        "default",
        &["value", "boolean"],
        "ticket.due_at | default(value=\"no date\")",
        "Replaces null and undefined with another value; with boolean=true also empty, 0 and false.",
    ),
    offer("first", &[], "batch | first", "The first item of a list; null if the list is empty."),
    offer(
        "join",
        &["sep"],
        "cf[\"Components\"] | join(sep=\", \")",
        "Joins the items of a list into one text.",
    ),
    offer("json", &[], "ticket.cf | json", "The value as JSON, with texts in quotes."),
    offer("last", &[], "messages | last", "The last item of a list; null if the list is empty."),
    offer("length", &[], "batch | length", "The number of items in a list, or of characters in a text."),
    offer("lower", &[], "ticket.status | lower", "Converts to lower case."),
    offer("quote", &[], "transaction.content | quote", "Prefixes each line with \"> \", for replies."),
    offer(
        "replace",
        &["from", "to"],
        "ticket.queue | replace(from=\" \", to=\"-\")",
        "Replaces each \"from\" with \"to\".",
    ),
    offer("trim", &[], "transaction.content | trim", "Removes white space at both ends."),
    offer(
        "truncate",
        &["length", "end"],
        "ticket.subject | truncate(length=40)",
        "Cuts a text after the given number of characters (255) and marks the cut with \"...\" or \"end\".",
    ),
    offer("upper", &[], "ticket.status | upper", "Converts to upper case."),
    offer(
        "urlencode",
        &[],
        "ticket.subject | urlencode",
        "Percent-encodes for a URL, including /. Values in the URL of a webhook and in forms are encoded without it, and never twice.",
    ),
];

/// Every function.
pub const FUNCTIONS: &[Offered] = &[offer(
    "range",
    &["start", "end"],
    "range(end=3)",
    "The whole numbers from start (0) up to but not including end; at most 200.",
)];

/// Every test, for `is` and `is not`.
pub const TESTS: &[Offered] = &[
    offer(
        "containing",
        &["pat"],
        "ticket.subject is containing(pat=\"fire\")",
        "Holds if the text or the list contains the value.",
    ),
    offer(
        "defined",
        &[],
        "cf[\"Severity\"] is defined",
        "Holds if this ticket's queue has the field, with a value or null.",
    ),
    offer(
        "ending_with",
        &["pat"],
        "actor.email is ending_with(pat=\"example.com\")",
        "Holds if the text ends with the value.",
    ),
    offer("none", &[], "ticket.due_at is none", "Holds for null."),
    offer("number", &[], "ticket.number is number", "Holds for a number."),
    offer(
        "starting_with",
        &["pat"],
        "ticket.subject is starting_with(pat=\"Re:\")",
        "Holds if the text starts with the value.",
    ),
    offer("string", &[], "cf[\"Severity\"] is string", "Holds for a text."),
    offer(
        "undefined",
        &[],
        "cf[\"Severity\"] is undefined",
        "Holds if this ticket's queue has no such field.",
    ),
];

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes a value.
pub(super) fn percent(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Returns a text as a Tera literal.
pub(super) fn literal(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            _ if c.is_control() => quoted.push(' '),
            _ => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Returns the value of a quoted text.
pub(super) fn unquoted(quoted: &str) -> String {
    let mut inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or("").chars();
    let mut text = String::new();
    while let Some(c) = inside.next() {
        text.push(match c {
            '\\' => match inside.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => break,
            },
            _ => c,
        });
    }
    text
}

/// Registers everything above, and the filters that the scan inserts.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter("append", append);
    tera.register_filter("date", date);
    tera.register_filter("default", default);
    tera.register_filter("first", |list: &Value, _: Kwargs, _: &State| end_of(list, <[Value]>::first));
    tera.register_filter("join", join);
    tera.register_filter("json", |value: &Value, _: Kwargs, _: &State| json(value).map(Value::from));
    tera.register_filter("last", |list: &Value, _: Kwargs, _: &State| end_of(list, <[Value]>::last));
    tera.register_filter("length", length);
    tera.register_filter("lower", |value: &Value, _: Kwargs, _: &State| text(value, str::to_lowercase));
    tera.register_filter("quote", |value: &Value, _: Kwargs, _: &State| text(value, quote));
    tera.register_filter("replace", replace);
    tera.register_filter("trim", |value: &Value, _: Kwargs, _: &State| {
        text(value, |text| text.trim().to_owned())
    });
    tera.register_filter("truncate", truncate);
    tera.register_filter("upper", |value: &Value, _: Kwargs, _: &State| text(value, str::to_uppercase));
    tera.register_filter("urlencode", |value: &Value, _: Kwargs, _: &State| text(value, percent));
    tera.register_filter("each", each);
    tera.register_filter("show", show);
    tera.register_filter("json_inside", json_inside);
    tera.register_filter("json_value", json_value);
    tera.register_function("range", range);
}

/// Makes the filter `json` return text that is printed without escaping, for JSON.
pub(super) fn register_for_json(tera: &mut Tera) {
    tera.register_filter("json", |value: &Value, _: Kwargs, _: &State| {
        json(value).map(|json| Value::safe_string(&json))
    });
}

/// Makes the filter `urlencode` return text that is printed without encoding it again, for URLs and forms.
pub(super) fn register_for_urls(tera: &mut Tera) {
    tera.register_filter("urlencode", |value: &Value, _: Kwargs, _: &State| {
        let encoded = text(value, percent)?;
        Ok::<_, Error>(encoded.as_str().map(Value::safe_string).unwrap_or(encoded.clone()))
    });
}

/// Returns a value as Tera prints it. Lists and maps are errors.
fn plain(value: &Value) -> TeraResult<String> {
    if value.is_undefined() {
        return Err(Error::message("a value given to this filter is not defined"));
    }
    if value.is_array() || value.is_map() {
        return Err(Error::message("this is a list or has parts, but a text is required"));
    }
    costs::copying(value.as_str().unwrap_or_default())?;
    Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn bounded(text: String) -> TeraResult<String> {
    if text.len() <= FILTERED_MAX {
        return Ok(text);
    }
    Err(too_long())
}

fn too_long() -> Error {
    Error::message(format!("a filter returns more than {FILTERED_MAX} bytes (FILTERED_MAX)"))
}

/// Applies a change to a text; null stays null.
fn text(value: &Value, change: impl FnOnce(&str) -> String) -> TeraResult<Value> {
    if value.is_none() {
        return Ok(Value::none());
    }
    let text = plain(value)?;
    costs::reading(&text)?;
    bounded(change(&text)).map(Value::from)
}

fn append(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let more = plain(kwargs.must_get::<&Value>("text")?)?;
    bounded(plain(value)? + &more).map(Value::from)
}

fn date(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    if value.is_none() {
        return Ok(Value::none());
    }
    let format = kwargs.get::<&str>("format")?.unwrap_or("%Y-%m-%d %H:%M");
    if kwargs.get::<&str>("timezone")?.is_some_and(|zone| zone != "UTC") {
        return Err(Error::message("dates are in UTC; no other time zone is supported"));
    }
    let written = plain(value)?;
    // A code such as %c writes several parts.
    costs::reading(format)?;
    spend(format.len() as u64)?;
    let time = OffsetDateTime::parse(&written, &Rfc3339)
        .map_err(|_| Error::message(format!("\"{}\" is not a time", short(&written))))?;
    let format = parse_strftime_owned(format)
        .map_err(|reason| Error::message(format!("invalid format \"{}\": {reason}", short(format))))?;
    let shown = time
        .format(&format)
        .map_err(|reason| Error::message(format!("the time cannot be shown in this format: {reason}")))?;
    bounded(shown).map(Value::from)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

fn default(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let other = kwargs.must_get::<&Value>("value")?;
    let also_empty = kwargs.get::<bool>("boolean")?.unwrap_or(false);
    let absent = value.is_undefined() || value.is_none() || (also_empty && !value.is_truthy());
    Ok(if absent { other.clone() } else { value.clone() })
}

fn items(value: &Value) -> TeraResult<&[Value]> {
    if value.is_none() {
        return Ok(&[]);
    }
    value
        .as_array()
        .ok_or_else(|| Error::message(format!("a list is required, but this is a {}", value.name())))
}

fn end_of(list: &Value, which: fn(&[Value]) -> Option<&Value>) -> TeraResult<Value> {
    Ok(which(items(list)?).cloned().unwrap_or_else(Value::none))
}

fn join(list: &Value, kwargs: Kwargs, _: &State) -> TeraResult<String> {
    let separator = kwargs.get::<&str>("sep")?.unwrap_or("");
    let mut joined = String::new();
    for (index, item) in items(list)?.iter().enumerate() {
        if index > 0 {
            costs::copying(separator)?;
            joined.push_str(separator);
        }
        joined.push_str(&plain(item)?);
        if joined.len() > FILTERED_MAX {
            return Err(too_long());
        }
    }
    Ok(joined)
}

fn length(value: &Value, _: Kwargs, _: &State) -> TeraResult<usize> {
    if value.is_none() {
        return Ok(0);
    }
    match value.as_array() {
        Some(list) => Ok(list.len()),
        None => {
            let text = plain(value)?;
            costs::reading(&text)?;
            Ok(text.chars().count())
        }
    }
}

fn quote(text: &str) -> String {
    text.lines().map(|line| format!("> {line}")).collect::<Vec<_>>().join("\n")
}

fn replace(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let (from, to) = (kwargs.must_get::<&str>("from")?, kwargs.must_get::<&str>("to")?);
    if value.is_none() || from.is_empty() {
        return Ok(value.clone());
    }
    let text = plain(value)?;
    costs::reading(&text)?;
    costs::copying(from)?;
    let grown = text.matches(from).count().saturating_mul(to.len());
    if grown > FILTERED_MAX {
        return Err(too_long());
    }
    spend(steps(grown, COPIED))?;
    bounded(text.replace(from, to)).map(Value::from)
}

fn truncate(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let length = kwargs.get::<usize>("length")?.unwrap_or(255);
    let end = kwargs.get::<&str>("end")?.unwrap_or("...");
    text(value, |text| match text.char_indices().nth(length) {
        Some((cut, _)) => text.get(..cut).unwrap_or("").to_owned() + end,
        None => text.to_owned(),
    })
}

fn range(kwargs: Kwargs, _: &State) -> TeraResult<Vec<i64>> {
    let (start, end) = (kwargs.get::<i64>("start")?.unwrap_or(0), kwargs.must_get::<i64>("end")?);
    let length = i128::from(end) - i128::from(start);
    if length > LIST_MAX as i128 {
        return Err(Error::message(format!(
            "range returns {length} numbers; at most {LIST_MAX} are allowed (LIST_MAX)"
        )));
    }
    spend(length.max(0) as u64 / 8)?;
    Ok((start..end).collect())
}

/// Inserted by the scan around the list of every loop: limits the iterations, and counts their steps.
fn each(list: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let turns = match list.as_map() {
        Some(fields) => fields.len(),
        None => items(list)?.len(),
    };
    if turns > LIST_MAX {
        return Err(Error::message(format!(
            "this has {turns} items; a loop takes at most {LIST_MAX} (LIST_MAX)"
        )));
    }
    spend(kwargs.must_get::<u64>("steps")?.saturating_mul(turns as u64))?;
    Ok(if list.is_none() { Value::from(Vec::<Value>::new()) } else { list.clone() })
}

/// Inserted by the scan around every printed value: null prints empty, a list prints its values with commas.
pub(super) fn show(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let of = kwargs.must_get::<&str>("of")?;
    if value.is_undefined() {
        return Err(Error::message(format!("{of} is not defined")));
    }
    let Some(list) = value.as_array() else {
        return match value.as_map() {
            Some(_) => Err(Error::message(format!("{of} has parts; name one of them"))),
            None => costs::printing(value.as_str().unwrap_or_default()).map(|()| value.clone()),
        };
    };
    if list.iter().any(|item| item.is_map() || item.is_array()) {
        return Err(Error::message(format!("{of} is a list of objects; loop over it")));
    }
    let texts = list.iter().map(plain).collect::<TeraResult<Vec<_>>>()?;
    let joined = bounded(texts.join(", "))?;
    costs::printing(&joined)?;
    Ok(Value::from(joined))
}

/// Inserted by the scan around a value printed inside a JSON string.
fn json_inside(value: &Value, kwargs: Kwargs, state: &State) -> TeraResult<Value> {
    let shown = show(value, kwargs, state)?;
    let quoted = json(&Value::from(plain(&shown)?))?;
    Ok(Value::from(quoted.get(1..quoted.len() - 1).unwrap_or("")))
}

/// Inserted by the scan around a value printed in JSON outside a string.
fn json_value(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    if value.is_undefined() {
        return Err(Error::message(format!("{} is not defined", kwargs.must_get::<&str>("of")?)));
    }
    // Only for a text does "safe" mean that it is JSON already; other values are always safe.
    if value.is_string() && value.is_safe() { Ok(value.clone()) } else { json(value).map(Value::from) }
}

fn json(value: &Value) -> TeraResult<String> {
    if value.is_undefined() {
        return Err(Error::message("this is not defined"));
    }
    let json = serde_json::to_string(value)
        .map_err(|reason| Error::message(format!("this cannot be written as JSON: {reason}")))?;
    costs::reading(&json)?;
    bounded(json)
}
