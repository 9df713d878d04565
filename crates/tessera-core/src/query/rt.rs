//! Tests as RT reads them, rewritten to tests of Tessera's dialect that find the same.

use super::ast::{Like, Name, Order, Predicate, Value, ValueKind, Verb, has_wildcards, unescape};
use super::date::DateExpr;
use super::fields::{self, Field};

/// RT's names of priorities with their numbers. RT: the default of `%PriorityAsString`.
const PRIORITIES: [(&str, &str); 3] = [("low", "0"), ("medium", "50"), ("high", "100")];

/// Rewrites a test. A value that RT reads as Tessera does, or that neither can read, stays as it is.
pub(super) fn rewritten(predicate: Predicate) -> Predicate {
    let Predicate { field, is_negated, verb, span } = predicate;
    let (is_negated, verb) = match (verb, fields::core(&field)) {
        (Verb::Like(like, value), _) => (is_negated, pattern(like, value)),
        // RT keeps 0 for a date that is not set.
        (Verb::Order(Order::More, value), Some(Field::Date(_))) if word(&value).as_deref() == Some("0") => {
            (true, Verb::Null)
        }
        (verb, Some(Field::Date(_) | Field::Updated)) => {
            let is_order = matches!(verb, Verb::Order(..) | Verb::Between(..));
            (is_negated, verb.map_values(|value| if is_order { second(value) } else { day(value) }))
        }
        (verb, Some(Field::Priority)) => (is_negated, verb.map_values(priority)),
        (verb, _) => (is_negated, verb.map_values(column)),
    };
    Predicate { field, is_negated, verb, span }
}

/// LIKE finds its text anywhere, even one with wildcards, and STARTSWITH and ENDSWITH have the same wildcards.
fn pattern(like: Like, value: Value) -> Verb {
    let ValueKind::Text(written) = &value.kind else { return Verb::Like(like, value) };
    // RT removes the escapes of the quotes first, so that `\\%` is a percent sign.
    let Value { kind, .. } = Value::pattern(&unescape(written));
    let ValueKind::Text(kept) = &kind else { return Verb::Like(like, value) };
    if !has_wildcards(kept) {
        return Verb::Like(like, Value { kind, ..value });
    }
    let kept = match like {
        Like::Like => format!("%{kept}%"),
        Like::Start => format!("{kept}%"),
        Like::End => format!("%{kept}"),
    };
    Verb::Like(Like::Like, Value { kind: ValueKind::Text(kept), ..value })
}

/// A text in quotes or a single word.
fn word(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Text(text) => Some(unescape(text)),
        ValueKind::Number(number) => Some(number.clone()),
        ValueKind::Name(name) => match name.parts.as_slice() {
            [only] if fields::core(name).is_none() => Some(only.clone()),
            _ => None,
        },
    }
}

/// The value with another text, if its date needs one.
fn dated(value: Value, change: impl FnOnce(&str, &DateExpr) -> Option<String>) -> Value {
    let text = word(&value).and_then(|word| change(&word, &DateExpr::parse(&word).ok()?));
    match text {
        Some(text) => Value { kind: ValueKind::Text(text), ..value },
        None => value,
    }
}

/// `=` means the whole day of a date.
fn day(value: Value) -> Value {
    dated(value, |word, date| (!date.is_day()).then(|| format!("day of {}", word.trim())))
}

/// `<` and `>` compare with a second.
fn second(value: Value) -> Value {
    dated(value, |_, date| date.rt_second())
}

fn priority(value: Value) -> Value {
    let word = word(&value).unwrap_or_default();
    match PRIORITIES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(&word)) {
        Some((_, number)) => Value { kind: ValueKind::Number(number.to_owned()), ..value },
        None => value,
    }
}

/// A custom field in braces is a field even in quotes.
fn column(value: Value) -> Value {
    let name = match &value.kind {
        ValueKind::Text(text) if text.ends_with('}') => {
            Name::parse(&unescape(text)).filter(fields::is_custom)
        }
        _ => None,
    };
    match name {
        Some(name) => Value { kind: ValueKind::Name(Name { span: value.span, ..name }), ..value },
        None => value,
    }
}
