use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tempfile::TempDir;

use super::*;
use crate::model::{ModelId, ModelName, Version};
use crate::registry::{KnownState, RegistryState, Served};
use crate::telemetry::DURATION_BUCKETS;

/// A registry whose packages hold their own location.
#[derive(Default)]
struct Counting {
    fetches: AtomicUsize,
    /// Stops after the first file.
    breaks: bool,
    /// Finds the disk full this often.
    full: AtomicUsize,
}

#[async_trait]
impl Source for Counting {
    fn address(&self) -> &str {
        "counting"
    }

    async fn snapshot(&self, _: &Query) -> Result<RegistryState, SourceError> {
        unreachable!("a cache asks for packages only")
    }

    async fn fetch(&self, package: &PackageRef, directory: &Path) -> Result<(), SourceError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
        write("MLmodel", &package.location);
        tokio::task::yield_now().await;
        let full = |times: usize| times.checked_sub(1);
        if self
            .full
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, full)
            .is_ok()
        {
            return Err(SourceError::Io {
                path: directory.to_owned(),
                error: ErrorKind::StorageFull.into(),
            });
        }
        if self.breaks {
            return Err(SourceError::Unreachable {
                registry: "counting".to_owned(),
                reason: "broken off".to_owned(),
            });
        }
        write("model.onnx", &"x".repeat(1000));
        Ok(())
    }
}

impl Counting {
    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

fn package(location: &str) -> PackageRef {
    PackageRef {
        id: ModelId {
            name: ModelName::new("m").unwrap(),
            version: Version(1),
        },
        location: location.to_owned(),
        revision: "1".to_owned(),
        digest: None,
    }
}

/// A cache as another process would open it.
fn open(directory: &Path, limit: u64) -> Repository {
    let config = RepositoryConfig {
        directory: Some(directory.to_owned()),
        limit,
    };
    Repository::open(&config, metrics()).unwrap()
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&DURATION_BUCKETS))
}

/// Gets a package, and waits until it is written down.
async fn get(repository: &Repository, source: &Counting, location: &str) -> CachedPackage {
    let held = repository.get(source, &package(location)).await.unwrap();
    drop(repository.claim(&key("counting", &package(location))).await);
    held
}

fn packages(directory: &Path) -> usize {
    let entries = fs::read_dir(directory.join("packages")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_dir()).count()
}

#[tokio::test]
async fn a_package_is_fetched_once_for_all_processes_and_starts() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let first = open(directory.path(), 1 << 20);
    let held = get(&first, &source, "a").await;
    let second = open(directory.path(), 1 << 20);
    let again = get(&second, &source, "a").await;
    assert_eq!(held.directory, again.directory);
    assert_eq!(fs::read(again.directory.join("MLmodel")).unwrap(), b"a");
    drop((first, second, held, again));
    let restarted = open(directory.path(), 1 << 20);
    get(&restarted, &source, "a").await;
    assert_eq!(source.fetches(), 1);
}

#[tokio::test]
async fn those_who_want_the_same_at_the_same_time_share_one_download() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let (one, other) = (
        open(directory.path(), 1 << 20),
        open(directory.path(), 1 << 20),
    );
    let wanted = package("a");
    let got = tokio::join!(
        one.get(&source, &wanted),
        one.get(&source, &wanted),
        other.get(&source, &wanted)
    );
    assert!(got.0.is_ok() && got.1.is_ok() && got.2.is_ok());
    assert_eq!(source.fetches(), 1);
}

#[tokio::test]
async fn equal_content_is_kept_once() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 1 << 20);
    let held = get(&repository, &source, "a").await;
    let copied = PackageRef {
        revision: "2".to_owned(),
        ..package("a")
    };
    let copy = repository.get(&source, &copied).await.unwrap();
    assert_eq!(source.fetches(), 2, "who knows whether it is equal before");
    assert_eq!(held.directory, copy.directory);
    assert_eq!(packages(directory.path()), 1);
}

#[tokio::test]
async fn what_nobody_uses_goes_the_longest_unused_first() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    // Room for two packages.
    let repository = open(directory.path(), 2500);
    let other = open(directory.path(), 2500);
    let used = get(&other, &source, "used elsewhere").await;
    drop(get(&repository, &source, "older").await);
    drop(get(&repository, &source, "newer").await);
    assert_eq!(packages(directory.path()), 2, "the older one has gone");
    drop(get(&repository, &source, "newer").await);
    drop(get(&repository, &source, "used elsewhere").await);
    assert_eq!(source.fetches(), 3, "both are there");
    assert!(used.directory.join("model.onnx").is_file());
    drop(get(&repository, &source, "older").await);
    assert_eq!(source.fetches(), 4, "this one is not");
}

