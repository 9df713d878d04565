//! Kinds of connectors, and the JSON Schema that the payloads of each must match.

mod cost;

use crate::models::delivery::KindName;
use cost::{Costs, DEPTH_MAX, STEPS_MAX, TooCostly};
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Number, Value};
use std::fmt;

/// The longest schema, in bytes.
pub const SCHEMA_MAX: usize = 64 * 1024;
/// The most memory of one compiled pattern, in bytes.
const PATTERN_MAX: usize = 256 * 1024;
/// The most errors reported for one payload.
const FAULTS_MAX: usize = 20;
/// The longest message about a value, in characters; some list everything that the schema accepts.
const MESSAGE_MAX: usize = 500;
/// The most references followed to find the type at a position.
const REFERENCES_MAX: usize = 16;

/// A kind that scrips can name.
#[derive(Debug)]
pub struct ConnectorKind {
    /// Its name.
    pub name: KindName,
    /// The schema of its payloads; `None` accepts any JSON.
    pub schema: Option<Schema>,
    /// Whether a connector for it has ever connected.
    pub is_announced: bool,
}

/// A compiled JSON Schema (2020-12).
pub struct Schema {
    source: Value,
    costs: Costs,
    validator: Validator,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.source).finish()
    }
}

/// A value of a payload that does not match the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The position: a JSON pointer into the payload; empty for the whole payload.
    pub pointer: String,
    /// The error.
    pub message: String,
    /// Whether it depends on values below that position.
    spreads: bool,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => f.write_str(&self.message),
            pointer => write!(f, "{pointer}: {}", self.message),
        }
    }
}

impl Misfit {
    /// Whether it may disappear with another text at `pointer`, one that is not known before run time.
    pub fn may_come_from(&self, pointer: &str) -> bool {
        is_at_or_below(&self.pointer, pointer) || (self.spreads && is_at_or_below(pointer, &self.pointer))
    }
}

