//! What an appliance is asked, and which of its reports is the answer (paper, 4.2.4).

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::model::{Evidence, Value};
use crate::state_saving::Properties;
use crate::time::Monotonic;

/// How long the broker may take to have a question, and then an appliance to answer it.
pub const COMPARE_WITHIN: Duration = Duration::from_millis(200);
/// For how long an appliance must have been quiet before its evidence counts, at most.
const EVIDENCE_WITHIN_MAX: Duration = Duration::from_secs(2);

/// A question to an appliance, and what was heard since.
///
/// A report does not say which question it answers, and one that is older than the question may
/// still wait in the broker. So only what arrives after the broker has the question counts. Where
/// the fate of a command that must not be repeated hangs on the answer, even that is not taken at
/// once: all reports are heard until none came for [`COMPARE_WITHIN`], and the last one decides. If
/// they do not end within two seconds, nobody knows.
///
/// The premise: a report that waited in the broker for a new connection follows the one before within
/// that span, and what a device counts never falls, so that of two counts the larger is the later
/// one, also where a report overtook another.
#[derive(Debug)]
pub struct Question {
    asked_at: Monotonic,
    properties: Vec<String>,
    /// What is asked for to judge a command that must not be repeated.
    evidence: Option<Evidence>,
    /// Since when the broker has it.
    taken_at: Option<Monotonic>,
    heard_at: Option<Monotonic>,
    answer: Option<Properties>,
    /// Something came that may be the answer, before the broker was known to have the question.
    early: bool,
}

/// Where a question stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Reports are awaited until this instant.
    Open(Monotonic),
    /// What the appliance shows; `None` if it did not say so in time.
    Closed(Option<Properties>),
}

impl Question {
    /// Asks for `properties` of a device that shows by `evidence` what it carried out.
    #[must_use]
    pub fn new(asked_at: Monotonic, properties: Vec<String>, evidence: Option<&Evidence>) -> Self {
        let asked = |evidence: &&Evidence| properties.contains(property_of(evidence));
        let evidence = evidence.filter(asked).cloned();
        Self {
            asked_at,
            properties,
            evidence,
            taken_at: None,
            heard_at: None,
            answer: None,
            early: false,
        }
    }

    /// Which question of the flow it is.
    #[must_use]
    pub fn asked_at(&self) -> Monotonic {
        self.asked_at
    }

    /// The broker has it: from now on a report may be the answer.
    pub fn taken(&mut self, now: Monotonic) {
        self.taken_at.get_or_insert(now);
    }

    /// The appliance reports.
    pub fn heard(&mut self, now: Monotonic, shown: Properties) {
        let answers = match &self.evidence {
            Some(evidence) => shown.contains_key(property_of(evidence)),
            None => self.properties.iter().any(|name| shown.contains_key(name)),
        };
        if !answers {
            return;
        }
        if self.taken_at.is_none() {
            self.early = true;
            return;
        }
        self.heard_at = Some(now);
        let before = self.answer.replace(shown);
        if let (Some(Evidence::Counter(counter)), Some(before), Some(answer)) =
            (&self.evidence, before, &mut self.answer)
            && let Some(counted) = before.get(counter)
            && is_larger(counted, answer.get(counter))
        {
            answer.insert(counter.clone(), counted.clone());
        }
    }

    /// Whether it is answered, or never will be.
    #[must_use]
    pub fn outcome(&self, now: Monotonic) -> Outcome {
        let Some(taken_at) = self.taken_at else {
            return open_until(now, self.asked_at + COMPARE_WITHIN, || None);
        };
        if self.evidence.is_none() && self.answer.is_some() {
            return Outcome::Closed(self.answer.clone());
        }
        let quiet_at = self.heard_at.unwrap_or(taken_at) + COMPARE_WITHIN;
        let over_at = taken_at + EVIDENCE_WITHIN_MAX;
        if quiet_at > over_at {
            return open_until(now, over_at, || None);
        }
        open_until(now, quiet_at, || self.answer.clone())
    }

    /// Whether its answer may have come before the broker was known to have it, so that asking once
    /// more is of use.
    #[must_use]
    pub fn came_early(&self) -> bool {
        self.early && self.taken_at.is_some() && self.answer.is_none()
    }
}

