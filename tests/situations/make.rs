//! Makes the files beside it: five situations of a supercluster, each as `gatewatch sweep` saw it from `eu-0`.
//! `cargo build && cargo run --example situations` makes them again, with a nats-server of the lab's default version.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "who runs it sees why it ends")]

use std::time::Duration;

use gatewatch::lab::{Auth, Lab, RemoteSpec, Spec};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for situation in ["healthy", "link-lost", "cluster-down", "mismatch", "blind"] {
        let lab = Lab::start(Spec { auth: Auth::Users, ..Spec::default() }).await.unwrap();
        match situation {
            "link-lost" => drop(lab.cut("us-1", "ap").await.unwrap()),
            "cluster-down" => drop(lab.kill_cluster("us").await.unwrap()),
            "mismatch" => {
                let remotes = vec![RemoteSpec::new("ap")];
                lab.restart_with("eu-1", |gateway| gateway.remotes = Some(remotes)).await.unwrap();
                lab.wait_healthy(Duration::from_secs(20)).await.unwrap();
            }
            "blind" => {
                for server in ["eu-1", "us-0", "us-1", "ap-0", "ap-2"] {
                    lab.stop(server).await.unwrap();
                }
            }
            _ => {}
        }
        let mut sweep = tokio::process::Command::new("target/debug/gatewatch");
        sweep.args(["sweep", "--inbox-prefix", "_INBOX_gatewatch", "--server", &lab.url("eu-0").unwrap()]);
        sweep.args(["--user", "gatewatch", "--password", lab.password().unwrap()]);
        sweep.args(["--output", &format!("tests/situations/{situation}.json")]);
        assert!(sweep.status().await.unwrap().success(), "{situation}");
        lab.down().await.unwrap();
    }
}
