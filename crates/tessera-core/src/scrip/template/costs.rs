//! Costs: the steps that a rendering takes. Everything that can read more than a few bytes is charged before it is done.

use super::STEPS_MAX;
use crate::models::Steps;
use crate::models::steps::{COPIED, READ, steps};
use std::cell::Cell;
use tera::{Error, TeraResult, Value};

/// Steps for calling a filter or a test.
const CALL: u64 = 3;
/// Bytes of a text that one step escapes, writes and checks.
const PRINTED: usize = 32;

thread_local! {
    /// Steps left in the text that this thread renders. Filters receive nothing that could hold a counter, and a rendering stays on
    /// its thread.
    static TEXT: Cell<u64> = const { Cell::new(0) };
    /// Steps left in the request that this thread renders texts for.
    static REQUEST: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Renders texts with at most the steps that are left, and takes those that they used. A text that needs more fails, and then none
/// are left.
pub fn within<T>(left: &Steps, render: impl FnOnce() -> T) -> T {
    let (given, outer) = (left.left(), REQUEST.get());
    REQUEST.set(given);
    let rendered = render();
    let _ = left.spend(given - REQUEST.replace(outer));
    rendered
}

/// Renders one text, with at most [`STEPS_MAX`] steps.
pub(super) fn counted<T>(source: &str, render: impl FnOnce() -> TeraResult<T>) -> TeraResult<T> {
    let given = STEPS_MAX.min(REQUEST.get());
    TEXT.set(given);
    let rendered = spend(CALL + steps(source.len(), READ)).and_then(|()| render());
    REQUEST.set(REQUEST.get() - (given - TEXT.get()));
    rendered
}

/// Takes steps for work that is about to be done. A text that exceeds its limit has none left, and fails.
pub(super) fn spend(steps: u64) -> TeraResult<()> {
    let left = TEXT.get().checked_sub(steps);
    TEXT.set(left.unwrap_or(0));
    left.map(drop)
        .ok_or_else(|| Error::message(format!("this template takes more than {STEPS_MAX} steps (STEPS_MAX)")))
}

/// Takes the steps for copying or searching a text.
pub(super) fn copying(text: &str) -> TeraResult<()> {
    spend(CALL + steps(text.len(), COPIED))
}

/// Takes the steps for reading a text character by character.
pub(super) fn reading(text: &str) -> TeraResult<()> {
    spend(CALL + steps(text.len(), READ))
}

/// Takes the steps for printing a text.
pub(super) fn printing(text: &str) -> TeraResult<()> {
    spend(CALL + steps(text.len(), PRINTED))
}

/// Returns the steps for comparing all of a value, with everything in it.
pub(super) fn cost(value: &Value) -> u64 {
    if let Some(items) = value.as_array() {
        return CALL + items.iter().map(cost).sum::<u64>();
    }
    match value.as_map() {
        Some(members) => CALL + members.values().map(|member| 2 + cost(member)).sum::<u64>(),
        None => CALL + steps(value.as_str().map_or(0, str::len), COPIED),
    }
}
