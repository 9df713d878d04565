//! Operators: the filters and tests that stand for them in the text for Tera, where an unset value ends no rendering.
//!
//! Tera's own operators fail for null. Here null is neither less nor greater than anything, is contained in nothing, and a
//! calculation with null is null, as is a part of null. Every operator is charged for what it reads.

use super::costs::{cost, spend};
use super::variables::NEW_NUMBER;
use crate::models::text::fold;
use std::cmp::Ordering;
use tera::value::Key;
use tera::{Error, Kwargs, Number, State, Tera, TeraResult, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Arithmetic: its sign, and the filter that stands for it.
pub(super) const ARITHMETIC: [(&str, &str); 7] = [
    ("+", "plus"),
    ("-", "minus"),
    ("*", "times"),
    ("/", "divided"),
    ("//", "quotient"),
    ("%", "remainder"),
    ("**", "power"),
];

/// Comparisons: the sign, and the filter that stands for it.
pub(super) const COMPARISONS: [(&str, &str); 6] = [
    ("==", "equal"),
    ("!=", "different"),
    ("<", "less"),
    ("<=", "at_most"),
    (">", "greater"),
    (">=", "at_least"),
];

/// Registers the filters and tests of this module.
pub(super) fn register(tera: &mut Tera) {
    for (_, name) in ARITHMETIC {
        tera.register_filter(name, move |left: &Value, kwargs: Kwargs, _: &State| {
            calculated(name, left, kwargs.must_get("by")?)
        });
    }
    for (_, name) in COMPARISONS {
        tera.register_filter(name, move |left: &Value, kwargs: Kwargs, _: &State| {
            compared(name, left, kwargs.must_get("to")?)
        });
    }
    tera.register_filter("negative", |value: &Value, _: Kwargs, _: &State| {
        calculated("minus", &Value::from(0), value)
    });
    tera.register_filter("within", |value: &Value, kwargs: Kwargs, _: &State| {
        contains(kwargs.must_get("of")?, value)
    });
    tera.register_filter("outside", |value: &Value, kwargs: Kwargs, _: &State| {
        contains(kwargs.must_get("of")?, value).map(|is_within| !is_within)
    });
    tera.register_filter("item", item);
    tera.register_filter("field", field);
    tera.register_test("containing", |value: &Value, kwargs: Kwargs, _: &State| {
        contains(value, kwargs.must_get("pat")?)
    });
    tera.register_test("starting_with", |value: &Value, kwargs: Kwargs, _: &State| {
        ends(value, kwargs.must_get("pat")?, |text, end| text.starts_with(end))
    });
    tera.register_test("ending_with", |value: &Value, kwargs: Kwargs, _: &State| {
        ends(value, kwargs.must_get("pat")?, |text, end| text.ends_with(end))
    });
}

fn kind(value: &Value) -> &'static str {
    match value.as_bool() {
        Some(_) => "boolean",
        None if value.is_string() => "text",
        None if value.is_number() => "number",
        None if value.is_array() => "list",
        None => "group of values",
    }
}

/// An operand of a calculation.
enum Operand {
    Unset,
    /// The number that a ticket does not have yet: a calculation with it has no result yet either.
    Open,
    Number(Number),
}

fn operand(value: &Value) -> TeraResult<Operand> {
    if value.is_undefined() {
        return Err(Error::message("a value in this calculation is not defined"));
    }
    if let Some(number) = value.as_number() {
        return Ok(Operand::Number(number));
    }
    match value.as_str().map(str::trim) {
        _ if value.is_none() => Ok(Operand::Unset),
        Some("") => Ok(Operand::Unset),
        Some(NEW_NUMBER) => Ok(Operand::Open),
        Some(text) => parsed(text).map(Operand::Number).ok_or_else(|| {
            Error::message(format!("\"{}\" is not a number", text.chars().take(40).collect::<String>()))
        }),
        None => Err(Error::message(format!("a number is required, but this is a {}", kind(value)))),
    }
}

/// Reads a text such as `12` or `-1.5` as a number; not `inf`, `nan` or `1e9`.
fn parsed(text: &str) -> Option<Number> {
    /// The longest number that is read, in bytes.
    const DIGITS_MAX: usize = 60;
    let is_number =
        text.len() <= DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    if !is_number {
        return None;
    }
    let whole = text.parse().ok().map(Number::Integer);
    whole.or_else(|| text.parse().ok().map(Number::Float))
}

