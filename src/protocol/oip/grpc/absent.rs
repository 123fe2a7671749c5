//! The settings that can be asked for and not changed, as messages.

use super::inference::log_settings_response::setting_value::ParameterChoice;
use super::inference::{
    LogSettingsResponse, TraceSettingResponse, log_settings_response, trace_setting_response,
};
use crate::protocol::oip::absent::{LogSettings, TraceSettings};

impl From<LogSettings> for LogSettingsResponse {
    fn from(log: LogSettings) -> Self {
        let text = |text: &str| ParameterChoice::StringParam(text.to_owned());
        let settings = [
            ("log_file", text(log.log_file)),
            ("log_info", ParameterChoice::BoolParam(log.log_info)),
            ("log_warning", ParameterChoice::BoolParam(log.log_warning)),
            ("log_error", ParameterChoice::BoolParam(log.log_error)),
            (
                "log_verbose_level",
                ParameterChoice::Uint32Param(log.log_verbose_level),
            ),
            ("log_format", text(log.log_format)),
        ];
        let settings = settings.into_iter().map(|(name, choice)| {
            let parameter_choice = Some(choice);
            let value = log_settings_response::SettingValue { parameter_choice };
            (name.to_owned(), value)
        });
        Self {
            settings: settings.collect(),
        }
    }
}

impl From<TraceSettings> for TraceSettingResponse {
    fn from(trace: TraceSettings) -> Self {
        let [level] = trace.trace_level;
        let settings = [
            ("trace_file", trace.trace_file),
            ("trace_level", level),
            ("trace_rate", trace.trace_rate),
            ("trace_count", trace.trace_count),
            ("log_frequency", trace.log_frequency),
            ("trace_mode", trace.trace_mode),
        ];
        let settings = settings.into_iter().map(|(name, value)| {
            let value = vec![value.to_owned()];
            (
                name.to_owned(),
                trace_setting_response::SettingValue { value },
            )
        });
        Self {
            settings: settings.collect(),
        }
    }
}
