//! Requests to an MLflow server and what its answers mean.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::answer::AnswerError;
use super::auth::{self, Credentials};
use crate::network::reason;
use crate::registry::SourceError;
use crate::registry::object_url::without_secrets;

/// Answers that are longer are not read to their end.
const LONGEST_ANSWER: usize = 64 << 20;
const LONGEST_COMPLAINT: usize = 64 << 10;

/// Longest wait for a whole answer, unless `MLFLOW_HTTP_REQUEST_TIMEOUT` says something else.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// One server with its REST API.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: Client,
    /// For other servers, which must not learn who we are: without our certificate.
    outside: Client,
    base: Url,
    address: String,
    credentials: Credentials,
    headers: HeaderMap,
    pub(super) timeout: Duration,
}

impl Api {
    /// The server at `base`, which may have a path. A user and password in it are used, and shown nowhere.
    pub(super) fn new(http: Client, mut base: Url, credentials: Credentials) -> Self {
        let decode = |text: &str| {
            let text = percent_encoding::percent_decode_str(text);
            text.decode_utf8_lossy().into_owned()
        };
        let credentials = match base.password() {
            Some(password) => Credentials::Basic {
                user: decode(base.username()),
                password: decode(password),
            },
            None => credentials,
        };
        // Errors say that such a URL can have neither.
        let _ = base.set_password(None);
        let _ = base.set_username("");
        base.set_query(None);
        base.set_fragment(None);
        let address = without_secrets(&base).trim_end_matches('/').to_owned();
        Self {
            outside: http.clone(),
            http,
            base,
            address,
            credentials,
            headers: HeaderMap::new(),
            timeout: TIMEOUT,
        }
    }

    pub(super) fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// With another client for other servers.
    pub(super) fn with_outside(self, outside: Client) -> Self {
        Self { outside, ..self }
    }

    /// The same for another server, which gets none of our credentials.
    pub(super) fn elsewhere(&self, mut base: Url) -> Self {
        // What stands in a URL of a registry is no secret of ours, and is sent nowhere.
        let _ = base.set_password(None);
        Self::new(self.outside.clone(), base, Credentials::None).with_timeout(self.timeout)
    }

    /// A request to another server, with nothing that identifies us.
    pub(super) fn request_elsewhere(&self, method: Method, url: Url) -> RequestBuilder {
        self.outside.request(method, url)
    }

    /// The address for messages.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// The URL of a path whose parts are encoded here.
    pub(super) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "2.0"]).extend(parts);
        }
        url
    }

    /// A request with all that identifies us.
    pub(super) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url).headers(self.headers.clone());
        self.credentials.apply(request)
    }

    /// `GET /api/2.0/{path}`.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, SourceError> {
        let url = self.url(path.split('/'));
        self.answer(path, self.request(Method::GET, url).query(query))
            .await
    }

    /// `POST`, `PATCH` or `DELETE /api/2.0/{path}` with a JSON body.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<T, SourceError> {
        let url = self.url(path.split('/'));
        let answer = self
            .answer(path, self.request(method, url).json(body))
            .await;
        answer.map_err(|error| match error {
            SourceError::Status {
                status: 400 | 409,
                reason,
                ..
            } => SourceError::Invalid(reason),
            other => other,
        })
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        request: RequestBuilder,
    ) -> Result<T, SourceError> {
        let whole = async {
            let response = request.send().await;
            let response = response.map_err(|error| self.unreachable(error))?;
            self.read(path, self.check(response).await?).await
        };
        match tokio::time::timeout(self.timeout, whole).await {
            Ok(result) => result,
            Err(_) => Err(self.silent()),
        }
    }

    /// The JSON of a success.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        response: Response,
    ) -> Result<T, SourceError> {
        let kind = content_type(&response);
        let (body, complete) = self.body(response, LONGEST_ANSWER).await?;
        let parsed = if complete {
            parse(&body, &kind)
        } else {
            Err(AnswerError::TooLarge(LONGEST_ANSWER))
        };
        parsed.map_err(|found| {
            self.malformed(&format!("`{path}`: expected a JSON object, found {found}"))
        })
    }

    /// The response, when it is a success.
    pub(super) async fn check(&self, response: Response) -> Result<Response, SourceError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, kind) = (response.status(), content_type(&response));
        let retry_after = retry_after(response.headers());
        let (body, _) = self.body(response, LONGEST_COMPLAINT).await?;
        let complaint = Complaint::new(&body, &kind);
        let registry = self.address.clone();
        let reason = complaint.message;
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SourceError::Unauthenticated {
                registry,
                reason: format!("{reason} ({})", auth::HINT),
            },
            StatusCode::NOT_FOUND if complaint.is_absence => SourceError::NotFound(reason),
            // Not the same: a proxy without its server must not look like a registry without the model.
            StatusCode::NOT_FOUND => SourceError::Status {
                registry,
                status: 404,
                reason: format!("{reason} (is this the address of an MLflow tracking server?)"),
                retry_after,
            },
            status => SourceError::Status {
                registry,
                status: status.as_u16(),
                reason,
                retry_after,
            },
        })
    }

    /// Up to `most` bytes, and whether that is all.
    async fn body(
        &self,
        mut response: Response,
        most: usize,
    ) -> Result<(Vec<u8>, bool), SourceError> {
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|error| self.unreachable(error))? {
                None => return Ok((body, true)),
                Some(chunk) if body.len() + chunk.len() > most => return Ok((body, false)),
                Some(chunk) => body.extend_from_slice(&chunk),
            }
        }
    }

    pub(super) fn unreachable(&self, error: reqwest::Error) -> SourceError {
        SourceError::Unreachable {
            registry: self.address.clone(),
            reason: reason(error),
        }
    }

    pub(super) fn silent(&self) -> SourceError {
        let timeout = humantime::format_duration(self.timeout);
        SourceError::Unreachable {
            registry: self.address.clone(),
            reason: format!("no answer within {timeout}"),
        }
    }

    pub(super) fn malformed(&self, reason: &str) -> SourceError {
        SourceError::Malformed {
            registry: self.address.clone(),
            reason: reason.to_owned(),
        }
    }
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    text.split(';').next().unwrap_or("").trim().to_owned()
}

