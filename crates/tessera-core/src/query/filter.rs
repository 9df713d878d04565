//! Queries as JSON, for programs: a tree, and a flat form of tests that must all hold.
//!
//! A filter is converted to the same syntax tree as text, so that there is one compiler with one set of errors.

use super::ast::{
    DEPTH_MAX, Expr, Like, Name, Order, PREDICATES_MAX, Predicate, Query, VALUES_MAX, Value, ValueKind, Verb,
    joined, unescape,
};
use super::error::Span;
use crate::error::Fault;
use crate::models::text::{fold, quote};
use serde_json::{Map, Value as Json, json};

/// The operators of a tree; case is ignored.
pub const OPERATORS: [&str; 20] = [
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "LIKE",
    "NOT LIKE",
    "STARTSWITH",
    "NOT STARTSWITH",
    "ENDSWITH",
    "NOT ENDSWITH",
    "MATCHES",
    "NOT MATCHES",
    "IN",
    "NOT IN",
    "BETWEEN",
    "NOT BETWEEN",
    "IS NULL",
    "IS NOT NULL",
];

/// Reads a filter: a tree (`{"and": [..]}`, `{"or": [..]}`, `{"not": ..}`, `{"field": "Status", "op": "=", "value": "open"}`),
/// or the flat form (`{"Queue": "Support", "Status": ["new", "open"], "CF.{Severity}": null}`). All members of the flat form
/// must hold. A list matches any of its values, null matches no value, and the subject is matched in part.
///
/// # Errors
/// The first fault, with its path from `filter` on. Unknown fields are reported later, when the query is resolved.
pub fn read(filter: &Json) -> Result<Query<Predicate>, Fault> {
    let path = "filter";
    let members = object(filter, path)?;
    if members.is_empty() {
        return Ok(Query(None));
    }
    let mut reader = Reader { tests: 0 };
    let is_tree = ["and", "or", "not", "field"].iter().any(|member| members.contains_key(*member));
    let expr = if is_tree { reader.node(filter, path, 0)? } else { reader.flat(members, path)? };
    Ok(Query(Some(expr)))
}

/// Writes a query as a tree. Reading it again gives the same query.
pub fn write(query: &Query<Predicate>) -> Json {
    query.0.as_ref().map_or_else(|| json!({}), write_expr)
}

fn write_expr(expr: &Expr<Predicate>) -> Json {
    match expr {
        Expr::And(members) => json!({ "and": members.iter().map(write_expr).collect::<Vec<_>>() }),
        Expr::Or(members) => json!({ "or": members.iter().map(write_expr).collect::<Vec<_>>() }),
        Expr::Not(inner) => json!({ "not": write_expr(inner) }),
        Expr::Test(predicate) => write_test(predicate),
    }
}

fn write_test(predicate: &Predicate) -> Json {
    let value = match &predicate.verb {
        Verb::Null => None,
        Verb::Changed { from, to } => {
            let mut test = json!({ "field": predicate.field.to_string(), "op": "CHANGED" });
            for (member, value) in [("from", from), ("to", to)] {
                if let (Some(value), Some(test)) = (value, test.as_object_mut()) {
                    test.insert(member.to_owned(), write_value(value, false));
                }
            }
            return test;
        }
        Verb::In(values) => Some(values.iter().map(|value| write_value(value, false)).collect()),
        Verb::Between(low, high) => Some(json!([write_value(low, false), write_value(high, false)])),
        Verb::Like(like, value) => Some(write_value(value, *like == Like::Like)),
        Verb::Equal(value) | Verb::Order(_, value) | Verb::Matches(value) => Some(write_value(value, false)),
    };
    let mut test = json!({ "field": predicate.field.to_string(), "op": operator(predicate) });
    if let (Some(value), Some(test)) = (value, test.as_object_mut()) {
        test.insert("value".to_owned(), value);
    }
    test
}

fn operator(predicate: &Predicate) -> String {
    let keyword = predicate.verb.keyword();
    match &predicate.verb {
        _ if !predicate.is_negated => keyword.to_owned(),
        Verb::Equal(_) => "!=".to_owned(),
        Verb::Null => "IS NOT NULL".to_owned(),
        _ => format!("NOT {keyword}"),
    }
}

/// A text is written without escapes, a pattern with its wildcards and escapes.
fn write_value(value: &Value, is_pattern: bool) -> Json {
    match &value.kind {
        ValueKind::Text(kept) if is_pattern => json!(kept),
        ValueKind::Text(kept) => json!(unescape(kept)),
        ValueKind::Number(number) => match serde_json::from_str(number) {
            Ok(Json::Number(same)) if same.to_string() == *number => Json::Number(same),
            _ => json!({ "number": number }),
        },
        ValueKind::Name(name) => json!({ "field": name.to_string() }),
    }
}

struct Reader {
    tests: usize,
}

