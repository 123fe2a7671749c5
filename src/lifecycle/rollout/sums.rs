//! What all replicas counted together.

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::tags::{Ended, RolloutId};

/// What a replica tells the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of which rollout, so that a message that is sent again says nothing about a later one.
    pub id: RolloutId,
    /// In which step.
    pub step: u32,
    /// What it counted since the step began.
    pub counts: Counts,
    /// That it has ended the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// The counts of those that are in the same step.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum<'r> {
    /// Together.
    pub counts: Counts,
    /// Replicas that are not in it: they did not answer, or are in another step. They do not stop a step.
    pub left_out: Vec<&'r str>,
    /// An end that one of them knows of.
    pub ended: Option<&'r Ended>,
}

impl Report {
    /// Adds what the other replicas, by their names, told; `None` for those that did not answer.
    pub fn with<'r>(&'r self, others: &'r [(String, Option<Self>)]) -> Sum<'r> {
        let of_this = |ended: &&Ended| ended.id == self.id;
        let mut sum = Sum {
            counts: self.counts.clone(),
            left_out: Vec::new(),
            ended: self.ended.as_ref().filter(of_this),
        };
        for (name, report) in others {
            let ours = report.as_ref().filter(|report| report.id == self.id);
            let ended = ours.and_then(|report| report.ended.as_ref());
            sum.ended = sum.ended.or(ended.filter(of_this));
            match ours.filter(|report| report.step == self.step) {
                Some(report) => sum.counts.add(&report.counts),
                None => sum.left_out.push(name),
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::moment::Moment;
    use super::super::tags::Cause;
    use super::*;

    fn report(id: &str, step: u32, answers: u64) -> Report {
        let mut counts = Counts::default();
        counts.challenger.answers = answers;
        Report {
            id: RolloutId::new(id).unwrap(),
            step,
            counts,
            ended: None,
        }
    }

    #[test]
    fn replicas_that_do_not_answer_or_are_elsewhere_are_left_out_by_name() {
        let others = [
            ("b".to_owned(), Some(report("fraud", 2, 20))),
            ("c".to_owned(), None),
            ("d".to_owned(), Some(report("fraud", 1, 300))),
            ("e".to_owned(), Some(report("other", 2, 4_000))),
        ];
        let own = report("fraud", 2, 1);
        let sum = own.with(&others);
        assert_eq!(sum.counts.challenger.answers, 21);
        assert_eq!(sum.left_out, ["c", "d", "e"]);
        assert_eq!(sum.ended, None);
    }

    #[test]
    fn an_end_counts_from_any_step_but_not_that_of_another_rollout() {
        let ended = |id: &str| Ended {
            id: RolloutId::new(id).unwrap(),
            cause: Cause::Gate,
            reason: "it failed".to_owned(),
            numbers: None,
            who: "b".to_owned(),
            when: Moment::default(),
        };
        let told = |of: &str, end: &str| {
            let report = Report {
                ended: Some(ended(end)),
                ..report(of, 1, 0)
            };
            [("b".to_owned(), Some(report))]
        };
        let own = report("fraud", 2, 1);
        assert_eq!(
            own.with(&told("fraud", "fraud")).ended,
            Some(&ended("fraud"))
        );
        assert_eq!(own.with(&told("other", "other")).ended, None);
        assert_eq!(own.with(&told("fraud", "other")).ended, None);
    }

    #[test]
    fn a_report_survives_json() {
        let report = report("fraud", 2, 7);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
