//! Which request a task works for: its id, who sends it, and what it asks of those who watch.

use std::sync::Arc;

use axum::http::HeaderValue;
use bytes::Bytes;
use parking_lot::Mutex;

use super::caller::Caller;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// The id of a request: at most 128 letters, digits and `-_.:/+=`, so that it can forge no line of a log and no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    /// That of the header, which is shared instead of copied.
    text: HeaderValue,
    is_made: bool,
}

impl RequestId {
    /// The id that the client chose; `None` when it is too long or has other characters.
    pub fn given(text: &[u8]) -> Option<Self> {
        let text = Self::is_safe(text).then(|| HeaderValue::from_bytes(text));
        Some(Self {
            text: text?.ok()?,
            is_made: false,
        })
    }

    /// The same of a header, which is not copied.
    pub fn of_header(text: &HeaderValue) -> Option<Self> {
        Self::is_safe(text.as_bytes()).then(|| Self {
            text: text.clone(),
            is_made: false,
        })
    }

    /// A new one, for a request that came without.
    pub fn make() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        let id = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
        Self {
            text: HeaderValue::from_str(id).expect("a UUID is ASCII"),
            is_made: true,
        }
    }

    /// Nothing that could forge a line of a log.
    fn is_safe(text: &[u8]) -> bool {
        let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        (1..=128).contains(&text.len()) && text.iter().all(safe)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        self.text.to_str().unwrap_or_default()
    }

    /// Its text as a header.
    pub fn header(&self) -> &HeaderValue {
        &self.text
    }

    /// Whether the client chose none, so that an id in the body is the better one.
    pub fn is_made(&self) -> bool {
        self.is_made
    }
}

/// What is known of a request outside of its protocol. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Told apart from others, for limits and judgements.
    pub caller: Caller,
    /// Its id.
    pub id: RequestId,
    /// The name that its caller proved.
    pub name: Option<Arc<str>>,
    /// Whether the client asked that nothing of it be kept.
    pub is_private: bool,
    /// Parts of it that are kept as they came; `None` where none are.
    pub raw: Option<Arc<RawParts>>,
}

/// Parts of a request as they came, for those who keep them.
#[derive(Debug, Default)]
pub struct RawParts {
    /// The headers that are wanted, in the order in which they are.
    pub headers: Vec<Option<String>>,
    /// Whether the body is wanted.
    pub keeps_body: bool,
    body: Mutex<Option<Bytes>>,
}

impl RawParts {
    /// So many headers, and perhaps the body.
    pub fn new(headers: Vec<Option<String>>, keeps_body: bool) -> Self {
        Self {
            headers,
            keeps_body,
            body: Mutex::default(),
        }
    }

    /// The whole body, once it was read.
    pub fn body(&self) -> Option<Bytes> {
        self.body.lock().clone()
    }
}

impl From<Caller> for RequestContext {
    fn from(caller: Caller) -> Self {
        Self {
            caller,
            id: RequestId::make(),
            name: None,
            is_private: false,
            raw: None,
        }
    }
}

impl RequestContext {
    /// The request that this task works for; of work outside of one, a new one of nobody.
    pub fn current() -> Self {
        CURRENT
            .try_with(Self::clone)
            .unwrap_or_else(|_| Self::from(Caller::default()))
    }

    /// Who sends it.
    pub(super) fn caller() -> Caller {
        CURRENT
            .try_with(|context| context.caller)
            .unwrap_or_default()
    }

    /// The body of the request that this task works for was read.
    pub fn note_body(body: &Bytes) {
        let noted = CURRENT.try_with(|context| {
            if let Some(raw) = context.raw.as_ref().filter(|raw| raw.keeps_body) {
                *raw.body.lock() = Some(body.clone());
            }
        });
        // Work outside of a request has no body.
        let _ = noted;
    }

    /// Runs `work` for this request.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_safe_ids_are_taken_over() {
        assert!(RequestId::given(b"req-1:2_3.4/5+6=").is_some_and(|id| !id.is_made()));
        assert!(RequestId::given(b"").is_none());
        assert!(RequestId::given(b"a b").is_none());
        assert!(RequestId::given(b"a\nb").is_none());
        assert!(RequestId::given(&[b'a'; 129]).is_none());
        let made = RequestId::make();
        assert!(made.is_made() && made.as_str().len() == 36);
    }

    #[tokio::test]
    async fn a_task_knows_for_which_request_it_works() {
        let context = RequestContext::from(Caller::default());
        let id = context.id.clone();
        let seen = context.scope(async { RequestContext::current().id }).await;
        assert_eq!(seen, id);
        assert_ne!(RequestContext::current().id, id);
    }
}