fn calculated(name: &str, left: &Value, right: &Value) -> TeraResult<Value> {
    spend(1)?;
    let (left, right) = match (operand(left)?, operand(right)?) {
        (Operand::Unset, _) | (_, Operand::Unset) => return Ok(Value::none()),
        (Operand::Open, _) | (_, Operand::Open) => return Ok(Value::from(NEW_NUMBER)),
        (Operand::Number(left), Operand::Number(right)) => (left, right),
    };
    let divides = matches!(name, "divided" | "quotient" | "remainder");
    if divides && right.as_float() == 0.0 {
        return Err(Error::message("cannot divide by 0"));
    }
    match (left, right) {
        (Number::Integer(left), Number::Integer(right)) if is_whole(name, right) => whole(name, left, right)
            .map(Value::from)
            .ok_or_else(|| Error::message("the result of this calculation is too large")),
        _ => Ok(Value::from(fractional(name, left.as_float(), right.as_float()))),
    }
}

/// Whether two whole numbers have a whole result.
fn is_whole(name: &str, right: i128) -> bool {
    name != "divided" && (name != "power" || right >= 0)
}

fn whole(name: &str, left: i128, right: i128) -> Option<i128> {
    match name {
        "plus" => left.checked_add(right),
        "minus" => left.checked_sub(right),
        "times" => left.checked_mul(right),
        "quotient" => left.checked_div_euclid(right),
        "remainder" => left.checked_rem_euclid(right),
        _ => u32::try_from(right).ok().and_then(|right| left.checked_pow(right)),
    }
}

fn fractional(name: &str, left: f64, right: f64) -> f64 {
    match name {
        "plus" => left + right,
        "minus" => left - right,
        "times" => left * right,
        "divided" => left / right,
        "quotient" => left.div_euclid(right),
        "remainder" => left.rem_euclid(right),
        _ => left.powf(right),
    }
}

fn compared(name: &str, left: &Value, right: &Value) -> TeraResult<bool> {
    spend(cost(left) + cost(right))?;
    match name {
        "equal" => return Ok(left == right),
        "different" => return Ok(left != right),
        _ => {}
    }
    let order = order(left, right)?;
    Ok(order.is_some_and(|order| match name {
        "less" => order.is_lt(),
        "at_most" => order.is_le(),
        "greater" => order.is_gt(),
        _ => order.is_ge(),
    }))
}

/// Returns how two values are ordered; `None` if one is unset, or one is a number and the other a text without one.
fn order(left: &Value, right: &Value) -> TeraResult<Option<Ordering>> {
    if left.is_undefined() || right.is_undefined() {
        return Err(Error::message("a value in this comparison is not defined"));
    }
    if left.is_none() || right.is_none() {
        return Ok(None);
    }
    let number = |text: &str| {
        let number = parsed(text.trim())?;
        Some(number.as_integer().map_or_else(|| Value::from(number.as_float()), Value::from))
    };
    match (left.as_str(), right.as_str()) {
        (Some(left), Some(right)) => Ok(Some(match (time(left), time(right)) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ => left.cmp(right),
        })),
        (Some(text), None) if right.is_number() => Ok(number(text).and_then(|left| left.partial_cmp(right))),
        (None, Some(text)) if left.is_number() => Ok(number(text).and_then(|right| left.partial_cmp(&right))),
        _ => left.partial_cmp(right).map(Some).ok_or_else(|| {
            Error::message(format!("a {} cannot be compared with a {}", kind(left), kind(right)))
        }),
    }
}

/// Reads a time, of which fractions of a second are compared as numbers, not as texts.
fn time(text: &str) -> Option<OffsetDateTime> {
    /// The length of a time, in bytes, from seconds to nanoseconds with an offset.
    const LENGTHS: std::ops::RangeInclusive<usize> = 20..=35;
    LENGTHS.contains(&text.len()).then(|| OffsetDateTime::parse(text, &Rfc3339).ok()).flatten()
}

/// Whether a text or a list contains a value. What is unset contains nothing, and nothing contains it, unless a list does.
fn contains(container: &Value, value: &Value) -> TeraResult<bool> {
    if container.is_undefined() || value.is_undefined() {
        return Err(Error::message("a value that this test needs is not defined"));
    }
    spend(cost(container))?;
    if let Some(text) = container.as_str() {
        return Ok(value.as_str().is_some_and(|part| text.contains(part)));
    }
    if let Some(items) = container.as_array() {
        return Ok(items.contains(value));
    }
    match container.as_map() {
        Some(parts) => Ok(value.as_str().is_some_and(|name| parts.contains_key(&Key::Str(name)))),
        None if container.is_none() => Ok(false),
        None => {
            Err(Error::message(format!("a text or a list is required, but this is a {}", kind(container))))
        }
    }
}

