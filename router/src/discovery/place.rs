//! Where this daemon runs and looks for peers, settled once at its start.

use std::path::PathBuf;

use tokio::time::{Duration, Instant};
use tracing::{info, warn};
use weave_aws::{Cloud, InvalidSettings, Presence, Settings};

use super::Source;
use crate::config::dns::DEFAULT_RESOLV_CONF;
use crate::config::{Config, Discover, Targets};
use crate::store::{FileError, Machine, Store};

/// How long an instance may take to tell who it is. Its metadata is there before its network is.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(20);
const IDENTITY_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Debug)]
pub struct Place {
    pub source: Source,
    /// What EC2 calls this machine, where its metadata says so.
    instance: Option<String>,
}

impl Place {
    /// Finds out where we are; on a machine that is none of EC2's nobody is asked.
    ///
    /// # Errors
    /// When AWS is to be asked, and a variable of the environment that says where is of no use.
    pub async fn find(config: &Config) -> Result<Self, InvalidSettings> {
        let source = match &config.discover {
            Some(Discover::Nowhere) => Source::Nowhere,
            Some(Discover::File(path)) => Source::File(path.clone()),
            Some(Discover::Dns(name)) => Source::Dns { name: name.clone(), resolv_conf: resolv_conf(config) },
            Some(Discover::Aws) => Source::Aws(Box::new(Settings::of_environment()?)),
            None if config.targets == Targets::Given(Vec::new()) && is_on_ec2() => by_itself().await?,
            None => Source::Nowhere,
        };
        let instance = match &source {
            Source::Aws(settings) => instance_id(settings).await,
            Source::Nowhere | Source::File(_) | Source::Dns { .. } => None,
        };
        Ok(Self { source, instance })
    }

    /// This machine. While EC2 does not say which instance it is, it is the one that the state was written on, if the
    /// machine id says so, too: a metadata service that is away for a while makes no new peer.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn machine(&self, store: &Store) -> Result<Machine, FileError> {
        let mut machine = Machine::detect(self.instance.clone());
        let is_unknown = machine.instance_id.is_empty() && matches!(self.source, Source::Aws(_));
        if let Some(stored) = store.machine()?.filter(|stored| is_unknown && stored.machine == machine.machine) {
            machine.instance_id = stored.instance_id;
        }
        Ok(machine)
    }

    /// Whether a cloud lists the machines.
    pub const fn is_in_a_cloud(&self) -> bool {
        matches!(self.source, Source::Aws(_))
    }
}

/// Whether this machine is one of EC2, or somebody says where its metadata is: elsewhere nobody is asked for metadata, since
/// who answers there may be anybody.
fn is_on_ec2() -> bool {
    std::env::var_os("AWS_EC2_METADATA_SERVICE_ENDPOINT").is_some_and(|url| !url.is_empty()) || Machine::is_of_ec2()
}

fn resolv_conf(config: &Config) -> PathBuf {
    config.dns.as_ref().map_or_else(|| DEFAULT_RESOLV_CONF.into(), |dns| dns.resolv_conf.clone())
}

/// Nobody said where to look, and this is EC2.
async fn by_itself() -> Result<Source, InvalidSettings> {
    let settings = Settings::of_environment()?;
    match Cloud::new(settings.clone()).probe().await {
        Presence::Answers => {
            info!(
                "no peer is given, and this is an instance of EC2: peers are discovered there (--discover none to not)"
            );
            Ok(Source::Aws(Box::new(settings)))
        }
        Presence::Refuses(why) => {
            warn!(
                why,
                "the metadata of this instance cannot be had, so no peers are discovered; --discover aws insists"
            );
            Ok(Source::Nowhere)
        }
        Presence::Nobody | Presence::Forbidden => Ok(Source::Nowhere),
    }
}

async fn instance_id(settings: &Settings) -> Option<String> {
    let mut cloud = Cloud::new(settings.clone());
    let end = Instant::now() + IDENTITY_PATIENCE;
    loop {
        match cloud.identity().await {
            Ok(identity) => return Some(identity.instance.to_string()),
            Err(problem) if Instant::now() >= end => {
                warn!(%problem, "EC2 does not say which instance this is");
                return None;
            }
            Err(_) => tokio::time::sleep(IDENTITY_INTERVAL).await,
        }
    }
}
