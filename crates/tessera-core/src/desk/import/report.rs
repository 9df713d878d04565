//! The report of a batch: what happened to its lines.

use super::Numbered;
use crate::error::Fault;
use crate::plan::import::Read;

/// A line that was not imported, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The line is invalid.
    Bad(u64, Vec<Fault>),
    /// A different line with this ticket number was imported before. The existing ticket is unchanged.
    Differs(u64, i64),
}

impl Told {
    fn line(&self) -> u64 {
        match self {
            Self::Bad(line, _) | Self::Differs(line, _) => *line,
        }
    }
}

/// The numbers of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines processed.
    pub lines: u64,
    /// Tickets created.
    pub imported: u64,
    /// Lines skipped because they were imported before.
    pub skipped: u64,
    /// Skipped lines whose text differs from the line that was imported before.
    pub differing: u64,
    /// Invalid lines.
    pub bad: u64,
    /// Unprivileged users created.
    pub users: u64,
    /// Objects of the configuration created or changed: queues, fields, their attachments and owners.
    pub configured: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        let Self { lines, imported, skipped, differing, bad, users, configured } = other;
        self.lines += lines;
        self.imported += imported;
        self.skipped += skipped;
        self.differing += differing;
        self.bad += bad;
        self.users += users;
        self.configured += configured;
    }
}

/// The result of a batch.
#[derive(Default)]
pub(super) struct Report {
    pub told: Vec<Told>,
    /// The numbers of this batch.
    pub tally: Tally,
}

impl Report {
    /// Counts the lines, and returns those that could be read with their numbers.
    pub(super) fn read<'l>(&mut self, lines: &'l [Numbered]) -> Vec<(u64, &'l Read)> {
        let mut read = Vec::with_capacity(lines.len());
        for line in lines {
            self.tally.lines += 1;
            match &line.read {
                Ok(one) => read.push((line.number, one.as_ref())),
                Err(faults) => self.bad(line.number, faults.clone()),
            }
        }
        read
    }

    pub(super) fn bad(&mut self, number: u64, faults: Vec<Fault>) {
        self.tally.bad += 1;
        self.told.push(Told::Bad(number, faults));
    }

    /// Skips a line whose key was imported before, from this line or a different one.
    pub(super) fn skip(&mut self, number: u64, read: &Read, imported: &[u8]) {
        self.tally.skipped += 1;
        if let Some(given) = read.line.number.filter(|_| imported != read.key.line) {
            self.tally.differing += 1;
            self.told.push(Told::Differs(number, given));
        }
    }

    pub(super) fn in_order(mut self) -> Self {
        self.told.sort_by_key(Told::line);
        self
    }
}
