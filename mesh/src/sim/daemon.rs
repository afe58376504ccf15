//! The part of a simulated daemon that runs its node: inputs in, outputs carried out in order, a timer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::host::{Daemon, Host};
use super::queue::Event;
use super::{HostId, Input, LISTEN_PORT, Options, Recording, Violation, World, input};
use crate::connector::ConnectionId;
use crate::identity::Identity;
use crate::ipam;
use crate::name::PeerName;
use crate::node::{self, Config, Node, Output};
use crate::wire::Message;

/// Up to so many hosts, what must hold is checked after every step; beyond, when a run asks for it.
const CHECKED_EACH_STEP_MAX: usize = 64;
/// A node whose timer is due again at once is asked again after this time, and reported.
const BUSY_TIMER_DELAY: Duration = Duration::from_millis(10);

impl World {
    pub(super) fn start(&mut self, id: HostId) {
        self.starting.remove(&id);
        if self.host(id).daemon.is_some() || self.host(id).containers.is_destroyed {
            return;
        }
        let identity = self.identity(id);
        let host = &mut self.hosts[id.0];
        host.is_powered = true;
        host.boot += 1;
        let config = config_of(host, &identity, &self.options);
        let (restored, wall, seed) = (host.disk.restored(), host.wall(self.now), self.dice.number());
        let node = Node::new(config.clone(), identity.clone(), restored.clone(), seed, self.now, wall);
        // The configuration is the simulator's own: a limit broken here is a bug here.
        #[cfg_attr(not(test), expect(unused_mut, reason = "in tests it may be made to break a rule"))]
        let mut node = node.expect("a simulated host's configuration keeps every limit");
        #[cfg(test)]
        if let Some(rule) = self.broken {
            node.break_rule(rule);
        }
        let is_recorded = self.options.record == Some(id) && self.recording.is_none();
        let recording = is_recorded.then(|| {
            let started = (self.now, wall);
            Box::new(Recording {
                config,
                identity: identity.clone(),
                restored,
                seed,
                started,
                inputs: Vec::new(),
                outputs: Vec::new(),
            })
        });
        host.daemon = Some(Daemon::new(node, identity, recording, seed));
        let endpoints = host.endpoints.clone();
        host.containers.keys.extend(host.daemon.as_ref().map(|daemon| daemon.key));
        self.carry_out(id);
        self.resume_containers(id);
        self.begin_asking(id);
        self.feed(id, Input::Endpoints(endpoints));
    }

    /// Hands an input to the daemon of `host`, if it runs.
    pub(super) fn feed(&mut self, host: HostId, input: Input) {
        self.inbox.push_back((host, self.host(host).boot, input));
    }

    /// Lets nodes work until none has anything to do at this moment.
    pub(super) fn work(&mut self) {
        while let Some((host, boot, input)) = self.inbox.pop_front() {
            let now = self.now;
            let simulated = &mut self.hosts[host.0];
            if simulated.boot != boot {
                continue;
            }
            let Some(daemon) = &mut simulated.daemon else { continue };
            if let Some(recording) = &mut daemon.recording {
                recording.inputs.push((now, input.clone()));
            }
            let was_timeout = matches!(input, Input::Timeout);
            input.apply(&mut daemon.node, now);
            let is_busy = was_timeout && daemon.node.poll_timeout().is_some_and(|deadline| deadline <= now);
            if is_busy {
                self.violate(Violation::BusyTimer { at: now, host });
            }
            self.carry_out(host);
        }
    }

