//! `tessera doctor`: checks everything that Tessera depends on, with or without a running server, and suggests fixes.

mod database;
mod disk;
mod outside;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tessera_core::models::secret::Secret;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::config::{Config, Surroundings};
use crate::database::Database;

/// Time limit of one check.
const CHECK_MAX: Duration = Duration::from_secs(20);
/// Time limit for starting the embedded PostgreSQL for a check, if no server runs it.
const START_MAX: Duration = Duration::from_secs(60);
/// Time limit for stopping it after the checks; the kernel stops it when the process ends.
const CLOSE_MAX: Duration = Duration::from_secs(30);

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
    let config = match settings(surroundings).await {
        Ok((config, found)) => {
            say!("{found}");
            config
        }
        Err(findings) => {
            for finding in findings {
                say!("{finding}");
            }
            bail!("the settings are invalid or unreadable, so nothing else was checked");
        }
    };
    let (mut checks, mut warnings, mut failed) = (1, 0, 0);
    let mut report = |findings: Vec<Finding>| {
        for finding in findings {
            say!("{finding}");
            checks += 1;
            warnings += u32::from(finding.verdict == Verdict::Warning);
            failed += u32::from(finding.verdict == Verdict::Failed);
        }
    };
    for check in disk::checks(&config) {
        report(blocking("disk", check).await);
    }
    report(within("server", outside::server(&config)).await);
    report(within("mail", outside::mail(&config)).await);
    of_database(&config, &mut report).await;
    if failed > 0 {
        bail!("{failed} of {checks} checks failed");
    }
    say!("Nothing failed: {checks} checks, warnings: {warnings}.");
    Ok(())
}

/// Reads the settings, which may be on a file system that does not respond.
async fn settings(surroundings: &Surroundings) -> Result<(Config, Finding), Vec<Finding>> {
    let surroundings = surroundings.clone();
    let load = move || match Config::load(&surroundings) {
        Ok(config) => Ok((config, Finding::good("settings", Config::sources(&surroundings)))),
        Err(error) => {
            let advice = "fix this setting; the other checks need it";
            Err(error.faults.iter().map(|fault| Finding::failed("settings", fault, advice)).collect())
        }
    };
    let loaded = timeout(CHECK_MAX, spawn_blocking(load)).await;
    loaded.map_err(|_| vec![silence("settings", "a file of the settings")])?.unwrap_or_else(|error| {
        Err(vec![Finding::failed("settings", error.to_string(), "report this error")])
    })
}

/// Runs the checks that need the database, without creating it.
async fn of_database(config: &Config, report: &mut impl FnMut(Vec<Finding>)) {
    let exists = {
        let config = config.clone();
        timeout(CHECK_MAX, spawn_blocking(move || Database::exists(&config))).await
    };
    match exists {
        Err(_) => return report(vec![silence("database", &config.data_dir.display().to_string())]),
        Ok(Ok(false)) => {
            let seen = format!("{} has no database yet", config.data_dir.display());
            return report(vec![Finding::warning("database", seen, "the first `tessera serve` creates it")]);
        }
        Ok(_) => {}
    }
    let database = match timeout(START_MAX, Database::share(config)).await {
        Ok(Ok(database)) => Arc::new(database),
        Ok(Err(error)) => {
            return report(vec![Finding::failed(
                "database",
                format!("{error:#}"),
                "do what the message says",
            )]);
        }
        Err(_) => {
            let seen = format!("the embedded PostgreSQL was not ready after {} s", START_MAX.as_secs());
            let advice = "see postgres/postgres.log in data_dir; recovery after a crash can take minutes";
            return report(vec![Finding::failed("database", seen, advice)]);
        }
    };
    database::check(config, &database, report).await;
    let Some(database) = Arc::into_inner(database) else { return };
    let closed = timeout(CLOSE_MAX, database.close()).await;
    let failed = match closed {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("the embedded PostgreSQL did not stop within {} s", CLOSE_MAX.as_secs()),
    };
    report(vec![Finding::failed("database", failed, "check whether PostgreSQL is still running")]);
}

/// Runs a check with its time limit.
async fn within(about: &'static str, check: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(CHECK_MAX, check).await.unwrap_or_else(|_| vec![silence(about, "")])
}

/// Runs a check that may block, such as on a network file system that does not respond, with its time limit. The process does
/// not wait for it at its end.
async fn blocking(
    about: &'static str,
    check: impl FnOnce() -> Vec<Finding> + Send + 'static,
) -> Vec<Finding> {
    let done = async {
        let advice = "report this error";
        spawn_blocking(check)
            .await
            .unwrap_or_else(|error| vec![Finding::failed(about, error.to_string(), advice)])
    };
    within(about, done).await
}

/// The finding of a check that took too long.
fn silence(about: &'static str, what: &str) -> Finding {
    let what = if what.is_empty() { String::new() } else { format!(" from {what}") };
    let seen = format!("no response{what} within {} s", CHECK_MAX.as_secs());
    let advice = "find out what blocks it: the network, a disk, or a server that does not respond";
    Finding::failed(about, seen, advice)
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
