//! The tags on the challenger's version, in which the truth is: each has one kind of writer, because a registry may have no
//! compare-and-set.
//!
//! | tag | writer | rule |
//! |---|---|---|
//! | `onstage.rollout` | the holder of the lease; others only restore it | the greatest step counts |
//! | `onstage.rollout.order` | people | the latest order counts |
//! | `onstage.rollout.aborted` | any replica | whatever ended stays ended |
//! | `onstage.rollout.lease` | who wants to step up | the last writer holds it |

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::gates::Finding;
use super::moment::Moment;
use super::plan::Weight;
use crate::error::{ErrorKind, Kinded};
use crate::model::Version;

/// The name of the tag that holds a [`State`].
pub const STATE: &str = "onstage.rollout";
/// The name of the tag that holds an [`Order`].
pub const ORDER: &str = "onstage.rollout.order";
/// The name of the tag that holds an [`Ended`].
pub const ENDED: &str = "onstage.rollout.aborted";
/// The name of the tag that holds a [`Lease`].
pub const LEASE: &str = "onstage.rollout.lease";

/// What tells one rollout from every other. The split hashes it, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RolloutId(String);

/// A text that identifies no rollout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` identifies no rollout: expected 1 to {LONGEST_ID} characters without control characters"
)]
pub struct IdError(String);

/// The longest name of a model, two versions and a time.
const LONGEST_ID: usize = 400;

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which rollout.
    pub id: RolloutId,
    /// The fleet that it is of.
    pub fleet: String,
    /// The version that may take the alias.
    pub challenger: Version,
    /// The version that has it.
    pub stable: Version,
    /// The number of the step, from 1.
    pub step: u32,
    /// The share of the traffic in this step.
    pub weight: Weight,
    /// When this step began.
    pub since: Moment,
    /// When the rollout began.
    pub began: Moment,
    /// When the challenger took the alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Moment>,
}

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Of which rollout.
    pub id: RolloutId,
    /// What it should do.
    pub order: OrderWord,
    /// Who said so.
    pub who: String,
    /// When.
    pub when: Moment,
}

/// The orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderWord {
    /// Take steps again.
    Resume,
    /// Stay at this weight.
    Pause,
    /// Give the challenger the alias at once.
    Promote,
    /// Back to the stable version for good.
    Abort,
}

/// That a rollout has ended at the stable version. Nobody removes it; only a rollout with another id begins again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Which rollout.
    pub id: RolloutId,
    /// Why, in a word.
    pub cause: Cause,
    /// Why, in a sentence.
    pub reason: String,
    /// What decided, when a gate did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Finding>,
    /// The replica, or the person.
    pub who: String,
    /// When.
    pub when: Moment,
}

/// What ends a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A gate.
    Gate,
    /// A person.
    Person,
    /// Its deadline.
    Deadline,
    /// Somebody moved or deleted an alias.
    Withdrawn,
}

/// Who may take steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The replica, as `HOST:PORT`.
    pub holder: String,
    /// Until when.
    pub until: Moment,
}

/// A tag that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "tag `{tag}` of version {version} holds `{value}`: {problem}; expected {expected}; correct the tag, or delete it"
)]
pub struct TagError {
    /// The name of the tag.
    pub tag: &'static str,
    /// The version that has it.
    pub version: Version,
    /// The beginning of what it holds.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What it should hold.
    pub expected: &'static str,
}

impl Kinded for TagError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// The tags of one version. One that is absent or unreadable is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tags {
    /// How far a rollout is.
    pub state: Option<State>,
    /// What a person wants.
    pub order: Option<Order>,
    /// That it has ended.
    pub ended: Option<Ended>,
    /// Who takes steps.
    pub lease: Option<Lease>,
    /// What could not be read.
    pub unreadable: Vec<TagError>,
}

/// A value of one of the tags.
pub trait Tag: Serialize + DeserializeOwned {
    /// The tag's name.
    const NAME: &'static str;
    /// What it holds.
    const EXPECTED: &'static str;

    /// The text of the tag.
    fn text(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and words are always JSON")
    }
}

impl Tag for State {
    const NAME: &'static str = STATE;
    const EXPECTED: &'static str = "a JSON object with `id`, `fleet`, `challenger`, `stable`, `step`, `weight`, `since` and \
                                    `began`, as onstage writes it";
}

