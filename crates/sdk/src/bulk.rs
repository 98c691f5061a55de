//! Dealing the shares of many keys anew: the rounds of many reshares in one request, at a bounded rate beside what the
//! nodes serve.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quorate_coordinator::ceremony::reshare::Remembered;
use quorate_types::limits::MAX_SESSIONS_PER_PRINCIPAL;
use quorate_types::{KeyId, KeyVersion, NodeId};
use quorate_wire::proto::v1;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::{Answered, Client};
use crate::error::Error;
use crate::keys::Key;
use crate::provision::{LANES, interrupted};
use crate::reshare::{Patience, Reshared};
use crate::transport::Method;

/// Reshares under way at once, unless more are asked for: as many as a principal may have sessions, but for a quarter.
/// Those places are for what failed, or was left by a run that was killed, until its time is over.
const IN_FLIGHT: usize = MAX_SESSIONS_PER_PRINCIPAL / 4 * 3;

/// Keys that are looked up at once.
const LOOKUPS: usize = 8;

/// How long the one node may take that is asked for a key. Then most are, and this one no more.
const LOOKUP: Duration = Duration::from_secs(2);

/// How many keys are dealt anew at once, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BulkOptions {
    /// At most so many key versions a second; none for as many as nodes and this machine can do.
    pub rate: Option<f64>,
    /// At most so many at once; none for three quarters of the sessions that one principal may have.
    pub in_flight: Option<usize>,
}

/// One key version on its way.
#[derive(Debug)]
struct Job {
    at: usize,
    key: KeyId,
    version: KeyVersion,
    /// None until it was tried.
    patience: Option<Patience>,
}

/// What came of it.
type Told = (usize, Result<Reshared, Error>);

/// What the lanes of one run share.
struct Run {
    pace: Mutex<Option<Pace>>,
    seen: std::sync::Mutex<Seen>,
}

/// What was seen of nodes.
#[derive(Default)]
struct Seen {
    /// Who failed for one key will mostly fail for the next, and others deal where they can.
    remembered: Remembered,
    /// Who did not show a key in time.
    slow: BTreeSet<NodeId>,
}