#[tokio::test]
async fn what_is_used_stays_however_small_the_cache() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 0);
    let held = get(&repository, &source, "a").await;
    let other = get(&repository, &source, "b").await;
    assert!(held.directory.is_dir() && other.directory.is_dir());
    drop(held);
    repository.cache_dir.sweep(0).unwrap();
    assert_eq!(packages(directory.path()), 1);
}

#[tokio::test]
async fn a_full_disk_costs_what_nobody_uses() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 1 << 20);
    let used = get(&repository, &source, "used").await;
    drop(get(&repository, &source, "unused").await);
    source.full.store(1, Ordering::SeqCst);
    let held = get(&repository, &source, "new").await;
    assert!(held.directory.is_dir() && used.directory.is_dir());
    assert_eq!(packages(directory.path()), 2);
    source.full.store(9, Ordering::SeqCst);
    let error = repository
        .get(&source, &package("another"))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}: there may be room later");
}

#[tokio::test]
async fn damage_is_noticed_and_repaired() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 1 << 20);
    let held = get(&repository, &source, "a").await;
    fs::write(held.directory.join("MLmodel"), "b").unwrap();
    drop(held);
    let again = get(&repository, &source, "a").await;
    assert_eq!(fs::read(again.directory.join("MLmodel")).unwrap(), b"a");
    assert_eq!(source.fetches(), 2);
}

#[tokio::test]
async fn files_that_are_gone_are_fetched_again() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 1 << 20);
    let files = get(&repository, &source, "a").await.directory.clone();
    fs::remove_dir_all(&files).unwrap();
    let held = get(&repository, &source, "a").await;
    assert!(held.directory.join("model.onnx").is_file());
    drop(held);
    // The registry says that it is another one, and it has the same content.
    fs::remove_dir_all(&files).unwrap();
    let mut other = package("a");
    other.revision = "2".to_owned();
    let held = repository.get(&source, &other).await.unwrap();
    assert!(held.directory.join("model.onnx").is_file());
}

/// Whoever wanted it has lost interest, the disk is full, and its files are being written down.
#[tokio::test]
async fn what_is_being_written_down_is_not_swept_away() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 1 << 20);
    let mut seen = 0;
    for round in 0..40 {
        let wanted = package(&round.to_string());
        let held = repository.get(&source, &wanted).await.unwrap();
        let files = held.directory.clone();
        drop(held);
        if repository.cache_dir.sweep(0).unwrap() == 0 {
            assert!(files.is_dir(), "it is still being written down");
            seen += 1;
        }
        let written_down = repository.claim(&key("counting", &wanted)).await;
        written_down.unwrap();
        repository.cache_dir.sweep(0).unwrap();
    }
    assert!(seen > 0, "it is never quick enough to see it");
}

#[test]
fn uses_of_others_are_told_line_by_line() {
    let directory = TempDir::new().unwrap();
    let mut one = holder::Holder::new(directory.path()).unwrap();
    let other = holder::Holder::new(directory.path()).unwrap();
    let digests: Vec<String> = (0..300).map(|n| format!("{n:064}")).collect();
    digests.iter().for_each(|digest| one.add(digest).unwrap());
    assert!(other.all_uses().unwrap().into_iter().eq(digests.clone()));
    let (first, rest) = digests.split_first().unwrap();
    rest.iter().for_each(|digest| one.remove(digest).unwrap());
    assert!(other.all_uses().unwrap().iter().eq([first]));
}

#[tokio::test]
async fn what_a_killed_process_left_is_continued_or_removed() {
    let directory = TempDir::new().unwrap();
    let broken = Counting {
        breaks: true,
        ..Counting::default()
    };
    let repository = open(directory.path(), 1 << 20);
    let error = repository.get(&broken, &package("a")).await.unwrap_err();
    assert!(error.is_transient());
    let half = repository
        .cache_dir
        .download(&key("counting", &package("a")));
    assert!(half.join("MLmodel").is_file(), "the next attempt goes on");
    // Admitted, but not written down before the end; and a holder that lives no more.
    let lost = directory.path().join("packages/0123");
    fs::create_dir(&lost).unwrap();
    fs::write(directory.path().join("holders/dead"), "0123\n").unwrap();
    let trash = directory.path().join("downloads/removed-dead-1");
    fs::create_dir(&trash).unwrap();
    open(directory.path(), 1 << 20);
    assert!(!lost.exists() && !trash.exists());
    assert!(half.exists());
    get(&repository, &Counting::default(), "a").await;
    assert!(!half.exists());
}

