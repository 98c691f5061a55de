//! Machines of tenants' administrators.

use serde_json::Value;

use super::{Cluster, Place, Ran};

/// A machine of its own, with one profile.
pub struct Machine(pub Place);

impl Machine {
    /// A machine whose profile asks to administer a tenant.
    pub fn new() -> (Self, String) {
        let machine = Self(Place::new());
        let request = machine.run(["tenant", "request"]).json();
        (machine, request["request"].as_str().unwrap().to_owned())
    }

    /// Runs the program as its profile with `--json`.
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        let mut all = vec!["--json", "--profile", "own"];
        all.extend(arguments);
        self.0.run(all)
    }

    /// Accepts the invitation that `made` holds.
    pub fn accepts(&self, made: &Value) -> Value {
        self.0.file("invitation", made["invitation"].as_str().unwrap());
        let fingerprint = made["fingerprint"].as_str().unwrap();
        self.run(["tenant", "accept", "invitation", "--fingerprint", fingerprint]).json()
    }

    /// Makes a tenant below its own.
    pub fn makes(&self, name: &str, request: &str) -> (Self, Value) {
        let (machine, text) = Self::new();
        self.0.file("request", text);
        let made =
            self.run(["tenant", "create", name, "--request", "request", "--support", request]);
        let made = made.json();
        machine.accepts(&made);
        (machine, made)
    }
}

/// A tenant of the cluster's own root tenant, which administers it.
pub fn reseller(cluster: &Cluster, name: &str) -> Machine {
    let (machine, text) = Machine::new();
    let file = cluster.place.file(format!("{name}.request"), text);
    let file = file.to_str().unwrap();
    let made = cluster
        .admin(["tenant", "create", name, "--request", file, "--support", "help@platform.example"])
        .json();
    assert_eq!(made["confirmed"], cluster.nodes.len(), "{made}");
    // c - (N - T + 1), where T is a majority.
    assert_eq!(made["holds_against_lying_nodes"], cluster.nodes.len() / 2, "{made}");
    machine.accepts(&made);
    machine
}