fn open_until(
    now: Monotonic,
    end: Monotonic,
    answer: impl FnOnce() -> Option<Properties>,
) -> Outcome {
    if now < end {
        Outcome::Open(end)
    } else {
        Outcome::Closed(answer())
    }
}

fn property_of(evidence: &Evidence) -> &String {
    match evidence {
        Evidence::Counter(property) | Evidence::LastCommand(property) => property,
    }
}

fn is_larger(counted: &Value, than: Option<&Value>) -> bool {
    let than = than.and_then(Value::number);
    counted
        .number()
        .is_some_and(|counted| than.is_none_or(|than| counted > than))
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::vec;

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(millis * 1_000_000)
    }

    fn doses(count: i64) -> Properties {
        [("doses".to_owned(), Value::Integer(count))].into()
    }

    fn state(word: &str) -> Properties {
        [("state".to_owned(), word.to_owned().into())].into()
    }

    fn counter() -> Evidence {
        Evidence::Counter("doses".to_owned())
    }

    /// What is concluded of these reports, with when they came; the broker has the question at 10 ms.
    fn concluded(
        question: Question,
        reports: impl IntoIterator<Item = (u64, Properties)>,
    ) -> (Monotonic, Option<Properties>) {
        let mut question = question;
        let mut reports = reports.into_iter().peekable();
        let mut now = at(0);
        loop {
            if now >= at(10) && question.taken_at.is_none() {
                question.taken(at(10));
            }
            while let Some((millis, shown)) = reports.next_if(|(millis, _)| at(*millis) <= now) {
                question.heard(at(millis), shown);
            }
            match question.outcome(now) {
                Outcome::Closed(answer) => return (now, answer),
                Outcome::Open(_) => now = now + Duration::from_millis(1),
            }
        }
    }

    fn about_a_dose() -> Question {
        Question::new(at(0), vec!["doses".to_owned()], Some(&counter()))
    }

    #[test]
    fn a_report_that_waited_in_the_broker_does_not_decide_about_a_dose() {
        let reports = [(12, doses(5)), (60, doses(6))];
        assert_eq!(
            concluded(about_a_dose(), reports),
            (at(260), Some(doses(6)))
        );
    }

    #[test]
    fn what_came_before_the_broker_had_the_question_is_no_answer() {
        assert_eq!(
            concluded(about_a_dose(), [(5, doses(5))]),
            (at(210), None),
            "the pump did not answer"
        );
        let lamp = Question::new(at(0), vec!["state".to_owned()], None);
        let reports = [(5, state("OFF")), (30, state("ON"))];
        assert_eq!(concluded(lamp, reports), (at(30), Some(state("ON"))));
    }

    #[test]
    fn a_larger_count_wins_over_a_smaller_one_that_it_overtook() {
        let reports = [(20, doses(6)), (40, doses(5))];
        assert_eq!(
            concluded(about_a_dose(), reports),
            (at(240), Some(doses(6)))
        );
    }

    #[test]
    fn a_report_without_the_evidence_is_no_answer() {
        let both = vec!["state".to_owned(), "doses".to_owned()];
        let question = Question::new(at(0), both, Some(&counter()));
        assert_eq!(concluded(question, [(20, state("ON"))]), (at(210), None));
    }

    #[test]
    fn what_is_not_asked_as_evidence_is_answered_by_the_first_report() {
        let question = Question::new(at(0), vec!["state".to_owned()], Some(&counter()));
        let reports = [(20, doses(5)), (30, state("ON")), (40, state("OFF"))];
        assert_eq!(concluded(question, reports), (at(30), Some(state("ON"))));
    }

    #[test]
    fn reports_without_end_tell_nothing_about_a_dose() {
        let reports = (0..100).map(|number| (20 + number * 50, doses(5)));
        assert_eq!(concluded(about_a_dose(), reports), (at(2_010), None));
    }

    #[test]
    fn a_question_that_the_broker_does_not_get_has_no_answer() {
        let question = about_a_dose();
        assert_eq!(question.outcome(at(199)), Outcome::Open(at(200)));
        assert_eq!(question.outcome(at(200)), Outcome::Closed(None));
    }

    #[test]
    fn an_answer_that_may_have_come_early_is_asked_for_again() {
        let mut question = about_a_dose();
        question.heard(at(5), doses(6));
        question.taken(at(6));
        assert!(question.came_early());
        question.heard(at(7), doses(6));
        assert!(!question.came_early());
    }
}