impl Run {
    /// Waits until so many more may begin.
    async fn paced(&self, keys: usize) {
        let begin = |pace: &mut Pace| pace.begin(Instant::now(), keys);
        let at = self.pace.lock().await.as_mut().map(begin);
        if let Some(at) = at {
            sleep_until(at).await;
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // What a panicking thread left is still of use: nothing here must be right.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let job = |(at, (key, version))| Job { at, key, version, patience: None };
        let jobs: Vec<Job> = keys.into_iter().enumerate().map(job).collect();
        let waiting = Arc::new(Mutex::new(jobs.into_iter()));
        let pace = Mutex::new(Pace::of(options.rate));
        let run = Arc::new(Run { pace, seen: std::sync::Mutex::default() });
        let most = options.in_flight.unwrap_or(IN_FLIGHT).clamp(1, MAX_SESSIONS_PER_PRINCIPAL);
        let lanes = LANES.min(most);
        // At a low rate they come one after another, and not in bursts.
        let burst = options.rate.map_or(usize::MAX, |rate| rate.ceil().max(1.0) as usize);
        let size = (most / lanes).min(burst).max(1);
        let (sender, mut done) = mpsc::channel(4 * MAX_SESSIONS_PER_PRINCIPAL);
        let mut running = JoinSet::new();
        for _ in 0..lanes {
            let (client, waiting) = (self.clone(), Arc::clone(&waiting));
            let (run, sender) = (Arc::clone(&run), sender.clone());
            running.spawn(async move {
                loop {
                    let jobs: Vec<Job> = waiting.lock().await.by_ref().take(size).collect();
                    // Where nobody listens any more nothing is begun either.
                    if jobs.is_empty() || !client.reshare_some(jobs, &run, &sender).await {
                        return;
                    }
                }
            });
        }
        drop(sender);
        while let Some((at, result)) = done.recv().await {
            told(at, result);
        }
    }

    /// Reshares as many as one request carries. Whether anybody still listens.
    async fn reshare_some(&self, jobs: Vec<Job>, run: &Run, told: &mpsc::Sender<Told>) -> bool {
        let mut rest = jobs;
        let mut thoroughly = false;
        loop {
            run.paced(rest.len()).await;
            let mut done: Vec<Told> = Vec::with_capacity(rest.len());
            let keys = self.look_up(&rest, thoroughly, run).await;
            let (mut running, mut machines) = (Vec::new(), Vec::new());
            for (mut job, key) in core::mem::take(&mut rest).into_iter().zip(keys) {
                let others = || Patience::with(run.seen().remembered.of_others());
                let patience = job.patience.take().unwrap_or_else(others);
                let mut patience = patience;
                let machine = |(key, shown): (Key, Vec<NodeId>)| {
                    patience.remembered.have_shown(shown);
                    let remembered = &patience.remembered;
                    Ok::<_, Error>((self.reshare_machine(&key, job.version, remembered)?, key))
                };
                match key.and_then(machine) {
                    Ok((machine, key)) => {
                        machines.push(machine);
                        running.push((job, key, patience));
                    }
                    Err(error) => done.push((job.at, Err(error))),
                }
            }
            let (outcomes, reasons) = self.relay(machines).await;
            let mut outcomes = outcomes.into_iter();
            let mut wait = Duration::ZERO;
            for (job, key, mut patience) in running {
                let Some(outcome) = outcomes.next().flatten() else {
                    done.push((job.at, Err(interrupted(job.key))));
                    continue;
                };
                patience.remembered.note(&outcome);
                run.seen().remembered.merge(&patience.remembered.of_others());
                match self.after_reshare(&key, job.version, outcome, &reasons) {
                    Ok(mut reshared) => {
                        self.account_for_the_rest(&mut reshared).await;
                        done.push((job.at, Ok(reshared)));
                    }
                    Err(stopped) => match patience.after(&stopped) {
                        Some(longer) => {
                            wait = wait.max(longer);
                            rest.push(Job { patience: Some(patience), ..job });
                        }
                        None => done.push((job.at, Err(stopped.into_error()))),
                    },
                }
            }
            for each in done {
                if told.send(each).await.is_err() {
                    return false;
                }
            }
            if rest.is_empty() {
                return true;
            }
            thoroughly = true;
            sleep(wait).await;
        }
    }

    /// The keys of these jobs: as one node shows them, which takes part itself and knows the order in force; or as
    /// most do, and nodes that lack something are brought it.
    ///
    /// With each, who has shown it.
    async fn look_up(
        &self,
        jobs: &[Job],
        thoroughly: bool,
        run: &Run,
    ) -> Vec<Result<(Key, Vec<NodeId>), Error>> {
        let mut found: Vec<Option<Result<_, Error>>> = jobs.iter().map(|_| None).collect();
        let to_ask = |job: &Job| job.patience.as_ref().map(|patience| patience.remembered.to_ask());
        let mut waiting = jobs.iter().map(|job| (job.key, job.version, to_ask(job))).enumerate();
        let mut looking = JoinSet::new();
        loop {
            while looking.len() < LOOKUPS
                && let Some((at, (id, version, also))) = waiting.next()
            {
                let client = self.clone();
                let one = if thoroughly { None } else { self.quickest(run) };
                looking.spawn(async move {
                    // One that has just come knows the key, and may have no certificate of it yet.
                    let made = |key: &Key| {
                        let version = key.verified_version(version);
                        version.is_ok_and(|version| version.certificate.is_some())
                    };
                    let mut slow = None;
                    if let Some(node) = one {
                        match timeout(LOOKUP, client.key_of_one(id, node)).await {
                            Ok(Some(key)) if made(&key) => {
                                return (at, Ok((key, vec![node])), None);
                            }
                            Ok(_) => {}
                            Err(_) => slow = Some(node),
                        }
                    }
                    let known = client.cached_key(id).is_some();
                    let key = client.gather_key_of(id, &also.unwrap_or_default()).await;
                    // Hundreds of thousands of keys are not kept in memory.
                    if !known {
                        client.forget_key(id);
                    }
                    (at, key, slow)
                });
            }
            match looking.join_next().await {
                None => break,
                Some(Ok((at, key, slow))) => {
                    run.seen().slow.extend(slow);
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

    /// The fastest node of those that have not kept this run waiting; none where all have.
    fn quickest(&self, run: &Run) -> Option<NodeId> {
        let seen = run.seen();
        let roster = self.roster().nodes.iter().map(|entry| entry.id);
        let preferred = self.preferred().into_iter().chain(roster);
        let known = |node: &NodeId| self.roster().node(node).is_some();
        preferred.filter(known).find(|node| !seen.slow.contains(node))
    }

    /// A key as one node shows it, verified.
    async fn key_of_one(&self, id: KeyId, node: NodeId) -> Option<Key> {
        let request = |node: NodeId| v1::GetKeyRequest {
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
