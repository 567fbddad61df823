//! The manifest of a checkpoint: its files with their checksums.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::disk::{json, sync_folder, write_new};
use crate::{Damage, RunsError};

/// The format of manifests that this version writes and reads.
pub const MANIFEST_FORMAT: u32 = 1;

const NAME: &str = "manifest.json";

/// A checkpoint whose files agree with its manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
}

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`MANIFEST_FORMAT`].
    pub format: u32,
    /// The version of the program that wrote the checkpoint.
    pub program: String,
    /// The step after which it was written.
    pub step: usize,
    /// The files, sorted by path.
    pub files: Vec<ManifestFile>,
    /// The caller's metadata.
    pub meta: Value,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// The path relative to the checkpoint's folder, with `/` as separator.
    pub path: String,
    /// The length in bytes.
    pub bytes: u64,
    /// The SHA-256 checksum in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Writes `manifest.json`, which must not exist, into a checkpoint's folder and syncs both.
    pub(super) fn write(&self, folder: &Path) -> Result<(), RunsError> {
        let path = folder.join(NAME);
        write_new(&path, &json(&path, self)?).map_err(RunsError::io("write", &path))?;
        sync_folder(folder).map_err(RunsError::io("write", folder))
    }

    /// Reads the manifest of the checkpoint of a step. The files are not checked.
    pub(super) fn read(folder: &Path, step: usize) -> Result<Self, Damage> {
        let bytes = fs::read(folder.join(NAME)).map_err(|error| match error.kind() {
            ErrorKind::NotFound if !folder.exists() => Damage::MissingFolder,
            ErrorKind::NotFound => Damage::MissingManifest,
            _ => unreadable(NAME, error),
        })?;
        // The format is checked first: another format may have other fields.
        let value: Value = serde_json::from_slice(&bytes).map_err(invalid)?;
        match value.get("format") {
            Some(format) if *format == MANIFEST_FORMAT => {}
            Some(format) => {
                return Err(Damage::Format { found: format.to_string(), expected: MANIFEST_FORMAT });
            }
            None => return Err(Damage::InvalidManifest("it has no format".into())),
        }
        let manifest: Self = serde_json::from_value(value).map_err(invalid)?;
        if manifest.step != step {
            return Err(Damage::WrongStep(manifest.step));
        }
        match manifest.files.iter().find(|file| !is_inside(&file.path)) {
            Some(file) => Err(Damage::InvalidManifest(format!("{} is not a path inside the checkpoint", file.path))),
            None => Ok(manifest),
        }
    }

    /// Checks that every file exists and has the right size.
    pub(super) fn check_sizes(&self, folder: &Path) -> Result<(), Damage> {
        self.files.iter().try_for_each(|file| {
            let metadata = fs::metadata(folder.join(&file.path)).map_err(|error| cannot_open(&file.path, error))?;
            if metadata.is_file() {
                file.check_size(metadata.len())
            } else {
                Err(Damage::MissingFile(file.path.clone()))
            }
        })
    }

    /// Checks the size and the checksum of every file.
    pub(super) fn verify(&self, folder: &Path) -> Result<(), Damage> {
        // All sizes first: that reads no file, and a wrong size is the clearer error.
        self.check_sizes(folder)?;
        self.files.iter().try_for_each(|file| {
            let mut open = File::open(folder.join(&file.path)).map_err(|error| cannot_open(&file.path, error))?;
            let (bytes, sha256) = digest(&mut open).map_err(|error| unreadable(&file.path, error))?;
            file.check_size(bytes)?;
            if sha256 == file.sha256 { Ok(()) } else { Err(Damage::Checksum(file.path.clone())) }
        })
    }
}

impl ManifestFile {
    fn check_size(&self, found: u64) -> Result<(), Damage> {
        if found == self.bytes {
            return Ok(());
        }
        Err(Damage::Size { file: self.path.clone(), expected: self.bytes, found })
    }
}

/// Syncs all files and folders in a folder and returns the files, sorted by path.
pub(super) fn sync_files(folder: &Path) -> Result<Vec<ManifestFile>, RunsError> {
    let mut files = Vec::new();
    walk(folder, "", &mut files)?;
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// Adds the files in a folder to `files`; `prefix` is the folder's relative path, with a final `/`.
fn walk(folder: &Path, prefix: &str, files: &mut Vec<ManifestFile>) -> Result<(), RunsError> {
    for entry in fs::read_dir(folder).map_err(RunsError::io("read", folder))? {
        let entry = entry.map_err(RunsError::io("read", folder))?;
        let path = entry.path();
        let refused = |reason| RunsError::UnsupportedEntry { path: path.clone(), reason };
        let name = entry.file_name().into_string().map_err(|_| refused("its name is not UTF-8"))?;
        let relative = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(RunsError::io("read", &path))?;
        if kind.is_dir() {
            walk(&path, &format!("{relative}/"), files)?;
        } else if kind.is_file() {
            let mut file = File::open(&path).map_err(RunsError::io("read", &path))?;
            let (bytes, sha256) = digest(&mut file).map_err(RunsError::io("read", &path))?;
            file.sync_all().map_err(RunsError::io("write", &path))?;
            files.push(ManifestFile { path: relative, bytes, sha256 });
        } else {
            // The target of a symbolic link may change later.
            return Err(refused("it is neither a file nor a folder"));
        }
    }
    sync_folder(folder).map_err(RunsError::io("write", folder))
}

/// The length and the SHA-256 checksum, in hexadecimal, of everything left to read.
///
/// # Errors
/// If it cannot be read.
pub fn digest(file: &mut impl Read) -> io::Result<(u64, String)> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, format!("{:x}", hash.finalize()))),
            Ok(count) => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a relative path has only plain components, no `..`.
fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}

fn invalid(error: serde_json::Error) -> Damage {
    if error.is_eof() { Damage::TruncatedManifest } else { Damage::InvalidManifest(error.to_string()) }
}

fn cannot_open(file: &str, error: io::Error) -> Damage {
    if error.kind() == ErrorKind::NotFound { Damage::MissingFile(file.to_owned()) } else { unreadable(file, error) }
}

fn unreadable(file: &str, error: io::Error) -> Damage {
    Damage::Unreadable { file: file.to_owned(), reason: error.to_string() }
}