impl Reader {
    fn node(&mut self, node: &Json, path: &str, depth: usize) -> Result<Expr<Predicate>, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(
                path,
                format!("is nested more than {DEPTH_MAX} levels deep; simplify it"),
            ));
        }
        let members = object(node, path)?;
        if members.contains_key("field") {
            return self.test(members, path).map(Expr::Test);
        }
        let groups = ["and", "or", "not"];
        let Some(word) = groups.into_iter().find(|word| members.contains_key(*word)) else {
            let message = "must have one of the members \"and\", \"or\", \"not\" and \"field\" (with \"op\" and \"value\")";
            return Err(Fault::new(path, message));
        };
        only(members, &[word], path)?;
        let inner = members.get(word).unwrap_or(&Json::Null);
        let path = format!("{path}.{word}");
        if word == "not" {
            return Ok(Expr::Not(Box::new(self.node(inner, &path, depth + 1)?)));
        }
        let inner = list(inner, &path, PREDICATES_MAX)?;
        let inner = inner.iter().enumerate();
        let inner = inner.map(|(at, one)| self.node(one, &format!("{path}[{at}]"), depth + 1));
        let inner = inner.collect::<Result<_, _>>()?;
        Ok(if word == "and" { Expr::And(inner) } else { Expr::Or(inner) })
    }

    fn test(&mut self, members: &Map<String, Json>, path: &str) -> Result<Predicate, Fault> {
        let text = |member: &str| match members.get(member) {
            Some(Json::String(text)) => Ok(text.as_str()),
            Some(_) => Err(Fault::new(format!("{path}.{member}"), "must be a text")),
            None => Err(Fault::new(format!("{path}.{member}"), "is missing")),
        };
        let field = name(text("field")?, &format!("{path}.field"))?;
        let words: Vec<String> = text("op")?.split_whitespace().map(str::to_uppercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let value_path = format!("{path}.value");
        let value = || members.get("value").ok_or_else(|| Fault::new(value_path.as_str(), "is missing"));
        if let ["CHANGED"] = words.as_slice() {
            only(members, &["field", "op", "from", "to"], path)?;
            let side = |member: &str| {
                let value = members.get(member);
                value.map(|value| one(value, Value::text, &format!("{path}.{member}"))).transpose()
            };
            return self.counted(field, false, Verb::Changed { from: side("from")?, to: side("to")? }, path);
        }
        only(members, &["field", "op", "value"], path)?;
        let is_null = members.get("value").is_none_or(Json::is_null);
        let (is_negated, verb) = match words.as_slice() {
            ["IS", "NULL"] | ["IS"] if is_null => (false, Verb::Null),
            ["IS", "NOT", "NULL"] | ["IS", "NOT"] if is_null => (true, Verb::Null),
            ["IS", ..] => {
                return Err(Fault::new(
                    value_path,
                    "must be null, because IS only tests whether there is a value",
                ));
            }
            ["=" | "=="] if value()?.is_null() => (false, Verb::Null),
            ["!=" | "<>"] if value()?.is_null() => (true, Verb::Null),
            ["NOT", verb] if verb.starts_with(char::is_alphabetic) => (true, positive(verb, value()?, path)?),
            ["!=" | "<>"] => (true, positive("=", value()?, path)?),
            ["=="] => (false, positive("=", value()?, path)?),
            [verb] => (false, positive(verb, value()?, path)?),
            _ => return Err(no_operator(path)),
        };
        self.counted(field, is_negated, verb, path)
    }

    fn counted(&mut self, field: Name, is_negated: bool, verb: Verb, path: &str) -> Result<Predicate, Fault> {
        self.tests += 1;
        if self.tests > PREDICATES_MAX {
            let message = format!("is one test too many; a query has at most {PREDICATES_MAX}");
            return Err(Fault::new(path, message));
        }
        Ok(Predicate { field, is_negated, verb, span: Span::default() })
    }

    fn flat(&mut self, members: &Map<String, Json>, path: &str) -> Result<Expr<Predicate>, Fault> {
        let mut named: Vec<String> = Vec::new();
        let mut all = Vec::new();
        for (key, value) in members {
            let path = format!("{path}.{key}");
            let field = name(key, &path)?;
            let folded = fold(&field.to_string());
            if named.contains(&folded) {
                return Err(Fault::new(path, "occurs twice; use one list of values"));
            }
            named.push(folded);
            all.push(self.any_of(field, value, &path)?);
        }
        Ok(joined(all, Expr::And))
    }

    /// The expression of one member of the flat form.
    fn any_of(&mut self, field: Name, value: &Json, path: &str) -> Result<Expr<Predicate>, Fault> {
        let is_subject = matches!(field.parts().as_slice(), [only] if only.eq_ignore_ascii_case("Subject"));
        let make = if is_subject { part } else { Value::text };
        let given = match value {
            Json::Array(_) => list(value, path, VALUES_MAX)?,
            value => std::slice::from_ref(value),
        };
        let values = given.iter().filter(|value| !value.is_null());
        let mut values: Vec<Value> = values.map(|value| one(value, make, path)).collect::<Result<_, _>>()?;
        let mut any = Vec::new();
        if is_subject {
            any.extend(values.into_iter().map(|value| Verb::Like(Like::Like, value)));
        } else if values.len() > 1 {
            any.push(Verb::In(values));
        } else {
            any.extend(values.pop().map(Verb::Equal));
        }
        any.extend(given.iter().any(Json::is_null).then_some(Verb::Null));
        let tests = any.into_iter().map(|verb| self.counted(field.clone(), false, verb, path));
        let tests: Vec<_> = tests.map(|test| test.map(Expr::Test)).collect::<Result<_, _>>()?;
        Ok(joined(tests, Expr::Or))
    }
}

