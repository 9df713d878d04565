//! How far an import is: a bar on a terminal, a line now and then elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tessera_core::desk::import::Tally;

use super::lines::Input;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The bar, of a file whose size is known.
const BAR: &str = "{bar:30} {percent}% {msg}, {eta} left";
/// The same of one that comes through a pipe.
const SPINNER: &str = "{spinner} {msg}, {elapsed}";

/// How far an import is.
pub struct Progress {
    bar: Option<ProgressBar>,
    position: Arc<AtomicU64>,
    size: Option<u64>,
    last_line: Instant,
}

impl Progress {
    /// Shows the progress of an input.
    pub fn new(input: &Input, is_terminal: bool) -> Self {
        let bar = is_terminal.then(|| match input.size {
            Some(size) => styled(ProgressBar::new(size), BAR),
            None => styled(ProgressBar::new_spinner(), SPINNER),
        });
        Self { bar, position: Arc::clone(&input.position), size: input.size, last_line: Instant::now() }
    }

    /// Shows how far it is.
    pub fn at(&mut self, tally: &Tally) {
        let position = self.position.load(Ordering::Relaxed);
        let words = format!("{} lines, {} imported, {} bad", tally.lines, tally.imported, tally.bad);
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(words);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let percent = self.size.filter(|size| *size > 0).map(|size| position.saturating_mul(100) / size);
            let percent = percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
            eprintln!("{words}{percent}");
        }
    }

    /// Says something above the bar.
    pub fn tell(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{words}")),
            None => eprintln!("{words}"),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar in a style; a style that cannot be read leaves it as it is.
fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
