//! `tessera import`: tickets that were kept elsewhere, a ticket a line of JSON, by COPY and each line once.

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

/// Faults told of one line; the first ones mostly say it all.
const FAULTS_SHOWN: usize = 10;
/// Characters told of a fault, which may have words of the file.
const FAULT_SHOWN: usize = 2_000;

/// What an import is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file: JSON Lines, as they are or packed by gzip; `-` reads the standard input
    file: PathBuf,
    /// Make queues, Freeform fields and owners that there are not
    #[arg(long)]
    create_missing: bool,
    /// Write nothing if any line is bad: all in one database transaction
    #[arg(long)]
    atomic: bool,
}

/// Imports a file. What was imported before is skipped, so it can be run again, whatever became of it.
///
/// # Errors
/// The file cannot be read, the database cannot be had or refuses a batch, a line is bad, or one has the number of another
/// that was imported.
pub async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let input = Input::open(&arguments.file)?;
    let database = Database::share(config).await?;
    let imported = import(config, &database, input, arguments).await;
    database.close().await?;
    let tally = imported?;
    match (tally.bad, tally.differing) {
        (0, 0) => Ok(()),
        (0, differing) => bail!(
            "{} not imported: other lines were, under the same numbers. If they are other tickets, leave out their numbers",
            lines_of(differing)
        ),
        (bad, _) if arguments.atomic => bail!("{} bad; nothing was imported", lines_of(bad)),
        (bad, _) => {
            bail!("{} bad; mend them and import the file again: the others are skipped", lines_of(bad))
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
    let pools = Pools::new(database.options());
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
    let mut import = Import::begin(tessera, options);
    let taken = take(&mut import, input, options, file, &mut progress).await;
    progress.end();
    if let Err(error) = taken {
        import.leave().await;
        return Err(error);
    }
    // Whether the last of it was written before a connection was lost is not known here.
    import
        .finish()
        .await
        .context("the import did not end; import the file again, and what is there is skipped")
}

/// Reads on one thread and writes meanwhile.
async fn take(
    import: &mut Import<'_>,
    input: Input,
    options: Options,
    file: &Path,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    // A server that runs meanwhile gives away none of the numbers that are still to come.
    if let Some(highest) = lines::highest_number(file).await? {
        import.reserve(highest).await?;
    }
    let mut reading = Reading::begin(input);
    while let Some(batch) = reading.next().await {
        let batch = batch
            .with_context(|| format!("cannot read {} after line {}", file.display(), import.tally().lines))?;
        let told = import.take(&batch).await.with_context(|| stopped(&import.tally(), options))?;
        for one in &told {
            progress.tell(&words(one, file));
        }
        progress.at(&import.tally());
    }
    Ok(())
}

fn stopped(tally: &Tally, options: Options) -> String {
    match options.atomic {
        true => "the import stopped; nothing was imported".to_owned(),
        false => format!(
            "the import stopped after line {}; import the file again, and what was imported is skipped",
            tally.lines
        ),
    }
}

/// What is said of a line: where it stands, and each fault.
fn words(told: &Told, file: &Path) -> String {
    let file = file.display();
    match told {
        Told::Bad(line, faults) => {
            let said = |fault: &Fault| format!("{file}:{line}: {}", shown(&fault.to_string()));
            let mut words: Vec<String> = faults.iter().take(FAULTS_SHOWN).map(said).collect();
            if let Some(more) = faults.len().checked_sub(FAULTS_SHOWN).filter(|more| *more > 0) {
                words.push(format!("{file}:{line}: and {more} more"));
            }
            words.join("\n")
        }
        Told::Differs(line, number) => format!(
            "{file}:{line}: skipped: #{number} was imported before, from a line that says something else; the ticket stays as it is"
        ),
    }
}

/// A text without its control characters, and no longer than helps.
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
        // Of so few that the time says nothing, nobody asks how fast it was.
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
        words += &format!(" ({differing} with other words now)");
    }
    if users > 0 {
        words += &format!("; made {}", counted(users, "user"));
    }
    if configured > 0 {
        words += &format!("; made or changed {} of the configuration", counted(configured, "thing"));
    }
    if bad > 0 {
        words += &format!("; {} bad", lines_of(bad));
    }
    words + "."
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn lines_of(count: u64) -> String {
    if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tessera_core::desk::clock;
    use tessera_core::plan::import::Read;

    #[test]
    fn a_bad_line_is_told_with_its_place_and_no_more_faults_than_help() {
        let faults = (0..12).map(|at| Fault::new(format!("cc[{at}]"), "is wrong")).collect();
        let words = words(&Told::Bad(7, faults), Path::new("old.jsonl"));
        let lines: Vec<&str> = words.lines().collect();
        assert_eq!(lines.len(), 11);
        assert_eq!((lines[0], lines[10]), ("old.jsonl:7: cc[0]: is wrong", "old.jsonl:7: and 2 more"));
    }

    #[test]
    fn what_is_told_of_a_line_writes_and_does_nothing_else() {
        let told = |line: &str| {
            let faults = Read::of("f", 1, line.as_bytes(), clock::now()).unwrap_err();
            words(&Told::Bad(1, faults), Path::new("f"))
        };
        let member = told("{\"\\u001b[2J\": 1}");
        assert!(
            member.starts_with("f:1: \\u{1b}[2J: unknown field `\\u{1b}[2J`, expected one of"),
            "{member}"
        );
        let long = told(&format!("{{\"{}\": 1}}", "x".repeat(1_000_000)));
        assert!(long.len() < FAULT_SHOWN + 20 && long.ends_with("x..."), "{}", long.len());
    }

    #[test]
    fn the_summary_says_what_was_done_and_nothing_that_was_not() {
        let tally = Tally { lines: 3, imported: 2, bad: 1, users: 4, ..Tally::default() };
        assert_eq!(
            summary(&tally, Options::default(), 0.1),
            "Imported 2 tickets; made 4 users; 1 line is bad."
        );
        let atomic = Options { atomic: true, create_missing: false };
        let nothing = Tally { imported: 0, users: 0, ..tally };
        assert_eq!(summary(&nothing, atomic, 9.0), "Imported nothing; 1 line is bad.");
        let again = Tally { skipped: 5, differing: 1, ..Tally::default() };
        assert_eq!(
            summary(&again, Options::default(), 0.1),
            "Imported 0 tickets; skipped 5 lines that had been imported before (1 with other words now)."
        );
    }
}
