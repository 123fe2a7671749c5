//! A path without symbolic links, as the kernel follows them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Links that one path may lead through, as in Linux.
const MOST_LINKS: usize = 40;

/// The absolute path of an existing file or directory, with every symbolic link replaced whose text says where it leads.
///
/// The links below `/proc/<pid>` do not: `/proc/<pid>/root` reads `/` and leads to the root of another container, where
/// `KServe` keeps the model of an OCI image. [`Path::canonicalize`] follows the text, and finds nothing or another file
/// there; such a link stays in the path, for the kernel to follow.
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    let target = path.metadata()?;
    if let Ok(resolved) = path.canonicalize()
        && is_same(&resolved, &target)
    {
        return Ok(resolved);
    }
    step_by_step(&std::path::absolute(path)?)
}

/// Follows each link whose text leads where the link leads.
fn step_by_step(path: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    let mut rest: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            resolved.pop();
            continue;
        }
        resolved.push(&part);
        let Some(target) = readable_link(&resolved)? else {
            continue;
        };
        links += 1;
        if links > MOST_LINKS {
            return Err(io::Error::other("too many symbolic links"));
        }
        resolved.pop();
        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            rest.push_front(part);
        }
    }
    Ok(resolved)
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    let is_step = |part: &Component<'_>| !matches!(part, Component::CurDir);
    path.components()
        .filter(is_step)
        .map(|part| part.as_os_str().to_owned())
}

/// The text of a link, if it says where the link leads; `None` for what is no link, too.
fn readable_link(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.symlink_metadata()?.is_symlink() {
        return Ok(None);
    }
    let text = path.read_link()?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let leads_there = is_same(&directory.join(&text), &path.metadata()?);
    Ok(leads_there.then_some(text))
}

#[cfg(unix)]
fn is_same(path: &Path, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |found: Metadata| (found.dev(), found.ino()) == (other.dev(), other.ino());
    path.metadata().is_ok_and(same)
}

#[cfg(not(unix))]
fn is_same(path: &Path, _: &Metadata) -> bool {
    path.exists()
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_has_readable_links_is_resolved_as_by_the_system_and_step_by_step() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/file"), "").unwrap();
        symlink("b", at("a/relative")).unwrap();
        symlink(at("a"), at("absolute")).unwrap();
        symlink("../a/./relative/../relative", at("a/climbing")).unwrap();
        for name in [
            "a/b/file",
            "a/relative/file",
            "absolute/relative/file",
            "absolute/climbing/../b/file",
            "absolute/climbing",
            ".",
        ] {
            let expected = at(name).canonicalize().unwrap();
            assert_eq!(real_path(&at(name)).unwrap(), expected, "{name}");
            assert_eq!(step_by_step(&at(name)).unwrap(), expected, "{name}");
        }
        symlink("loop", at("loop")).unwrap();
        assert!(real_path(&at("loop")).is_err());
        assert!(real_path(&at("missing")).is_err());
    }

    /// `/proc/self/fd/N` of a deleted file reads like a path that is none.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_link_that_only_the_kernel_can_follow_stays() {
        use std::os::fd::AsRawFd;
        let directory = tempfile::tempdir().unwrap();
        let (gone, link) = (directory.path().join("gone"), directory.path().join("link"));
        fs::create_dir(&gone).unwrap();
        let open = fs::File::open(&gone).unwrap();
        fs::remove_dir(&gone).unwrap();
        // Another directory of the name that the link reads.
        fs::create_dir(directory.path().join("gone (deleted)")).unwrap();
        let descriptor = format!("/proc/self/fd/{}", open.as_raw_fd());
        symlink(&descriptor, &link).unwrap();
        let real = real_path(&link).unwrap();
        assert!(is_same(&real, &open.metadata().unwrap()), "{real:?}");
        assert!(real.starts_with("/proc"), "{real:?}");
    }
}
