//! Where AWS is asked and by whose keys, as AWS's own variables say it.
//!
//! | Variable | |
//! |---|---|
//! | `AWS_EC2_METADATA_SERVICE_ENDPOINT`, `AWS_EC2_METADATA_DISABLED` | where IMDS is; whether it may be asked |
//! | `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_EC2`, `…_AUTO_SCALING`, `…_SSM` | where the API is, for all services or one |
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | keys instead of those of the instance's role |

use crate::credentials::Credentials;
use crate::http::{Endpoint, InvalidEndpoint};

const IMDS: &str = "http://169.254.169.254";

/// A service of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Ec2,
    AutoScaling,
    Ssm,
}

impl Service {
    const ALL: [Self; 3] = [Self::Ec2, Self::AutoScaling, Self::Ssm];

    /// In host names and in signatures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::AutoScaling => "autoscaling",
            Self::Ssm => "ssm",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Ec2 => "AWS_ENDPOINT_URL_EC2",
            Self::AutoScaling => "AWS_ENDPOINT_URL_AUTO_SCALING",
            Self::Ssm => "AWS_ENDPOINT_URL_SSM",
        }
    }
}

/// Why the environment is no good.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {error}")]
pub struct InvalidSettings {
    variable: &'static str,
    error: InvalidEndpoint,
}

/// What the environment asks for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// None where it may not be asked.
    pub(crate) imds: Option<Endpoint>,
    /// In the order of [`Service::ALL`]; none is AWS's own.
    endpoints: [Option<Endpoint>; 3],
    /// None is those of the instance's role.
    pub(crate) keys: Option<Credentials>,
}

impl Settings {
    /// Those of this process.
    ///
    /// # Errors
    /// When a variable holds no URL.
    pub fn of_environment() -> Result<Self, InvalidSettings> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Those that `variable` knows. An empty variable counts as none.
    ///
    /// # Errors
    /// When a variable holds no URL.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSettings> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let url = |name: &'static str| {
            let parse = |text: String| text.parse().map_err(|error| InvalidSettings { variable: name, error });
            given(name).map(parse).transpose()
        };
        let is_disabled = given("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let imds = url("AWS_EC2_METADATA_SERVICE_ENDPOINT")?.or_else(|| IMDS.parse().ok());
        let service_url = |name: &'static str| {
            let without_path = |error| InvalidSettings { variable: name, error };
            url(name)?.map(Endpoint::without_path).transpose().map_err(without_path)
        };
        let everywhere = service_url("AWS_ENDPOINT_URL")?;
        let mut endpoints = Service::ALL.map(|_| None::<Endpoint>);
        for (endpoint, service) in endpoints.iter_mut().zip(Service::ALL) {
            *endpoint = service_url(service.variable())?.or_else(|| everywhere.clone());
        }
        let (id, secret) = (given("AWS_ACCESS_KEY_ID"), given("AWS_SECRET_ACCESS_KEY"));
        let token = given("AWS_SESSION_TOKEN");
        let keys = id.zip(secret).map(|(id, secret)| Credentials::new(&id, &secret, token.as_deref(), None));
        Ok(Self { imds: imds.filter(|_| !is_disabled), endpoints, keys })
    }

    /// Where a service of a region is asked: by HTTPS, unless the environment names another URL.
    pub(crate) fn endpoint(&self, service: Service, region: &str) -> Result<Endpoint, InvalidEndpoint> {
        let [ec2, autoscaling, ssm] = &self.endpoints;
        let given = match service {
            Service::Ec2 => ec2,
            Service::AutoScaling => autoscaling,
            Service::Ssm => ssm,
        };
        given.clone().map_or_else(|| format!("https://{}.{region}.{}", service.name(), domain(region)).parse(), Ok)
    }
}

/// The domain of a region's partition.
fn domain(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ => "amazonaws.com",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, InvalidSettings> {
        Settings::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn endpoint(settings: &Settings, service: Service, region: &str) -> String {
        settings.endpoint(service, region).unwrap().to_string()
    }

    #[test]
    fn without_variables_it_is_aws_by_https_and_the_role() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.imds.as_ref().unwrap().to_string(), "http://169.254.169.254");
        assert_eq!(settings.keys, None);
        assert_eq!(endpoint(&settings, Service::Ec2, "eu-central-1"), "https://ec2.eu-central-1.amazonaws.com");
        assert_eq!(endpoint(&settings, Service::Ssm, "cn-north-1"), "https://ssm.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn a_service_may_have_an_endpoint_of_its_own() {
        let settings =
            read(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:5000"), ("AWS_ENDPOINT_URL_SSM", "https://[::1]:1/")])
                .unwrap();
        assert_eq!(endpoint(&settings, Service::AutoScaling, "x"), "http://127.0.0.1:5000");
        assert_eq!(endpoint(&settings, Service::Ssm, "x"), "https://[::1]:1");
    }

    #[test]
    fn imds_may_be_elsewhere_or_forbidden() {
        let elsewhere = read(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://10.0.0.1/imds/i-1/")]).unwrap();
        assert_eq!(elsewhere.imds.unwrap().to_string(), "http://10.0.0.1/imds/i-1");
        assert!(read(&[("AWS_EC2_METADATA_DISABLED", "True")]).unwrap().imds.is_none());
        assert!(read(&[("AWS_EC2_METADATA_DISABLED", "false")]).unwrap().imds.is_some());
    }

    #[test]
    fn keys_need_a_secret_and_do_not_show_it() {
        let settings = read(&[("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "hush")]).unwrap();
        assert_eq!(settings.keys, Some(Credentials::new("AK", "hush", None, None)));
        assert!(!format!("{settings:?}").contains("hush"));
        assert_eq!(read(&[("AWS_ACCESS_KEY_ID", "AK")]).unwrap().keys, None);
    }

    #[test]
    fn what_is_no_url_is_named() {
        for bad in ["127.0.0.1:5000", "http://127.0.0.1:5000/path"] {
            let error = read(&[("AWS_ENDPOINT_URL", bad)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("AWS_ENDPOINT_URL: `{bad}`")), "{error}");
        }
    }
}
