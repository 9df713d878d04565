//! The cost of checking a payload against a schema, counted before the check, because a small schema can describe a check that
//! never ends: each level of a payload can multiply the work of the level below.

use regex_automata::nfa::thompson;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The maximum number of steps of a check. A step is one subschema for one value, a name in a list, or
/// [`TEXT_PER_STEP`] bytes that are compared; it takes about a microsecond.
pub const STEPS_MAX: u64 = 100_000;
/// The maximum nesting of a check: steps down the schema and the payload together.
pub const DEPTH_MAX: usize = 128;
/// The maximum number of patterns in a schema.
pub const PATTERNS_MAX: usize = 64;
/// The maximum number of subschemas with `unevaluatedProperties` or `unevaluatedItems`. Each doubles the work for what is inside,
/// already when the schema is compiled; and with references there would be no end to what is inside.
pub const UNEVALUATED_MAX: usize = 4;
/// The bytes of a text that one step compares.
const TEXT_PER_STEP: u64 = 64;
/// The states of patterns that one step visits: a match may visit every state of the pattern for each byte.
const STATES_PER_STEP: u64 = 100;
/// The number of states that is assumed for a pattern whose states cannot be counted.
const STATES_ASSUMED: u64 = 10_000;
/// The steps for a text that is checked to be a regular expression, and so is compiled.
const COMPILE_STEPS: u64 = 10_000;

/// Keywords with a subschema, with a list of subschemas, and with an object of subschemas.
const ONE: [&str; 11] = [
    "not",
    "if",
    "then",
    "else",
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
const SEVERAL: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const NAMED: [&str; 6] =
    ["$defs", "definitions", "properties", "patternProperties", "dependentSchemas", "dependencies"];
const UNEVALUATED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// The facts of a schema from which the cost of a check is counted.
#[derive(Debug, Default)]
pub struct Costs {
    /// The positions, as JSON pointers, that each reference may lead to.
    references: BTreeMap<String, Vec<String>>,
    /// The number of states of each pattern.
    patterns: BTreeMap<String, u64>,
}

/// A check that would take more than [`STEPS_MAX`] steps, or is nested deeper than [`DEPTH_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooCostly;

impl Costs {
    /// Reads a schema.
    ///
    /// # Errors
    /// A message if it refers to another document or to itself without end, has too many patterns, or takes too many steps
    /// whatever the payload is.
    pub fn of(schema: &Value) -> Result<Self, String> {
        let (mut costs, mut known, mut named) = (Self::default(), BTreeSet::new(), BTreeMap::new());
        let mut seen: Vec<&Map<String, Value>> = Vec::new();
        anchors(schema, &mut String::new(), &mut named);
        let (mut open, mut unevaluated) = (vec![schema], 0);
        while let Some(part) = open.pop() {
            let Value::Object(members) = part else { continue };
            // The same part may be reached by a reference, too.
            if !known.insert(std::ptr::from_ref(members)) {
                continue;
            }
            seen.push(members);
            if members.contains_key("$id") && !std::ptr::eq(part, schema) {
                return Err("cannot be used: only the whole schema can have an $id".to_owned());
            }
            unevaluated += usize::from(UNEVALUATED.iter().any(|word| members.contains_key(*word)));
            for reference in REFERENCES.iter().filter_map(|word| members.get(*word)?.as_str()) {
                let pointers = targets(reference, &named)?;
                open.extend(pointers.iter().filter_map(|pointer| schema.pointer(pointer)));
                costs.references.insert(reference.to_owned(), pointers);
            }
            let names = members.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
            let names = names.map(|(pattern, _)| pattern.as_str());
            for pattern in members.get("pattern").and_then(Value::as_str).into_iter().chain(names) {
                if !costs.patterns.contains_key(pattern) {
                    costs.patterns.insert(pattern.to_owned(), states(pattern));
                }
                if costs.patterns.len() > PATTERNS_MAX {
                    return Err(format!("cannot be used: it has more than {PATTERNS_MAX} patterns"));
                }
            }
            open.extend(parts(members));
        }
        if unevaluated > UNEVALUATED_MAX || (unevaluated > 0 && !costs.references.is_empty()) {
            return Err(format!(
                "cannot be used: unevaluatedProperties and unevaluatedItems can occur in at most {UNEVALUATED_MAX} subschemas, and not together with references; use additionalProperties or items"
            ));
        }
        let mut done = BTreeMap::new();
        seen.into_iter().try_for_each(|part| costs.check_circles(schema, part, &mut done, 0))?;
        costs.count(schema, &Value::Null).map_err(|TooCostly| {
            format!(
                "takes more than {STEPS_MAX} steps for every payload, or is nested deeper than {DEPTH_MAX}; simplify it"
            )
        })?;
        Ok(costs)
    }

    /// Checks that no subschema refers to itself for the same value, which would never end. `done` has those that were checked,
    /// and `false` for those that are being checked.
    fn check_circles<'s>(
        &self,
        schema: &'s Value,
        members: &'s Map<String, Value>,
        done: &mut BTreeMap<*const Map<String, Value>, bool>,
        depth: usize,
    ) -> Result<(), String> {
        let here = std::ptr::from_ref(members);
        match done.get(&here).copied() {
            Some(true) => return Ok(()),
            Some(false) => {
                return Err(
                    "cannot be used: it refers to itself without descending into the payload".to_owned()
                );
            }
            None if depth > DEPTH_MAX => {
                return Err(format!("cannot be used: it is nested deeper than {DEPTH_MAX}"));
            }
            None => done.insert(here, false),
        };
        for (word, part) in members {
            let one = Some(part).filter(|_| ["not", "if", "then", "else"].contains(&word.as_str()));
            let several = part.as_array().filter(|_| ["allOf", "anyOf", "oneOf"].contains(&word.as_str()));
            let named =
                part.as_object().filter(|_| ["dependentSchemas", "dependencies"].contains(&word.as_str()));
            let below = one.into_iter().chain(several.into_iter().flatten());
            let below = below.chain(named.into_iter().flatten().map(|(_, one)| one));
            for one in below.chain(self.referred(schema, word, part)).filter_map(Value::as_object) {
                self.check_circles(schema, one, done, depth + 1)?;
            }
        }
        done.insert(here, true);
        Ok(())
    }

    /// Returns the subschemas that a reference may lead to; none for other keywords.
    fn referred<'s>(&self, schema: &'s Value, word: &str, part: &Value) -> Vec<&'s Value> {
        let reference = part.as_str().filter(|_| REFERENCES.contains(&word));
        let pointers = reference.and_then(|reference| self.references.get(reference)).into_iter().flatten();
        pointers.filter_map(|pointer| schema.pointer(pointer)).collect()
    }

    /// Counts the steps that the check of a value takes at most.
    pub fn count(&self, schema: &Value, value: &Value) -> Result<u64, TooCostly> {
        let mut count = Count { costs: self, source: schema, steps: 0 };
        count.walk(schema, value, Runs { collects: 1, tests: 0, marks: 0 }, 0)?;
        Ok(count.steps)
    }
}

