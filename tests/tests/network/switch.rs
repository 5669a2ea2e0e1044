//! Machines on a network: namespaces of their own, cables to a switch, and what may befall a cable.
//! All of it goes when the switch is dropped; what a killed run left is swept up by the next.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use lamplighter_runtime::process::Pidfd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What all our namespaces are named by, before the process that made them.
const PREFIX: &str = "lamplighter-test-";

/// Nodes that are all on one wire, 10.77.0.1 and so on.
pub(crate) struct Switch {
    nodes: Vec<&'static str>,
}

impl Switch {
    /// Connects nodes of these names.
    pub(crate) fn new(nodes: &[&'static str]) -> Self {
        let switch = Self {
            nodes: nodes.to_vec(),
        };
        let wire = namespace("switch");
        ip(&format!("netns add {wire}"));
        ip(&format!("-n {wire} link add wire type bridge"));
        ip(&format!("-n {wire} link set wire up"));
        for node in nodes {
            let (name, address) = (namespace(node), switch.address(node));
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!(
                "-n {name} link add cable type veth peer name {node} netns {wire}"
            ));
            ip(&format!("-n {wire} link set {node} master wire up"));
            ip(&format!("-n {name} address add {address}/24 dev cable"));
            ip(&format!("-n {name} link set cable up"));
        }
        switch
    }

    /// By which address the others reach a node.
    pub(crate) fn address(&self, node: &str) -> Ipv4Addr {
        let place = self.nodes.iter().position(|known| *known == node);
        let last = u8::try_from(place.expect("the node is on the switch") + 1).unwrap();
        Ipv4Addr::new(10, 77, 0, last)
    }

    /// Pulls the cable of a node, or its last end of it: it notices that, as a network card would.
    pub(crate) fn unplug(&self, node: &str) {
        ip(&format!("-n {} link set {node} down", namespace("switch")));
    }

    /// Puts it back.
    pub(crate) fn plug(&self, node: &str) {
        ip(&format!("-n {} link set {node} up", namespace("switch")));
    }

    /// Drops all that would go one way between a node and the wire. Nobody notices but by silence.
    pub(crate) fn block(&self, node: &str, way: Way) {
        let (hook, side) = match way {
            Way::In => ("input", "iifname"),
            Way::Out => ("output", "oifname"),
        };
        let name = namespace(node);
        for rule in [
            "add table inet cut".to_owned(),
            format!("add chain inet cut {hook} {{ type filter hook {hook} priority 0 ; }}"),
            format!("add rule inet cut {hook} {side} cable drop"),
        ] {
            run(&format!("ip netns exec {name} nft {rule}"));
        }
    }

    /// Lets through again what was blocked.
    pub(crate) fn clear(&self, node: &str) {
        let name = namespace(node);
        run(&format!("ip netns exec {name} nft delete table inet cut"));
    }

    /// A command that runs on a node.
    pub(crate) fn on(&self, node: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace(node), program]);
        command
    }

    /// Brings this thread, and those that it starts, onto a node. Threads that ran before stay.
    pub(crate) fn enter(&self, node: &str) {
        let path = Path::new("/run/netns").join(namespace(node));
        let place = std::fs::File::open(path).unwrap();
        use std::os::fd::AsFd;
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

/// Which way a node's packets go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    In,
    Out,
}

impl Drop for Switch {
    fn drop(&mut self) {
        for node in self.nodes.iter().chain(&["switch"]) {
            remove(&namespace(node));
        }
    }
}

/// Removes what runs left behind that were killed themselves.
pub(crate) fn sweep() {
    let listed = std::fs::read_dir("/run/netns").into_iter().flatten();
    for entry in listed.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-')?.0.parse::<u32>().ok());
        if maker.is_some_and(|maker| !Path::new(&format!("/proc/{maker}")).exists()) {
            remove(&name);
        }
    }
}

/// Ends all that runs in a namespace, and removes it.
fn remove(name: &str) {
    let listed = Command::new("ip").args(["netns", "pids", name]).output();
    let listed = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned());
    let pids = listed.unwrap_or_default();
    for pid in pids.lines().filter_map(|pid| pid.trim().parse().ok()) {
        if pid != std::process::id()
            && let Ok(process) = Pidfd::open(pid)
        {
            process.kill();
        }
    }
    Command::new("ip")
        .args(["netns", "delete", name])
        .output()
        .ok();
}

fn namespace(node: &str) -> String {
    format!("{PREFIX}{}-{node}", std::process::id())
}

fn ip(arguments: &str) {
    run(&format!("ip {arguments}"));
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let outcome = Command::new(words.next().unwrap()).args(words).output();
    let outcome = outcome.unwrap_or_else(|error| panic!("{line}: {error}"));
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{line}: {said}");
}
