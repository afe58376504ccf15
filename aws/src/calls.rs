//! The questions that are asked, and answers in several pages put together.
//!
//! Instances are looked for by filters, never by ids: one id that EC2 does not know any more would fail the whole call.

use crate::answers::autoscaling::{self, Group, Membership};
use crate::answers::ec2::{self, Described, GROUP_TAG, PEER_GROUP_TAG};
use crate::answers::{Page, ssm};
use crate::client::{Ask, Client};
use crate::credentials::Secret;
use crate::identity::InstanceId;
use crate::listing::Scope;
use crate::problem::{Call, Kind, Problem};
use crate::settings::Service;
use crate::xml::Unreadable;

/// Instances in an answer of EC2; it takes up to 1000.
const INSTANCES_PER_PAGE: &str = "500";
/// Ids that are asked for in one call; a filter of EC2 takes up to 200.
const IDS_PER_CALL: usize = 200;
/// Groups that are asked for in one call. Their members come with them.
const GROUPS_PER_CALL: usize = 50;
/// EC2 may send pages that are not full, or empty.
const PAGES_MAX: usize = 50;
/// Entries of all pages together.
const ITEMS_MAX: usize = 10_000;

/// The fields of a form, in order.
type Fields = Vec<(String, String)>;

/// What came of a question with an answer in pages.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    pub(crate) items: Vec<T>,
    /// Why these are not all.
    pub(crate) problem: Option<Problem>,
}

impl Client {
    /// The instance with this id; none where EC2 does not know it (yet).
    pub(crate) async fn instance(&mut self, id: &InstanceId) -> Result<Option<Described>, Problem> {
        let fields = filter("instance-id", id.as_ref());
        let Pages { items, problem } = self.pages(Call::DescribeInstances, &fields, ec2::instances).await;
        let found = items.into_iter().find(|described| described.id == *id);
        problem.filter(|_| found.is_none()).map_or(Ok(found), Err)
    }

    /// All instances of a scope, terminated ones too for as long as EC2 knows them.
    pub(crate) async fn instances(&mut self, scope: &Scope) -> Pages<Described> {
        let (tag, value) = match scope {
            Scope::Tag(value) => (PEER_GROUP_TAG, value),
            Scope::Group(name) => (GROUP_TAG, name),
        };
        let mut fields = filter(&format!("tag:{tag}"), value);
        fields.push(("MaxResults".to_owned(), INSTANCES_PER_PAGE.to_owned()));
        self.pages(Call::DescribeInstances, &fields, ec2::instances).await
    }

    /// These instances, whatever scope they are of. Those that EC2 does not know any more are left out.
    pub(crate) async fn named(&mut self, ids: &[InstanceId]) -> Pages<Described> {
        let mut all = Pages { items: Vec::new(), problem: None };
        for ids in ids.chunks(IDS_PER_CALL) {
            let mut fields = vec![("Filter.1.Name".to_owned(), "instance-id".to_owned())];
            fields.extend(numbered("Filter.1.Value", ids.iter().map(ToString::to_string)));
            let Pages { items, problem } = self.pages(Call::DescribeInstances, &fields, ec2::instances).await;
            all.items.extend(items);
            if problem.is_some() {
                return Pages { problem, ..all };
            }
        }
        all
    }

    /// The Auto Scaling group that an instance is in, if it is in one.
    pub(crate) async fn group_of(&mut self, id: &InstanceId) -> Result<Option<String>, Problem> {
        let fields = numbered("InstanceIds.member", [id.to_string()]);
        let pages = self.pages(Call::DescribeAutoScalingInstances, &fields, autoscaling::memberships).await;
        let found = pages.items.into_iter().find(|membership| membership.instance == id.as_ref());
        let group = found.map(|membership: Membership| membership.group);
        pages.problem.filter(|_| group.is_none()).map_or(Ok(group), Err)
    }