/// Returns the subschemas of a schema.
fn parts(members: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    members.iter().flat_map(|(word, value)| {
        let word = word.as_str();
        let one = Some(value).filter(|_| ONE.contains(&word));
        let several = value.as_array().filter(|_| SEVERAL.contains(&word)).into_iter().flatten();
        let named = value.as_object().filter(|_| NAMED.contains(&word)).into_iter().flatten();
        one.into_iter().chain(several).chain(named.map(|(_, value)| value))
    })
}

/// Collects the positions of all anchors by name; with `$dynamicAnchor`, a name may occur several times.
fn anchors(part: &Value, pointer: &mut String, found: &mut BTreeMap<String, Vec<String>>) {
    let mut below = |step: &str, part: &Value, found: &mut BTreeMap<_, _>| {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
        anchors(part, pointer, found);
        pointer.truncate(length);
    };
    match part {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| below(name, member, found));
            for name in ["$anchor", "$dynamicAnchor"].iter().filter_map(|word| members.get(*word)?.as_str()) {
                found.entry(name.to_owned()).or_default().push(pointer.clone());
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| below(&at.to_string(), item, found));
        }
        _ => {}
    }
}

/// Returns the positions that a reference may lead to.
fn targets(reference: &str, anchors: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>, String> {
    let Some(fragment) = reference.strip_prefix('#') else {
        return Err(format!(
            "cannot be used: the reference \"{reference}\" leads to another document; references must begin with #"
        ));
    };
    let fragment = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy().into_owned();
    if fragment.is_empty() || fragment.starts_with('/') {
        return Ok(vec![fragment]);
    }
    let found = anchors.get(&fragment).cloned();
    found.ok_or_else(|| format!("cannot be used: the reference \"{reference}\" leads nowhere"))
}

/// Returns the number of states of a compiled pattern.
fn states(pattern: &str) -> u64 {
    // As in JavaScript, these classes contain only ASCII; Rust's are a hundred times larger.
    let ascii = [
        (r"\w", "[0-9A-Za-z_]"),
        (r"\W", "[^0-9A-Za-z_]"),
        (r"\d", "[0-9]"),
        (r"\D", "[^0-9]"),
        (r"\s", r"[\t-\r ]"),
        (r"\S", r"[^\t-\r ]"),
    ];
    let pattern = ascii.iter().fold(pattern.to_owned(), |text, (class, set)| text.replace(class, set));
    let limited = thompson::Config::new().nfa_size_limit(Some(super::PATTERN_MAX));
    let built = thompson::Compiler::new().configure(limited).build(&pattern);
    built.map_or(STATES_ASSUMED, |states| states.states().len() as u64)
}

/// How often a check looks at a subschema: to collect errors, to test whether it matches, and to mark the members or items that
/// it evaluates, for `unevaluatedProperties` and `unevaluatedItems`.
#[derive(Debug, Clone, Copy)]
struct Runs {
    collects: u64,
    tests: u64,
    marks: u64,
}

impl Runs {
    fn all(self) -> u64 {
        self.collects.saturating_add(self.tests).saturating_add(self.marks)
    }

    /// The same with more tests.
    fn tested(self, more: u64) -> Self {
        Self { tests: self.tests.saturating_add(more), ..self }
    }

    /// Only the tests, and what else collected errors as another one.
    fn only_tested(self) -> Self {
        Self { collects: 0, ..self.tested(self.collects) }
    }
}

/// A count in progress.
struct Count<'s> {
    costs: &'s Costs,
    source: &'s Value,
    steps: u64,
}

