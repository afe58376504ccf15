//! Answers that are errors, in the three shapes that they have.
//!
//! ```text
//!   EC2           <Response><Errors><Error><Code>…</Code></Error></Errors><RequestID>…</RequestID></Response>
//!   Auto Scaling  <ErrorResponse><Error><Code>…</Code></Error><RequestId>…</RequestId></ErrorResponse>
//!   SSM           {"__type":"…#AccessDeniedException"}          the id is in a header
//! ```

use serde::Deserialize;

use crate::xml::{Step, walk};

/// What an error says, as far as it could be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Option<String>,
    pub(crate) request: Option<String>,
}

#[derive(Deserialize)]
struct OfJson {
    #[serde(rename = "__type")]
    kind: String,
}

/// Reads the body of an error. Of a broken one it takes what there is: the status tells the rest.
pub(crate) fn read(body: &[u8]) -> Fault {
    if let Ok(OfJson { kind }) = serde_json::from_slice(body) {
        let code = kind.rsplit('#').next().map(str::to_owned);
        return Fault { code, request: None };
    }
    let mut fault = Fault::default();
    walk(body, |path, step| match (path, step) {
        ("Response/Errors/Error/Code" | "ErrorResponse/Error/Code", Step::Closed(text)) => {
            fault.code.get_or_insert_with(|| text.to_owned());
        }
        ("Response/RequestID" | "ErrorResponse/RequestId", Step::Closed(text)) => fault.request = Some(text.to_owned()),
        _ => {}
    })
    .ok();
    fault
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(code: &str, request: Option<&str>) -> Fault {
        Fault { code: Some(code.to_owned()), request: request.map(str::to_owned) }
    }

    #[test]
    fn three_shapes_are_read() {
        let ec2 = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You</Message></Error></Errors>\
            <RequestID>1234</RequestID></Response>";
        assert_eq!(read(ec2.as_bytes()), fault("UnauthorizedOperation", Some("1234")));
        let autoscaling = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code></Error>\
            <RequestId>5678</RequestId></ErrorResponse>";
        assert_eq!(read(autoscaling.as_bytes()), fault("AccessDenied", Some("5678")));
        let ssm = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}"#;
        assert_eq!(read(ssm.as_bytes()), fault("AccessDeniedException", None));
    }

    #[test]
    fn of_a_broken_one_it_takes_what_there_is() {
        assert_eq!(read(b"<Response><Errors><Error><Code>Throttling</Code><Mess"), fault("Throttling", None));
        assert_eq!(read(b"<html>502</html>"), Fault::default());
    }

    proptest! {
        #[test]
        fn anything_may_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            read(&bytes);
        }
    }
}