fn ends(value: &Value, end: &Value, has: fn(&str, &str) -> bool) -> TeraResult<bool> {
    if value.is_undefined() || end.is_undefined() {
        return Err(Error::message("a value that this test needs is not defined"));
    }
    spend(cost(value) + cost(end))?;
    Ok(value.as_str().zip(end.as_str()).is_some_and(|(text, end)| has(text, end)))
}

/// `x.at`, `x[at]`, and with `slice` `x[at:to]`. With `maybe`, what has no parts has none that are defined.
fn item(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let maybe = kwargs.get::<bool>("maybe")?.unwrap_or(false);
    if value.is_undefined() {
        return if maybe {
            Ok(Value::undefined())
        } else {
            Err(Error::message("a value with parts is not defined here"))
        };
    }
    if value.is_none() {
        return Ok(Value::none());
    }
    let index = |name: &str| -> TeraResult<Option<i128>> {
        let Some(index) = kwargs.get::<&Value>(name)?.filter(|index| !index.is_none()) else {
            return Ok(None);
        };
        match operand(index)? {
            Operand::Number(number) => {
                number.as_integer().map(Some).ok_or_else(|| Error::message("an index is a whole number"))
            }
            Operand::Unset | Operand::Open => Ok(None),
        }
    };
    if kwargs.get::<bool>("slice")?.unwrap_or(false) {
        return slice(value, index("at")?, index("to")?);
    }
    let at = kwargs.must_get::<&Value>("at")?;
    if at.is_undefined() {
        return Err(Error::message("the name of a part is not defined here"));
    }
    if let Some(parts) = value.as_map() {
        return part(parts, at.as_str());
    }
    if let Some(items) = value.as_array() {
        spend(1)?;
        let at = index("at")?.and_then(|at| place(at, items.len()));
        return Ok(at.and_then(|at| items.get(at)).cloned().unwrap_or_else(Value::none));
    }
    match value.as_str() {
        Some(text) if !at.is_string() => {
            spend(cost(value))?;
            let at = index("at")?.and_then(|at| place(at, text.chars().count()));
            let letter = at.and_then(|at| text.chars().nth(at));
            Ok(letter.map_or_else(Value::none, |letter| Value::from(letter.to_string())))
        }
        _ => Err(Error::message(format!("a {} has no parts", kind(value)))),
    }
}

/// Returns the part of a name, whose case does not matter unless two parts differ only in it.
fn part(parts: &tera::Map, name: Option<&str>) -> TeraResult<Value> {
    let Some(name) = name else { return Ok(Value::none()) };
    spend(1)?;
    if let Some(part) = parts.get(&Key::Str(name)) {
        return Ok(part.clone());
    }
    spend(parts.len() as u64)?;
    let folded = fold(name);
    let same = parts.iter().find(|(key, _)| key.as_str().is_some_and(|key| fold(key) == folded));
    Ok(same.map_or_else(Value::undefined, |(_, part)| part.clone()))
}

/// The value of RT's `TicketCF…`: the field of this name, or the one that has it without its blanks and signs.
fn field(fields: &Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let name = kwargs.must_get::<&str>("name")?;
    let Some(parts) = fields.as_map() else { return Ok(Value::undefined()) };
    let exact = part(parts, Some(name))?;
    if !exact.is_undefined() {
        return Ok(exact);
    }
    spend(4 * parts.len() as u64)?;
    let mut bare =
        parts.iter().filter(|(key, _)| key.as_str().is_some_and(|key| super::aliases::is_field(name, key)));
    Ok(bare.next().map_or_else(Value::undefined, |(_, part)| part.clone()))
}

/// Returns an index from the start; one below 0 counts from the end.
fn place(at: i128, length: usize) -> Option<usize> {
    let at = if at < 0 { at + i128::try_from(length).ok()? } else { at };
    usize::try_from(at).ok().filter(|at| *at < length)
}

fn slice(value: &Value, from: Option<i128>, to: Option<i128>) -> TeraResult<Value> {
    spend(cost(value))?;
    let bounds = |length: usize| {
        let bound = |at: Option<i128>, none: usize| match at {
            None => none,
            Some(at) if at < 0 => place(at, length).unwrap_or(0),
            Some(at) => usize::try_from(at).unwrap_or(length).min(length),
        };
        let from = bound(from, 0);
        (from, bound(to, length).saturating_sub(from))
    };
    if let Some(items) = value.as_array() {
        let (from, count) = bounds(items.len());
        return Ok(Value::from(items.iter().skip(from).take(count).cloned().collect::<Vec<_>>()));
    }
    let Some(text) = value.as_str() else {
        return Err(Error::message(format!("a {} has no slices", kind(value))));
    };
    let (from, count) = bounds(text.chars().count());
    Ok(Value::from(text.chars().skip(from).take(count).collect::<String>()))
}
