//! What is known of files on their way: the tag of the content that the bytes so far are of.
//!
//! Kept beside the files, as another process may go on with them. A directory whose name begins with a dot is no part
//! of a package.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::io::AsyncWriteExt;

use super::super::SourceError;
use super::{create, make_directories};

/// The directory of tags in that of the package.
const DIRECTORY: &str = ".resume";

/// More is no tag.
const LONGEST: usize = 1024;

/// The tags of one package.
pub(super) struct Tags(PathBuf);

/// Whether a path of a package would be among the tags.
pub(super) fn is_ours(path: &str) -> bool {
    path.split('/').next() == Some(DIRECTORY)
}

impl Tags {
    pub(super) async fn open(package: &Path) -> Result<Self, SourceError> {
        let directory = package.join(DIRECTORY);
        // A link is never ours.
        if fs::symlink_metadata(&directory)
            .await
            .is_ok_and(|found| !found.is_dir())
        {
            let removed = fs::remove_file(&directory).await;
            removed.map_err(SourceError::io(&directory))?;
        }
        make_directories(&directory).await?;
        Ok(Self(directory))
    }

    /// The tag of what is here of a file.
    pub(super) async fn get(&self, path: &str) -> Option<String> {
        let tag = fs::read_to_string(self.place(path)).await.ok()?;
        // One that was written by half names another content.
        tag.strip_suffix('\n').map(str::to_owned)
    }

    /// Says of which content the bytes will be that follow.
    pub(super) async fn keep(&self, path: &str, tag: &str) -> Result<(), SourceError> {
        if tag.len() > LONGEST || tag.contains('\n') {
            return Ok(());
        }
        let place = self.place(path);
        let written = async {
            let mut file = create(&place).await?;
            file.write_all(format!("{tag}\n").as_bytes()).await?;
            file.flush().await
        };
        written.await.map_err(SourceError::io(&place))
    }

    /// Says that it is not known of which content the bytes are.
    pub(super) async fn forget(&self, path: &str) -> Result<(), SourceError> {
        let place = self.place(path);
        match fs::remove_file(&place).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(SourceError::io(&place)(error))
            }
            _ => Ok(()),
        }
    }

    /// Ends it: all files are complete.
    pub(super) async fn remove(&self) -> Result<(), SourceError> {
        let removed = fs::remove_dir_all(&self.0).await;
        removed.map_err(SourceError::io(&self.0))
    }

    fn place(&self, path: &str) -> PathBuf {
        let digest = Sha256::digest(path);
        let name = hex::encode(digest);
        self.0.join(name)
    }
}
