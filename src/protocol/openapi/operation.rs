//! What a row of the route table tells about itself.

/// One method of a row: what a client sends and what comes back.
#[derive(Debug, Clone, Copy)]
pub(in crate::protocol) struct Operation {
    /// In lower case, as OpenAPI has it.
    pub(super) method: &'static str,
    pub(super) summary: &'static str,
    /// What follows the path and is no part of its last name: `:predict`.
    pub(super) verb: &'static str,
    pub(super) body: RequestBody,
    pub(super) answer: Answer,
    /// Whether 503 has the same body as 200.
    pub(super) tells_unready: bool,
    /// The statuses of what goes wrong.
    pub(super) errors: &'static [u16],
}

/// The kinds of request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol) enum RequestBody {
    /// None, or one that is not looked at.
    None,
    /// MLflow's.
    Scoring,
    /// Of the Open Inference Protocol.
    Infer,
    /// Of V1.
    Predict,
    /// JSON of this schema, which may be left out.
    Optional(&'static str),
    /// JSON of this schema.
    Json(&'static str),
}

/// The kinds of answer with status 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol) enum Answer {
    /// There is none: it is always refused.
    Never,
    /// A body that nobody reads, or none.
    Empty,
    /// Of this media type.
    Media(&'static str),
    /// JSON of this schema.
    Json(&'static str),
    /// A prediction, which is also told in the headers.
    Prediction(&'static str),
}

/// What any request for a prediction may end with.
const PREDICTION_ERRORS: &[u16] = &[400, 404, 413, 415, 429, 500, 501, 503, 504];

impl Operation {
    /// Something to be read.
    pub(in crate::protocol) const fn get(summary: &'static str, answer: Answer) -> Self {
        Self {
            method: "get",
            summary,
            verb: "",
            body: RequestBody::None,
            answer,
            tells_unready: false,
            errors: &[],
        }
    }

    /// Something to be done.
    pub(in crate::protocol) const fn post(
        summary: &'static str,
        body: RequestBody,
        answer: Answer,
    ) -> Self {
        Self {
            method: "post",
            body,
            ..Self::get(summary, answer)
        }
    }

    /// Something to be taken away.
    pub(in crate::protocol) const fn delete(summary: &'static str, answer: Answer) -> Self {
        Self {
            method: "delete",
            ..Self::get(summary, answer)
        }
    }

    /// Scoring as MLflow has it.
    pub(in crate::protocol) const fn scoring(summary: &'static str) -> Self {
        let answer = Answer::Prediction("ScoringAnswer");
        Self::post(summary, RequestBody::Scoring, answer).fails(PREDICTION_ERRORS)
    }

    /// Inference as the Open Inference Protocol has it.
    pub(in crate::protocol) const fn infer(summary: &'static str) -> Self {
        let answer = Answer::Prediction("InferAnswer");
        Self::post(summary, RequestBody::Infer, answer).fails(PREDICTION_ERRORS)
    }

    /// Prediction as V1 has it.
    pub(in crate::protocol) const fn predict(summary: &'static str) -> Self {
        let answer = Answer::Prediction("PredictAnswer");
        Self::post(summary, RequestBody::Predict, answer).fails(PREDICTION_ERRORS)
    }

    /// A part of a protocol that is refused with this status.
    pub(in crate::protocol) const fn refused(
        summary: &'static str,
        errors: &'static [u16],
    ) -> Self {
        Self::post(summary, RequestBody::None, Answer::Never).fails(errors)
    }

    /// The statuses of what goes wrong.
    pub(in crate::protocol) const fn fails(self, errors: &'static [u16]) -> Self {
        Self { errors, ..self }
    }

    /// The answer is the same, with status 503, while it says no.
    pub(in crate::protocol) const fn or_unready(self) -> Self {
        Self {
            tells_unready: true,
            ..self
        }
    }

    /// The path ends with this verb.
    pub(in crate::protocol) const fn verb(self, verb: &'static str) -> Self {
        Self { verb, ..self }
    }
}
