//! A small file system that a test can fill.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::store_fixture::StoreFixture;

/// Checks that the test may mount a file system. Returns the reason if not.
pub(crate) fn check_mount() -> Result<(), String> {
    let fixture = StoreFixture::sqlite();
    let mounted = Disk::mount(&fixture.folder.join("disk"), "64k").map(drop);
    let _ = fs::remove_dir_all(&fixture.folder);
    mounted
}

/// A small file system, unmounted on drop.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts a file system of this size, such as `64k`.
    pub(crate) fn mount(folder: &Path, size: &str) -> Result<Self, String> {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
        mount.arg(folder);
        let mounted = mount.output().map_err(|error| error.to_string())?;
        if mounted.status.success() {
            Ok(Self(folder.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&mounted.stderr).into_owned())
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Fills the file system.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    /// Removes the file that fills the file system.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
