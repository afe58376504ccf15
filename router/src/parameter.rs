//! Passwords where AWS keeps them: a parameter of Systems Manager, read at every start, by the role of this instance.
//!
//! It is asked for until it is there, however long that takes: without its password a host would be a stranger to all others, and a role may be
//! known to AWS a little later than the host. What is the matter is said whenever it is something else.

use std::io;

use rand_core::{OsRng, RngCore};
use tracing::{info, warn};
use weave_aws::{Cloud, InvalidSettings, Kind, Settings};
use weave_mesh::roster::{Outcome, Polling};

use crate::config::{PasswordError, Passwords};

/// Why no passwords come of it, ever.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    #[error("cannot tell where AWS is: {0}")]
    Settings(#[from] InvalidSettings),
    #[error("cannot ask AWS: {0}")]
    Runtime(#[from] io::Error),
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// The passwords that the parameter of this name holds, one per line.
///
/// # Errors
/// When what it holds is of no use, or nobody can be asked.
pub fn passwords(name: &str) -> Result<Passwords, ParameterError> {
    let cloud = Cloud::new(Settings::of_environment()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(cloud, name))
}

async fn ask(mut cloud: Cloud, name: &str) -> Result<Passwords, ParameterError> {
    let mut polling = Polling::new(OsRng.next_u64());
    let mut said = None;
    loop {
        let problem = match cloud.parameter(name).await {
            Ok(secret) => {
                let passwords = Passwords::of_text(secret.reveal(), &format!("parameter {name}"))?;
                info!(parameter = name, "the password is had from AWS");
                return Ok(passwords);
            }
            Err(problem) => problem,
        };
        let text = problem.to_string();
        if said.as_ref() != Some(&text) {
            warn!(parameter = name, problem = text, "the password cannot be had yet, and is asked for again");
            said = Some(text);
        }
        let outcome = if problem.kind == Kind::Throttled { Outcome::Throttled } else { Outcome::Failed };
        tokio::time::sleep(polling.next(outcome)).await;
    }
}