fn is_at_or_below(pointer: &str, above: &str) -> bool {
    pointer.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Schema {
    /// Compiles a schema. References to other documents are rejected, patterns are matched in linear time, and no check takes
    /// more than `STEPS_MAX` steps.
    ///
    /// # Errors
    /// A message that describes the first problem.
    pub fn compile(source: Value) -> Result<Self, String> {
        if !matches!(source, Value::Object(_) | Value::Bool(_)) {
            return Err("is not a valid JSON Schema: it must be an object".to_owned());
        }
        // First, so that what follows is bounded.
        let costs = Costs::of(&source)?;
        jsonschema::meta::validate(&source)
            .map_err(|error| format!("is not a valid JSON Schema: {error}"))?;
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX))
            .should_validate_formats(true)
            .offline()
            .build(&source)
            .map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Self { source, costs, validator })
    }

    /// The schema's source.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Returns the steps ([`crate::models::steps`]) that checking a payload takes. A step of `Costs` is a check of about a
    /// microsecond.
    pub fn cost(&self, payload: &Value) -> u64 {
        const CHECK: u64 = 10;
        CHECK * self.costs.count(&self.source, payload).unwrap_or(STEPS_MAX)
    }

    /// Returns the values of a payload that do not match, at most 20. A payload whose check takes too many steps is not checked,
    /// and does not match.
    pub fn misfits(&self, payload: &Value) -> Vec<Misfit> {
        if let Err(TooCostly) = self.costs.count(&self.source, payload) {
            let message = format!(
                "checking the payload takes more than {STEPS_MAX} steps, or is nested deeper than {DEPTH_MAX}; send a smaller payload, or simplify the connector's schema"
            );
            return vec![Misfit { pointer: String::new(), message, spreads: false }];
        }
        // Keywords whose result for a value depends on the values below it.
        const OF_ALL_BELOW: [&str; 14] = [
            "anyOf",
            "oneOf",
            "not",
            "if",
            "then",
            "else",
            "const",
            "enum",
            "contains",
            "minContains",
            "maxContains",
            "uniqueItems",
            "dependentSchemas",
            "unevaluatedProperties",
        ];
        let misfit = |error: jsonschema::ValidationError<'_>| Misfit {
            pointer: error.instance_path().to_string(),
            message: error.masked_with("this").to_string().chars().take(MESSAGE_MAX).collect(),
            spreads: error.evaluation_path().to_string().split('/').any(|word| OF_ALL_BELOW.contains(&word)),
        };
        self.validator.iter_errors(payload).take(FAULTS_MAX).map(misfit).collect()
    }

    /// Converts a text at `pointer` to the number or boolean that the schema requires there. Returns `None` if the schema accepts
    /// a text, or the text is neither.
    pub fn coerced(&self, pointer: &str, text: &str) -> Option<Value> {
        let text = text.trim();
        let as_whole = || text.parse::<i64>().ok().map(Value::from);
        let as_number = || text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number);
        self.types_instead_of_text(pointer)?.into_iter().find_map(|kind| match kind {
            "integer" => as_whole(),
            "number" => as_whole().or_else(as_number),
            "boolean" => text.parse::<bool>().ok().map(Value::Bool),
            _ => None,
        })
    }

    /// Returns the types that the schema accepts at `pointer`; `None` if it accepts a text.
    pub fn types_instead_of_text(&self, pointer: &str) -> Option<Vec<&str>> {
        let mut place = self.followed(&self.source)?;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            place = self.followed(self.below(place, &step)?)?;
        }
        let types: Vec<&str> = match place.get("type")? {
            Value::String(one) => vec![one.as_str()],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        if types.contains(&"string") { None } else { Some(types) }
    }

    /// Returns the subschema of a member or an item.
    fn below<'s>(&'s self, place: &'s Value, step: &str) -> Option<&'s Value> {
        let item = || {
            let at: usize = step.parse().ok()?;
            place.get("prefixItems").and_then(|items| items.get(at)).or_else(|| place.get("items"))
        };
        let member = place.get("properties").and_then(|members| members.get(step));
        member.or_else(item).or_else(|| place.get("additionalProperties"))
    }

    /// Follows references within the document.
    fn followed<'s>(&'s self, mut place: &'s Value) -> Option<&'s Value> {
        for _ in 0..REFERENCES_MAX {
            match place.get("$ref").and_then(Value::as_str) {
                None => return Some(place),
                Some(reference) => place = self.source.pointer(reference.strip_prefix('#')?)?,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    fn chat() -> Schema {
        Schema::compile(json!({
            "type": "object",
            "required": ["channel", "text"],
            "additionalProperties": false,
            "properties": {
                "channel": {"type": "string", "pattern": "^#"},
                "text": {"type": "string", "minLength": 1},
                "number": {"$ref": "#/$defs/number"},
                "loud": {"type": "boolean"},
                "share": {"type": ["number", "null"]},
                "either": {"type": ["integer", "string"]},
                "a/b": {"type": "integer"},
                "list": {"prefixItems": [{"type": "integer"}], "items": {"type": "boolean"}},
            },
            "$defs": {"number": {"type": "integer", "minimum": 1}},
        }))
        .unwrap()
    }

    #[test]
    fn a_schema_that_is_none_or_refers_outside_or_repeats_itself_for_ever_is_refused() {
        let table = [
            (json!("object"), "is not a valid JSON Schema"),
            (json!({"type": "text"}), "is not a valid JSON Schema"),
            (json!({"type": "object", "properties": []}), "is not a valid JSON Schema"),
            (json!({"$ref": "https://example.org/schema.json"}), "cannot be used"),
            (json!({"$ref": "file:///etc/passwd"}), "cannot be used"),
            (json!({"$ref": "#/$defs/missing"}), "cannot be used"),
            (json!({"type": "string", "pattern": "(?=x)"}), "cannot be used"),
        ];
        for (source, begin) in table {
            let refused = Schema::compile(source.clone()).err();
            assert!(refused.as_ref().is_some_and(|told| told.starts_with(begin)), "{source}: {refused:?}");
        }
        assert!(Schema::compile(json!(true)).is_ok());
    }

    #[test]
    fn a_schema_that_goes_round_in_circles_or_doubles_itself_is_refused_and_a_tree_is_not() {
        let mut doubling: Map<String, Value> = (0..40)
            .map(|at| {
                let next = json!({"$ref": format!("#/$defs/{}", at + 1)});
                (at.to_string(), json!({"allOf": [next, next]}))
            })
            .collect();
        doubling.insert("40".to_owned(), json!({"type": "object"}));
        for source in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}),
            json!({"$dynamicRef": "#"}),
            json!({"properties": {"a": {"if": {"$ref": "#/properties/a"}}}}),
        ] {
            let refused = Schema::compile(source.clone()).err();
            assert!(refused.is_some_and(|told| told.contains("refers to itself")), "{source}");
        }
        let tree = json!({"type": "object", "additionalProperties": {"$ref": "#"}});
        assert!(Schema::compile(tree).unwrap().misfits(&json!({"a": {"b": {}}})).is_empty());
        let refused = Schema::compile(json!({"$ref": "#/$defs/0", "$defs": doubling})).err();
        assert!(refused.is_some_and(|told| told.contains("takes more than 100000 steps for every payload")));
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let misfits =
            |payload: Value| chat().misfits(&payload).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(misfits(json!({"channel": "#a", "text": "hi", "number": 3})).is_empty());
        let told = misfits(json!({"channel": "a", "number": "3", "more": 1}));
        for part in ["/channel: ", "/number: ", "\"text\" is a required property", "'more' was unexpected"] {
            assert!(told.iter().any(|one| one.contains(part)), "{part}: {told:?}");
        }
    }

    #[test]
    fn a_text_becomes_what_alone_fits_at_its_place() {
        let table = [
            ("/number", "42", Some(json!(42))),
            ("/number", " 42\n", Some(json!(42))),
            ("/number", "4.2", None),
            ("/number", "forty", None),
            ("/loud", "true", Some(json!(true))),
            ("/loud", "yes", None),
            ("/share", "0.5", Some(json!(0.5))),
            ("/share", "7", Some(json!(7))),
            ("/share", "NaN", None),
            ("/text", "42", None),
            ("/either", "42", None),
            ("/a~1b", "1", Some(json!(1))),
            ("/list/0", "1", Some(json!(1))),
            ("/list/1", "true", Some(json!(true))),
            ("/unknown", "1", None),
            ("/number/deeper", "1", None),
            ("", "1", None),
        ];
        for (pointer, text, expected) in table {
            assert_eq!(chat().coerced(pointer, text), expected, "{pointer} {text:?}");
        }
    }

    #[test]
    fn a_fault_is_left_to_run_time_where_a_template_may_mend_it() {
        let schema = Schema::compile(json!({
            "oneOf": [{"properties": {"kind": {"const": "a"}}}, {"required": ["b"], "properties": {"kind": {"const": "b"}}}],
            "properties": {"list": {"maxItems": 1, "items": {"type": "integer"}}},
        }))
        .unwrap();
        let misfits = schema.misfits(&json!({"kind": "", "list": ["", ""]}));
        let left = |pointer: &str| misfits.iter().filter(|one| !one.may_come_from(pointer)).count();
        assert_eq!(misfits.len(), 4, "{misfits:?}");
        assert_eq!(left("/kind"), 3, "the choice depends on it, the list does not");
        assert_eq!(left("/list/0"), 2, "one of its items, and the choice of all");
        assert_eq!(left("/lis"), 3);
    }
}
