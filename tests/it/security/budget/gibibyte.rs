//! The same attacks on a server with the default limits in a control group of 1 GiB, where one byte too many ends it:
//! `make attacks`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::wire::attacked;
use crate::support::server::Server;

const GIBIBYTE: &str = "1073741824";

/// A control group of our own; it goes when this is dropped.
struct Group {
    folder: PathBuf,
    /// Where this process is otherwise.
    before: PathBuf,
}

impl Group {
    fn new(before: PathBuf) -> io::Result<Self> {
        let name = format!("onstage-attacks-{}", std::process::id());
        let v2 = PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists();
        let (mount, limit) = match v2 {
            true => ("/sys/fs/cgroup", "memory.max"),
            false => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        };
        let folder = PathBuf::from(mount).join(name);
        fs::create_dir(&folder)?;
        let group = Self { folder, before };
        fs::write(group.folder.join(limit), GIBIBYTE)?;
        if v2 {
            // What does not fit must not go elsewhere; where there is no such file there is no swap.
            let _ = fs::write(group.folder.join("memory.swap.max"), "0");
        }
        Ok(group)
    }

    /// This process, and what it starts, is in it.
    fn enter(&self) -> io::Result<()> {
        fs::write(
            self.folder.join("cgroup.procs"),
            std::process::id().to_string(),
        )
    }

    /// This process is where it was.
    fn leave(&self) -> io::Result<()> {
        fs::write(
            self.before.join("cgroup.procs"),
            std::process::id().to_string(),
        )
    }

    /// How often something in it was ended for want of memory.
    fn ended(&self) -> u64 {
        let files = ["memory.events", "memory.oom_control"];
        let text = files.map(|file| fs::read_to_string(self.folder.join(file)).unwrap_or_default());
        let lines = text.iter().flat_map(|text| text.lines());
        let counts = lines.filter_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok());
        counts.sum()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.leave();
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The control group of memory of this process.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let v1 = groups.lines().find_map(|line| line.split_once(":memory:"));
    let v2 = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let (mount, group) = match v1 {
        Some((_, group)) => ("/sys/fs/cgroup/memory", group),
        None => ("/sys/fs/cgroup", v2?),
    };
    let folder = PathBuf::from(mount).join(group.trim_start_matches('/'));
    // In a container it may be named as the host sees it.
    Some(if folder.exists() {
        folder
    } else {
        mount.into()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, and wants root: `make attacks`"]
async fn a_minute_of_attacks_in_a_gibibyte_with_the_default_limits() {
    let group = match own_group()
        .ok_or(io::ErrorKind::NotFound.into())
        .and_then(Group::new)
    {
        Ok(group) => group,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "what a failed run is compared with")]
            {
                eprintln!(
                    "SKIPPED: NOTHING WAS ATTACKED: no control group can be made here: {error}"
                );
            }
            return;
        }
    };
    // The server is born in it, and finds its limit; the attackers are not.
    group.enter().unwrap();
    let server = Server::start(&["model-examples/iris", "--engine", "tract"]).await;
    group.leave().unwrap();
    // Forty megabytes of empty fields are twenty million.
    attacked(&server, 40 << 20, Duration::from_secs(60)).await;
    assert_eq!(group.ended(), 0, "the server was ended for want of memory");
    server.terminate().await;
}
