//! `tessera import`: imports tickets from JSON Lines with COPY, each line once.

mod lines;
mod progress;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use tessera_core::Fault;
use tessera_core::db::Pools;
use tessera_core::delivery::guard::Guard;
use tessera_core::desk::Tessera;
use tessera_core::desk::import::{Import, Options, Tally, Told};

use super::migrate;
use crate::config::Config;
use crate::database::Database;
use lines::{Input, Reading};
use progress::Progress;

/// Faults reported per line; the first ones usually explain the rest.
const FAULTS_SHOWN: usize = 10;
/// Characters reported per fault, which may quote the file.
const FAULT_SHOWN: usize = 2_000;

/// The arguments of `tessera import`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// JSON Lines file, plain or compressed with gzip; `-` reads stdin
    file: PathBuf,
    /// Create missing queues, Freeform fields and owners
    #[arg(long)]
    create_missing: bool,
    /// Import nothing if any line is invalid: use one database transaction for all lines
    #[arg(long)]
    atomic: bool,
}

/// Imports a file. Skips tickets that were imported before, so it can be run again after any outcome.
///
/// # Errors
/// The file cannot be read, the database cannot be opened or rejects a batch, a line is invalid, or a line has the number of
/// another ticket that was imported.
pub async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let input = Input::open(&arguments.file)?;
    let database = Database::share(config).await?;
    let imported = import(config, &database, input, arguments).await;
    database.close().await?;
    let tally = imported?;
    match (tally.bad, tally.differing) {
        (0, 0) => Ok(()),
        (0, differing) => bail!(
            "{} not imported: other lines with the same numbers were. If these are other tickets, remove their numbers",
            lines_are(differing)
        ),
        (bad, _) if arguments.atomic => bail!("{} invalid; nothing was imported", lines_are(bad)),
        (bad, _) => {
            bail!(
                "{} invalid. Fix and import the file again: lines that were imported are skipped",
                lines_are(bad)
            )
        }
    }
}

async fn import(
    config: &Config,
    database: &Database,
    input: Input,
    arguments: &Arguments,
) -> anyhow::Result<Tally> {
    migrate::run_on(database).await?;
    let pools = Pools::new(&database.options(), config.pool_sizes);
    let guard = Arc::new(Guard::new(config.webhook_allow.clone()));
    let tessera = Tessera::open(pools.clone(), config.installation(), guard).await?;
    let options = Options { create_missing: arguments.create_missing, atomic: arguments.atomic };
    let begun = Instant::now();
    let imported = all(&tessera, input, options, &arguments.file).await;
    pools.close().await;
    let tally = imported?;
    say!("{}", summary(&tally, options, begun.elapsed().as_secs_f64()));
    Ok(tally)
}

/// Imports the whole input.
async fn all(tessera: &Tessera, input: Input, options: Options, file: &Path) -> anyhow::Result<Tally> {
    let mut progress = Progress::new(&input, std::io::stderr().is_terminal());
    let mut import = Import::begin(tessera, &tessera.administrator()?, options);
    let taken = take(&mut import, input, options, file, &mut progress).await;
    progress.end();
    if let Err(error) = taken {
        import.leave().await;
        return Err(error);
    }
    // If the connection is lost here, it is unknown whether the last batch was written.
    import
        .finish()
        .await
        .context("the import did not finish. Import the file again: lines that were imported are skipped")
}

/// Reads on one thread while writing on another.
async fn take(
    import: &mut Import<'_>,
    input: Input,
    options: Options,
    file: &Path,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    // Reserve the numbers in the file, so that a running server does not assign them in the meantime.
    if let Some(highest) = lines::highest_number(file).await? {
        import.reserve(highest).await?;
    }
    let mut reading = Reading::begin(input);
    while let Some(batch) = reading.next().await {
        let batch = batch
            .with_context(|| format!("cannot read {} after line {}", file.display(), import.tally().lines))?;
        let reports = import.take(&batch).await.with_context(|| stopped(&import.tally(), options))?;
        for one in &reports {
            progress.print(&words(one, file));
        }
        progress.at(&import.tally());
    }
    Ok(())
}

fn stopped(tally: &Tally, options: Options) -> String {
    match options.atomic {
        true => "the import stopped; nothing was imported".to_owned(),
        false => format!(
            "the import stopped after line {}. Import the file again: lines that were imported are skipped",
            tally.lines
        ),
    }
}