impl<'s> Count<'s> {
    fn spend(&mut self, steps: u64) -> Result<(), TooCostly> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX { Err(TooCostly) } else { Ok(()) }
    }

    fn walk(&mut self, schema: &'s Value, value: &Value, runs: Runs, depth: usize) -> Result<(), TooCostly> {
        self.spend(runs.all())?;
        let Value::Object(members) = schema else { return Ok(()) };
        if depth > DEPTH_MAX {
            return Err(TooCostly);
        }
        for (word, part) in members {
            self.spend(self.own(word, part, value).saturating_mul(runs.all()))?;
        }
        let is_marking =
            ["unevaluatedProperties", "unevaluatedItems"].iter().any(|word| members.contains_key(*word));
        let marks =
            runs.marks.saturating_add(if is_marking { runs.collects.saturating_add(runs.tests) } else { 0 });
        // Marking tests each subschema for the same value, and marks below it.
        let same = Runs { marks, ..runs.tested(marks) };
        for (word, part) in members {
            self.same_value(word, part, value, same, depth + 1)?;
        }
        let below = Runs { marks: 0, ..same };
        match value {
            Value::Object(fields) => self.fields(members, fields, below, depth + 1),
            Value::Array(items) => self.items(members, items, below, depth + 1),
            _ => Ok(()),
        }
    }

    /// Returns the steps of a keyword, without its subschemas.
    fn own(&self, word: &str, part: &Value, value: &Value) -> u64 {
        let bytes = value.as_str().map_or(0, str::len) as u64;
        match (word, part) {
            ("enum" | "const", part) => size(part),
            ("required", Value::Array(names)) => names.len() as u64,
            ("dependentRequired" | "properties", part) => size_of_names(part),
            ("uniqueItems", Value::Bool(true)) => size(value),
            ("minLength" | "maxLength", _) => bytes / TEXT_PER_STEP,
            ("format", Value::String(format)) if format == "regex" && value.is_string() => COMPILE_STEPS,
            ("format" | "contentEncoding" | "contentMediaType", _) => bytes / TEXT_PER_STEP * 4,
            ("pattern", Value::String(pattern)) => self.matching(pattern, bytes),
            ("patternProperties", Value::Object(patterns)) => {
                let fields = value.as_object().into_iter().flatten();
                let each = |name: &String| -> u64 {
                    patterns.keys().map(|pattern| self.matching(pattern, name.len() as u64)).sum()
                };
                // Once for the subschemas, and once for those of the fields that match none.
                fields.map(|(name, _)| each(name)).sum::<u64>().saturating_mul(2)
            }
            _ => 0,
        }
    }

    /// Returns the steps of matching a pattern.
    fn matching(&self, pattern: &str, bytes: u64) -> u64 {
        let states = self.costs.patterns.get(pattern).copied().unwrap_or(STATES_ASSUMED);
        1 + (bytes + 1).saturating_mul(states) / STATES_PER_STEP
    }

    /// Counts the subschemas of a keyword that check the same value.
    fn same_value(
        &mut self,
        word: &str,
        part: &'s Value,
        value: &Value,
        runs: Runs,
        depth: usize,
    ) -> Result<(), TooCostly> {
        let several = part.as_array().into_iter().flatten();
        match word {
            "$ref" | "$dynamicRef" | "$recursiveRef" => {
                let targets = self.costs.referred(self.source, word, part);
                targets.into_iter().try_for_each(|target| self.walk(target, value, runs, depth))
            }
            "allOf" => several.into_iter().try_for_each(|one| self.walk(one, value, runs, depth)),
            // First tested, and if none or too many match, their errors are collected.
            "anyOf" | "oneOf" => {
                let runs = runs.tested(runs.collects.saturating_mul(2));
                several.into_iter().try_for_each(|one| self.walk(one, value, runs, depth))
            }
            "not" | "if" => self.walk(part, value, runs.only_tested(), depth),
            "then" | "else" => self.walk(part, value, runs, depth),
            "dependentSchemas" | "dependencies" => {
                let mut named = part.as_object().into_iter().flatten();
                named.try_for_each(|(_, one)| self.walk(one, value, runs, depth))
            }
            _ => Ok(()),
        }
    }

    /// Counts the subschemas that check the members of an object. Those that only some members are checked against are counted
    /// for all that may be.
    fn fields(
        &mut self,
        members: &'s Map<String, Value>,
        fields: &Map<String, Value>,
        runs: Runs,
        depth: usize,
    ) -> Result<(), TooCostly> {
        let known = members.get("properties").and_then(Value::as_object);
        let patterns = members.get("patternProperties").and_then(Value::as_object);
        for (name, field) in fields {
            let property = known.and_then(|known| known.get(name));
            for one in property.into_iter().chain(patterns.into_iter().flatten().map(|(_, one)| one)) {
                self.walk(one, field, runs, depth)?;
            }
            if let (None, Some(others)) = (property, members.get("additionalProperties")) {
                self.walk(others, field, runs, depth)?;
            }
            if let Some(others) = members.get("unevaluatedProperties") {
                self.walk(others, field, runs.tested(runs.collects), depth)?;
            }
            if let Some(names) = members.get("propertyNames") {
                self.walk(names, &Value::String(name.clone()), runs, depth)?;
            }
        }
        Ok(())
    }

    /// Counts the subschemas that check the items of a list.
    fn items(
        &mut self,
        members: &'s Map<String, Value>,
        items: &[Value],
        runs: Runs,
        depth: usize,
    ) -> Result<(), TooCostly> {
        let first = members.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (at, item) in items.iter().enumerate() {
            if let Some(one) = first.get(at).or_else(|| members.get("items")) {
                self.walk(one, item, runs, depth)?;
            }
            if let Some(one) = members.get("contains") {
                self.walk(one, item, runs.only_tested(), depth)?;
            }
            if let Some(others) = members.get("unevaluatedItems") {
                self.walk(others, item, runs.tested(runs.collects), depth)?;
            }
        }
        Ok(())
    }
}

/// Returns the steps that comparing a value takes.
fn size(value: &Value) -> u64 {
    let text = |text: &str| text.len() as u64 / TEXT_PER_STEP;
    match value {
        Value::String(string) => 1 + text(string),
        Value::Array(items) => 1 + items.iter().map(size).sum::<u64>(),
        Value::Object(members) => {
            1 + members.iter().map(|(name, member)| text(name) + size(member)).sum::<u64>()
        }
        _ => 1,
    }
}

/// Returns the number of names in an object, and in the lists in it.
fn size_of_names(part: &Value) -> u64 {
    let members = part.as_object().into_iter().flatten();
    members.map(|(_, names)| 1 + names.as_array().map_or(0, Vec::len) as u64).sum()
}

#[cfg(test)]
mod tests;