#[tokio::test]
async fn what_turns_out_wrong_is_fetched_anew() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 1 << 20);
    drop(get(&repository, &source, "a").await);
    repository.discard("counting", &package("a")).await.unwrap();
    drop(get(&repository, &source, "a").await);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test]
async fn a_cache_that_can_only_be_read_is_read() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let config = RepositoryConfig {
        directory: Some(directory.path().to_owned()),
        limit: 1 << 20,
    };
    drop(get(&open(directory.path(), 1 << 20), &source, "a").await);
    // Permissions do not stop the administrator; a file where a directory should be does.
    fs::remove_dir_all(directory.path().join("holders")).unwrap();
    fs::write(directory.path().join("holders"), "").unwrap();
    let repository = Repository::open(&config, metrics()).unwrap();
    let held = repository.get(&source, &package("a")).await.unwrap();
    assert!(held.directory.starts_with(directory.path()));
    assert_eq!(source.fetches(), 1);
    let held = repository.get(&source, &package("b")).await.unwrap();
    assert!(!held.directory.starts_with(directory.path()));
    let elsewhere = held.directory.clone();
    drop((repository, held));
    // Nothing is left behind, once the last thread lets go.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while elsewhere.exists() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_last_answer_outlives_the_process() {
    let directory = TempDir::new().unwrap();
    let query = Query::default();
    let known = |repository: &Repository| repository.last_known("counting", &query).unwrap();
    let state = KnownState {
        resolved: [("runs:/abc/model".parse().unwrap(), package("a"))].into(),
        ..KnownState::default()
    };
    let first = known(&open(directory.path(), 1 << 20));
    assert!(first.load().is_none());
    first.save(&state);
    let second = known(&open(directory.path(), 1 << 20));
    let loaded = loop {
        if let Some((loaded, _)) = second.load() {
            break loaded;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(loaded, state);
    let config = RepositoryConfig {
        directory: None,
        limit: 0,
    };
    let passing = Repository::open(&config, metrics()).unwrap();
    assert!(passing.last_known("counting", &query).is_none());
}

#[tokio::test]
async fn unfinished_downloads_count_and_are_the_first_to_go() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 1 << 20);
    let held = get(&repository, &source, "kept").await;
    let broken = Counting {
        breaks: true,
        ..Counting::default()
    };
    let failed = repository.get(&broken, &package("broken")).await;
    assert!(failed.is_err());
    let left = |root: &Path| {
        let children = fs::read_dir(root.join("downloads")).unwrap();
        let paths = children.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_dir()).count()
    };
    assert_eq!(left(directory.path()), 1);
    // Room for the package and a little more, but not for what is left of the other one.
    let larger = directory.path().join("downloads").join("other");
    fs::create_dir(&larger).unwrap();
    fs::write(larger.join("model.onnx"), vec![0; 4000]).unwrap();
    drop(held);
    drop(repository);
    let repository = open(directory.path(), 2000);
    assert_eq!(left(directory.path()), 0);
    assert_eq!(packages(directory.path()), 1, "the package stays");
    let again = Counting::default();
    get(&repository, &again, "kept").await;
    assert_eq!(again.fetches(), 0);
}

#[tokio::test]
async fn a_download_that_goes_on_is_not_swept_away() {
    let directory = TempDir::new().unwrap();
    let repository = open(directory.path(), 1 << 20);
    let key = key("counting", &package("a"));
    let claim = repository.claim(&key).await.unwrap();
    let files = repository.cache_dir.download(&key);
    fs::create_dir(&files).unwrap();
    fs::write(files.join("model.onnx"), vec![0; 4000]).unwrap();
    let cache_dir = Arc::clone(&repository.cache_dir);
    assert_eq!(cache_dir.sweep(0).unwrap(), 0);
    assert!(files.is_dir());
    drop(claim);
    assert_eq!(cache_dir.sweep(0).unwrap(), 1);
    assert!(!files.is_dir());
}

fn served(location: &str) -> Served {
    Served {
        model: ModelName::new("m").unwrap(),
        default: Version(1),
        aliases: [("champion".to_owned().try_into().unwrap(), Version(1))].into(),
        stages: [].into(),
        packages: [(Version(1), package(location))].into(),
    }
}

