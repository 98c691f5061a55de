//! What is done to a cluster while it is used, and what came of it.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, KEYS};
use crate::load::{self, Done, Load, Object, Sample, content};
use crate::report::{seconds, table};
use crate::{Failure, Plan};

/// Bytes of the files that are sealed by the program before anything else.
const FILES: [usize; 5] = [0, 1, 1000, 20_000, 300_000];

/// What came of one cluster.
pub struct Came {
    pub figures: Value,
    /// Operations that failed, objects that do not open, files that were touched.
    pub wrong: Vec<String>,
}

/// What is done, and when.
struct Phase {
    name: &'static str,
    windows: Vec<(Instant, Instant)>,
}

/// What has been done so far.
#[derive(Default)]
struct Course {
    phases: Vec<Phase>,
}

/// While nothing is changed.
const HEALTHY: &str = "healthy";
/// While a node is away, nothing is dealt.
const LOST: &str = "a disk is lost";
const REFRESH: &str = "refresh";

impl Course {
    fn note(&mut self, name: &'static str, window: (Instant, Instant)) {
        match self.phases.iter_mut().find(|phase| phase.name == name) {
            Some(phase) => phase.windows.push(window),
            None => self.phases.push(Phase { name, windows: vec![window] }),
        }
    }

    fn during<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let done = work().map_err(|e| format!("{name}: {e}"))?;
        self.note(name, (began, Instant::now()));
        println!("  {name}: {}", seconds(began.elapsed().as_secs_f64()));
        Ok(done)
    }

    fn refresh(&mut self, cluster: &mut Cluster, times: usize) -> Result<(), Failure> {
        let began = Instant::now();
        for _ in 0..times {
            let window = cluster.refresh()?;
            self.note(REFRESH, window);
        }
        if times > 0 {
            let took = seconds(began.elapsed().as_secs_f64());
            println!("  {times} refreshes: {took}");
        }
        Ok(())
    }
}

/// Files that the program seals under each key, with what they hold.
fn sealed_files(cluster: &Cluster) -> Result<Vec<Object>, Failure> {
    let mut all = Vec::new();
    for key in KEYS {
        for (at, length) in FILES.into_iter().enumerate() {
            let file = cluster.at(format!("{key}-{length}"));
            let plain = content(u64::MAX, at as u64, length);
            fs::write(&file, &plain)?;
            cluster.admin(["encrypt", &file.display().to_string(), "--key", key])?;
            fs::remove_file(&file)?;
            let sealed = cluster.at(format!("{key}-{length}.quorate"));
            let bytes = fs::read(&sealed)?;
            all.push(Object { file: sealed, sealed: bytes.into(), plain: plain.into() });
        }
    }
    Ok(all)
}

/// Opens the files with the program, into others, and sees that they were not touched. Returns how many opened.
fn open_files(
    cluster: &Cluster,
    files: &[Object],
    wrong: &mut Vec<String>,
) -> Result<usize, Failure> {
    let mut opened = 0;
    for object in files {
        let name = object.file.display().to_string();
        let out = cluster.at("opened");
        let output = out.display().to_string();
        let ran = cluster.run("admin", ["decrypt", &name, "--output", &output, "--force"])?;
        if !ran.ok {
            wrong.push(format!("{name} does not open: {}", ran.stderr));
        } else if fs::read(&out)? != *object.plain {
            wrong.push(format!("{name} opens to something else"));
        } else {
            opened += 1;
        }
        if fs::read(&object.file)? != *object.sealed {
            wrong.push(format!("{name} was touched"));
        }
    }
    Ok(opened)
}

pub fn run(plan: &Plan, t: usize, n: usize) -> Result<Came, Failure> {
    let mut cluster = Cluster::start(plan, t, n)?;
    let files = sealed_files(&cluster)?;
    let mut course = Course::default();
    let small: Vec<Object> = files.iter().filter(|it| it.plain.len() <= 20_000).cloned().collect();
    let load = Load::start(&cluster, plan.clients, &small)?;
    let began = Instant::now();
    let changed = changes(plan, &mut cluster, &mut course, (t, n));
    let lasted = began.elapsed().as_secs_f64();
    let done = load.end();
    // What stopped it is said beside what clients saw of it.
    let mut wrong: Vec<String> = done
        .failed
        .iter()
        .map(|failed| format!("{}: {}", course.at(failed.at, began), failed.why))
        .collect();
    if let Err(error) = &changed {
        wrong.push(format!("the cluster could not be changed: {error}"));
    }
    let expected = (t as u64, n as u64);
    for key in KEYS {
        match cluster.committee(key) {
            Ok(found) if found == expected => {}
            Ok((t, n)) => wrong.push(format!("{key} is a key of {t}/{n}")),
            Err(error) => wrong.push(format!("{key}: {error}")),
        }
    }
    let opened = open_files(&cluster, &files, &mut wrong).and_then(|opened| {
        let profile = cluster.application(plan.clients)?;
        Ok(opened + load::check(&profile, &done.kept, &mut wrong)?)
    });
    let opened = opened.unwrap_or_else(|error| {
        wrong.push(format!("the objects could not be opened: {error}"));
        0
    });
    let objects = files.len() + done.kept.len();
    println!(
        "  {} operations in {}, {} failed; {opened} of {objects} objects open",
        done.samples.len() + done.failed.len(),
        seconds(lasted),
        done.failed.len(),
    );
    let figures = course.figures(&done, lasted, (t, n), (opened, objects));
    Ok(Came { figures, wrong })
}

