//! Answers of the proxy's own, in the form in which Docker's clients expect the engine's.

use serde_json::json;

/// What the client is told instead of an answer of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: &'static str,
    message: String,
    /// Nothing can be made of what follows on the connection.
    pub(crate) is_final: bool,
}

impl Refusal {
    pub(crate) fn bad_request(message: String) -> Self {
        Self { status: "400 Bad Request", message, is_final: false }
    }

    pub(crate) fn timeout(message: String) -> Self {
        Self { status: "408 Request Timeout", message, is_final: true }
    }

    pub(crate) fn failure(message: String) -> Self {
        Self { status: "500 Internal Server Error", message, is_final: false }
    }

    pub(crate) fn bad_gateway(message: String) -> Self {
        Self { status: "502 Bad Gateway", message, is_final: true }
    }

    /// What comes next is not known to be a request.
    pub(crate) fn and_close(self) -> Self {
        Self { is_final: true, ..self }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = json!({ "message": self.message }).to_string();
        let close = if self.is_final { "Connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: application/json\r\n{close}Content-Length: {}\r\n\r\n",
            self.status,
            body.len()
        );
        [head, body].concat().into_bytes()
    }
}
