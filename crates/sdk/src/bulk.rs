//! Dealing the shares of many keys anew: the rounds of many reshares in one request, at a bounded rate beside what the
//! nodes serve.

use std::sync::Arc;
use std::time::Duration;

use quorate_types::{KeyId, KeyVersion};
use quorate_wire::proto::v1;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{Answered, Client};
use crate::error::Error;
use crate::keys::Key;
use crate::provision::{KEYS_OF_A_LANE, LANES, interrupted};
use crate::reshare::{Reshared, Stopped};
use crate::transport::Method;

/// How often the keys of a lane are begun anew where something came in between.
const BEGINNINGS: u32 = 3;

/// Keys that are looked up at once.
const LOOKUPS: usize = 8;

/// How many keys are dealt anew at once, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BulkOptions {
    /// At most so many key versions a second; none for as many as nodes and this machine can do.
    pub rate: Option<f64>,
    /// At most so many at once; none for as many as one principal may have sessions.
    pub in_flight: Option<usize>,
}

/// One key version on its way.
#[derive(Debug, Clone, Copy)]
struct Job {
    at: usize,
    key: KeyId,
    version: KeyVersion,
}

/// Lets so many begin in a second.
struct Pace {
    /// Of one key.
    each: Duration,
    next: Instant,
}

impl Pace {
    fn of(rate: Option<f64>) -> Option<Self> {
        let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0)?;
        Some(Self { each: Duration::from_secs_f64(1.0 / rate), next: Instant::now() })
    }

    /// When these may begin. What was not used is not saved up.
    fn begin(&mut self, now: Instant, keys: usize) -> Instant {
        let at = self.next.max(now);
        self.next = at + self.each.saturating_mul(u32::try_from(keys).unwrap_or(u32::MAX));
        at
    }
}

