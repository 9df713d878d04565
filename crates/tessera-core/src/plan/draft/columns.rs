//! Subject, priority and due date.

use super::{Cause, Draft, Line, date};
use crate::error::{Error, Result};
use crate::models::text::{self, SUBJECT_MAX};
use crate::models::{Change, TransactionType};
use crate::plan::context::to_micros;
use time::OffsetDateTime;

impl Draft<'_> {
    pub fn set_subject(&mut self, new: &str, cause: Cause) -> Result<bool> {
        let new = &*text::typed(new);
        check_subject(new)?;
        if new == self.ticket.subject {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let change = Change::Subject { old: self.ticket.subject.clone(), new: new.to_owned() };
        let line = Line::set("Subject", &self.ticket.subject, new);
        self.push(TransactionType::Set, change, line, cause);
        Ok(true)
    }

    pub fn set_priority(&mut self, new: i32, cause: Cause) -> Result<bool> {
        let old = self.ticket.priority;
        if new == old {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line = Line::set("Priority", &old.to_string(), &new.to_string());
        self.push(TransactionType::Set, Change::Priority { old, new }, line, cause);
        Ok(true)
    }

    pub fn set_due(&mut self, new: Option<OffsetDateTime>, cause: Cause) -> Result<bool> {
        let new = new.map(checked_due).transpose()?;
        let old = self.ticket.due_at;
        if new == old {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line =
            Line { field: Some("Due".to_owned()), old: old.map(date), new: new.map(date), ..Line::default() };
        self.push(TransactionType::Set, Change::Due { old, new }, line, cause);
        Ok(true)
    }
}

/// Rejects an invalid subject.
pub(in crate::plan) fn check_subject(subject: &str) -> Result<()> {
    let fault = text::line_fault(subject, SUBJECT_MAX).or_else(|| {
        text::is_empty(subject).then(|| "is empty; lists show tickets by their subject".to_owned())
    });
    fault.map_or(Ok(()), |fault| Err(Error::invalid_field("subject", fault)))
}

/// Returns a due date as it is stored: in UTC, cut to microseconds. Rejects years that some format cannot represent.
pub(in crate::plan) fn checked_due(time: OffsetDateTime) -> Result<OffsetDateTime> {
    let time = time.checked_to_offset(time::UtcOffset::UTC).filter(|time| (1..=9_999).contains(&time.year()));
    let message = "is not within the years 1 to 9999 of UTC";
    time.map(to_micros).ok_or_else(|| Error::invalid_field("due_at", message))
}
