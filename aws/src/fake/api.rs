//! EC2, Auto Scaling and Systems Manager, as far as we ask them. Signatures are checked as AWS does.

use hyper::header::AUTHORIZATION;

use super::form::Form;
use super::metadata::{key_id, secret};
use super::world::{Group, Machine};
use super::xml::{each, leaf, within};
use super::{Asked, Reply, World};
use crate::credentials::Credentials;
use crate::sign::{Scope, Unsigned, sign};
use crate::time;

/// So far a signature's time may be off.
const SKEW_SECONDS: i64 = 300;

/// The name of a call.
pub(super) fn name(asked: &Asked) -> String {
    let target = asked.header("x-amz-target").strip_prefix("AmazonSSM.");
    target.map_or_else(|| Form::read(&asked.body).get("Action").unwrap_or("?").to_owned(), str::to_owned)
}

pub(super) fn reply(world: &World, asked: &Asked) -> Reply {
    if let Err(code) = check(world, asked) {
        return error(asked, 403, code);
    }
    let (name, form) = (name(asked), Form::read(&asked.body));
    if world.denied.contains(&name) {
        return error(asked, 403, denial(service(asked)));
    }
    match name.as_str() {
        "DescribeInstances" => describe_instances(world, &form),
        "DescribeAutoScalingInstances" => describe_memberships(world, &form),
        "DescribeAutoScalingGroups" => describe_groups(world, &form),
        "GetParameter" => get_parameter(world, asked),
        _ => error(asked, 400, "InvalidAction"),
    }
}

/// An error in the shape of the service that is asked.
pub(super) fn error(asked: &Asked, status: u16, code: &str) -> Reply {
    let body = match service(asked) {
        "ec2" => {
            let inner = within("Errors", &within("Error", &(leaf("Code", code) + &leaf("Message", "so it was told"))));
            within("Response", &(inner + &leaf("RequestID", "req-1")))
        }
        "ssm" => serde_json::json!({ "__type": format!("com.amazon#{code}"), "message": "so it was told" }).to_string(),
        _ => within("ErrorResponse", &(within("Error", &leaf("Code", code)) + &leaf("RequestId", "req-1"))),
    };
    Reply { headers: vec![("x-amzn-requestid", "req-1".to_owned())], ..Reply::new(status, body) }
}

fn denial(service: &str) -> &'static str {
    match service {
        "ec2" => "UnauthorizedOperation",
        "ssm" => "AccessDeniedException",
        _ => "AccessDenied",
    }
}

/// The place of a signature: id, day, region and service.
fn credential(asked: &Asked) -> Vec<&str> {
    let rest = asked.header(AUTHORIZATION.as_str()).split_once("Credential=").map_or("", |(_, rest)| rest);
    rest.split_once(',').map_or("", |(credential, _)| credential).split('/').collect()
}

fn service(asked: &Asked) -> &str {
    credential(asked).get(3).copied().unwrap_or_default()
}

/// What AWS would say of the signature.
fn check(world: &World, asked: &Asked) -> Result<(), &'static str> {
    let [id, _, region, service, _] = credential(asked)[..] else { return Err("MissingAuthenticationToken") };
    let [too_far, expired] = match service {
        "ec2" => ["RequestExpired", "RequestExpired"],
        "ssm" => ["InvalidSignatureException", "ExpiredTokenException"],
        _ => ["RequestTimeTooSkewed", "ExpiredToken"],
    };
    let at = moment(asked.header("x-amz-date")).ok_or("IncompleteSignature")?;
    if (at - time::now() - world.clock_ahead).abs() > SKEW_SECONDS {
        return Err(too_far);
    }
    let token = Some(asked.header("x-amz-security-token")).filter(|token| !token.is_empty());
    let by = Credentials::new(id, &secret(id), token, None);
    let names = asked.header(AUTHORIZATION.as_str()).split_once("SignedHeaders=").map_or("", |(_, rest)| rest);
    let names = names.split(',').next().unwrap_or_default().split(';');
    let headers: Vec<(&str, &str)> = names
        .filter(|name| !["x-amz-date", "x-amz-security-token"].contains(name))
        .map(|name| (name, asked.header(name)))
        .collect();
    let request = Unsigned { method: &asked.method, headers: &headers, body: &asked.body };
    let signed = sign(request, Scope { region, service }, &by, at);
    let is_right = signed.last().is_some_and(|(_, value)| value == asked.header(AUTHORIZATION.as_str()));
    match () {
        () if !is_right || region != world.region => Err("SignatureDoesNotMatch"),
        () if id != key_id(world.keys) => Err(expired),
        () => Ok(()),
    }
}

