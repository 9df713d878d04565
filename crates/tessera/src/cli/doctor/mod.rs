//! `tessera doctor`: looks at everything that Tessera needs, while a server runs or none does, and says what to do.

mod database;
mod disk;
mod outside;

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use tessera_core::models::secret::Secret;

use crate::config::{Config, Surroundings};
use crate::database::Database;

/// How long one check may take.
const CHECK_MAX: Duration = Duration::from_secs(20);
/// How long the embedded PostgreSQL may take to start for a check, where no server runs it.
const START_MAX: Duration = Duration::from_secs(60);

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Good,
    /// Works, and somebody should look at it.
    Warning,
    /// Does not work.
    Failed,
}

/// What a check saw, in a line, and what to do about it in another one.
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
        // What a server said may have several lines; here each has one.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{word:8} {:12} {}", self.about, line(&self.seen))?;
        match self.advice.as_str() {
            "" => Ok(()),
            advice => write!(f, "\n{:22}-> {}", "", line(advice)),
        }
    }
}

/// Makes every check, although one fails.
///
/// # Errors
/// A check failed; each was printed.
pub async fn run(surroundings: &Surroundings) -> anyhow::Result<()> {
    let config = match Config::load(surroundings) {
        Ok(config) => config,
        Err(error) => {
            for fault in &error.faults {
                say!("{}", Finding::failed("settings", fault, "mend this setting; the other checks need it"));
            }
            bail!("the settings cannot be, so that nothing else was looked at");
        }
    };
    say!("{}", Finding::good("settings", Config::sources(surroundings)));
    let (mut checks, mut warnings, mut failed) = (1, 0, 0);
    let mut tell = |findings: Vec<Finding>| {
        for finding in findings {
            say!("{finding}");
            checks += 1;
            warnings += u32::from(finding.verdict == Verdict::Warning);
            failed += u32::from(finding.verdict == Verdict::Failed);
        }
    };
    tell(disk::look(&config));
    tell(within("server", outside::server(&config)).await);
    tell(within("mail", outside::mail(&config)).await);
    tell(of_database(&config).await);
    if failed > 0 {
        bail!("{failed} of {checks} checks failed");
    }
    say!("Nothing failed: {checks} checks, warnings: {warnings}.");
    Ok(())
}

/// The checks that need the database. It is not made for them.
async fn of_database(config: &Config) -> Vec<Finding> {
    if !Database::is_made(config) {
        let seen = format!("there is none yet in {}", config.data_dir.display());
        return vec![Finding::warning("database", seen, "the first start of `tessera serve` makes it")];
    }
    let started = tokio::time::timeout(START_MAX, Database::share(config)).await;
    let database = match started {
        Ok(Ok(database)) => database,
        Ok(Err(error)) => {
            return vec![Finding::failed(
                "database",
                format!("{error:#}"),
                "the sentence above says what to do",
            )];
        }
        Err(_) => {
            let seen = format!("the embedded PostgreSQL was not ready after {} s", START_MAX.as_secs());
            return vec![Finding::failed(
                "database",
                seen,
                "look at postgres/postgres.log in data_dir; a recovery takes its time",
            )];
        }
    };
    let mut findings = within("database", database::look(config, &database)).await;
    if let Err(error) = database.close().await {
        findings.push(Finding::failed(
            "database",
            format!("{error:#}"),
            "look whether PostgreSQL still runs",
        ));
    }
    findings
}

/// A check, for as long as it may take.
async fn within(about: &'static str, check: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(CHECK_MAX, check).await.unwrap_or_else(|_| {
        let seen = format!("no answer within {} s", CHECK_MAX.as_secs());
        vec![Finding::failed(
            about,
            seen,
            "find out what keeps it waiting: the network, or a server that hangs",
        )]
    })
}

/// The host and the path of a URL, without the password.
fn without_password(url: &Secret) -> String {
    let Ok(mut url) = url::Url::parse(url.expose()) else { return "the configured URL".into() };
    url.set_query(None);
    // A URL that can hold no password has none.
    let _ = url.set_password(None);
    url.to_string()
}

/// A span of seconds for a person.
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
    fn a_finding_is_a_line_and_what_to_do_another() {
        assert_eq!(Finding::good("mail", "it answers").to_string(), "ok       mail         it answers");
        let finding = Finding::failed("mail", "554 no\r\nservice", "ask its administrator");
        let expected = "failed   mail         554 no service\n                      -> ask its administrator";
        assert_eq!(finding.to_string(), expected);
    }

    #[test]
    fn a_url_is_shown_without_what_is_secret_in_it() {
        let shown = without_password(&Secret::new("postgres://u:hunter2@db.example.org/t?password=hunter2"));
        assert_eq!(shown, "postgres://u@db.example.org/t");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([3.2, 600.0, 90_000.0].map(span), ["3 s", "10 min", "25 h"]);
    }
}
