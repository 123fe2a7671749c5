//! The servers of clients, each on a socket of its own.

use anyhow::Context;
use axum_server::Handle;
use tokio::task::JoinSet;

use super::listen::{self, EventLoops, Local};
use crate::middleware::{Inner, Layered};

/// The servers of clients; each ends when its handle says so.
pub(crate) struct Servers {
    listening: listen::Listening,
    pub(crate) handles: Vec<Handle<Local>>,
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
}

impl Servers {
    pub(crate) fn new(listening: listen::Listening) -> Self {
        Self {
            listening,
            handles: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(crate) fn start(&mut self, bound: listen::Bound, service: Layered<impl Inner>) {
        let listening = self.listening.clone();
        let served = listening.serve(bound, service, self.handle());
        self.tasks.spawn(served);
    }

    pub(crate) fn start_on_event_loops(
        &mut self,
        bound: listen::Bound,
        service: Layered<impl Inner>,
    ) -> anyhow::Result<()> {
        let event_loops = EventLoops::start().context("cannot start the threads of connections")?;
        let listening = self.listening.clone();
        let served = listening.serve_on(event_loops, bound, service, self.handle());
        self.tasks.spawn(served);
        Ok(())
    }

    fn handle(&mut self) -> Handle<Local> {
        let handle = Handle::new();
        self.handles.push(handle.clone());
        handle
    }
}