    /// Auto Scaling groups by their names. One that is gone is left out.
    pub(crate) async fn groups(&mut self, names: impl IntoIterator<Item = String>) -> Pages<Group> {
        let names: Vec<String> = names.into_iter().collect();
        let mut all = Pages { items: Vec::new(), problem: None };
        for names in names.chunks(GROUPS_PER_CALL) {
            let fields = numbered("AutoScalingGroupNames.member", names.iter().cloned());
            let Pages { items, problem } =
                self.pages(Call::DescribeAutoScalingGroups, &fields, autoscaling::groups).await;
            all.items.extend(items);
            if problem.is_some() {
                return Pages { problem, ..all };
            }
        }
        all
    }

    /// A parameter of Systems Manager, decrypted.
    pub(crate) async fn parameter(&mut self, name: &str) -> Result<Secret, Problem> {
        let headers = vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", "AmazonSSM.GetParameter".to_owned()),
        ];
        let body = serde_json::json!({ "Name": name, "WithDecryption": true }).to_string();
        let call = Call::GetParameter;
        let answer = self.ask(&Ask { call, service: Service::Ssm, headers, body }).await?;
        ssm::parameter(&answer).map_err(|error| unreadable(call, &error))
    }

    async fn pages<T>(
        &mut self,
        call: Call,
        fields: &Fields,
        read: fn(&[u8]) -> Result<Page<T>, Unreadable>,
    ) -> Pages<T> {
        let (mut items, mut next) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let page = match self.page(call, fields, next.take(), read).await {
                Ok(page) => page,
                Err(problem) => return Pages { items, problem: Some(problem) },
            };
            items.extend(page.items);
            next = page.next;
            if items.len() > ITEMS_MAX {
                break;
            }
            if next.is_none() {
                return Pages { items, problem: None };
            }
        }
        items.truncate(ITEMS_MAX);
        let what = format!("more than {ITEMS_MAX} entries or {PAGES_MAX} pages; the rest is left out");
        Pages { items, problem: Some(Problem::new(call, Kind::Failed, what)) }
    }

    async fn page<T>(
        &mut self,
        call: Call,
        fields: &Fields,
        next: Option<String>,
        read: fn(&[u8]) -> Result<Page<T>, Unreadable>,
    ) -> Result<Page<T>, Problem> {
        let (service, version) = match call {
            Call::DescribeInstances => (Service::Ec2, "2016-11-15"),
            _ => (Service::AutoScaling, "2011-01-01"),
        };
        let mut all = vec![("Action".to_owned(), call.to_string()), ("Version".to_owned(), version.to_owned())];
        all.extend_from_slice(fields);
        all.extend(next.map(|token| ("NextToken".to_owned(), token)));
        let headers = vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())];
        let answer = self.ask(&Ask { call, service, headers, body: form(&all) }).await?;
        read(&answer).map_err(|error| unreadable(call, &error))
    }
}

fn unreadable(call: Call, error: &Unreadable) -> Problem {
    Problem::new(call, Kind::Unanswered, error.to_string())
}

/// A filter of EC2's by one value, taken as it is: EC2 reads `*` and `?` as patterns.
fn filter(name: &str, value: &str) -> Fields {
    let value = value.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?");
    vec![("Filter.1.Name".to_owned(), name.to_owned()), ("Filter.1.Value.1".to_owned(), value)]
}

/// A list, as the query API has it.
fn numbered(name: &str, values: impl IntoIterator<Item = String>) -> Fields {
    (1..).zip(values).map(|(number, value)| (format!("{name}.{number}"), value)).collect()
}

/// Fields as the body of a form.
fn form(fields: &Fields) -> String {
    fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect::<Vec<_>>().join("&")
}

/// As RFC 3986 has it: all but what is never reserved.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|octet| match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(octet).to_string(),
            _ => format!("%{octet:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_names_and_values_escaped() {
        let mut fields = filter("tag:weave:peerGroupName", "a b&*?\\ü");
        fields.extend(numbered("Name", ["x".to_owned(), "y".to_owned()]));
        assert_eq!(
            form(&fields),
            "Filter.1.Name=tag%3Aweave%3ApeerGroupName&Filter.1.Value.1=a%20b%26%5C%2A%5C%3F%5C%5C%C3%BC&Name.1=x&Name.2=y"
        );
    }
}
