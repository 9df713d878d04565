//! The progress of an import: a bar on a terminal, otherwise a line every few seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tessera_core::desk::import::Tally;

use super::lines::Input;

/// Time between lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The bar for a file of known size.
const BAR: &str = "{bar:30} {percent}% {msg}, {eta} left";
/// The bar for a pipe.
const SPINNER: &str = "{spinner} {msg}, {elapsed}";

/// Shows the progress of an import.
pub struct Progress {
    bar: Option<ProgressBar>,
    position: Arc<AtomicU64>,
    size: Option<u64>,
    last_line: Instant,
}

impl Progress {
    /// Starts to show the progress of an input.
    pub fn new(input: &Input, is_terminal: bool) -> Self {
        let bar = is_terminal.then(|| match input.size {
            Some(size) => styled(ProgressBar::new(size), BAR),
            None => styled(ProgressBar::new_spinner(), SPINNER),
        });
        Self { bar, position: Arc::clone(&input.position), size: input.size, last_line: Instant::now() }
    }

    /// Updates the progress.
    pub fn at(&mut self, tally: &Tally) {
        let position = self.position.load(Ordering::Relaxed);
        let words = format!("{} lines, {} imported, {} invalid", tally.lines, tally.imported, tally.bad);
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

    /// Prints a line above the bar.
    pub fn print(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{words}")),
            None => eprintln!("{words}"),
        }
    }

    /// Removes the bar.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Applies a style to a bar, if the style is valid.
fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
