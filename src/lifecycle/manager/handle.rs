//! The way from the management API and from requests to a running manager.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::INBOX;
use super::message::{AdminView, Command, Message, Reply};
use crate::lifecycle::load::Supply;
use crate::model::{ModelId, ModelName, Version};
use crate::registry::Wanted;
use crate::serving::{Admin, AdminError, Demand, HoldRecord, SwapRecord};

/// The way to a running manager.
#[derive(Clone)]
pub struct ManagerHandle {
    messages: mpsc::Sender<Message>,
    view: Arc<Mutex<AdminView>>,
    progress: watch::Receiver<u64>,
    supply: Option<Arc<dyn Supply>>,
}

/// How long someone waits for a version to serve.
const LONGEST_SWAP: Duration = Duration::from_secs(600);

/// The manager's ends of its handles.
pub struct Mailbox {
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) view: Arc<Mutex<AdminView>>,
    pub(super) settled: watch::Sender<u64>,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

/// The way to a manager, made before the manager, so that whatever needs it can be made before too. What is sent waits
/// until the manager runs.
pub fn mailbox() -> (ManagerHandle, Mailbox) {
    let (sender, messages) = mpsc::channel(INBOX);
    let (settled, progress) = watch::channel(0);
    let view = Arc::new(Mutex::new(AdminView::default()));
    let handle = ManagerHandle {
        messages: sender,
        view: Arc::clone(&view),
        progress,
        supply: None,
    };
    let mailbox = Mailbox {
        messages,
        view,
        settled,
    };
    (handle, mailbox)
}

impl ManagerHandle {
    /// The same handle, which finds versions that are not wanted yet.
    #[must_use]
    pub fn with_supply(self, supply: Option<Arc<dyn Supply>>) -> Self {
        Self { supply, ..self }
    }

    async fn send(&self, command: impl FnOnce(Reply) -> Command) -> Result<(), AdminError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.messages.send(Message::Command(command(reply))).await;
        sent.map_err(|_| AdminError::Stopping)?;
        answer.await.unwrap_or(Err(AdminError::Stopping))
    }

    async fn send_in_time(
        &self,
        model: &ModelName,
        command: impl FnOnce(Reply) -> Command,
    ) -> Result<(), AdminError> {
        let answered = tokio::time::timeout(LONGEST_SWAP, self.send(command)).await;
        answered.unwrap_or_else(|_| {
            Err(AdminError::Failed(format!(
                "model `{model}` was not on stage within {LONGEST_SWAP:?}; it goes on loading"
            )))
        })
    }
}

#[async_trait]
impl Admin for ManagerHandle {
    async fn swap(&self, model: &ModelName, version: Version) -> Result<(), AdminError> {
        let id = ModelId {
            name: model.clone(),
            version,
        };
        // Looked up here because the manager never waits.
        let wanted = match &self.supply {
            Some(supply) => supply.find(&id).await.ok().map(Wanted::Package),
            None => None,
        };
        let command = |reply| Command::Swap {
            model: model.clone(),
            version,
            wanted,
            reply,
        };
        self.send_in_time(model, command).await
    }

    async fn load(&self, model: &ModelName) -> Result<(), AdminError> {
        let wanted = model.clone();
        let command = |reply| Command::Load {
            model: wanted,
            reply,
        };
        self.send_in_time(model, command).await
    }

    async fn hold(&self, model: &ModelName) -> Result<(), AdminError> {
        let model = model.clone();
        self.send(|reply| Command::Hold { model, reply }).await
    }

    async fn unload(&self, model: &ModelName) -> Result<(), AdminError> {
        let model = model.clone();
        self.send(|reply| Command::Unload { model, reply }).await
    }

    async fn resume(&self, model: &ModelName) -> Result<(), AdminError> {
        let model = model.clone();
        self.send(|reply| Command::Resume { model, reply }).await
    }

    fn holds(&self) -> Vec<HoldRecord> {
        self.view.lock().holds.values().cloned().collect()
    }

    fn history(&self) -> Vec<SwapRecord> {
        self.view.lock().history.iter().cloned().collect()
    }
}

#[async_trait]
impl Demand for ManagerHandle {
    async fn wake(&self, model: &ModelName) {
        // Without a manager the request ends by its deadline.
        let _ = self.messages.send(Message::Wake(model.clone())).await;
    }

    fn progress(&self) -> watch::Receiver<u64> {
        self.progress.clone()
    }
}

impl std::fmt::Debug for ManagerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagerHandle").finish_non_exhaustive()
    }
}
