//! Three replicas, a registry that fails, delays and reorders writes, and people who do what they like, all at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::*;
use crate::model::Version;

const POLL: u64 = 1_000;
const INTERVAL: u64 = 3_000;
/// What a write, a read and the look after it take at most.
const SLACK: u64 = 300;
const TICK: u64 = 25;
const START: u64 = 1_796_119_200_000;
/// What a person may write into a tag.
const NONSENSE: &str = "nonsense";
const LEASE_LENGTH: Duration = Duration::from_millis(4 * POLL);

/// SplitMix64: a test that failed is repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

#[derive(Debug, Clone)]
enum Change {
    Tag(Version, &'static str, Option<String>),
    /// A replica moves the alias that serves; what it read the alias to be, and when.
    Promote(Version, Version, u64),
}

/// A registry of one model, without compare-and-set.
struct Registry {
    stable: Option<Version>,
    challenger: Option<Version>,
    tags: BTreeMap<(Version, &'static str), String>,
    pending: Vec<(u64, Change)>,
    /// When writes that failed arrive all the same.
    late: Vec<u64>,
    down_until: u64,
    /// One operation in so many fails.
    failures: u64,
    /// A write that failed may arrive so much later.
    lateness: u64,
    /// When something failed last.
    failed_at: u64,
    /// When it said something last that it had never said before: then replicas need a poll to agree again.
    changed_at: u64,
    /// When a tag was lost or overwritten: then they need another poll to restore it first.
    lost_at: u64,
    said: BTreeSet<(Version, &'static str, String)>,
    /// When a person moved the alias that serves.
    moved_at: u64,
    promotions: u32,
}

impl Registry {
    fn fails(&mut self, now: u64, random: &mut Random) -> bool {
        let fails = now < self.down_until || random.one_in(self.failures);
        if fails {
            self.failed_at = now;
        }
        fails
    }

    /// Whether it was acknowledged. What was not may arrive all the same, and late.
    fn write(&mut self, now: u64, change: Change, random: &mut Random) -> bool {
        if self.fails(now, random) {
            if random.one_in(3) {
                let late = now + random.below(self.lateness);
                self.pending.push((late, change));
                self.late.push(late);
            }
            return false;
        }
        self.pending.push((now + random.below(150), change));
        true
    }

    fn read(&mut self, now: u64, random: &mut Random) -> Option<Reading> {
        if self.fails(now, random) {
            return None;
        }
        let tags = self
            .challenger
            .map(|version| Tags::read(version, |name| self.tag(version, name)));
        Some(Reading {
            stable: self.stable,
            challenger: self.challenger,
            tags: tags.unwrap_or_default(),
        })
    }

    fn tag(&self, version: Version, name: &str) -> Option<&str> {
        let mut tags = self.tags.iter();
        let found = tags.find(|((of, tag), _)| *of == version && *tag == name);
        found.map(|(_, text)| text.as_str())
    }

    fn arrive(&mut self, now: u64) {
        let due = |(at, _): &(u64, Change)| *at <= now;
        let (arrived, pending) = std::mem::take(&mut self.pending).into_iter().partition(due);
        self.pending = pending;
        let mut arrived: Vec<(u64, Change)> = arrived;
        arrived.sort_by_key(|(at, _)| *at);
        if self.late.iter().any(|at| *at <= now) {
            self.late.retain(|at| *at > now);
            self.lost_at = now;
        }
        for (_, change) in arrived {
            match change {
                Change::Tag(version, name, Some(text)) => {
                    if self.said.insert((version, name, text.clone())) && name != LEASE {
                        self.changed_at = now;
                    }
                    if text == NONSENSE {
                        self.lost_at = now;
                    }
                    self.tags.insert((version, name), text);
                }
                Change::Tag(version, name, None) => {
                    self.lost_at = now;
                    self.tags.remove(&(version, name));
                }
                Change::Promote(from, to, read_at) => {
                    // The race with a person remains; one with another replica does not.
                    let of_person = self.moved_at >= read_at;
                    let expected = [Some(from), Some(to)].contains(&self.stable);
                    assert!(
                        expected || of_person,
                        "{from} to {to}, but the alias is {:?}",
                        self.stable
                    );
                    self.promotions += u32::from(self.stable != Some(to));
                    self.changed_at = now;
                    self.stable = Some(to);
                }
            }
        }
    }
}

struct Node {
    rollout: Rollout,
    name: String,
    /// What it serves where a request names no version.
    serving: Option<Version>,
    next_poll: u64,
    away_until: u64,
    /// Since when it has been serving by a look of its own.
    ready_since: Option<u64>,
    /// Its clock is so much ahead.
    ahead: u64,
    /// Whether its requests to the challenger fail.
    bad: bool,
    /// An end that was not acknowledged yet.
    unwritten: Option<(Version, Ended)>,
    /// The greatest weight that it served in a rollout.
    greatest: Option<(RolloutId, u8)>,
}

struct World {
    random: Random,
    registry: Registry,
    nodes: Vec<Node>,
    now: u64,
    quarrel_since: Option<u64>,
    longest: u64,
    /// Every end that a replica knew, and of which rollout.
    ended: Vec<RolloutId>,
}

fn plan() -> Plan {
    Plan::new(PlanParts {
        interval: Duration::from_millis(INTERVAL),
        deadline: Duration::from_secs(40),
        promote: Promotion::Auto,
        ..PlanParts::default()
    })
    .unwrap()
}

fn counts(bad: bool) -> Counts {
    let version = |answers, failed| VersionCounts {
        answers,
        failed,
        ..VersionCounts::default()
    };
    Counts {
        stable: version(10_000, 0),
        challenger: version(600, if bad { 300 } else { 0 }),
        ..Counts::default()
    }
}

impl World {
    fn new(seed: u64, lateness: u64) -> Self {
        let mut random = Random(seed);
        let registry = Registry {
            stable: Some(Version(1)),
            challenger: Some(Version(2)),
            tags: BTreeMap::new(),
            pending: Vec::new(),
            late: Vec::new(),
            down_until: 0,
            failures: 5 + random.below(100),
            lateness,
            failed_at: 0,
            changed_at: 0,
            lost_at: 0,
            said: BTreeSet::new(),
            moved_at: 0,
            promotions: 0,
        };
        let node = |number: u64| {
            let name = format!("replica-{number}:8080");
            Node {
                rollout: rollout(&name, Known::default()),
                name,
                serving: Some(Version(1)),
                next_poll: START + number * 333,
                away_until: 0,
                ready_since: None,
                ahead: number * 60,
                bad: false,
                unwritten: None,
                greatest: None,
            }
        };
        Self {
            nodes: (0..3).map(node).collect(),
            random,
            registry,
            now: START,
            quarrel_since: None,
            longest: 0,
            ended: Vec::new(),
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.registry.arrive(self.now);
        for node in 0..self.nodes.len() {
            if self.now < self.nodes[node].away_until {
                continue;
            }
            self.write_end(node);
            if self.now >= self.nodes[node].next_poll {
                self.nodes[node].next_poll = self.now + POLL;
                self.poll(node);
            }
        }
        self.check();
    }

    /// Ends are written again until the registry has taken them.
    fn write_end(&mut self, node: usize) {
        if !self.now.is_multiple_of(100) {
            return;
        }
        if let Some((version, ended)) = self.nodes[node].unwritten.clone() {
            let change = Change::Tag(version, ENDED, Some(ended.text()));
            if self.registry.write(self.now, change, &mut self.random) {
                self.nodes[node].unwritten = None;
            }
        }
    }

    fn poll(&mut self, node: usize) {
        let reading = self.registry.read(self.now, &mut self.random);
        let action = self.look(node, reading.as_ref());
        let Some(reading) = reading else { return };
        self.nodes[node].serving = reading.stable.or(self.nodes[node].serving);
        self.nodes[node].ready_since.get_or_insert(self.now);
        self.keep_up(node, &reading);
        match action {
            Action::Begin(state) | Action::Step(state) => {
                let change = Change::Tag(state.challenger, STATE, Some(state.text()));
                self.registry.write(self.now, change, &mut self.random);
            }
            Action::Promote { from, to } => self.promote(node, from, to),
            Action::End(_) | Action::Wait(_) => {}
        }
    }

    fn look(&mut self, node: usize, reading: Option<&Reading>) -> Action {
        let now = Moment::from_millis(self.now + self.nodes[node].ahead);
        let own = counts(self.nodes[node].bad);
        let mut sum = Counts::default();
        self.nodes
            .iter()
            .for_each(|node| sum.add(&counts(node.bad)));
        let peers = if self.random.one_in(10) {
            Peers::Unknown
        } else {
            Peers::Together(&sum)
        };
        let Node {
            rollout, serving, ..
        } = &mut self.nodes[node];
        let known = rollout.known().state().cloned();
        let action = rollout.look(&Observation {
            now,
            registry: reading,
            serving: *serving,
            evidence: known.as_ref().map(|state| Evidence {
                id: &state.id,
                step: state.step,
                own: &own,
                peers,
                scores: None,
            }),
        });
        if let (Action::End(ended), Some(state)) = (&action, known) {
            self.nodes[node].unwritten = Some((state.challenger, ended.clone()));
            self.pass_on(node, ended);
        }
        action
    }

    /// An abort is passed on to peers, which may not be reached.
    fn pass_on(&mut self, from: usize, ended: &Ended) {
        for node in (0..self.nodes.len()).filter(|node| *node != from) {
            if self.random.one_in(2) {
                self.nodes[node].rollout.learn_end(ended);
            }
        }
    }

    /// The lease, and what the registry lost.
    fn keep_up(&mut self, node: usize, reading: &Reading) {
        let Some(challenger) = reading.challenger else {
            return;
        };
        let now = Moment::from_millis(self.now + self.nodes[node].ahead);
        let (name, rollout) = (&self.nodes[node].name, &self.nodes[node].rollout);
        let seen = reading.tags.lease.as_ref();
        let mut changes = Vec::new();
        if let Some(lease) = Lease::claim(seen, name, now, LEASE_LENGTH) {
            changes.push((LEASE, lease.text()));
        }
        let (ended, state) = rollout.missing(reading);
        changes.extend(ended.map(|ended| (ENDED, ended.text())));
        changes.extend(state.map(|state| (STATE, state.text())));
        for (name, text) in changes {
            let change = Change::Tag(challenger, name, Some(text));
            self.registry.write(self.now, change, &mut self.random);
        }
    }

    /// The alias is moved only when another reading says the same.
    fn promote(&mut self, node: usize, from: Version, to: Version) {
        let Some(again) = self.registry.read(self.now, &mut self.random) else {
            return;
        };
        if self.look(node, Some(&again)) == (Action::Promote { from, to }) {
            let change = Change::Promote(from, to, self.now);
            self.registry.write(self.now, change, &mut self.random);
        }
    }

    fn person(&mut self) {
        let now = Moment::from_millis(self.now);
        let version = Version(1 + self.random.below(4));
        match self.random.below(12) {
            0 => {
                (self.registry.stable, self.registry.moved_at) = (Some(version), self.now);
                self.registry.changed_at = self.now;
            }
            1 => self.name_challenger(Some(version)),
            2 => self.name_challenger(None),
            3 => self.nodes[self.random.0 as usize % 3].bad = true,
            4 => self.nodes.iter_mut().for_each(|node| node.bad = false),
            5 => self.registry.down_until = self.now + self.random.below(8_000),
            6 => self.restart(),
            7 => self.start(now),
            8 => {
                let Some(version) = self.registry.challenger else {
                    return;
                };
                let text = self.random.one_in(2).then(|| NONSENSE.to_owned());
                self.registry
                    .pending
                    .push((self.now, Change::Tag(version, STATE, text)));
                let later = self.now + 4_000;
                self.registry
                    .pending
                    .push((later, Change::Tag(version, STATE, None)));
            }
            _ => self.order(now),
        }
    }

    fn name_challenger(&mut self, version: Option<Version>) {
        (self.registry.challenger, self.registry.changed_at) = (version, self.now);
    }

    fn order(&mut self, now: Moment) {
        let words = [
            OrderWord::Pause,
            OrderWord::Resume,
            OrderWord::Promote,
            OrderWord::Abort,
        ];
        let order = words[self.random.below(4) as usize];
        let node = &self.nodes[self.random.below(3) as usize];
        if let Some(state) = node.rollout.known().state() {
            let order = Order {
                id: state.id.clone(),
                order,
                who: "somebody".to_owned(),
                when: now,
            };
            let change = Change::Tag(state.challenger, ORDER, Some(order.text()));
            self.registry.write(self.now, change, &mut self.random);
        }
    }

    fn start(&mut self, now: Moment) {
        let Some(reading) = self.registry.read(self.now, &mut self.random) else {
            return;
        };
        let node = self.random.below(3) as usize;
        if let Ok(state) = self.nodes[node].rollout.start(&reading, now, None) {
            let change = Change::Tag(state.challenger, STATE, Some(state.text()));
            self.registry.write(self.now, change, &mut self.random);
        }
    }

    /// It comes back with what it kept.
    fn restart(&mut self) {
        let away = self.now + 100 + self.random.below(6_000);
        let node = &mut self.nodes[self.random.below(3) as usize];
        let kept = serde_json::to_string(node.rollout.known()).unwrap();
        node.rollout = rollout(&node.name, serde_json::from_str(&kept).unwrap());
        (node.away_until, node.next_poll, node.ready_since) = (away, away, None);
        node.unwritten = None;
    }

    fn check(&mut self) {
        let up = self.nodes.iter().filter(|node| node.ready_since.is_some());
        let mut views: Vec<(Option<Version>, Option<&RolloutId>, u8)> = up
            .map(|node| {
                let state = node.rollout.known().state();
                // A share of what everybody gets is none.
                let split = state.filter(|state| node.serving != Some(state.challenger));
                let percent = split.map_or(0, |_| node.rollout.percent());
                let id = split.filter(|_| percent > 0).map(|state| &state.id);
                (node.serving, id, percent)
            })
            .collect();
        views.dedup();
        if views.len() > 1 {
            let since = *self.quarrel_since.get_or_insert(self.now);
            let Registry {
                failed_at,
                changed_at,
                lost_at,
                ..
            } = self.registry;
            let settled = failed_at.max(changed_at).max(lost_at + POLL);
            let quarrel = self.now.saturating_sub(since.max(settled));
            assert!(quarrel <= POLL + SLACK, "for {quarrel} ms: {views:?}");
            self.longest = self.longest.max(quarrel);
        } else {
            self.quarrel_since = None;
        }
        for node in &mut self.nodes {
            let (known, percent) = (node.rollout.known(), node.rollout.percent());
            if let Some(state) = known.state().filter(|_| percent > 0) {
                let before = node.greatest.take().filter(|(id, _)| *id == state.id);
                assert!(
                    before.is_none_or(|(_, before)| before <= percent),
                    "back to {percent}"
                );
                node.greatest = Some((state.id.clone(), percent));
            }
            if let Some(ended) = known.ended() {
                if !self.ended.contains(&ended.id) {
                    self.ended.push(ended.id.clone());
                }
                assert_eq!(percent, 0, "{} after its end", ended.id);
            }
        }
    }
}

fn rollout(name: &str, known: Known) -> Rollout {
    let replica = Replica {
        name: name.to_owned(),
        fleet: "default".to_owned(),
        model: "fraud".to_owned(),
    };
    Rollout::new(replica, plan(), known)
}

#[test]
fn replicas_agree_within_a_poll_whatever_happens_and_nothing_undoes_an_end() {
    let (mut promotions, mut ends, mut longest) = (0, 0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed, 1_500);
        let busy = 20 + world.random.below(400);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..2_400 {
                if world.random.one_in(busy) {
                    world.person();
                }
                world.tick();
            }
        }));
        assert!(
            outcome.is_ok(),
            "seed {seed}, {} ms after the start",
            world.now - START
        );
        promotions += world.registry.promotions;
        ends += world.ended.len();
        longest = longest.max(world.longest);
    }
    // It is worth nothing when nothing happens.
    assert!(
        promotions > 50 && ends > 200,
        "{promotions} promotions, {ends} ends"
    );
    assert!(longest > POLL / 2, "{longest} ms");
}

#[test]
fn a_good_challenger_takes_the_alias_of_a_quiet_fleet() {
    let mut world = World::new(7, 1);
    world.registry.failures = u64::MAX;
    let mut weights = Vec::new();
    while world.registry.promotions == 0 {
        assert!(world.now < START + 60_000, "{weights:?}");
        world.tick();
        weights.extend(world.nodes.iter().map(|node| node.rollout.percent()));
        weights.dedup();
    }
    weights.sort_unstable();
    weights.dedup();
    assert_eq!(weights, [0, 1, 5, 25, 50]);
    for _ in 0..100 {
        world.tick();
    }
    for node in &world.nodes {
        assert_eq!(node.rollout.phase(), Phase::Promoted);
        assert_eq!(
            (node.rollout.percent(), node.serving),
            (0, Some(Version(2)))
        );
    }
}
