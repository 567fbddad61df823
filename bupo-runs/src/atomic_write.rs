//! The atomic write of a whole file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::Builder;

use crate::RunsError;
use crate::disk::{parent, sync_folder};

/// Writes a whole file atomically: at any moment, also after a crash, `path` has either its old content or all of
/// `bytes`.
///
/// The bytes are written to a temporary file in the same folder and synced; then that file is renamed to `path` and the
/// folder is synced. A symbolic link is followed: the file it points to is replaced and the link stays. A new file has
/// the permissions of any file that the process creates, an existing file keeps its permissions. Its owner becomes the
/// user who writes, and other hard links to it keep the old content. A killed process may leave the temporary file, named
/// `.write-` and six characters.
///
/// # Errors
/// If the folder does not exist, if `path` is not a plain file or may not be written, or if the disk is full. The old
/// content is then unchanged and no temporary file is left. Only if the folder cannot be synced after the rename, the new
/// content may already be there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RunsError> {
    replace(path, bytes).map_err(RunsError::io("write", path))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = follow_links(path)?;
    let permissions = permissions_to_keep(&path)?;
    let folder = parent(&path);
    // `File::create_new` gives the usual permissions; tempfile's own would be the owner's alone. The file is deleted when
    // an error drops it.
    let mut file = Builder::new().prefix(".write-").make_in(folder, |path| File::create_new(path))?;
    file.as_file_mut().write_all(bytes)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// The path that a chain of symbolic links ends at, whether or not a file is there.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    loop {
        match path.canonicalize() {
            // A link to a missing file. The chain is finite: in a cycle `canonicalize` fails with another error.
            Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(&path) {
                Ok(target) => path = parent(&path).join(target),
                Err(_) => return Ok(path),
            },
            canonical => return canonical,
        }
    }
}

/// The permissions of an existing file, which must be a plain file that may be written; `None` if there is no file.
fn permissions_to_keep(path: &Path) -> io::Result<Option<Permissions>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    // Renaming onto a device or a pipe would replace it.
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a plain file"));
    }
    // A rename needs write permission only for the folder, and would replace a read-only file.
    OpenOptions::new().append(true).open(path)?;
    Ok(Some(metadata.permissions()))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    fn names(folder: &TempDir) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn error(path: &Path) -> String {
        write_atomically(path, b"new").unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_created_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomically(&path, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomically(&path, b"").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(names(&folder), ["state.json"]);
    }

    #[test]
    fn a_file_with_the_longest_possible_name_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n".repeat(255));
        write_atomically(&path, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn a_reader_sees_the_old_or_the_new_content_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let contents = [vec![b'a'; 300_000], vec![b'b'; 200_000]];
        write_atomically(&path, &contents[0]).unwrap();
        thread::scope(|scope| {
            let writers = contents.each_ref().map(|content| {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| write_atomically(path, content).unwrap()))
            });
            while !writers.iter().all(|writer| writer.is_finished()) {
                assert!(contents.contains(&fs::read(&path).unwrap()));
            }
        });
        assert_eq!(names(&folder), ["file"]);
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder");
        fs::create_dir(&path).unwrap();
        assert_eq!(error(&path), format!("cannot write {}: it is not a plain file", path.display()));
        assert_eq!(names(&folder), ["folder"]);
        let missing = folder.path().join("no/such/file");
        assert!(error(&missing).starts_with(&format!("cannot write {}: No such file", missing.display())));
        for path in ["", ".", "/", "no-such-folder/"] {
            assert!(error(Path::new(path)).starts_with("cannot write "));
        }
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{PermissionsExt, symlink};
        use std::os::unix::net::UnixListener;

        use super::*;

        fn mode(path: &Path) -> u32 {
            fs::metadata(path).unwrap().permissions().mode() & 0o7777
        }

        #[test]
        fn a_new_file_has_the_permissions_of_any_new_file() {
            let folder = tempfile::tempdir().unwrap();
            let (path, usual) = (folder.path().join("file"), folder.path().join("usual"));
            write_atomically(&path, b"one").unwrap();
            fs::write(&usual, b"one").unwrap();
            assert_eq!(mode(&path), mode(&usual));
        }

        #[test]
        fn an_existing_file_keeps_its_permissions() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            fs::write(&path, b"old").unwrap();
            for permissions in [0o600, 0o640, 0o755] {
                fs::set_permissions(&path, Permissions::from_mode(permissions)).unwrap();
                write_atomically(&path, b"new").unwrap();
                assert_eq!(mode(&path), permissions);
            }
        }

        #[test]
        fn a_read_only_file_is_not_replaced() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            fs::write(&path, b"old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
            if OpenOptions::new().append(true).open(&path).is_ok() {
                println!("skipped: this user may write read-only files");
                return;
            }
            assert!(error(&path).contains("Permission denied"));
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(names(&folder), ["file"]);
        }

        #[test]
        fn links_are_followed() {
            let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (link, target) = (folder.path().join("link"), other.path().join("target"));
            symlink("second", &link).unwrap();
            symlink(&target, folder.path().join("second")).unwrap();
            // First to a missing file, then to an existing one.
            for content in [b"one", b"two"] {
                write_atomically(&link, content).unwrap();
                assert_eq!(fs::read(&target).unwrap(), content);
                assert_eq!(fs::read_link(&link).unwrap(), Path::new("second"));
                assert_eq!(
                    (names(&folder), names(&other)),
                    (vec!["link".into(), "second".into()], vec!["target".into()])
                );
            }
        }

        #[test]
        fn a_cycle_of_links_is_an_error() {
            let folder = tempfile::tempdir().unwrap();
            let link = folder.path().join("link");
            symlink("link", &link).unwrap();
            assert!(error(&link).contains("symbolic links"));
        }

        #[test]
        fn a_socket_is_not_replaced() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("socket");
            let _socket = UnixListener::bind(&path).unwrap();
            assert!(error(&path).ends_with("it is not a plain file"));
            assert_eq!(names(&folder), ["socket"]);
        }
    }
}
