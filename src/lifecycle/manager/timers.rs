//! When the manager looks at a model although nothing happened to it.

use tokio::time::Instant;

use super::Manager;
use crate::model::ModelName;

impl Manager {
    /// When something has to be looked at without an event.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let first = self.timers.first().map(|(at, _)| *at);
        let looks = [first, self.judge_at, self.memory_look_at];
        looks.into_iter().flatten().min()
    }

    /// Marks the models whose time has come.
    pub(super) fn mark_due(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.timers.pop_first() else {
                return;
            };
            if let Some(record) = self.records.get_mut(&name) {
                record.timer = None;
            }
            self.dirty.insert(name);
        }
    }

    /// Sets the timer of a model to when it is due next.
    pub(super) fn set_timer(&mut self, name: &ModelName, now: Instant) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let next = record.next_look(self.parts.drain_timeout, now);
        if record.timer == next {
            return;
        }
        if let Some(before) = std::mem::replace(&mut record.timer, next) {
            self.timers.remove(&(before, name.clone()));
        }
        if let Some(next) = next {
            self.timers.insert((next, name.clone()));
        }
    }
}
