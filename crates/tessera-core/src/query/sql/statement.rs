//! Writes branches as one statement.

use super::branch::{Branch, FENCE_MAX, Text};
use super::builder::Builder;
use super::order::Shape;
use crate::query::resolve::DELETED;

/// The whole statement.
pub(super) fn write(builder: &mut Builder<'_>, branches: &[Branch], shape: &Shape, limit: &str) -> String {
    let mut writer = Writer { builder, shape, limit, withs: Vec::new(), selects: Vec::new() };
    for branch in branches {
        writer.branch(branch);
    }
    let Writer { withs, selects, .. } = writer;
    match selects.as_slice() {
        [only] if withs.is_empty() => only.clone(),
        many => {
            let with = if withs.is_empty() { String::new() } else { format!("WITH {}\n", withs.join(",\n")) };
            let many: Vec<String> = many.iter().map(|select| format!("({select})")).collect();
            // A ticket can match several branches.
            let Shape { outer_distinct, outer_order, .. } = shape;
            format!(
                "{with}SELECT {outer_distinct}*\nFROM (\n{}\n) u{outer_order}{limit}",
                many.join("\nUNION ALL\n")
            )
        }
    }
}

struct Writer<'w, 'a> {
    builder: &'w mut Builder<'a>,
    shape: &'w Shape,
    limit: &'w str,
    withs: Vec<String>,
    selects: Vec<String>,
}

/// How the sets of a branch are tested.
#[derive(Clone, Copy, PartialEq)]
enum Sets {
    /// Joined, so that PostgreSQL can begin with any of them.
    Joined,
    /// Looked up for each ticket, if tickets are tested in the order of the results.
    Looked,
}

impl Writer<'_, '_> {
    fn branch(&mut self, branch: &Branch) {
        // A text that may be rare is searched first; the other texts are tested on its matches.
        let fenced = branch.texts.iter().position(|text| !text.is_frequent);
        let others = branch.texts.iter().enumerate().filter(|(at, _)| Some(*at) != fenced);
        let others: Vec<&str> = others.map(|(_, text)| text.condition.as_str()).collect();
        match fenced.and_then(|at| branch.texts.get(at)) {
            Some(text) => self.fenced(branch, text, &others),
            None => {
                let sets = self.walking(!others.is_empty());
                let select = self.select(branch, sets, "tickets t", &others);
                self.selects.push(select);
            }
        }
    }

    /// If tickets are tested on a text in an order other than newest first, PostgreSQL would join all of them to the sets first.
    fn walking(&self, is_walking: bool) -> Sets {
        if is_walking && !self.shape.is_newest_first { Sets::Looked } else { Sets::Joined }
    }

    /// Two selects, and PostgreSQL runs one of them: the matches of the text if they are few, otherwise all tickets tested on it.
    fn fenced(&mut self, branch: &Branch, text: &Text, others: &[&str]) {
        let f = format!("f{}", self.withs.len());
        let select = &text.select;
        self.withs.push(format!(
            "{f} AS MATERIALIZED (\n  SELECT s.id FROM ({select}) s (id) LIMIT {})",
            FENCE_MAX + 1
        ));
        let are_many = format!("EXISTS (SELECT FROM {f} OFFSET {FENCE_MAX})");
        let conditions: Vec<&str> = others.iter().copied().chain(["t.id = f.id"]).collect();
        let body = self.body(branch, Sets::Joined, "tickets t", &conditions);
        let columns = &self.shape.columns;
        // OFFSET makes PostgreSQL look up each of the few matches instead of reading whole sets or all tickets in order.
        self.selects.push(format!(
            "SELECT t.*\nFROM (SELECT DISTINCT id FROM {f}) f\nCROSS JOIN LATERAL (\n  SELECT t.id{columns}\n{body}\n  OFFSET 0) t\nWHERE NOT {are_many}"
        ));
        let conditions: Vec<&str> =
            others.iter().copied().chain([text.condition.as_str(), are_many.as_str()]).collect();
        let sets = self.walking(true);
        let select = self.select(branch, sets, "tickets t", &conditions);
        self.selects.push(select);
    }

    fn select(&mut self, branch: &Branch, sets: Sets, from: &str, more: &[&str]) -> String {
        let is_joined = sets == Sets::Joined && !branch.sets.is_empty();
        let body = self.body(branch, sets, from, more);
        let Shape { columns, distinct, order, .. } = self.shape;
        let distinct = if is_joined { distinct.as_str() } else { "" };
        format!("SELECT {distinct}t.id{columns}\n{body}{order}{}", self.limit)
    }

    /// FROM and WHERE.
    fn body(&mut self, branch: &Branch, sets: Sets, from: &str, more: &[&str]) -> String {
        let mut text = format!("FROM {from}");
        let mut conditions: Vec<String> = Vec::new();
        let mut ids = vec!["t.id".to_owned()];
        for (at, part) in branch.sets.iter().enumerate() {
            let select = part.select();
            match sets {
                Sets::Joined => {
                    text += &format!("\nJOIN ({select}) j{at} (id) ON j{at}.id = t.id");
                    ids.push(format!("j{at}.id"));
                }
                Sets::Looked => conditions.push(format!("t.id IN ({select})")),
            }
        }
        text += &self.shape.joins;
        conditions.extend(self.ranges(branch, &ids));
        conditions.extend(branch.conditions.iter().cloned());
        if self.builder.hides_deleted {
            // A constant, so that PostgreSQL knows that nearly all tickets remain.
            conditions.push(format!("t.status <> '{DELETED}'"));
        }
        conditions.extend(more.iter().map(|condition| (*condition).to_owned()));
        conditions.extend(self.shape.after.clone());
        if conditions.is_empty() { text } else { format!("{text}\nWHERE {}", conditions.join("\n  AND ")) }
    }

    /// The bounds of the ticket's id, repeated for each set, because PostgreSQL does not propagate them through a join.
    fn ranges(&mut self, branch: &Branch, ids: &[String]) -> Vec<String> {
        let bounds = self.builder.id_bounds(branch.from, branch.until);
        let of_sets =
            self.shape.after_id.iter().flat_map(|after| ids.iter().skip(1).map(move |id| (id, after)));
        let of_all = ids.iter().flat_map(|id| bounds.iter().map(move |bound| (id, bound)));
        of_all.chain(of_sets).map(|(id, bound)| format!("{id} {bound}")).collect()
    }
}
