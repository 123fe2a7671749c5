//! What the messages of clients become in memory: one table for [`super::wire`]. A test compares it with the descriptions
//! of the services.

use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::inference::{
    InferParameter, ModelInferRequest, ModelRepositoryParameter, log_settings_request,
    trace_setting_request,
};
use super::wire::Width::{Fixed, Variable};
use super::wire::{Field, Layout};

/// Messages with texts in some of their first fields, and nothing else that takes memory.
static TEXTS: Layout = Layout {
    size: 256,
    fields: &[
        (1, Field::Text),
        (2, Field::Text),
        (3, Field::Text),
        (4, Field::Text),
        (5, Field::Message(&NESTED_TEXT)),
        (6, Field::Text),
        (7, Field::Text),
    ],
};

static NESTED_TEXT: Layout = Layout {
    size: 0,
    fields: &[(1, Field::Text)],
};

const PARAMETERS: Field = Field::Map(&PARAMETER_ENTRY);

static PARAMETER_ENTRY: Layout = Layout {
    size: size_of::<(String, InferParameter)>(),
    fields: &[(1, Field::Text), (2, Field::Message(&PARAMETER))],
};

static PARAMETER: Layout = Layout {
    size: 0,
    fields: &[(3, Field::Text)],
};

static CONTENTS: Layout = Layout {
    size: 0,
    fields: &[
        (1, Field::Numbers(1, Variable)),
        (2, Field::Numbers(4, Variable)),
        (3, Field::Numbers(8, Variable)),
        (4, Field::Numbers(4, Variable)),
        (5, Field::Numbers(8, Variable)),
        (6, Field::Numbers(4, Fixed)),
        (7, Field::Numbers(8, Fixed)),
        (8, Field::Slices),
    ],
};

static INPUT: Layout = Layout {
    size: size_of::<InferInputTensor>(),
    fields: &[
        (1, Field::Text),
        (2, Field::Text),
        (3, Field::Numbers(8, Variable)),
        (4, PARAMETERS),
        (5, Field::Message(&CONTENTS)),
    ],
};

static OUTPUT: Layout = Layout {
    size: size_of::<InferRequestedOutputTensor>(),
    fields: &[(1, Field::Text), (2, PARAMETERS)],
};

static INFER: Layout = Layout {
    size: size_of::<ModelInferRequest>(),
    fields: &[
        (1, Field::Text),
        (2, Field::Text),
        (3, Field::Text),
        (4, PARAMETERS),
        (5, Field::Messages(&INPUT)),
        (6, Field::Messages(&OUTPUT)),
        (7, Field::Slices),
    ],
};

static REPOSITORY: Layout = Layout {
    size: 256,
    fields: &[
        (1, Field::Text),
        (2, Field::Text),
        (3, Field::Map(&REPOSITORY_ENTRY)),
    ],
};

static REPOSITORY_ENTRY: Layout = Layout {
    size: size_of::<(String, ModelRepositoryParameter)>(),
    fields: &[(1, Field::Text), (2, Field::Message(&REPOSITORY_PARAMETER))],
};

static REPOSITORY_PARAMETER: Layout = Layout {
    size: 0,
    fields: &[(3, Field::Text), (4, Field::Text)],
};

static TRACE: Layout = Layout {
    size: 256,
    fields: &[(1, Field::Map(&TRACE_ENTRY)), (2, Field::Text)],
};

static TRACE_ENTRY: Layout = Layout {
    size: size_of::<(String, trace_setting_request::SettingValue)>(),
    fields: &[(1, Field::Text), (2, Field::Message(&TRACE_VALUE))],
};

static TRACE_VALUE: Layout = Layout {
    size: 0,
    fields: &[(1, Field::Texts)],
};

static LOG: Layout = Layout {
    size: 256,
    fields: &[(1, Field::Map(&LOG_ENTRY))],
};

static LOG_ENTRY: Layout = Layout {
    size: size_of::<(String, log_settings_request::SettingValue)>(),
    fields: &[(1, Field::Text), (2, Field::Message(&LOG_VALUE))],
};

static LOG_VALUE: Layout = Layout {
    size: 0,
    fields: &[(3, Field::Text)],
};

/// The layout of the messages that a method takes.
pub(crate) fn find(path: &str) -> &'static Layout {
    let (service, method) = path.rsplit_once('/').unwrap_or_default();
    if service.strip_prefix('/') != Some(super::SERVICE_NAME) {
        return &TEXTS;
    }
    match method {
        "ModelInfer" | "ModelStreamInfer" => &INFER,
        "RepositoryModelLoad" | "RepositoryModelUnload" => &REPOSITORY,
        "TraceSetting" => &TRACE,
        "LogSettings" => &LOG,
        _ => &TEXTS,
    }
}
