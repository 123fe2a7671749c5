//! What a look decides, and how a rollout stands.

use std::fmt;
use std::time::Duration;

use super::gates::Hold;
use super::plan::Weight;
use super::tags::{Ended, RolloutId, State, TagError};
use crate::model::Version;

/// The one thing to do after a look.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing; why.
    Wait(Wait),
    /// Write this state: a rollout begins.
    Begin(State),
    /// Write this state: the next step.
    Step(State),
    /// Serve the stable version alone from now on, and write this.
    End(Ended),
    /// Read the registry once more, look again, and if it is still this, move the alias.
    Promote {
        /// The version that must have the alias still.
        from: Version,
        /// The version that gets it.
        to: Version,
    },
}

/// Why there is nothing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Wait {
    /// No alias names a challenger, as far as is known.
    NoRollout,
    /// No version has the alias that serves.
    NoStable,
    /// The alias of the challenger names no version.
    NoChallenger,
    /// Both aliases name one version.
    SameVersion(Version),
    /// A rollout of this version has ended before: a person starts another.
    EndedBefore,
    /// There is one.
    RunsAlready,
    /// With the traffic of late it would not end in time.
    TooLong {
        /// So long it would take; `None` is for ever.
        takes: Option<Duration>,
        /// So long it may.
        deadline: Duration,
    },
    /// Another fleet rolls this version out.
    OtherFleet(String),
    /// A tag makes no sense.
    Unreadable(TagError),
    /// It has ended.
    Ended(RolloutId),
    /// The challenger has the alias.
    Promoted,
    /// A person paused it.
    Paused,
    /// The last step has passed, and a person decides.
    Person,
    /// A gate holds it.
    Gate(Hold),
    /// The interval has not passed.
    NotDue,
    /// Nothing was counted in this step.
    NoEvidence,
    /// The step has passed, but nobody said who the other replicas are. Without a weight, the alias would be next.
    Advises(Option<Weight>),
    /// Another replica takes the steps.
    Follows,
    /// The registry does not answer.
    RegistryAway,
}

/// How a rollout stands: the values of the label `state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    #[default]
    None,
    /// It takes steps.
    Running,
    /// A person paused it.
    Paused,
    /// It waits for a person to promote it.
    Waiting,
    /// A gate or a person ended it.
    Aborted,
    /// The challenger has the alias.
    Promoted,
    /// Its deadline passed.
    Expired,
    /// Somebody moved or deleted an alias.
    Withdrawn,
}

impl Phase {
    /// The word of the label; none when there is no rollout.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Running => Some("running"),
            Self::Paused => Some("paused"),
            Self::Waiting => Some("waiting"),
            Self::Aborted => Some("aborted"),
            Self::Promoted => Some("promoted"),
            Self::Expired => Some("expired"),
            Self::Withdrawn => Some("withdrawn"),
        }
    }
}

/// What the last look made of a rollout that has not ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outlook {
    phase: Phase,
    /// Whether the tags forbid to serve the challenger now.
    forbidden: bool,
}

impl Outlook {
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the challenger may get its share.
    pub(super) fn serves(&self) -> bool {
        !self.forbidden
    }

    /// Whatever forbade it may still be there while the registry is not `read`.
    pub(super) fn note(&mut self, action: &Action, read: bool) {
        if read {
            self.forbidden = matches!(
                action,
                Action::Wait(Wait::Unreadable(_) | Wait::OtherFleet(_))
            );
        }
        self.phase = match action {
            Action::Begin(_) | Action::End(_) => self.phase,
            Action::Step(_) | Action::Promote { .. } => Phase::Running,
            Action::Wait(wait) => wait.phase(self.phase),
        };
    }
}

impl Wait {
    fn phase(&self, before: Phase) -> Phase {
        match self {
            Self::NoRollout
            | Self::NoStable
            | Self::NoChallenger
            | Self::SameVersion(_)
            | Self::EndedBefore
            | Self::TooLong { .. }
            | Self::Unreadable(_)
            | Self::OtherFleet(_) => Phase::None,
            Self::Promoted => Phase::Promoted,
            Self::Paused => Phase::Paused,
            Self::Person => Phase::Waiting,
            Self::Gate(_) | Self::NoEvidence | Self::Advises(_) | Self::RunsAlready => {
                Phase::Running
            }
            Self::NotDue | Self::RegistryAway | Self::Follows => match before {
                Phase::Waiting | Phase::Paused => before,
                _ => Phase::Running,
            },
            Self::Ended(_) => before,
        }
    }
}

impl Action {
    /// What it is, in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Wait(_) => "wait",
            Self::Begin(_) => "begin",
            Self::Step(_) => "step",
            Self::End(_) => "end",
            Self::Promote { .. } => "promote",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(wait) => wait.fmt(f),
            Self::Begin(state) | Self::Step(state) => {
                write!(f, "step {} at {} %", state.step, state.weight)
            }
            Self::End(ended) => f.write_str(&ended.reason),
            Self::Promote { from, to } => {
                write!(f, "version {to} takes the alias of version {from}")
            }
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRollout => f.write_str("there is no rollout"),
            Self::NoStable => f.write_str("no version has the alias that serves"),
            Self::NoChallenger => f.write_str("the challenger's alias names no version"),
            Self::SameVersion(version) => {
                write!(
                    f,
                    "version {version} is both the challenger and the stable version"
                )
            }
            Self::EndedBefore => f.write_str(
                "a rollout of this version has ended before, and only a new one begins again",
            ),
            Self::RunsAlready => f.write_str("a rollout of this version is running"),
            Self::TooLong { takes, deadline } => {
                let takes = takes.map_or("for ever".to_owned(), |takes| {
                    format!("`{}`", humantime::format_duration(takes))
                });
                let deadline = humantime::format_duration(*deadline);
                write!(
                    f,
                    "with the traffic of the last hour the steps take {takes}, longer than the deadline of `{deadline}`; \
                     raise it, or lower `min_requests`"
                )
            }
            Self::OtherFleet(fleet) => {
                write!(f, "the fleet `{fleet}` is rolling this version out")
            }
            Self::Unreadable(error) => error.fmt(f),
            Self::Ended(id) => write!(f, "rollout `{id}` has ended"),
            Self::Promoted => f.write_str("the challenger has the alias"),
            Self::Paused => f.write_str("paused"),
            Self::Person => f.write_str("the last step has passed, and a person decides"),
            Self::Gate(hold) => hold.fmt(f),
            Self::NotDue => f.write_str("the next look is not due"),
            Self::NoEvidence => f.write_str("nothing was counted in this step"),
            Self::Advises(next) => {
                let next = next.map_or("the alias".to_owned(), |weight| format!("{weight} %"));
                write!(
                    f,
                    "this step has passed and {next} would be next, but `registry.peers` does not say who else serves"
                )
            }
            Self::Follows => f.write_str("another replica takes the steps"),
            Self::RegistryAway => f.write_str("the registry does not answer"),
        }
    }
}
