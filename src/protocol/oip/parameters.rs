//! Parameters of requests, inputs and wanted outputs.

use std::time::Duration;

use super::content::Content;
use super::error::OipError;
use crate::serving::RequestOptions;

/// More parameters of one request, input or output than any client sends.
const MOST: usize = 100;

/// The one name beginning with `triton_` that a client may send: it asks for an empty last answer of a stream.
pub(crate) const EMPTY_FINAL_RESPONSE: &str = "triton_enable_empty_final_response";

/// A parameter's value, as both transports can say it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parameter {
    Bool(bool),
    Int(i64),
    /// A whole number beyond `i64`.
    Uint(u64),
    Float(f64),
    Text(String),
    /// What the protocol has no word for: null, a list, an object. It is passed over, unless its name means something.
    Other,
}

/// Named values; of a name that comes twice the last one counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parameters(Vec<(String, Parameter)>);

/// What a request's own parameters ask for. Those that mean nothing to a model without state are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RequestParameters {
    /// `priority` and `timeout`.
    pub(crate) request_options: RequestOptions,
    /// `binary_data_output`: whether outputs are binary that do not say it themselves.
    pub(crate) binary_output: bool,
    /// `triton_enable_empty_final_response`.
    pub(crate) empty_final_response: bool,
    /// `content_type`: of inputs that have none of their own.
    pub(crate) content: Content,
}

impl Parameters {
    /// Adds one.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn push(&mut self, name: String, value: Parameter) -> Result<(), OipError> {
        if self.0.len() == MOST {
            return Err(OipError::Invalid(format!(
                "more than {MOST} parameters of one request, input or output"
            )));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// A whole number from 0 up.
    ///
    /// # Errors
    /// When the value is anything else.
    pub(crate) fn count(&self, name: &str) -> Result<Option<u64>, OipError> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Parameter::Int(number)) => u64::try_from(*number).ok(),
            Some(Parameter::Uint(number)) => Some(*number),
            Some(_) => None,
        };
        let expected = || format!("the parameter `{name}` is no whole number from 0 up");
        number
            .map(Some)
            .ok_or_else(|| OipError::Invalid(expected()))
    }

    /// A yes or no.
    ///
    /// # Errors
    /// When the value is anything else.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, OipError> {
        match self.get(name) {
            None => Ok(None),
            Some(Parameter::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(OipError::Invalid(format!(
                "the parameter `{name}` is neither true nor false"
            ))),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// When the value is anything else.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, OipError> {
        match self.get(name) {
            None => Ok(None),
            Some(Parameter::Text(text)) => Ok(Some(text)),
            Some(_) => Err(OipError::Invalid(format!(
                "the parameter `{name}` must be a text"
            ))),
        }
    }

    /// Reads them as those of a request.
    ///
    /// # Errors
    /// A value of the wrong type, or a reserved name.
    pub(crate) fn of_request(&self) -> Result<RequestParameters, OipError> {
        let reserved = |name: &str| name.starts_with("triton_") && name != EMPTY_FINAL_RESPONSE;
        if let Some((name, _)) = self.0.iter().find(|(name, _)| reserved(name)) {
            return Err(OipError::Invalid(format!(
                "the parameter `{name}` is refused: names that begin with `triton_` are reserved"
            )));
        }
        let timeout = self.count("timeout")?.filter(|&timeout| timeout > 0);
        Ok(RequestParameters {
            request_options: RequestOptions {
                timeout: timeout.map(Duration::from_micros),
                // 0 is the model's usual priority, 1 the highest; between the others there is no difference.
                urgent: self.count("priority")? == Some(1),
            },
            binary_output: self.flag("binary_data_output")?.unwrap_or(false),
            empty_final_response: self.flag(EMPTY_FINAL_RESPONSE)?.unwrap_or(false),
            content: Content::named(self)?.unwrap_or_default(),
        })
    }

    /// Refuses what would put a tensor somewhere else than into the request or the answer.
    ///
    /// # Errors
    /// [`OipError::NotImplemented`].
    pub(crate) fn refuse_shared_memory(&self, tensor: &str) -> Result<(), OipError> {
        let is_meant = |name: &str| name.starts_with("shared_memory_");
        if self.0.iter().any(|(name, _)| is_meant(name)) {
            return Err(OipError::NotImplemented(format!(
                "`{tensor}` is in shared memory, which this server does not offer; send it as binary data"
            )));
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&Parameter> {
        let mut newest_first = self.0.iter().rev();
        newest_first
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(entries: &[(&str, Parameter)]) -> Parameters {
        let mut parameters = Parameters::default();
        for (name, value) in entries {
            parameters.push((*name).to_owned(), value.clone()).unwrap();
        }
        parameters
    }

    #[test]
    fn those_of_a_request_become_wishes() {
        let request = parameters(&[
            ("priority", Parameter::Uint(1)),
            ("timeout", Parameter::Int(1500)),
            ("binary_data_output", Parameter::Bool(true)),
            (EMPTY_FINAL_RESPONSE, Parameter::Bool(true)),
            ("sequence_id", Parameter::Text("a".to_owned())),
            ("temperature", Parameter::Float(0.5)),
            ("list", Parameter::Other),
        ]);
        let request = request.of_request().unwrap();
        assert!(
            request.request_options.urgent && request.binary_output && request.empty_final_response
        );
        assert_eq!(
            request.request_options.timeout,
            Some(Duration::from_micros(1500))
        );
        let none = parameters(&[
            ("priority", Parameter::Int(0)),
            ("timeout", Parameter::Int(0)),
        ]);
        assert_eq!(none.of_request().unwrap(), RequestParameters::default());
    }

    #[test]
    fn a_value_of_another_type_is_refused_by_name() {
        for (name, value) in [
            ("priority", Parameter::Text("1".to_owned())),
            ("timeout", Parameter::Int(-1)),
            ("timeout", Parameter::Float(1.0)),
            ("timeout", Parameter::Other),
            ("binary_data_output", Parameter::Int(1)),
            ("triton_", Parameter::Bool(true)),
            ("triton_final_response", Parameter::Bool(true)),
        ] {
            let message = parameters(&[(name, value)]).of_request().unwrap_err();
            let message = message.to_string();
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
    }

    #[test]
    fn there_is_a_most_and_the_last_of_a_name_counts() {
        let mut many = Parameters::default();
        for index in 0..MOST {
            many.push(format!("p{index}"), Parameter::Bool(true))
                .unwrap();
        }
        assert!(many.push("more".to_owned(), Parameter::Other).is_err());
        let twice = parameters(&[("k", Parameter::Int(1)), ("k", Parameter::Int(2))]);
        assert_eq!(twice.count("k").unwrap(), Some(2));
    }
}
