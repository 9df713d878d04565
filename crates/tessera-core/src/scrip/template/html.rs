//! Values in HTML: escaped, with their lines. A message that was sent as HTML is printed as HTML, cleaned.

use super::costs::copying;
use super::filters::show;
use crate::models::html;
use tera::{Kwargs, State, Tera, TeraResult, Value};

/// The state of a text that is HTML, to the extent that it matters for printing a value.
#[derive(Debug, Default)]
pub(super) struct Markup {
    /// Whether a tag is open, so that a value is a part of an attribute.
    pub is_in_tag: bool,
}

impl Markup {
    pub fn read(&mut self, text: &str) {
        if let Some(last) = text.rfind(['<', '>']) {
            self.is_in_tag = text.get(last..).is_some_and(|rest| rest.starts_with('<'));
        }
    }
}

/// Registers the filter that the scan inserts around values printed in HTML outside tags.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter("show_html", show_html);
}

/// Prints a value with its lines, or the cleaned HTML of the message whose text the value is.
fn show_html(value: &Value, kwargs: Kwargs, state: &State) -> TeraResult<Value> {
    if let Some(cleaned) = kwargs.get::<&Value>("html")?.and_then(Value::as_str) {
        copying(cleaned)?;
        return Ok(Value::safe_string(cleaned));
    }
    let shown = show(value, kwargs, state)?;
    Ok(shown.as_str().map(html::from_text).map_or(shown.clone(), |html| Value::safe_string(&html)))
}

/// Returns the path of the HTML of the message whose text is printed by this expression: `x.content` is the text of `x`.
pub(super) fn path_of(printed: &str, is_bound: impl Fn(&str) -> bool) -> Option<String> {
    let holder = match printed {
        "TransactionContent" => "transaction",
        _ => printed.strip_suffix(".content")?,
    };
    (holder == "transaction" || is_bound(holder)).then(|| format!("{holder}.html"))
}