/// Waits until what was saved is on the disk.
fn until_written(directory: &Path, name: &str) {
    let deadline = std::time::SystemTime::now() + Duration::from_secs(20);
    let place = directory.join(name);
    while fs::read_dir(&place).unwrap().next().is_none() {
        assert!(std::time::SystemTime::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn what_served_is_there_after_a_restart_however_small_the_cache() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let repository = open(directory.path(), 0);
    let past = repository.past_runs("counting", None).unwrap();
    assert!(past.served().is_empty());
    let held = get(&repository, &source, "a").await;
    past.save(served("a"));
    until_written(directory.path(), "served");
    drop((held, past, repository));
    let restarted = open(directory.path(), 0);
    drop(get(&restarted, &source, "b").await);
    restarted.cache_dir.sweep(0).unwrap();
    assert_eq!(packages(directory.path()), 1, "the other one has gone");
    let past = restarted.past_runs("counting", None).unwrap();
    let model = ModelName::new("m").unwrap();
    assert_eq!(past.served(), [(model.clone(), served("a"))].into());
    drop(get(&restarted, &source, "a").await);
    assert_eq!(source.fetches(), 2, "it was there");
    let elsewhere = restarted.past_runs("another registry", None).unwrap();
    assert!(elsewhere.served().is_empty());
    past.forget(&model);
    while !past.served().is_empty() {
        tokio::task::yield_now().await;
    }
    restarted.cache_dir.sweep(0).unwrap();
    assert_eq!(packages(directory.path()), 0, "nothing needs it any more");
}

#[tokio::test]
async fn damaged_records_are_none() {
    let directory = TempDir::new().unwrap();
    let repository = open(directory.path(), 0);
    let past = repository.past_runs("counting", None).unwrap();
    past.save(served("a"));
    until_written(directory.path(), "served");
    let record = fs::read_dir(directory.path().join("served")).unwrap();
    let record = record.map(|entry| entry.unwrap().path()).next().unwrap();
    let whole = fs::read(&record).unwrap();
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&record, &whole[..end]).unwrap();
        assert!(past.served().is_empty(), "{end}");
        open(directory.path(), 0);
    }
    fs::write(&record, &whole).unwrap();
    assert_eq!(past.served().len(), 1);
}

#[tokio::test]
async fn loads_that_never_return_are_counted_until_the_files_have_served() {
    let directory = TempDir::new().unwrap();
    let source = Counting::default();
    let start = || open(directory.path(), 1 << 20);
    let past = |repository: &Repository| repository.past_runs("counting", None).unwrap();
    let held = get(&start(), &source, "a").await;
    let content = held.content.clone().unwrap();
    assert_eq!(held.unfinished, 0);
    for killed in 1..=3 {
        let process = start();
        past(&process).load_begins(&content);
        drop(process);
        assert_eq!(get(&start(), &source, "a").await.unfinished, killed);
    }
    // One that is stopped counts as little as one that fails.
    let stopped = past(&start());
    stopped.load_begins(&content);
    stopped.stop();
    stopped.load_begins(&content);
    assert_eq!(get(&start(), &source, "a").await.unfinished, 3);
    let returned = past(&start());
    returned.load_begins(&content);
    returned.load_ends(&content);
    assert_eq!(get(&start(), &source, "a").await.unfinished, 0);
    returned.has_served(&content);
    until_written(directory.path(), "loads");
    for _ in 0..3 {
        past(&start()).load_begins(&content);
    }
    assert_eq!(get(&start(), &source, "a").await.unfinished, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn others_can_neither_look_into_the_cache_nor_into_one_of_an_earlier_release() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = TempDir::new().unwrap();
    let root = parent.path().join("cache");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let _repository = open(&root, 1 << 20);
    for name in ["", "packages", "downloads", "refs", "known", "holders"] {
        assert_eq!(mode(&root.join(name)), 0o700, "{name}");
    }
    assert_eq!(mode(&root.join("lock")), 0o600);
    // Of an earlier release: a group may stay, the world not.
    let packages = root.join("packages");
    fs::set_permissions(&packages, fs::Permissions::from_mode(0o775)).unwrap();
    let _again = open(&root, 1 << 20);
    assert_eq!(mode(&packages), 0o770);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_lock_the_cache() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("cache");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let source = Counting::default();
    let repository = open(&directory, 1 << 20);
    drop(get(&repository, &source, "a").await);
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("lock")), 0o600);
    let claim = repository.cache_dir.claim(&key("counting", &package("a")));
    assert_eq!(mode(&claim), 0o600);
    // As an earlier release left it, and somebody holds it.
    let lock = directory.join("lock");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
    let held = File::open(&lock).unwrap();
    held.lock().unwrap();
    drop(repository);
    let restarted = open(&directory, 1 << 20);
    drop(get(&restarted, &source, "a").await);
    assert_eq!(mode(&lock), 0o600);
}