/// Reads a time such as `20150830T123600Z`.
fn moment(text: &str) -> Option<i64> {
    let part = |range: std::ops::Range<usize>| text.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(9..11)?, part(11..13)?, part(13..15)?);
    time::parse_iso(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// A page, and what to ask the next with.
fn page<T>(world: &World, form: &Form, limit: &str, all: Vec<T>) -> (Vec<T>, String) {
    let begin = form.number("NextToken").unwrap_or(0);
    let count = form.number(limit).unwrap_or(usize::MAX).min(world.per_page);
    let next = begin.saturating_add(count);
    let token = if next < all.len() { next.to_string() } else { String::new() };
    (all.into_iter().skip(begin).take(count).collect(), token)
}

fn describe_instances(world: &World, form: &Form) -> Reply {
    let name = form.get("Filter.1.Name").unwrap_or_default();
    let plain = |value: &str| value.replace("\\*", "*").replace("\\?", "?").replace("\\\\", "\\");
    let values: Vec<String> =
        (1..).map_while(|number| form.get(&format!("Filter.1.Value.{number}"))).map(plain).collect();
    let is_asked_for = |id: &str, machine: &Machine| match name.strip_prefix("tag:") {
        Some(tag) => machine.tags.get(tag).is_some_and(|tag| values.contains(tag)),
        None => name == "instance-id" && values.iter().any(|value| value == id),
    };
    let found =
        world.machines.iter().filter(|(id, machine)| machine.account == world.account && is_asked_for(id, machine));
    let (found, next) = page(world, form, "MaxResults", found.collect());
    let reservations = found.into_iter().map(|(id, it)| within("instancesSet", &within("item", &instance(id, it))));
    let inner = within("reservationSet", &each("item", reservations)) + &leaf("nextToken", &next);
    Reply::new(200, within("DescribeInstancesResponse", &inner))
}

fn instance(id: &str, machine: &Machine) -> String {
    let tags = machine.tags.iter().map(|(name, value)| leaf("key", name) + &leaf("value", value));
    let address = if machine.state == "terminated" { String::new() } else { machine.address.to_string() };
    leaf("instanceId", id)
        + &within("instanceState", &leaf("name", &machine.state))
        + &leaf("privateIpAddress", &address)
        + &leaf("launchTime", &time::iso(machine.launched))
        + &within("tagSet", &each("item", tags))
}

fn describe_memberships(world: &World, form: &Form) -> Reply {
    let ids = form.all("InstanceIds.member.");
    let of_group = |(name, group): (&String, &Group)| {
        let found: Vec<_> = ids.iter().filter(|id| group.members.contains_key(**id)).collect();
        found.into_iter().map(|id| leaf("InstanceId", id) + &leaf("AutoScalingGroupName", name)).collect::<Vec<_>>()
    };
    let (found, next) = page(world, form, "MaxRecords", world.groups.iter().flat_map(of_group).collect());
    autoscaling("DescribeAutoScalingInstances", "AutoScalingInstances", found, &next)
}

fn describe_groups(world: &World, form: &Form) -> Reply {
    let names = form.all("AutoScalingGroupNames.member.");
    let found = world.groups.iter().filter(|(name, _)| names.contains(&name.as_str()));
    let (found, next) = page(world, form, "MaxRecords", found.collect());
    let found = found.into_iter().map(|(name, group)| {
        let member = |(id, state): (&String, &String)| leaf("InstanceId", id) + &leaf("LifecycleState", state);
        leaf("AutoScalingGroupName", name)
            + &leaf("DesiredCapacity", &group.desired.to_string())
            + &within("Instances", &each("member", group.members.iter().map(member)))
    });
    autoscaling("DescribeAutoScalingGroups", "AutoScalingGroups", found.collect(), &next)
}

fn autoscaling(call: &str, list: &str, members: Vec<String>, next: &str) -> Reply {
    let result = within(list, &each("member", members)) + &leaf("NextToken", next);
    Reply::new(200, within(&format!("{call}Response"), &within(&format!("{call}Result"), &result)))
}

fn get_parameter(world: &World, asked: &Asked) -> Reply {
    let question: serde_json::Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let value = question["Name"].as_str().and_then(|name| world.parameters.get(name));
    match value.filter(|_| question["WithDecryption"] == true) {
        Some(value) => Reply::new(200, serde_json::json!({ "Parameter": { "Value": value } }).to_string()),
        None => error(asked, 400, "ParameterNotFound"),
    }
}
