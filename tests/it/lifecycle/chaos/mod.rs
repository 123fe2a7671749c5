//! Random faults under load, and what must hold all the same, seen from outside: no wrong answer, no request that was
//! accepted and lost, nothing that grows for ever.
//!
//! Each run has a seed, which is printed; `ONSTAGE_CHAOS_SEED` runs the same faults in the same order again, and
//! `ONSTAGE_CHAOS_SECONDS` says for how long (`make chaos`: ten minutes).

mod clients;
mod faults;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use self::clients::{Clients, Tally};
use self::faults::{Fault, Scene};
use crate::lifecycle::swap::scene::{counter, metrics};
use crate::support::server::Server;

/// How long a run takes when nobody says.
const SECONDS: u64 = 12;

/// How long the server has to be as it was, once all is well again.
const RECOVERY: Duration = Duration::from_secs(120);

/// Memory that may have been added by what allocators and engines keep for the next time: the same after a minute and
/// after ten.
const KEPT: u64 = 400 << 20;

/// Numbers that look random and follow from the seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct CachedPackage {
    threads: usize,
    files: usize,
    memory: u64,
}

impl CachedPackage {
    fn by(server: &Server) -> Self {
        let process = PathBuf::from(format!("/proc/{}", server.process_id()));
        let count = |name: &str| fs::read_dir(process.join(name)).unwrap().count();
        let status = fs::read_to_string(process.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        Self {
            threads: count("task"),
            files: count("fd"),
            memory: kibibytes.unwrap() << 10,
        }
    }

    fn is_about(self, before: Self) -> bool {
        // A thread of the blocking pool, or a connection of ours, may be there a while longer.
        self.threads <= before.threads + 8
            && self.files <= before.files + 8
            && self.memory <= before.memory + KEPT
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("`{variable}` is `{text}`, expected a number")),
    )
}

#[expect(
    clippy::print_stderr,
    reason = "a seed that nobody sees cannot be replayed"
)]
fn seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed =
        number("ONSTAGE_CHAOS_SEED").unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs() << 20);
    eprintln!("ONSTAGE_CHAOS_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_no_answer_is_wrong_none_is_lost_and_nothing_grows() {
    let seed = seed();
    let duration = Duration::from_secs(number("ONSTAGE_CHAOS_SECONDS").unwrap_or(SECONDS));
    let mut dice = Dice(seed);
    let mut scene = Scene::set().await;
    scene.warm_up(&mut dice).await;
    let before = CachedPackage::by(&scene.server);
    let clients = Clients::start(&scene.server, seed);
    let (end, mut history) = (Instant::now() + duration, Vec::new());
    while Instant::now() < end {
        let fault = Fault::roll(&mut dice);
        history.push(fault);
        scene.commit(fault, &mut dice).await;
        sleep(Duration::from_millis(20 + dice.below(150))).await;
        scene.relent().await;
    }
    let Tally {
        answered,
        refused,
        failed,
        wrong,
    } = clients.end().await;
    let recovered = scene.recovers(RECOVERY).await;
    let story = || format!("seed {seed}, faults {history:?}, log:\n{}", scene.log());
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", story());
    // Only where everything was unloaded by hand is there no version to stand in.
    let was_unloaded = history.contains(&Fault::Unload);
    assert!(failed == 0 || was_unloaded, "{failed} failed\n{}", story());
    assert!(
        answered > 100,
        "{answered} answered, {refused} refused\n{}",
        story()
    );
    assert!(recovered, "the champion never serves again\n{}", story());
    assert_counts_agree(&scene.server, answered, duration, &story).await;
    let mut after = CachedPackage::by(&scene.server);
    let deadline = Instant::now() + RECOVERY;
    while !after.is_about(before) && Instant::now() < deadline {
        sleep(Duration::from_millis(200)).await;
        after = CachedPackage::by(&scene.server);
    }
    assert!(
        after.is_about(before),
        "{before:?} became {after:?}\n{}",
        story()
    );
}

/// What the server counts is what its clients saw.
async fn assert_counts_agree(
    server: &Server,
    answered: u64,
    duration: Duration,
    story: &impl Fn() -> String,
) {
    for series in [
        r#"onstage_requests_in_flight{model="m"}"#,
        r#"onstage_queue_depth{model="m"}"#,
    ] {
        assert_eq!(counter(server, series).await, 0, "{series}\n{}", story());
    }
    let text = metrics(server).await;
    let successes = text.lines().filter(|line| {
        line.starts_with("onstage_requests_total") && line.contains(r#"outcome="success""#)
    });
    let counted: u64 = successes
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    // The series of a version leave some time after it did.
    if duration < Duration::from_secs(300) {
        assert!(counted >= answered, "{counted} of {answered}\n{}", story());
    }
    // Some candidates make tract panic, which is caught.
    let log = server.stderr();
    let ours = |line: &&str| line.contains("panicked") && !line.contains("tract");
    let panics: Vec<&str> = log.lines().filter(ours).collect();
    assert!(panics.is_empty(), "{panics:?}\n{}", story());
}
