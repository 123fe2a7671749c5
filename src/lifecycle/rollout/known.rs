//! What one replica knows of a rollout. Knowledge only grows: tags may arrive late, twice, or in any order, and replicas that
//! have seen the same tags agree.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Weight;
use super::tags::{Ended, Order, RolloutId, State, Tags};

/// What is known. Kept across restarts, it serves nobody a challenger that was aborted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    state: Option<State>,
    order: Option<Order>,
    /// An abort may arrive before the rollout that it ends.
    ended: BTreeMap<RolloutId, Ended>,
}

/// Ends that are remembered: those of rollouts that late tags may still be about.
const REMEMBERED: usize = 16;

impl Known {
    /// The latest rollout.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The latest order about it.
    pub fn order(&self) -> Option<&Order> {
        let state = self.state.as_ref()?;
        self.order.as_ref().filter(|order| order.id == state.id)
    }

    /// How the latest rollout ended.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get(&self.state.as_ref()?.id)
    }

    /// Whether this rollout has ended, though it may never have been seen to run.
    pub fn has_ended(&self, id: &RolloutId) -> bool {
        self.ended.contains_key(id)
    }

    /// The share of the traffic for the challenger; `None` is none.
    pub fn weight(&self) -> Option<Weight> {
        let state = self.state.as_ref()?;
        self.ended().is_none().then_some(state.weight)
    }

    /// Learns what the tags of a version say.
    pub fn learn(&mut self, tags: &Tags) {
        if let Some(state) = &tags.state {
            self.follow(state);
        }
        if let Some(order) = &tags.order {
            self.obey(order);
        }
        if let Some(ended) = &tags.ended {
            self.end(ended);
        }
    }

    /// The rollout of the version that the alias names counts, of this version the later one, and of one rollout the greater
    /// step.
    pub fn follow(&mut self, state: &State) {
        let is_later = |known: &State| (known.began, &known.id) > (state.began, &state.id);
        match &mut self.state {
            Some(known) if known.id == state.id => known.join(state),
            Some(known) if known.challenger == state.challenger && is_later(known) => {}
            known => *known = Some(state.clone()),
        }
    }

    /// The latest order counts; one about another rollout never hides one about this.
    pub fn obey(&mut self, order: &Order) {
        let rank = |order: &Order| {
            let is_ours = self
                .state
                .as_ref()
                .is_some_and(|state| state.id == order.id);
            (is_ours, order.when, order.order, order.who.clone())
        };
        let known = self.order.as_ref();
        if known.is_none_or(|known| rank(order) > rank(known)) {
            self.order = Some(order.clone());
        }
    }

    /// What has ended stays ended; the first end that was seen is kept.
    pub fn end(&mut self, ended: &Ended) {
        self.ended
            .entry(ended.id.clone())
            .or_insert_with(|| ended.clone());
        while self.ended.len() > REMEMBERED {
            let current = self.state.as_ref().map(|state| &state.id);
            let oldest = self
                .ended
                .iter()
                .filter(|(id, _)| Some(*id) != current)
                .min_by_key(|(_, ended)| ended.when)
                .map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { break };
            self.ended.remove(&oldest);
        }
    }

    /// What the registry lacks of this knowledge.
    pub(super) fn missing(&self, tags: &Tags) -> (Option<&Ended>, Option<&State>) {
        let Some(state) = &self.state else {
            return (None, None);
        };
        let ended = self.ended();
        let has_end = |tagged: &Ended| tagged.id == state.id;
        let ended = ended.filter(|_| !tags.ended.as_ref().is_some_and(has_end));
        let lacks = match &tags.state {
            Some(tagged) => {
                let mut joined = tagged.clone();
                joined.join(state);
                tagged.id != state.id || joined != *tagged
            }
            None => true,
        };
        (ended, lacks.then_some(state))
    }
}

