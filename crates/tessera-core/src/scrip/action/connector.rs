//! The action `Connector`: a JSON payload whose strings are templates, for the connector of its kind.

use super::read::template;
use crate::error::Fault;
use crate::models::delivery::KindName;
use crate::scrip::kind::{ConnectorKind, Misfit};
use crate::scrip::mention::is_template;
use crate::scrip::template::{Compiled, Mode as Escape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The deepest nesting of a payload.
const DEPTH_MAX: usize = 16;
/// The most strings, numbers and other leaves in a payload.
const LEAVES_MAX: usize = 500;
/// The longest payload before rendering, in bytes.
const SOURCE_MAX: usize = 64 * 1024;

/// The configuration of `Connector`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectorConfig {
    /// The kind of connector that delivers it. A connector for this kind must have been added.
    #[schemars(with = "String", regex(pattern = "^[a-z][a-z0-9_-]{0,31}$"))]
    pub kind: KindName,
    /// The message: any JSON that the kind's schema accepts. Strings are templates, everything else is literal. Where the
    /// schema requires a number or a boolean, the rendered text is converted to one.
    pub payload: Value,
}

/// A compiled `Connector`.
#[derive(Debug)]
pub struct Connector {
    /// The kind of connector that delivers it.
    pub kind: KindName,
    payload: Node,
}

/// A payload, or a part of one.
#[derive(Debug)]
enum Node {
    Literal(Value),
    Text(Box<Text>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// A string of a payload that holds a template.
#[derive(Debug)]
struct Text {
    /// Its position in the payload: a JSON pointer.
    pointer: String,
    words: Compiled,
}

impl Connector {
    /// Compiles the templates of a payload.
    ///
    /// # Errors
    /// Faults of `action_config.payload…`, those of templates with line and column.
    pub fn compile(config: ConnectorConfig) -> Result<Self, Vec<Fault>> {
        let fault = |message: String| vec![Fault::new("action_config.payload", message)];
        let bytes = config.payload.to_string().len();
        if bytes > SOURCE_MAX {
            return Err(fault(format!("has {bytes} bytes; at most {SOURCE_MAX} are allowed")));
        }
        let mut leaves = 0;
        let payload = compile(&config.payload, &mut Vec::new(), &mut leaves)?;
        if leaves > LEAVES_MAX {
            return Err(fault(format!("has {leaves} values; at most {LEAVES_MAX} are allowed")));
        }
        Ok(Self { kind: config.kind, payload })
    }

    /// Returns the templates of the payload.
    pub fn texts(&self) -> Vec<&Compiled> {
        self.payload.texts().into_iter().map(|text| &text.words).collect()
    }

    /// Returns the payload with each template replaced by the text that `say` renders it to.
    ///
    /// # Errors
    /// The first error of `say`.
    pub fn render<E>(&self, mut say: impl FnMut(&str, &Compiled) -> Result<String, E>) -> Result<Value, E> {
        self.payload.render(&mut say)
    }

    /// Returns a rendered payload as the schema of its kind requires it: texts become numbers and booleans where the schema
    /// accepts only these.
    ///
    /// # Errors
    /// Every value that does not match the schema, except those that may depend on a text for which `is_open` holds: a text
    /// that a preview cannot know yet.
    pub fn fit(
        &self,
        kind: &ConnectorKind,
        mut payload: Value,
        is_open: impl Fn(&Compiled) -> bool,
    ) -> Result<Value, Vec<Misfit>> {
        let Some(schema) = &kind.schema else { return Ok(payload) };
        let texts = self.payload.texts();
        for text in &texts {
            if let Some(place) = payload.pointer_mut(&text.pointer)
                && let Some(value) = place.as_str().and_then(|said| schema.coerced(&text.pointer, said))
            {
                *place = value;
            }
        }
        let open: Vec<&str> =
            texts.iter().filter(|text| is_open(&text.words)).map(|text| text.pointer.as_str()).collect();
        let is_certain = |misfit: &Misfit| !open.iter().any(|pointer| misfit.may_come_from(pointer));
        let misfits: Vec<_> = schema.misfits(&payload).into_iter().filter(is_certain).collect();
        if misfits.is_empty() { Ok(payload) } else { Err(misfits) }
    }

    /// Returns the position of each text that the schema converts to another type, with the accepted types.
    pub fn typed<'s>(&self, kind: &'s ConnectorKind) -> Vec<(String, Vec<&'s str>)> {
        let Some(schema) = &kind.schema else { return Vec::new() };
        let typed = |text: &Text| Some((text.pointer.clone(), schema.types_instead_of_text(&text.pointer)?));
        self.payload.texts().into_iter().filter_map(typed).collect()
    }

    /// Returns the values that do not match the schema, whatever the templates render to.
    pub fn misfits(&self, kind: &ConnectorKind) -> Vec<Misfit> {
        let blank = self.payload.render(&mut |_, _| Ok::<_, std::convert::Infallible>(String::new()));
        let Ok(blank) = blank;
        self.fit(kind, blank, |_| true).err().unwrap_or_default()
    }
}

impl Node {
    fn texts(&self) -> Vec<&Text> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Text(text) => vec![text],
            Self::List(items) => items.iter().flat_map(Self::texts).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, member)| member.texts()).collect(),
        }
    }

    fn render<E>(&self, say: &mut impl FnMut(&str, &Compiled) -> Result<String, E>) -> Result<Value, E> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::Text(text) => Value::String(say(&text.pointer, &text.words)?),
            Self::List(items) => items.iter().map(|item| item.render(say)).collect::<Result<_, E>>()?,
            Self::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(name, member)| Ok((name.clone(), member.render(say)?)))
                    .collect::<Result<Map<_, _>, E>>()?,
            ),
        })
    }
}

fn compile(value: &Value, path: &mut Vec<String>, leaves: &mut usize) -> Result<Node, Vec<Fault>> {
    if path.len() > DEPTH_MAX {
        let message = format!("is nested deeper than {DEPTH_MAX}");
        return Err(vec![Fault::new("action_config.payload", message)]);
    }
    let pointer = |path: &[String]| {
        path.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect::<String>()
    };
    let mut below = |step: String, value: &Value| {
        path.push(step);
        let node = compile(value, path, leaves);
        path.pop();
        node
    };
    match value {
        Value::Array(items) => {
            let items = items.iter().enumerate().map(|(at, item)| below(at.to_string(), item));
            Ok(Node::List(items.collect::<Result<_, _>>()?))
        }
        Value::Object(members) => {
            let members =
                members.iter().map(|(name, member)| Ok((name.clone(), below(name.clone(), member)?)));
            Ok(Node::Object(members.collect::<Result<_, Vec<Fault>>>()?))
        }
        Value::String(source) if is_template(source) => {
            *leaves += 1;
            let pointer = pointer(path);
            let words = template(&format!("payload{pointer}"), source, Escape::Text)?;
            Ok(Node::Text(Box::new(Text { pointer, words })))
        }
        literal => {
            *leaves += 1;
            Ok(Node::Literal(literal.clone()))
        }
    }
}