/// Formats the report on a line: its place, and each fault.
fn words(report: &Told, file: &Path) -> String {
    let file = file.display();
    match report {
        Told::Bad(line, faults) => {
            let text = |fault: &Fault| format!("{file}:{line}: {}", shown(&fault.to_string()));
            let mut words: Vec<String> = faults.iter().take(FAULTS_SHOWN).map(text).collect();
            if let Some(more) = faults.len().checked_sub(FAULTS_SHOWN).filter(|more| *more > 0) {
                words.push(format!("{file}:{line}: and {more} more"));
            }
            words.join("\n")
        }
        Told::Differs(line, number) => format!(
            "{file}:{line}: skipped: #{number} was already imported from a different line; the ticket was not changed"
        ),
    }
}

/// Escapes control characters and truncates a text.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(FAULT_SHOWN) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    if shown.len() < text.len() { shown + "..." } else { shown }
}

fn summary(tally: &Tally, options: Options, seconds: f64) -> String {
    let Tally { imported, skipped, differing, bad, users, configured, .. } = *tally;
    let is_nothing = options.atomic && bad > 0;
    let mut words = match is_nothing {
        true => "Imported nothing".to_owned(),
        // A speed says nothing about an import that took less than a second.
        false if seconds > 1.0 && imported > 0 => {
            #[expect(clippy::cast_precision_loss, reason = "it is shown without a fraction")]
            let speed = imported as f64 / seconds;
            format!("Imported {} in {seconds:.0} s, {speed:.0} a second", counted(imported, "ticket"))
        }
        false => format!("Imported {}", counted(imported, "ticket")),
    };
    if skipped > 0 {
        words += &format!("; skipped {} that had been imported before", counted(skipped, "line"));
    }
    if differing > 0 {
        words += &format!(" ({differing} with different content)");
    }
    if users > 0 {
        words += &format!("; created {}", counted(users, "user"));
    }
    if configured > 0 {
        words += &format!("; created or changed {}", counted(configured, "configuration object"));
    }
    if bad > 0 {
        words += &format!("; {} invalid", lines_are(bad));
    }
    words + "."
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn lines_are(count: u64) -> String {
    if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tessera_core::desk::clock;
    use tessera_core::plan::import::Read;

    #[test]
    fn the_report_on_a_bad_line_has_its_place_and_a_limited_number_of_faults() {
        let faults = (0..12).map(|at| Fault::new(format!("cc[{at}]"), "is wrong")).collect();
        let words = words(&Told::Bad(7, faults), Path::new("old.jsonl"));
        let lines: Vec<&str> = words.lines().collect();
        assert_eq!(lines.len(), 11);
        assert_eq!((lines[0], lines[10]), ("old.jsonl:7: cc[0]: is wrong", "old.jsonl:7: and 2 more"));
    }

    #[test]
    fn the_report_on_a_line_contains_no_control_characters() {
        let report = |line: &str| {
            let faults = Read::of("f", 1, line.as_bytes(), clock::now()).unwrap_err();
            words(&Told::Bad(1, faults), Path::new("f"))
        };
        let member = report("{\"\\u001b[2J\": 1}");
        assert!(
            member.starts_with("f:1: \\u{1b}[2J: unknown field `\\u{1b}[2J`, expected one of"),
            "{member}"
        );
        let long = report(&format!("{{\"{}\": 1}}", "x".repeat(1_000_000)));
        assert!(long.len() < FAULT_SHOWN + 20 && long.ends_with("x..."), "{}", long.len());
    }

    #[test]
    fn the_summary_lists_only_what_happened() {
        let tally = Tally { lines: 3, imported: 2, bad: 1, users: 4, ..Tally::default() };
        assert_eq!(
            summary(&tally, Options::default(), 0.1),
            "Imported 2 tickets; created 4 users; 1 line is invalid."
        );
        let atomic = Options { atomic: true, create_missing: false };
        let nothing = Tally { imported: 0, users: 0, ..tally };
        assert_eq!(summary(&nothing, atomic, 9.0), "Imported nothing; 1 line is invalid.");
        let again = Tally { skipped: 5, differing: 1, ..Tally::default() };
        assert_eq!(
            summary(&again, Options::default(), 0.1),
            "Imported 0 tickets; skipped 5 lines that had been imported before (1 with different content)."
        );
    }
}
