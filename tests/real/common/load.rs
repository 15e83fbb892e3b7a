//! Traffic of `APP` from one server to another.

use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use gatewatch::lab::Lab;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::WITHIN;

const TICK: Duration = Duration::from_millis(50);
const MESSAGE_BYTES: usize = 8 * 1024;

/// A publisher, and a subscriber where there is one, until it is dropped.
#[derive(Debug)]
pub(crate) struct Load(Vec<JoinHandle<()>>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Load {
    /// Publishes at `from` so many bytes a second, `bytes_max` in all where that is said. With `to`, there is
    /// a subscriber, and what it is to get has found its way when this returns.
    pub(crate) async fn start(
        lab: &Lab,
        from: &str,
        to: Option<&str>,
        bytes_per_s: u64,
        bytes_max: Option<u64>,
    ) -> Self {
        let subject = format!("load.{}", nuid::next());
        let publisher = connect(lab, from).await;
        let mut tasks = Vec::new();
        if let Some(to) = to {
            let subscriber = connect(lab, to).await;
            let mut inbox = subscriber.subscribe(subject.clone()).await.unwrap();
            subscriber.flush().await.unwrap();
            let deadline = Instant::now() + WITHIN;
            loop {
                publisher.publish(subject.clone(), "".into()).await.unwrap();
                if tokio::time::timeout(TICK, inbox.next()).await.is_ok() {
                    break;
                }
                assert!(Instant::now() < deadline, "nothing gets from {from} to {to}");
            }
            tasks.push(tokio::spawn(async move {
                let _subscriber = subscriber;
                while inbox.next().await.is_some() {}
            }));
        }
        tasks.push(tokio::spawn(publish(publisher, subject, bytes_per_s, bytes_max.unwrap_or(u64::MAX))));
        Self(tasks)
    }
}

async fn connect(lab: &Lab, server: &str) -> Client {
    lab.connect_options("app").await.unwrap().connect(lab.url(server).unwrap()).await.unwrap()
}

async fn publish(client: Client, subject: String, bytes_per_s: u64, bytes_max: u64) {
    let message = vec![b'x'; MESSAGE_BYTES];
    let start = Instant::now();
    let mut sent = 0;
    loop {
        let due = u64::try_from(start.elapsed().as_millis()).unwrap() * (bytes_per_s / 1000);
        while sent < due.min(bytes_max) {
            if client.publish(subject.clone(), message.clone().into()).await.is_err() {
                return;
            }
            sent += message.len() as u64;
        }
        // The server may hold a publisher back, whose messages would pile up here.
        if client.flush().await.is_err() {
            return;
        }
        tokio::time::sleep(TICK).await;
    }
}