/// The verb of an operator without NOT.
fn positive(word: &str, value: &Json, path: &str) -> Result<Verb, Fault> {
    let value_path = format!("{path}.value");
    let text = |value: &Json| one(value, Value::text, &value_path);
    if let Some(order) = Order::ALL.into_iter().find(|order| order.as_str() == word) {
        return Ok(Verb::Order(order, text(value)?));
    }
    if let Some(like) = Like::ALL.into_iter().find(|like| like.as_str() == word) {
        let make = if like == Like::Like { Value::pattern } else { Value::text };
        return Ok(Verb::Like(like, one(value, make, &value_path)?));
    }
    Ok(match word {
        "=" => Verb::Equal(text(value)?),
        "MATCHES" => Verb::Matches(text(value)?),
        "IN" => {
            let values = list(value, &value_path, VALUES_MAX)?.iter();
            Verb::In(values.map(text).collect::<Result<_, _>>()?)
        }
        "BETWEEN" => match list(value, &value_path, 2)? {
            [low, high] => Verb::Between(text(low)?, text(high)?),
            _ => return Err(Fault::new(value_path, "must be a list of two: [low, high]")),
        },
        _ => return Err(no_operator(path)),
    })
}

fn no_operator(path: &str) -> Fault {
    let message = format!("is not an operator; the operators are {} and CHANGED", OPERATORS.join(", "));
    Fault::new(format!("{path}.op"), message)
}

/// A value that is not a list; `make` converts a text.
fn one(value: &Json, make: fn(&str) -> Value, path: &str) -> Result<Value, Fault> {
    let of = |kind| Ok(Value { kind, span: Span::default() });
    match value {
        Json::String(text) => Ok(make(text)),
        Json::Number(number) => of(ValueKind::Number(plain(&number.to_string(), path)?)),
        Json::Object(members) => match members.iter().next() {
            Some((member, Json::String(word))) if members.len() == 1 && member == "field" => {
                of(ValueKind::Name(name(word, path)?))
            }
            Some((member, Json::String(word))) if members.len() == 1 && member == "number" => {
                of(ValueKind::Number(plain(word, path)?))
            }
            _ => Err(Fault::new(path, "must be a value, or {\"field\": \"Due\"} for another field")),
        },
        Json::Array(_) => Err(Fault::new(path, "is a list; only IN and BETWEEN take lists")),
        Json::Null => Err(Fault::new(path, "cannot be null; only =, != and IS take null")),
        Json::Bool(is) => Err(Fault::new(path, format!("is {is}; use a text, a number or null"))),
    }
}

/// A number in the notation of queries.
fn plain(number: &str, path: &str) -> Result<String, Fault> {
    let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain(whole) && is_plain(part) {
        return Ok(number.to_owned());
    }
    Err(Fault::new(path, format!("{} is not a plain decimal number, such as -12.5", quote(number))))
}

/// A pattern that matches part of a text, with escaped wildcards.
fn part(text: &str) -> Value {
    let mut pattern = String::new();
    for c in text.chars() {
        pattern.extend(matches!(c, '%' | '_' | '\\').then_some('\\').into_iter().chain([c]));
    }
    Value::pattern(&pattern)
}

fn name(word: &str, path: &str) -> Result<Name, Fault> {
    Name::parse(word).ok_or_else(|| {
        Fault::new(
            path,
            format!("{} is not the name of a field; write for example Status or CF.{{Name}}", quote(word)),
        )
    })
}

fn object<'v>(value: &'v Json, path: &str) -> Result<&'v Map<String, Json>, Fault> {
    value.as_object().ok_or_else(|| Fault::new(path, "must be an object"))
}

fn list<'v>(value: &'v Json, path: &str, max: usize) -> Result<&'v [Json], Fault> {
    let values = value.as_array().ok_or_else(|| Fault::new(path, "must be a list"))?;
    if values.is_empty() || values.len() > max {
        return Err(Fault::new(path, format!("is a list of {}; it must have 1 to {max}", values.len())));
    }
    Ok(values)
}

fn only(members: &Map<String, Json>, known: &[&str], path: &str) -> Result<(), Fault> {
    match members.keys().find(|member| !known.contains(&member.as_str())) {
        Some(member) => {
            let message = format!("is not allowed together with {}", known.join(", "));
            Err(Fault::new(format!("{path}.{member}"), message))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
