//! Whatever happens, in whatever order: no gap that the policy does not allow, and nothing left in the end.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::task::JoinHandle;

use super::harness::{
    DRAIN_TIMEOUT, Harness, Setup, after, evictable, id, lazy, millis, model, options, seconds,
    settle, wish, with_alias, with_probation,
};
use super::loader::{BYTES, Script};
use crate::lifecycle::manager::Totals;
use crate::lifecycle::{LoadError, ModelOptions, SwapOrder};
use crate::model::{ModelName, Version};
use crate::registry::{DesiredModel, SourceError};
use crate::serving::{Admin as _, AdminError, Demand as _, ServableHandle, VersionState};

/// Models with each kind of options.
const MODELS: [&str; 5] = ["plain", "probed", "broken-first", "evictable", "lazy"];

fn options_of(name: &ModelName) -> ModelOptions {
    match name.as_str() {
        "plain" => options(),
        "probed" => with_probation(),
        "broken-first" => ModelOptions {
            swap: SwapOrder::BreakBeforeMake,
            ..options()
        },
        "evictable" => evictable(),
        _ => lazy(),
    }
}

/// Whether a model that serves and is wanted may stop to for a while.
fn may_have_a_gap(name: &str) -> bool {
    !matches!(name, "plain" | "probed")
}

/// One thing that happens. Each number is a model, a version, or a time.
#[derive(Debug, Clone)]
enum Happens {
    Want(usize, u64),
    WantTwo(usize, u64, u64),
    Remove(usize),
    /// How the next load of a version goes.
    Script(usize, u64, Load),
    /// A request begins.
    Request(usize),
    /// The oldest request ends.
    EndRequest,
    /// Requests of the version that serves fail.
    Fail(usize),
    Wake(usize),
    Swap(usize, u64),
    Hold(usize),
    Unload(usize),
    Resume(usize),
    Load(usize),
    /// Milliseconds pass.
    Time(u64),
    /// The registry is away, or back.
    Complete(bool),
}

#[derive(Debug, Clone, Copy)]
enum Load {
    Slow,
    Fails,
    IsRetried,
    Hangs,
    Panics,
    InDoubt,
    /// It takes so many times the memory of others.
    Large,
}

fn happens() -> impl Strategy<Value = Happens> {
    let model = 0..MODELS.len();
    let version = 1_u64..4;
    let load = prop_oneof![
        Just(Load::Slow),
        Just(Load::Fails),
        Just(Load::IsRetried),
        Just(Load::Hangs),
        Just(Load::Panics),
        Just(Load::InDoubt),
        Just(Load::Large),
    ];
    prop_oneof![
        6 => (model.clone(), version.clone()).prop_map(|(m, v)| Happens::Want(m, v)),
        2 => (model.clone(), version.clone(), version.clone())
            .prop_map(|(m, v, w)| Happens::WantTwo(m, v, w)),
        1 => model.clone().prop_map(Happens::Remove),
        3 => (model.clone(), version.clone(), load).prop_map(|(m, v, l)| Happens::Script(m, v, l)),
        3 => model.clone().prop_map(Happens::Request),
        2 => Just(Happens::EndRequest),
        1 => model.clone().prop_map(Happens::Fail),
        1 => model.clone().prop_map(Happens::Wake),
        2 => (model.clone(), version).prop_map(|(m, v)| Happens::Swap(m, v)),
        1 => model.clone().prop_map(Happens::Hold),
        1 => model.clone().prop_map(Happens::Unload),
        1 => model.clone().prop_map(Happens::Resume),
        1 => model.prop_map(Happens::Load),
        8 => (0_u64..400).prop_map(Happens::Time),
        2 => (400_u64..70_000).prop_map(Happens::Time),
        1 => any::<bool>().prop_map(Happens::Complete),
    ]
}

fn wanted(name: &str, versions: &[u64]) -> DesiredModel {
    with_alias(
        wish(name, versions),
        "champion",
        versions[versions.len() - 1],
    )
}

fn script(load: Load) -> Script {
    match load {
        Load::Slow => Script::serves().taking(seconds(20)),
        Load::Fails => Script::fails(|| LoadError::Example("no".to_owned())),
        Load::IsRetried => Script::fails(|| {
            LoadError::Fetch(SourceError::Malformed {
                registry: "https://registry".to_owned(),
                reason: "cut off".to_owned(),
            })
        }),
        Load::Hangs => Script::hangs(),
        Load::Panics => Script::panics(),
        Load::InDoubt => Script::serves().in_doubt(),
        Load::Large => Script::serves().bytes(3 * BYTES),
    }
}

/// What the test itself holds while things happen.
struct World {
    scene: Harness,
    requests: Vec<ServableHandle>,
    /// People who wait for a manual decision.
    people: Vec<JoinHandle<Result<(), AdminError>>>,
    /// Models that served after the last step.
    served: BTreeMap<&'static str, u64>,
}

impl World {
    fn new() -> Self {
        let mut setup = Setup::each(options_of).budget(12 * BYTES);
        for name in MODELS {
            for version in 1..4 {
                setup = setup.found(name, version);
            }
        }
        Self {
            scene: setup.start(),
            requests: Vec::new(),
            people: Vec::new(),
            served: BTreeMap::new(),
        }
    }

