//! Answers of the proxy's own, in the form in which Docker's clients expect the engine's. Each is the last of its connection:
//! some refuse what was not read to its end.

use serde_json::json;

/// What the client is told instead of an answer of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn bad_request(message: String) -> Self {
        Self { status: "400 Bad Request", message }
    }

    pub(crate) fn timeout(message: String) -> Self {
        Self { status: "408 Request Timeout", message }
    }

    pub(crate) fn failure(message: String) -> Self {
        Self { status: "500 Internal Server Error", message }
    }

    pub(crate) fn bad_gateway(message: String) -> Self {
        Self { status: "502 Bad Gateway", message }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = json!({ "message": self.message }).to_string();
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.status,
            body.len()
        );
        [head, body].concat().into_bytes()
    }
}
