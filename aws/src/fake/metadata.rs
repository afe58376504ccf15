//! The IMDS of every instance, under its id.

use super::{Asked, Reply, World};
use crate::time;

const ROLE: &str = "weave-role";

/// What is asked of the IMDS of an instance.
#[derive(Debug)]
pub(super) struct Question {
    instance: String,
    subject: Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Token,
    Document,
    Roles,
    Keys,
    WithoutToken,
    Else,
}

impl Question {
    pub(super) fn of(asked: &Asked) -> Option<Self> {
        let (instance, rest) = asked.path.strip_prefix("/imds/")?.split_once('/')?;
        let subject = match (asked.method.as_str(), rest) {
            ("PUT", "latest/api/token") => Subject::Token,
            _ if asked.header("x-aws-ec2-metadata-token").is_empty() => Subject::WithoutToken,
            (_, "latest/dynamic/instance-identity/document") => Subject::Document,
            (_, "latest/meta-data/iam/security-credentials/") => Subject::Roles,
            (_, "latest/meta-data/iam/security-credentials/weave-role") => Subject::Keys,
            _ => Subject::Else,
        };
        Some(Self { instance: instance.to_owned(), subject })
    }

    pub(super) fn name(&self) -> String {
        let name = match self.subject {
            Subject::Token => "token",
            Subject::Document => "document",
            Subject::Roles => "roles",
            Subject::Keys => "keys",
            Subject::WithoutToken => "no token",
            Subject::Else => "else",
        };
        name.to_owned()
    }
}

pub(super) fn reply(world: &World, asked: &Asked, question: &Question) -> Reply {
    let token = format!("token-{}", world.token);
    let has_token = asked.header("x-aws-ec2-metadata-token") == token;
    match (question.subject, world.machines.get(&question.instance)) {
        _ if !world.has_imds => Reply::new(403, ""),
        (_, None) | (Subject::Else, _) => Reply::new(404, ""),
        (Subject::Token, _) => match asked.header("x-aws-ec2-metadata-token-ttl-seconds").parse::<u32>() {
            Ok(seconds @ 1..=21_600) => {
                let header = ("x-aws-ec2-metadata-token-ttl-seconds", seconds.to_string());
                Reply { headers: vec![header], ..Reply::new(200, token) }
            }
            _ => Reply::new(400, ""),
        },
        _ if !has_token => Reply::new(401, ""),
        (Subject::Roles, _) => Reply::new(200, ROLE),
        (Subject::Keys, _) => Reply::new(200, keys(world)),
        (_, Some(machine)) => {
            let document = serde_json::json!({
                "accountId": machine.account, "instanceId": question.instance, "region": world.region,
                "privateIp": machine.address, "availabilityZone": format!("{}a", world.region),
            });
            Reply::new(200, document.to_string())
        }
    }
}

fn keys(world: &World) -> String {
    let id = key_id(world.keys);
    let expiration = time::iso(time::now() + world.clock_ahead + world.keys_life);
    serde_json::json!({
        "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": id, "SecretAccessKey": secret(&id),
        "Token": format!("session-of-{id}"), "Expiration": expiration,
    })
    .to_string()
}

/// The id of the keys with a number.
pub(super) fn key_id(number: u32) -> String {
    format!("FAKEKEY{number}")
}

/// The secret that belongs to it.
pub(super) fn secret(id: &str) -> String {
    format!("secret-of-{id}")
}
