//! A played AWS on a host of its own, and instances of one Auto Scaling group, each of them a host that can ask it.
//!
//! ```text
//!   cloud (h1): EC2, Auto Scaling, and the metadata of each instance ◄── h2, h3, h4, …
//! ```

use std::net::TcpListener;

use anyhow::Result;
use weave_aws::fake::{Fake, World};

use crate::topology::{Host, Topology};
use crate::weave::{Launch, Weave};

const GROUP: &str = "workers";

/// The cloud, its instances without daemons.
#[derive(Debug)]
pub struct Cloud {
    hosts: Vec<Host>,
    fake: Fake,
    /// Where the cloud's services are.
    _place: Host,
    net: Topology,
}

impl Cloud {
    /// So many instances of one group.
    pub fn new(instances: usize) -> Result<Self> {
        let net = Topology::new()?;
        let place = net.host()?;
        let address = place.address();
        let listener = place.namespace().enter(|| Ok(TcpListener::bind((address, 0))?))?;
        let fake = Fake::serve(listener, World::default())?;
        let mut cloud = Self { hosts: Vec::new(), fake, _place: place, net };
        (0..instances).try_for_each(|_| cloud.launch())?;
        Ok(cloud)
    }

    /// A further instance of the group.
    pub fn launch(&mut self) -> Result<()> {
        let host = self.net.host()?;
        let id = instance(&host);
        let mut world = self.fake.world();
        world.launch(&id, host.address(), &[]);
        world.join(GROUP, &id);
        drop(world);
        self.hosts.push(host);
        Ok(())
    }

    /// The instances, in the order of their launch.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The daemon of an instance, which is told where the cloud is and of no peer.
    pub fn daemon(&self, index: usize, launch: Launch) -> Result<Weave> {
        let mut weave = self.prepare(index, launch)?;
        weave.start()?;
        Ok(weave)
    }

    /// The same, not started yet.
    pub fn prepare(&self, index: usize, launch: Launch) -> Result<Weave> {
        let host = &self.hosts[index];
        let launch = launch
            .environment("AWS_ENDPOINT_URL", &self.fake.url())
            .environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.fake.imds_url(&instance(host)));
        Weave::prepare(host, launch)
    }

    /// Puts a parameter into the cloud's store, where every instance may read it.
    pub fn set_parameter(&self, name: &str, value: &str) {
        self.fake.world().parameters.insert(name.to_owned(), value.to_owned());
    }

    /// Nothing reaches the instance from now on, and nothing comes from it.
    pub fn cut_off(&self, index: usize) -> Result<()> {
        self.hosts[index].namespace().run("ip link set eth0 down").map(drop)
    }

    /// The cloud says that the instance is no more. What runs there is the test's to end.
    pub fn terminate(&self, index: usize) {
        let id = instance(&self.hosts[index]);
        let mut world = self.fake.world();
        if let Some(machine) = world.machines.get_mut(&id) {
            machine.state = "terminated".to_owned();
        }
        if let Some(group) = world.groups.get_mut(GROUP) {
            group.members.remove(&id);
        }
    }
}

fn instance(host: &Host) -> String {
    format!("i-{:017x}", host.number())
}
