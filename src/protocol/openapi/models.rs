//! The paths of the models that answer now, with what each of them takes.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::example::{self, Examples};
use super::schema;
use crate::serving::{CatalogSnapshot, Selector, Servable, VersionSelector};

/// Models with paths of their own: more are no help to a reader, and would make the document large.
const MOST_MODELS: usize = 50;

/// Bytes of one path of a model; a wider model is described in general.
const MOST_BYTES: usize = 64 << 10;

/// What a part of a path may hold as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// One model that answers.
#[derive(Debug)]
pub(crate) struct Model {
    name: String,
    number: usize,
    scoring: Interface,
    infer: Interface,
}

/// What a path of a model takes and gives.
#[derive(Debug)]
struct Interface {
    request: Value,
    answer: Value,
    example: Option<Value>,
}

/// A path of a model, and the row of the table that answers it.
#[derive(Debug)]
pub(crate) struct ModelPath {
    pub(crate) general: &'static str,
    pub(crate) concrete: String,
    is_scoring: bool,
}

/// The models of the document.
pub(crate) fn documented(snapshot: &CatalogSnapshot) -> Vec<Model> {
    let servables = snapshot.models.keys().filter_map(|name| {
        let selector = Selector {
            model: Some(name.clone()),
            version: VersionSelector::Default,
        };
        snapshot.lookup(&selector).ok()
    });
    let shown = servables.take(MOST_MODELS).enumerate();
    shown
        .map(|(index, servable)| Model::new(index + 1, &servable))
        .collect()
}

/// The one behind paths without a name.
pub(crate) fn default_model<'m>(
    snapshot: &CatalogSnapshot,
    models: &'m [Model],
) -> Option<&'m Model> {
    let selector = Selector {
        model: None,
        version: VersionSelector::Default,
    };
    let servable = snapshot.lookup(&selector).ok()?;
    let name = servable.id().name.as_str();
    models.iter().find(|model| model.name == name)
}

impl Model {
    fn new(number: usize, servable: &Servable) -> Self {
        let Examples { scoring, infer } = example::examples(servable);
        let graph = servable.signature();
        let declared = servable.package().manifest.signature.as_ref();
        Self {
            name: servable.id().name.as_str().to_owned(),
            number,
            scoring: Interface {
                request: schema::scoring_request(declared, graph),
                answer: schema::scoring_answer(servable.response(), graph),
                example: scoring,
            },
            infer: Interface {
                request: schema::infer_request(graph),
                answer: schema::infer_answer(graph),
                example: infer,
            },
        }
    }

    /// The paths that are described for this model.
    pub(crate) fn paths(&self) -> [ModelPath; 2] {
        let name = utf8_percent_encode(&self.name, ENCODED);
        [
            ModelPath {
                general: "/models/{name}/invocations",
                concrete: format!("/models/{name}/invocations"),
                is_scoring: true,
            },
            ModelPath {
                general: "/v2/models/{model}/infer",
                concrete: format!("/v2/models/{name}/infer"),
                is_scoring: false,
            },
        ]
    }

    /// The operation of a path of this model, made of the general one.
    pub(crate) fn specialise(&self, general: &Value, path: &ModelPath) -> Value {
        let interface = if path.is_scoring {
            &self.scoring
        } else {
            &self.infer
        };
        let mut own = interface.put_into(general);
        if let Some(fields) = own.as_object_mut() {
            // In its place, not by the last field: a reader sees the request before the answers.
            fields.shift_remove("parameters");
        }
        let id = general["operationId"].as_str().unwrap_or_default();
        let summary = general["summary"].as_str().unwrap_or_default();
        own["operationId"] = format!("{id}_{}", self.number).into();
        own["summary"] = format!("{}: {summary}", self.name).into();
        own["tags"] = json!([self.name]);
        own
    }

    /// The operation of the path without a name.
    pub(crate) fn specialise_default(&self, general: &Value) -> Value {
        self.scoring.put_into(general)
    }
}

impl Interface {
    fn put_into(&self, general: &Value) -> Value {
        const JSON: &str = "application/json";
        let mut own = general.clone();
        own["requestBody"]["content"][JSON]["schema"] = self.request.clone();
        own["responses"]["200"]["content"][JSON]["schema"] = self.answer.clone();
        if let Some(example) = &self.example {
            own["requestBody"]["content"][JSON]["example"] = example.clone();
        }
        let bytes = serde_json::to_vec(&own).map_or(usize::MAX, |text| text.len());
        if bytes > MOST_BYTES {
            return general.clone();
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_model_is_described_in_general() {
        let general = json!({
            "operationId": "x",
            "requestBody": { "content": { "application/json": { "schema": {} } } },
            "responses": { "200": { "content": { "application/json": { "schema": {} } } } },
        });
        let interface = |bytes: usize| Interface {
            request: json!({ "description": "x".repeat(bytes) }),
            answer: json!({}),
            example: Some(json!({ "inputs": [] })),
        };
        let narrow = interface(100).put_into(&general);
        let content = &narrow["requestBody"]["content"]["application/json"];
        assert_eq!(content["example"], json!({ "inputs": [] }));
        assert_eq!(interface(MOST_BYTES).put_into(&general), general);
    }
}
