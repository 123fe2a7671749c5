use parking_lot::Mutex;

use super::*;

/// Gives `content`, or what follows a part of it, cut after `cut` chunks of two bytes.
struct Fake {
    content: &'static [u8],
    /// What it says that changes with the content.
    tag: Option<&'static str>,
    cut: Option<usize>,
    skips: bool,
    asked: Mutex<Vec<(String, u64)>>,
}

fn fake(content: &'static [u8], tag: Option<&'static str>) -> Fake {
    Fake {
        content,
        tag,
        cut: None,
        skips: true,
        asked: Mutex::default(),
    }
}

impl Fake {
    fn offsets(&self) -> Vec<u64> {
        let asked = std::mem::take(&mut *self.asked.lock());
        asked.into_iter().map(|(_, offset)| offset).collect()
    }
}

#[async_trait]
impl Remote for Fake {
    fn address(&self) -> &str {
        "fake"
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn open(&self, file: &RemoteFile, part: Option<&Part>) -> Result<Opened, SourceError> {
        let part = part.filter(|part| self.skips && self.tag == Some(part.tag.as_str()));
        let offset = part.map_or(0, |part| part.length);
        self.asked.lock().push((file.path.clone(), offset));
        let tag = self.tag.map(str::to_owned);
        if file.path == "silent" {
            let bytes = stream::pending().boxed();
            return Ok(Opened { offset, tag, bytes });
        }
        let mut bytes: Vec<Result<Bytes, TransferError>> = self.content[offset as usize..]
            .chunks(2)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        if let Some(cut) = self.cut {
            bytes.truncate(cut);
            bytes.push(Err(TransferError::Transport("cut".to_owned())));
        }
        let bytes = stream::iter(bytes).boxed();
        Ok(Opened { offset, tag, bytes })
    }
}

fn file(path: &str, size: Option<u64>) -> RemoteFile {
    RemoteFile {
        path: path.to_owned(),
        size,
        tag: None,
    }
}

fn tagged(path: &str, size: u64, tag: &str) -> RemoteFile {
    RemoteFile {
        tag: Some(tag.to_owned()),
        ..file(path, Some(size))
    }
}

fn read(directory: &Path, name: &str) -> Vec<u8> {
    std::fs::read(directory.join(name)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_cut_file_is_continued_where_it_ended_when_its_content_is_certain() {
    for (skips, expected) in [(true, 4), (false, 0)] {
        let directory = tempfile::tempdir().unwrap();
        let files = || vec![file("deep/a", Some(7)), file("empty", Some(0))];
        let cut = Fake {
            cut: Some(2),
            ..fake(b"abcdefg", Some("1"))
        };
        let error = download(&cut, files(), directory.path()).await.unwrap_err();
        assert!(error.to_string().contains("`deep/a`: cut"), "{error}");
        assert_eq!(cut.offsets()[0], 0);
        let present = read(directory.path(), "deep/a").len() as u64;
        assert!(present >= 4, "{present}");
        std::fs::write(directory.path().join("deep/a"), b"abcd").unwrap();
        let whole = Fake {
            skips,
            ..fake(b"abcdefg", Some("1"))
        };
        download(&whole, files(), directory.path()).await.unwrap();
        assert_eq!(whole.offsets(), [expected]);
        assert_eq!(read(directory.path(), "deep/a"), b"abcdefg");
        assert_eq!(read(directory.path(), "empty"), b"");
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 2, "no tags are left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_another_content_is_never_continued() {
    // What is known of the part, what is sent now, and whether the two are the same.
    for (before, now, expected) in [
        (Some("1"), Some("2"), 0),
        (Some("1"), None, 0),
        (None, Some("1"), 0),
        (None, None, 0),
        (Some("1"), Some("1"), 4),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let cut = Fake {
            cut: Some(2),
            skips: false,
            ..fake(b"AAAAAAA", before)
        };
        let files = || vec![file("a", Some(7))];
        download(&cut, files(), directory.path()).await.unwrap_err();
        assert_eq!(read(directory.path(), "a"), b"AAAA");
        let whole = fake(b"BBBBBBB", now);
        download(&whole, files(), directory.path()).await.unwrap();
        assert_eq!(whole.offsets(), [expected], "{before:?} {now:?}");
        if expected == 0 {
            assert_eq!(read(directory.path(), "a"), b"BBBBBBB");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_file_of_an_earlier_attempt_is_kept_only_when_it_is_certain_to_be_the_same() {
    let first = |directory: &Path| {
        std::fs::create_dir_all(directory.join(".resume")).unwrap();
        std::fs::write(directory.join("a"), b"AAAAAAA").unwrap();
    };
    for (listed, known, sent, expected) in [
        (Some("1"), Some("1"), Some("1"), &b"AAAAAAA"[..]),
        (Some("2"), Some("1"), Some("2"), b"BBBBBBB"),
        (Some("2"), None, Some("2"), b"BBBBBBB"),
        (None, None, None, b"BBBBBBB"),
        (None, Some("1"), Some("2"), b"BBBBBBB"),
        // Its last byte alone was fetched.
        (None, Some("1"), Some("1"), b"AAAAAAB"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        first(directory.path());
        if let Some(tag) = known {
            let tags = Tags::open(directory.path()).await.unwrap();
            tags.keep("a", tag).await.unwrap();
        }
        let listed_file = RemoteFile {
            tag: listed.map(str::to_owned),
            ..file("a", Some(7))
        };
        let remote = fake(b"BBBBBBB", sent);
        let files = vec![listed_file];
        download(&remote, files, directory.path()).await.unwrap();
        let found = read(directory.path(), "a");
        assert_eq!(found, expected, "{listed:?} {known:?} {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_tried_again_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let cut = Fake {
        cut: Some(2),
        ..fake(b"abcdefgh", Some("1"))
    };
    // Each attempt brings four bytes.
    let files = vec![tagged("a", 8, "1")];
    download(&cut, files, directory.path()).await.unwrap();
    assert_eq!(cut.offsets(), [0, 4]);
    assert_eq!(read(directory.path(), "a"), b"abcdefgh");
}

#[tokio::test(start_paused = true)]
async fn a_file_of_another_size_is_refused_and_fetched_anew() {
    let directory = tempfile::tempdir().unwrap();
    for (size, found) in [(5, 6), (9, 7)] {
        let remote = fake(b"abcdefg", None);
        let result = download(&remote, vec![file("a", Some(size))], directory.path());
        let error = result.await.unwrap_err();
        let expected = format!("`a` has {found} bytes, expected {size}");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    std::fs::write(directory.path().join("a"), "too long by far").unwrap();
    for (name, size) in [("a", Some(7)), ("b", None)] {
        let files = vec![file(name, size)];
        let remote = fake(b"abcdefg", None);
        download(&remote, files, directory.path()).await.unwrap();
        assert_eq!(read(directory.path(), name), b"abcdefg");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let files = vec![file("silent", Some(7))];
    let fetched = download(&fake(b"", None), files, directory.path()).await;
    let error = fetched.unwrap_err();
    assert!(error.to_string().contains("no bytes for 5s"), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn paths_outside_of_the_package_and_absurd_lists_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for path in [
        "../a",
        "/a",
        "a/../b",
        "",
        "a//b",
        "./a",
        "a\\b",
        "a\0",
        "..",
        ".resume/a",
        ".resume",
    ] {
        let remote = fake(b"x", None);
        let result = download(&remote, vec![file(path, None)], directory.path());
        let error = result.await.unwrap_err();
        assert!(
            error.to_string().contains("inside of the package"),
            "{path}"
        );
    }
    let many = (0..=MOST_FILES)
        .map(|i| file(&i.to_string(), None))
        .collect();
    for files in [
        many,
        vec![file("a", Some(u64::MAX)), file("b", Some(1))],
        vec![file("a", None), file("a", None)],
    ] {
        let fetched = download(&fake(b"x", None), files, directory.path()).await;
        assert!(fetched.is_err());
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_package_that_is_larger_than_what_is_free_is_not_begun() {
    let directory = tempfile::tempdir().unwrap();
    let free = machine::free_space(directory.path()).unwrap();
    let remote = fake(b"x", None);
    // In two files, each of which would fit.
    let sizes = [free / 2 + (32 << 20), free / 2 + (32 << 20)];
    let files = sizes.iter().enumerate();
    let files: Vec<_> = files
        .map(|(index, size)| file(&format!("f{index}"), Some((*size).min(MOST_BYTES / 2))))
        .collect();
    let total: u64 = files.iter().filter_map(|file| file.size).sum();
    if total <= free {
        // No test of ours fills a disk that large.
        return;
    }
    let error = download(&remote, files, directory.path())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("the package needs") && text.contains("free"),
        "{text}"
    );
    assert!(remote.asked.lock().is_empty(), "nothing is fetched");
    assert!(error.is_transient());
}

#[tokio::test]
async fn of_a_model_of_another_kind_only_the_manifest_is_fetched() {
    const SKLEARN: &[u8] = b"flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n";
    let directory = tempfile::tempdir().unwrap();
    let remote = fake(SKLEARN, None);
    let size = Some(SKLEARN.len() as u64);
    let files = vec![file("model.pkl", Some(1 << 20)), file("MLmodel", size)];
    let error = download(&remote, files, directory.path())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SourceError::Package(error) if error.is_foreign()),
        "{error}"
    );
    let asked = std::mem::take(&mut *remote.asked.lock());
    assert_eq!(asked, [("MLmodel".to_owned(), 0)]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_the_way_is_replaced_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    std::fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, directory.path().join("a")).unwrap();
    std::os::unix::fs::symlink(outside.path(), directory.path().join(".resume")).unwrap();
    let files = vec![file("a", Some(1))];
    let remote = fake(b"x", Some("1"));
    download(&remote, files, directory.path()).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(read(directory.path(), "a"), b"x");
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_what_was_fetched() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let files = vec![file("deep/er/a", Some(1)), file("empty", Some(0))];
    let remote = fake(b"x", None);
    download(&remote, files, directory.path()).await.unwrap();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(directory.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    let modes = ["deep", "deep/er", "deep/er/a", "empty"].map(mode);
    assert_eq!(modes, [0o700, 0o700, 0o600, 0o600]);
}
