//! JSON by HTTP.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

/// The largest answer that is read: 1,000 responses of 32,768 tokens take less.
const MAX_ANSWER_BYTES: u64 = 4 << 30;
/// How long establishing a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a server's message that are shown.
const SHOWN: usize = 300;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// There was no answer, or not a whole one.
    Connection(String),
    /// The answer took too long.
    Timeout(Duration),
    /// The answer is an error.
    Status(u16, String),
    /// The answer cannot be used.
    Answer(String),
    /// The server has other weights than it was handed over.
    Version(String),
}

impl CallError {
    /// Whether there was no answer, so that the server may be gone for a while.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Connection(_) | Self::Timeout(_))
    }
}

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// An HTTP client. Servers are in the same network, so no proxy is used.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    agent: Agent,
    timeout: Duration,
}

impl Http {
    /// `timeout` limits each call.
    pub(crate) fn new(timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self { agent: config.into(), timeout }
    }

    /// The answer to a GET request; null if it is empty.
    pub(crate) fn get(&self, url: &str) -> Result<Value, CallError> {
        self.answer(self.agent.get(url).call())
    }

    /// The answer to a POST request with a JSON body; null if it is empty.
    pub(crate) fn post(&self, url: &str, body: &Value) -> Result<Value, CallError> {
        self.answer(self.send(url, body))
    }

    /// Sends a POST request with a JSON body, whose answer may be any text.
    pub(crate) fn tell(&self, url: &str, body: &Value) -> Result<(), CallError> {
        self.body(self.send(url, body)).map(drop)
    }

    fn send(&self, url: &str, body: &Value) -> Answer {
        self.agent.post(url).header("content-type", "application/json").send(body.to_string())
    }

    fn answer(&self, answer: Answer) -> Result<Value, CallError> {
        let body = self.body(answer)?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body)
            .map_err(|error| CallError::Answer(format!("its answer is not JSON ({error}): {}", message(&body))))
    }

    fn body(&self, answer: Answer) -> Result<Vec<u8>, CallError> {
        let mut answer = answer.map_err(|error| self.failure(&error))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| self.failure(&error))?;
        if !(200..300).contains(&status) {
            return Err(CallError::Status(status, message(&body)));
        }
        Ok(body)
    }

    fn failure(&self, error: &ureq::Error) -> CallError {
        match error {
            ureq::Error::Timeout(_) => CallError::Timeout(self.timeout),
            other => CallError::Connection(other.to_string()),
        }
    }
}

/// What an error's body says, shortened: the `message` of an OpenAI-like error, or the body itself.
fn message(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = [&json["error"]["message"], &json["error"], &json["message"], &json["detail"]];
    let text = match named.into_iter().find_map(Value::as_str) {
        Some(text) => text.to_string(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None if text.is_empty() => "(no text)".into(),
        None => text,
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connection(reason) => write!(f, "the connection failed: {reason}"),
            Self::Timeout(timeout) => write!(f, "its answer took more than {} s", timeout.as_secs()),
            Self::Status(status, message) => write!(f, "it answered with status {status}: {message}"),
            Self::Answer(reason) | Self::Version(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_an_error_is_found_and_shortened() {
        assert_eq!(message(br#"{"error": {"message": "too\n long", "code": 400}}"#), "too long");
        assert_eq!(message(br#"{"detail": "Not Found"}"#), "Not Found");
        assert_eq!(message(b"<html>Bad Gateway</html>"), "<html>Bad Gateway</html>");
        assert_eq!(message(b""), "(no text)");
        assert_eq!(message("\u{e9}".repeat(1000).as_bytes()).chars().count(), SHOWN + 3);
    }
}