impl Client {
    /// Deals the shares of many key versions anew, each as [`Self::reshare_key`] does. What came of each is told as
    /// soon as that is known, in any order, with its place in `keys`. One that fails holds up no other, and one that
    /// was done just now is refused as not due: so the same keys can be given again after an interruption.
    pub async fn reshare_keys(
        &self,
        keys: Vec<(KeyId, KeyVersion)>,
        options: BulkOptions,
        mut told: impl FnMut(usize, Result<Reshared, Error>),
    ) {
        let jobs =
            keys.into_iter().enumerate().map(|(at, (key, version))| Job { at, key, version });
        let waiting = Arc::new(Mutex::new(jobs.collect::<Vec<_>>().into_iter()));
        let pace = Arc::new(Mutex::new(Pace::of(options.rate)));
        let most = options.in_flight.unwrap_or(usize::MAX).max(1);
        let lanes = LANES.min(most);
        // At a low rate they come one after another, and not in bursts.
        let burst = options.rate.map_or(usize::MAX, |rate| rate.ceil().max(1.0) as usize);
        let size = KEYS_OF_A_LANE.min(most.div_ceil(lanes)).min(burst).max(1);
        let (sender, mut done) = mpsc::channel(4 * KEYS_OF_A_LANE);
        let mut running = JoinSet::new();
        for _ in 0..lanes {
            let (client, waiting) = (self.clone(), Arc::clone(&waiting));
            let (pace, sender) = (Arc::clone(&pace), sender.clone());
            running.spawn(async move {
                loop {
                    let jobs: Vec<Job> = waiting.lock().await.by_ref().take(size).collect();
                    if jobs.is_empty() {
                        return;
                    }
                    let at = pace
                        .lock()
                        .await
                        .as_mut()
                        .map(|pace| pace.begin(Instant::now(), jobs.len()));
                    if let Some(at) = at {
                        sleep_until(at).await;
                    }
                    for (at, result) in client.reshare_some(jobs).await {
                        // Nobody listens any more: then nothing is begun either.
                        if sender.send((at, result)).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        while let Some((at, result)) = done.recv().await {
            told(at, result);
        }
    }

    /// Reshares as many as one request carries.
    async fn reshare_some(&self, jobs: Vec<Job>) -> Vec<(usize, Result<Reshared, Error>)> {
        let mut done = Vec::with_capacity(jobs.len());
        let mut rest = jobs;
        for beginning in 1..=BEGINNINGS {
            let last = beginning == BEGINNINGS;
            let keys = self.look_up(&rest, beginning > 1).await;
            let (mut running, mut machines) = (Vec::new(), Vec::new());
            for (job, key) in core::mem::take(&mut rest).into_iter().zip(keys) {
                match key.and_then(|key| Ok((self.reshare_machine(&key, job.version)?, key))) {
                    Ok((machine, key)) => {
                        machines.push(machine);
                        running.push((job, key));
                    }
                    Err(error) => done.push((job.at, Err(error))),
                }
            }
            let (outcomes, reasons) = self.relay(machines).await;
            let mut outcomes = outcomes.into_iter();
            for (job, key) in running {
                let outcome = outcomes.next().flatten();
                let Some(outcome) = outcome else {
                    done.push((job.at, Err(interrupted(job.key))));
                    continue;
                };
                match self.after_reshare(&key, job.version, outcome, &reasons) {
                    Ok(reshared) => done.push((job.at, Ok(reshared))),
                    Err(Stopped::Again(_)) if !last => rest.push(job),
                    Err(stopped) => done.push((job.at, Err(stopped.into_error()))),
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        done
    }

    /// The keys of these jobs: as one node shows them, which takes part itself and knows the order in force; or as
    /// most do, and nodes that lack something are brought it.
    async fn look_up(&self, jobs: &[Job], thoroughly: bool) -> Vec<Result<Key, Error>> {
        let mut found: Vec<Option<Result<Key, Error>>> = jobs.iter().map(|_| None).collect();
        let mut waiting = jobs.iter().map(|job| (job.key, job.version)).enumerate();
        let mut looking = JoinSet::new();
        loop {
            while looking.len() < LOOKUPS
                && let Some((at, (id, version))) = waiting.next()
            {
                let client = self.clone();
                looking.spawn(async move {
                    // One that has just come knows the key, and may have no certificate of it yet.
                    let made = |key: &Key| {
                        let version = key.verified_version(version);
                        version.is_ok_and(|version| version.certificate.is_some())
                    };
                    if !thoroughly && let Some(key) = client.key_of_one(id).await.filter(made) {
                        return (at, Ok(key));
                    }
                    let known = client.cached_key(id).is_some();
                    let key = client.gather_key(id).await;
                    // Hundreds of thousands of keys are not kept in memory.
                    if !known {
                        client.forget_key(id);
                    }
                    (at, key)
                });
            }
            match looking.join_next().await {
                None => break,
                Some(Ok((at, key))) => {
                    if let Some(slot) = found.get_mut(at) {
                        *slot = Some(key);
                    }
                }
                Some(Err(_)) => {}
            }
        }
        let lost = |job: &Job| Err(interrupted(job.key));
        jobs.iter().zip(found).map(|(job, key)| key.unwrap_or_else(|| lost(job))).collect()
    }

    /// A key as the fastest node that answers shows it, verified.
    async fn key_of_one(&self, id: KeyId) -> Option<Key> {
        let preferred = self.preferred();
        let known = |node: &quorate_types::NodeId| self.roster().node(node).is_some();
        let first = preferred.into_iter().find(known);
        let node = first.or_else(|| self.roster().nodes.first().map(|entry| entry.id))?;
        let request = |node: quorate_types::NodeId| v1::GetKeyRequest {
            node: node.as_bytes().to_vec(),
            which: Some(v1::get_key_request::Which::Id(id.as_bytes().to_vec())),
        };
        let mut answers = self.ask(&[node], Method::GetKey, request, 1).await;
        let Answered { reply, .. } = answers.remove(&node)?.ok()?;
        let reply: v1::GetKeyReply = reply;
        self.verify_views(id, &[(node, reply.keys)]).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_bounds_how_many_begin_and_saves_nothing_up() {
        let mut pace = Pace::of(Some(4.0)).unwrap();
        let now = pace.next;
        let ms = |n| now + Duration::from_millis(n);
        assert_eq!(pace.begin(now, 1), now);
        assert_eq!(pace.begin(now, 2), ms(250));
        assert_eq!(pace.begin(ms(10), 1), ms(750));
        assert_eq!(pace.begin(ms(9000), 1), ms(9000));
        assert_eq!(pace.begin(ms(9001), 1), ms(9250));
        assert!(Pace::of(None).is_none() && Pace::of(Some(0.0)).is_none());
    }
}