    fn ask<F>(&mut self, decide: impl FnOnce(crate::lifecycle::ManagerHandle) -> F)
    where
        F: Future<Output = Result<(), AdminError>> + Send + 'static,
    {
        let decision = decide(self.scene.handle.clone());
        self.people.push(tokio::spawn(decision));
    }

    async fn happens(&mut self, what: &Happens) {
        let name = |index: usize| MODELS[index];
        match *what {
            Happens::Want(m, v) => self.scene.want(name(m), wanted(name(m), &[v])).await,
            Happens::WantTwo(m, v, w) => {
                self.scene.want(name(m), wanted(name(m), &[v, w])).await;
            }
            Happens::Remove(m) => {
                self.scene.remove(name(m)).await;
                self.served.remove(name(m));
            }
            Happens::Script(m, v, load) => self.scene.loader.script(name(m), v, script(load)),
            Happens::Request(m) => {
                if self.scene.serving(name(m)).is_some() {
                    let request = self.scene.request(name(m));
                    request.health().touch(tokio::time::Instant::now());
                    self.requests.push(request);
                }
            }
            Happens::EndRequest => {
                if !self.requests.is_empty() {
                    drop(self.requests.remove(0));
                }
            }
            Happens::Fail(m) => {
                if self.scene.serving(name(m)).is_some()
                    && let Some(observation) = self.scene.request(name(m)).observation()
                {
                    observation.count(0, 30);
                }
            }
            Happens::Wake(m) => self.scene.handle.wake(&model(name(m))).await,
            Happens::Swap(m, v) => {
                let model = model(name(m));
                self.ask(|handle| async move { handle.swap(&model, Version(v)).await });
            }
            Happens::Hold(m) => {
                let model = model(name(m));
                self.ask(|handle| async move { handle.hold(&model).await });
            }
            Happens::Unload(m) => {
                let model = model(name(m));
                self.served.remove(name(m));
                self.ask(|handle| async move { handle.unload(&model).await });
            }
            Happens::Resume(m) => {
                let model = model(name(m));
                self.ask(|handle| async move { handle.resume(&model).await });
            }
            Happens::Load(m) => {
                let model = model(name(m));
                self.ask(|handle| async move { handle.load(&model).await });
            }
            Happens::Time(time) => after(millis(time)).await,
            Happens::Complete(complete) => {
                let desired = &self.scene.desired;
                desired.send_modify(|desired| desired.complete = complete);
            }
        }
        settle().await;
    }

    /// What holds after each step.
    fn check(&mut self) {
        let scene = &self.scene;
        assert!(!scene.task.is_finished(), "the manager goes on");
        let snapshot = scene.catalog.snapshot();
        for name in MODELS {
            let entry = snapshot.models.get(&model(name));
            let serving = scene.serving(name);
            if let Some(entry) = entry {
                for (version, shown) in &entry.versions {
                    let is_ready = shown.state == VersionState::Ready;
                    assert_eq!(is_ready, shown.servable.is_some(), "{name} {version}");
                    if let Some(servable) = &shown.servable {
                        assert_eq!(*servable.id(), id(name, version.0));
                    }
                }
                // One default, and it is the one that answers requests without a version.
                if let Some(version) = serving {
                    assert_eq!(scene.request(name).id().version.0, version);
                }
            }
            let is_wanted = scene.desired.borrow().models.contains_key(&model(name));
            if is_wanted && self.served.contains_key(name) && !may_have_a_gap(name) {
                assert!(
                    serving.is_some(),
                    "`{name}` served, and nobody took it away"
                );
            }
            match serving {
                Some(version) => drop(self.served.insert(name, version)),
                None => drop(self.served.remove(name)),
            }
        }
        let memory = scene.work.totals().memory;
        assert!(memory <= 12 * BYTES, "{memory} bytes are taken");
    }

    /// Everything is removed, and everyone goes.
    async fn end(mut self) {
        self.scene
            .desired
            .send_modify(|desired| desired.models.clear());
        settle().await;
        for name in MODELS {
            // A hold outlives what the registry wants; it ends by a person.
            let _ = self.scene.handle.resume(&model(name)).await;
        }
        self.requests.clear();
        after(DRAIN_TIMEOUT + seconds(1)).await;
        assert_eq!(self.scene.work.totals(), Totals::default());
        for person in self.people {
            let answer = tokio::time::timeout(seconds(1), person).await;
            answer.expect("nobody waits for ever").unwrap().ok();
        }
        assert!(self.scene.catalog.snapshot().models.is_empty());
        self.scene.loader.wait_until_loaded(0);
        for name in MODELS {
            let left = self.scene.series_of(name);
            assert!(
                left.is_empty(),
                "{} series, such as {}",
                left.len(),
                left[0]
            );
        }
        self.scene.stop.cancel();
        self.scene.task.await.expect("the manager does not panic");
    }
}

fn run(steps: &[Happens], ends_early: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new();
        for step in steps {
            world.happens(step).await;
            world.check();
        }
        if ends_early {
            // In the middle of everything: whoever waits hears of it.
            world.scene.stop.cancel();
            world.scene.task.await.expect("the manager does not panic");
            for person in world.people {
                person.await.unwrap().ok();
            }
        } else {
            world.end().await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_there_is_no_gap_and_nothing_is_left(
        steps in vec(happens(), 1..60),
        ends_early in prop::bool::weighted(0.2),
    ) {
        run(&steps, ends_early);
    }
}
