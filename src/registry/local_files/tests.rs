use super::*;

async fn fetch_from(
    from: &Path,
    allowed: &[PathBuf],
) -> (tempfile::TempDir, Result<(), SourceError>) {
    let directory = tempfile::tempdir().unwrap();
    let result = fetch(from, allowed, directory.path()).await;
    (directory, result)
}

#[tokio::test]
async fn files_are_copied_with_their_folders_and_odd_names() {
    let from = tempfile::tempdir().unwrap();
    let root = from.path().join("räum %41 x");
    fs::create_dir_all(root.join("deep")).unwrap();
    for name in ["info", "deep/a b%20c", "deep/ü#?.data"] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::write(root.join("deep/half#1"), "unfinished").unwrap();
    let (directory, result) = fetch_from(&root, &[]).await;
    result.unwrap();
    for name in ["info", "deep/a b%20c", "deep/ü#?.data"] {
        let read = fs::read_to_string(directory.path().join(name));
        assert_eq!(read.unwrap(), name);
    }
    assert_eq!(
        fs::read_dir(directory.path().join("deep")).unwrap().count(),
        2
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn an_empty_place_holds_no_package() {
    let from = tempfile::tempdir().unwrap();
    let (_, result) = fetch_from(from.path(), &[]).await;
    assert!(matches!(result, Err(SourceError::NotFound(_))));
    let (_, result) = fetch_from(&from.path().join("missing"), &[]).await;
    assert!(matches!(result, Err(SourceError::NotFound(_))));
}

#[cfg(unix)]
#[tokio::test]
async fn links_out_of_the_package_are_refused_unless_they_lead_to_where_that_is_allowed() {
    let from = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "s3cret").unwrap();
    fs::write(from.path().join("info"), "x").unwrap();
    for target in [&secret, outside.path()] {
        let link = from.path().join("a");
        std::os::unix::fs::symlink(target, &link).unwrap();
        let (directory, result) = fetch_from(from.path(), &[]).await;
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("a`") && error.contains("leads out"),
            "{error}"
        );
        assert!(error.contains("`registry.local_artifacts`"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let real = |path: &Path| path.canonicalize().unwrap();
        let both = [real(from.path()), real(outside.path())];
        let (_directory, result) = fetch_from(from.path(), &both).await;
        result.unwrap();
        let (_directory, result) = fetch_from(&link, &both[..1]).await;
        assert!(result.is_err(), "the place itself leads out");
        fs::remove_file(link).unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_or_a_device_is_refused_at_once() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("info"), "x").unwrap();
    let pipe = from.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let began = tokio::time::Instant::now();
    let (_, result) = fetch_from(from.path(), &[]).await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("pipe`: it is a pipe"), "{error}");
    let allowed = [from.path().canonicalize().unwrap(), "/dev".into()];
    for special in [pipe.as_path(), Path::new("/dev/zero"), from.path()] {
        let error = small(special, &allowed, 10).unwrap_err().to_string();
        assert!(error.contains("expected a regular file"), "{error}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "nobody is waited for"
    );
}

#[cfg(unix)]
#[test]
fn small_files_are_read_whole_or_not_at_all() {
    let place = tempfile::tempdir().unwrap();
    let allowed = [place.path().canonicalize().unwrap()];
    let read = |name: &str| small(&place.path().join(name), &allowed, 4);
    fs::write(place.path().join("fits"), "1234").unwrap();
    fs::write(place.path().join("long"), "12345").unwrap();
    fs::write(place.path().join("bytes"), [0xff]).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", place.path().join("link")).unwrap();
    assert_eq!(read("fits").unwrap().as_deref(), Some("1234"));
    assert_eq!(read("missing").unwrap(), None);
    for name in ["long", "bytes"] {
        assert!(matches!(read(name), Err(SourceError::Invalid(_))), "{name}");
    }
    assert!(matches!(read("link"), Err(SourceError::Place { .. })));
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_refused() {
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("a");
    fs::write(&path, "before").unwrap();
    let root = from.path().canonicalize().unwrap();
    let files = LocalFiles {
        address: "x".to_owned(),
        allowed: vec![root.clone()],
        root,
    };
    let [listed] = files.list().unwrap().try_into().unwrap();
    let opened = files.open(&listed, None).await.unwrap();
    fs::write(&path, "after!!").unwrap();
    let read: Vec<_> = opened.bytes.collect().await;
    assert!(read.last().unwrap().is_err(), "{read:?}");
    assert!(
        files.open(&listed, None).await.is_err(),
        "another than listed"
    );
}