    /// Carries out what the node of `host` puts out, in order.
    fn carry_out(&mut self, host: HostId) {
        let mut batches: BTreeMap<ConnectionId, Vec<Message>> = BTreeMap::new();
        while let Some(daemon) = &mut self.hosts[host.0].daemon
            && let Some(output) = daemon.node.poll_output()
        {
            if let Some(recording) = &mut daemon.recording {
                recording.outputs.extend(input::describe(&output));
            }
            if self.has_died(host) {
                return;
            }
            match output {
                Output::Persist(persist) => self.hosts[host.0].disk.keep(persist),
                Output::Dial(dial) => self.dial(host, dial),
                Output::Send { connection, message } => batches.entry(connection).or_default().push(message),
                // Streams here take everything at once.
                Output::AwaitRoom { connection } => self.feed(host, Input::Room(connection)),
                Output::Close { connection, reason } => {
                    self.trace.note(self.now, host, host, format!("closes {connection}: {reason}"));
                    self.send(host, connection, batches.remove(&connection).unwrap_or_default());
                    self.close(host, connection);
                }
                Output::Event(event) => self.handle_event(host, event),
            }
        }
        for (connection, messages) in batches {
            self.send(host, connection, messages);
        }
        self.arm_timer(host);
    }

    /// Whether the daemon dies before its next output.
    fn has_died(&mut self, host: HostId) -> bool {
        let Some(left) = &mut self.hosts[host.0].outputs_to_live else { return false };
        if let Some(less) = left.checked_sub(1) {
            *left = less;
            return false;
        }
        self.kill(host);
        true
    }

    fn handle_event(&mut self, host: HostId, event: node::Event) {
        match event {
            node::Event::ViewChanged => {
                if self.hosts.len() <= CHECKED_EACH_STEP_MAX {
                    self.check_host(host);
                }
            }
            node::Event::IdentityTaken => {
                self.trace.note(self.now, host, host, format!("{event:?}"));
                self.restart_as_new(host);
            }
            node::Event::PeerUp(_) | node::Event::PeerDown(_) | node::Event::NamesChanged => {}
            node::Event::Ipam { ticket, answer } => self.handle_address(host, ticket, &answer),
            node::Event::Renamed(_) | node::Event::Warning(_) => {
                self.trace.note(self.now, host, host, format!("{event:?}"));
            }
        }
    }

    fn arm_timer(&mut self, host: HostId) {
        let now = self.now;
        let simulated = &mut self.hosts[host.0];
        let boot = simulated.boot;
        let Some(daemon) = &mut simulated.daemon else { return };
        let Some(deadline) = daemon.node.poll_timeout() else { return };
        let at = if deadline <= now { now + BUSY_TIMER_DELAY } else { deadline };
        if daemon.timer.is_none_or(|timer| at < timer) {
            daemon.timer = Some(at);
            self.queue.push(at, Event::NodeTimer { host, boot });
        }
    }

    pub(super) fn handle_node_timer(&mut self, host: HostId, boot: u32) {
        let now = self.now;
        let simulated = &mut self.hosts[host.0];
        if simulated.boot != boot {
            return;
        }
        let Some(daemon) = &mut simulated.daemon else { return };
        if daemon.timer.is_some_and(|timer| timer <= now) {
            daemon.timer = None;
            match daemon.node.poll_timeout() {
                Some(deadline) if deadline <= now => self.feed(host, Input::Timeout),
                _ => self.arm_timer(host),
            }
        }
    }
}

fn config_of(host: &Host, identity: &Identity, options: &Options) -> Config {
    let name = host.name.or(host.disk.name).unwrap_or_else(|| PeerName::derived_from(&identity.key().0));
    Config {
        mesh: options.mesh,
        discovery: options.discovery,
        connection_limit: options.connection_limit,
        listen_port: LISTEN_PORT,
        targets: host.targets.clone(),
        name,
        nickname: format!("host-{}", host.id.0),
        bridge_mac: name.mac(),
        addresses: vec![host.address],
        trusted_subnets: Vec::new(),
        instance_id: host.instance.clone(),
        machine: host.machine,
        ipam: options
            .ipam
            .clone()
            .map(|config| ipam::Config { init: host.init.clone().unwrap_or(config.init), ..config }),
    }
}
