//! What there is in the cloud, and what is to go wrong with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

/// All that there is. Names of calls are `DescribeInstances` and the like; of IMDS `token`, `document`, `roles`, `keys`, and
/// `no token` for whatever is asked without one.
#[derive(Clone, Debug)]
pub struct World {
    pub region: String,
    /// Whose instances the API knows.
    pub account: String,
    pub machines: BTreeMap<String, Machine>,
    pub groups: BTreeMap<String, Group>,
    /// Of Systems Manager.
    pub parameters: BTreeMap<String, String>,
    /// At most so many instances or groups in a page.
    pub per_page: usize,
    /// How far its clock is ahead of this host's, in seconds.
    pub clock_ahead: i64,
    /// Calls that the role may not make.
    pub denied: BTreeSet<String>,
    /// Which keys are good: those of another number are expired.
    pub keys: u32,
    /// How long keys say that they are good, in seconds.
    pub keys_life: i64,
    /// Which token of IMDS is good.
    pub token: u32,
    /// Whether IMDS gives tokens at all.
    pub has_imds: bool,
    /// What was asked, in order.
    pub asked: Vec<String>,
    faults: BTreeMap<String, VecDeque<Option<Fault>>>,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Machine {
    pub account: String,
    /// As EC2 spells it.
    pub state: String,
    pub address: Ipv4Addr,
    /// Seconds since 1970.
    pub launched: i64,
    pub tags: BTreeMap<String, String>,
}

/// An Auto Scaling group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub desired: u32,
    /// Lifecycle states, as Auto Scaling spells them, by id.
    pub members: BTreeMap<String, String>,
}

/// What goes wrong with one call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// No answer at all.
    Silence,
    Error {
        status: u16,
        code: String,
    },
    /// This, instead of what was asked for.
    Body(String),
    /// So much of the answer, in octets.
    CutTo(usize),
}

impl Default for World {
    fn default() -> Self {
        Self {
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
            machines: BTreeMap::new(),
            groups: BTreeMap::new(),
            parameters: BTreeMap::new(),
            per_page: 1000,
            clock_ahead: 0,
            denied: BTreeSet::new(),
            keys: 1,
            keys_life: 3600,
            token: 1,
            has_imds: true,
            asked: Vec::new(),
            faults: BTreeMap::new(),
        }
    }
}

impl World {
    /// Starts an instance, with tags.
    pub fn launch(&mut self, id: &str, address: Ipv4Addr, tags: &[(&str, &str)]) {
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (account, state) = (self.account.clone(), "running".to_owned());
        let machine = Machine { account, state, address, launched: 1_790_071_200, tags };
        self.machines.insert(id.to_owned(), machine);
    }

    /// Puts an instance that is there into a group, which then wants one more.
    pub fn join(&mut self, group: &str, id: &str) {
        let of_group = self.groups.entry(group.to_owned()).or_default();
        of_group.desired += 1;
        of_group.members.insert(id.to_owned(), "InService".to_owned());
        if let Some(machine) = self.machines.get_mut(id) {
            machine.tags.insert("aws:autoscaling:groupName".to_owned(), group.to_owned());
        }
    }

    /// The next call of this name, after those that were told before, goes wrong.
    pub fn fail(&mut self, call: &str, fault: Fault) {
        self.faults.entry(call.to_owned()).or_default().push_back(Some(fault));
    }

    /// The next call of this name goes well, and only then those that are told further.
    pub fn pass(&mut self, call: &str) {
        self.faults.entry(call.to_owned()).or_default().push_back(None);
    }

    /// Notes a call and takes what is to go wrong with it.
    pub(super) fn meet(&mut self, call: &str) -> Option<Fault> {
        self.asked.push(call.to_owned());
        self.faults.get_mut(call)?.pop_front()?
    }
}