fn parse<T: DeserializeOwned>(body: &[u8], kind: &str) -> Result<T, AnswerError> {
    // serde would take a list for a record without fields, and so for a registry without models.
    if body.trim_ascii_start().first() != Some(&b'{') {
        let words = words(&String::from_utf8_lossy(body));
        let kind = kind.to_owned();
        return Err(AnswerError::NotAnObject { words, kind });
    }
    Ok(serde_json::from_slice(body)?)
}

/// What an answer that is no success says.
struct Complaint {
    message: String,
    /// Whether it is MLflow that says so, and that there is no such thing.
    is_absence: bool,
}

impl Complaint {
    fn new(body: &[u8], kind: &str) -> Self {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(default)]
            error_code: String,
            #[serde(default)]
            message: String,
        }
        match serde_json::from_slice::<Fields>(body) {
            Ok(fields) if !fields.error_code.is_empty() => Self {
                message: words(&fields.message),
                is_absence: fields.error_code.ends_with("DOES_NOT_EXIST")
                    || fields.error_code == "NOT_FOUND",
            },
            _ => {
                let text = String::from_utf8_lossy(body);
                let message = match (text.trim(), kind) {
                    ("", _) => "no reason given".to_owned(),
                    (text, _) => words(text),
                };
                let is_absence = false;
                Self {
                    message,
                    is_absence,
                }
            }
        }
    }
}

/// The words of a text or page, on one line and not too many.
pub(super) fn words(text: &str) -> String {
    const MOST: usize = 300;
    let mut plain = String::new();
    let mut inside = false;
    for character in text.chars() {
        match character {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                plain.push(' ');
            }
            _ if inside => {}
            other if is_unseen(other) => plain.push(' '),
            other => plain.push(other),
        }
    }
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Whether a character is nothing to see, and may turn what is around it into something else.
fn is_unseen(character: char) -> bool {
    let format = [
        '\u{200b}'..='\u{200f}',
        '\u{202a}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
    ];
    character.is_control()
        || character == '\u{feff}'
        || format.iter().any(|range| range.contains(&character))
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_or_a_page_is_not_taken_for_an_empty_registry() {
        #[derive(Deserialize, Debug, Default)]
        struct Answer {
            #[serde(default)]
            models: Vec<u8>,
        }
        assert!(parse::<Answer>(b" {}", "").unwrap().models.is_empty());
        for body in [
            &b"[]"[..],
            b"",
            b"null",
            b"<html>Log in</html>",
            b"{\"models\": 1}",
            b"{",
        ] {
            let result = parse::<Answer>(body, "text/html");
            assert!(result.is_err(), "{}", String::from_utf8_lossy(body));
        }
        let page = parse::<Answer>(b"<html><b>Log\n in</b>", "text/html").unwrap_err();
        assert_eq!(page.to_string(), "`Log in` (text/html)");
    }

    #[test]
    fn only_mlflow_can_say_that_something_is_not_there() {
        let absent = |body: &str| Complaint::new(body.as_bytes(), "").is_absence;
        assert!(absent(
            r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"m"}"#
        ));
        for body in [
            "<html>Not Found</html>",
            "",
            "{}",
            r#"{"error_code":"ENDPOINT_NOT_FOUND","message":"m"}"#,
            r#"{"detail":"Not Found"}"#,
        ] {
            assert!(!absent(body), "{body}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(of("Wed, 21 Oct 2099 07:28:00 GMT") > Some(Duration::from_secs(1_000_000)));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn a_password_in_the_address_is_used_and_not_shown() {
        crate::network::install_provider();
        let base = "http://me:s%33cret@host:5000/ml/flow/?x=1".parse().unwrap();
        let api = Api::new(Client::new(), base, Credentials::None);
        assert_eq!(api.address(), "http://host:5000/ml/flow");
        assert!(!format!("{api:?}").contains("s3cret") && !format!("{api:?}").contains("s%33"));
        let url = api.url(["mlflow-artifacts", "a b", "c%d"]);
        assert_eq!(
            url.as_str(),
            "http://host:5000/ml/flow/api/2.0/mlflow-artifacts/a%20b/c%25d"
        );
        let expected = Credentials::Basic {
            user: "me".to_owned(),
            password: "s3cret".to_owned(),
        };
        assert!(api.credentials == expected);
    }
}