/// Everything that is done to a cluster, in order.
fn changes(
    plan: &Plan,
    cluster: &mut Cluster,
    course: &mut Course,
    (t, n): (usize, usize),
) -> Result<(), Failure> {
    let healthy = |course: &mut Course| {
        course.during(HEALTHY, || {
            std::thread::sleep(plan.healthy);
            Ok(())
        })
    };
    // Connections are opened, and keys looked up.
    std::thread::sleep(plan.healthy.min(Duration::from_secs(2)));
    healthy(course)?;
    // It is older than the shares by half of all refreshes when it is needed.
    cluster.back_up(0)?;
    let half = plan.refreshes / 2;
    course.refresh(cluster, half)?;

    course.during(LOST, || {
        cluster.lose_disk(0)?;
        // What is missing is noticed, and served without.
        std::thread::sleep(plan.healthy.min(Duration::from_secs(5)));
        Ok(())
    })?;
    course.during("restore and repair", || cluster.restore_and_repair(0))?;
    course.during("add a node", || cluster.add(1, None))?;
    course.during("remove a node", || cluster.remove(n, None))?;
    course.during("replace a node", || cluster.replace(0))?;
    course.during(LOST, || {
        cluster.lose_disk(1)?;
        std::thread::sleep(plan.healthy.min(Duration::from_secs(5)));
        Ok(())
    })?;
    course.during("replace a lost node", || cluster.replace(1))?;
    if (t, n) == (2, 3) {
        course.during("2/3 -> 3/5", || cluster.add(2, Some(3)))?;
        course.during("3/5 -> 2/3", || cluster.remove(3, Some(2)))?;
    }
    course.refresh(cluster, plan.refreshes - half)?;
    healthy(course)
}

/// What operations took.
struct Latency {
    count: usize,
    median: f64,
    p99: f64,
    largest: f64,
}

impl Latency {
    fn of(samples: impl Iterator<Item = Sample>) -> Self {
        let mut all: Vec<f64> = samples.map(|sample| sample.took.as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (all.len().saturating_sub(1) as f64 * share).round() as usize;
            all.get(place).copied().unwrap_or(0.0)
        };
        Self { count: all.len(), median: at(0.5), p99: at(0.99), largest: at(1.0) }
    }

    fn row(&self, name: &str, times: usize) -> Vec<String> {
        let mut row = vec![name.to_owned(), times.to_string(), self.count.to_string()];
        row.extend([self.median, self.p99, self.largest].map(seconds));
        row
    }

    fn json(&self) -> Value {
        let millis = |seconds: f64| (seconds * 1e5).round() / 100.0;
        json!({
            "operations": self.count,
            "median_ms": millis(self.median),
            "p99_ms": millis(self.p99),
            "largest_ms": millis(self.largest),
        })
    }
}

impl Course {
    /// What was being done at this time.
    fn at(&self, when: Instant, began: Instant) -> String {
        let within = |phase: &&Phase| phase.windows.iter().any(|(a, b)| (*a..*b).contains(&when));
        let name = self.phases.iter().find(within).map_or("between two changes", |it| it.name);
        format!("{:.1} s, {name}", when.saturating_duration_since(began).as_secs_f64())
    }

    fn during_any<'a>(
        &'a self,
        done: &'a Done,
        is: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = Sample> + 'a {
        let windows: Vec<(Instant, Instant)> =
            self.phases.iter().filter(|it| is(it.name)).flat_map(|it| it.windows.clone()).collect();
        done.samples
            .iter()
            .filter(move |sample| windows.iter().any(|(a, b)| sample.overlaps(*a, *b)))
            .copied()
    }

    fn figures(
        &self,
        done: &Done,
        lasted: f64,
        (t, n): (usize, usize),
        (opened, objects): (usize, usize),
    ) -> Value {
        let (mut rows, mut phases) = (Vec::new(), Vec::new());
        for phase in &self.phases {
            let latency = Latency::of(self.during_any(done, |name| name == phase.name));
            let took: f64 = phase.windows.iter().map(|(a, b)| (*b - *a).as_secs_f64()).sum();
            let mean = took / phase.windows.len() as f64;
            let mut row = latency.row(phase.name, phase.windows.len());
            row.insert(2, seconds(mean));
            rows.push(row);
            phases.push(json!({
                "phase": phase.name,
                "times": phase.windows.len(),
                "mean_seconds": (mean * 1000.0).round() / 1000.0,
                "latency": latency.json(),
            }));
        }
        let healthy = Latency::of(self.during_any(done, |name| name == HEALTHY));
        // Where shares are dealt: what a lost node alone costs is another matter.
        let switching = |name: &str| name != HEALTHY && name != LOST;
        let switches = Latency::of(self.during_any(done, switching));
        let mut all = switches.row("all changes", 0);
        all[1] = String::new();
        all.insert(2, String::new());
        rows.push(all);
        table(&["while", "times", "each takes", "operations", "median", "p99", "largest"], &rows);
        println!(
            "  largest during a change {}, healthy {}; p99 {} and {}",
            seconds(switches.largest),
            seconds(healthy.largest),
            seconds(switches.p99),
            seconds(healthy.p99)
        );
        let refreshes =
            self.phases.iter().find(|it| it.name == REFRESH).map_or(0, |it| it.windows.len());
        json!({
            "threshold": t,
            "nodes": n,
            "seconds": lasted.round(),
            "operations": done.samples.len() + done.failed.len(),
            "failed": done.failed.len(),
            "refreshes": refreshes,
            "objects": objects,
            "objects_opened": opened,
            "healthy": healthy.json(),
            "changes": switches.json(),
            "phases": phases,
        })
    }
}
