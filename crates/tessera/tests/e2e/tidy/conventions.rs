//! Conventions that can be checked in the sources: opening comments, lengths, the order of modules, no tests that sleep.

use super::Source;

/// The modules of the core. Each may use only those before it. `error` may be used by all; metrics and failpoints come after
/// the pure modules.
const ORDER: [&str; 11] = [
    "error",
    "models",
    "lifecycle",
    "query",
    "scrip",
    "plan",
    "failpoint",
    "metrics",
    "db",
    "delivery",
    "desk",
];
/// The sources of the core.
const CORE: &str = "crates/tessera-core/src/";
/// The crates that serve clients.
const EDGES: [&str; 2] = ["crates/tessera-api/src/", "crates/tessera-grpc/src/"];
/// The beginning of the tests in a file that also has code.
const TESTS: &str = "#[cfg(test)]\nmod tests {";

/// Returns complaints about sources that do not begin with a description.
pub fn unopened(sources: &[Source]) -> Vec<String> {
    let closed = sources.iter().filter(|source| !source.text.starts_with("//! "));
    closed.map(|source| format!("{} does not begin with //! and a description", source.path)).collect()
}

/// Returns complaints about edges that ask the database themselves instead of the desk.
pub fn around_the_desk(sources: &[Source]) -> Vec<String> {
    let is_edge = |source: &&Source| EDGES.iter().any(|edge| source.path.starts_with(edge));
    let around =
        sources.iter().filter(is_edge).filter(|source| program(&source.text).contains("tessera_core::db"));
    around
        .map(|source| format!("{} uses tessera_core::db; go through tessera_core::desk", source.path))
        .collect()
}

/// Returns complaints about modules of the core that use a module after them.
pub fn out_of_order(sources: &[Source]) -> Vec<String> {
    let rank = |module: &str| ORDER.iter().position(|one| *one == module);
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !is_test(&source.path)) {
        let Some(place) = source.path.strip_prefix(CORE) else { continue };
        let module: Vec<&str> =
            place.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
        let Some(own) = rank(module[0]) else { continue };
        for used in used_modules(program(&source.text), module.len()) {
            match rank(&used) {
                Some(used) if used <= own => {}
                Some(_) => {
                    complaints.push(format!("{} uses {used}, which comes after {}", source.path, module[0]))
                }
                None => {
                    complaints.push(format!("{} uses {used}, which is not in the order; add it", source.path))
                }
            }
        }
    }
    complaints
}

/// Returns the top-level modules that a text refers to, as `crate::…` or with enough `super::`.
fn used_modules(text: &str, depth: usize) -> Vec<String> {
    let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let code = code.collect::<Vec<_>>().join(" ");
    let to_root = "super::".repeat(depth);
    let named = |prefix: &str| -> Vec<String> {
        let after = code.match_indices(prefix).filter(|(at, _)| {
            // `pub(crate)` has no colons; `$crate::` and `super::super::` of deeper modules begin earlier.
            !code[..*at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':'))
        });
        after.flat_map(|(at, _)| first_words(&code[at + prefix.len()..])).collect()
    };
    let mut modules = [named("crate::"), named(&to_root)].concat();
    // A type or function of the root belongs to `error`, which re-exports it there; a macro ends in `!` and has no module.
    modules.retain(|word| word.starts_with(|c: char| c.is_lowercase()) && !word.ends_with('!'));
    modules.sort();
    modules.dedup();
    modules
}

