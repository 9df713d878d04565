//! `tessera doctor`: checks everything that Tessera depends on, with or without a running server, and suggests fixes.

mod database;
mod disk;
mod outside;

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use tessera_core::models::secret::Secret;

use crate::config::{Config, Surroundings};
use crate::database::Database;

/// Time limit of one check.
const CHECK_MAX: Duration = Duration::from_secs(20);
/// Time limit for starting the embedded PostgreSQL for a check, if no server runs it.
const START_MAX: Duration = Duration::from_secs(60);

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Good,
    /// Works, but needs attention.
    Warning,
    /// Does not work.
    Failed,
}

/// A check's observation and the advice that follows from it, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    about: &'static str,
    seen: String,
    advice: String,
}

impl Finding {
    fn good(about: &'static str, seen: impl Into<String>) -> Self {
        Self { verdict: Verdict::Good, about, seen: seen.into(), advice: String::new() }
    }

    fn warning(about: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, about, seen: seen.into(), advice: advice.into() }
    }

    fn failed(about: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, about, seen: seen.into(), advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        // A server's response may have several lines; join them.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{word:8} {:12} {}", self.about, line(&self.seen))?;
        match self.advice.as_str() {
            "" => Ok(()),
            advice => write!(f, "\n{:22}-> {}", "", line(advice)),
        }
    }
}

/// Runs every check, even after one fails.
///
/// # Errors
/// A check failed; all findings were printed.
pub async fn run(surroundings: &Surroundings) -> anyhow::Result<()> {
    let config = match Config::load(surroundings) {
        Ok(config) => config,
        Err(error) => {
            for fault in &error.faults {
                say!("{}", Finding::failed("settings", fault, "fix this setting; the other checks need it"));
            }
            bail!("the settings are invalid, so nothing else was checked");
        }
    };
    say!("{}", Finding::good("settings", Config::sources(surroundings)));
    let (mut checks, mut warnings, mut failed) = (1, 0, 0);
    let mut report = |findings: Vec<Finding>| {
        for finding in findings {
            say!("{finding}");
            checks += 1;
            warnings += u32::from(finding.verdict == Verdict::Warning);
            failed += u32::from(finding.verdict == Verdict::Failed);
        }
    };
    report(disk::check(&config));
    report(within("server", outside::server(&config)).await);
    report(within("mail", outside::mail(&config)).await);
    report(of_database(&config).await);
    if failed > 0 {
        bail!("{failed} of {checks} checks failed");
    }
    say!("Nothing failed: {checks} checks, warnings: {warnings}.");
    Ok(())
}

/// Runs the checks that need the database, without creating it.
async fn of_database(config: &Config) -> Vec<Finding> {
    if !Database::exists(config) {
        let seen = format!("{} has no database yet", config.data_dir.display());
        return vec![Finding::warning("database", seen, "the first `tessera serve` creates it")];
    }
    let started = tokio::time::timeout(START_MAX, Database::share(config)).await;
    let database = match started {
        Ok(Ok(database)) => database,
        Ok(Err(error)) => {
            return vec![Finding::failed("database", format!("{error:#}"), "do what the message says")];
        }
        Err(_) => {
            let seen = format!("the embedded PostgreSQL was not ready after {} s", START_MAX.as_secs());
            return vec![Finding::failed(
                "database",
                seen,
                "see postgres/postgres.log in data_dir; recovery after a crash can take minutes",
            )];
        }
    };
    let mut findings = within("database", database::check(config, &database)).await;
    if let Err(error) = database.close().await {
        findings.push(Finding::failed(
            "database",
            format!("{error:#}"),
            "check whether PostgreSQL is still running",
        ));
    }
    findings
}

/// Runs a check with its time limit.
async fn within(about: &'static str, check: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(CHECK_MAX, check).await.unwrap_or_else(|_| {
        let seen = format!("no response within {} s", CHECK_MAX.as_secs());
        vec![Finding::failed(
            about,
            seen,
            "find out what blocks it: the network, or a server that does not respond",
        )]
    })
}

/// Returns a URL without its password and its query.
fn without_password(url: &Secret) -> String {
    let Ok(mut url) = url::Url::parse(url.expose()) else { return "the configured URL".into() };
    url.set_query(None);
    // It fails only for a URL that cannot have a password.
    let _ = url.set_password(None);
    url.to_string()
}

/// Formats a number of seconds for people.
fn span(seconds: f64) -> String {
    match seconds {
        short if short < 120.0 => format!("{short:.0} s"),
        medium if medium < 7_200.0 => format!("{:.0} min", medium / 60.0),
        long => format!("{:.0} h", long / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_its_advice_another() {
        assert_eq!(Finding::good("mail", "it answers").to_string(), "ok       mail         it answers");
        let finding = Finding::failed("mail", "554 no\r\nservice", "ask its administrator");
        let expected = "failed   mail         554 no service\n                      -> ask its administrator";
        assert_eq!(finding.to_string(), expected);
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let shown = without_password(&Secret::new("postgres://u:hunter2@db.example.org/t?password=hunter2"));
        assert_eq!(shown, "postgres://u@db.example.org/t");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([3.2, 600.0, 90_000.0].map(span), ["3 s", "10 min", "25 h"]);
    }
}
