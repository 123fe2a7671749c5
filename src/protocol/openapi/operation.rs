//! What a row of the route table tells about itself.

use crate::middleware::auth::Scope;
use crate::protocol::access::Access;

/// One method of a row: what a client sends and what comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    /// In lower case, as OpenAPI has it.
    pub(crate) method: &'static str,
    /// Who may use it.
    pub(crate) access: Access,
    pub(crate) summary: &'static str,
    /// What follows the path and is no part of its last name: `:predict`.
    pub(crate) verb: &'static str,
    pub(crate) body: RequestBody,
    pub(crate) answer: Answer,
    /// Whether 503 has the same body as 200.
    pub(crate) tells_unready: bool,
    /// The statuses of what goes wrong.
    pub(crate) errors: &'static [u16],
}

/// The kinds of request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestBody {
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
    /// Lines of JSON, each of this schema.
    Lines(&'static str),
}

/// The kinds of answer with status 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is none: it is always refused.
    Never,
    /// A body that nobody reads, or none.
    Empty,
    /// Of this media type.
    Media(&'static str),
    /// JSON of this schema.
    Json(&'static str),
    /// The same, with status 202.
    Accepted(&'static str),
    /// A prediction, which is also told in the headers.
    Prediction(&'static str),
}

/// Who may ask for a prediction of the model in the path.
const PREDICT: Access = Access::Model(Scope::Predict);

/// What any request for a prediction may end with.
const PREDICTION_ERRORS: &[u16] = &[400, 404, 413, 415, 429, 500, 501, 503, 504];

impl Operation {
    /// Something to be read.
    pub(crate) const fn get(access: Access, summary: &'static str, answer: Answer) -> Self {
        Self {
            method: "get",
            access,
            summary,
            verb: "",
            body: RequestBody::None,
            answer,
            tells_unready: false,
            errors: &[],
        }
    }

    /// Something to be done.
    pub(crate) const fn post(
        access: Access,
        summary: &'static str,
        body: RequestBody,
        answer: Answer,
    ) -> Self {
        Self {
            method: "post",
            body,
            ..Self::get(access, summary, answer)
        }
    }

    /// Something to be taken away.
    pub(crate) const fn delete(access: Access, summary: &'static str, answer: Answer) -> Self {
        Self {
            method: "delete",
            ..Self::get(access, summary, answer)
        }
    }

    /// Scoring as MLflow has it.
    pub(crate) const fn scoring(summary: &'static str) -> Self {
        let answer = Answer::Prediction("ScoringAnswer");
        Self::post(PREDICT, summary, RequestBody::Scoring, answer).fails(PREDICTION_ERRORS)
    }

    /// Inference as the Open Inference Protocol has it.
    pub(crate) const fn infer(summary: &'static str) -> Self {
        let answer = Answer::Prediction("InferAnswer");
        Self::post(PREDICT, summary, RequestBody::Infer, answer).fails(PREDICTION_ERRORS)
    }

    /// Prediction as V1 has it.
    pub(crate) const fn predict(summary: &'static str) -> Self {
        let answer = Answer::Prediction("PredictAnswer");
        Self::post(PREDICT, summary, RequestBody::Predict, answer).fails(PREDICTION_ERRORS)
    }

    /// A part of a protocol that is refused with this status.
    pub(crate) const fn refused(
        access: Access,
        summary: &'static str,
        errors: &'static [u16],
    ) -> Self {
        Self::post(access, summary, RequestBody::None, Answer::Never).fails(errors)
    }

    /// The statuses of what goes wrong.
    pub(crate) const fn fails(self, errors: &'static [u16]) -> Self {
        Self { errors, ..self }
    }

    /// The answer is the same, with status 503, while it says no.
    pub(crate) const fn or_unready(self) -> Self {
        Self {
            tells_unready: true,
            ..self
        }
    }

    /// The path names no model: the default model is meant.
    pub(crate) const fn of_default(self) -> Self {
        Self {
            access: Access::Default(Scope::Predict),
            ..self
        }
    }

    /// The path ends with this verb.
    pub(crate) const fn verb(self, verb: &'static str) -> Self {
        Self { verb, ..self }
    }
}