impl State {
    /// The knowledge of both, which are of one rollout.
    fn join(&mut self, other: &Self) {
        // Of two weights in one step, one was edited by hand: the smaller one harms fewer.
        let rank = |state: &Self| (state.step, Reverse(state.weight), Reverse(state.since));
        if rank(other) > rank(self) {
            (self.step, self.weight, self.since) = (other.step, other.weight, other.since);
        }
        self.began = self.began.min(other.began);
        self.promoted = match (self.promoted, other.promoted) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::moment::Moment;
    use super::super::tags::{Cause, OrderWord};
    use super::*;
    use crate::model::Version;

    fn id(number: u64) -> RolloutId {
        RolloutId::new(format!("fraud-{number}")).unwrap()
    }

    fn state(number: u64, step: u32, percent: i64) -> State {
        State {
            id: id(number),
            fleet: "default".to_owned(),
            challenger: Version(12),
            stable: Version(11),
            step,
            weight: Weight::try_from(percent).unwrap(),
            since: Moment::from_millis(number * 1_000 + u64::from(step)),
            began: Moment::from_millis(number * 1_000),
            promoted: None,
        }
    }

    fn ended(number: u64) -> Ended {
        Ended {
            id: id(number),
            cause: Cause::Gate,
            reason: "it failed".to_owned(),
            numbers: None,
            who: "a:1".to_owned(),
            when: Moment::from_millis(number),
        }
    }

    fn order(number: u64, order: OrderWord, when: u64) -> Order {
        Order {
            id: id(number),
            order,
            who: "ann".to_owned(),
            when: Moment::from_millis(when),
        }
    }

    /// Every order of the elements.
    fn permutations<T: Clone>(of: &[T]) -> Vec<Vec<T>> {
        if of.len() < 2 {
            return vec![of.to_vec()];
        }
        let firsts = (0..of.len()).flat_map(|first| {
            let mut rest = of.to_vec();
            let one = rest.remove(first);
            permutations(&rest).into_iter().map(move |mut tail| {
                tail.insert(0, one.clone());
                tail
            })
        });
        firsts.collect()
    }

    #[test]
    fn replicas_that_saw_the_same_agree_in_whatever_order_it_came() {
        let promoted = State {
            promoted: Some(Moment::from_millis(9)),
            ..state(2, 3, 25)
        };
        let tags = [
            Tags {
                state: Some(state(1, 4, 50)),
                ..Tags::default()
            },
            Tags {
                state: Some(state(2, 2, 5)),
                ..Tags::default()
            },
            Tags {
                state: Some(state(2, 4, 50)),
                ..Tags::default()
            },
            Tags {
                state: Some(state(2, 4, 90)),
                ..Tags::default()
            },
            Tags {
                state: Some(promoted),
                ..Tags::default()
            },
            Tags {
                ended: Some(ended(1)),
                ..Tags::default()
            },
        ];
        for order in permutations(&tags) {
            let mut known = Known::default();
            order.iter().for_each(|tags| known.learn(tags));
            let state = known.state().unwrap();
            assert_eq!(
                (&state.id, state.step, state.weight.percent()),
                (&id(2), 4, 50)
            );
            assert_eq!(state.promoted, Some(Moment::from_millis(9)));
            assert!(known.ended().is_none() && known.has_ended(&id(1)));
        }
    }

    #[test]
    fn an_end_is_never_undone() {
        let mut known = Known::default();
        known.end(&ended(2));
        for step in 1..5 {
            known.follow(&state(2, step, i64::from(step)));
            assert_eq!(known.weight(), None);
        }
        known.end(&Ended {
            reason: "later".to_owned(),
            ..ended(2)
        });
        assert_eq!(
            known.ended().unwrap().reason,
            "it failed",
            "the first one is kept"
        );
        known.follow(&state(3, 1, 1));
        assert!(known.weight().is_some(), "another id begins again");
    }

    #[test]
    fn ends_of_many_rollouts_are_forgotten_but_for_the_last_and_that_of_this_one() {
        let mut known = Known::default();
        known.follow(&state(1, 1, 1));
        (1..100).for_each(|number| known.end(&ended(number)));
        assert!(known.has_ended(&id(1)) && known.has_ended(&id(99)) && !known.has_ended(&id(50)));
        assert_eq!(known.ended.len(), REMEMBERED);
    }

    #[test]
    fn the_latest_order_about_this_rollout_counts() {
        let mut known = Known::default();
        known.follow(&state(2, 1, 1));
        known.obey(&order(2, OrderWord::Pause, 5));
        known.obey(&order(2, OrderWord::Resume, 4));
        known.obey(&order(1, OrderWord::Abort, 9));
        assert_eq!(known.order().unwrap().order, OrderWord::Pause);
        known.obey(&order(2, OrderWord::Resume, 6));
        assert_eq!(known.order().unwrap().order, OrderWord::Resume);
    }
}
