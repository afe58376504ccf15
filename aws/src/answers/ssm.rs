//! `GetParameter` (Systems Manager, version 2014-11-06): JSON.

use serde::Deserialize;

use crate::credentials::Secret;
use crate::xml::Unreadable;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    parameter: Parameter,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    value: Secret,
}

/// The value of a parameter. An error says nothing of what was there.
pub(crate) fn parameter(body: &[u8]) -> Result<Secret, Unreadable> {
    let read: Result<Answer, _> = serde_json::from_slice(body);
    read.map(|answer| answer.parameter.value).map_err(|_| Unreadable("no parameter in it".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = r#"{"Parameter":{"ARN":"arn:aws:ssm:x","Name":"/weave/password","Type":"SecureString","Value":"hush","Version":1}}"#;

    #[test]
    fn a_parameter_has_a_value() {
        assert_eq!(parameter(ANSWER.as_bytes()).unwrap().reveal(), "hush");
    }

    proptest! {
        #[test]
        fn what_is_cut_or_anything_else_is_an_error(cut in 0..ANSWER.len(), bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            prop_assert!(parameter(&ANSWER.as_bytes()[..cut]).is_err());
            prop_assert!(parameter(&bytes).is_err());
        }
    }
}