impl Tag for Order {
    const NAME: &'static str = ORDER;
    const EXPECTED: &'static str = "a JSON object with `id`, `order` (`pause`, `resume`, `promote` or `abort`), `who` and `when`";
}

impl Tag for Ended {
    const NAME: &'static str = ENDED;
    const EXPECTED: &'static str =
        "a JSON object with `id`, `cause`, `reason`, `who` and `when`, as onstage writes it";
}

impl Tag for Lease {
    const NAME: &'static str = LEASE;
    const EXPECTED: &'static str = "a JSON object with `holder` and `until`";
}

impl Tags {
    /// Reads the tags of a version. `value` looks one up by its name.
    pub fn read<'t>(version: Version, value: impl Fn(&str) -> Option<&'t str>) -> Self {
        let mut tags = Self::default();
        let unreadable = &mut tags.unreadable;
        tags.state = parsed(version, value(STATE), unreadable);
        tags.order = parsed(version, value(ORDER), unreadable);
        tags.ended = parsed(version, value(ENDED), unreadable);
        tags.lease = parsed(version, value(LEASE), unreadable);
        if let Some(error) = tags
            .state
            .as_ref()
            .and_then(|state| misplaced(state, version))
        {
            tags.state = None;
            tags.unreadable.push(error);
        }
        tags
    }
}

fn parsed<T: Tag>(version: Version, text: Option<&str>, errors: &mut Vec<TagError>) -> Option<T> {
    let text = text?;
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            errors.push(TagError::new::<T>(version, text, error.to_string()));
            None
        }
    }
}

/// Tags can be copied by hand from one version to another.
fn misplaced(state: &State, version: Version) -> Option<TagError> {
    let problem = if state.challenger != version {
        format!("it is about version {}", state.challenger)
    } else if state.stable == version {
        "the challenger is the stable version".to_owned()
    } else if state.step == 0 {
        "`step` is 0, and steps count from 1".to_owned()
    } else {
        return None;
    };
    Some(TagError::new::<State>(version, &state.text(), problem))
}

/// Clocks of machines may differ by so much.
const SKEW: Duration = Duration::from_secs(300);

impl State {
    /// A step that begins in the future would never be judged.
    pub(super) fn misdated(&self, now: Moment) -> Option<TagError> {
        let times = [("since", self.since), ("began", self.began)];
        let mut times = times.into_iter();
        let (name, time) = times.find(|(_, time)| *time > now.after(SKEW))?;
        let problem = format!("`{name}` is {time}, and it is {now} now");
        Some(TagError::new::<Self>(
            self.challenger,
            &self.text(),
            problem,
        ))
    }
}

/// More of a broken tag helps nobody.
const SHOWN: usize = 80;

impl TagError {
    fn new<T: Tag>(version: Version, text: &str, problem: String) -> Self {
        let mut value: String = text.chars().take(SHOWN).collect();
        if text.chars().nth(SHOWN).is_some() {
            value.push('…');
        }
        Self {
            tag: T::NAME,
            version,
            value: value.escape_debug().to_string(),
            problem,
            expected: T::EXPECTED,
        }
    }
}

impl RolloutId {
    /// A checked identifier.
    ///
    /// # Errors
    /// When it is empty, too long, or holds control characters.
    pub fn new(id: impl Into<String>) -> Result<Self, IdError> {
        let id = id.into();
        let fits = !id.is_empty() && id.len() <= LONGEST_ID;
        if fits && !id.contains(char::is_control) {
            Ok(Self(id))
        } else {
            let shown: String = id.chars().take(SHOWN).collect();
            Err(IdError(shown.escape_debug().to_string()))
        }
    }

    /// The rollout that begins by itself when an alias names `challenger`: all replicas call it alike.
    pub fn by_alias(model: &str, challenger: Version, stable: Version) -> Self {
        Self::named(model, &format!("{challenger}-over-{stable}"))
    }

    /// The rollout that a person starts at `when`.
    pub fn by_person(model: &str, challenger: Version, stable: Version, when: Moment) -> Self {
        Self::named(
            model,
            &format!("{challenger}-over-{stable}-{}", when.millis()),
        )
    }