/// Returns the words that can follow in a path: one, or those of a list in braces.
fn first_words(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        let bang = if text[end..].starts_with('!') { "!" } else { "" };
        format!("{}{bang}", &text[..end])
    };
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let mut words = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                words.push(word(list[start..at].trim()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns complaints about tests that sleep and are not listed with a reason, and about listed ones that do not.
pub fn sleeping(sources: &[Source], listed: &[(&str, &str)]) -> Vec<String> {
    let asleep = sources.iter().map(|source| (source.path.as_str(), sleeping_lines(source)));
    let asleep: Vec<(&str, Vec<usize>)> = asleep.filter(|(_, lines)| !lines.is_empty()).collect();
    let is_listed = |path: &str| listed.iter().any(|(one, _)| *one == path);
    let unlisted = asleep.iter().filter(|(path, _)| !is_listed(path)).flat_map(|(path, lines)| {
        lines.iter().map(move |line| format!("{path}:{line} sleeps; wait for the condition"))
    });
    let idle = listed.iter().filter(|(path, _)| !asleep.iter().any(|(one, _)| one == path));
    let idle =
        idle.map(|(path, _)| format!("{path} is listed as sleeping, but is not; remove it from the list"));
    unlisted.chain(idle).collect()
}

/// Returns the numbers of the lines in a source's tests that sleep.
fn sleeping_lines(source: &Source) -> Vec<usize> {
    let program = if is_test(&source.path) { "" } else { program(&source.text) };
    let calls = |line: &str| {
        let calls = ["sleep(", "sleep_until("].map(|call| line.match_indices(call));
        // In quotes it is an action of a failpoint, or this rule.
        calls.into_iter().flatten().any(|(at, _)| !line[..at].ends_with('"'))
    };
    let tests = (program.lines().count() + 1..).zip(source.text[program.len()..].lines());
    tests.filter(|(_, line)| calls(line)).map(|(number, _)| number).collect()
}

/// Returns complaints about decisions whose number is not the next one, or differs from that in the title.
pub fn misnumbered(decisions: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, decision) in (1..).zip(decisions) {
        let name = decision.path.rsplit('/').next().unwrap_or("");
        if !name.starts_with(&format!("{number:04}-")) {
            complaints.push(format!("{} should have number {number}", decision.path));
        } else if !decision.text.starts_with(&format!("# {number}. ")) {
            complaints.push(format!("{} does not begin with \"# {number}. \"", decision.path));
        }
    }
    complaints
}

/// Returns the part of a text before its tests.
fn program(text: &str) -> &str {
    text.split(TESTS).next().unwrap_or(text)
}

/// Returns whether a file contains only tests.
pub fn is_test(path: &str) -> bool {
    path.contains("tests") || path.contains("fixtures") || path.ends_with("/testing.rs")
}

#[cfg(test)]
mod examples {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_source_without_an_opening_is_found() {
        let sources = [source("a.rs", "//! Describes it.\n"), source("b.rs", "use std::fmt;\n")];
        assert_eq!(unopened(&sources), ["b.rs does not begin with //! and a description"]);
    }

    #[test]
    fn an_edge_that_goes_around_the_desk_is_found() {
        let text = "//! Lists.\nuse tessera_core::db::search;\n";
        let sources = [source("crates/tessera-api/src/a.rs", text), source("crates/tessera/src/b.rs", text)];
        let complaint = "crates/tessera-api/src/a.rs uses tessera_core::db; go through tessera_core::desk";
        assert_eq!(around_the_desk(&sources), [complaint]);
    }

    #[test]
    fn a_module_that_uses_a_later_one_is_found_however_it_is_written() {
        let wrong = [
            ("models/id.rs", "use crate::db;"),
            ("plan/mod.rs", "use crate::{error::Error, models::{Ticket, User}, dispatch};"),
            ("plan/mod.rs", "use crate::{\n    error::Error,\n    desk::{self, clock},\n};"),
            ("scrip/mod.rs", "use super::plan::Plan;"),
            ("scrip/action/mod.rs", "use super::super::plan::Plan;"),
            ("scrip/action/mail.rs", "use super::super::super::plan::Plan;"),
            ("db/mod.rs", "fn f() { crate::delivery::wake() }"),
            ("error.rs", "use crate::models::Ticket;"),
            ("db/mod.rs", "use crate::elsewhere::Thing;"),
            ("db/plans.rs", "use crate::dispatch;\n#[cfg(test)]\nmod tests {\n    use crate::dispatch;\n}"),
        ];
        for (path, text) in wrong {
            let complaints = out_of_order(&[source(&format!("{CORE}{path}"), text)]);
            assert_eq!(complaints.len(), 1, "{path}: {text}: {complaints:?}");
        }
        let right = [
            ("db/plans.rs", "use crate::{Error, Result, plan::Plan, models};\nuse super::error;"),
            ("db/plans.rs", "//! Written for [`crate::dispatch`].\npub(crate) struct Plans;"),
            ("db/plans.rs", "use crate::plan;\n#[cfg(test)]\nmod tests {\n    use crate::dispatch;\n}"),
            ("db/deliveries/tests.rs", "use crate::dispatch;"),
            ("db/configuration/queues.rs", "use super::super::error;\ncrate::point!(\"before\");"),
            ("testing.rs", "use crate::dispatch;"),
            ("lib.rs", "pub use error::Error;"),
        ];
        let right = right.map(|(path, text)| source(&format!("{CORE}{path}"), text));
        assert_eq!(out_of_order(&right), [""; 0]);
        assert_eq!(out_of_order(&[source("crates/tessera-api/src/app.rs", "use crate::error;")]), [""; 0]);
    }

    #[test]
    fn a_test_that_sleeps_is_found_and_a_program_that_does_is_not() {
        // Written as `nap`, so that this test does not find itself.
        let sources = [
            ("src/worker.rs", "fn wait() {\n    nap(a);\n}\n\n#[cfg(test)]\nmod tests {\n    nap(a)\n}\n"),
            ("tests/e2e/kill.rs", "//! Kills.\ntokio::time::nap(second).await;\n"),
            ("src/worker/tests.rs", "nap_until(then).await;\nfail::cfg(\"settle\", \"nap(100)\")\n"),
        ];
        let sources = sources.map(|(path, text)| source(path, &text.replace("nap", "sleep")));
        let places = ["src/worker.rs:7", "tests/e2e/kill.rs:2", "src/worker/tests.rs:1"];
        let complaints = places.map(|place| format!("{place} sleeps; wait for the condition"));
        assert_eq!(sleeping(&sources, &[]), complaints);
        let listed = [("tests/e2e/kill.rs", "the moment is random"), ("tests/e2e/walk.rs", "it slept")];
        let idle = "tests/e2e/walk.rs is listed as sleeping, but is not; remove it from the list";
        assert_eq!(sleeping(&sources, &listed), [complaints[0].as_str(), &complaints[2], idle]);
    }

    #[test]
    fn a_decision_with_a_wrong_number_is_found() {
        let first = source("docs/adr/0001-a.md", "# 1. A\n");
        let complaints = |second: Source| misnumbered(&[first.clone(), second]);
        assert_eq!(complaints(source("docs/adr/0002-b.md", "# 2. B\n")), [""; 0]);
        let gap = "docs/adr/0003-b.md should have number 2";
        assert_eq!(complaints(source("docs/adr/0003-b.md", "# 3. B\n")), [gap]);
        let double = "docs/adr/0001-b.md should have number 2";
        assert_eq!(complaints(source("docs/adr/0001-b.md", "# 1. B\n")), [double]);
        let title = "docs/adr/0002-b.md does not begin with \"# 2. \"";
        assert_eq!(complaints(source("docs/adr/0002-b.md", "# 3. B\n")), [title]);
    }
}
