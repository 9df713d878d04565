//! Queue and status: moves along a lifecycle, and between the lifecycles of two queues.

use super::{Cause, Draft, Line};
use crate::error::Result;
use crate::lifecycle::StatusChange;
use crate::models::{Change, StatusClass, TransactionType};

impl<'a> Draft<'a> {
    pub fn move_to_queue(&mut self, name: &str, cause: Cause) -> Result<bool> {
        let target = self.catalog.open_queue(name)?;
        if target.id == self.ticket.queue {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        self.demand("CreateTicket", target.id, cause)?;
        let here = self.queue_now()?;
        let mapped =
            self.lifecycle_of(here)?.map_to(self.lifecycle_of(target)?.as_ref(), &self.ticket.status)?;
        let change = Change::Queue { old: here.id, new: target.id };
        self.push(TransactionType::Set, change, Line::set("Queue", &here.name, &target.name), cause);
        if let Some(change) = mapped {
            self.push_status(change, cause);
        }
        Ok(true)
    }

    pub fn set_status(&mut self, wanted: &str, cause: Cause) -> Result<bool> {
        let queue = self.queue_now()?;
        let lifecycle = self.lifecycle_of(queue)?;
        if lifecycle.canonical(wanted) == Some(self.ticket.status.as_str()) {
            return Ok(false);
        }
        let change = lifecycle.transition(&self.ticket.status, wanted)?;
        self.demand(change.right().unwrap_or("ModifyTicket"), queue.id, cause)?;
        self.push_status(change, cause);
        Ok(true)
    }

    /// Returns the list of statuses that a word means in the ticket's lifecycle; `None` = it means a status.
    pub fn list_of(&self, word: &str) -> Result<Option<StatusClass>> {
        Ok(self.lifecycle_of(self.queue_now()?)?.list_of(word))
    }

    /// Returns the first status of a class that the lifecycle allows from the current one.
    pub fn first_allowed(&self, class: StatusClass) -> Result<Option<&'a str>> {
        Ok(self.lifecycle_of(self.queue_now()?)?.first_allowed(&self.ticket.status, class))
    }

    fn push_status(&mut self, change: StatusChange, cause: Cause) {
        let (leaves_initial, enters_inactive) = (change.leaves_initial(), change.enters_inactive());
        let line = Line {
            old: Some(change.old_status().to_owned()),
            new: Some(change.new_status().to_owned()),
            ..Line::default()
        };
        let id = self.push(TransactionType::Status, change.into_change(), line, cause);
        let now = Some(self.context.now);
        if leaves_initial && self.ticket.started_at.is_none() {
            let old = self.ticket.started_at;
            self.derive("Started", old, now, Change::Started { old, new: now }, id, cause);
        }
        if enters_inactive {
            let old = self.ticket.resolved_at;
            self.derive("Resolved", old, now, Change::Resolved { old, new: now }, id, cause);
        }
    }
}