    fn named(model: &str, rest: &str) -> Self {
        let model: String = model.chars().filter(|c| !c.is_control()).collect();
        let end = model.floor_char_boundary(model.len().min(LONGEST_ID - rest.len() - 1));
        Self(format!("{}-{rest}", &model[..end]))
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RolloutId {
    type Error = IdError;

    fn try_from(id: String) -> Result<Self, IdError> {
        Self::new(id)
    }
}

impl From<RolloutId> for String {
    fn from(id: RolloutId) -> Self {
        id.0
    }
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const VERSION: Version = Version(12);

    fn state() -> State {
        State {
            id: RolloutId::by_alias("fraud", VERSION, Version(11)),
            fleet: "default".to_owned(),
            challenger: VERSION,
            stable: Version(11),
            step: 2,
            weight: Weight::try_from(5).unwrap(),
            since: Moment::from_millis(1_796_119_200_000),
            began: Moment::from_millis(1_796_118_000_000),
            promoted: None,
        }
    }

    fn read(tags: &[(&'static str, &str)]) -> Tags {
        let tags: BTreeMap<&str, &str> = tags.iter().copied().collect();
        Tags::read(VERSION, |name| tags.get(name).copied())
    }

    #[test]
    fn a_state_is_written_as_people_read_it_and_read_again() {
        let text = state().text();
        assert_eq!(
            text,
            r#"{"id":"fraud-12-over-11","fleet":"default","challenger":12,"stable":11,"step":2,"weight":5,"since":"2026-12-01T10:00:00.000Z","began":"2026-12-01T09:40:00.000Z"}"#
        );
        assert_eq!(read(&[(STATE, &text)]).state, Some(state()));
        let more = text.replacen('{', r#"{"later":1,"#, 1);
        assert_eq!(
            read(&[(STATE, &more)]).state,
            Some(state()),
            "a newer onstage may know more"
        );
    }

    #[test]
    fn a_broken_tag_is_named_with_what_is_wrong_and_what_was_expected() {
        fn errors(tag: &'static str, text: &str) -> String {
            let tags = read(&[(tag, text)]);
            assert_eq!(tags.unreadable.len(), 1, "{text}");
            assert!(tags.state.is_none() && tags.order.is_none() && tags.ended.is_none());
            tags.unreadable[0].to_string()
        }
        assert_eq!(
            errors(LEASE, "me"),
            "tag `onstage.rollout.lease` of version 12 holds `me`: expected value at line 1 column 1; expected a JSON \
             object with `holder` and `until`; correct the tag, or delete it"
        );
        let order = r#"{"id":"a","order":"stop","who":"me","when":"2026-12-01T10:00:00Z"}"#;
        assert!(errors(ORDER, order).contains("unknown variant `stop`"));
        for (was, is, problem) in [
            (r#""weight":5"#, r#""weight":101"#, "101 is no weight"),
            (r#""weight":5"#, r#""weight":0"#, "0 is no weight"),
            (r#""weight":5"#, r#""weight":"5""#, "invalid type: string"),
            (r#""step":2"#, r#""step":0"#, "`step` is 0"),
            (r#""step":2"#, r#""step":-1"#, "invalid value: integer `-1`"),
            (
                r#""challenger":12"#,
                r#""challenger":13"#,
                "it is about version 13",
            ),
            (
                r#""stable":11"#,
                r#""stable":12"#,
                "the challenger is the stable version",
            ),
            ("2026-12-01T10", "10 o'clock", "invalid time"),
            (r#""fleet":"default","#, "", "missing field `fleet`"),
            ("fraud-12-over-11", "", "identifies no rollout"),
        ] {
            let text = state().text().replace(was, is);
            let error = errors(STATE, &text);
            assert!(error.contains(problem), "{error}");
        }
        let long = "x".repeat(10_000);
        assert!(errors(ENDED, &long).len() < 400);
    }

    #[test]
    fn an_absent_tag_is_no_error() {
        assert_eq!(read(&[]), Tags::default());
    }

    #[test]
    fn an_id_is_short_and_printable_whatever_the_model_is_called() {
        for name in ["fraud", &"ü".repeat(300), "a\nb"] {
            let when = Moment::from_millis(u64::MAX);
            let id = RolloutId::by_person(name, Version(u64::MAX), Version(u64::MAX - 1), when);
            assert_eq!(RolloutId::new(id.as_str()), Ok(id));
        }
        for text in ["", "a\nb", &"x".repeat(401)] {
            assert!(RolloutId::new(text).is_err(), "{text}");
        }
    }
}
